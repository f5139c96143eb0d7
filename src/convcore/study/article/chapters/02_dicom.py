# %% [markdown]
# # DICOM and Hounsfield units
#
# CT scanners write one file a slice, and numbers that mean tissue only after a conversion. We read a
# series the article's way, see where that way goes wrong, and turn stored values into Hounsfield
# units, histograms and windows.
#
# ## What is in a file
#
# DICOM is two things: a file format, with the picture and all that is known about it (the machine,
# the settings, and the patient: *protected health information*), and a protocol, by which scanners,
# archives and viewers ask each other for such files. We need the first.

# %%
import atexit
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from matplotlib import pyplot as plt

import convcore as cc
from convcore.medical import hu_volume, make_phantom, read_series, write_series
from convcore.study.article import find_series

# %% [markdown]
# Any CT series in your data folder will do. If there is none, convcore draws a phantom, a chest of
# simple shapes, and writes it as a scanner would: in files whose names are in no order.

# %%
folder = find_series("rider-pilot-0117", default=None)
if folder is None:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    write_series(make_phantom(seed=7, shape=(40, 256, 256)), folder)

# %% [markdown]
# ## A series, as the article reads it
#
# List the files, take the first as a reference, and write down how large the block of numbers is
# and how far apart its points are.

# %%
lstFilesDCM = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() == ".dcm")
RefDs = pydicom.dcmread(lstFilesDCM[0])
for keyword in ("Modality", "Manufacturer", "Rows", "Columns", "PixelSpacing", "SliceThickness"):
    print(f"{keyword:16}", RefDs.get(keyword))

ConstPixelDims = (int(RefDs.Rows), int(RefDs.Columns), len(lstFilesDCM))
ConstPixelSpacing = (
    float(RefDs.PixelSpacing[0]),
    float(RefDs.PixelSpacing[1]),
    float(RefDs.SliceThickness),
)
print("ConstPixelDims   ", ConstPixelDims)
print("ConstPixelSpacing", ConstPixelSpacing)

# %% [markdown]
# > In 2017 the package was imported as `dicom`. Since version 1.0 it is `pydicom`, and `read_file`
# > is `dcmread`.
#
# Then fill the block, slice by slice, in the order of the files, and look at one slice.

# %%
ArrayDicom = np.zeros(ConstPixelDims, RefDs.pixel_array.dtype)
for index, name in enumerate(lstFilesDCM):
    ArrayDicom[:, :, index] = pydicom.dcmread(name).pixel_array

middle = len(lstFilesDCM) // 2
x = np.arange(ConstPixelDims[1] + 1) * ConstPixelSpacing[1]
y = np.arange(ConstPixelDims[0] + 1) * ConstPixelSpacing[0]
figure, axes = plt.subplots(figsize=(4.4, 4), num="One slice, its stored values, in millimetres")
mesh = axes.pcolormesh(x, y, np.flipud(ArrayDicom[:, :, middle]), rasterized=True)
axes.set(aspect="equal", xlabel="mm", ylabel="mm")
figure.colorbar(mesh, label="stored value")
plt.show()

# %% [markdown]
# ## Four things to do better
#
# > **Files are in no order.** Neither names nor `InstanceNumber` say where a slice lies;
# > `ImagePositionPatient` does. In a tidy folder the two may agree; nothing promises it.
#
# `read_series` of convcore sorts by position along the slices' normal, and refuses a series that
# has gaps, doubles or a tilt.

# %%
series = read_series(folder)
headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in lstFilesDCM]
by_name = [float(header.ImagePositionPatient[2]) for header in headers]
positions = [header.position[2] for header in series.slices]
figure, axes = plt.subplots(figsize=(6.6, 2.6), num="Heights of slices, by name and in order")
axes.plot(by_name, "o", label="by file name")
axes.plot(positions, ".-", label="by position")
axes.set(xlabel="number of the slice", ylabel="z, mm")
axes.legend()
plt.show()

# %% [markdown]
# > **`SliceThickness` is not the distance between slices.** It says how thick the part of the body is
# > that was averaged. Slices may overlap, or leave gaps.

# %%
count, thickness, step = len(lstFilesDCM), ConstPixelSpacing[2], series.spacing[0]
print(f"a slice is {thickness:.2f} mm thick; the next one is {step:.2f} mm away")
print(f"{count} slices: {count * thickness:.1f} mm by thickness, {count * step:.1f} mm in truth")

# %% [markdown]
# > **`PixelSpacing[0]` is the distance between rows**, so it belongs to y. The article's code takes it
# > for x. Where pixels are square nobody notices.
# >
# > **`arange(0, n * s, s)` miscounts.** The article makes its axes so, with floating-point steps; the
# > last point may come out once too often. `arange(n) * s`, as above, cannot.

# %%
wrong = [n for n in range(1, 600) if len(np.arange(0.0, n * 0.7, 0.7)) != n]
print(len(wrong), "of 599 lengths are wrong for a step of 0.7 mm, the first ones:", *wrong[:4])

# %% [markdown]
# ## Raw values, and the circle
#
# A CT scanner sees a circle, but pictures are square. Many scanners write -2000 where they have seen
# nothing. It is no tissue: it is a mark.

# %%
pixels = series.pixels()
stored = pixels[middle]
outside = stored == -2000
print("smallest and largest stored value:", pixels.min(), pixels.max())
print(f"-2000 in {outside.mean():.1%} of the slice")

figure, (left, right) = plt.subplots(
    1, 2, figsize=(6.6, 3), width_ratios=(1, 1.5), num="The circle, and a slice's stored values"
)
left.imshow(outside)
left.axis("off")
right.hist(stored.ravel(), bins=120, log=True)
right.set(xlabel="stored value", ylabel="pixels", xlim=(-2100, 2600))
plt.show()

# %% [markdown]
# ## Hounsfield units
#
# What a scanner measures is how strongly a bit of body weakens X-rays, $\mu$. Hounsfield's scale
# compares it with water and air:
#
# $$\mathrm{HU} = 1000\,\dfrac{\mu - \mu_\mathrm{water}}{\mu_\mathrm{water} - \mu_\mathrm{air}}$$
#
# so water is 0 and air -1000. Files store whole numbers and two more with which to get there, a
# slope $a$ and an intercept $b$: first the marks become 0, then $\mathrm{HU} = a \cdot \mathrm{stored} + b$.

# %%
slope, intercept = float(RefDs.RescaleSlope), float(RefDs.RescaleIntercept)
cleaned = np.where(outside, 0, stored)
hu = slope * cleaned + intercept
print("slope", slope, "intercept", intercept, "-> HU from", hu.min(), "to", hu.max())

same = cc.hu_rescale(stored, slope, intercept, padding_value=-2000, padding_to="article")
print("convcore.hu_rescale gives the same numbers:", np.array_equal(same, hu))

# %% [markdown]
# > **Setting the marks to 0 is right only by luck.** The 0 is a *stored* value, so the circle ends up
# > at the intercept: at -1024, air, if that is the intercept. In a file whose intercept is 0 it ends
# > up as water. convcore's `hu_volume` sets the marks to -1000 HU, whatever the intercept.

# %%
for trial in (-1024, 0):
    article = cc.hu_rescale(stored, 1, trial, padding_value=-2000, padding_to="article")
    to_air = cc.hu_rescale(stored, 1, trial, padding_value=-2000, padding_to=-1000)
    if outside.any():
        print(f"intercept {trial:5}: {article[outside][0]:.0f} and {to_air[outside][0]:.0f} HU")

# %% [markdown]
# > The article gives the scale 2000 units, up to 4000 on "some modern scanners". Twelve bits are
# > usual: -1024 to 3071.
#
# ## Histogram
#
# On this scale tissues have addresses: air near -1000, lung about -850, fat -100, muscle 50, bone
# from 300 up.

# %%
volume = hu_volume(series)
figure, axes = plt.subplots(figsize=(6.6, 3.2), num="Hounsfield units of the whole series")
axes.hist(volume.array.ravel(), bins=160, range=(-1100, 900), log=True)
top = axes.get_ylim()[1]
for place, tissue in ((-1000, "air"), (-850, "lung"), (-100, "fat"), (50, "muscle"), (500, "bone")):
    axes.axvline(place, color="C1", linewidth=1)
    axes.text(place + 8, top, tissue, rotation=90, va="top", fontsize=9)
axes.set(xlabel="HU", ylabel="voxels")
plt.show()

# %% [markdown]
# ## Windows
#
# Two thousand steps of grey are more than anybody can see. A *window* shows a part of the scale: its
# level $L$ is the middle, its width $W$ what lies between black and white,
# $(\mathrm{HU} - (L - W/2)) / W$, cut off at 0 and 1.


# %%
def window(values, level, width):
    return np.clip((values - (level - width / 2)) / width, 0, 1)


figure, panels = plt.subplots(1, 3, figsize=(6.6, 2.6), num="One slice through three windows")
for axes, (name, level, width) in zip(
    panels, (("lung", -600, 1500), ("soft tissue", 40, 400), ("bone", 400, 1800))
):
    axes.imshow(window(volume.array[middle], level, width), vmin=0, vmax=1)
    axes.set_title(f"{name}: L {level}, W {width}")
    axes.axis("off")
plt.show()

# %% [markdown]
# ## The other way round
#
# With the slices in order and the true step, the block can be cut in any direction, at its true
# proportions. On the left the article's block, in the order of the files and with the thickness for
# the step; on the right the same cut from the sorted series.

# %%
row = volume.shape[1] // 2
article_cut = (slope * ArrayDicom[row].T.astype(float) + intercept)[::-1]
width_mm = volume.shape[2] * volume.spacing[2]
figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.4), num="A cut through all slices")
for axes, cut, step, title in (
    (left, article_cut, ConstPixelSpacing[2], "by file name, thickness"),
    (right, volume.array[::-1, row], volume.spacing[0], "by position, true step"),
):
    extent = (0, width_mm, 0, len(cut) * step)
    axes.imshow(window(cut, -600, 1500), vmin=0, vmax=1, extent=extent)
    axes.set(title=title, xlabel="mm")
left.set_ylabel("mm")
plt.show()
