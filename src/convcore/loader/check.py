"""Checks that a graph is what :mod:`convcore.loader.graph` promises. The loader ends with this."""

from __future__ import annotations

import math
import warnings

import numpy as np

from convcore.errors import ConvcoreWarning, ModelFormatError
from convcore.loader import limits
from convcore.loader.graph import OPERATIONS, Graph, Node, Shape
from convcore.loader.infer import resolve
from convcore.loader.lazy import LazyArray

__all__ = ["check_graph"]


def check_graph(graph: Graph) -> None:
    """Check names, order, attributes, weights and shapes of every node.

    Raises
    ------
    ModelFormatError
        The graph breaks a promise; the message names the layer.

    Warns
    -----
    ConvcoreWarning
        A weight is NaN or infinite: the model will run, and give what it gives. Large weights that are
        still in their file are looked at when a plan packs them.

    Examples
    --------
    >>> from convcore import data
    >>> from convcore.loader import load_graph
    >>> check_graph(load_graph(data.path("sonar_baseline.keras")))
    """
    where = graph.source.path
    if len(graph.nodes) > limits.NODES:
        raise ModelFormatError(where, "too many nodes", got=len(graph.nodes), expected=limits.NODES)
    shapes: dict[str, Shape] = {}
    for node in graph.nodes:
        at = f"{where}: layer {node.layer!r} ({node.layer_class})"
        if node.name in shapes:
            raise ModelFormatError(at, "two nodes have the same name", got=node.name)
        unknown = [name for name in node.inputs if name not in shapes]
        if unknown:
            raise ModelFormatError(at, "inputs that no earlier node makes", got=unknown)
        _check_attributes(node, at)
        _check_weights(node, at)
        _check_shape(node, [shapes[name] for name in node.inputs], at)
        shapes[node.name] = node.shape
    ends = [*graph.inputs, *graph.outputs, *(layer.node for layer in graph.layers)]
    lost = [name for name in ends if name not in shapes]
    if lost or not graph.inputs or not graph.outputs:
        raise ModelFormatError(where, "inputs, outputs or layers without a node", got=lost)
    inputs = {node.name for node in graph.nodes if node.operation == "input"}
    if inputs != set(graph.inputs):
        raise ModelFormatError(where, "inputs", got=sorted(inputs), expected=graph.inputs)


def _check_attributes(node: Node, at: str) -> None:
    expected = OPERATIONS.get(node.operation)
    if expected is None:
        raise ModelFormatError(at, "unknown operation", got=node.operation)
    missing = set(expected) - set(node.attributes)
    if missing:
        raise ModelFormatError(at, f"{node.operation} without attributes", got=sorted(missing))


def _check_weights(node: Node, at: str) -> None:
    for name, array in node.weights.items():
        if array.dtype != np.float32:
            raise ModelFormatError(at, f"type of weight {name!r}", got=array.dtype, expected="float32")
        if isinstance(array, LazyArray):
            continue  # looked at when it is packed
        # The sum of finite numbers may overflow, but a NaN or infinity always shows in it.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not math.isfinite(float(array.sum(dtype=np.float64)))
        if suspicious and not np.isfinite(array).all():
            warnings.warn(f"{at}: weight {name!r} holds NaN or infinity", ConvcoreWarning, stacklevel=4)


def _check_shape(node: Node, inputs: list[Shape], at: str) -> None:
    attributes, shape = resolve(node.operation, node.attributes, node.weights, inputs, at)
    if shape != node.shape or attributes != dict(node.attributes):
        raise ModelFormatError(at, "shape", got=node.shape, expected=shape)
