"""How far a node's float32 result may be from the exact one: theorems, not tolerances.

A sum of k products is within ``2 k u sum|a b|`` in any order (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1). Winograd's algorithm computes other sums of other products. Its worst case is
hundreds of times what ever happens, which would hide a wrong weight, so its bound is a probable one
(Higham and Mary, SIAM J. Sci. Comput. 41, 2019): independent rounding errors add up like the root of a
sum of squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convcore import reference
from convcore.loader.graph import Node

#: Unit roundoff of float32.
U = 2.0**-24
SMALLEST_NORMAL = 2.0**-126
#: Higham and Mary's lambda: with 8, a larger error has a probability below 1e-13.
LAMBDA = 8.0

Array = NDArray[np.float64]

_EXACT = frozenset(
    {"max_pool", "global_max_pool", "maximum", "minimum", "concatenate", "reshape", "permute", "reverse"}
    | {"pad", "crop", "upsample", "identity"}
)
_LINEAR = frozenset({"conv", "depthwise_conv", "conv_transpose", "dense", "batch_norm", "affine"})

# |B^T|, |G| and |A^T| of F(4x4, 3x3) at 0, +-3/4, +-3/2 and infinity: see csrc/kernels/winograd.h.
_A, _B = 0.75, 1.5
_POINTS = np.array([0.0, _A, -_A, _B, -_B])


def _winograd_matrices() -> tuple[Array, Array, Array]:
    """Return absolute values of B^T (6, 6), G (6, 3) and A^T (4, 6), from the points alone."""
    b_t, g = np.zeros((6, 6)), np.zeros((6, 3))
    for i, p in enumerate(_POINTS):
        others = np.delete(_POINTS, i)
        b_t[i, :5] = np.poly(others)[::-1]
        g[i] = p ** np.arange(3) / np.prod(p - others)
    b_t[5] = np.poly(_POINTS)[::-1]
    g[5, 2] = 1.0
    a_t = np.column_stack([_POINTS[None] ** np.arange(4)[:, None], [0.0, 0.0, 0.0, 1.0]])
    return np.abs(b_t), np.abs(g), np.abs(a_t)


def winograd_bound(
    x: Array, kernel: Array, bias: Array | None, padding: Sequence[tuple[int, int]], output: Sequence[int]
) -> Array:
    """Return the probable error bound of F(4x4, 3x3) for every output.

    Every transformed value has an error of some roundings of the sum of magnitudes behind it; those of
    different channels and points are independent.

    Parameters
    ----------
    x, kernel, bias
        (n, h, w, c), (3, 3, c, oc) and (oc,).
    padding
        (low, high) of the two spatial axes.
    output
        (oh, ow).
    """
    b_t, g, a_t = _winograd_matrices()
    channels = kernel.shape[-2]
    tiles = [-(-size // 4) for size in output]
    lows = [low for low, _ in padding]
    wide = np.zeros((len(x), 4 * tiles[0] + 2, 4 * tiles[1] + 2, channels))
    kept = [min(n, w - low) for n, w, low in zip(x.shape[1:3], wide.shape[1:3], lows, strict=True)]
    wide[:, lows[0] : lows[0] + kept[0], lows[1] : lows[1] + kept[1]] = np.abs(x[:, : kept[0], : kept[1]])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (6, 6), axis=(1, 2))[:, ::4, ::4]
    v = np.einsum("ir,nhwcrs,js->ijnhwc", b_t, windows, b_t, optimize=True)
    u = np.einsum("ir,rsco,js->ijco", g, np.abs(kernel), g, optimize=True)
    m = np.matmul(v.reshape(6, 6, -1, channels) ** 2, u**2).reshape(6, 6, len(x), *tiles, -1)
    y = np.sqrt(np.einsum("ai,ijnhwo,bj->nhawbo", a_t**2, m, a_t**2, optimize=True))
    y = y.reshape(len(x), 4 * tiles[0], 4 * tiles[1], -1)[:, : output[0], : output[1]]
    if bias is not None:
        y = y + np.abs(bias)
    # Twice 4 roundings each way, one each for the weight, the product and the bias, and the sum.
    bound: Array = LAMBDA * math.sqrt(channels + 19) * U * y
    return bound


def reduction_length(node: Node) -> int:
    """How many products and sums stand behind one output of `node`."""
    if node.operation in {"conv", "dense", "conv_transpose"}:
        kernel = node.weights["kernel"]
        outputs = kernel.shape[-2] if node.operation == "conv_transpose" else kernel.shape[-1]
        return int(kernel.size // outputs) + 1
    if node.operation == "depthwise_conv":
        return int(math.prod(node.weights["kernel"].shape[:-2])) + 1
    return 4


def _absolute(node: Node, inputs: Sequence[Array]) -> Array:
    """The node on absolute values: sum|a b| + |bias| for every output."""
    weights = {k: np.abs(v.astype(np.float64)) for k, v in node.weights.items()}
    if node.operation == "batch_norm":
        weights["variance"] = node.weights["variance"].astype(np.float64)
        weights["mean"] = -weights["mean"]  # (|x| + |mean|) * |gamma| / sqrt(variance + epsilon) + |beta|
    stand_in = Node(node.name, node.operation, node.inputs, node.shape, node.attributes, weights)
    return reference.evaluate_node(stand_in, *(np.abs(x) for x in inputs))


def node_bound(node: Node, inputs: Sequence[Array], y: Array, algorithm: str = "") -> Array:
    """Return the largest error that float32 may make, for every output of one node.

    Parameters
    ----------
    node
        Any node but an input.
    inputs, y
        What goes in and the exact result, batch first.
    algorithm
        The plan's name of the algorithm that computed it.
    """
    op = node.operation
    bound: Array
    if op in _EXACT:
        return np.zeros_like(y)
    if algorithm.startswith("Winograd"):
        w = {k: v.astype(np.float64) for k, v in node.weights.items()}
        # Slices of a volume are as good as images.
        x = inputs[0].reshape(-1, *inputs[0].shape[-3:])
        kernel = w["kernel"].reshape(w["kernel"].shape[-4:])
        bound = winograd_bound(x, kernel, w.get("bias"), node.attributes["padding"][-2:], y.shape[-3:-1])
        return bound.reshape(y.shape)
    if op in _LINEAR:
        return 2 * (reduction_length(node) + 2) * U * _absolute(node, inputs)
    if op in {"average_pool", "global_average_pool"}:
        count = math.prod(inputs[0].shape[1:-1]) if op[0] == "g" else math.prod(node.attributes["pool_size"])
        return 2 * (count + 2) * U * _absolute(node, inputs)
    if op == "softmax":
        axis = node.attributes["axis"]
        axis = axis if axis < 0 else axis + 1
        x = inputs[0]
        spread = x.max(axis=axis, keepdims=True) - x
        bound = U * (x.shape[axis] + 16 + 2 * spread) * y + SMALLEST_NORMAL
        return bound
    if op in {"add", "subtract", "average"}:
        bound = 2 * len(inputs) * U * np.sum(np.broadcast_arrays(*(np.abs(x) for x in inputs)), axis=0)
        return bound
    if op == "resize":
        return np.full_like(y, 8 * U * np.abs(inputs[0]).max(initial=0.0))
    # Elementwise functions and products: a few units in the last place of the result.
    return 8 * U * np.abs(y) + SMALLEST_NORMAL
