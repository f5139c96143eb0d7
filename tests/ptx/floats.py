"""Floating-point arithmetic as PTX rounds it, on arrays.

NumPy's own operations round to nearest even, once. What it lacks is here: fused multiply-add with one
rounding, other directions, subnormals flushed to zero, and the small formats. Approximate instructions
(``ex2.approx`` and the like) are computed in float64 and rounded once: closer to the exact value than a GPU
is.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bfloat16_to_float32",
    "copysign_of",
    "flushed",
    "fma32",
    "fma64",
    "maximum",
    "minimum",
    "round_float32",
    "sum_float64",
    "to_bfloat16",
    "to_integer",
    "to_tf32",
]

Array = NDArray[Any]

_ROUNDED_AWAY = np.int64(0x1FFFFFFF)  # the bits of a float64 that a float32 has not
_HALFWAY = np.int64(0x10000000)
_SMALLEST32 = 2.0**-126


def sum_float64(a: Array, b: Array) -> Array:
    """``a + b`` in float64, rounded to odd where not exact, so that rounding it again is as good as once.

    Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using
    rounding to odd": a second rounding to at least two bits fewer then goes where the exact sum would.
    """
    total = a + b
    rest = total - a
    error = (a - (total - rest)) + (b - rest)  # Knuth's TwoSum
    bits = total.view(np.int64)
    inexact = ((error > 0) | (error < 0)) & (bits & 1 == 0)
    if inexact.any():
        step = np.where((error > 0) == (total > 0), 1, -1)
        total = np.where(inexact, bits + step, bits).view(np.float64)
    return total


def round_float32(x: Array, mode: str) -> Array:
    """Round float64 to float32: "rn" to nearest even, "rz" to 0, "rm" down, "rp" up."""
    y = x.astype(np.float32)
    if mode == "rn":
        return y
    too_high, too_low = y > x, y < x
    if mode == "rz":
        too_high, too_low = too_high & (x > 0), too_low & (x < 0)
    down, up = np.nextafter(y, np.float32(-np.inf)), np.nextafter(y, np.float32(np.inf))
    if mode != "rp":
        y = np.where(too_high, down, y)
    if mode != "rm":
        y = np.where(too_low, up, y)
    return y


def fma32(a: Array, b: Array, c: Array, mode: str = "rn") -> Array:
    """``a b + c`` of float32, rounded once.

    The product is exact in float64. The sum is not, but to nearest its own rounding matters only where it
    lies halfway between two float32, or is so small that float32 has fewer bits.
    """
    product = a.astype(np.float64)
    product *= b
    c64 = c.astype(np.float64)
    total = product + c64
    if mode == "rn" and not (total.view(np.int64) & _ROUNDED_AWAY == _HALFWAY).any():
        tiny = np.abs(total) < _SMALLEST32
        if not tiny.any() or not (tiny & (total != 0)).any():
            return total.astype(np.float32)
    return round_float32(sum_float64(product, c64), mode)


def _libm_fma() -> Callable[[float, float, float], float]:
    function = ctypes.CDLL(ctypes.util.find_library("m")).fma
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * 3
    return function


_fma64 = np.frompyfunc(_libm_fma(), 3, 1)


def fma64(a: Array, b: Array, c: Array) -> Array:
    """``a b + c`` of float64, rounded once: the C library's, one element at a time."""
    return _fma64(a, b, c).astype(np.float64)


def flushed(x: Array) -> Array:
    """Subnormal float32 as zeros of their sign."""
    return np.where(np.abs(x) < np.float32(_SMALLEST32), np.copysign(np.float32(0), x), x)


def maximum(a: Array, b: Array) -> Array:
    """The larger number: the other one if one is NaN, +0 before -0."""
    return np.where((a == 0) & (b == 0), a + b, np.fmax(a, b))


def minimum(a: Array, b: Array) -> Array:
    """The smaller number: the other one if one is NaN, -0 before +0."""
    return -maximum(-a, -b)


def copysign_of(sign: Array, magnitude: Array) -> Array:
    """`magnitude` with the sign of `sign`: the order of PTX's operands."""
    return np.copysign(magnitude, sign)


def to_integer(x: Array, mode: str, dtype: Any) -> Array:
    """Round to an integer, values outside the range to its ends and NaN to 0."""
    whole = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode](x.astype(np.float64))
    info = np.iinfo(dtype)
    low, high = whole < float(info.min), whole >= float(info.max + 1)
    inside = np.where(low | high | np.isnan(whole), 0, whole).astype(dtype)
    return np.where(low, info.min, np.where(high, info.max, inside)).astype(dtype)


def to_bfloat16(x: Array) -> Array:
    """Float32 rounded to nearest even, as the bits of bfloat16."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def bfloat16_to_float32(bits: Array) -> Array:
    """The float32 that bits of bfloat16 stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_tf32(x: Array) -> Array:
    """Float32 rounded to TF32's 10 bits after the point, halves away from zero, as bits."""
    bits = x.view(np.uint32)
    return np.where(np.isfinite(x), (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000), bits)
