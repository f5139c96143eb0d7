"""Run a whole graph through the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcore.errors import ArgumentError
from convcore.reference import convolution, layers, pooling, resampling
from convcore.reference.activations import ACTIVATIONS

if TYPE_CHECKING:  # the reference stands beside the loader, not above it
    from convcore.loader.graph import Graph, Node

Array = NDArray[np.float64]


def _with_batch(axis: int) -> int:
    """A node's axes count without the batch; negative ones count from the end and stay."""
    return axis + 1 if axis >= 0 else axis


def _conv(node: Node, x: Array) -> Array:
    return convolution.conv(x, node.weights["kernel"], node.weights.get("bias"), **node.attributes)


def _depthwise_conv(node: Node, x: Array) -> Array:
    return convolution.depthwise_conv(x, node.weights["kernel"], node.weights.get("bias"), **node.attributes)


def _conv_transpose(node: Node, x: Array) -> Array:
    return convolution.conv_transpose(x, node.weights["kernel"], node.weights.get("bias"), **node.attributes)


def _batch_norm(node: Node, x: Array) -> Array:
    axis, epsilon = _with_batch(node.attributes["axis"]), node.attributes["epsilon"]
    return layers.batch_norm(x, **node.weights, axis=axis, epsilon=epsilon)


def _activation(node: Node, x: Array) -> Array:
    return ACTIVATIONS[node.attributes["kind"]](x, **node.attributes["parameters"])


def _reshape(node: Node, x: Array) -> Array:
    return x.reshape(x.shape[0], *(-1 if d is None else d for d in node.attributes["shape"]))


def _crop(node: Node, x: Array) -> Array:
    cropping = node.attributes["cropping"]
    kept = (slice(lo, d - hi) for d, (lo, hi) in zip(x.shape[1:], cropping, strict=True))
    return x[(slice(None), *kept)]


def _nary(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda node, *inputs: reduce(function, inputs)


_OPERATIONS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "conv": _conv,
        "depthwise_conv": _depthwise_conv,
        "conv_transpose": _conv_transpose,
        "dense": lambda node, x: layers.dense(x, node.weights["kernel"], node.weights.get("bias")),
        "max_pool": lambda node, x: pooling.max_pool(x, **node.attributes),
        "average_pool": lambda node, x: pooling.average_pool(x, **node.attributes),
        "global_max_pool": lambda node, x: pooling.global_max_pool(x, **node.attributes),
        "global_average_pool": lambda node, x: pooling.global_average_pool(x, **node.attributes),
        "batch_norm": _batch_norm,
        "affine": lambda node, x: layers.affine(x, node.weights["scale"], node.weights["offset"]),
        "activation": _activation,
        "prelu": lambda node, x: layers.prelu(x, node.weights["alpha"]),
        "softmax": lambda node, x: layers.softmax(x, _with_batch(node.attributes["axis"])),
        "add": _nary(np.add),
        "subtract": _nary(np.subtract),
        "multiply": _nary(np.multiply),
        "average": lambda node, *inputs: reduce(np.add, inputs) / len(inputs),
        "maximum": _nary(np.maximum),
        "minimum": _nary(np.minimum),
        "concatenate": lambda node, *inputs: np.concatenate(inputs, _with_batch(node.attributes["axis"])),
        "reshape": _reshape,
        "permute": lambda node, x: x.transpose(0, *(_with_batch(a) for a in node.attributes["axes"])),
        "reverse": lambda node, x: np.flip(x, _with_batch(node.attributes["axis"])),
        "pad": lambda node, x: np.pad(x, ((0, 0), *node.attributes["padding"])),
        "crop": _crop,
        "upsample": lambda node, x: resampling.upsample(x, node.attributes["size"]),
        "resize": lambda node, x: resampling.resize(x, **node.attributes),
        "identity": lambda node, x: x,
    }
)


def evaluate_node(node: Node, *inputs: ArrayLike) -> Array:
    """Return the output of one node (not an ``input``) on arrays with the batch as axis 0."""
    if node.operation not in _OPERATIONS:
        raise ArgumentError(
            "reference.evaluate",
            f"unknown operation in node {node.name}",
            got=node.operation,
            expected=", ".join(_OPERATIONS),
        )
    return _OPERATIONS[node.operation](node, *(np.asarray(x, np.float64) for x in inputs))


def _input(node: Node, inputs: Mapping[str, ArrayLike]) -> Array:
    if node.name not in inputs:
        raise ArgumentError("reference.evaluate", f"no value for input {node.name}", got=sorted(inputs))
    x = np.asarray(inputs[node.name], np.float64)
    expected: Sequence[Any] = (None, *node.shape)
    if x.ndim != len(expected) or any(e not in (None, d) for d, e in zip(x.shape, expected, strict=True)):
        raise ArgumentError("reference.evaluate", f"input {node.name}", got=x.shape, expected=expected)
    return x


def evaluate(graph: Graph, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Return the output of every node of `graph`, by name, in float64.

    Parameters
    ----------
    graph
        A network; its nodes are in an order that can be executed.
    inputs
        One array per input node, by the node's name, with the batch as axis 0.

    Raises
    ------
    ArgumentError
        An input is missing or of the wrong shape, or a node has an operation not defined here.

    Examples
    --------
    >>> from convcore.loader.graph import Graph, Node, Source
    >>> nodes = (Node("x", "input", (), (2,)), Node("y", "softmax", ("x",), (2,), {"axis": -1}))
    >>> graph = Graph("demo", nodes, ("x",), ("y",), (), Source("", "", ""))
    >>> evaluate(graph, {"x": [[0.0, 0.0]]})["y"]
    array([[0.5, 0.5]])
    """
    values: dict[str, Array] = {}
    for node in graph.nodes:
        if node.operation == "input":
            values[node.name] = _input(node, inputs)
            continue
        values[node.name] = evaluate_node(node, *(values[name] for name in node.inputs))
    return values
