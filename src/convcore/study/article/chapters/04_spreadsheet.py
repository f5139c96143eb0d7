# %% [markdown]
# # A network in a spreadsheet
#
# A trained network whose every number fits on this page: 8 x 8 pixels, 558 weights, ten answers. We
# compute it cell by cell and find convcore's numbers; then the spreadsheet that the article took its
# example from, with the very numbers that Excel stored.
#
# Jeremy Howard taught convolutional networks with a spreadsheet: two convolutions, pooling and a dense
# layer, every cell a formula that can be clicked. Ours has the same layers, and beside them what his
# leaves out: biases, activations, a softmax, and weights that were trained on handwritten digits.

# %%
import numpy as np
from matplotlib import pyplot as plt

import convcore as cc
from convcore import data
from convcore.inputs import read_picture
from convcore.study import plot_feature_maps, plot_kernels
from convcore.study.article import find

# %%
network = cc.load_model(data.path("spreadsheet.keras"))
print(network.summary())

# %% [markdown]
# The input is a small grey picture. The first layer divides it by 255.

# %%
picture = read_picture(data.path("spreadsheet.png"), channels=1)
x = picture[:, :, 0].astype(float) / 255


def sheet(axes, values, title="", cmap="Blues"):
    """Show an array as a spreadsheet: a number in every cell."""
    most = np.abs(values).max() or 1
    low = -1.6 * most if cmap == "RdBu" else 0
    axes.imshow(values, cmap=cmap, vmin=low, vmax=1.6 * most)
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}" if value else "0"
        axes.text(column, row, text, ha="center", va="center", color="black", fontsize=7)
    axes.set(xticks=[], yticks=[], title=title)


figure, axes = plt.subplots(figsize=(4, 3.6), num="The input: what a spreadsheet has in A1 to H8")
sheet(axes, x)
axes.set_xticks(range(8), "ABCDEFGH")
axes.set_yticks(range(8), range(1, 9))
axes.tick_params(length=0, labeltop=True, labelbottom=False)
plt.show()

# %% [markdown]
# ## The first convolution
#
# Four kernels of 3 x 3, trained; blue is positive, red negative.

# %%
weights = {node.layer: node.weights for node in network.graph.nodes if "kernel" in node.weights}
k1, b1, k2, b2, k3, b3 = [
    np.asarray(weights[layer][name], dtype=float)
    for layer in ("conv1", "conv2", "digit")
    for name in ("kernel", "bias")
]
print("biases:", *b1.round(3))
plot_kernels(k1, title="conv1: one channel to four")

# %% [markdown]
# One cell of the first map: nine products, their sum, the bias, and the ReLU, which makes what is
# below zero zero. The layer pads the picture with a ring of zeros ("same"), so that the map has 8 x 8
# cells too, and the cell at row 1, column 2 sees rows 0 to 2 and columns 1 to 3.

# %%
row, column, channel = 1, 2, 0
padded = np.pad(x, 1)
window = padded[row : row + 3, column : column + 3]
products = window * k1[:, :, 0, channel]
total = products.sum() + b1[channel]

figure, panels = plt.subplots(
    1, 3, figsize=(6.6, 2.4), num="Nine products: the window, the kernel, and one times the other"
)
sheet(panels[0], window, "window")
sheet(panels[1], k1[:, :, 0, channel], "kernel", "RdBu")
sheet(panels[2], products, "products", "RdBu")
plt.show()
print(f"{products.sum():.6f} + bias {b1[channel]:.6f} = {total:.6f}; ReLU: {max(total, 0):.6f}")

# %% [markdown]
# All cells: the same formula, copied over the sheet. In Python that is three loops.


# %%
def convolve(x, kernel, bias):
    """Maps (h, w, in) to (h - 2, w - 2, out): for each cell a window, products, a sum, a ReLU."""
    height, width = x.shape[0] - 2, x.shape[1] - 2
    out = np.empty((height, width, len(bias)))
    for row in range(height):
        for column in range(width):
            window = x[row : row + 3, column : column + 3, :]
            for channel in range(len(bias)):
                total = (window * kernel[..., channel]).sum() + bias[channel]
                out[row, column, channel] = max(total, 0)
    return out


conv1 = convolve(padded[:, :, None], k1, b1)
print("row 1, column 2 of map 0:", conv1[row, column, channel])

# %%
figure, panels = plt.subplots(
    2, 2, figsize=(6.6, 6.2), num="The four maps of the first convolution, after the ReLU"
)
for number, axes in enumerate(panels.flat):
    sheet(axes, conv1[:, :, number], f"map {number}")
frame = plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color="C1", linewidth=2)
panels.flat[channel].add_patch(frame)
plt.show()

# %% [markdown]
# ## The second
#
# Now the input has four channels, so each kernel is a block of 3 x 3 x 4: a cell sums 36 products. A
# row of this figure is a channel that comes in, a column a map that goes out. There is no padding here:
# 8 x 8 cells become 6 x 6.

# %%
plot_kernels(k2, title="conv2: four channels to four")

# %%
conv2 = convolve(conv1, k2, b2)
cell = conv1[2:5, 3:6, :] * k2[..., 0]
print("row 2, column 3, map 0: per channel", *cell.sum(axis=(0, 1)).round(4))
print("bias", b2[0].round(4))
print("sum:", cell.sum() + b2[0], " after the ReLU:", conv2[2, 3, 0])
plot_feature_maps(conv2, columns=4, title="conv2: four maps of 6 x 6")

# %% [markdown]
# ## Pooling
#
# Of each four cells the largest stays: `MAX` in a spreadsheet. Three quarters of the numbers go.

# %%
pool = conv2.reshape(3, 2, 3, 2, 4).max(axis=(1, 3))

figure, (before, after) = plt.subplots(
    1, 2, figsize=(6.6, 3.4), num="Pooling of map 0: the winner of each four is framed"
)
sheet(before, conv2[:, :, 0], "6 x 6")
sheet(after, pool[:, :, 0], "3 x 3")
for r in range(3):
    for c in range(3):
        four = conv2[2 * r : 2 * r + 2, 2 * c : 2 * c + 2, 0]
        y, x0 = np.unravel_index(four.argmax(), (2, 2))
        corner = (2 * c + x0 - 0.5, 2 * r + y - 0.5)
        before.add_patch(plt.Rectangle(corner, 1, 1, fill=False, color="C1", linewidth=2))
for line in (1.5, 3.5):
    before.axhline(line, color="C0", linewidth=1)
    before.axvline(line, color="C0", linewidth=1)
plt.show()

# %% [markdown]
# ## From maps to an answer
#
# The 3 x 3 x 4 numbers become a row of 36, the channels of one cell beside each other. Each digit
# has 36 weights and a bias: `SUMPRODUCT`. The ten sums are *logits*; the softmax makes probabilities
# of them: $p_j = e^{z_j} / \sum_k e^{z_k}$.

# %%
logits = pool.ravel() @ k3 + b3
raised = np.exp(logits - logits.max())
p = raised / raised.sum()

figure, (left, right) = plt.subplots(
    1, 2, figsize=(6.6, 2.8), num="Ten sums, and what the softmax makes of them"
)
left.bar(range(10), logits)
left.axhline(0, color="C2", linewidth=1)
left.set(xlabel="digit", ylabel="sum (logit)", xticks=range(10))
right.bar(range(10), p)
right.set(xlabel="digit", ylabel="probability", xticks=range(10), ylim=(0, 1.05))
plt.show()
print("the answer:", p.argmax(), "with probability", p.max())

# %% [markdown]
# ## And convcore?
#
# Its own numbers for each layer, computed in float32, beside these, computed in float64:

# %%
traced = network.trace(picture[None])
for name, ours in (("conv1", conv1), ("conv2", conv2), ("pool", pool), ("digit", p)):
    difference = np.abs(traced[name][0] - ours).max()
    print(f"{name:6} largest value {ours.max():8.4f}   largest difference {difference:.1e}")

# %% [markdown]
# `convcore study spreadsheet spreadsheet.png -o page.html` shows the same as a page where every cell
# can be pointed at; `convcore.data.path("spreadsheet.png")` is where the picture lies.
#
# ## Howard's own
#
# His workbook still exists, and it keeps the numbers that Excel computed: a complete test, in double
# precision, by a program that knows nothing of deep learning. An `.xlsx` file is a ZIP archive of XML.

# %%
import re
import zipfile
from xml.etree import ElementTree

with zipfile.ZipFile(find("conv-example.xlsx")) as book:
    root = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
excel = {cell.get("r"): cell for cell in root.iter(space + "c")}
print(len(excel), "cells; EN4 is =" + excel["EN4"].findtext(space + "f"))


# %%
def number(letters):
    """A is 1, Z is 26, AA is 27."""
    return sum((ord(a) - 64) * 26**i for i, a in enumerate(reversed(letters)))


table = {}
for name, cell in excel.items():
    letters, row_number = re.fullmatch(r"([A-Z]+)(\d+)", name).groups()
    if cell.get("t") != "s" and cell.findtext(space + "v"):  # "s" is a text
        table[int(row_number), number(letters)] = float(cell.findtext(space + "v"))


def block(corners, every=1):
    """The numbers of "A2:AB29"; an empty cell is 0, as in Excel."""
    (a, top), (b, bottom) = re.findall(r"([A-Z]+)(\d+)", corners)
    rows = range(int(top), int(bottom) + 1, every)
    columns = range(number(a), number(b) + 1, every)
    return np.array([[table.get((r, c), 0.0) for c in columns] for r in rows])


seven = block("A2:AB29")
print(seven.shape, "sum", seven.sum())

# %% [markdown]
# Two kernels of 3 x 3, two of 3 x 3 x 2, a 2 x 2 maximum, and one dense unit; no bias, no activation.
# His formulas are `SUM(A2:C4*$AD$11:$AF$13)`: cross-correlation, nothing is turned around.

# %%
first = np.stack([block("AD11:AF13"), block("AD38:AF40")], axis=-1)[:, :, None, :]
second = np.stack(
    [
        np.stack([block("BI11:BK13"), block("BI15:BK17")], axis=-1),
        np.stack([block("BI38:BK40"), block("BI42:BK44")], axis=-1),
    ],
    axis=-1,
)
dense = np.stack([block("DN4:EK26", every=2), block("DN33:EK55", every=2)], axis=-1)


def howard(flip):
    """His network by convcore in float64: two convolutions, pooling, a dense unit."""
    maps1 = cc.conv2d(seven[None, :, :, None], first, flip=flip, dtype="float64")
    maps2 = cc.conv2d(maps1, second, flip=flip, dtype="float64")
    pooled = maps2.reshape(12, 2, 12, 2, 2).max(axis=(1, 3))
    return maps1[0], maps2[0], pooled, (pooled * dense).sum()


maps1, maps2, pooled, output = howard(flip=False)
stored = {
    "conv1": (maps1, "AH3:BG28", "AH32:BG57", 1),
    "conv2": (maps2, "BM4:CJ27", "BM33:CJ56", 1),
    "pool": (pooled, "CM4:DJ26", "CM33:DJ55", 2),
}
for name, (ours, one, two, every) in stored.items():
    theirs = np.stack([block(one, every), block(two, every)], axis=-1)
    print(f"{name}: sums {ours[..., 0].sum():.12f} and {ours[..., 1].sum():.12f},", end=" ")
    print(f"largest difference to Excel {np.abs(ours - theirs).max():.1e}")
print(f"output {output:.10f}, Excel's {table[4, number('EN')]:.10f}")
print(f"with the kernels turned around it would be {howard(flip=True)[3]:.10f}")

# %% [markdown]
# > So his example, the source of the article's, is cross-correlation, while the article's prose
# > defines the other. The sheet has one more oddity: a 25th, empty column of the second convolution
# > is pooled too, into a 13th column of zeros that changes nothing.

# %%
figure, panels = plt.subplots(1, 4, figsize=(6.6, 2), num="Howard's seven, and a map a layer")
maps = {"input": seven, "conv1": maps1[..., 0], "conv2": maps2[..., 0], "pooled": pooled[..., 0]}
for axes, (name, values) in zip(panels, maps.items()):
    axes.imshow(values)
    axes.set(title=f"{name}, {len(values)} x {len(values)}", xticks=[], yticks=[])
plt.show()
