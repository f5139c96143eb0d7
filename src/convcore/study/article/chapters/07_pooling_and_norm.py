# %% [markdown]
# # Pooling, batch norm, softmax
#
# Three layers without a kernel. Pooling throws three numbers of four away, if the sizes are even;
# batch norm, once trained, is a straight line; and the softmax turns sums into probabilities, best
# after a subtraction that changes nothing.

# %%
import numpy as np
from matplotlib import pyplot as plt

import convcore as cc

# %% [markdown]
# ## The largest of four
#
# A window of 2 x 2, moved by 2; of each four the largest stays. No weights, and each map for itself.
# The example of many lectures:

# %%
x = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
largest = cc.max_pool(x[None, :, :, None], 2)[0, :, :, 0]
mean = cc.average_pool(x[None, :, :, None], 2)[0, :, :, 0]


def squares(axes, values, title):
    """A number in every cell; 2 x 2 cells of one shade belong together."""
    side = len(values) // 2
    shade = np.add.outer(np.arange(len(values)) // side, np.arange(len(values)) // side) % 2
    axes.imshow(shade, cmap="Blues", vmin=-0.8, vmax=4)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:g}", ha="center", va="center", color="black")
    axes.set(xticks=[], yticks=[], title=title)


figure, panels = plt.subplots(
    1, 3, figsize=(6.6, 2.6), width_ratios=(2, 1, 1), num="What pooling leaves of sixteen numbers"
)
squares(panels[0], x, "input")
squares(panels[1], largest, "maximum")
squares(panels[2], mean, "mean")
plt.show()

# %% [markdown]
# ## "Discards 75 %"
#
# A map of size $W$ becomes one of $(W - F)/S + 1$, with windows of $F$ moved by $S$. The lecture notes
# have no floor in that formula, because they take sizes that fit.
#
# > The 75 % of the article are exact for even sizes only. From an odd one, pooling without padding
# > drops the last row and column as well; with "same" it keeps them, in windows that are half empty.

# %%
sizes = np.arange(2, 33)
gone = {"valid": [], "same": []}
for size in sizes:
    picture = np.zeros((1, size, size, 1), np.float32)
    for padding, shares in gone.items():
        shares.append(1 - cc.max_pool(picture, 2, padding=padding).size / picture.size)

figure, axes = plt.subplots(num="How much a 2 x 2 pooling discards, for maps of size n x n")
axes.axhline(75, color="C2", linewidth=1)
for colour, (padding, shares) in zip(("C0", "C1"), gone.items()):
    axes.plot(sizes, 100 * np.array(shares), "o-", color=colour, markersize=4, label=padding)
axes.set(xlabel="size n", ylabel="discarded, %")
axes.legend()
plt.show()
print("valid: 7 x 7", f"{gone['valid'][5]:.1%}", " 8 x 8", f"{gone['valid'][6]:.1%}")
print("same:  7 x 7", f"{gone['same'][5]:.1%}", " 8 x 8", f"{gone['same'][6]:.1%}")

# %% [markdown]
# ## What is the mean of half a window?
#
# At the border a "same" window hangs over the edge. Does the zero out there count?
#
# > Keras divides by the number of cells *inside*, today and with TensorFlow always. With Theano, and
# > in versions 2.0 to 2.1.4 only, which is just when the article was written, it counted the zeros.
# > A maximum has no such doubt: padding never wins, not even over negative numbers.

# %%
nine = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
inside = cc.average_pool(nine, 2, padding="same")[0, :, :, 0]
with_zeros = cc.average_pool(nine, 2, padding="same", include_padding=True)[0, :, :, 0]
below = cc.max_pool(-nine, 2, padding="same")[0, :, :, 0]
print("1..9 in 3 x 3, means of the inside:", *inside.ravel())
print("zeros counted, as by Theano then:  ", *with_zeros.ravel())
print("largest of -1..-9:                 ", *below.ravel())

# %% [markdown]
# Theano also padded on the other side. Of 1, 2, 3, 4 in windows of 2 it saw (1), (2, 3), (4), and cut
# the result after two.

# %%
four = np.arange(1, 5, dtype=np.float32)[None, :, None]
print("TensorFlow, Keras today:", *cc.max_pool(four, 2, padding="same").ravel())
print("Theano:                 ", *cc.max_pool(four, 2, padding=[(1, 1)])[:, :2].ravel())

# %% [markdown]
# ## Batch norm
#
# In training, each channel of a batch is moved to mean 0 and variance 1, and then to where the layer
# wants it: $y = \gamma\, (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$.

# %%
rng = np.random.default_rng(6)
batch = rng.normal(3, 2, (64, 8, 8, 1)).astype(np.float32)
batch[..., 0] += np.linspace(-2, 2, 8)
mean, variance = batch.mean(dtype=float), batch.var(dtype=float)
normal = (batch - mean) / np.sqrt(variance + 1e-3)

figure, axes = plt.subplots(num="A batch before and after normalisation, gamma 1 and beta 0")
edges = np.linspace(-6, 12, 91)
axes.hist(batch.ravel(), edges, color="C0", alpha=0.6, label="before")
axes.hist(normal.ravel(), edges, color="C1", alpha=0.6, label="after")
axes.set(xlabel="value", ylabel="how many")
axes.legend()
plt.show()
print(f"after: mean {normal.mean():.1e}, variance {normal.var():.5f}")

# %% [markdown]
# Afterwards, mean and variance are numbers in the file, collected while training. Then the whole
# formula is a straight line, $y = a x + b$, with
#
# $a = \gamma / \sqrt{\sigma^2 + \epsilon}, \quad b = \beta - \mu\, a$

# %%
gamma, beta, mean, variance = [np.float32([v]) for v in (1.5, -0.25, 3.0, 4.0)]
a = gamma.astype(float) / np.sqrt(variance.astype(float) + 1e-3)
b = beta - mean * a
y = cc.batch_norm(batch, mean, variance, gamma, beta)
print(f"a = {a[0]:.6f}, b = {b[0]:.6f}; largest difference {np.abs(a * batch + b - y).max():.1e}")

# %% [markdown]
# A line after a convolution is a convolution: multiply its kernel by $a$, its bias too, and add $b$. That
# is what convcore does with every such pair when it loads a file: then a batch norm costs nothing.

# %%
x = rng.normal(size=(1, 12, 12, 3)).astype(np.float32)
kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
bias, gamma, beta, mean = rng.normal(size=(4, 4)).astype(np.float32)
variance = rng.uniform(0.5, 2, 4).astype(np.float32)
a = gamma / np.sqrt(variance + np.float32(1e-3))
two = cc.batch_norm(cc.conv2d(x, kernel, bias), mean, variance, gamma, beta)
one = cc.conv2d(x, kernel * a, (bias - mean) * a + beta)
most, off = np.abs(two).max(), np.abs(two - one).max()
print(f"two layers and one: largest value {most:.3f}, largest difference {off:.1e}")

# %% [markdown]
# > The article says that batch norm normalises weights and activations. It is activations only. Of its
# > "ten times faster or more", this much is true: layers can be trained with larger steps.
# >
# > $\epsilon$ is 0.001 in Keras and 0.00001 in PyTorch: with small variances that is a difference. And
# > where an activation stands between, as in fast.ai's VGG with batch norm, nothing can be folded
# > backwards, only into the *next* layer.

# %%
dim = np.float32([1e-4])
for name, epsilon in (("Keras's", 1e-3), ("PyTorch's", 1e-5)):
    value = cc.batch_norm(np.float32([0.01]), np.float32([0]), dim, epsilon=epsilon)
    print(f"0.01 with variance 0.0001, {name} epsilon: {value[0]:.3f}")

# %% [markdown]
# ## Softmax
#
# $p_j = e^{z_j} / \sum_k e^{z_k}$: numbers between 0 and 1 whose sum is 1, the order kept. Of two numbers,
# one of which is 0, it is the sigmoid.

# %%
z = np.float32([2.0, 1.0, 0.1, -1.0])
print("softmax:", *cc.softmax(z).round(4), " sum:", cc.softmax(z).sum())
print("softmax of (2, 0):", cc.softmax(np.float32([2, 0]))[0], " sigmoid(2):", cc.sigmoid(z[:1])[0])

# %%
figure, panels = plt.subplots(
    1, 3, figsize=(6.6, 2.4), sharey=True, num="The softmax of the same numbers, times 1/2, 1 and 4"
)
for axes, factor in zip(panels, (0.5, 1, 4)):
    axes.bar(range(4), cc.softmax((factor * z).astype(np.float32)))
    axes.set(title=f"times {factor:g}", xlabel="class", xticks=range(4))
panels[0].set_ylabel("probability")
plt.show()

# %% [markdown]
# Adding a number to all $z$ changes nothing on paper. In a computer it decides: $e^{89}$ is too much for
# float32. Subtract the largest first, and the worst that can happen is a zero.

# %%
large = np.float32([1000, 999, 998])
with np.errstate(all="ignore"):
    print("as the formula says:", *(np.exp(large) / np.exp(large).sum()))
print("convcore:           ", *cc.softmax(large))
print("of 2, 1, 0:         ", *cc.softmax(np.float32([2, 1, 0])))
