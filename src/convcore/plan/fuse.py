"""Which nodes become one kernel call.

The rules, all exact in real arithmetic: a batch normalisation behind a convolution or dense layer folds
into its weights; a scaling of the input folds into the weights of the convolution that reads it; zeros
padded around a map are a convolution's own padding; an elementwise activation runs on a result while it is
still in registers or in the L1 cache, and so does 2x2 max-pooling; two permutations in a row are one, or
none; what only hands a value on vanishes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from convcore import activations
from convcore.loader.graph import Graph, Node
from convcore.loader.lazy import LazyArray, Weight

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
#: Of inputs that are scaled to about -1 to 1.
_LARGEST_SHIFT = 2.0
#: Axis of the kernel that counts output channels. Depthwise kernels have two: (k..., ic, multiplier).
_OUTPUT_AXIS = {"conv": -1, "dense": -1, "conv_transpose": -2}


class Group(NamedTuple):
    """A node with what was fused into it. The result is the value named `output`.

    `pool` is a 2x2 max-pooling at the end of it, if the kernel chosen can do that; `before_pool` is the
    name of what it would otherwise read.
    """

    node: Node
    activation: activations.Native
    output: str
    nodes: tuple[Node, ...]
    pool: Node | None = None
    before_pool: str = ""


def is_depthwise(node: Node) -> bool:
    """Whether a convolution has as many groups as channels: another kernel computes it."""
    kernel = node.weights["kernel"]
    groups = int(node.attributes.get("groups", 1))
    return node.operation == "conv" and groups > 1 and kernel.shape[-2] == 1 and kernel.shape[-1] == groups


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


def _fold_padding(node: Node, pad: Node) -> Node:
    """Return a convolution that reads what `pad` reads."""
    own, around = node.attributes["padding"], pad.attributes["padding"][:-1]
    padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(own, around, strict=True))
    return replace(node, inputs=pad.inputs, attributes={**node.attributes, "padding": padding})


def _takes_padding(node: Node, pad: Node) -> bool:
    """Zeros of one are zeros of the other, around the map but not among the channels."""
    convolves = node.operation in {"conv", "depthwise_conv"}
    return (
        convolves
        and len(pad.attributes["padding"]) == len(node.shape)
        and not any(pad.attributes["padding"][-1])
    )


def _fold_affine(node: Node, affine: Node) -> Node:
    """Return a convolution or dense layer that computes what `node` computes of ``x * scale + offset``."""
    scale = affine.weights["scale"].astype(np.float64).reshape(-1, 1)
    offset = affine.weights["offset"].astype(np.float64).reshape(-1, 1)
    kernel = node.weights["kernel"].astype(np.float64)
    shift = (kernel * offset).sum(axis=tuple(range(kernel.ndim - 1)))
    weights: dict[str, Weight] = {
        "kernel": (kernel * scale).astype(np.float32),
        "bias": (np.asarray(node.weights.get("bias", 0.0), np.float64) + shift).astype(np.float32),
    }
    return replace(node, inputs=affine.inputs, weights=weights)


def _takes_affine(node: Node, affine: Node) -> bool:
    """Every cell that a window reads is shifted by the same amount: no zeros of padding among them.

    A large shift is left alone: taken off the sum instead of off each input, it would cancel there and
    take digits along.
    """
    if node.operation not in {"conv", "dense"} or int(node.attributes.get("groups", 1)) != 1:
        return False
    scale, offset = (np.asarray(affine.weights[name]) for name in ("scale", "offset"))
    channels = node.weights["kernel"].shape[-2]
    by_channel = all(a.size == 1 or a.shape[-1:] == (channels,) == (a.size,) for a in (scale, offset))
    inside = not any(n for pair in node.attributes.get("padding", ()) for n in pair)
    return by_channel and (not offset.any() or (inside and np.abs(offset).max() <= _LARGEST_SHIFT))


def _pools_by_two(node: Node, head: Node, activation: activations.Native) -> bool:
    """Whether `node` takes maxima of whole 2x2 squares of a convolution's map."""
    return (
        node.operation == "max_pool"
        and head.operation == "conv"
        and tuple(node.attributes["pool_size"]) == (2, 2)
        and tuple(node.attributes["strides"]) == (2, 2)
        and not any(n for pair in node.attributes["padding"] for n in pair)
        and activation[0] in {"linear", "relu"}
    )


def without_needless_moves(graph: Graph) -> tuple[Mapping[str, str], Mapping[str, Node]]:
    """Merge chains of permutations, and look through nodes that only hand a value on.

    Returns
    -------
    alias, nodes
        Values that are just another value, and permutations that now start from an earlier one.
    """
    alias: dict[str, str] = {}
    merged: dict[str, Node] = {}
    for node in graph.nodes:
        if node.operation not in {"permute", "identity"}:
            continue
        source = alias.get(node.inputs[0], node.inputs[0])
        if node.operation == "identity":
            alias[node.name] = source
            continue
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


class _Uses:
    """Who reads what, so that what has one reader can become part of it."""

    def __init__(self, nodes: list[Node], outputs: tuple[str, ...], enabled: bool) -> None:
        self.needed = _reachable(nodes, outputs)
        self._enabled = enabled
        self._count = Counter(i for n in nodes if n.name in self.needed for i in n.inputs) + Counter(outputs)
        self._reader = {i: n for n in nodes if n.name in self.needed for i in n.inputs}

    def only_reader(self, name: str) -> Node | None:
        """The node that alone reads the value `name`, if it may be fused with its source."""
        return self._reader.get(name) if self._enabled and self._count[name] == 1 else None


def fuse(graph: Graph, *, enabled: bool = True) -> list[Group]:
    """Group the nodes of `graph`, in an order that can be executed.

    With ``enabled=False`` every node stays alone: what a trace needs.
    """
    alias: Mapping[str, str] = {}
    merged: Mapping[str, Node] = {}
    if enabled:
        alias, merged = without_needless_moves(graph)
    nodes = []
    for node in graph.nodes:
        if node.name in alias and node.name not in graph.outputs:
            continue
        node = merged.get(node.name, node)
        nodes.append(replace(node, inputs=tuple(alias.get(i, i) for i in node.inputs)))
    uses = _Uses(nodes, graph.outputs, enabled)
    groups: list[Group] = []
    taken: set[str] = set()
    folded: dict[str, list[Node]] = {}  # what a reader has taken over from before it
    for node in nodes:
        if node.name in taken or node.name not in uses.needed:
            continue
        reader = uses.only_reader(node.name)
        if reader is not None and _moves_into(node, reader, uses):
            folded[reader.name] = [*folded.pop(node.name, []), node]
            continue
        head, parts = node, [*folded.get(node.name, []), node]
        for before in reversed(parts[:-1]):
            head = (_fold_padding if before.operation == "pad" else _fold_affine)(head, before)
        norm = uses.only_reader(node.name)
        if norm is not None and norm.operation == "batch_norm" and _folds(head, norm):
            head = _fold_batch_norm(head, norm)
            parts.append(norm)
        activation = activations.LINEAR
        last = uses.only_reader(parts[-1].name)
        if last is not None and last.operation == "activation" and head.operation in _TAKES_ACTIVATION:
            activation = activations.native(
                last.attributes["kind"], last.attributes["parameters"], last.layer
            )
            parts.append(last)
        before_pool = parts[-1].name
        pool = uses.only_reader(before_pool)
        if pool is not None and _pools_by_two(pool, head, activation):
            parts.append(pool)
        else:
            pool = None
        taken.update(p.name for p in parts)
        groups.append(Group(head, activation, parts[-1].name, tuple(parts), pool, before_pool))
    return groups


def _moves_into(node: Node, reader: Node, uses: _Uses) -> bool:
    """Whether `node` can be computed by the convolution behind it, or behind the padding behind it."""
    if node.operation == "pad":
        return _takes_padding(reader, node)
    if node.operation != "affine":
        return False
    if reader.operation != "pad":
        return _takes_affine(reader, node)
    behind = uses.only_reader(reader.name)
    zeros_stay = not np.asarray(node.weights["offset"]).any()
    return (
        behind is not None and zeros_stay and _takes_padding(behind, reader) and _takes_affine(behind, node)
    )


def _reachable(nodes: list[Node], outputs: tuple[str, ...]) -> set[str]:
    needed = set(outputs)
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
        elif node.operation == "input":
            needed.add(node.name)
    return needed
