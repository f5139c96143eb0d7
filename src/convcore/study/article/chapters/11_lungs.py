# %% [markdown]
# # Lungs
#
# What the article set out for: networks that look at chests. One marks the lungs in every slice of a
# CT, one looks at a small cube and says how likely it holds a nodule. We run both where the truth is
# known, on a phantom, and then on a patient's scan.
#
# > The article announces a lung model again and again, and never gives one: its third part ends with
# > cats and dogs, and the fourth is about file formats. The networks here are two small ones that ship
# > with convcore, trained on phantoms only, and two that others have trained on patients. None of this
# > is a medical device.
#
# ## A chest whose truth is known

# %%
from functools import partial

import cv2
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Circle

import convcore as cc
from convcore import data
from convcore.medical import (
    bundled_card,
    dice,
    hu_volume,
    make_phantom,
    parse_card,
    parse_place,
    read_series,
    score,
    segment,
)
from convcore.study.article import find

# %%
phantom = make_phantom(seed=20170601, shape=(56, 256, 256))
chest = phantom.volume()
print("voxels:", chest.shape, " millimetres between them:", [round(s, 2) for s in chest.spacing])
print("nodules:", *(f"{n.diameter_mm:.0f} mm" for n in phantom.nodules))

# %% [markdown]
# ## Without a network
#
# Lungs are air, and air is dark: everything below -400 HU. But so is the air outside, and it touches
# the edge of the picture. Take away what touches the edge; two lungs remain, with holes where vessels
# and nodules are.


# %%
def by_threshold(hu, threshold=-400):
    """A mask of air that does not touch the edge of its slice."""
    masks = []
    for picture in hu:
        _, parts = cv2.connectedComponents((picture < threshold).astype(np.uint8))
        edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        masks.append((parts > 0) & ~np.isin(parts, edge))
    return np.array(masks)


plain = by_threshold(chest.array)
print(f"agreement with the truth (Dice): {dice(plain, phantom.lungs):.4f}")

# %% [markdown]
# Dice's coefficient is twice what two masks share over what they have together:
# $2\,|A \cap B| \,/\, (|A| + |B|)$, 1 where they are equal.
#
# ## With a network
#
# A U-Net: convolutions that go down to coarse maps, and up again, with the fine maps laid beside the
# coarse ones on the way. A model file does not say whether it wants Hounsfield units or something
# else; that is what a *card* is for.

# %%
card = bundled_card("lung_segmentation")
unet = cc.load_model(data.path("lung_segmentation.keras"))
print(f"{len(unet.layers)} layers, {unet.graph.parameters:,} parameters")
print("slices of", card.size, "pixels, HU clipped to", card.clip_hu, "and scaled:", card.scale)

mask = segment(chest, unet, card)
print(f"agreement with the truth (Dice): {dice(mask, phantom.lungs):.4f}")
millilitres = np.prod(chest.spacing) / 1000
volumes = [one.sum() * millilitres for one in (mask, phantom.lungs)]
print("volume: {:.0f} ml, in truth {:.0f} ml".format(*volumes))


# %%
def show(axes, picture, title=""):
    axes.imshow(picture, vmin=-1350, vmax=150)
    axes.set_title(title)
    axes.axis("off")


def outline(axes, mask, colour):
    if mask.any():
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1)


index = chest.shape[0] // 2
figure, panels = plt.subplots(1, 3, figsize=(6.6, 2.6), num="The lungs of a phantom's slice")
for axes, (title, one) in zip(
    panels, (("the truth", phantom.lungs), ("a threshold", plain), ("the network", mask))
):
    show(axes, chest.array[index], title)
    outline(axes, one[index], "cyan")
plt.show()

# %% [markdown]
# ## Nodules
#
# The second network gets cubes of 32 voxels, 1.5 mm apart. We ask it about every nodule of the
# phantom, and about as many places where there is none.

# %%
nodule_card = bundled_card("nodule_classifier")
classifier = cc.load_model(data.path("nodule_classifier.keras"))
print("cube:", nodule_card.size, "spacing:", nodule_card.spacing_mm, "mm")


def ask(volume, places):
    return np.array([found["nodule"] for found in score(volume, classifier, nodule_card, places)])


there = ask(chest, [nodule.centre_mm for nodule in phantom.nodules])
not_there = ask(chest, phantom.nodule_free[: len(there)])
print("at nodules:", *(f"{p:.3f}" for p in there))
print("elsewhere: ", *(f"{p:.3f}" for p in not_there))

# %% [markdown]
# A network that answers for one place can be asked about all of them. Every 6 mm, in the slice of the
# largest nodule, within the lungs:


# %%
def score_map(volume, mask, index, step_mm=6.0):
    """Places of a grid within the mask of a slice, as rows and columns, and their scores."""
    step = max(1, round(step_mm / volume.spacing[1]))
    grid = np.argwhere(mask[::step, ::step]) * step
    places = [volume.to_mm((index, row, column)).tolist() for row, column in grid]
    return grid, ask(volume, places) if places else np.empty(0)


def draw_map(axes, volume, index, grid, scores, title):
    show(axes, volume.array[index], title)
    dots = axes.scatter(*grid[:, ::-1].T, c=scores, s=4, cmap="plasma", vmin=0, vmax=1)
    figure.colorbar(dots, ax=axes, label="nodule?", shrink=0.8)


largest = max(phantom.nodules, key=lambda nodule: nodule.diameter_mm)
z, row, column = chest.to_voxel(largest.centre_mm)
at = round(float(z))
grid, scores = score_map(chest, phantom.lungs[at], at)
figure, axes = plt.subplots(figsize=(5, 4), num="What the classifier says at each place of a grid")
draw_map(axes, chest, at, grid, scores, f"{len(grid)} places")
radius = largest.diameter_mm / 2 / chest.spacing[1]
axes.add_patch(Circle((column, row), radius + 4, fill=False, color="cyan"))
plt.show()
distances = np.linalg.norm(grid - (row, column), axis=1) * chest.spacing[1]
inside = distances < largest.diameter_mm / 2
print(f"mean in the nodule: {scores[inside].mean():.3f}, elsewhere: {scores[~inside].mean():.3f}")

# %% [markdown]
# ## A patient's scan
#
# LIDC-IDRI is a public collection of chest CTs in which radiologists have marked nodules. We take its
# first patient; the largest nodule there is near column 317, row 364, at a height of -116 mm.

# %%
scan = hu_volume(read_series(find("lidc-idri-0001")))
nodule = parse_place("317,364,-116mm", scan)
elsewhere = parse_place("150,250,-116mm", scan)
index = round(float(scan.to_voxel(nodule)[0]))
print("voxels:", scan.shape, " millimetres between them:", [round(s, 2) for s in scan.spacing])

# %% [markdown]
# The phantom's network, which has never seen a patient, beside one that has. The second wants plain
# Hounsfield units; nobody has written that down, and with scaled input its mask is empty. Its card:

# %%
other_card = parse_card(
    """
    name = "CT lung segmentation"
    model = "ct2d_vigneshannaraj_lungs.h5"
    source = "github.com/vigneshannaraj/lung-segmentation"
    description = "Marks both lungs on one axial slice."
    kind = "mask2d"

    [input]
    size = [256, 256]
    clip_hu = [-1024, 3071]
    scale = "none"
    channel = "last"
    padding_hu = -1024

    [[outputs]]
    name = "lungs"
    meaning = "Probability that the pixel lies in a lung"
    threshold = 0.5
    """,
    "the card above",
)
other = cc.load_model(find("ct2d_vigneshannaraj_lungs.h5", "lungs.h5"))
print(f"{len(other.layers)} layers, {other.graph.parameters:,} parameters")

# %%
masks = {
    "a threshold": by_threshold(scan.array),
    "trained on phantoms": segment(scan, unet, card),
    "trained on patients": segment(scan, other, other_card),
}
figure, panels = plt.subplots(1, 3, figsize=(6.6, 2.6), num="The lungs of a patient's slice")
for axes, (title, one) in zip(panels, masks.items()):
    show(axes, scan.array[index], title)
    outline(axes, one[index], "cyan")
plt.show()
reference = masks["trained on patients"]
for title, one in masks.items():
    print(f"{title:20} {one.mean():.1%} of the volume; agreement {dice(one, reference):.3f}")

# %% [markdown]
# There is no truth to hold the masks beside; the agreement is with the last of them. Look for yourself:
# what the threshold takes for lung outside the body, what the networks do with the nodule.
#
# ## Its nodule

# %%
print("at the nodule: {:.4f}   elsewhere: {:.4f}".format(*ask(scan, [nodule, elsewhere])))

# %% [markdown]
# Now the grid. A nodule is no air, so every mask of air has a hole just where we want to look:
# *closing* fills holes that a disc of 61 pixels does not fit into.

# %%
disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (61, 61))
lungs = masks["a threshold"][index].astype(np.uint8)
lungs = cv2.morphologyEx(np.pad(lungs, 61), cv2.MORPH_CLOSE, disc)[61:-61, 61:-61] > 0
grid, scores = score_map(scan, lungs, index)
figure, axes = plt.subplots(figsize=(5, 4), num="The same grid of questions, about a patient")
draw_map(axes, scan, index, grid, scores, f"{len(grid)} places")
_, row, column = scan.to_voxel(nodule)
axes.add_patch(Circle((column, row), 30, fill=False, color="cyan"))
plt.show()
print(f"{np.count_nonzero(scores > 0.5)} of {len(scores)} places look like a nodule to it")

# %% [markdown]
# One slice of one patient proves nothing, in either direction: a detector is a network *and* everything
# that it has been shown, and this one has been shown phantoms.
#
# ## A network of the Data Science Bowl
#
# The second place of Kaggle's lung cancer contest of 2017: three-dimensional convolutions on a cube of
# 64 mm, five answers about what is in its middle.
#
# > The file was written by Keras 1.2, which ran on Theano or on TensorFlow, and does not say which.
# > Theano turned kernels round, TensorFlow does not; `kernel_flip=` says what to do. The answers differ,
# > but both make sense, so this nodule does not tell which it was. Always ask who trained a file.

# %%
answers = {"o_d": "diameter", "o_lob": "lobulation", "o_spic": "spiculation", "o_mal": "malignancy"}
description = """
name = "Data Science Bowl 2017, second place"
model = "dsb2017_dhammack_model_LUNA_64_v29_14.h5"
source = "github.com/dhammack/DSB2017"
description = "Describes what lies in the middle of a 64 mm cube."
kind = "score3d"

[input]
size = [64, 64, 64]
spacing_mm = [1.0, 1.0, 1.0]
clip_hu = [-1000, 400]
scale = "unit"
axes = "zyx"
channel = "first"
padding_hu = -1000
"""
for i, (name, meaning) in enumerate([*answers.items(), ("o_fp", "probability of a nodule")]):
    description += f'\n[[outputs]]\nname = "{name}"\nindex = {i}\nmeaning = "{meaning}"\n'
bowl_card = parse_card(description, "the card above")
file = find("dsb2017_dhammack_model_LUNA_64_v29_14.h5", "model_LUNA_64_v29_14.h5")
load = partial(cc.load_model, file)
for flip in (False, True):
    found = score(scan, load(kernel_flip=flip), bowl_card, [nodule, elsewhere])
    for place, values in zip(("nodule", "elsewhere"), found):
        words = "  ".join(f"{name} {value:8.4f}" for name, value in values.items())
        print(f"{'turned' if flip else 'as they are':12} {place:10} {words}")
