"""Elementwise activations.

NaN stays NaN in all of them, and an infinite input gives the limit. Where a formula is a product
such as ``x * sigmoid(x)``, whose limit at -inf is 0 although the product is NaN, the limit is put in
by hand. Forms that lose no accuracy are chosen (``expm1``, ``log1p``, ``erfc``), because the kernels
are measured in units in the last place against these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Klambauer et al. 2017: the fixed point that keeps mean 0 and variance 1.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _elementwise(function: Callable[..., Array]) -> Callable[..., Array]:
    """Give `function` float64 input, quiet overflow (its limit is right), and NaN for NaN."""

    @wraps(function)
    def checked(x: Any, **parameters: Any) -> Array:
        x = np.asarray(x, np.float64)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            y = function(x, **parameters)
        return np.where(np.isnan(x), np.nan, y)

    return checked


def _scaled(factor: float, x: Array) -> Array:
    """``factor * x`` with 0 for factor 0, also at infinity."""
    return factor * x if factor else np.zeros_like(x)


def _gated(x: Array, gate: Array) -> Array:
    """``x * gate`` for a gate that is 0 at -inf and vanishes faster than x grows."""
    return np.where(np.isneginf(x), -0.0, x * gate)


@_elementwise
def linear(x: Array) -> Array:
    """x."""
    return x


@_elementwise
def relu(
    x: Array, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Array:
    """x above the threshold, ``negative_slope * (x - threshold)`` at and below it; cut at max_value.

    The comparison is strict, as in Keras's code: x == threshold gives 0. Also as there, `max_value`
    clips what lies above the threshold from below at 0.
    """
    kept = np.where(x > threshold, x, 0.0)
    if max_value is not None:
        kept = np.clip(kept, 0.0, max_value)
    return kept + np.where(x > threshold, 0.0, _scaled(negative_slope, x - threshold))


@_elementwise
def leaky_relu(x: Array, *, negative_slope: float = 0.2) -> Array:
    """x where x >= 0, ``negative_slope * x`` below: NaN at -inf for a slope of 0."""
    return np.where(x >= 0, x, negative_slope * x)


@_elementwise
def leaky_divide(x: Array, *, a: float = 5.5) -> Array:
    """x where x >= 0, ``x / a`` below: the leaky ReLU of Xu et al. 2015, a in (1, inf)."""
    return np.where(x >= 0, x, x / a)


@_elementwise
def rrelu(x: Array, *, lower: float = 3.0, upper: float = 8.0) -> Array:
    """x where x >= 0, ``x / ((lower + upper) / 2)`` below: the inference form."""
    return np.where(x >= 0, x, x / ((lower + upper) / 2))


@_elementwise
def noisy_relu(x: Array) -> Array:
    """max(x, 0): the inference form, in which the noise has its mean, 0."""
    return np.maximum(x, 0.0)


@_elementwise
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    """x where x > 0, ``alpha (e^x - 1)`` below."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


@_elementwise
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    """x where x > 0, ``alpha (e^(x / alpha) - 1)`` below."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


@_elementwise
def selu(x: Array) -> Array:
    """``scale * elu(x, alpha)`` with the constants of self-normalising networks."""
    return np.asarray(_SELU_SCALE * elu(x, alpha=_SELU_ALPHA))


@_elementwise
def gelu(x: Array, *, approximate: bool = False) -> Array:
    """``x Phi(x)`` with the normal distribution function Phi, or its tanh approximation."""
    if approximate:
        # (1 + tanh u) / 2 = sigmoid(2 u), which keeps its relative accuracy where tanh is near -1.
        return _gated(x, sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return _gated(x, 0.5 * _erfc(-x / math.sqrt(2)))


@_elementwise
def sigmoid(x: Array) -> Array:
    """``1 / (1 + e^-x)``, with full relative accuracy on both sides."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


@_elementwise
def hard_sigmoid(x: Array, *, slope: float = 1 / 6) -> Array:
    """``slope * x + 0.5`` cut to [0, 1]. Keras before 3.3 has slope 0.2."""
    return np.clip(slope * x + 0.5, 0.0, 1.0)


@_elementwise
def silu(x: Array) -> Array:
    """``x sigmoid(x)``."""
    return _gated(x, sigmoid(x))


@_elementwise
def hard_silu(x: Array) -> Array:
    """``x hard_sigmoid(x)``."""
    return _gated(x, hard_sigmoid(x))


@_elementwise
def softplus(x: Array) -> Array:
    """``log(1 + e^x)``."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


@_elementwise
def softsign(x: Array) -> Array:
    """``x / (1 + |x|)``."""
    return np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x)))


@_elementwise
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


@_elementwise
def exponential(x: Array) -> Array:
    """``e^x``."""
    return np.exp(x)


@_elementwise
def mish(x: Array) -> Array:
    """``x tanh(softplus(x))``."""
    return _gated(x, np.tanh(softplus(x)))


#: Every kind of activation and the function that defines it; its keywords are the parameters.
ACTIVATIONS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            linear, relu, leaky_relu, elu, celu, selu, gelu, silu, softplus, softsign, sigmoid,
            hard_sigmoid, hard_silu, tanh, exponential, mish, rrelu, noisy_relu, leaky_divide,
        )
    }
)  # fmt: skip
