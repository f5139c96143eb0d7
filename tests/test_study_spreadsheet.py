"""The spreadsheet view of a report in a browser: its numbers, ghosts, animation and keyboard."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore import reference
from convcore.engine import Model
from convcore.loader.graph import Graph, Node
from convcore.plan import Device

from .browser import Browser, Page
from .graphs import GraphBuilder

Place = tuple[tuple[int, ...], int]

#: Half a unit of the 9th significant digit, relative to a number whose first digits are 100000000.
PRINTED = 5e-9


# ---- networks -------------------------------------------------------------------------------------


def _with_activations_in_layers(graph: Graph) -> Graph:
    """The graph as a model file has it: an activation belongs to the layer before it."""
    nodes = tuple(
        replace(n, layer=graph.node(n.inputs[0]).name) if n.operation == "activation" else n
        for n in graph.nodes
    )
    carries = {n.layer: n.name for n in nodes}
    layers = tuple(
        layer._replace(node=carries.get(layer.name, layer.node))
        for layer in graph.layers
        if graph.node(layer.name).operation != "activation"
    )
    return replace(graph, nodes=nodes, layers=layers)


def _every_operation() -> Graph:
    b = GraphBuilder(3)
    x = b.input(13, 12, 6)
    strided = b.activation(b.conv(x, 10, (3, 3), strides=(2, 2)), "relu")
    normal = b.batch_norm(strided)
    plain = {"strides": (1, 1), "dilation": (1, 1), "padding": "same"}
    deep = b.add("depthwise_conv", normal, plain, {"kernel": b.normal(3, 3, 10, 2), "bias": b.normal(20)})
    dilated = b.conv(deep, 8, (3, 3), dilation=(2, 2))
    grouped = b.conv(dilated, 12, (3, 3), groups=4, bias=False)
    doubled = {"strides": (2, 2), "dilation": (1, 1), "padding": "same"}
    up = b.add("conv_transpose", grouped, doubled, {"kernel": b.normal(3, 3, 5, 12), "bias": b.normal(5)})
    largest = b.add("max_pool", up, {"pool_size": (3, 3), "strides": (2, 2), "padding": "same"})
    same = {"pool_size": (2, 2), "strides": (2, 2), "padding": "same"}
    mean = b.add("average_pool", largest, {**same, "include_padding": False})
    theano = b.add("average_pool", largest, {**same, "include_padding": True})
    both = b.add("add", [mean, theano])
    beside = b.add("concatenate", [mean, both], {"axis": 2})
    over_all = b.add("global_average_pool", beside, {"keepdims": False})
    flat = b.add("reshape", both, {"shape": (4 * 3 * 5,)})
    dense = b.add("dense", flat, {}, {"kernel": b.normal(60, 9), "bias": b.normal(9)})
    soft = b.add("softmax", b.activation(dense, "gelu", approximate=False), {"axis": 0})
    return _with_activations_in_layers(b.graph(soft, over_all))


def _large() -> Graph:
    """Operations on maps that are too large to be kept whole."""
    b = GraphBuilder(5)
    y = b.conv(b.input(64, 60, 24), 16, (3, 3), strides=(2, 1), dilation=(1, 2))
    y = b.batch_norm(y)
    plain = {"strides": (1, 1), "dilation": (1, 1), "padding": "same"}
    y = b.add("depthwise_conv", y, plain, {"kernel": b.normal(5, 3, 16, 2)})
    y = b.conv(y, 24, (1, 3), groups=4)
    wide = {"strides": (2, 3), "dilation": (1, 2), "padding": "valid"}
    y = b.add("conv_transpose", y, wide, {"kernel": b.normal(2, 3, 12, 24), "bias": b.normal(12)})
    y = b.add("prelu", y, {}, {"alpha": b.normal(1, 1, 12)})
    y = b.add("affine", y, {}, {"scale": b.normal(12), "offset": b.normal(1)})
    y = b.add("max_pool", y, {"pool_size": (3, 2), "strides": (2, 2), "padding": "same"})
    y = b.add("pad", y, {"padding": ((1, 0), (2, 1), (0, 0))})
    y = b.add("crop", y, {"cropping": ((0, 3), (1, 2), (0, 0))})
    y = b.add("resize", y, {"size": (40, 50), "interpolation": "bilinear"})
    y = b.add("upsample", y, {"size": (2, 1)})
    gate = b.add("global_max_pool", y, {"keepdims": True})
    y = b.add("multiply", [y, gate])
    y = b.add(
        "average_pool",
        y,
        {"pool_size": (2, 2), "strides": (1, 1), "padding": "same", "include_padding": False},
    )
    y = b.add("average", [y, y, b.activation(y, "tanh")])
    y = b.add("dense", y, {}, {"kernel": b.normal(12, 15), "bias": b.normal(15)})
    return b.graph(b.add("softmax", y, {"axis": 2}))


def _line_and_volume() -> Graph:
    b = GraphBuilder(7)
    line = b.conv(b.input(20, 3), 4, (5,), padding="causal")
    volume = b.conv(b.input(6, 5, 7, 2), 3, (3, 2, 3), strides=(2, 1, 1))
    return b.graph(line, volume)


class Studied:
    """A network, its values from the engine, and the report of it on disk."""

    def __init__(self, graph: Graph, path: Path) -> None:
        self.graph = graph
        random = np.random.default_rng(1)
        model = Model(graph, Device())
        inputs = [random.standard_normal((1, *s), np.float32) for s in model.input_shapes]
        report = model.study(inputs if len(inputs) > 1 else inputs[0], repeats=1)
        self.record = report.record
        self.page = report.save(path)
        self.values, _ = model._trace_nodes(inputs, None)

    def node(self, operation: str, index: int = 0) -> Node:
        return [n for n in self.graph.nodes if n.operation == operation][index]

    def strongest(self, node: Node) -> int:
        """The channel with the largest output of a node that is kept whole."""
        assert self.record["nodes"][node.name]["exact"]["whole"]
        value = self.values[node.name][0]
        return int(value.reshape(-1, value.shape[-1]).max(axis=0).argmax())

    def reference(self, node: Node) -> np.ndarray:
        """What the reference computes of the engine's own inputs, without the batch axis."""
        return reference.evaluate_node(node, *(self.values[name] for name in node.inputs))[0]

    def allowance(self, node: Node) -> np.ndarray:
        """What printing and the order of a sum in float64 may change."""
        exact = np.abs(self.reference(node))
        if "kernel" not in node.weights:
            return PRINTED * exact + 1e-14
        sizes = {name: np.abs(w) for name, w in node.weights.items()}
        terms = reference.evaluate_node(
            replace(node, weights=sizes), *(np.abs(self.values[name]) for name in node.inputs)
        )[0]
        return PRINTED * exact + 2.0**-53 * np.asarray(node.weights["kernel"]).size * terms


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    return Studied(_every_operation(), tmp_path_factory.mktemp("every") / "report.html")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    return Studied(_large(), tmp_path_factory.mktemp("large") / "report.html")


@pytest.fixture(scope="module")
def line_and_volume(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    return Studied(_line_and_volume(), tmp_path_factory.mktemp("ranks") / "report.html")


# ---- the page as a reader sees it -----------------------------------------------------------------


def _number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace("∞", "inf"))


class View:
    """The spreadsheet view of one layer."""

    def __init__(self, opened: Page) -> None:
        self.page = opened.page
        self.root = self.page.locator(".spreadsheet")
        self.root.wait_for()

    def point(self, position: Sequence[int], channel: int) -> None:
        """Choose the channel, and move the mouse to an output value."""
        key = ",".join(map(str, position)) if position else f"c{channel}"
        if position:
            self.choose("Output channel", str(channel))
        self.root.locator(f".output [data-place='{key}']").hover()

    def go(self, position: Sequence[int], channel: int) -> None:
        """Go to an output value by the address."""
        self.page.evaluate(
            "(place) => window.convcore.setRoute(place)", {"at": list(position), "channel": channel}
        )

    def choose(self, label: str, option: str) -> None:
        self.root.get_by_label(label, exact=True).select_option(option)

    def total(self, name: str) -> float:
        return _number(self.text(name))

    def text(self, name: str) -> str:
        return str(self.root.locator(f"[data-name='{name}'] .number").inner_text())

    def grid(self, name: str) -> np.ndarray:
        """The numbers of a table of cells, as one array."""
        rows = self.root.locator(f"[data-grid='{name}'] tbody tr")
        return np.array(
            [[_number(t) for t in row.locator(".number").all_inner_texts()] for row in rows.all()]
        )

    def listed(self, name: str) -> list[list[str]]:
        rows = self.root.locator(f"[data-list='{name}'] tbody tr")
        return [row.locator("th, .number").all_inner_texts() for row in rows.all()]

    def heading(self) -> str:
        return str(self.root.locator("h4").inner_text())


class Opener:
    """Opens reports at a layer, and remembers what the pages complained of."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.opened: list[Page] = []

    def __call__(self, studied: Studied, node: Node, more: str = "") -> View:
        self.opened.append(self._browser.open(studied.page, f"layer={node.layer}{more}"))
        return View(self.opened[-1])


@pytest.fixture
def look(browser: Browser) -> Iterator[Opener]:
    """Opens a layer's view; at the end no page may have complained or asked the network for anything."""
    opener = Opener(browser)
    yield opener
    for opened in opener.opened:
        assert opened.complaints == [] and opened.requests == []
        opened.page.context.close()


def _places(node: Node) -> list[Place]:
    """Corners, and places between, on several channels."""
    *sizes, channels = (int(n or 0) for n in node.shape)
    corners = [tuple(n - 1 if high else 0 for n, high in zip(sizes, side, strict=True))
               for side in itertools.product((False, True), repeat=len(sizes))]  # fmt: skip
    middle = tuple(n // 2 for n in sizes)
    positions = [*corners, middle]
    return [
        (p, c) for p, c in zip(positions, itertools.cycle((0, channels - 1, channels // 2)), strict=False)
    ]


# ---- numbers --------------------------------------------------------------------------------------

OPERATIONS = [
    ("conv", 0), ("conv", 1), ("conv", 2), ("depthwise_conv", 0), ("conv_transpose", 0), ("max_pool", 0),
    ("average_pool", 0), ("average_pool", 1), ("global_average_pool", 0), ("batch_norm", 0), ("dense", 0),
    ("softmax", 0), ("add", 0), ("concatenate", 0), ("reshape", 0),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "index"), OPERATIONS)
def test_pointing_shows_the_references_number(
    studied: Studied, look: Opener, operation: str, index: int
) -> None:
    node = studied.node(operation, index)
    expected, allowed = studied.reference(node), studied.allowance(node)
    view = look(studied, node)
    for position, channel in _places(node):
        view.point(position, channel)
        place = (*position, channel)
        assert view.total("value") == pytest.approx(expected[place], rel=0, abs=allowed[place]), place
        engine = studied.values[node.name][0][place]
        assert np.float32(view.total("value-engine")) == engine
        difference = float(engine) - expected[place]
        assert view.total("value-difference") == pytest.approx(
            difference, rel=1e-8, abs=allowed[place] - PRINTED * abs(expected[place])
        )


LARGE_OPERATIONS = [
    ("conv", 0), ("batch_norm", 0), ("depthwise_conv", 0), ("conv", 1), ("conv_transpose", 0), ("prelu", 0),
    ("affine", 0), ("max_pool", 0), ("pad", 0), ("crop", 0), ("resize", 0), ("upsample", 0),
    ("average_pool", 0), ("global_max_pool", 0), ("multiply", 0), ("average", 0), ("dense", 0),
    ("softmax", 0),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "index"), LARGE_OPERATIONS)
def test_numbers_of_layers_that_are_kept_in_parts(
    large: Studied, look: Opener, operation: str, index: int
) -> None:
    node = large.node(operation, index)
    exact = large.record["nodes"][node.name]["exact"]
    assert not exact["whole"]
    expected, allowed = large.reference(node), large.allowance(node)
    last = exact["channels"][-1]
    view = look(large, node)
    for block in exact["blocks"]:
        for side in (0, 1):
            position = [s + side * (n - 1) for s, n in zip(block["start"], block["size"], strict=True)]
            view.go(position, last)
            place = (*position, last)
            assert view.total("value") == pytest.approx(expected[place], rel=0, abs=allowed[place]), place
            assert np.float32(view.total("value-engine")) == large.values[node.name][0][place]


def test_the_activation_follows_its_convolution(studied: Studied, look: Opener) -> None:
    node, after = studied.node("conv"), studied.node("activation")
    expected = np.maximum(studied.reference(node), 0.0)
    view = look(studied, node)
    for position, channel in _places(node):
        view.point(position, channel)
        place = (*position, channel)
        assert view.total("activated") == pytest.approx(
            expected[place], rel=0, abs=studied.allowance(node)[place]
        )
        assert np.float32(view.total("activated-engine")) == studied.values[after.name][0][place]


def test_the_activation_of_a_dense_layer(studied: Studied, look: Opener) -> None:
    node = studied.node("dense")
    before = studied.reference(node)
    expected = reference.ACTIVATIONS["gelu"](before, approximate=False)
    view = look(studied, node)
    for channel in range(node.shape[-1] or 0):
        view.point((), channel)
        # The slope of GELU is below 1.13, so an error of the sum grows by no more.
        allowed = 1.13 * studied.allowance(node)[channel] + PRINTED * abs(expected[channel])
        assert view.total("activated") == pytest.approx(expected[channel], rel=0, abs=allowed)


def _printed(array: np.ndarray) -> Any:
    return pytest.approx(array, rel=PRINTED, abs=0)


def test_window_kernel_products_and_channel_sums(studied: Studied, look: Opener) -> None:
    node = studied.node("conv")
    (low_r, _), (low_c, _) = node.attributes["padding"]
    x, kernel = studied.values[node.inputs[0]][0].astype(float), np.asarray(node.weights["kernel"], float)
    view = look(studied, node)
    position, channel = (3, 2), 4
    view.point(position, channel)
    row, column = position[0] * 2 - low_r, position[1] * 2 - low_c
    window = x[row : row + 3, column : column + 3]
    sums = {c: (window[..., c] * kernel[..., c, channel]).sum() for c in range(6)}
    assert view.grid("window") == _printed(window[..., 0])
    assert view.grid("kernel") == _printed(kernel[..., 0, channel])
    assert view.grid("products") == _printed(window[..., 0] * kernel[..., 0, channel])
    shown = {int(name.split()[1]): _number(value) for name, value in view.listed("channels")}
    assert shown == pytest.approx(sums, rel=2 * PRINTED)
    assert list(shown) == sorted(sums, key=lambda c: -abs(sums[c]))
    # A position that is chosen stays; another input channel is looked at by its button.
    view.root.locator(f".output [data-place='{position[0]},{position[1]}']").click()
    view.root.get_by_role("button", name="channel 5", exact=True).click()
    assert view.grid("products") == _printed(window[..., 5] * kernel[..., 5, channel])


def test_a_grouped_convolution_reads_its_group_alone(studied: Studied, look: Opener) -> None:
    node = studied.node("conv", 2)
    view = look(studied, node)
    view.point((3, 3), 7)
    assert {name for name, _ in view.listed("channels")} == {"channel 4", "channel 5"}
    assert "Group 2 of 4" in view.root.locator(".formula").inner_text()


def test_a_dilated_window_has_its_holes(studied: Studied, look: Opener) -> None:
    node = studied.node("conv", 1)
    view = look(studied, node)
    view.point((3, 2), 0)
    heads = view.root.locator("[data-grid='window'] thead th").all_inner_texts()
    assert heads == ["0", "2", "4"]
    read = view.root.locator(".input .read")
    assert [cell.get_attribute("data-place") for cell in read.all()] == [
        f"{r},{c}" for r in (1, 3, 5) for c in (0, 2, 4)
    ]


def test_the_page_says_where_a_window_begins(studied: Studied, look: Opener) -> None:
    node = studied.node("conv")
    assert node.attributes["padding"] == ((1, 1), (0, 1))
    view = look(studied, node)
    view.point((4, 5), 0)
    words = view.root.locator(".reach").inner_text().replace("\u202f", " ")
    assert "row 4 · 2 − 1 = 7, column 5 · 2 − 0 = 10" in words
    heads = view.root.locator("[data-grid='window'] tbody th, [data-grid='window'] thead th")
    assert heads.all_inner_texts() == ["10", "11", "12", "7", "8", "9"]


def test_maps_show_numbers_where_they_are_wanted(studied: Studied, look: Opener) -> None:
    node = studied.node("batch_norm")
    view = look(studied, node)
    view.root.get_by_label("Numbers in the maps").check()
    shown = [_number(t) for t in view.root.locator(".output .sheet-cell").all_inner_texts()]
    # Three digits of each.
    values = studied.values[node.name][0][..., studied.strongest(node)]
    assert shown == pytest.approx(values.ravel(), rel=5e-3)


def test_a_turned_kernel_is_true_convolution(studied: Studied, look: Opener) -> None:
    node = studied.node("conv")
    x = studied.values[node.inputs[0]]
    flipped = reference.conv(x, node.weights["kernel"], node.weights["bias"], **node.attributes, flip=True)
    view = look(studied, node)
    view.root.get_by_label("Turn the kernel around").check()
    for position, channel in _places(node):
        view.point(position, channel)
        place = (*position, channel)
        # As many terms of the same sizes, in another order.
        assert view.total("value") == pytest.approx(flipped[0][place], rel=PRINTED, abs=1e-12)
    kernel = np.asarray(node.weights["kernel"])[::-1, ::-1, 0, channel]
    assert view.grid("kernel") == _printed(kernel)


def test_a_transposed_convolution_gathers_and_scatters(studied: Studied, look: Opener) -> None:
    node = studied.node("conv_transpose")
    x, kernel = studied.values[node.inputs[0]][0].astype(float), np.asarray(node.weights["kernel"], float)
    view = look(studied, node)
    view.point((4, 5), 3)
    view.root.locator(".output [data-place='4,5']").click()
    # "same" with a 3x3 kernel and stride 2 cuts nothing off at the low side: 2 i + t = q.
    taps = {(i, j): (4 - 2 * i, 5 - 2 * j) for i in (1, 2) for j in (2,)}
    gathered = view.grid("products").sum()
    assert gathered == pytest.approx(sum(x[i, j, 0] * kernel[*t, 3, 0] for (i, j), t in taps.items()))
    gaps = view.root.locator("[data-grid='window'] td.gap").count()
    assert gaps == 9 - len(taps)
    for (i, j), tap in taps.items():
        view.choose("Input", f"row {i}, column {j}")
        assert view.grid("scatter") == _printed(x[i, j, 0] * kernel[..., 3, 0])
        mine = view.root.locator("[data-grid='scatter'] td.winner .number").all_inner_texts()
        assert [_number(t) for t in mine] == _printed(np.array([x[i, j, 0] * kernel[*tap, 3, 0]]))


def test_the_last_input_scatters_over_the_edge(studied: Studied, look: Opener) -> None:
    node = studied.node("conv_transpose")
    view = look(studied, node)
    rows, columns, _ = (int(n or 0) for n in node.shape)
    view.point((rows - 1, columns - 1), 0)
    # The full output has one row and one column more than "same" leaves.
    assert view.root.locator("[data-grid='scatter'] td.ghost").count() == 5


def test_the_winner_of_a_pool_is_marked_and_padding_never_wins(studied: Studied, look: Opener) -> None:
    node = studied.node("max_pool")
    expected = studied.reference(node)
    view = look(studied, node)
    for position, channel in _places(node):
        view.point(position, channel)
        won = view.root.locator("[data-grid='window'] td.winner")
        assert won.count() == 1
        assert _number(won.locator(".number").inner_text()) == pytest.approx(
            expected[(*position, channel)], rel=PRINTED
        )
        assert "ghost" not in (won.get_attribute("class") or "")
    view.point((node.shape[0] - 1, 0), 0)
    assert set(view.root.locator("[data-grid='window'] td.ghost .number").all_inner_texts()) == {"\u2212∞"}


@pytest.mark.parametrize(("index", "divisor", "ghosts"), [(0, 2.0, "–"), (1, 4.0, "0")])
def test_an_average_shows_its_divisor(
    studied: Studied, look: Opener, index: int, divisor: float, ghosts: str
) -> None:
    node = studied.node("average_pool", index)
    rows = node.shape[0]
    assert rows == 4 and studied.graph.node(node.inputs[0]).shape[0] == 7
    view = look(studied, node)
    view.point((3, 1), 2)
    assert view.total("divisor") == divisor
    assert view.root.locator("[data-grid='window'] td.ghost .number").all_inner_texts() == [ghosts] * 2
    view.point((0, 0), 2)
    assert view.total("divisor") == 4.0


def test_batch_norm_is_a_line(studied: Studied, look: Opener) -> None:
    node = studied.node("batch_norm")
    w = {name: np.asarray(v, float) for name, v in node.weights.items()}
    a = w["gamma"] / np.sqrt(w["variance"] + node.attributes["epsilon"])
    view = look(studied, node)
    view.point((2, 5), 7)
    assert view.total("a") == _printed(a[7])
    assert view.total("b") == pytest.approx(w["beta"][7] - w["mean"][7] * a[7], rel=PRINTED, abs=1e-15)
    parts = [_number(value) for _, value in view.listed("parts")]
    assert parts == _printed(
        np.array([*(w[n][7] for n in ("gamma", "beta", "mean", "variance")), node.attributes["epsilon"]])
    )


def test_softmax_takes_the_largest_off(studied: Studied, look: Opener) -> None:
    node = studied.node("softmax")
    x = studied.values[node.inputs[0]][0].astype(float)
    view = look(studied, node)
    view.point((), 3)
    e = np.exp(x - x.max())
    assert [view.total(n) for n in ("x", "max", "exp", "sum")] == _printed(
        np.array([x[3], x.max(), e[3], e.sum()])
    )
    shown = {int(row[0].split()[1]): _number(row[4]) for row in view.listed("softmax")}
    assert shown == pytest.approx(dict(enumerate(e / e.sum())), rel=2 * PRINTED)


def test_a_dense_layer_lists_its_products(studied: Studied, look: Opener) -> None:
    node = studied.node("dense")
    x, kernel = studied.values[node.inputs[0]][0].astype(float), np.asarray(node.weights["kernel"], float)
    view = look(studied, node)
    view.point((), 6)
    view.root.locator(".output [data-place='c6']").click()
    view.choose("Products", "of all inputs")
    products = x * kernel[:, 6]
    largest = np.argsort(-np.abs(products))
    shown: list[float] = []
    while True:
        shown += [_number(row[3]) for row in view.listed("terms")]
        onward = view.root.locator("[data-key='terms Next page']")
        if onward.is_disabled():
            break
        onward.click()
    assert shown == _printed(products[largest])
    # 4 x 3 pixels of 5 channels, flattened: a group is a pixel.
    view.choose("Products", "of the chosen group")
    sums = {row[0]: _number(row[1]) for row in view.listed("groups")}
    assert sums["inputs 10 to 14"] == pytest.approx(products[10:15].sum(), rel=PRINTED, abs=1e-14)


def test_lines_and_volumes(line_and_volume: Studied, look: Opener) -> None:
    for index in (0, 1):
        node = line_and_volume.node("conv", index)
        expected, allowed = line_and_volume.reference(node), line_and_volume.allowance(node)
        *sizes, _ = (int(n or 0) for n in node.shape)
        view = look(line_and_volume, node)
        for position in ((0,) * len(sizes), tuple(n - 1 for n in sizes)):
            view.go(position, 2)
            place = (*position, 2)
            assert view.total("value") == pytest.approx(expected[place], rel=0, abs=allowed[place])
            assert view.grid("window").size == np.prod(np.asarray(node.weights["kernel"]).shape[:-2])


# ---- somebody else's spreadsheet ------------------------------------------------------------------


# ---- what a layer opens on, other axes, large windows ---------------------------------------------


def _other_axes() -> Graph:
    b = GraphBuilder(11)
    along = b.add("softmax", b.batch_norm(b.input(6, 5, 4), axis=0), {"axis": 0})
    large = b.add("softmax", b.batch_norm(b.input(90, 20, 12), axis=1), {"axis": 1})
    over_all = b.add("global_average_pool", b.input(256, 256, 1), {"keepdims": True})
    return b.graph(along, large, over_all)


@pytest.fixture(scope="module")
def other_axes(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    return Studied(_other_axes(), tmp_path_factory.mktemp("axes") / "report.html")


def test_batch_norm_along_another_axis_names_it(other_axes: Studied, look: Opener) -> None:
    node = other_axes.node("batch_norm")
    view = look(other_axes, node, "&at=4,2&channel=3")
    caption = view.root.locator("[data-list='parts'] caption").inner_text()
    assert caption == "Weights of row 4"
    parts = [_number(value) for _, value in view.listed("parts")]
    assert parts[0] == pytest.approx(node.weights["gamma"][4], rel=PRINTED)
    place = (4, 2, 3)
    assert view.total("value") == pytest.approx(
        other_axes.reference(node)[place], rel=0, abs=other_axes.allowance(node)[place]
    )


def test_softmax_along_another_axis(other_axes: Studied, look: Opener) -> None:
    node = other_axes.node("softmax")
    view = look(other_axes, node, "&at=4,2&channel=3")
    x = other_axes.values[node.inputs[0]][0][:, 2, 3].astype(float)
    shown = {row[0]: _number(row[1]) for row in view.listed("softmax")}
    assert shown == pytest.approx({f"row {i}": v for i, v in enumerate(x)}, rel=PRINTED)
    assert view.total("value") == pytest.approx(other_axes.reference(node)[4, 2, 3], rel=2 * PRINTED)


def test_softmax_along_an_axis_that_was_not_kept_says_so(other_axes: Studied, look: Opener) -> None:
    node = other_axes.node("softmax", 1)
    view = look(other_axes, node)
    assert "along the column, and not all 20 values" in view.root.inner_text()


def test_a_global_pool_of_a_large_map_that_keeps_its_axes(other_axes: Studied, look: Opener) -> None:
    node = other_axes.node("global_average_pool")
    view = look(other_axes, node)
    assert view.total("value") == pytest.approx(other_axes.reference(node)[0, 0, 0], rel=0, abs=1e-9)


def _in_one_layer(*, between: str) -> Graph:
    """Identity, convolution, what is `between`, and a ReLU, as one layer of a file."""
    b = GraphBuilder(13)
    attributes = {"axes": (2, 0, 1)} if between == "permute" else {}
    y = b.conv(b.add("identity", b.input(7, 6, 3)), 5, (3, 3))
    last = b.activation(b.add(between, y, attributes), "relu")
    graph = b.graph(last)
    nodes = tuple(n if n.operation == "input" else replace(n, layer=last) for n in graph.nodes)
    layers = tuple(layer for layer in graph.layers if layer.node in (*graph.inputs, last))
    return replace(graph, nodes=nodes, layers=layers)


@pytest.mark.parametrize("between", ["identity", "permute"])
def test_a_layer_opens_on_what_it_computes(look: Opener, tmp_path: Path, between: str) -> None:
    studied = Studied(_in_one_layer(between=between), tmp_path / "report.html")
    node, after = studied.node("conv"), studied.node("activation")
    view = look(studied, node)
    # The activation is found behind what only turns axes.
    operations = view.root.get_by_label("Operation", exact=True)
    chosen = operations.evaluate("(select) => select.selectedOptions[0].textContent")
    assert chosen == "conv, then relu"
    for position, channel in _places(node):
        view.go(position, channel)
        place = (*position, channel)
        wanted = max(studied.reference(node)[place], 0.0)
        assert view.total("activated") == pytest.approx(wanted, rel=0, abs=studied.allowance(node)[place])
        engine = studied.values[after.name][0]
        engine = engine.transpose(1, 2, 0) if between == "permute" else engine
        assert np.float32(view.total("activated-engine")) == engine[place]


def test_the_strongest_channel_is_shown_first(studied: Studied, large: Studied, look: Opener) -> None:
    node = studied.node("conv")
    view = look(studied, node)
    assert view.heading() == f"Output at row 0, column 0, channel {studied.strongest(node)}"
    caption = view.page.locator("#panel .large-map figcaption").inner_text()
    assert caption.startswith(f"Channel {studied.strongest(node)}.")
    # Of a layer that is kept in parts, among what is kept.
    node = large.node("conv")
    exact = large.record["nodes"][node.name]["exact"]
    value = large.values[node.name][0]
    boxes = [
        value[tuple(slice(s, s + n) for s, n in zip(block["start"], block["size"], strict=True))]
        for block in exact["blocks"]
    ]
    peaks = [max(box[..., c].max() for box in boxes) for c in exact["channels"]]
    view = look(large, node)
    assert view.heading().endswith(f"channel {exact['channels'][int(np.argmax(peaks))]}")


def test_parts_of_lines_and_volumes_are_named_by_their_axes(
    line_and_volume: Studied, look: Opener, tmp_path: Path
) -> None:
    b = GraphBuilder(17)
    large = Studied(b.graph(b.conv(b.input(20, 30, 40, 2), 12, (3, 3, 3))), tmp_path / "volume.html")
    view = look(large, large.node("conv"))
    parts = view.page.locator("#panel .exact").get_by_label("Part", exact=True).locator("option")
    assert parts.first.text_content() == "depths 0 to 1, rows 0 to 3, columns 0 to 3"


def test_howards_spreadsheet(browser: Browser, data_dir: Path, tmp_path: Path) -> None:
    """Jeremy Howard's workbook has every number of a network of four layers, in float64."""
    with np.load(data_dir / "golden" / "spreadsheet_cnn.npz") as file:
        golden = {name: np.asarray(file[name], float) for name in file.files}
    b = GraphBuilder()
    kernels = {name: golden[f"{name}_kernel"].astype(np.float32) for name in ("conv1", "conv2", "dense")}
    plain = {"strides": (1, 1), "dilation": (1, 1), "groups": 1, "padding": "valid"}
    y = b.add("conv", b.input(28, 28, 1), plain, {"kernel": kernels["conv1"]})
    y = b.add("conv", y, plain, {"kernel": kernels["conv2"]})
    y = b.add("max_pool", y, {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"})
    y = b.add("dense", b.add("reshape", y, {"shape": (288,)}), {}, {"kernel": kernels["dense"]})
    model = Model(b.graph(y), Device())
    path = model.study(golden["input"].astype(np.float32), repeats=1).save(tmp_path / "howard.html")
    # No number is negative, so nothing cancels: relative errors add up, one rounding for each term of a sum,
    # for each weight and each pixel.
    assert min(array.min() for array in golden.values()) >= 0
    rounding = 2.0**-24
    roundings = {"conv1": 2, "conv2": 2 + 9 + 1, "pool": 2 + 9 + 1 + 18, "output": 2 + 9 + 1 + 18 + 1}
    layers = [layer.name for layer in model.layers if layer.layer_class in ("conv", "max_pool", "dense")]
    opened = browser.open(path)
    for layer, (name, count) in zip(layers, roundings.items(), strict=True):
        opened.evaluate("(layer) => convcore.setRoute({ layer })", layer)
        view = View(opened)
        *sizes, channels = golden[name].shape[1:]
        for position in ((5, 9), (11, 7)) if sizes else ((),):
            if sizes:
                view.go(position, channels - 1)
            expected = golden[name][(0, *position, channels - 1)]
            assert view.total("value") == pytest.approx(expected, rel=PRINTED + count * rounding)
    opened.page.context.close()


# ---- padding --------------------------------------------------------------------------------------


def test_corners_show_padding_as_ghosts(studied: Studied, look: Opener) -> None:
    node = studied.node("depthwise_conv")
    rows, columns, _ = (int(n or 0) for n in node.shape)
    view = look(studied, node)
    for position, ghosts in {(0, 0): 5, (0, 2): 3, (2, 2): 0, (rows - 1, columns - 1): 5}.items():
        view.point(position, 1)
        drawn = view.root.locator("[data-grid='window'] td.ghost")
        assert drawn.count() == ghosts
        assert drawn.locator(".unseen").all_text_contents() == [" (padding)"] * ghosts
        assert view.root.locator(".input .read.ghost").count() == ghosts


# ---- animation ------------------------------------------------------------------------------------


def _kept_positions(studied: Studied, node: Node) -> list[list[int]]:
    positions: list[list[int]] = []
    for block in studied.record["nodes"][node.name]["exact"]["blocks"]:
        for local in np.ndindex(*block["size"]):
            position = [int(s + p) for s, p in zip(block["start"], local, strict=True)]
            if position not in positions:
                positions.append(position)
    return positions


def _play_to_the_end(view: View) -> list[list[int]]:
    view.root.get_by_label("Speed").fill("6")
    view.root.get_by_role("button", name="Play").click()
    view.root.get_by_role("button", name="Play").wait_for(timeout=30_000)
    return list(view.page.evaluate("window.convcore.visited"))


def test_the_animation_visits_exactly_the_output_positions(studied: Studied, look: Opener) -> None:
    node = studied.node("conv")
    view = look(studied, node)
    rows, columns, _ = (int(n or 0) for n in node.shape)
    assert _play_to_the_end(view) == [[r, c] for r in range(rows) for c in range(columns)]


def test_of_a_large_layer_the_animation_visits_what_is_kept(large: Studied, look: Opener) -> None:
    node = large.node("conv")
    kept = _kept_positions(large, node)
    assert 1 < len(kept) < 32 * 60
    view = look(large, node)
    assert _play_to_the_end(view) == kept


def test_steps_go_both_ways_and_pause_stops(studied: Studied, look: Opener) -> None:
    node = studied.node("conv")
    view = look(studied, node)
    step, back, first = (
        view.root.get_by_role("button", name=n, exact=True) for n in ("Step", "Step back", "First")
    )
    step.click()
    step.click()
    back.click()
    assert view.heading() == f"Output at row 0, column 1, channel {studied.strongest(node)}"
    first.click()
    view.root.get_by_role("button", name="Play").click()
    view.root.get_by_role("button", name="Pause").click()
    stopped = view.heading()
    view.page.wait_for_timeout(700)
    assert view.heading() == stopped


def test_where_motion_is_unwanted_the_animation_begins_slowly(studied: Studied, look: Opener) -> None:
    view = look(studied, studied.node("conv"))
    assert "4 a second" in view.root.locator(".speed").inner_text()
    view.page.emulate_media(reduced_motion="reduce")
    view.page.reload()
    assert "0.5 a second" in view.root.locator(".speed").inner_text()


# ---- keyboard, address ----------------------------------------------------------------------------


def _tab_to(page: Any, selector: str) -> None:
    for _ in range(400):
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not reach {selector}")


def test_the_keyboard_alone_does_everything(studied: Studied, look: Opener) -> None:
    node = studied.node("conv")
    expected, allowed = studied.reference(node), studied.allowance(node)
    view = look(studied, node)
    page = view.page
    _tab_to(page, ".spreadsheet input[type=checkbox]")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    _tab_to(page, ".spreadsheet [aria-label=Step]")
    page.keyboard.press("Enter")
    _tab_to(page, ".spreadsheet [role=grid]")
    channel = studied.strongest(node)
    other, key = (channel + 1, "PageDown") if channel + 1 < node.shape[-1] else (channel - 1, "PageUp")
    for pressed in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", key, "ArrowRight"):
        page.keyboard.press(pressed)
    place = (2, 2, other)
    assert view.heading() == f"Output at row 2, column 2, channel {other}"
    assert view.total("value") == pytest.approx(expected[place], rel=0, abs=allowed[place])
    assert page.evaluate("document.activeElement.getAttribute('role')") == "grid"
    said = page.locator("#live").inner_text()
    assert said.startswith(f"row 2, column 2, channel {other}: ") and "engine's own" in said
    page.keyboard.press("Control+End")
    assert view.heading() == f"Output at row 6, column 5, channel {other}"
    _tab_to(page, ".spreadsheet [data-list=channels] button[aria-pressed=false]")
    wanted = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == wanted
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_the_address_is_read_and_written(studied: Studied, look: Opener) -> None:
    node = studied.node("conv")
    view = look(studied, node, "&at=4,3&channel=6")
    assert view.heading() == "Output at row 4, column 3, channel 6"
    view.root.locator(".output [data-place='1,2']").click()
    view.page.wait_for_url("**at=1,2**")
    assert view.page.evaluate("location.hash") == f"#layer={node.layer}&at=1,2&channel=6"


def test_a_position_that_was_not_kept_is_said_to_be(large: Studied, look: Opener) -> None:
    view = look(large, large.node("conv"), "&at=20,1&channel=3")
    note = view.root.locator("p.note").first.inner_text()
    assert "row 20, column 1" in note and "--at 20,1" in note


def test_a_layer_that_was_not_asked_for_says_how_to_keep_it(browser: Browser, tmp_path: Path) -> None:
    model = Model(_line_and_volume(), Device())
    x = [np.zeros((1, *s), np.float32) for s in model.input_shapes]
    first, second = (layer.name for layer in model.layers if layer.layer_class == "conv")
    path = model.study(x, layers=[first], repeats=1).save(tmp_path / "one.html")
    opened = browser.open(path, f"layer={second}")
    assert f"--layer {second}" in opened.page.locator(".arithmetic").inner_text()
    assert opened.page.locator(".spreadsheet").count() == 0
    assert opened.complaints == []
    opened.page.context.close()


@pytest.mark.parametrize("report", ["studied", "large", "line_and_volume"])
def test_on_a_phone_only_tables_scroll_sideways(
    report: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    opened = browser.open(request.getfixturevalue(report).page, width=320)
    for name in opened.evaluate("convcore.study.layers.map((layer) => layer.name)"):
        opened.evaluate("(name) => convcore.setRoute({ layer: name })", name)
        for numbers in opened.page.locator(".spreadsheet input.numbers").all():
            numbers.check()
        assert opened.evaluate("document.documentElement.scrollWidth") <= 320, name
    assert opened.complaints == []
    opened.page.context.close()


# ---- the scripts alone ----------------------------------------------------------------------------


def _script(name: str) -> str:
    return (resources.files("convcore.study") / "web" / f"{name}.js").read_text("utf-8")


@pytest.fixture(scope="module")
def geometry(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with window.js alone, its functions in `g`."""
    script = _script("window")
    names = re.findall(r"^function (\w+)", script, re.M)
    path = tmp_path_factory.mktemp("geometry") / "window.html"
    path.write_text(f"<script>const g = (() => {{{script} return {{{', '.join(names)}}};}})();</script>")
    opened = browser.open(path)
    yield opened
    assert opened.complaints == []
    opened.page.context.close()


AXES = [
    (i, k, s, d, pad)
    for i, k, s, d, pad in itertools.product(
        (4, 5, 7), (1, 2, 3), (1, 2, 3), (1, 2), ((0, 0), (1, 0), (1, 2))
    )
    if i + sum(pad) >= (k - 1) * d + 1
]


def test_windows_are_those_of_a_padded_array(geometry: Page) -> None:
    cases = [
        {"kernel": [k], "strides": [s], "dilation": [d], "padding": [pad], "size": i}
        for i, k, s, d, pad in AXES
    ]
    read = geometry.evaluate(
        """(cases) => cases.map((c) => {
            const [low, high] = c.padding[0];
            const extent = (c.kernel[0] - 1) * c.dilation[0] + 1;
            const outputs = Math.floor((c.size + low + high - extent) / c.strides[0]) + 1;
            return Array.from({length: outputs}, (_, o) => g.readWindow(c, [o], [c.size])
                .map((cell) => (cell.kind === "real" ? cell.at[0] : -1)));
        })""",
        cases,
    )
    for (i, k, s, d, (low, high)), windows in zip(AXES, read, strict=True):
        padded = np.pad(np.arange(i), (low, high), constant_values=-1)
        starts = range(0, len(padded) - (k - 1) * d, s)
        assert windows == [[int(padded[a + t * d]) for t in range(k)] for a in starts]


def test_gather_and_scatter_are_one_relation(geometry: Page) -> None:
    cases = [
        {"kernel": [k], "strides": [s], "dilation": [d], "padding": [[lo, hi]], "size": i}
        for i, k, s, d, (lo, hi) in AXES
    ]
    found = geometry.evaluate(
        """(cases) => cases.map((c) => {
            const [low, high] = c.padding[0];
            const outputs = (c.size - 1) * c.strides[0] + (c.kernel[0] - 1) * c.dilation[0] + 1 - low - high;
            const range = (n) => Array.from({length: Math.max(n, 0)}, (_, i) => i);
            const real = (cells, found) => cells.filter((cell) => cell.kind === "real").map(found);
            return {
                gathered: range(outputs).flatMap((q) =>
                    real(g.gatherWindow(c, [q], [c.size]), (cell) => [cell.at[0], cell.tap[0], q])),
                scattered: range(c.size).flatMap((i) =>
                    real(g.scatterWindow(c, [i], [outputs]), (cell) => [i, cell.tap[0], cell.at[0]])),
            };
        })""",
        cases,
    )
    for (i, k, s, d, (low, high)), both in zip(AXES, found, strict=True):
        outputs = (i - 1) * s + (k - 1) * d + 1 - low - high
        expected = [
            [x, t, q] for x in range(i) for t in range(k) if 0 <= (q := x * s + t * d - low) < outputs
        ]
        assert sorted(both["gathered"]) == sorted(both["scattered"]) == sorted(expected)


def test_moves_are_numpys(geometry: Page) -> None:
    x = np.arange(24).reshape(2, 3, 4)
    moved = {
        "reshape": ({"shape": [4, 6]}, x.reshape(4, 6)),
        "permute": ({"axes": [2, 0, 1]}, x.transpose(2, 0, 1)),
        "reverse": ({"axis": 1}, np.flip(x, 1)),
        "pad": (
            {"padding": [[1, 0], [0, 2], [1, 1]]},
            np.pad(x, ((1, 0), (0, 2), (1, 1)), constant_values=-1),
        ),
        "crop": ({"cropping": [[1, 0], [0, 1], [1, 1]]}, x[1:, :-1, 1:-1]),
        "upsample": ({"size": [2, 3]}, reference.upsample(x[None], (2, 3))[0]),
        "identity": ({}, x),
    }
    for operation, (attributes, expected) in moved.items():
        found = geometry.evaluate(
            """({node, shape}) => g.everyIndex(node.shape).map((index) => {
                const source = g.movedFrom(node, index, [shape]);
                return source === null ? -1 : g.ravel(source.index, shape);
            })""",
            {
                "node": {"operation": operation, "attributes": attributes, "shape": list(expected.shape)},
                "shape": list(x.shape),
            },
        )
        assert found == expected.ravel().tolist(), operation


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_resizing_reads_the_references_pixels(geometry: Page, interpolation: str) -> None:
    x = np.random.default_rng(2).standard_normal((1, 5, 7, 1))
    for size in ((10, 14), (8, 3), (5, 9)):
        found = geometry.evaluate(
            """({node, sizes}) =>
                g.everyIndex(node.attributes.size).map((p) => g.resizedFrom(node, p, sizes))""",
            {"node": {"attributes": {"size": list(size), "interpolation": interpolation}}, "sizes": [5, 7]},
        )
        mixed = [sum(x[0, *cell["at"], 0] * cell["weight"] for cell in cells) for cells in found]
        assert mixed == pytest.approx(reference.resize(x, size, interpolation).ravel(), rel=1e-13, abs=1e-14)
