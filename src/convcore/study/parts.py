"""Which numbers of a network a report keeps exactly: of every operation some channels and some positions.

Only geometry is here, no numbers: for the kept output positions and channels of a node, which part of each
input they are computed from. What a window reads beyond the input is padding, and not part of it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from convcore.errors import ArgumentError
from convcore.loader.graph import Graph, Node

__all__ = ["Block", "InputPart", "NodePart", "Selection", "check_selection", "choose_parts"]

#: A node whose inputs, outputs and weights are no larger than this is kept whole, if all of them can be.
_WHOLE_BYTES = 64 << 10
#: What one block may need of one input; beyond it, the outputs alone are kept.
_INPUT_BYTES = 512 << 10
#: What all nodes together may need: base64 makes 4/3 of it.
_ALL_BYTES = 9 << 20
#: Positions and channels kept of a node: the first that all nodes together have room for.
_AMOUNTS = ((64, 8), (16, 8), (16, 4), (4, 4), (4, 2), (1, 1))

#: Positions of a block of 32, by the number of spatial axes; half as many along the last until it fits.
_BLOCK_SHAPES = {0: (), 1: (32,), 2: (4, 8), 3: (2, 4, 4)}

_WINDOWS = frozenset({"conv", "depthwise_conv", "max_pool", "average_pool"})
_POINTWISE = frozenset(
    {"activation", "affine", "prelu", "batch_norm", "identity"}
    | {"add", "subtract", "multiply", "average", "maximum", "minimum"}
)


@dataclass(frozen=True)
class Selection:
    """What is asked for; empty means the default.

    Attributes
    ----------
    layers
        Names of the layers that are kept exactly; by default all.
    channels
        Their output channels; by default the first 4, and the 4 others with the strongest response.
    at
        Output positions to keep as well, each with its surroundings; a position has one index for each
        spatial axis.

    Raises
    ------
    ArgumentError
        A channel or an index that is no whole number.

    Examples
    --------
    >>> Selection(channels=np.array([0, 3])).channels
    (0, 3)
    """

    layers: Sequence[str] = ()
    channels: Sequence[int] = ()
    at: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        layers = (self.layers,) if isinstance(self.layers, str) else self.layers
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "channels", _whole_numbers(self.channels, "channels"))
        object.__setattr__(self, "at", tuple(_whole_numbers(place, "position") for place in self.at))


def _whole_numbers(values: Sequence[int], name: str) -> tuple[int, ...]:
    try:
        return tuple(operator.index(v) for v in values)
    except TypeError:
        raise ArgumentError("study", name, got=values, expected="whole numbers") from None


class InputPart(NamedTuple):
    """A box of an input's positions, and its channels (all of them where None)."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    channels: tuple[int, ...] | None

    def take(self, value: np.ndarray) -> np.ndarray:
        """Return this part of `value`, which has no batch axis."""
        box = value[tuple(slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))]
        return box if self.channels is None else box[..., list(self.channels)]

    def count(self, shape: Sequence[int | None]) -> int:
        """How many numbers that is, of an input of `shape`."""
        channels = len(self.channels) if self.channels is not None else int(shape[-1] or 0)
        return math.prod(self.size) * channels


class Block(NamedTuple):
    """A box of output positions, and what of every input it needs; None where that is not kept."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    inputs: tuple[InputPart | None, ...]


class Amount(NamedTuple):
    """How much of a node is kept where it is too large to be kept whole.

    `positions` are in two blocks: one in the first corner, where padding is seen, one around the strongest
    response. Half of the `channels` are the first ones, half those with the strongest response.
    """

    positions: int
    channels: int
    whole_bytes: int


class NodePart(NamedTuple):
    """What is kept of a node: output channels, and blocks of output positions."""

    channels: tuple[int, ...]
    blocks: tuple[Block, ...]
    whole: bool


def choose_parts(
    graph: Graph, values: Mapping[str, np.ndarray], selection: Selection
) -> tuple[dict[str, NodePart], Amount]:
    """Choose what is kept of every node: 64 positions and 8 channels, or fewer if that is above 9 MiB.

    Parameters
    ----------
    graph
        A graph whose sizes are all known.
    values
        Every node's output for one example, without the batch axis.

    Raises
    ------
    ArgumentError
        See :func:`check_selection`.
    """
    chosen = check_selection(graph, selection)
    whole_bytes = min(_WHOLE_BYTES, _ALL_BYTES // max(len(chosen), 1))
    for positions, channels in _AMOUNTS:
        amount = Amount(positions, channels, whole_bytes)
        parts = {node.name: _node_part(graph, node, values, selection, amount) for node in chosen}
        if sum(_bytes(graph, graph.node(name), part) for name, part in parts.items()) <= _ALL_BYTES:
            break
    return parts, amount


def check_selection(graph: Graph, selection: Selection) -> list[Node]:
    """Return the nodes that `selection` is about. The name of a layer used several times is about every use.

    Raises
    ------
    ArgumentError
        A layer, a channel or a position that the network does not have.
    """
    nodes = [n for n in graph.nodes if n.operation != "input"]
    if selection.layers:
        uses = {n.layer: re.sub(r":\d+$", "", n.layer) for n in nodes}
        for name in selection.layers:
            if name not in uses and name not in uses.values():
                computing = [layer.name for layer in graph.layers if layer.name in uses]
                raise ArgumentError("study", "layer", got=name, expected=_some(computing))
        nodes = [n for n in nodes if {n.layer, uses[n.layer]} & set(selection.layers)]
    for channel in selection.channels:
        if not any(0 <= channel < _channels(node) for node in nodes):
            most = max(map(_channels, nodes), default=0)
            raise ArgumentError("study", "channel", got=channel, expected=f"0 to {most - 1}")
    for place in selection.at:
        if not any(_inside(place, node) for node in nodes):
            shapes = sorted({_spatial(node) for node in nodes if _spatial(node)}, reverse=True)
            expected = "a position in an output of " + _some([" x ".join(map(str, s)) for s in shapes])
            raise ArgumentError("study", "position", got=place, expected=expected)
    return nodes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(int(n or 0) for n in node.shape)


def _spatial(node: Node) -> tuple[int, ...]:
    return _shape(node)[:-1]


def _channels(node: Node) -> int:
    return _shape(node)[-1] if node.shape else 1


def _inside(place: Sequence[int], node: Node) -> bool:
    sizes = _spatial(node)
    return len(place) == len(sizes) and all(0 <= p < n for p, n in zip(place, sizes, strict=True))


# ---- one node -------------------------------------------------------------------------------------


def _node_part(
    graph: Graph, node: Node, values: Mapping[str, np.ndarray], selection: Selection, amount: Amount
) -> NodePart:
    inputs = [graph.node(name) for name in node.inputs]
    arrays = [*(math.prod(_shape(n)) for n in (node, *inputs)), *(w.size for w in node.weights.values())]
    value = values[node.name]
    if 4 * sum(arrays) <= amount.whole_bytes:
        channels = tuple(range(_channels(node)))
        boxes = [((0,) * len(_spatial(node)), _spatial(node))]
        whole = True
    else:
        channels = _some_channels(value, selection.channels, amount.channels)
        boxes = _boxes(node, value[..., list(channels)], selection.at, amount.positions)
        whole = False
    blocks = []
    for start, size in boxes:
        needed = _needed(node, inputs, start, size, channels)
        kept = tuple(
            part if part is not None and 4 * part.count(n.shape) <= _INPUT_BYTES else None
            for part, n in zip(needed, inputs, strict=True)
        )
        blocks.append(Block(start, size, kept))
    return NodePart(channels, tuple(blocks), whole)


def _bytes(graph: Graph, node: Node, part: NodePart) -> int:
    outputs = sum(math.prod(block.size) for block in part.blocks) * len(part.channels)
    inputs = sum(
        given.count(graph.node(name).shape)
        for block in part.blocks
        for given, name in zip(block.inputs, node.inputs, strict=True)
        if given is not None
    )
    weights = sum(w.size for w in node.weights.values()) * len(part.channels) // max(_channels(node), 1)
    return 4 * (outputs + inputs + weights)


def _some_channels(value: np.ndarray, asked: Sequence[int], number: int) -> tuple[int, ...]:
    count = value.shape[-1]
    if asked:
        return tuple(sorted({c for c in asked if c < count})) or tuple(range(min(count, number)))
    half = number // 2
    peaks = np.nan_to_num(value.reshape(-1, count).max(axis=0), nan=-np.inf)
    first = range(min(half, count))
    strongest = [int(c) for c in np.argsort(-peaks, kind="stable") if c >= half][: number - half]
    return tuple(sorted({*first, *strongest}))


def _boxes(
    node: Node, value: np.ndarray, at: Sequence[Sequence[int]], positions: int
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Boxes (start, size) of output positions: a corner, round the strongest response, round every `at`."""
    sizes = _spatial(node)
    if math.prod(sizes) <= positions:
        return [((0,) * len(sizes), sizes)]
    shape = list(_BLOCK_SHAPES.get(len(sizes), (1,) * len(sizes)))
    while math.prod(shape) > max(positions // 2, 1):
        longest = max(range(len(shape)), key=lambda axis: shape[axis])
        shape[longest] //= 2
    size = tuple(min(a, b) for a, b in zip(shape, sizes, strict=True))
    peaks = np.nan_to_num(value, nan=-np.inf).max(axis=-1)
    strongest = tuple(int(p) for p in np.unravel_index(int(np.argmax(peaks)), sizes))
    boxes = [((0,) * len(sizes), size)]
    for place in (strongest, *(p for p in at if _inside(p, node))):
        start = tuple(
            int(min(max(p - n // 2, 0), whole - n)) for p, n, whole in zip(place, size, sizes, strict=True)
        )
        if (start, size) not in boxes:
            boxes.append((start, size))
    return boxes


# ---- what of its inputs a node needs --------------------------------------------------------------


def _needed(
    node: Node,
    inputs: Sequence[Node],
    start: tuple[int, ...],
    size: tuple[int, ...],
    channels: tuple[int, ...],
) -> list[InputPart | None]:
    """Which part of each input the outputs at these positions and channels are computed from.

    None for operations that only move numbers about: which one goes where is no arithmetic.
    """
    operation = node.operation
    if operation in _POINTWISE:
        return [_broadcast(node, x, start, size, channels) for x in inputs]
    if operation == "dense":
        return [InputPart(start, size, None)]
    if operation == "softmax":
        last = node.attributes["axis"] in (-1, len(node.shape) - 1)
        return [InputPart(start, size, None) if last else None]
    if operation in ("global_max_pool", "global_average_pool"):
        whole = _spatial(inputs[0])
        return [InputPart((0,) * len(whole), whole, channels)]
    if operation == "concatenate":
        return _concatenated(node, inputs, start, size, channels)
    reach = _reach(node, inputs)
    if reach is None:
        return [None] * len(inputs)
    lows, sizes = [], []
    for axis, (first, count, n) in enumerate(zip(start, size, _spatial(inputs[0]), strict=True)):
        low = min(max(reach(axis, first)[0], 0), n)
        high = min(max(reach(axis, first + count - 1)[1], low), n)
        lows.append(low)
        sizes.append(high - low)
    return [InputPart(tuple(lows), tuple(sizes), _input_channels(node, inputs[0], channels))]


def _reach(node: Node, inputs: Sequence[Node]) -> Callable[[int, int], tuple[int, int]] | None:
    """Return a function of (axis, output index) to the first input index, and the one after the last."""
    a, operation = node.attributes, node.operation
    if operation in _WINDOWS:
        window = a["pool_size"] if "pool_size" in a else node.weights["kernel"].shape
        dilation = a.get("dilation", (1,) * len(node.shape))

        def windowed(axis: int, o: int) -> tuple[int, int]:
            low = o * a["strides"][axis] - a["padding"][axis][0]
            return low, low + (window[axis] - 1) * dilation[axis] + 1

        return windowed
    if operation == "conv_transpose":
        kernel = node.weights["kernel"].shape

        def gathered(axis: int, o: int) -> tuple[int, int]:
            # Input i adds to i s .. i s + (k - 1) d of the full output, which `padding` crops.
            full, stride = o + a["padding"][axis][0], a["strides"][axis]
            return -((a["dilation"][axis] * (kernel[axis] - 1) - full) // stride), full // stride + 1

        return gathered
    if operation == "upsample":
        return lambda axis, o: (o // a["size"][axis], o // a["size"][axis] + 1)
    if operation == "resize":
        scale = [n / m for n, m in zip(_spatial(inputs[0]), _spatial(node), strict=True)]

        def resampled(axis: int, o: int) -> tuple[int, int]:
            low = math.floor((o + 0.5) * scale[axis] - 0.5)
            return low, low + 2

        return resampled
    if operation in ("pad", "crop"):
        sides = a["padding"] if operation == "pad" else a["cropping"]
        sign = -1 if operation == "pad" else 1
        if tuple(sides[-1]) != (0, 0):
            return None  # of the channels, too
        return lambda axis, o: (o + sign * sides[axis][0], o + sign * sides[axis][0] + 1)
    return None


def _input_channels(node: Node, x: Node, channels: tuple[int, ...]) -> tuple[int, ...] | None:
    if node.operation == "depthwise_conv":
        multiplier = node.weights["kernel"].shape[-1]
        return tuple(sorted({c // multiplier for c in channels}))
    if node.operation == "conv_transpose":
        return None
    if node.operation == "conv":
        groups = node.attributes["groups"]
        if groups == 1:
            return None
        outputs, read = _channels(node) // groups, _channels(x) // groups
        return tuple(g * read + i for g in sorted({c // outputs for c in channels}) for i in range(read))
    return channels


def _broadcast(
    node: Node, x: Node, start: tuple[int, ...], size: tuple[int, ...], channels: tuple[int, ...]
) -> InputPart:
    """NumPy's broadcasting: axes are aligned from the last, and an axis of length 1 is repeated."""
    sizes, lows, counts = _spatial(x), [], []
    for axis, n in enumerate(sizes):
        mine = axis - len(sizes) + len(start)
        repeated = n == 1 and _spatial(node)[mine] != 1
        lows.append(0 if repeated else start[mine])
        counts.append(1 if repeated else size[mine])
    return InputPart(tuple(lows), tuple(counts), (0,) if _channels(x) == 1 else channels)


def _concatenated(
    node: Node,
    inputs: Sequence[Node],
    start: tuple[int, ...],
    size: tuple[int, ...],
    channels: tuple[int, ...],
) -> list[InputPart | None]:
    if node.attributes["axis"] not in (-1, len(node.shape) - 1):
        return [None] * len(inputs)
    parts: list[InputPart | None] = []
    before = 0
    for x in inputs:
        mine = tuple(c - before for c in channels if before <= c < before + _channels(x))
        parts.append(InputPart(start, size, mine))
        before += _channels(x)
    return parts
