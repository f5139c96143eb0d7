"""Functions of one element at a time: activations, two operands, scale and offset, random draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convcore.cuda.kernels.activation import activate, larger, sigmoid
from convcore.cuda.kernels.index import axes8, thread
from convcore.cuda.toolkit import cuda

__all__ = [
    "BINARIES",
    "SAMPLES",
    "activation_kernel",
    "affine_kernel",
    "binary_kernel",
    "combine",
    "sample_kernel",
]

#: The operations of :func:`binary_kernel` in the order of their numbers.
BINARIES = ("add", "subtract", "multiply", "maximum", "minimum", "prelu")
ADD, SUBTRACT, MULTIPLY, MAXIMUM, MINIMUM, PRELU = range(len(BINARIES))
#: The distributions of :func:`sample_kernel`.
SAMPLES = ("rrelu", "noisy_relu")
RRELU, NOISY_RELU = range(len(SAMPLES))

_ZERO = np.float32(0)


@cuda.jit
def activation_kernel(y: Any, x: Any, kind: Any, p: Any, q: Any, r: Any) -> None:
    """``y[i] = f(x[i])`` for arrays of 8 axes. Thread t has element t, counted in C order."""
    i = thread()
    if i < y.size:
        at = axes8(i, y.shape)
        y[at] = activate(kind, x[at], p, q, r)


@cuda.jit(device=True)
def combine(operation: Any, a: Any, b: Any) -> Any:
    """Operation number `operation` of :data:`BINARIES`."""
    if operation == ADD:
        return a + b
    if operation == SUBTRACT:
        return a - b
    if operation == MULTIPLY:
        return a * b
    if operation == MAXIMUM:
        return larger(a, b)
    if operation == MINIMUM:
        return -larger(-a, -b)
    return a if a >= _ZERO else b * a  # prelu


@cuda.jit
def binary_kernel(y: Any, a: Any, b: Any, operation: Any, kind: Any, p: Any, q: Any, r: Any) -> None:
    """``y[i] = f(a[i] op b[i])`` for arrays of 8 axes. Thread t has element t, counted in C order."""
    i = thread()
    if i < y.size:
        at = axes8(i, y.shape)
        y[at] = activate(kind, combine(operation, a[at], b[at]), p, q, r)


@cuda.jit
def affine_kernel(y: Any, x: Any, scale: Any, offset: Any, kind: Any, p: Any, q: Any, r: Any) -> None:
    """``y[i, c] = f(x[i, c] scale[c] + offset[c])``, rounded once before f.

    Thread t has element t of the rows, counted in C order.
    """
    i = thread()
    if i < y.size:
        row, c = i // y.shape[1], i % y.shape[1]
        y[row, c] = activate(kind, cuda.fma(x[row, c], scale[c], offset[c]), p, q, r)


# ---- random draws ---------------------------------------------------------------------------------

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_MULTIPLIER0, _MULTIPLIER1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL0, _WEYL1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10
_TO_UNIT = np.float32(2.0**-23)
_HALF = np.float32(0.5)


@cuda.jit(device=True)
def uniform(index: Any, seed: Any) -> Any:
    """Number `index` of stream `seed`, uniform in (0, 1): Philox4x32-10; see :mod:`convcore.reference`."""
    block = np.uint64(index) // np.uint64(4)
    c0, c1, c2, c3 = block & _LOW, block >> _32, np.uint64(0), np.uint64(0)
    key0, key1 = seed & _LOW, seed >> _32
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIER0 * c0, _MULTIPLIER1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ key0, p1 & _LOW, (p0 >> _32) ^ c3 ^ key1, p0 & _LOW
        key0, key1 = (key0 + _WEYL0) & _LOW, (key1 + _WEYL1) & _LOW
    lane = index % 4
    word = c0 if lane == 0 else c1 if lane == 1 else c2 if lane == 2 else c3
    return (np.float32(word >> np.uint64(9)) + _HALF) * _TO_UNIT


# Coefficients of Wichura 1988, algorithm AS 241 (PPND16), constant term first: the centre and the tails.
_CENTRE_OVER = (
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
)  # fmt: skip
_CENTRE_UNDER = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
)  # fmt: skip
_TAIL_OVER = (
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
)  # fmt: skip
_TAIL_UNDER = (
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)  # fmt: skip


@cuda.jit(device=True)
def polynomial(c: Any, x: Any) -> Any:
    """The polynomial of degree 7 with coefficients `c`."""
    y = c[7]
    for k in range(6, -1, -1):
        y = y * x + c[k]
    return y


@cuda.jit(device=True)
def normal_quantile(u: Any) -> Any:
    """The normal deviate below which a share `u` lies, in float64.

    The algorithm's third region, u < e^-25, is left out: u is at least 2^-24.
    """
    q = np.float64(u) - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return np.float32(q * polynomial(_CENTRE_OVER, r) / polynomial(_CENTRE_UNDER, r))
    r = math.sqrt(-math.log(np.float64(u) if q < 0 else 1.0 - np.float64(u))) - 1.6
    z = polynomial(_TAIL_OVER, r) / polynomial(_TAIL_UNDER, r)
    return np.float32(-z if q < 0 else z)


@cuda.jit
def sample_kernel(y: Any, x: Any, distribution: Any, seed: Any, low: Any, high: Any) -> None:
    """RReLU and noisy ReLU with random draws, for arrays of 8 axes.

    Thread t has element t, counted in C order, and draws number t of stream `seed`.
    """
    i = thread()
    if i < y.size:
        at = axes8(i, y.shape)
        u = uniform(i, seed)
        v = x[at]
        if distribution == RRELU:
            if v < _ZERO:
                v = v / (low + (high - low) * u)
        else:
            v = cuda.fma(math.sqrt(sigmoid(v)), normal_quantile(u), v)
            v = _ZERO if v <= _ZERO else v
        y[at] = v
