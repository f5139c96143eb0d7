"""Stored CT pixels to Hounsfield units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convcore.cuda.kernels.index import thread
from convcore.cuda.toolkit import cuda

__all__ = ["hu_int16_kernel", "hu_kernel"]


@cuda.jit(device=True)
def hounsfield(
    raw: Any, slope: Any, intercept: Any, has_padding: Any, padding: Any, has_air: Any, air: Any
) -> Any:
    """``slope raw + intercept`` in float64; `padding` becomes `air`, or raw 0 first if there is none."""
    if has_padding and raw == padding:
        return air if has_air else intercept
    return cuda.fma(np.float64(raw), slope, intercept)


@cuda.jit
def hu_kernel(
    y: Any, x: Any, slope: Any, intercept: Any, has_padding: Any, padding: Any, has_air: Any, air: Any
) -> None:
    """Slices of pixels `x` (s, i) to HU, the exact value rounded once to float32.

    Thread t has pixel t of all, counted in C order.
    """
    t = thread()
    if t < y.size:
        s, i = t // y.shape[1], t % y.shape[1]
        y[s, i] = hounsfield(x[s, i], slope[s], intercept[s], has_padding, padding, has_air, air)


@cuda.jit
def hu_int16_kernel(
    y: Any, x: Any, slope: Any, intercept: Any, has_padding: Any, padding: Any, has_air: Any, air: Any
) -> None:
    """:func:`hu_kernel` to int16: rounded half to even, values outside the range set to its ends."""
    t = thread()
    if t < y.size:
        s, i = t // y.shape[1], t % y.shape[1]
        v = hounsfield(x[s, i], slope[s], intercept[s], has_padding, padding, has_air, air)
        v = min(max(v, -32768.0), 32767.0)
        below = math.floor(v)
        above_half = v - below > 0.5 or (v - below == 0.5 and below % 2 != 0)
        y[s, i] = np.int16(below + 1 if above_half else below)
