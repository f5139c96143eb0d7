"""Which nodes become one kernel call.

Three rules, all exact in real arithmetic: a batch normalisation behind a convolution or dense layer
folds into its weights; an elementwise activation runs on a result while it is still in registers or
in the L1 cache; two permutations in a row are one, or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from convcore import activations
from convcore.loader.graph import Graph, Node
from convcore.loader.lazy import LazyArray

#: Operations whose kernel can apply an activation to its result.
_TAKES_ACTIVATION = frozenset(
    {
        "conv",
        "depthwise_conv",
        "conv_transpose",
        "dense",
        "batch_norm",
        "affine",
        "add",
        "subtract",
        "multiply",
        "maximum",
        "minimum",
    }
)
#: Axis of the kernel that counts output channels. Depthwise kernels have two: (k..., ic, multiplier).
_OUTPUT_AXIS = {"conv": -1, "dense": -1, "conv_transpose": -2}


@dataclass(frozen=True)
class Group:
    """A node with what was fused into it. The result is the value named `output`."""

    node: Node
    activation: activations.Native
    output: str
    nodes: tuple[Node, ...]


def batch_norm_affine(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 (scale, offset) with ``batch_norm(x) = x * scale + offset``."""
    w = {k: v.astype(np.float64) for k, v in node.weights.items()}
    scale = w.get("gamma", np.float64(1.0)) / np.sqrt(w["variance"] + node.attributes["epsilon"])
    return scale, w.get("beta", np.float64(0.0)) - w["mean"] * scale


def _fold_batch_norm(node: Node, norm: Node) -> Node:
    """Return `node` with weights that make it compute ``norm(node(x))``."""
    scale, offset = batch_norm_affine(norm)
    kernel = node.weights["kernel"]
    if node.operation == "depthwise_conv":
        factor = scale.reshape(kernel.shape[-2:])
    else:
        shape = [1] * kernel.ndim
        shape[_OUTPUT_AXIS[node.operation]] = -1
        factor = scale.reshape(shape)
    # Not before it is packed: the kernel may still be in its file, and stay there.
    folded = LazyArray(kernel.shape, lambda: (kernel.astype(np.float64) * factor).astype(np.float32))
    bias = node.weights["bias"].astype(np.float64) * scale if "bias" in node.weights else 0.0
    weights = {"kernel": folded, "bias": (bias + offset).astype(np.float32)}
    return replace(node, weights=weights)


def _folds(node: Node, norm: Node) -> bool:
    last = norm.attributes["axis"] in (-1, len(norm.shape) - 1)
    return last and (node.operation in _OUTPUT_AXIS or node.operation == "depthwise_conv")


def without_needless_permutes(graph: Graph) -> tuple[Mapping[str, str], Mapping[str, Node]]:
    """Merge chains of permutations.

    Returns
    -------
    alias, nodes
        Values that are just another value, and permutations that now start from an earlier one.
    """
    alias: dict[str, str] = {}
    merged: dict[str, Node] = {}
    for node in graph.nodes:
        if node.operation != "permute":
            continue
        source = alias.get(node.inputs[0], node.inputs[0])
        axes = tuple(node.attributes["axes"])
        if source in merged:
            before = merged[source]
            axes = tuple(before.attributes["axes"][a] for a in axes)
            source = before.inputs[0]
        if axes == tuple(range(len(axes))):
            alias[node.name] = source
        else:
            merged[node.name] = replace(node, inputs=(source,), attributes={"axes": axes})
    return alias, merged


def fuse(graph: Graph, *, enabled: bool = True) -> list[Group]:
    """Group the nodes of `graph`, in an order that can be executed.

    With ``enabled=False`` every node stays alone: what a trace needs.
    """
    alias: Mapping[str, str] = {}
    merged: Mapping[str, Node] = {}
    if enabled:
        alias, merged = without_needless_permutes(graph)
    nodes = []
    for node in graph.nodes:
        if node.name in alias and node.name not in graph.outputs:
            continue
        node = merged.get(node.name, node)
        nodes.append(replace(node, inputs=tuple(alias.get(i, i) for i in node.inputs)))
    uses = Counter(i for n in nodes for i in n.inputs) + Counter(graph.outputs)
    needed = _reachable(nodes, graph.outputs)
    consumer = {i: n for n in nodes if n.name in needed for i in n.inputs}

    def sole_consumer(name: str) -> Node | None:
        return consumer.get(name) if enabled and uses[name] == 1 else None

    groups: list[Group] = []
    taken: set[str] = set()
    for node in nodes:
        if node.name in taken or node.name not in needed:
            continue
        parts = [node]
        head, activation = node, activations.LINEAR
        norm = sole_consumer(head.name)
        if norm is not None and norm.operation == "batch_norm" and _folds(head, norm):
            head = _fold_batch_norm(head, norm)
            parts.append(norm)
        last = sole_consumer(parts[-1].name)
        if last is not None and last.operation == "activation" and head.operation in _TAKES_ACTIVATION:
            activation = activations.native(
                last.attributes["kind"], last.attributes["parameters"], last.layer
            )
            parts.append(last)
        taken.update(p.name for p in parts)
        groups.append(Group(head, activation, parts[-1].name, tuple(parts)))
    return groups


def _reachable(nodes: list[Node], outputs: tuple[str, ...]) -> set[str]:
    needed = set(outputs)
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
        elif node.operation == "input":
            needed.add(node.name)
    return needed
