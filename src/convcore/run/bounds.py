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
from convcore.plan.data import Device

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

#: What a product on a GPU loses by its operands, as a share of it, by precision.
_LOST = {"float32": 3 * 2.0**-22, "tf32": 2 * 2.0**-11 + 2.0**-22, "bfloat16": 2 * 2.0**-8 + 2.0**-16}

#: Finite interpolation points of F(m x m, 3x3) by m: see csrc/kernels/winograd.h.
_WINOGRAD_POINTS = {
    2: (0.0, 1.0, -1.0),
    4: (0.0, 0.75, -0.75, 1.5, -1.5),
    6: (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0),
}


def _winograd_matrices(m: int) -> tuple[Array, Array, Array]:
    """Return absolute values of B^T (m + 2, m + 2), G (m + 2, 3) and A^T (m, m + 2), from the points."""
    points = np.array(_WINOGRAD_POINTS[m])
    b_t, g = np.zeros((m + 2, m + 2)), np.zeros((m + 2, 3))
    for i, p in enumerate(points):
        others = np.delete(points, i)
        b_t[i, :-1] = np.poly(others)[::-1]
        g[i] = p ** np.arange(3) / np.prod(p - others)
    b_t[-1] = np.poly(points)[::-1]
    g[-1, 2] = 1.0
    a_t = np.column_stack([points[None] ** np.arange(m)[:, None], np.arange(m) == m - 1])
    return np.abs(b_t), np.abs(g), np.abs(a_t)


def winograd_bound(
    x: Array,
    kernel: Array,
    bias: Array | None,
    padding: Sequence[tuple[int, int]],
    output: Sequence[int],
    m: int = 4,
) -> Array:
    """Return the probable error bound of F(m x m, 3x3) for every output.

    Every transformed value has an error of some roundings of the sum of magnitudes behind it; those of
    different channels and points are independent.

    Parameters
    ----------
    x, kernel, bias
        (n, d, h, w, c), (kd, 3, 3, c, oc) and (oc,).
    padding
        (low, high) of the three spatial axes.
    output
        (od, oh, ow).
    m
        Outputs of a tile along each side.
    """
    b_t, g, a_t = _winograd_matrices(m)
    depth, channels = kernel.shape[0], kernel.shape[-2]
    tiles = [-(-size // m) for size in output[1:]]
    lows = [low for low, _ in padding]
    sides = (output[0] + depth - 1, m * tiles[0] + 2, m * tiles[1] + 2)
    wide = np.zeros((len(x), *sides, channels))
    kept = tuple(slice(0, min(n, w - low)) for n, w, low in zip(x.shape[1:4], sides, lows, strict=True))
    there = tuple(slice(low, low + k.stop) for low, k in zip(lows, kept, strict=True))
    wide[(slice(None), *there)] = np.abs(x[(slice(None), *kept)])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (m + 2, m + 2), axis=(2, 3))[:, :, ::m, ::m]
    v = np.einsum("ir,ndhwcrs,js->ijndhwc", b_t, windows, b_t, optimize=True) ** 2
    u = np.einsum("ir,drsco,js->dijco", g, np.abs(kernel), g, optimize=True) ** 2
    side = (m + 2, m + 2, len(x), output[0], *tiles, -1)
    products = sum(
        np.matmul(v[:, :, :, t : t + output[0]].reshape(m + 2, m + 2, -1, channels), u[t])
        for t in range(depth)
    ).reshape(side)
    y = np.sqrt(np.einsum("ai,ijndhwo,bj->ndhawbo", a_t**2, products, a_t**2, optimize=True))
    y = y.reshape(len(x), output[0], m * tiles[0], m * tiles[1], -1)[:, :, : output[1], : output[2]]
    if bias is not None:
        y = y + np.abs(bias)
    # Twice m roundings each way, one each for the weight, the product and the bias, and the sum.
    bound: Array = LAMBDA * math.sqrt(depth * channels + 4 * m + 3) * U * y
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


def operand_loss(device: Device) -> float:
    """The share of a product that its operands lose before they are multiplied.

    Examples
    --------
    >>> operand_loss(Device("cpu")), operand_loss(Device("cuda", precision="tf32")) > 2 * 2**-11
    (0.0, True)
    """
    return _LOST[device.precision] if device.name == "cuda" else 0.0


def node_bound(
    node: Node, inputs: Sequence[Array], y: Array, algorithm: str = "", lost: float = 0.0
) -> Array:
    """Return the largest error that sums in float32 may make, for every output of one node.

    Parameters
    ----------
    node
        Any node but an input.
    inputs, y
        What goes in and the exact result, batch first.
    algorithm
        The plan's name of the algorithm that computed it.
    lost
        See :func:`operand_loss`.
    """
    op = node.operation
    bound: Array
    if op in _EXACT:
        return np.zeros_like(y)
    if algorithm.startswith("Winograd"):
        w = {k: v.astype(np.float64) for k, v in node.weights.items()}
        lead = (1,) * (5 - inputs[0].ndim)
        x = inputs[0].reshape(len(inputs[0]), *lead, *inputs[0].shape[1:])
        kernel = w["kernel"].reshape(*lead, *w["kernel"].shape)
        padding = (*((0, 0) for _ in lead), *node.attributes["padding"])
        output = (*lead, *y.shape[1:-1])
        bound = winograd_bound(x, kernel, w.get("bias"), padding, output, int(algorithm[-1]))
        return bound.reshape(y.shape)
    if op in _LINEAR:
        return (lost + 2 * (1 + lost) * (reduction_length(node) + 2) * U) * _absolute(node, inputs)
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
