"""What a result on the GPU is compared with, and how far it may be off: checked before anything is timed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcore import ops
from convcore.bench.gpu.network import Layer
from convcore.bfloat16 import from_bfloat16, to_bfloat16

__all__ = [
    "APART",
    "LAYER_ERROR",
    "LOST",
    "Expected",
    "difference",
    "expected_of_layer",
    "network_bound",
    "share_of_bound",
]

#: Unit roundoff of float32.
U = 2.0**-24
#: What a product loses by its operands, as a share of it: 3xTF32, TF32; bfloat16's are rounded beforehand.
LOST = {"float32": 3 * 2.0**-22, "tf32": 2 * 2.0**-11, "bfloat16": 0.0}
#: The most that a layer of a network adds to the error, as a share of its largest output.
LAYER_ERROR = {"float32": 2.0**-20, "tf32": 2.0**-11, "bfloat16": 2.0**-8}
#: How far the functions of the GPU and the CPU may be from each other, in units in the last place: the sum of
#: what each may be off. Those that are not here give the same bits.
APART = {"sigmoid": 8, "tanh": 8, "gelu": 18}
#: Peers may compute other sums (Winograd's): a larger difference is another layer and not another rounding.
_SAME = {"float32": 1e-2, "tf32": 1e-2, "bfloat16": 5e-2}


class Expected(NamedTuple):
    """The result of the CPU's float32 kernels, and a bound for each of its elements."""

    y: NDArray[np.float32]
    bound: NDArray[np.float64]


def expected_of_layer(layer: Layer, x: NDArray[Any], precision: str) -> Expected:
    """Return what one layer gives on `x` by the CPU's float32 kernels, and how far the GPU's may be off.

    A sum of k products is within ``2 k u sum|a b|`` of the exact one, on the CPU and on the GPU, whose
    operands lose a share of each product beforehand. Results in bfloat16 are rounded once more.
    """
    narrow = precision == "bfloat16"
    if layer.operation in ("conv", "dense"):
        kernel, bias = (np.asarray(layer.weights[name], np.float32) for name in ("kernel", "bias"))
        if narrow:
            x, kernel = from_bfloat16(to_bfloat16(x)), from_bfloat16(to_bfloat16(kernel))
        y, sums = _sums(layer, x, kernel, bias), _sums(layer, np.abs(x), np.abs(kernel), np.abs(bias))
        length = math.prod(kernel.shape[:-1]) + 1
        bound = (4 * length * U + 2 * LOST[precision]) * sums.astype(np.float64)
        return Expected(y, bound + (2.0**-8 * np.abs(y) if narrow else 0.0))
    y = _moved(layer, x)
    if layer.operation == "softmax":
        # The exponential's own error on both sides, that of its rounded argument, and a sum of so many.
        roundings = 2 * (2 * 2 + 2 * float(np.ptp(x)) + x.shape[-1])
        return Expected(y, roundings * U * y.astype(np.float64) + 2.0**-149)
    if layer.operation == "activation" and layer.attributes["kind"] in APART:
        return Expected(y, APART[layer.attributes["kind"]] * np.spacing(np.abs(y)).astype(np.float64))
    return Expected(y, np.zeros(y.shape))  # the same operations in the same order: the same bits


def _sums(layer: Layer, x: Any, kernel: Any, bias: Any) -> NDArray[np.float32]:
    if layer.operation == "dense":
        y = ops.dense(x.reshape(x.shape[0], -1), kernel, bias)
    else:
        at = layer.attributes
        y = ops.conv2d(
            x, kernel, bias, strides=at["strides"], dilation_rate=at["dilation"], padding=at["padding"]
        )
    if layer.relu:
        y = ops.relu(y)
    return ops.max_pool(y) if layer.pool else y


def _moved(layer: Layer, x: NDArray[Any]) -> NDArray[np.float32]:
    at = layer.attributes
    if layer.operation == "max_pool":
        return ops.max_pool(x, at["pool_size"], strides=at["strides"], padding=at["padding"])
    if layer.operation == "softmax":
        return ops.softmax(x)
    if layer.operation == "activation":
        return np.asarray(getattr(ops, at["kind"])(x))
    flat = x.reshape(-1, *x.shape[-2:])
    y = ops.hu_rescale(flat, at["slope"], at["intercept"], padding_value=None)
    return np.asarray(y, np.float32).reshape(x.shape)


def network_bound(layers: Sequence[Layer], largest: float, precision: str) -> float:
    """Return how far a network's outputs may be off: every layer adds to the error, at the worst.

    Examples
    --------
    >>> network_bound([None] * 16, 2.0, "float32") == 16 * 2.0**-20 * 2.0
    True
    """
    return len(layers) * LAYER_ERROR[precision] * largest


def share_of_bound(y: NDArray[Any], expected: Expected) -> float:
    """Return the largest error over its bound: at most 1 is right; infinite for NaN or another shape.

    Examples
    --------
    >>> share_of_bound(np.float32([1, 2]), Expected(np.float32([1, 2.5]), np.array([0.0, 1.0])))
    0.5
    """
    if y.shape != expected.y.shape:
        return math.inf
    error = np.abs(y.astype(np.float64) - expected.y)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(error == 0, 0.0, error / expected.bound)
    return float(np.where(np.isnan(share), np.inf, share).max(initial=0.0))


def difference(y: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference over the largest expected number; infinite for NaN or another shape."""
    if y.shape != expected.shape:
        return math.inf
    found = float(np.abs(y.astype(np.float64) - expected).max() / max(float(np.abs(expected).max()), 1e-30))
    return found if found == found else math.inf


def same(y: NDArray[Any], expected: NDArray[Any], precision: str) -> bool:
    """Whether a peer computes the same thing."""
    return difference(y, expected) <= _SAME[precision]
