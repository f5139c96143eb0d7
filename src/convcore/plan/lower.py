"""One function per graph operation: which kernels compute it, on which views.

A value is a contiguous channels-last array of one image's floats, or a map with blocked channels (see
layout.py); several values may share storage (a reshape is another view of the same floats).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from convcore import activations
from convcore.errors import UnsupportedLayerError
from convcore.loader.graph import Node
from convcore.loader.lazy import Weight
from convcore.plan.data import Value, View
from convcore.plan.fuse import Group, batch_norm_affine, is_depthwise
from convcore.plan.layout import BLOCK

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


Halo = tuple[tuple[int, int], ...]
NO_HALO: Halo = ((0, 0),) * 3


class Lowering:
    """Collects drafts, the shape of every value, and which values share storage.

    `blocked` names the values with blocked channels, `halos` the zeros around those that have any.
    `accepts` says whether the library takes a draft.
    """

    def __init__(
        self,
        accuracy: str,
        blocked: Collection[str] = (),
        halos: Mapping[str, Halo] = MappingProxyType({}),
        accepts: Callable[[Draft], bool] = lambda draft: True,
    ) -> None:
        self.accuracy = accuracy
        self.blocked = frozenset(blocked)
        self._halos = halos
        self._accepts = accepts
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
        shape = tuple(int(n) for n in group.nodes[-1].shape if n is not None)
        self.shapes[group.output] = shape
        self.storage.setdefault(group.output, group.output)
        if group.output in self._halos:
            self.emit("border", [], self.spatial(group.output))
        lower(self, group.node)

    @property
    def values(self) -> dict[str, Value]:
        """Every value with storage of its own."""
        return {name: self._value(name) for name in self.shapes if self.storage[name] == name}

    def _value(self, name: str) -> Value:
        shape = self.shapes[name]
        if name not in self.blocked:
            return Value(shape, math.prod(shape))
        view = self._blocked(name)
        return Value(shape, view.ld[0], True, view.halo)

    # ---- views ----------------------------------------------------------------------------------

    def view(self, value: str, shape: Sequence[int]) -> View:
        """The whole plain value, as a contiguous array of `shape` whose first axis is the batch's."""
        assert value not in self.blocked, f"{value} is blocked"
        return View(self.storage[value], tuple(shape), contiguous(shape))

    def spatial(self, value: str) -> View:
        """The value as (1, d, h, w, c)."""
        if value in self.blocked:
            return self._blocked(value)
        return self.view(value, self._spatial_shape(value))

    def _spatial_shape(self, value: str) -> Shape:
        shape = self.shapes[value]
        return (1, *(1,) * (4 - len(shape)), *shape)

    def _blocked(self, value: str) -> View:
        shape, halo = self._spatial_shape(value), self._halos.get(value, NO_HALO)
        sides = [low + n + high for n, (low, high) in zip(shape[1:4], halo, strict=True)]
        ld = (sides[1] * sides[2] * BLOCK, sides[2] * BLOCK, BLOCK)
        ld_block = sides[0] * ld[0]
        offset = sum(low * step for (low, _), step in zip(halo, ld, strict=True))
        image = -(-shape[4] // BLOCK) * ld_block
        return View(self.storage[value], shape, (image, *ld, 1), offset, ld_block, halo)

    def by_channel(self, value: str) -> View:
        """The value for operations on each channel alone.

        A plain one is (1, d, h, w, c). In a blocked one the blocks of an image follow each other as images
        do, so it is (blocks, d, h, w, 16).
        """
        if value not in self.blocked:
            return self.spatial(value)
        v = self._blocked(value)
        blocks = v.ld[0] // v.ld_block
        return View(v.value, (blocks, *v.shape[1:4], BLOCK), (v.ld_block, *v.ld[1:]), v.offset)

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

    def temporary(self, suffix: str, shape: Shape, *, like: str | None = None) -> str:
        """A value for one step's use; laid out as the value `like` is, or plain."""
        name = f"{self._group.output}/{suffix}"
        self.shapes[name] = shape
        self.storage[name] = name
        if like in self.blocked:
            self.blocked |= {name}
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

    def emit_if_accepted(self, draft: Draft) -> bool:
        """Take the draft if the library has a kernel for it."""
        accepted = self._accepts(draft)
        if accepted:
            self.drafts.append(draft)
        return accepted

    @property
    def out(self) -> str:
        return self._group.output

    @property
    def group(self) -> Group:
        return self._group

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
    if is_depthwise(node):
        _weighted_window(to, node, "depthwise_conv")
        return
    options: dict[str, Any] = {"groups": int(node.attributes["groups"]), "accuracy": to.accuracy}
    pool = to.group.pool
    if pool is None:
        _weighted_window(to, node, **options)
    elif not to.emit_if_accepted(_window_draft(to, node, to.out, pool=2, **options)):
        before = to.temporary("before pooling", tuple(int(n or 0) for n in node.shape), like=to.out)
        to.drafts.append(_window_draft(to, node, before, **options))
        _pool_from(to, pool, before)


def _window_draft(to: Lowering, node: Node, output: str, operation: str = "", **fields: Any) -> Draft:
    """A convolution of any kind: by default the one that the node is named after."""
    kernel = node.weights["kernel"]
    options = {"activation": to.activation, **_window(node, kernel.shape[:-2]), **fields}
    source, target = to.spatial(node.inputs[0]), to.spatial(output)
    name = operation or node.operation
    return Draft(name, (source,), target, to.group, options, kernel, node.weights.get("bias"))


def _weighted_window(to: Lowering, node: Node, operation: str = "", **fields: Any) -> None:
    to.drafts.append(_window_draft(to, node, to.out, operation, **fields))


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
    _pool_from(to, node, node.inputs[0])


def _pool_from(to: Lowering, node: Node, source: str) -> None:
    to.emit(
        node.operation,
        [to.by_channel(source)],
        to.by_channel(to.out),
        include_padding=bool(node.attributes.get("include_padding", False)),
        **_window(node, node.attributes["pool_size"]),
    )


def _global_pool(to: Lowering, node: Node) -> None:
    source = to.by_channel(node.inputs[0])
    to.emit(node.operation, [source], to.view(to.out, (source.shape[0], 1, 1, 1, source.shape[-1])))


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
    view = to.by_channel if to.out in to.blocked else to.flat
    to.emit("activation", [view(node.inputs[0])], view(to.out), activation=native)


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

    def operand(value: str) -> View:
        return to.by_channel(value) if value in to.blocked else to.broadcast(value, shape)

    def result_view(value: str) -> View:
        return to.by_channel(value) if value in to.blocked else to.whole(value)

    value = node.inputs[0]
    for i, other in enumerate(node.inputs[1:], start=2):
        last = i == len(node.inputs) and not average
        result = to.out if last else to.temporary(f"{binary}{i}", shape, like=to.out)
        to.emit(
            "binary",
            [operand(value), operand(other)],
            result_view(result),
            binary=binary,
            activation=to.activation if last else activations.LINEAR,
        )
        value = result
    if average:
        target = result_view(to.out)
        count = to.constant(f"{to.out}/count", np.array(1.0 / len(node.inputs)), target.shape[1:])
        count = View(count.value, target.shape, (0,) * len(target.shape))
        to.emit("binary", [result_view(value), count], target, binary="multiply")
    elif len(node.inputs) == 1:
        to.emit("copy", [result_view(value)], result_view(to.out))


def _concatenate(to: Lowering, node: Node) -> None:
    at = 0
    if to.out in to.blocked:
        whole = to.spatial(to.out)
        for value in node.inputs:
            # Of one image: (1, blocks, d, h, w, 16), for an image's blocks are not alone in the result.
            part = to.spatial(value)
            blocks = part.ld[0] // part.ld_block
            shape = (1, blocks, *part.shape[1:4], BLOCK)
            source = View(part.value, shape, (part.ld[0], part.ld_block, *part.ld[1:]), part.offset)
            ld = (whole.ld[0], whole.ld_block, *whole.ld[1:])
            to.emit("copy", [source], View(whole.value, shape, ld, whole.offset + at * whole.ld_block))
            at += blocks
        return
    axis = node.attributes["axis"] % len(node.shape)
    whole = to.whole(to.out)
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
    source, target = to.by_channel(node.inputs[0]), to.by_channel(to.out)
    shape, x_ld, y_ld = [source.shape[0]], [source.ld[0]], [target.ld[0]]
    sizes = (*(1,) * (3 - len(node.attributes["size"])), *node.attributes["size"])
    for n, s, t, times in zip(source.shape[1:4], source.ld[1:4], target.ld[1:4], sizes, strict=True):
        shape += [n, times]
        x_ld += [s, 0]
        y_ld += [t * times, t]
    shape.append(source.shape[-1])
    x_ld.append(1)
    y_ld.append(1)
    # At most 8 axes: without those of length 1, of which the batch's is none.
    kept = [0, *(a for a in range(1, len(shape)) if shape[a] > 1)]

    def view(of: View, ld: Sequence[int]) -> View:
        return View(of.value, tuple(shape[a] for a in kept), tuple(ld[a] for a in kept), of.offset)

    to.emit("copy", [view(source, x_ld)], view(target, y_ld))


def _resize(to: Lowering, node: Node) -> None:
    source, target = to.by_channel(node.inputs[0]), to.by_channel(to.out)
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
