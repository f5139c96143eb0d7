"""Convolution, depthwise convolution and transposed convolution of maps (n, d, h, w, c)."""

from __future__ import annotations

from typing import Any

import numpy as np

from convcore.cuda.kernels.activation import activate
from convcore.cuda.kernels.index import axes5, thread
from convcore.cuda.toolkit import cuda

__all__ = ["conv_kernel", "conv_transpose_kernel", "depthwise_kernel"]

_ZERO = np.float32(0)


@cuda.jit
def conv_kernel(
    y: Any, x: Any, w: Any, bias: Any, stride: Any, dilation: Any, low: Any, flip: Any,
    kind: Any, p: Any, q: Any, r: Any,
) -> None:  # fmt: skip
    """``y[at, o] = f(bias[o] + sum of x[at * stride + tap * dilation - low, c] w[tap, c, o])``.

    `w` is (kd, kh, kw, ic / groups, oc). Thread t has element t of `y`, counted in
    C order: neighbouring threads have neighbouring output channels of one position, so they read the same
    input and neighbouring weights.
    """
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, o = axes5(i, y.shape)
    kd, kh, kw, per_group = w.shape[0], w.shape[1], w.shape[2], w.shape[3]
    first = o // (y.shape[4] // (x.shape[4] // per_group)) * per_group
    total = _ZERO
    for td in range(kd):
        at_d = od * stride[0] + (kd - 1 - td if flip else td) * dilation[0] - low[0]
        if at_d < 0 or at_d >= x.shape[1]:
            continue
        for th in range(kh):
            at_h = oh * stride[1] + (kh - 1 - th if flip else th) * dilation[1] - low[1]
            if at_h < 0 or at_h >= x.shape[2]:
                continue
            for tw in range(kw):
                at_w = ow * stride[2] + (kw - 1 - tw if flip else tw) * dilation[2] - low[2]
                if at_w < 0 or at_w >= x.shape[3]:
                    continue
                for c in range(per_group):
                    total = cuda.fma(x[n, at_d, at_h, at_w, first + c], w[td, th, tw, c, o], total)
    total += bias[o]
    y[n, od, oh, ow, o] = activate(kind, total, p, q, r)


@cuda.jit
def depthwise_kernel(
    y: Any, x: Any, w: Any, bias: Any, stride: Any, dilation: Any, low: Any, flip: Any,
    kind: Any, p: Any, q: Any, r: Any,
) -> None:  # fmt: skip
    """Convolution of every channel alone, with m kernels each: output channel c m + j is channel c's j-th.

    `w` is (kd, kh, kw, ic, m). Thread t has element t of `y`, counted in C order.
    """
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, o = axes5(i, y.shape)
    kd, kh, kw, multiplier = w.shape[0], w.shape[1], w.shape[2], w.shape[4]
    c, j = o // multiplier, o % multiplier
    total = _ZERO
    for td in range(kd):
        at_d = od * stride[0] + (kd - 1 - td if flip else td) * dilation[0] - low[0]
        if at_d < 0 or at_d >= x.shape[1]:
            continue
        for th in range(kh):
            at_h = oh * stride[1] + (kh - 1 - th if flip else th) * dilation[1] - low[1]
            if at_h < 0 or at_h >= x.shape[2]:
                continue
            for tw in range(kw):
                at_w = ow * stride[2] + (kw - 1 - tw if flip else tw) * dilation[2] - low[2]
                if at_w >= 0 and at_w < x.shape[3]:
                    total = cuda.fma(x[n, at_d, at_h, at_w, c], w[td, th, tw, c, j], total)
    total += bias[o]
    y[n, od, oh, ow, o] = activate(kind, total, p, q, r)


@cuda.jit(device=True)
def source(at: Any, stride: Any, size: Any) -> Any:
    """The input sample that a kernel's tap brought to place `at` of the full output; -1 if none did."""
    if at < 0 or at % stride != 0 or at // stride >= size:
        return -1
    return at // stride


@cuda.jit
def conv_transpose_kernel(
    y: Any, x: Any, w: Any, bias: Any, stride: Any, dilation: Any, low: Any, flip: Any,
    kind: Any, p: Any, q: Any, r: Any,
) -> None:  # fmt: skip
    """Transposed convolution, gathered: every output sums the inputs whose kernels reach it.

    Input s adds its multiple of tap t to place s * stride + t * dilation - low. `w` is (kd, kh, kw, oc, ic).
    Thread t has element t of `y`, counted in C order, and no two write the same: the sum has one order.
    """
    i = thread()
    if i >= y.size:
        return
    n, od, oh, ow, o = axes5(i, y.shape)
    kd, kh, kw, ic = w.shape[0], w.shape[1], w.shape[2], w.shape[4]
    total = _ZERO
    for td in range(kd):
        at_d = source(od + low[0] - (kd - 1 - td if flip else td) * dilation[0], stride[0], x.shape[1])
        if at_d < 0:
            continue
        for th in range(kh):
            at_h = source(oh + low[1] - (kh - 1 - th if flip else th) * dilation[1], stride[1], x.shape[2])
            if at_h < 0:
                continue
            for tw in range(kw):
                at_w = source(
                    ow + low[2] - (kw - 1 - tw if flip else tw) * dilation[2], stride[2], x.shape[3]
                )
                if at_w < 0:
                    continue
                for c in range(ic):
                    total = cuda.fma(x[n, at_d, at_h, at_w, c], w[td, th, tw, o, c], total)
    total += bias[o]
    y[n, od, oh, ow, o] = activate(kind, total, p, q, r)
