"""The sum of the slices that a split product has left, with bias, activation and pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convcore.cuda.instructions import address_of, divide, store1, store1_bfloat16
from convcore.cuda.kernels.activation import LINEAR, activate, larger
from convcore.cuda.toolkit import cuda

__all__ = ["make"]

u32, u64, f32 = np.uint32, np.uint64, np.float32


def make(activation: int = LINEAR, pool: bool = False, result: str = "float32") -> Callable[..., None]:
    """Return the kernel that writes ``f(bias + sum of slices)`` as float32 or bfloat16.

    With `pool` four rows of the sums that follow each other become one, their maximum.
    """
    taken = 4 if pool else 1
    size, store = (2, store1_bfloat16) if result == "bfloat16" else (4, store1)

    def kernel(
        sums: Any, bias: Any, y: Any, rows: Any, columns: Any, slices: Any, p: Any, q: Any, r: Any
    ) -> None:
        """Thread t has element t of the result. The slices are added in their order."""
        t = u32(u32(cuda.blockIdx.x) * u32(cuda.blockDim.x) + u32(cuda.threadIdx.x))
        row = divide(t, u32(columns))
        column = u32(t - row * u32(columns))
        if u32(row * u32(taken)) >= u32(rows):
            return
        best = f32(0)
        for i in range(taken):
            at = u64(u64(u32(row * u32(taken) + u32(i))) * u64(u32(columns)) + u64(column))
            total = sums[at]
            for _ in range(1, slices):
                at = u64(at + u64(u32(rows)) * u64(u32(columns)))
                total = f32(total + sums[at])
            best = total if i == 0 else larger(best, total)
        value = activate(activation, f32(best + bias[column]), p, q, r)
        store(u64(address_of(y) + u64(t) * u64(size)), value)

    return kernel
