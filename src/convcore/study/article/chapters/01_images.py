# %% [markdown]
# # Images are arrays
#
# A picture in a computer is a block of numbers. We load one with OpenCV, look at the numbers, and
# find a face in them with a detector from before deep learning, first with OpenCV and then by hand.
#
# ## Load and show
#
# Three packages do the work: OpenCV reads pictures (`pip install opencv-python-headless`), NumPy
# holds them as arrays, matplotlib shows them.

# %%
import cv2
import numpy as np
from matplotlib import cbook
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from convcore.study.article import find

# %% [markdown]
# `find` looks for a file in your data folder. If there is no `astronaut.png` we take the portrait
# of Grace Hopper that every installation of matplotlib carries.

# %%
portrait = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
bgr = cv2.imread(str(find("astronaut.png", default=portrait)))
print(bgr.shape, bgr.dtype)
print("blue, green, red of the pixel at row 20, column 30:", bgr[20, 30])

# %% [markdown]
# Rows, columns, and three numbers a pixel, each a byte from 0 to 255. OpenCV orders the three
# **blue, green, red**; nearly everyone else, matplotlib among them, expects red first. Shown
# without care, faces turn blue. A file that cannot be read gives no error but `None`: check for it.

# %%
rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
figure, (left, right) = plt.subplots(1, 2, num="One array, taken for RGB and turned into RGB")
left.imshow(bgr)
left.set_title("as OpenCV loads it")
right.imshow(rgb)
right.set_title("after BGR to RGB")
for axes in (left, right):
    axes.axis("off")
plt.show()

# %% [markdown]
# `cvtColor` did nothing but reverse the last axis:

# %%
np.array_equal(rgb, bgr[:, :, ::-1])

# %% [markdown]
# A colour picture is three grey ones, and one grey picture is a weighted sum of the three. The eye
# sees green best, so green weighs most: $0.299\,R + 0.587\,G + 0.114\,B$.

# %%
grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
by_hand = rgb @ np.array([0.299, 0.587, 0.114])
print("largest difference to OpenCV's grey:", np.abs(grey - by_hand).max().round(2))

figure, panels = plt.subplots(
    1, 4, figsize=(6.6, 2.1), num="The red, green and blue of the picture, and its grey"
)
planes = {"red": rgb[:, :, 0], "green": rgb[:, :, 1], "blue": rgb[:, :, 2], "grey": grey}
for axes, (name, plane) in zip(panels, planes.items()):
    axes.imshow(plane, vmin=0, vmax=255)
    axes.set_title(name)
    axes.axis("off")
plt.show()

# %% [markdown]
# ## Find the face
#
# The article uses a "stump-based 20x20 gentle adaboost frontal face detector" by Rainer Lienhart.
# That sentence is the first line of `haarcascade_frontalface_alt.xml`, which OpenCV 4 carries.
#
# > The tutorial that the article links to uses another detector,
# > `haarcascade_frontalface_default.xml`: 24x24 pixels, and discrete AdaBoost.

# %%
file = cv2.data.haarcascades + "haarcascade_frontalface_alt.xml"
detector = cv2.CascadeClassifier(file)
faces = detector.detectMultiScale(grey, scaleFactor=1.3, minNeighbors=5)
print(len(faces), "found: left, top, width, height =", *np.array(faces).tolist())


# %%
def draw(axes, picture, boxes, colour):
    axes.imshow(picture)
    axes.axis("off")
    for x, y, width, height in boxes:
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=2))


figure, axes = plt.subplots(figsize=(4, 4), num="What the cascade takes for a face")
draw(axes, rgb, faces, "cyan")
plt.show()

# %% [markdown]
# The two numbers in the call matter. The detector knows faces of 20x20 pixels only, so the picture
# is shrunk by `scaleFactor` again and again until nothing is left. A true face is found many times,
# at places and sizes that differ a little; `minNeighbors` says how many such hits make a face.

# %%
figure, panels = plt.subplots(
    1, 3, figsize=(6.6, 2.6), num="Finer steps and fewer neighbours: more faces, false ones too"
)
for axes, (scale, neighbours) in zip(panels, ((1.3, 5), (1.1, 3), (1.1, 0))):
    boxes = detector.detectMultiScale(grey, scale, neighbours)
    draw(axes, rgb, boxes, "cyan")
    axes.set_title(f"scale {scale}, neighbours {neighbours}:\n{len(boxes)} found")
plt.show()

# %% [markdown]
# ## The same by hand
#
# What is in the file? Stages of *stumps*. A stump compares one number, a *Haar feature*, with a
# threshold and gives one of two values. A feature is the sum over a few rectangles, weighted: dark
# eyes over bright cheeks, say. If the stumps of a stage add up to too little, the window is no face,
# and nobody looks at it again.

# %%
from xml.etree import ElementTree


def numbers(node, path):
    return np.array(node.findtext(path).split(), float)


cascade = ElementTree.parse(file).getroot().find("cascade")
features = [
    [np.array(rectangle.text.split(), float) for rectangle in feature.find("rects")]
    for feature in cascade.find("features")
]
stages = [
    (
        float(stage.findtext("stageThreshold")),
        [
            (numbers(stump, "internalNodes"), numbers(stump, "leafValues"))
            for stump in stage.find("weakClassifiers")
        ],
    )
    for stage in cascade.find("stages")
]
sizes = [len(stumps) for _, stumps in stages]
print(len(features), "features in", len(stages), "stages; stumps in each:")
print(*sizes)

# %% [markdown]
# The sum over a rectangle costs four look-ups, however large it is, in the *integral image*: its
# value at a pixel is the sum of everything above and to the left. We shrink the picture so that the
# face is 20 pixels wide, and compute a rectangle's sum for **all** 20x20 windows at once.

# %%
width = faces[0][2] if len(faces) else 100
small = cv2.resize(grey, None, fx=20 / width, fy=20 / width, interpolation=cv2.INTER_AREA)
integral = np.pad(small.astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
squares = np.pad((small.astype(float) ** 2).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
rows, columns = np.array(small.shape) - 20 + 1


def sums(table, x, y, width, height):
    """Sum over a rectangle of every window: shape (rows, columns)."""

    def corner(dy, dx):
        return table[dy : dy + rows, dx : dx + columns]

    below, beside = y + height, x + width
    return corner(below, beside) - corner(y, beside) - corner(below, x) + corner(y, x)


# A window's own contrast must not matter: features are divided by its standard deviation.
area = 18 * 18
mean = sums(integral, 1, 1, 18, 18) / area
deviation = np.sqrt(np.maximum(sums(squares, 1, 1, 18, 18) / area - mean**2, 1e-9))


def value(index):
    total = sum(w * sums(integral, *map(int, (x, y, a, b))) for x, y, a, b, w in features[index])
    return total / (area * deviation)


# %% [markdown]
# Now the cascade: after each stage, how many of the windows are still in the race?

# %%
alive = np.ones((rows, columns), bool)
left_over = [alive.sum()]
maps = []
for threshold, stumps in stages:
    score = np.zeros((rows, columns))
    for (_, _, index, limit), (low, high) in stumps:
        score += np.where(value(int(index)) < limit, low, high)
    alive &= score >= threshold
    left_over.append(alive.sum())
    maps.append(alive.copy())
print("windows, and how many are left after each stage:")
print(*left_over)

# %%
figure, panels = plt.subplots(
    1, 4, figsize=(6.6, 2.3), num="Corners of the windows that pass 1, 3, 8 and all 22 stages"
)
for axes, count in zip(panels, (1, 3, 8, 22)):
    axes.imshow(maps[count - 1], vmin=0, vmax=1)
    axes.set_title(f"after {count}: {left_over[count]}")
    axes.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The first three stages, 40 stumps in all, throw three windows of four away; only a few ever see all
# 2,135 features. That is why this was fast enough for the computers of 2001. The mean of the windows
# that are left, blown up again:

# %%
y, x = np.argwhere(maps[-1]).mean(axis=0) * width / 20
figure, axes = plt.subplots(
    figsize=(4, 4), num="OpenCV's box (wide line) and the mean of our windows (thin line)"
)
draw(axes, rgb, faces, "cyan")
axes.add_patch(Rectangle((x, y), width, width, fill=False, edgecolor="yellow", linewidth=1))
plt.show()

# %% [markdown]
# Somebody chose the *form* of these features, and a computer chose which of them to use. In a
# convolutional network the computer chooses the form as well: that is the subject of the chapters
# to come. First, however, to the pictures of medicine.
