"""One function per graph operation: which kernels compute it, on which views.

A value is a contiguous channels-last array of one image's floats; several values may share storage
(a reshape is another view of the same floats).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convcore import activations
from convcore.errors import UnsupportedLayerError
from convcore.loader.graph import Node
from convcore.loader.lazy import Weight
from convcore.plan.data import View
from convcore.plan.fuse import Group, batch_norm_affine

Shape = tuple[int, ...]


@dataclass
class Draft:
    """A step before the library has chosen its algorithm and packed its weights."""

    operation: str
    inputs: tuple[View, ...]
    output: View
    group: Group | None
    options: dict[str, Any] = field(default_factory=dict)
    weights: Weight | None = None
    bias: Weight | None = None


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Memory steps of a C-ordered array, in elements."""
    ld = [1] * len(shape)
    for a in range(len(shape) - 2, -1, -1):
        ld[a] = ld[a + 1] * shape[a + 1]
    return tuple(ld)


class Lowering:
    """Collects drafts, the shape of every value, and which values share storage."""

    def __init__(self, accuracy: str) -> None:
        # "fast" will add F(6x6); until there is one, it is "standard".
        self.accuracy = "direct" if accuracy == "direct" else "standard"
        self.drafts: list[Draft] = []
        self.shapes: dict[str, Shape] = {}
        self.storage: dict[str, str] = {}
        self.constants: dict[str, np.ndarray] = {}
        self._group: Group

    def add(self, group: Group) -> None:
        """Lower one group; its result is the value ``group.output``."""
        self._group = group
        lower = _LOWER.get(group.node.operation)
        if lower is None:
            node = group.node
            raise UnsupportedLayerError(
                node.layer or node.name, "no kernel for this operation", got=node.operation
            )
        shape = tuple(int(n) for n in group.node.shape if n is not None)
        self.shapes[group.output] = shape
        self.storage.setdefault(group.output, group.output)
        lower(self, group.node)

    # ---- views ----------------------------------------------------------------------------------

    def view(self, value: str, shape: Sequence[int]) -> View:
        """The whole value, seen as a contiguous array of `shape` whose first axis is the batch's."""
        return View(self.storage[value], tuple(shape), contiguous(shape))

    def spatial(self, value: str) -> View:
        """The value as (1, d, h, w, c)."""
        shape = self.shapes[value]
        return self.view(value, (1, *(1,) * (4 - len(shape)), *shape))

    def rows(self, value: str) -> View:
        """The value as (rows, c), c its last axis."""
        shape = self.shapes[value]
        return self.view(value, (math.prod(shape[:-1]), shape[-1]))

    def flat(self, value: str) -> View:
        """The value as (elements,)."""
        return self.view(value, (math.prod(self.shapes[value]),))

    def whole(self, value: str) -> View:
        """The value in its own shape, behind a batch axis."""
        return self.view(value, (1, *self.shapes[value]))

    def broadcast(self, value: str, shape: Shape) -> View:
        """The value stretched to (1, *shape) by NumPy's rule: memory steps of 0."""
        own = self.shapes[value]
        padded = (*(1,) * (len(shape) - len(own)), *own)
        steps = contiguous((1, *own))[1:]
        ld = tuple(
            0 if n == 1 else s for n, s in zip(padded, (0,) * (len(shape) - len(own)) + steps, strict=True)
        )
        return View(self.storage[value], (1, *shape), (math.prod(own), *ld))

    def constant(self, name: str, array: Weight, shape: Shape) -> View:
        """A constant stretched to (1, *shape), the same for every image of a batch."""
        held = np.ascontiguousarray(array, dtype=np.float32)
        self.constants[name] = held
        wide = np.broadcast_to(held, shape)
        return View(name, (1, *shape), (0, *(s // held.itemsize for s in wide.strides)))

    def temporary(self, suffix: str, shape: Shape) -> str:
        name = f"{self._group.output}/{suffix}"
        self.shapes[name] = shape
        self.storage[name] = name
        return name

    # ---- drafts ---------------------------------------------------------------------------------

    def emit(
        self,
        operation: str,
        inputs: Sequence[View],
        output: View,
        *,
        weights: Weight | None = None,
        bias: Weight | None = None,
        **options: Any,
    ) -> None:
        self.drafts.append(Draft(operation, tuple(inputs), output, self._group, options, weights, bias))

    @property
    def out(self) -> str:
        return self._group.output

    @property
    def activation(self) -> activations.Native:
        return self._group.activation

    def share(self, node: Node) -> None:
        """The result is the input, under another shape."""
        self.storage[self.out] = self.storage[node.inputs[0]]


def _triple(values: Sequence[int], fill: int) -> tuple[int, ...]:
    return (*(fill,) * (3 - len(values)), *(int(v) for v in values))


def _window(node: Node, size: Sequence[int]) -> dict[str, Any]:
    a = node.attributes
    return {
        "kernel": _triple(size, 1),
        "stride": _triple(a["strides"], 1),
        "dilation": _triple(a.get("dilation", (1,) * len(size)), 1),
        "pad_low": _triple([low for low, _ in a["padding"]], 0),
    }


def _conv(to: Lowering, node: Node) -> None:
    kernel = node.weights["kernel"]
    groups = int(node.attributes["groups"])
    depthwise = groups > 1 and kernel.shape[-2] == 1 and kernel.shape[-1] == groups
    _weighted_window(to, node, "depthwise_conv" if depthwise else "conv", groups=groups, accuracy=to.accuracy)


def _weighted_window(to: Lowering, node: Node, operation: str = "", **fields: Any) -> None:
    """Emit a convolution of any kind: by default the one that the node is named after."""
    kernel = node.weights["kernel"]
    to.emit(
        operation or node.operation,
        [to.spatial(node.inputs[0])],
        to.spatial(to.out),
        weights=kernel,
        bias=node.weights.get("bias"),
        activation=to.activation,
        **_window(node, kernel.shape[:-2]),
        **fields,
    )


def _dense(to: Lowering, node: Node) -> None:
    to.emit(
        "dense",
        [to.rows(node.inputs[0])],
        to.rows(to.out),
        weights=node.weights["kernel"],
        bias=node.weights.get("bias"),
        activation=to.activation,
    )


def _pool(to: Lowering, node: Node) -> None:
    to.emit(
        node.operation,
        [to.spatial(node.inputs[0])],
        to.spatial(to.out),
        include_padding=bool(node.attributes.get("include_padding", False)),
        **_window(node, node.attributes["pool_size"]),
    )


def _global_pool(to: Lowering, node: Node) -> None:
    channels = to.shapes[node.inputs[0]][-1]
    to.emit(node.operation, [to.spatial(node.inputs[0])], to.view(to.out, (1, 1, 1, 1, channels)))


def _scale_and_shift(to: Lowering, node: Node, scale: np.ndarray, offset: np.ndarray) -> None:
    """y = x * scale + offset, both broadcast against one image's shape."""
    shape = to.shapes[to.out]
    channels = shape[-1]
    if all(a.size == 1 or (a.shape[-1:] == (channels,) and a.size == channels) for a in (scale, offset)):
        to.emit(
            "affine",
            [to.rows(node.inputs[0])],
            to.rows(to.out),
            weights=np.broadcast_to(scale.reshape(-1), (channels,)),
            bias=np.broadcast_to(offset.reshape(-1), (channels,)),
            activation=to.activation,
        )
        return
    scaled = to.temporary("scaled", shape)
    to.emit(
        "binary",
        [to.whole(node.inputs[0]), to.constant(f"{to.out}/scale", scale, shape)],
        to.whole(scaled),
        binary="multiply",
    )
    to.emit(
        "binary",
        [to.whole(scaled), to.constant(f"{to.out}/offset", offset, shape)],
        to.whole(to.out),
        binary="add",
        activation=to.activation,
    )


def _batch_norm(to: Lowering, node: Node) -> None:
    shape = [1] * len(node.shape)
    shape[node.attributes["axis"]] = -1
    scale, offset = batch_norm_affine(node)
    _scale_and_shift(to, node, np.reshape(scale, shape), np.reshape(offset, shape))


def _affine(to: Lowering, node: Node) -> None:
    _scale_and_shift(to, node, np.asarray(node.weights["scale"]), np.asarray(node.weights["offset"]))


def _activation(to: Lowering, node: Node) -> None:
    native = activations.native(node.attributes["kind"], node.attributes["parameters"], node.layer)
    to.emit("activation", [to.flat(node.inputs[0])], to.flat(to.out), activation=native)


def _prelu(to: Lowering, node: Node) -> None:
    slopes = to.constant(f"{to.out}/alpha", node.weights["alpha"], to.shapes[to.out])
    to.emit("binary", [to.whole(node.inputs[0]), slopes], to.whole(to.out), binary="prelu")


def _softmax(to: Lowering, node: Node) -> None:
    shape = to.shapes[to.out]
    axis = node.attributes["axis"] % len(shape)
    if axis == len(shape) - 1:
        to.emit("softmax", [to.rows(node.inputs[0])], to.rows(to.out))
        return
    order = [a for a in range(len(shape)) if a != axis] + [axis]
    moved = tuple(shape[a] for a in order)
    before, after = to.temporary("moved", moved), to.temporary("softmax", moved)
    source, target = to.whole(node.inputs[0]), to.whole(to.out)
    to.emit("copy", [_permuted(source, order)], to.whole(before))
    to.emit("softmax", [to.rows(before)], to.rows(after))
    to.emit("copy", [to.whole(after)], _permuted(target, order))


def _permuted(view: View, order: Sequence[int]) -> View:
    """`view` with its axes (without the batch's) in another order."""
    axes = [0, *(a + 1 for a in order)]
    return View(view.value, tuple(view.shape[a] for a in axes), tuple(view.ld[a] for a in axes), view.offset)


def _merge(to: Lowering, node: Node) -> None:
    """Left to right: ((a + b) + c) + ..., each broadcast to the result's shape."""
    shape = to.shapes[to.out]
    binary = {"average": "add"}.get(node.operation, node.operation)
    average = node.operation == "average"
    value = node.inputs[0]
    for i, other in enumerate(node.inputs[1:], start=2):
        last = i == len(node.inputs) and not average
        result = to.out if last else to.temporary(f"{binary}{i}", shape)
        to.emit(
            "binary",
            [to.broadcast(value, shape), to.broadcast(other, shape)],
            to.whole(result),
            binary=binary,
            activation=to.activation if last else activations.LINEAR,
        )
        value = result
    if average:
        count = to.constant(f"{to.out}/count", np.array(1.0 / len(node.inputs)), shape)
        to.emit("binary", [to.whole(value), count], to.whole(to.out), binary="multiply")
    elif len(node.inputs) == 1:
        to.emit("copy", [to.whole(value)], to.whole(to.out))


def _concatenate(to: Lowering, node: Node) -> None:
    axis = node.attributes["axis"] % len(node.shape)
    whole = to.whole(to.out)
    at = 0
    for value in node.inputs:
        part = to.whole(value)
        to.emit("copy", [part], View(whole.value, part.shape, whole.ld, at * whole.ld[axis + 1]))
        at += to.shapes[value][axis]


def _same_floats(to: Lowering, node: Node) -> None:
    to.share(node)


def _permute(to: Lowering, node: Node) -> None:
    to.emit("copy", [_permuted(to.whole(node.inputs[0]), node.attributes["axes"])], to.whole(to.out))


def _reverse(to: Lowering, node: Node) -> None:
    source = to.whole(node.inputs[0])
    axis = node.attributes["axis"] % len(node.shape) + 1
    ld = list(source.ld)
    ld[axis] = -ld[axis]
    start = (source.shape[axis] - 1) * source.ld[axis]
    to.emit("copy", [View(source.value, source.shape, tuple(ld), start)], to.whole(to.out))


def _pad(to: Lowering, node: Node) -> None:
    source, whole = to.whole(node.inputs[0]), to.whole(to.out)
    start = sum(low * s for (low, _), s in zip(node.attributes["padding"], whole.ld[1:], strict=True))
    to.emit("fill", [], whole, value=0.0)
    to.emit("copy", [source], View(whole.value, source.shape, whole.ld, start))


def _crop(to: Lowering, node: Node) -> None:
    source, whole = to.whole(node.inputs[0]), to.whole(to.out)
    start = sum(low * s for (low, _), s in zip(node.attributes["cropping"], source.ld[1:], strict=True))
    to.emit("copy", [View(source.value, whole.shape, source.ld, start)], whole)


def _upsample(to: Lowering, node: Node) -> None:
    """Every pixel is read `size` times along an axis: a copy with a memory step of 0."""
    source = to.whole(node.inputs[0])
    shape, x_ld = [1], [source.ld[0]]
    for n, s, times in zip(source.shape[1:-1], source.ld[1:-1], node.attributes["size"], strict=True):
        shape += [n, times]
        x_ld += [s, 0]
    shape.append(source.shape[-1])
    x_ld.append(1)
    target = to.view(to.out, shape)
    to.emit("copy", [View(source.value, tuple(shape), tuple(x_ld))], target)


def _resize(to: Lowering, node: Node) -> None:
    source, target = to.spatial(node.inputs[0]), to.spatial(to.out)
    linear = node.attributes["interpolation"] == "bilinear"
    scale = [n / m for n, m in zip(source.shape[1:4], target.shape[1:4], strict=True)]
    if not linear:
        scale = [float(np.float32(s)) for s in scale]  # as TensorFlow rounds it; see resize.c
    # Half-pixel centres: (o + 1/2) * scale - 1/2, or for nearest the pixel that (o + 1/2) * scale is in.
    offset = [0.5 * s - 0.5 if linear else 0.5 * s for s in scale]
    to.emit("resize", [source], target, linear=linear, resize_scale=scale, resize_offset=offset)


_LOWER: Mapping[str, Callable[[Lowering, Node], None]] = {
    "conv": _conv,
    "depthwise_conv": _weighted_window,
    "conv_transpose": _weighted_window,
    "dense": _dense,
    "max_pool": _pool,
    "average_pool": _pool,
    "global_max_pool": _global_pool,
    "global_average_pool": _global_pool,
    "batch_norm": _batch_norm,
    "affine": _affine,
    "activation": _activation,
    "prelu": _prelu,
    "softmax": _softmax,
    "add": _merge,
    "subtract": _merge,
    "multiply": _merge,
    "average": _merge,
    "maximum": _merge,
    "minimum": _merge,
    "concatenate": _concatenate,
    "reshape": _same_floats,
    "identity": _same_floats,
    "permute": _permute,
    "reverse": _reverse,
    "pad": _pad,
    "crop": _crop,
    "upsample": _upsample,
    "resize": _resize,
}
