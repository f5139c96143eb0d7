# %% [markdown]
# # Padding, stride, dilation: where the windows fall
#
# How large is what comes out of a convolution? Four numbers decide it: the kernel's size, the zeros
# around the input, the step from window to window, and the gaps inside the kernel. The formulas, the
# drawings, every case checked against the library, and the places where Keras goes its own way.

# %%
import numpy as np
from matplotlib import pyplot as plt

import convcore as cc

# %% [markdown]
# ## The drawings
#
# The input is blue, zeros around it are dotted, the output is green, and in orange lies one window
# with the output that it makes. The sizes follow the drawings of Dumoulin and Visin's *A guide to
# convolution arithmetic* (2016): input $i$, kernel $k$, stride $s$, padding $p$ on every side,
# dilation $d$.


# %%
def cells(axes, left, bottom, rows, columns, **style):
    for row in range(rows):
        for column in range(columns):
            axes.add_patch(plt.Rectangle((left + column, bottom - row), 1, 1, **style))


def draw(axes, i, k, s=1, p=0, d=1, at=(0, 0)):
    """Input with its padding below, output above; the window of output `at` in orange."""
    reach = d * (k - 1) + 1
    o = (i + 2 * p - reach) // s + 1
    cells(axes, -p, p, i + 2 * p, i + 2 * p, fill=False, ec="C0", ls=":", lw=0.8)
    cells(axes, 0, 0, i, i, fc="C0", ec="C0", alpha=0.45, lw=0.8)
    for row in range(k):
        for column in range(k):
            corner = (s * at[1] - p + d * column, p - s * at[0] - d * row)
            axes.add_patch(plt.Rectangle(corner, 1, 1, fc="C1", alpha=0.65, lw=0))
    left, top = (i - o) / 2, p + 2.5 + o
    cells(axes, left, top - 1, o, o, fc="C2", ec="C2", alpha=0.45, lw=0.8)
    corner = (left + at[1], top - 1 - at[0])
    axes.add_patch(plt.Rectangle(corner, 1, 1, fc="C1", alpha=0.8, lw=0))
    axes.set_title(f"i {i}  k {k}  s {s}  p {p}" + f"  d {d}" * (d > 1) + f"\no = {o}", fontsize=9)
    axes.axis("equal")
    axes.axis("off")
    axes.autoscale_view()
    return o


figure, panels = plt.subplots(
    1, 4, figsize=(6.6, 3.4), num="No padding; some; half padding keeps the size; full adds k - 1"
)
for axes, (i, k, s, p) in zip(panels, ((4, 3, 1, 0), (5, 4, 1, 2), (5, 3, 1, 1), (5, 3, 1, 2))):
    draw(axes, i, k, s, p)
plt.show()

# %%
figure, panels = plt.subplots(
    1, 4, figsize=(6.6, 3.4), num="Stride 2; with padding; on an even input; and a kernel with gaps"
)
draw(panels[0], 5, 3, 2, 0, at=(0, 1))
draw(panels[1], 5, 3, 2, 1, at=(0, 1))
draw(panels[2], 6, 3, 2, 1, at=(2, 2))
draw(panels[3], 7, 3, 1, 0, d=2, at=(1, 1))
plt.show()

# %% [markdown]
# ## The formula
#
# A dilated kernel reaches over $\hat{k} = k + (k - 1)(d - 1)$ samples, and there is a window for every
# step that still fits:
#
# $o = \lfloor (i + 2p - \hat{k}) / s \rfloor + 1$
#
# The floor is why the third drawing of the second row has unused zeros on the right and below: inputs
# of 5 and of 6 give the same output. Does the formula hold? Every case with an output, for small
# numbers:


# %%
def size(i, k, s=1, p=0, d=1):
    return (i + 2 * p - k - (k - 1) * (d - 1)) // s + 1


checked = 0
for i, k, s, p, d in np.ndindex(12, 6, 5, 4, 4):
    i, k, s, d = i + 1, k + 1, s + 1, d + 1
    if i + 2 * p >= k + (k - 1) * (d - 1):
        x, w = np.ones((1, i, 1), np.float32), np.ones((k, 1, 1), np.float32)
        y = cc.conv1d(x, w, strides=s, padding=p, dilation_rate=d)
        assert y.shape[1] == size(i, k, s, p, d)
        checked += 1
print(checked, "cases, all as the formula says")

# %% [markdown]
# | name | padding | output |
# |---|---|---|
# | none, "valid" | $p = 0$ | $(i - k) + 1$ |
# | half, "same" (odd $k$) | $p = \lfloor k/2 \rfloor$ | $i$ |
# | full | $p = k - 1$ | $i + (k - 1)$ |
#
# > **Keras's "same" is not half padding.** It pads so that the output has $\lceil i/s \rceil$ samples, and
# > the odd zero goes to the end. With a stride, the same size does not mean the same numbers: an
# > input of 6, a kernel of 3 and a stride of 2 have one zero on each side in the paper, in Keras
# > none before and one behind. Keras has no "full"; convcore has all of them, and pairs of numbers.

# %%
x = np.arange(1, 7, dtype=np.float32)[None, :, None]
middle = np.array([0, 1, 0], np.float32)[:, None, None]  # shows where a window's centre is
print("input           ", *x.ravel())
print("half padding, 1 ", *cc.conv1d(x, middle, strides=2, padding=1).ravel())
print("Keras's same    ", *cc.conv1d(x, middle, strides=2, padding="same").ravel())
print("an input of 5   ", *cc.conv1d(x[:, :5], middle, strides=2, padding="same").ravel())


# %%
def line(axes, y, i, before, after, k, s, name):
    """One row: samples, zeros, and the windows below."""
    for c in range(-before, i + after):
        inside = 0 <= c < i
        style = dict(fc="C0", ec="C0", alpha=0.45) if inside else dict(fill=False, ls=":", ec="C0")
        axes.add_patch(plt.Rectangle((c, y), 1, 1, lw=0.8, **style))
    for number in range((i + before + after - k) // s + 1):
        start = number * s - before
        low = y - 0.25 - 0.3 * (number % 2)
        axes.plot([start + 0.08, start + k - 0.08], [low, low], color="C1", lw=3)
        axes.plot(start + k / 2, low, "o", color="C1")
    axes.text(-1.4, y + 0.5, name, ha="right", va="center")


figure, axes = plt.subplots(
    figsize=(6.6, 2.6), num="Stride 2 on six samples: the windows of the paper and those of Keras"
)
line(axes, 3, 6, 1, 1, 3, 2, "paper, p = 1")
line(axes, 0.8, 6, 0, 1, 3, 2, 'Keras, "same"')
axes.set(xlim=(-4.2, 7.5), ylim=(-0.2, 4.2))
axes.axis("off")
plt.show()

# %% [markdown]
# ## Backwards: transposed convolution
#
# A convolution is a matrix: each output is a sum of inputs with weights. Its transpose goes from the
# output's size to the input's. Every input sample *scatters* its multiple of the kernel, $s$ apart, and
# what falls on the same place is added.

# %%
x = np.array([1, 10, 100], np.float32)
k = np.array([1, 2, 3], np.float32)
for stride in (1, 2, 3):
    scattered = np.zeros(stride * (len(x) - 1) + len(k), np.float32)
    for place, value in enumerate(x):
        scattered[stride * place : stride * place + len(k)] += value * k
    layer = cc.conv1d_transpose(x[None, :, None], k[:, None, None], strides=stride).ravel()
    print(f"stride {stride}:", *scattered, " the layer:", np.array_equal(scattered, layer))

# %% [markdown]
# The other way to see it is to *gather*: put $s - 1$ zeros between the samples, pad with $k - p - 1$, and
# run an ordinary convolution of stride 1 over it, with the kernel turned around.

# %%
stride, p = 2, 1
stretched = np.zeros(stride * (len(x) - 1) + 1, np.float32)
stretched[::stride] = x
gathered = cc.conv1d(stretched[None, :, None], k[::-1, None, None], padding=len(k) - p - 1).ravel()
cropped = cc.conv1d_transpose(x[None, :, None], k[:, None, None], strides=stride).ravel()[p:-p]
print("gathered", *gathered, " scattered and cropped by p", *cropped)


# %%
def draw_transposed(axes, i, k, s, p, at):
    """The input stretched by zeros, the padding k - p - 1, the output above."""
    wide, around = s * (i - 1) + 1, k - p - 1
    o = wide + 2 * around - k + 1
    full = wide + 2 * around
    cells(axes, -around, around, full, full, fill=False, ec="C0", ls=":", lw=0.8)
    for row in range(i):
        for column in range(i):
            corner = (s * column, -s * row)
            axes.add_patch(plt.Rectangle(corner, 1, 1, fc="C0", ec="C0", alpha=0.45, lw=0.8))
    cells(axes, at[1] - around, around - at[0], k, k, fc="C1", alpha=0.5, lw=0)
    left, top = (wide - o) / 2, around + 2.5 + o
    cells(axes, left, top - 1, o, o, fc="C2", ec="C2", alpha=0.45, lw=0.8)
    corner = (left + at[1], top - 1 - at[0])
    axes.add_patch(plt.Rectangle(corner, 1, 1, fc="C1", alpha=0.8, lw=0))
    axes.set_title(f"i {i}  k {k}  s {s}  p {p}\no = {o}", fontsize=9)
    axes.axis("equal")
    axes.axis("off")


figure, panels = plt.subplots(
    1, 4, figsize=(6.6, 3.6), num="Transposed convolutions: zeros between the samples and around"
)
for axes, sizes in zip(panels, ((2, 3, 1, 0), (5, 3, 1, 1), (2, 3, 2, 0), (3, 3, 2, 1))):
    draw_transposed(axes, *sizes, at=(1, 1))
plt.show()

# %% [markdown]
# Without padding the output has $o' = s(i' - 1) + k$ samples, with it $2p$ fewer; and $a$ more, where $a$
# says which of the inputs that a stride sends to one size was meant: $o' = s(i' - 1) + a + k - 2p$.
#
# That it is the transpose can be tested without drawing a matrix: for any $x$ and $y$ the products
# $\langle Ax, y \rangle$ and $\langle x, A^T y \rangle$ are the same number.

# %%
rng = np.random.default_rng(5)
x, w = [rng.normal(size=shape).astype(np.float32) for shape in ((1, 9, 9, 3), (3, 3, 3, 4))]
forward = cc.conv2d(x, w, strides=2)
y = rng.normal(size=forward.shape).astype(np.float32)
back = cc.conv2d_transpose(y, w, strides=2)  # the same kernel, as it stands
there, again = [(a * b).sum(dtype=float) for a, b in ((forward, y), (x, back))]
print("shapes:", x.shape, "->", forward.shape, "->", back.shape)
print(f"<Ax, y> = {there:.5f}   <x, A'y> = {again:.5f}")

# %% [markdown]
# > **Keras again.** "same" gives $i\,s$ samples; "valid" gives $(i - 1)s + \max(k, s)$, which is more
# > than the formula where the kernel is shorter than the stride: the gap at the end is filled with
# > the bias. And Keras stores the kernel as (height, width, **out, in**), so that it is that of the
# > convolution which it transposes.

# %%
one = np.ones((1, 4, 1), np.float32)
for k, s in ((3, 2), (2, 2), (1, 3)):
    w = np.ones((k, 1, 1), np.float32)
    same = cc.conv1d_transpose(one, w, strides=s, padding="same").shape[1]
    valid = cc.conv1d_transpose(one, w, strides=s).shape[1]
    formula = s * (4 - 1) + k
    print(f"k {k}, s {s}: same {same}, valid {valid}, formula s(i - 1) + k = {formula}")
