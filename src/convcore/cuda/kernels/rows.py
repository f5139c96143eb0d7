"""Operations on rows: dense layers, softmax, and what batch normalisation multiplies and adds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convcore.cuda.kernels.activation import activate
from convcore.cuda.kernels.index import thread
from convcore.cuda.toolkit import cuda

__all__ = ["batch_norm_affine_kernel", "dense_kernel", "softmax_kernel"]

_ZERO = np.float32(0)


@cuda.jit
def dense_kernel(y: Any, x: Any, w: Any, bias: Any, kind: Any, p: Any, q: Any, r: Any) -> None:
    """``y[row, o] = f(bias[o] + sum over c of x[row, c] w[c, o])``; an empty `bias` is none.

    Thread t has output t % oc of row t // oc: neighbours read neighbouring weights.
    """
    i = thread()
    if i >= y.size:
        return
    row, o = i // y.shape[1], i % y.shape[1]
    total = _ZERO
    for c in range(x.shape[1]):
        total = cuda.fma(x[row, c], w[c, o], total)
    total += bias[o]
    y[row, o] = activate(kind, total, p, q, r)


@cuda.jit
def softmax_kernel(y: Any, x: Any) -> None:
    """``y[row] = exp(x[row] - max) / sum``. Thread t has row t.

    A row that holds a NaN or +inf, or nothing but -inf, comes out as NaN.
    """
    row = thread()
    if row >= x.shape[0]:
        return
    largest = x[row, 0]
    for c in range(1, x.shape[1]):
        v = x[row, c]
        largest = v if v > largest or math.isnan(v) else largest
    total = _ZERO
    for c in range(x.shape[1]):
        total += math.exp(x[row, c] - largest)
    for c in range(x.shape[1]):
        y[row, c] = math.exp(x[row, c] - largest) / total


@cuda.jit
def batch_norm_affine_kernel(
    scale: Any, offset: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: Any
) -> None:
    """``scale = gamma / sqrt(variance + epsilon)``, ``offset = beta - mean * scale``, in float64.

    An empty `gamma` is 1, an empty `beta` 0; where ``variance + epsilon`` is not positive, both are NaN.
    Thread t has channel t.
    """
    c = thread()
    if c >= scale.size:
        return
    spread = np.float64(variance[c]) + epsilon
    factor = 1.0 / math.sqrt(spread) if spread > 0.0 else math.nan
    if gamma.size:
        factor *= gamma[c]
    shift = -np.float64(mean[c]) * factor
    if beta.size:
        shift += beta[c]
    scale[c] = factor
    offset[c] = shift
