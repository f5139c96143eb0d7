"""The elementwise functions, as device functions for any kernel.

In float32, with the formulas of :mod:`convcore.reference` rearranged so that nothing cancels. The
exponential and ``erfc`` are CUDA's, within 2 and 4 units in the last place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convcore.cuda.toolkit import cuda

__all__ = ["KINDS", "PARAMETERS", "activate", "larger", "sigmoid"]

#: The functions by their names in :mod:`convcore.activations`, in the order of their numbers.
KINDS = (
    "linear", "relu", "relu_general", "leaky_relu", "leaky_divide", "elu", "celu", "selu", "gelu",
    "gelu_tanh", "silu", "softplus", "softsign", "sigmoid", "hard_sigmoid", "hard_silu", "tanh",
    "exponential", "mish",
)  # fmt: skip
(
    LINEAR, RELU, RELU_GENERAL, LEAKY_RELU, LEAKY_DIVIDE, ELU, CELU, SELU, GELU,
    GELU_TANH, SILU, SOFTPLUS, SOFTSIGN, SIGMOID, HARD_SIGMOID, HARD_SILU, TANH,
    EXPONENTIAL, MISH,
) = range(len(KINDS))  # fmt: skip

#: No function has more parameters.
PARAMETERS = 3

_ZERO, _HALF, _ONE, _TWO = (np.float32(v) for v in (0, 0.5, 1, 2))
# Klambauer et al. 2017
_SELU_SCALE = np.float32(1.0507009873554805)
_SELU_SCALED_ALPHA = np.float32(1.0507009873554805 * 1.6732632423543772)
_SIXTH = np.float32(1 / 6)
# 1 / sqrt(2) in two parts, and 2 / sqrt(pi)
_ROOT_HALF = np.float32(math.sqrt(0.5))
_ROOT_HALF_REST = np.float32(math.sqrt(0.5) - float(np.float32(math.sqrt(0.5))))
_ERFC_SLOPE = np.float32(2 / math.sqrt(math.pi))
# Above it the normal distribution function is 1 in float32
_ALL_BELOW = np.float32(6)
# gelu's tanh form is x sigmoid(k (x + c x^3))
_GELU_K = np.float32(2 * math.sqrt(2 / math.pi))
_GELU_C = np.float32(0.044715)


@cuda.jit(device=True)
def larger(a: Any, b: Any) -> Any:
    """The larger one; NaN if either is."""
    return a if a > b or math.isnan(a) else b


@cuda.jit(device=True)
def sigmoid(x: Any) -> Any:
    """``1 / (1 + e^-x)``: e^-|x| never overflows, and the division keeps small results' relative accuracy."""
    e = math.exp(-abs(x))
    return (_ONE if x >= _ZERO else e) / (_ONE + e)


@cuda.jit(device=True)
def gelu(x: Any) -> Any:
    """``x erfc(-x / sqrt(2)) / 2``.

    Far below 0 erfc(t) falls so fast that the rounding of t alone would show 2 t^2 times as large in the
    result; its part that was rounded away comes back through erfc's slope.
    """
    if x > _ALL_BELOW:
        return x
    t = -x * _ROOT_HALF
    rest = cuda.fma(-x, _ROOT_HALF, -t) - x * _ROOT_HALF_REST
    return _HALF * x * (math.erfc(t) - rest * _ERFC_SLOPE * math.exp(-t * t))


@cuda.jit(device=True)
def mish(x: Any) -> Any:
    """``x tanh(softplus(x)) = x n / (n + 2)`` with n = e^x (e^x + 2), scaled by e^-2x above 0."""
    e = math.exp(-abs(x))
    if x >= _ZERO:
        n = _ONE + _TWO * e
        return x * n / (n + _TWO * e * e)
    n = e * (e + _TWO)
    return x * n / (n + _TWO)


@cuda.jit(device=True)
def relu_general(x: Any, slope: Any, ceiling: Any, threshold: Any) -> Any:
    """Keras's general form: kept above the threshold and cut at the ceiling, sloped below."""
    if x > threshold:
        return min(max(x, _ZERO), ceiling)
    if slope == _ZERO and not math.isnan(x):
        return _ZERO
    return slope * (x - threshold)


@cuda.jit(device=True)
def activate(kind: Any, x: Any, p: Any, q: Any, r: Any) -> Any:
    """Function number `kind` of :data:`KINDS` of `x`, with its parameters in their order.

    Comparisons are written so that NaN comes out as NaN.
    """
    if kind == LINEAR:
        return x
    if kind == RELU:
        return _ZERO if x <= _ZERO else x
    if kind == RELU_GENERAL:
        return relu_general(x, p, q, r)
    if kind == LEAKY_RELU:
        return x if x >= _ZERO else p * x
    if kind == LEAKY_DIVIDE:
        return x if x >= _ZERO else x / p
    if kind == ELU:
        return x if x > _ZERO else p * math.expm1(x)
    if kind == CELU:
        return x if x > _ZERO else p * math.expm1(x / p)
    if kind == SELU:
        return _SELU_SCALE * x if x > _ZERO else _SELU_SCALED_ALPHA * math.expm1(x)
    if kind == SOFTPLUS:
        return math.log1p(math.exp(-abs(x))) + (_ZERO if x <= _ZERO else x)
    if kind == SIGMOID:
        return sigmoid(x)
    if kind == HARD_SIGMOID:
        return min(max(cuda.fma(p, x, _HALF), _ZERO), _ONE) if not math.isnan(x) else x
    if kind == TANH:
        return math.tanh(x)
    if kind == EXPONENTIAL:
        return math.exp(x)
    if kind == SOFTSIGN:
        return math.copysign(_ONE, x) if math.isinf(x) else x / (_ONE + abs(x))
    # The rest are x times a gate that is 0 at -inf, where the product would be NaN.
    if x == -math.inf:
        return -_ZERO
    if kind == GELU:
        return gelu(x)
    if kind == GELU_TANH:
        return x * sigmoid(_GELU_K * cuda.fma(_GELU_C * x * x, x, x))
    if kind == SILU:
        return x * sigmoid(x)
    if kind == HARD_SILU:
        return x * min(max(cuda.fma(_SIXTH, x, _HALF), _ZERO), _ONE)
    return mish(x)
