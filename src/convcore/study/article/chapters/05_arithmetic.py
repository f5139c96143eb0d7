# %% [markdown]
# # Padding, stride, dilation, and the way back
#
# Four numbers say how large a convolution's output is: the input's size, the kernel's, how many zeros
# are put around, and how far the kernel walks. We draw them, count, and then go backwards, with the
# transposed convolution. The article only points to a set of animations for all this.
#
# Sizes are along one axis, and other axes are the same: $i$ of the input, $k$ of the kernel, $p$ zeros
# on either side, stride $s$, dilation $d$, and $o$ of the output.

# %%
from itertools import product

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

import convcore as cc

# %% [markdown]
# In the drawings the input is blue, padding is dotted, the first place of the kernel is orange, the
# output is green, and a dot marks the middle of each place where the kernel stands.


# %%
def squares(axes, left, top, rows, columns, **look):
    for r, c in product(range(rows), range(columns)):
        axes.add_patch(Rectangle((left + c, -top - r), 1, -1, **look))


def draw(axes, i, k, s=1, pads=(0, 0), d=1, holes=1, title=""):
    """Input, kernel and output; with `holes` > 1 the input's pixels lie so far apart."""
    quiet = plt.rcParams["axes.edgecolor"]
    low, high = pads
    wide = (i - 1) * holes + 1
    reach = (k - 1) * d + 1
    size = low + wide + high
    o = (size - reach) // s + 1
    squares(axes, -low, -low, size, size, fill=False, edgecolor=quiet, linestyle=":", linewidth=0.8)
    for r, c in product(range(i), repeat=2):
        squares(axes, c * holes, r * holes, 1, 1, facecolor="C0", alpha=0.45, linewidth=0)
    for r, c in product(range(k), repeat=2):
        squares(axes, c * d - low, r * d - low, 1, 1, facecolor="C1", alpha=0.45, linewidth=0)
    middles = np.arange(o) * s - low + reach / 2
    axes.plot(np.tile(middles, o), -np.repeat(middles, o), ".", markersize=3.5, color=quiet)
    squares(axes, wide + high + 1, -low, o, o, facecolor="C2", alpha=0.45, edgecolor=quiet)
    axes.set_title(title or f"i={i}, k={k}, s={s}, p={low}: o={o}")
    axes.set_aspect("equal")
    axes.axis("off")


def panels(title, height):
    """Two by two, all in one scale."""
    return plt.subplots(2, 2, figsize=(5, height), sharex=True, sharey=True, num=title)[1].flat


# %% [markdown]
# ## Padding
#
# Without padding the kernel has $i - k + 1$ places. Each ring of zeros adds two. With $p = (k - 1) / 2$
# and an odd kernel the size stays: *half*, or *same*, padding. With $p = k - 1$ the kernel touches the
# input with one corner at first, and the output grows by $k - 1$: *full* padding.

# %%
axes = panels("No padding, some padding, half padding, full padding", height=3.6)
for ax, (i, k, p) in zip(axes, ((4, 3, 0), (5, 4, 2), (5, 3, 1), (5, 3, 2))):
    draw(ax, i, k, pads=(p, p))
plt.show()

# %% [markdown]
# ## Stride
#
# A stride of $s$ keeps every $s$-th place:
#
# $$o = \left\lfloor \dfrac{i + 2p - k}{s} \right\rfloor + 1$$
#
# The brackets round down. In the third drawing the kernel cannot step any further, and the last row
# and column of zeros are never seen: 5 and 6 pixels give the same 3.

# %%
axes = panels("Stride 2: without padding, with it, a size that does not fit, Keras's", height=3.8)
for ax, (i, p) in zip(axes, ((5, 0), (5, 1), (6, 1))):
    draw(ax, i, 3, s=2, pads=(p, p))
draw(axes[3], 6, 3, s=2, pads=(0, 1), title='i=6, "same" of Keras: o=3')
plt.show()

# %% [markdown]
# > **Keras's `same` is not $p = 1$ on both sides.** It wants $o = \lceil i / s \rceil$, adds as few
# > zeros as that takes, and puts the odd one at the end. The fourth drawing has the size of the third,
# > but its dots are elsewhere: the two networks see different pixels. PyTorch, Caffe and Theano pad
# > both sides alike, so weights that go from one to the other meet another picture.
#
# A kernel that passes its middle on shows which pixels those are.

# %%
row = np.arange(6, dtype=np.float32).reshape(1, 6, 1)
middle = np.array([0, 1, 0], np.float32).reshape(3, 1, 1)
print("p = 1:  ", cc.conv1d(row, middle, strides=2, padding=1).ravel())
print('"same": ', cc.conv1d(row, middle, strides=2, padding="same").ravel())
print("with 5 pixels they agree:", *(
    cc.conv1d(row[:, :5], middle, strides=2, padding=p).ravel() for p in (1, "same")
))  # fmt: skip

# %% [markdown]
# ## Dilation
#
# A dilated kernel leaves $d - 1$ pixels between its taps. It reaches as far as one of size
# $(k - 1) d + 1$, with the weights of one of size $k$. That number takes the place of $k$ in the
# formula, and it covers all cases.

# %%
figure, axes = plt.subplots(figsize=(4.2, 2.6), num="A 3x3 kernel with dilation 2 on 7x7 pixels")
draw(axes, 7, 3, d=2, title="i=7, k=3, d=2: o=3")
plt.show()


# %%
def size_after(i, k, s, p, d):
    return (i + 2 * p - (k - 1) * d - 1) // s + 1


cases = [c for c in product(range(1, 9), range(1, 5), range(1, 4), range(4), range(1, 4))
         if size_after(*c) > 0]  # fmt: skip
wrong = 0
for i, k, s, p, d in cases:
    y = cc.conv1d(np.ones((1, i, 1), np.float32), np.ones((k, 1, 1), np.float32),
                  strides=s, padding=p, dilation_rate=d)  # fmt: skip
    wrong += y.shape[1] != size_after(i, k, s, p, d)
print(len(cases), "combinations of i, k, s, p, d;", wrong, "have another size than the formula's")

# %% [markdown]
# What dilation is for: layers whose dilation doubles see a range that doubles, while each has three
# weights. Send one pixel through, and count the outputs that it reaches.

# %%
impulse = np.zeros((1, 65, 1), np.float32)
impulse[0, 32] = 1
three = np.ones((3, 1, 1), np.float32)
plain = dilated = impulse
for layer in range(4):
    plain = cc.conv1d(plain, three, padding="same")
    dilated = cc.conv1d(dilated, three, padding="same", dilation_rate=2**layer)
    reached = [np.count_nonzero(y) for y in (plain, dilated)]
    print(f"layers: {layer + 1}   plain: {reached[0]} pixels   dilated: {reached[1]} pixels")

# %% [markdown]
# > Keras's layers refuse a stride above 1 together with a dilation above 1. Nothing in the definition
# > forbids it: the formula and the check above have both, and convcore computes it.
#
# ## The way back: transposed convolution
#
# A convolution is linear, so it is a matrix: one row for each output, with the kernel's weights where
# the kernel stands.

# %%
kernel = np.array([1, 2, 3], np.float32)
matrix = np.stack([
    cc.conv1d(unit.reshape(1, 5, 1), kernel.reshape(3, 1, 1), strides=2).ravel()
    for unit in np.eye(5, dtype=np.float32)
], axis=1)  # fmt: skip
matrix

# %% [markdown]
# The *transposed* convolution is that matrix turned over: 2 numbers in, 5 out. Each input number
# scatters its multiple of the kernel, $s$ apart, and what overlaps is added.

# %%
small = np.array([10, 1], np.float32)
column = kernel.reshape(3, 1, 1)
scattered = cc.conv1d_transpose(small.reshape(1, 2, 1), column, strides=2).ravel()
print("by the matrix:  ", matrix.T @ small)
print("by convcore:    ", scattered)
print("back and forth: ", matrix @ scattered, "which is not", small)

# %% [markdown]
# > It is often called *deconvolution*. It does not undo a convolution: it brings back the size, not the
# > values. It is what training needs to send gradients backwards through a convolution, and it obeys
# > $\langle Cx, y \rangle = \langle x, C^T y \rangle$ for all $x$ and $y$.
#
# ## As a convolution over a stretched input
#
# The same numbers come from a plain convolution: put $s - 1$ zeros between the pixels, $k - p - 1$
# around them, and walk in steps of one with the kernel **turned around**.

# %%
stretched = np.zeros(3 + 2 * 2, np.float32)
stretched[2:5:2] = small
print("stretched:      ", stretched)
cc.conv1d(stretched.reshape(1, 7, 1), kernel[::-1].reshape(3, 1, 1)).ravel()

# %% [markdown]
# In a drawing of this kind, $i'$ and $o'$ are the sizes seen from the transposed side.

# %%
axes = panels("Transposed convolutions as convolutions over a stretched input", height=3.6)
sizes = ((2, 3, 1, 0, 0), (2, 3, 2, 0, 0), (3, 3, 2, 1, 0), (3, 3, 2, 1, 1))
for ax, (i, k, s, p, a) in zip(axes, sizes):
    border = k - p - 1
    o = s * (i - 1) + a + k - 2 * p
    title = f"i'={i}, s={s}, p={p}" + f", a={a}" * a + f": o'={o}"
    draw(ax, i, k, pads=(border, border + a), holes=s, title=title)
plt.show()

# %% [markdown]
# Since 5 and 6 pixels both became 3, from 3 there are two ways back. The rest of the division,
# $a = (i + 2p - k) \,\mathrm{mod}\, s$, says which: that many rows and columns are added at the end.
#
# $$o' = s (i' - 1) + a + k - 2p$$

# %%
wrong = count = 0
for i, k, s, p in product(range(3, 12), range(1, 6), range(1, 4), range(3)):
    if p >= k or i + 2 * p < k:
        continue
    w = np.ones((k, 1, 1), np.float32)
    forth = cc.conv1d(np.ones((1, i, 1), np.float32), w, strides=s, padding=p)
    a = (i + 2 * p - k) % s
    back = cc.conv1d_transpose(forth, w, strides=s, padding=p, output_padding=a)
    count += 1
    wrong += back.shape != (1, i, 1) or i != s * (forth.shape[1] - 1) + a + k - 2 * p
print(count, "convolutions sent there and back;", wrong, "do not return to the size they had")

# %% [markdown]
# > **Keras's sizes.** With `valid` its transposed layers give $(i' - 1) s + \max(k, s)$: if the stride
# > is larger than the kernel, the end gets zeros that the formula above does not have. With `same` they
# > give $i' s$. Their kernels are stored (rows, columns, **out, in**), the other way round than those
# > of `Conv2D`.

# %%
for padding, k in product(("valid", "same"), (2, 3)):
    w = np.ones((k, 1, 1), np.float32)
    y = cc.conv1d_transpose(np.ones((1, 3, 1), np.float32), w, strides=3, padding=padding)
    print(f"{padding}, 3 numbers, stride 3, kernel {k}: {y.ravel()}")

# %% [markdown]
# ## Where the checkerboards come from
#
# With a stride of 2, a kernel of 3 covers every second pixel twice. A network that draws pictures has to
# learn to undo that, and where it does not quite, a checkerboard is seen. A kernel of 4 covers all
# pixels alike, but for the border. Here is how many weights meet in each pixel.

# %%
figure, axes = plt.subplots(
    1, 2, figsize=(5, 2.7), num="Weights that meet in each pixel, stride 2: kernel 3 and kernel 4"
)
for ax, k in zip(axes, (3, 4)):
    ones = np.ones((1, 6, 6, 1), np.float32)
    meet = cc.conv2d_transpose(ones, np.ones((k, k, 1, 1), np.float32), strides=2)[0, :, :, 0]
    ax.imshow(meet, vmin=0)
    ax.set_title(f"k={k}: {', '.join(f'{n:g}' for n in np.unique(meet))}")
    ax.axis("off")
plt.show()
