# %% [markdown]
# # Convolution: turn around, slide, multiply, add
#
# What the C in CNN means, from the integral of the textbooks to nine products and a sum. Two pulses
# make a triangle, a small window slides over a letter, and a minus sign turns out to be missing in
# every deep-learning library.
#
# ## The integral
#
# Convolution makes a third function out of two. One of them is turned around and slid over the other;
# the result is, for each shift, the area below their product:
#
# $(f * g)(t) = \int f(\tau)\, g(t - \tau)\, d\tau$
#
# The classic picture takes two rectangular pulses. In a computer an integral is a sum of thin
# stripes, and the sum is what `convcore.convolve` computes.

# %%
import numpy as np
from matplotlib import pyplot as plt

import convcore as cc

# %%
step = 0.01
pulse = np.ones(100, np.float32)  # 1 for one second, 0 elsewhere
triangle = step * cc.convolve(pulse, pulse, mode="full")
area = step * triangle.sum(dtype=float)
print("peak", triangle.max(), " area", area, " length", len(triangle) * step)

# %%
t = step * np.arange(-100, 300)
f = ((t >= 0) & (t < 1)).astype(float)
figure, panels = plt.subplots(
    2, 4, figsize=(6.6, 3.2), sharex=True, sharey=True,
    num="Two rectangular pulses make a triangle: above the pulses, below the area that they share",
)  # fmt: skip
shifts = step * (np.arange(len(triangle)) + 1)
for above, below, shift in zip(*panels, (0.3, 0.8, 1.0, 1.6)):
    g = ((t >= shift - 1) & (t < shift)).astype(float)
    above.fill_between(t, f * g, color="C2", alpha=0.35, linewidth=0)
    above.plot(t, f, color="C0")
    above.plot(t, g, color="C1")
    above.set_title(f"t = {shift}")
    below.plot(shifts, triangle, color="C2", alpha=0.35)
    past = shifts <= shift + step / 2
    below.plot(shifts[past], triangle[past], color="C2")
    below.plot(shift, triangle[past][-1], "o", color="C2")
    below.set(xlabel="t", xlim=(-1, 3))
panels[0, 0].set_ylabel("f and moving g")
panels[1, 0].set_ylabel("(f * g)(t)")
plt.show()

# %% [markdown]
# With three samples it can be done in the head: 1, 2, 3, 2, 1.

# %%
three = np.ones(3, np.float32)
cc.convolve(three, three, mode="full")

# %% [markdown]
# ## Turned around, or not
#
# A symmetric pulse hides half of the definition: that $g$ is *turned around*. Take one that is not
# symmetric. Sliding without turning is called *cross-correlation*.

# %%
x = np.array([1, 2, 3], np.float32)
k = np.array([0, 1, 0.5], np.float32)
print("convolution      ", *cc.convolve(x, k, mode="full"))
print("cross-correlation", *cc.correlate(x, k, mode="full"))
print("correlation with the kernel turned around", *cc.correlate(x, k[::-1], mode="full"))

# %% [markdown]
# > The article explains convolution, with the flip; its worked example, its "dot product" and Keras
# > all compute cross-correlation, without. For a network that learns its kernels this is all the same:
# > it learns them turned around. It matters when weights move from one library to another. Theano did
# > turn its kernels, so a file that was trained with it has to be turned when it is read. Keras 2.3
# > did that, Keras 3 no longer does.
#
# ## A window on a letter
#
# Now in two dimensions. The picture is a letter, the kernel nine numbers, and each number of the
# result is one *dot product*: nine products of what lies on top of each other, and their sum.
#
# > "Dot product of two matrices" here is $\sum_{ij} f_{ij}\, g_{ij}$, a spreadsheet's `SUMPRODUCT`.
# > It is not the product of matrices.

# %%
drawing = """
. . . . . . . . .
. . . . # . . . .
. . . # # # . . .
. . . # . # . . .
. . # # . # # . .
. . # # # # # . .
. # # . . . # # .
. # # . . . # # .
. . . . . . . . .
"""
letter = np.array([line.split() for line in drawing.split("\n") if line]) == "#"
letter = letter.astype(np.float32)
kernel = np.random.default_rng(7).uniform(size=(3, 3)).round(2).astype(np.float32)
kernel

# %% [markdown]
# The article's kernel came from `RAND()` and is lost with its screenshot; this one has a seed. Here
# is the window at row 3, column 2, product by product.

# %%
row, column = 3, 2
window = letter[row : row + 3, column : column + 3]
products = window * kernel
print(window)
print(products)
print("sum:", products.sum())


# %%
def squares(axes, values, title, form="{:.2f}", most=None):
    most = np.abs(values).max() if most is None else most
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1.6 * most)
    for (y, x), value in np.ndenumerate(values):
        axes.text(x, y, form.format(value), ha="center", va="center", color="black", fontsize=6.5)
    axes.set(xticks=[], yticks=[], title=title)


maps = cc.correlate(letter, kernel, mode="valid")
figure, panels = plt.subplots(
    1, 3, figsize=(6.6, 2.7), width_ratios=(9, 3.6, 7),
    num="The window at row 3, column 2 makes one number of the map",
)  # fmt: skip
squares(panels[0], letter, "letter, 9 x 9", "{:.0f}")
squares(panels[1], kernel, "kernel, 3 x 3")
squares(panels[2], maps, "map, 7 x 7")
for axes, side, colour in ((panels[0], 3, "C1"), (panels[2], 1, "C1")):
    frame = plt.Rectangle((column - 0.5, row - 0.5), side, side, fill=False, color=colour, lw=2.5)
    axes.add_patch(frame)
plt.show()

# %% [markdown]
# Slide it everywhere: two loops around that sum. A picture of 9 x 9 has 7 x 7 places for a window of
# 3 x 3. And the same again as a network's layer, which has axes for a batch of pictures and for
# channels:

# %%
by_hand = np.empty((7, 7))
for y in range(7):
    for x in range(7):
        by_hand[y, x] = (letter[y : y + 3, x : x + 3] * kernel).sum()
layer = cc.conv2d(letter[None, :, :, None], kernel[:, :, None, None])[0, :, :, 0]
turned = cc.conv2d(letter[None, :, :, None], kernel[:, :, None, None], flip=True)[0, :, :, 0]
print("loops, layer: largest difference", np.abs(by_hand - layer).max())
print("with and without turning the kernel:", np.abs(turned - layer).max())

# %% [markdown]
# ## What kernels do
#
# Random numbers find nothing. A few that people wrote long before networks learnt theirs, on a disc
# and a bar:

# %%
y, x = np.mgrid[-1:1:96j, -1:1:96j]
scene = ((x + 0.35) ** 2 + y**2 < 0.2).astype(np.float32)
scene[20:76, 66:80] = 0.7
kernels = {
    "mean": np.full((5, 5), 1 / 25),
    "sharper": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "left to right": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "outline": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
}
figure, panels = plt.subplots(
    1, 5, figsize=(6.6, 1.8), num="Four kernels at work: blurred, sharper, vertical edges, outlines"
)
panels[0].imshow(scene)
panels[0].set_title("picture")
for axes, (name, numbers) in zip(panels[1:], kernels.items()):
    axes.imshow(cc.correlate(scene, np.array(numbers, np.float32), mode="nearest"))
    axes.set_title(name)
for axes in panels:
    axes.axis("off")
plt.show()

# %% [markdown]
# The example of GIMP's manual, which the article shows, has a kernel whose only 1 is at the top. The
# pixel in the middle becomes the one above it: the picture moves *down*. Under true convolution it
# would move up.

# %%
pixels = np.array([[40, 42, 46], [46, 50, 55], [52, 56, 58]], np.float32)
top = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]], np.float32)
print("cross-correlation:", cc.correlate(pixels, top, mode="valid").item())
print("convolution:      ", cc.convolve(pixels, top, mode="valid").item())

# %% [markdown]
# ## Colours: a kernel is a block
#
# A colour picture has three channels, and the kernel reaches through all of them: one number for each
# row, column and channel, $y = b + \sum_{ijc} x_{ijc}\, k_{ijc}$. A layer with eight kernels makes eight
# maps out of it, whatever the number of channels was.

# %%
rng = np.random.default_rng(1)
picture = rng.uniform(size=(1, 32, 32, 3)).astype(np.float32)
kernels = rng.normal(size=(3, 3, 3, 8)).astype(np.float32)
maps = cc.conv2d(picture, kernels)
one = (picture[0, 10:13, 20:23, :].astype(float) * kernels[..., 5]).sum()
print(maps.shape, "one number by hand:", one, "by the layer:", maps[0, 10, 20, 5])
