"""Moving elements: copies between any two layouts and types, and fills."""

from __future__ import annotations

from typing import Any

from convcore.cuda.kernels.index import axes8, thread
from convcore.cuda.launch import all_axes
from convcore.cuda.launch import launch as launch_over
from convcore.cuda.toolkit import cuda

__all__ = ["copy_kernel", "fill_kernel", "launch", "launch_fill"]


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


def launch(y: Any, x: Any) -> None:
    """Copy `x` to `y`, device arrays of the same shape with at most 8 axes."""
    launch_over(copy_kernel, y.size, all_axes(y), all_axes(x))


def launch_fill(y: Any, value: float) -> None:
    """Set every element of `y`, a device array with at most 8 axes."""
    launch_over(fill_kernel, y.size, all_axes(y), y.dtype.type(value))
