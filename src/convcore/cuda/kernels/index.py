"""From the number of a thread to the indices of its element."""

from __future__ import annotations

from typing import Any

import numpy as np

from convcore.cuda.toolkit import cuda

__all__ = ["axes5", "axes8", "thread"]


@cuda.jit(device=True)
def thread() -> Any:
    """The number of this thread in the whole grid, in 64 bits: a batch may have more than 2**31 elements."""
    return np.int64(cuda.blockIdx.x) * np.int64(cuda.blockDim.x) + np.int64(cuda.threadIdx.x)


@cuda.jit(device=True)
def axes5(i: Any, shape: Any) -> Any:
    """The five indices of element `i` of an array of `shape`, counted in C order."""
    c = i % shape[4]
    i //= shape[4]
    w = i % shape[3]
    i //= shape[3]
    h = i % shape[2]
    i //= shape[2]
    return i // shape[1], i % shape[1], h, w, c


@cuda.jit(device=True)
def axes8(i: Any, shape: Any) -> Any:
    """The eight indices of element `i` of an array of `shape`, counted in C order."""
    i7 = i % shape[7]
    i //= shape[7]
    i6 = i % shape[6]
    i //= shape[6]
    i5 = i % shape[5]
    i //= shape[5]
    i4 = i % shape[4]
    i //= shape[4]
    i3 = i % shape[3]
    i //= shape[3]
    i2 = i % shape[2]
    i //= shape[2]
    return i // shape[1], i % shape[1], i2, i3, i4, i5, i6, i7
