"""Moving elements: copies between any two layouts and types, and fills.

Numba has no bfloat16. Here it is an unsigned integer of 16 bits, beside the bits of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convcore.bfloat16 import NAN
from convcore.cuda.kernels.index import axes8, thread
from convcore.cuda.launch import all_axes
from convcore.cuda.launch import launch as launch_over
from convcore.cuda.toolkit import cuda

__all__ = [
    "copy_kernel",
    "fill_kernel",
    "from_bfloat16_kernel",
    "launch",
    "launch_fill",
    "launch_from_bfloat16",
    "launch_to_bfloat16",
    "to_bfloat16_kernel",
]

_ALL_BUT_SIGN, _INFINITY = 0x7FFFFFFF, 0x7F800000


@cuda.jit
def copy_kernel(y: Any, x: Any) -> None:
    """``y[i] = x[i]`` for arrays of 8 axes. Thread t has element t, counted in C order of `y`."""
    i = thread()
    if i < y.size:
        at = axes8(i, y.shape)
        y[at] = x[at]


@cuda.jit
def fill_kernel(y: Any, value: Any) -> None:
    """``y[i] = value`` for an array of 8 axes. Thread t has element t, counted in C order."""
    i = thread()
    if i < y.size:
        y[axes8(i, y.shape)] = value


@cuda.jit
def from_bfloat16_kernel(y: Any, x: Any) -> None:
    """Bits of bfloat16 `x` to those of float32 `y`, 8 axes each. Thread t has element t, in C order."""
    i = thread()
    if i < y.size:
        at = axes8(i, y.shape)
        y[at] = np.int64(x[at]) << 16


@cuda.jit
def to_bfloat16_kernel(y: Any, x: Any) -> None:
    """Bits of float32 `x` to those of the nearest bfloat16 `y`, ties to even, 8 axes each.

    Thread t has element t, counted in C order.
    """
    i = thread()
    if i < y.size:
        at = axes8(i, y.shape)
        bits = np.int64(x[at])
        if (bits & _ALL_BUT_SIGN) > _INFINITY:
            y[at] = NAN
        else:
            y[at] = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def launch(y: Any, x: Any) -> None:
    """Copy `x` to `y`, device arrays of the same shape with at most 8 axes."""
    launch_over(copy_kernel, y.size, all_axes(y), all_axes(x))


def launch_fill(y: Any, value: float) -> None:
    """Set every element of `y`, a device array with at most 8 axes."""
    launch_over(fill_kernel, y.size, all_axes(y), y.dtype.type(value))


def launch_from_bfloat16(y: Any, x: Any) -> None:
    """Copy `x`, bits of bfloat16, to `y`, float32; device arrays of the same shape with at most 8 axes."""
    launch_over(from_bfloat16_kernel, y.size, all_axes(y.view(np.uint32)), all_axes(x))


def launch_to_bfloat16(y: Any, x: Any) -> None:
    """Round `x`, float32, to `y`, bits of bfloat16; device arrays of the same shape with at most 8 axes."""
    launch_over(to_bfloat16_kernel, y.size, all_axes(y), all_axes(x.view(np.uint32)))
