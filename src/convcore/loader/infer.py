"""Shapes: what every operation makes of its inputs' shapes, with dimensions still open or not.

The loader, the check and :func:`specialise` all ask :func:`resolve`, so a shape has one source. While
a spatial size is open (``None``), a padding that depends on it stays the word it was in the file
("same", or "theano_same"); :func:`specialise` gives the sizes and makes it pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convcore import shapes as arithmetic
from convcore.errors import ArgumentError, ModelFormatError
from convcore.loader import limits
from convcore.loader.graph import Graph, Layer, Node, Shape
from convcore.loader.lazy import Weight

__all__ = ["resolve", "specialise"]

Attributes = dict[str, Any]
Weights = Mapping[str, Weight]
Result = tuple[Attributes, Shape]
_THEANO_SAME = "theano_same"


def resolve(
    operation: str, attributes: Mapping[str, Any], weights: Weights, inputs: Sequence[Shape], where: str
) -> Result:
    """Return the attributes with every padding that can be known as pairs, and the output's shape.

    Parameters
    ----------
    operation, attributes, weights
        As in :class:`~convcore.loader.graph.Node`; ``padding`` may also be a word.
    inputs
        Shapes of the inputs, without the batch axis.
    where
        File and layer, for errors.

    Raises
    ------
    ModelFormatError
        The inputs do not fit the operation or its weights.

    Examples
    --------
    >>> resolve("reshape", {"shape": (6,)}, {}, [(2, 3)], "here")
    ({'shape': (6,)}, (6,))
    """
    rule = _RULES.get(operation)
    if rule is None:
        raise ModelFormatError(where, "unknown operation", got=operation)
    try:
        resolved, shape = rule(dict(attributes), weights, list(inputs))
    except ArgumentError as error:
        raise ModelFormatError(where, error.problem, got=error.got, expected=error.expected) from error
    except _MisfitError as misfit:
        raise ModelFormatError(where, str(misfit), got=tuple(inputs)) from None
    limits.check_shape(shape, where)
    return resolved, shape


def specialise(graph: Graph, input_shapes: Sequence[Shape] | Mapping[str, Shape]) -> Graph:
    """Return `graph` for these input shapes: every shape, padding and size worked out again.

    Parameters
    ----------
    graph
        A graph, with open dimensions or without.
    input_shapes
        One shape per input without the batch axis, in the order of ``graph.inputs`` or by name.

    Raises
    ------
    ArgumentError
        A shape does not fit its input, or there are not as many as inputs.
    ModelFormatError
        A layer cannot work on what it would get.

    Examples
    --------
    >>> from convcore import data
    >>> from convcore.loader import load_graph
    >>> graph = load_graph(data.path("sonar_baseline.keras"))
    >>> specialise(graph, [(60,)]).node(graph.outputs[0]).shape
    (1,)
    """
    given = input_shapes if isinstance(input_shapes, Mapping) else dict(_pair(graph, input_shapes))
    known: dict[str, Shape] = {}
    nodes = []
    for node in graph.nodes:
        attributes = dict(node.attributes)
        if node.operation == "input":
            attributes["shape"] = _concrete(node, given)
        where = f"{graph.source.path}: layer {node.layer!r}"
        inputs = [known[name] for name in node.inputs]
        attributes, shape = resolve(node.operation, attributes, node.weights, inputs, where)
        known[node.name] = shape
        nodes.append(replace(node, attributes=attributes, shape=shape))
    layers = tuple(
        Layer(layer.name, layer.layer_class, layer.node, known[layer.node], layer.parameters)
        for layer in graph.layers
    )
    return replace(graph, nodes=tuple(nodes), layers=layers)


def _pair(graph: Graph, shapes: Sequence[Shape]) -> Sequence[tuple[str, Shape]]:
    if len(shapes) != len(graph.inputs):
        raise ArgumentError(
            "specialise", "number of shapes", got=len(shapes), expected=f"{len(graph.inputs)}: {graph.inputs}"
        )
    return list(zip(graph.inputs, shapes, strict=True))


def _concrete(node: Node, given: Mapping[str, Shape]) -> Shape:
    shape = given.get(node.name)
    fits = shape is not None and len(shape) == len(node.shape)
    if not fits or any(old not in (None, new) for old, new in zip(node.shape, shape or (), strict=True)):
        raise ArgumentError("specialise", f"shape of input {node.name!r}", got=shape, expected=node.shape)
    return tuple(shape or ())


class _MisfitError(Exception):
    """The inputs do not fit; :func:`resolve` adds where."""


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise _MisfitError(problem)


def _one(inputs: list[Shape]) -> Shape:
    _need(len(inputs) == 1, f"takes one input, has {len(inputs)}")
    return inputs[0]


def _spatial(inputs: list[Shape], rank: int) -> tuple[tuple[int | None, ...], int]:
    """Spatial sizes and channels of the one input, which must have `rank` spatial axes."""
    shape = _one(inputs)
    _need(len(shape) == rank + 1, f"takes {rank + 1} axes without the batch")
    channels = shape[-1]
    _need(channels is not None, "the number of channels is open")
    assert channels is not None
    return shape[:-1], channels


# Windows: convolution and pooling


def _theano_same(sizes: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], low: Any) -> Any:
    """Theano's idea of "same": a fixed number of zeros on the low side, then ceil(i / s) windows."""
    pairs = []
    for size, k, stride in zip(sizes, window, strides, strict=True):
        before = low(k)
        pairs.append((before, max((-(-size // stride) - 1) * stride + k - size - before, 0)))
    return tuple(pairs)


def _theano_conv_low(k: int) -> int:
    return k // 2


def _theano_pool_low(k: int) -> int:
    return k - 2 if k > 2 and k % 2 else k - 1


def _axes(
    attributes: Attributes,
    sizes: tuple[int | None, ...],
    strides: tuple[int, ...],
    pairs_of: Callable[[Any, tuple[int, ...]], Any],
    output_of: Callable[[tuple[int, ...], Any], tuple[int, ...]],
) -> tuple[int | None, ...]:
    """Resolve ``padding`` if it can be known, and return the output sizes (None where open)."""
    padding = attributes["padding"]
    is_open = any(size is None for size in sizes)
    if not is_open:
        concrete = tuple(size or 0 for size in sizes)
        attributes["padding"] = pairs_of(padding, concrete)
        return output_of(concrete, attributes["padding"])
    if isinstance(padding, str) and padding not in ("same", _THEANO_SAME):
        attributes["padding"] = pairs_of(padding, (1,) * len(sizes))  # does not depend on the size
    if isinstance(padding, str) and padding in ("same", _THEANO_SAME):
        return tuple(None if n is None else -(-n // s) for n, s in zip(sizes, strides, strict=True))
    # A stand-in that is surely large enough, to let the known axes through the same arithmetic.
    stand_in = tuple(1 << 20 if n is None else n for n in sizes)
    output = output_of(stand_in, attributes["padding"])
    return tuple(None if n is None else o for n, o in zip(sizes, output, strict=True))


def _conv_sizes(
    attributes: Attributes, sizes: tuple[int | None, ...], kernel: tuple[int, ...]
) -> tuple[int | None, ...]:
    strides, dilation = attributes["strides"], attributes["dilation"]
    window = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))

    def pairs_of(padding: Any, concrete: tuple[int, ...]) -> Any:
        if padding == _THEANO_SAME:
            return _theano_same(concrete, window, strides, _theano_conv_low)
        return arithmetic.conv_padding(padding, concrete, kernel, strides, dilation, "convolution")

    def output_of(concrete: tuple[int, ...], pairs: Any) -> tuple[int, ...]:
        return arithmetic.conv_output(concrete, kernel, strides, dilation, pairs, "convolution")

    return _axes(attributes, sizes, strides, pairs_of, output_of)


def _conv(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    *kernel, depth, filters = weights["kernel"].shape
    sizes, channels = _spatial(inputs, len(kernel))
    groups = attributes["groups"]
    _need(channels == depth * groups and filters % groups == 0, f"takes {depth * groups} channels")
    return attributes, (*_conv_sizes(attributes, sizes, tuple(kernel)), filters)


def _depthwise(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    *kernel, depth, multiplier = weights["kernel"].shape
    sizes, channels = _spatial(inputs, len(kernel))
    _need(channels == depth, f"takes {depth} channels")
    return attributes, (*_conv_sizes(attributes, sizes, tuple(kernel)), depth * multiplier)


def _transpose(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    *kernel, filters, depth = weights["kernel"].shape
    sizes, channels = _spatial(inputs, len(kernel))
    _need(channels == depth, f"takes {depth} channels")
    strides, dilation = attributes["strides"], attributes["dilation"]
    if isinstance(attributes["padding"], str):
        # What is cut off does not depend on the input's size, so any size shows it.
        attributes["padding"], _ = arithmetic.conv_transpose_geometry(
            (64,) * len(kernel), tuple(kernel), strides, dilation, attributes["padding"],
            attributes.pop("output_padding", None), "transposed convolution",
        )  # fmt: skip
    output = tuple(
        None if n is None else (n - 1) * s + (k - 1) * d + 1 - low - high
        for n, k, s, d, (low, high) in zip(
            sizes, kernel, strides, dilation, attributes["padding"], strict=True
        )
    )
    _need(all(n is None or n >= 1 for n in output), "leaves nothing of the output")
    attributes["output_size"] = output
    return attributes, (*output, filters)


def _pool(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    size, strides = attributes["pool_size"], attributes["strides"]
    sizes, channels = _spatial(inputs, len(size))

    def pairs_of(padding: Any, concrete: tuple[int, ...]) -> Any:
        if padding == _THEANO_SAME:
            return _theano_same(concrete, size, strides, _theano_pool_low)
        return arithmetic.pool_padding(padding, concrete, size, strides, "pooling")

    def output_of(concrete: tuple[int, ...], pairs: Any) -> tuple[int, ...]:
        return arithmetic.pool_output(concrete, size, strides, pairs, "pooling")

    return attributes, (*_axes(attributes, sizes, strides, pairs_of, output_of), channels)


def _global_pool(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    _need(len(shape) in (2, 3, 4), "takes 1, 2 or 3 spatial axes and channels")
    kept = (1,) * (len(shape) - 1) if attributes["keepdims"] else ()
    return attributes, (*kept, shape[-1])


# Arithmetic


def _dense(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    depth, units = weights["kernel"].shape
    _need(bool(shape) and shape[-1] == depth, f"takes {depth} features")
    return attributes, (*shape[:-1], units)


def _along(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    """Batch normalisation and softmax: the shape stays, the axis must exist."""
    shape = _one(inputs)
    axis = attributes["axis"]
    _need(0 <= axis < len(shape), f"has no axis {axis}")
    _need(all(w.shape == (shape[axis],) for w in weights.values()), f"weights do not fit axis {axis}")
    return attributes, shape


def _elementwise(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    shape = _one(inputs)
    for array in weights.values():
        _need(_broadcast([shape, array.shape]) == shape, f"weights {array.shape} do not fit")
    return attributes, shape


def _broadcast(shapes: list[Shape]) -> Shape:
    """NumPy's broadcasting, where an open dimension meets only 1 or another open or known one."""
    rank = max(map(len, shapes))
    result: list[int | None] = []
    for sizes in zip(*[(1,) * (rank - len(s)) + s for s in shapes], strict=True):
        known = {n for n in sizes if n not in (None, 1)}
        _need(len(known) <= 1, "shapes do not broadcast")
        result.append(known.pop() if known else (None if None in sizes else 1))
    return tuple(result)


def _combine(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    _need(bool(inputs), "takes at least one input")
    return attributes, _broadcast(inputs)


def _concatenate(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    axis = attributes["axis"]
    _need(bool(inputs) and len({len(s) for s in inputs}) == 1, "inputs have different numbers of axes")
    _need(0 <= axis < len(inputs[0]), f"has no axis {axis}")
    result: list[int | None] = []
    for position, sizes in enumerate(zip(*inputs, strict=True)):
        known = {n for n in sizes if n is not None}
        if position == axis:
            result.append(None if None in sizes else sum(n for n in sizes if n is not None))
        else:
            _need(len(known) <= 1, f"inputs differ on axis {position}")
            result.append(known.pop() if known else None)
    return attributes, tuple(result)


# Layout


def _reshape(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    """At most one target dimension may be None (worked out); it stays None if the input is open."""
    shape, target = _one(inputs), attributes["shape"]
    _need(target.count(None) <= 1, "more than one open dimension")
    if None in shape:
        _need(None in target, "an open input cannot take a fixed shape")
        return attributes, target
    total = math.prod(n for n in shape if n is not None)
    rest = math.prod(n for n in target if n is not None)
    if None in target and rest and total % rest == 0:
        target = tuple(total // rest if n is None else n for n in target)
    _need(None not in target and math.prod(target) == total, f"cannot become {target}")
    return attributes, target


def _permute(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    shape, axes = _one(inputs), attributes["axes"]
    _need(sorted(axes) == list(range(len(shape))), f"axes {axes} do not fit")
    return attributes, tuple(shape[a] for a in axes)


def _pad(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    return attributes, _borders(_one(inputs), attributes["padding"], 1)


def _crop(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    return attributes, _borders(_one(inputs), attributes["cropping"], -1)


def _borders(shape: Shape, pairs: Any, sign: int) -> Shape:
    _need(len(pairs) == len(shape), f"has {len(pairs)} pairs")
    result = tuple(
        None if n is None else n + sign * (low + high) for n, (low, high) in zip(shape, pairs, strict=True)
    )
    _need(all(n is None or n >= 1 for n in result), f"leaves nothing: {result}")
    return result


def _upsample(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    sizes, channels = _spatial(inputs, len(attributes["size"]))
    scaled = (None if n is None else n * f for n, f in zip(sizes, attributes["size"], strict=True))
    return attributes, (*scaled, channels)


def _resize(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    """To `size`; where that is None, the input's size times `factor`."""
    sizes, channels = _spatial(inputs, 2)
    if "factor" in attributes:
        scaled = tuple(None if n is None else n * f for n, f in zip(sizes, attributes["factor"], strict=True))
        attributes["size"] = scaled
        if None not in scaled:
            del attributes["factor"]
    return attributes, (*attributes["size"], channels)


def _input(attributes: Attributes, weights: Weights, inputs: list[Shape]) -> Result:
    return attributes, attributes["shape"]


_RULES: dict[str, Callable[[Attributes, Weights, list[Shape]], Result]] = {
    "input": _input,
    "conv": _conv,
    "depthwise_conv": _depthwise,
    "conv_transpose": _transpose,
    "dense": _dense,
    "max_pool": _pool,
    "average_pool": _pool,
    "global_max_pool": _global_pool,
    "global_average_pool": _global_pool,
    "batch_norm": _along,
    "softmax": _along,
    "reverse": _along,
    "affine": _elementwise,
    "activation": _elementwise,
    "prelu": _elementwise,
    "identity": _elementwise,
    "add": _combine,
    "subtract": _combine,
    "multiply": _combine,
    "average": _combine,
    "maximum": _combine,
    "minimum": _combine,
    "concatenate": _concatenate,
    "reshape": _reshape,
    "permute": _permute,
    "pad": _pad,
    "crop": _crop,
    "upsample": _upsample,
    "resize": _resize,
}
