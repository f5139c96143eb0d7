"""Samples at fractional positions of maps (n, d, h, w, c), and what lies beyond an edge."""

from __future__ import annotations

from typing import Any

import numpy as np

from convcore.cuda.kernels.index import axes5, thread
from convcore.cuda.toolkit import cuda

__all__ = ["BORDERS", "linear_kernel", "nearest_kernel", "pad_kernel"]

#: What :func:`pad_kernel` puts beyond the edge, in NumPy's words and in the order of their numbers.
BORDERS = ("constant", "edge", "reflect", "symmetric", "wrap")
CONSTANT, EDGE, REFLECT, SYMMETRIC, WRAP = range(len(BORDERS))


@cuda.jit(device=True)
def neighbours(at: Any, scale: Any, offset: Any, size: Any) -> Any:
    """The sample at or below place ``at * scale + offset``, the one above, and the share of the latter.

    The place is computed in float64 and held inside the axis. A place on a sample has no other neighbour:
    an infinity beside it must not make it NaN.
    """
    place = min(max(at * scale + offset, 0.0), size - 1.0)
    low = int(place)
    share = np.float32(place - low)
    return low, low + 1 if share > 0 else low, share


@cuda.jit(device=True)
def mix(a: Any, b: Any, t: Any) -> Any:
    """``a (1 - t) + b t``."""
    return cuda.fma(b, t, a * (np.float32(1) - t))


@cuda.jit
def linear_kernel(y: Any, x: Any, scale: Any, offset: Any) -> None:
    """Linear interpolation along d, h and w, edges held. Thread t has element t of `y`, in C order."""
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, c = axes5(i, y.shape)
    d0, d1, td = neighbours(od, scale[0], offset[0], x.shape[1])
    h0, h1, th = neighbours(oh, scale[1], offset[1], x.shape[2])
    w0, w1, tw = neighbours(ow, scale[2], offset[2], x.shape[3])
    near = mix(
        mix(x[n, d0, h0, w0, c], x[n, d0, h0, w1, c], tw),
        mix(x[n, d0, h1, w0, c], x[n, d0, h1, w1, c], tw),
        th,
    )
    far = mix(
        mix(x[n, d1, h0, w0, c], x[n, d1, h0, w1, c], tw),
        mix(x[n, d1, h1, w0, c], x[n, d1, h1, w1, c], tw),
        th,
    )
    y[n, od, oh, ow, c] = mix(near, far, td)


@cuda.jit(device=True)
def nearest(at: Any, scale: Any, offset: Any, size: Any) -> Any:
    """The sample that place ``at * scale + offset`` is in, rounded to float32 first as TensorFlow does."""
    place = np.float64(np.float32(at * scale + offset))
    return int(min(max(place, 0.0), size - 1.0))


@cuda.jit
def nearest_kernel(y: Any, x: Any, scale: Any, offset: Any) -> None:
    """The nearest sample along d, h and w. Thread t has element t of `y`, counted in C order."""
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, c = axes5(i, y.shape)
    d = nearest(od, scale[0], offset[0], x.shape[1])
    h = nearest(oh, scale[1], offset[1], x.shape[2])
    w = nearest(ow, scale[2], offset[2], x.shape[3])
    y[n, od, oh, ow, c] = x[n, d, h, w, c]


@cuda.jit(device=True)
def reflected(at: Any, size: Any, border: Any) -> Any:
    """The sample that stands at place `at` of an axis continued by `border`; -1 for the constant."""
    if 0 <= at < size:
        return at
    if border == CONSTANT:
        return -1
    if border == EDGE:
        return min(max(at, 0), size - 1)
    if border == WRAP:
        return at % size  # Python's sign rule, which Numba keeps: never negative
    period = 2 * size if border == SYMMETRIC else max(2 * size - 2, 1)
    at = at % period
    last = period - 1 if border == SYMMETRIC else period
    return at if at < size else last - at


@cuda.jit
def pad_kernel(y: Any, x: Any, low: Any, border: Any, value: Any) -> None:
    """`x` continued beyond the edges of d, h and w; sample 0 stands at place `low`.

    Thread t has element t of `y`, counted in C order.
    """
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, c = axes5(i, y.shape)
    d = reflected(od - low[0], x.shape[1], border)
    h = reflected(oh - low[1], x.shape[2], border)
    w = reflected(ow - low[2], x.shape[3], border)
    y[n, od, oh, ow, c] = value if d < 0 or h < 0 or w < 0 else x[n, d, h, w, c]
