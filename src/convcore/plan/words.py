"""What a step computes, in the words of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from convcore.loader.graph import Node
from convcore.plan.fuse import is_depthwise

if TYPE_CHECKING:
    from convcore.plan.lower import Draft


def computes(draft: Draft) -> tuple[str, ...]:
    """Return a word for each node that became part of the step, in order.

    Of a group that took more than one step, a step has the words of its own part.
    """
    group = draft.group
    if draft.operation == "border":
        return ()
    if group is None:
        return (draft.operation,)
    pool = group.pool
    if pool is not None and draft.operation == pool.operation:
        return (_word(pool),)
    activates = draft.options.get("activation", ("linear", ()))[0] != "linear"
    return tuple(
        _word(node)
        for node in group.nodes
        if not (node is pool and draft.options.get("pool", 1) == 1)
        and not (node.operation == "activation" and node.name != group.node.name and not activates)
    )


def size_text(sizes: Sequence[int]) -> str:
    """Sizes as they are spoken: 3x3.

    Examples
    --------
    >>> size_text((224, 224, 3))
    '224x224x3'
    """
    return "x".join(map(str, sizes)) or "1"


def _word(node: Node) -> str:
    word = _WORDS.get(node.operation)
    return word(node) if word else node.operation.replace("_", " ")


def _each(sizes: Sequence[int]) -> str:
    """One number where it holds for every axis."""
    return str(sizes[0]) if len(set(sizes)) == 1 else size_text(sizes)


def _convolution(node: Node) -> str:
    name = "depthwise conv" if is_depthwise(node) else node.operation.replace("_", " ")
    word = f"{name} {size_text(node.weights['kernel'].shape[:-2])}"
    strides, dilation = node.attributes["strides"], node.attributes.get("dilation", (1,))
    groups = int(node.attributes.get("groups", 1))
    if set(strides) != {1}:
        word += f" /{_each(strides)}"
    if set(dilation) != {1}:
        word += f" dilated {_each(dilation)}"
    if groups > 1 and not is_depthwise(node):
        word += f" in {groups} groups"
    return word


def _pool(node: Node) -> str:
    size, strides = tuple(node.attributes["pool_size"]), tuple(node.attributes["strides"])
    word = f"{node.operation.replace('_', ' ')} {size_text(size)}"
    return word if size == strides else f"{word} /{_each(strides)}"


def _affine(node: Node) -> str:
    return "scale, shift" if np.asarray(node.weights["offset"]).any() else "scale"


_WORDS: Mapping[str, Callable[[Node], str]] = {
    "conv": _convolution,
    "depthwise_conv": _convolution,
    "conv_transpose": _convolution,
    "max_pool": _pool,
    "average_pool": _pool,
    "affine": _affine,
    "activation": lambda node: str(node.attributes["kind"]).replace("_", " "),
}
