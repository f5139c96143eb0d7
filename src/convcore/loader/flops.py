"""How much arithmetic a network is, by its definition and not by any algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from convcore.loader.graph import Node, Shape

__all__ = ["node_flops"]

#: Operations that move numbers and compute none.
_FREE = frozenset(
    {"input", "identity", "reshape", "permute", "reverse", "pad", "crop", "upsample", "concatenate"}
)


def node_flops(node: Node, inputs: Sequence[Shape]) -> int | None:
    """Count the floating-point operations of one node for one example; None where a size is open.

    A multiplication and an addition are two. Of convolutions and dense layers every multiply-add of
    the definition counts, those with padding too (the usual convention: VGG16 has 31.0 GFLOP); an
    activation counts one operation an element, whatever its function costs. Moving numbers is free.
    """
    if node.operation in _FREE:
        return 0
    if any(n is None for shape in (node.shape, *inputs) for n in shape):
        return None
    size = prod(n or 0 for n in node.shape)
    operation, weights = node.operation, node.weights
    bias = size if "bias" in weights else 0
    if operation in ("conv", "dense"):
        return 2 * size * prod(weights["kernel"].shape[:-1]) + bias
    if operation == "depthwise_conv":
        return 2 * size * prod(weights["kernel"].shape[:-2]) + bias
    if operation == "conv_transpose":
        # Every input number meets the whole kernel of its channel.
        return 2 * prod(n or 0 for n in inputs[0]) * prod(weights["kernel"].shape[:-1]) + bias
    if operation in ("max_pool", "average_pool"):
        return size * int(prod(node.attributes["pool_size"]))
    if operation in ("global_max_pool", "global_average_pool"):
        return prod(n or 0 for n in inputs[0])
    if operation in ("batch_norm", "affine"):
        return 2 * size
    if operation in ("add", "subtract", "multiply", "average", "maximum", "minimum"):
        return size * (len(inputs) - 1)
    if operation == "softmax":
        return 3 * size
    if operation in ("activation", "prelu"):
        return size
    if operation == "resize" and node.attributes["interpolation"] == "bilinear":
        return 7 * size
    return 0
