"""A graph as it is looked at: channels last throughout, and every value with at least one axis.

The loader keeps the layout of a channels-first file, and puts ``permute`` nodes around what its kernels
compute channels last. To whoever looks, a map's channels are its channels wherever the file has them: here
those nodes are gone, and everything between two of them is turned to channels last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcore.loader.graph import Graph, Node

__all__ = ["View", "view_of"]

_POINTWISE = frozenset(
    {"activation", "affine", "prelu", "batch_norm", "softmax", "identity", "concatenate", "pad", "crop"}
    | {"add", "subtract", "multiply", "average", "maximum", "minimum"}
)


class View(NamedTuple):
    """A graph to look at, and which of its nodes the file has channels first. Some of the file's may be gone.

    Examples
    --------
    >>> from convcore.bench import sonar_mlp
    >>> view_of(sonar_mlp()).turned
    frozenset()
    """

    graph: Graph
    turned: frozenset[str]

    def value(self, name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one example's value of the node `name`, which has no batch axis, as the view has it."""
        if name in self.turned:
            return np.ascontiguousarray(np.moveaxis(value, 0, -1))
        return value.reshape(1) if value.ndim == 0 else value


def view_of(graph: Graph) -> View:
    """Return how `graph` is looked at; where its layouts cannot be told apart, as it is."""
    turned = _turned(graph)
    source: dict[str, str] = {}  # what to read instead of a node that is gone
    nodes = []
    for node in graph.nodes:
        read = tuple(source.get(name, name) for name in node.inputs)
        if (node.name in turned and _to_first(node)) or (_to_last(node) and node.inputs[0] in turned):
            source[node.name] = read[0]
        else:
            nodes.append(replace(_node(node, turned), inputs=read))
    view = replace(
        graph,
        nodes=tuple(nodes),
        outputs=tuple(source.get(name, name) for name in graph.outputs),
        layers=tuple(x._replace(node=source.get(x.node, x.node)) for x in graph.layers),
    )
    return View(view, turned - set(source))


def _to_first(node: Node) -> bool:
    """Whether the loader moves the last axis to the front; what a Permute layer does is the model's own."""
    rank = len(node.shape)
    return _by_loader(node) and _axes(node) == (rank - 1, *range(rank - 1))


def _to_last(node: Node) -> bool:
    return _by_loader(node) and _axes(node) == (*range(1, len(node.shape)), 0)


def _by_loader(node: Node) -> bool:
    return node.operation == "permute" and node.layer_class != "Permute" and len(node.shape) > 1


def _axes(node: Node) -> tuple[int, ...]:
    return tuple(node.attributes["axes"])


def _turned(graph: Graph) -> frozenset[str]:
    """Nodes whose channels come first: between two permutes, or between one and an input."""
    turned = {n.name for n in graph.nodes if _to_first(n)}
    turned |= {n.inputs[0] for n in graph.nodes if _to_last(n) and _may_turn(graph.node(n.inputs[0]))}
    grown = True
    while grown:
        joined = {
            name
            for n in graph.nodes
            if n.operation in _POINTWISE and turned & {n.name, *n.inputs}
            for name in (n.name, *n.inputs)
            if _may_turn(graph.node(name))
        }
        grown = not joined <= turned
        turned |= joined
    for node in graph.nodes:
        if not turned & set(node.inputs) or node.operation == "reshape" or _to_last(node):
            continue
        ranks = {len(graph.node(name).shape) for name in (node.name, *node.inputs)}
        if node.operation not in _POINTWISE or len(ranks) > 1 or not turned >= {node.name, *node.inputs}:
            return frozenset()
    return frozenset(turned)


def _may_turn(node: Node) -> bool:
    return len(node.shape) > 1 and (
        node.operation in _POINTWISE or node.operation == "input" or _to_first(node)
    )


def _node(node: Node, turned: frozenset[str]) -> Node:
    """The node as the view has it."""
    if node.name not in turned:
        return node if node.shape else replace(node, shape=(1,))
    shape = (*node.shape[1:], node.shape[0])
    rank = len(node.shape)
    attributes: dict[str, Any] = dict(node.attributes)
    if "axis" in attributes:
        attributes["axis"] = (attributes["axis"] % rank - 1) % rank
    for name in ("padding", "cropping", "shape"):
        if name in attributes:
            attributes[name] = (*attributes[name][1:], attributes[name][0])
    weights = node.weights
    if node.operation in ("prelu", "affine"):
        weights = {name: _turned_weight(w, rank) for name, w in node.weights.items()}
    return replace(node, shape=shape, attributes=attributes, weights=weights)


def _turned_weight(weight: Any, rank: int) -> NDArray[np.float32]:
    """A weight that broadcasts from the last axis of a channels-first value, for the turned one."""
    array = np.asarray(weight, np.float32)
    return np.moveaxis(array.reshape((1,) * (rank - array.ndim) + array.shape), 0, -1)
