"""Pooling over windows and over whole maps (n, d, h, w, c)."""

from __future__ import annotations

from typing import Any

import numpy as np

from convcore.cuda.kernels.activation import larger
from convcore.cuda.kernels.index import axes5, thread
from convcore.cuda.toolkit import cuda

__all__ = ["average_pool_kernel", "global_average_pool_kernel", "global_max_pool_kernel", "max_pool_kernel"]

_ZERO = np.float32(0)
_LOWEST = np.float32(-np.inf)


@cuda.jit
def max_pool_kernel(y: Any, x: Any, kernel: Any, stride: Any, low: Any) -> None:
    """The largest value of every window; what lies outside never wins.

    Thread t has element t of `y`, counted in C order.
    """
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, c = axes5(i, y.shape)
    d, h, w = od * stride[0] - low[0], oh * stride[1] - low[1], ow * stride[2] - low[2]
    best = _LOWEST
    for at_d in range(max(d, 0), min(d + kernel[0], x.shape[1])):
        for at_h in range(max(h, 0), min(h + kernel[1], x.shape[2])):
            for at_w in range(max(w, 0), min(w + kernel[2], x.shape[3])):
                best = larger(best, x[n, at_d, at_h, at_w, c])
    y[n, od, oh, ow, c] = best


@cuda.jit
def average_pool_kernel(y: Any, x: Any, kernel: Any, stride: Any, low: Any, include_padding: Any) -> None:
    """The mean of every window: over its real samples, or with `include_padding` over all of it.

    Thread t has element t of `y`, counted in C order.
    """
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, c = axes5(i, y.shape)
    d, h, w = od * stride[0] - low[0], oh * stride[1] - low[1], ow * stride[2] - low[2]
    total, count = _ZERO, 0
    for at_d in range(max(d, 0), min(d + kernel[0], x.shape[1])):
        for at_h in range(max(h, 0), min(h + kernel[1], x.shape[2])):
            for at_w in range(max(w, 0), min(w + kernel[2], x.shape[3])):
                total += x[n, at_d, at_h, at_w, c]
                count += 1
    if include_padding:
        count = kernel[0] * kernel[1] * kernel[2]
    y[n, od, oh, ow, c] = total / np.float32(count)


@cuda.jit
def global_max_pool_kernel(y: Any, x: Any) -> None:
    """The largest value of every channel of every image. Thread t has channel t % c of image t // c."""
    i = thread()
    if i >= y.size:
        return
    n, c = i // x.shape[4], i % x.shape[4]
    best = _LOWEST
    for d in range(x.shape[1]):
        for h in range(x.shape[2]):
            for w in range(x.shape[3]):
                best = larger(best, x[n, d, h, w, c])
    y[n, 0, 0, 0, c] = best


@cuda.jit
def global_average_pool_kernel(y: Any, x: Any) -> None:
    """The mean of every channel of every image. Thread t has channel t % c of image t // c.

    Rows are summed apart, so that errors grow with the root of the number of samples and not with it.
    """
    i = thread()
    if i >= y.size:
        return
    n, c = i // x.shape[4], i % x.shape[4]
    total = _ZERO
    for d in range(x.shape[1]):
        plane = _ZERO
        for h in range(x.shape[2]):
            row = _ZERO
            for w in range(x.shape[3]):
                row += x[n, d, h, w, c]
            plane += row
        total += plane
    y[n, 0, 0, 0, c] = total / np.float32(x.shape[1] * x.shape[2] * x.shape[3])
