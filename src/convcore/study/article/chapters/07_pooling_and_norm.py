# %% [markdown]
# # Pooling, batch normalisation, softmax
#
# Three layers that are simple enough for a pencil. Pooling throws numbers away: 75 % of them, says the
# article, and we count. Batch normalisation is $y = ax + b$ once training is over. Softmax turns any
# numbers into shares of a whole.

# %%
import numpy as np
from matplotlib import pyplot as plt

import convcore as cc
from convcore import data
from convcore.medical import make_phantom

# %% [markdown]
# ## Pooling
#
# The article shows a picture that everybody shows: of each two by two numbers the largest stays.

# %%
grid = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
pooled = cc.max_pool(grid.reshape(1, 4, 4, 1))[0, :, :, 0]
figure, axes = plt.subplots(
    1, 2, figsize=(5, 2.4), width_ratios=(2, 1),
    num="Max pooling 2x2 with stride 2: from 16 numbers to 4",
)  # fmt: skip
for ax, numbers, block in ((axes[0], grid, 2), (axes[1], pooled, 1)):
    for (r, c), number in np.ndenumerate(numbers):
        colour = f"C{r // block * 2 + c // block}"
        ax.add_patch(plt.Rectangle((c, -r), 1, -1, facecolor=colour, alpha=0.35))
        ax.text(c + 0.5, -r - 0.5, f"{number:g}", ha="center", va="center")
    ax.set(xlim=(0, len(numbers)), ylim=(-len(numbers), 0), aspect="equal")
    ax.axis("off")
plt.show()

# %% [markdown]
# The lost formula is that of a convolution without padding: with window $F$ and stride $S$,
# $W' = (W - F) / S + 1$, the same for the height, and the depth stays. There is nothing to learn in it.
#
# > **The division may leave a remainder.** The source of that formula takes for granted that it does not.
# > Keras rounds down with `valid` padding, and up with `same`.
#
# ## Is it 75 %?


# %%
def left_over(n, padding):
    return cc.max_pool(np.zeros((1, n, n, 1), np.float32), padding=padding).size / n**2


sizes = np.arange(2, 17)
discarded = {p: [1 - left_over(n, p) for n in sizes] for p in ("valid", "same")}
for n in range(4, 10):
    valid, same = (discarded[p][n - sizes[0]] for p in ("valid", "same"))
    print(f"{n} x {n}: discarded {valid:.1%} with valid, {same:.1%} with same padding")

# %%
figure, axes = plt.subplots(figsize=(5, 3), num="What 2x2 pooling discards, by size of the map")
axes.axhline(75, color="C2", linewidth=1)
axes.plot(sizes, 100 * np.array(discarded["valid"]), "o-", markersize=4, label="valid")
axes.plot(sizes, 100 * np.array(discarded["same"]), "s--", markersize=4, label="same")
axes.set(xlabel="rows and columns", ylabel="% discarded", xticks=sizes[::2])
axes.legend()
plt.show()

# %% [markdown]
# > **75 % only for even sizes.** With an odd size `valid` drops the last row and column, and nobody ever
# > sees them. The share is larger then, and with `same` smaller. In a volume it is 87.5 %, for even sizes.
#
# It happens: the network that looks for nodules, in the last chapter, pools 13 to 6.

# %%
network = cc.load_model(data.path("nodule_classifier.keras"))
for layer in ("conv2", "pool2"):
    print(layer, network.graph.node(layer).shape)
seen = cc.max_pool(np.arange(13, dtype=np.float32).reshape(1, 13, 1))
print("the largest of 0 ... 12, after pooling:", seen.max())

# %% [markdown]
# > The article: pooling reduces *parameters*. It has none, and those of convolutions do not depend on
# > the size of the map. What it reduces is the first dense layer, if there is one, and the work.

# %%
slice_hu = make_phantom(seed=5).hu[24].astype(np.float32)
largest = mean = slice_hu[None, ..., None]
figure, axes = plt.subplots(
    2, 4, figsize=(6, 3.1),
    num="A slice of a made-up chest, pooled three times: maximum above, mean below",
)  # fmt: skip
for column in axes.T:
    for ax, image in zip(column, (largest, mean)):
        ax.imshow(image[0, :, :, 0], vmin=-1000, vmax=400)
        ax.axis("off")
    column[0].set_title(f"{largest.shape[1]} x {largest.shape[2]}")
    largest, mean = cc.max_pool(largest), cc.average_pool(mean)
plt.show()

# %% [markdown]
# Maximum and mean are not the same story: what is bright and thin (vessels, ribs) grows with the one and
# fades with the other.
#
# ## Mean over what?
#
# At a padded border a mean can count the zeros, or not.

# %%
nine = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
for zeros_count in (False, True):
    y = cc.average_pool(nine, padding="same", include_padding=zeros_count)
    print("zeros count:" if zeros_count else "zeros do not:", *y[0, :, :, 0].tolist())

# %% [markdown]
# > **Keras does not count them.** Keras on Theano, from 2.0 to 2.1.4, did: that is the time of the
# > article. A network trained with one and run with the other is wrong along two edges.
# >
# > **And the windows lay elsewhere.** Theano put the odd zero of an even window at the low end.

# %%
four = np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1)
padded = np.array([-np.inf, 1, 2, 3, 4], np.float32).reshape(1, 5, 1)
print("Keras today:     ", cc.max_pool(four, padding="same").ravel())
print("Keras on Theano: ", cc.max_pool(padded).ravel())

# %% [markdown]
# ## Batch normalisation
#
# While it learns, the layer takes each channel's mean and variance over the batch, subtracts the one and
# divides by the root of the other; then it multiplies by $\gamma$ and adds $\beta$, which are learnt. In
# use, mean and variance are constants that were gathered on the way. Four constants a channel, but
#
# $$\gamma \, \dfrac{x - \mu}{\sqrt{v + \epsilon}} + \beta \; = \; a x + b$$
#
# with $a = \gamma / \sqrt{v + \epsilon}$ and $b = \beta - a \mu$, so two are enough. Here are the first
# convolution of the network that finds lungs, and its normalisation.

# %%
network = cc.load_model(data.path("lung_segmentation.keras"))
conv, norm = (network.graph.node(f"down1a_{part}") for part in ("conv", "norm"))
gamma, beta, mean, variance = (norm.weights[k] for k in ("gamma", "beta", "mean", "variance"))
epsilon = norm.attributes["epsilon"]
a = gamma / np.sqrt(variance + epsilon)
b = beta - a * mean
print("a:", a.round(2))
print("b:", b.round(2))

# %%
image = np.clip((slice_hu[None, ..., None] + 1000) / 1400, 0, 1)
before = cc.conv2d(image, conv.weights["kernel"], padding="same")
after = cc.batch_norm(before, mean, variance, gamma, beta, epsilon=epsilon)
print("largest difference from a x + b:", np.abs(after - (a * before + b)).max())

figure, axes = plt.subplots(
    1, 2, figsize=(5, 2.8), sharey=True,
    num="Values of four channels, before batch normalisation and after",
)  # fmt: skip
for ax, values, title in zip(axes, (before, after), ("before", "after")):
    for channel in range(4):
        counts, edges = np.histogram(values[..., channel], bins=60)
        ax.stairs(np.maximum(counts, 0.5), edges, color=f"C{channel}", linewidth=1.3)
    ax.set(yscale="log", title=title, xlabel="value")
axes[0].set_ylabel("pixels")
plt.show()

# %% [markdown]
# A convolution followed by $ax + b$ is a convolution: $a$ goes into the kernel, $b$ becomes the bias. In
# use, batch normalisation costs nothing. convcore does that when it loads a model.

# %%
folded = cc.conv2d(image, conv.weights["kernel"] * a, b, padding="same")
print("largest difference:", np.abs(folded - after).max(), "of", np.abs(after).max())

# %% [markdown]
# > **What it normalises.** The article says weights and activations. It is activations alone.
# >
# > **How much faster.** *Ten times or more* is what a course of that year told its students, and no
# > law. Its authors report one network that needed 14 times fewer steps (Ioffe and Szegedy 2015). It says
# > nothing about time, and nothing about other networks.
# >
# > **Keras** has $\epsilon$ = 0.001, where PyTorch has 0.00001, and gathers the variance of the batch
# > itself, where the paper corrects it by $m / (m - 1)$. For a channel that hardly varies $\epsilon$
# > matters.

# %%
quiet = np.float32(1e-4)  # a variance
for epsilon in (1e-3, 1e-5):
    print(f"epsilon {epsilon:g}: the values are multiplied by {1 / np.sqrt(quiet + epsilon):.1f}")

# %% [markdown]
# > Folding is possible where nothing stands between. Behind a ReLU, as in the VGG of the same course, $a$
# > and $b$ belong to the *next* layer.
#
# ## Softmax
#
# $$\mathrm{softmax}(z)_j = \dfrac{e^{z_j}}{\sum_k e^{z_k}}$$
#
# All shares lie between 0 and 1, and their sum is 1. It is the sigmoid for more than two: with the second
# number held at 0, the first share is $\sigma(z)$.

# %%
z = np.linspace(-5, 5, 11, dtype=np.float32)
pairs = np.stack([z, np.zeros_like(z)], axis=1)
off = np.abs(cc.softmax(pairs)[:, 0] - cc.sigmoid(z)).max()
print("largest difference from the sigmoid:", off)
answers = np.array([2, 1, 0.1], np.float32)
print("softmax of 2, 1 and 0.1:", cc.softmax(answers), "sum", cc.softmax(answers).sum())
print("of 12, 11 and 10.1:     ", cc.softmax(answers + 10))

# %% [markdown]
# Only differences count, so the largest may be subtracted first. It has to be: $e^{89}$ is more than
# float32 can hold.

# %%
large = np.array([100, 99, 98.1], np.float32)
with np.errstate(over="ignore", invalid="ignore"):
    print("as written:", np.exp(large) / np.exp(large).sum())
print("convcore:  ", cc.softmax(large))

# %% [markdown]
# > **Where it belongs.** The article says that a fully connected layer uses softmax in the output layer.
# > They are two things: the last layer of a network for one answer out of many has it, others do not.
# >
# > **Which axis.** Keras takes the last one. If channels come first, as with Theano, that is the wrong
# > one, and the shares of a *row of pixels* add up to 1.

# %%
channels_first = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
print("sums over channels, axis 1: ", cc.softmax(channels_first, axis=1).sum(axis=1).ravel())
print("sums over channels, axis -1:", cc.softmax(channels_first).sum(axis=1).ravel())
