"""Dense layers for few rows: one pass over the weights, which is all that such a layer costs.

The weights have a row for each output, as the convolution kernel has them. A warp has COLUMNS outputs of all
rows of inputs; its lanes walk along the inputs side by side, 16 bytes each, and meet at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convcore.cuda.instructions import (
    address_of,
    divide,
    multiply_streams,
    store1,
    store1_bfloat16,
    sum_over_warp,
    zeros,
)
from convcore.cuda.kernels.activation import LINEAR, activate
from convcore.cuda.toolkit import cuda

__all__ = ["COLUMNS", "MOST_ROWS", "THREADS", "make"]

THREADS = 128
#: Outputs of a warp: its reads of the inputs serve all of them.
COLUMNS = 4
#: More rows than this are a matrix product.
MOST_ROWS = 8
#: 16-byte reads of each stream that are under way together.
_DEPTH = 2

u32, u64, f32 = np.uint32, np.uint64, np.float32


def make(
    rows: int, activation: int = LINEAR, operands: str = "float32", result: str = "float32"
) -> Callable[..., None]:
    """Return the kernel ``y[row, o] = f(bias[o] + sum over c of x[row, c] w[o, c])`` for so many rows.

    Rows of x have `inputs` elements, whole chunks of 16 bytes, and rows of w `pitch`; y has `outputs`
    columns, and w rows for a multiple of COLUMNS of them. x and w are of type `operands`, y is `result`:
    float32 or bfloat16 each. Sums are float32.
    """
    narrow = operands == "bfloat16"
    size = 2 if narrow else 4
    out_size, store = (2, store1_bfloat16) if result == "bfloat16" else (4, store1)
    no_sums = zeros(rows * COLUMNS)
    many = multiply_streams(rows, COLUMNS, _DEPTH, 32 * 16, bfloat16=narrow)
    one = multiply_streams(rows, COLUMNS, 1, 0, bfloat16=narrow)
    total = sum_over_warp(rows * COLUMNS)

    def kernel(
        x: Any, w: Any, bias: Any, y: Any, inputs: Any, outputs: Any, pitch: Any, p: Any, q: Any, r: Any
    ) -> None:
        tid = u32(cuda.threadIdx.x)
        lane = u32(tid & u32(31))
        warp = u32(u32(cuda.blockIdx.x) * u32(THREADS // 32) + (tid >> u32(5)))
        first = u32(warp * u32(COLUMNS))
        if first >= u32(outputs):
            return
        from_x, x_step = address_of(x), u64(u64(u32(inputs)) * u64(size))
        w_step = u64(u64(u32(pitch)) * u64(size))
        from_w = u64(address_of(w) + u64(first) * w_step)
        sums = no_sums()
        chunks = divide(u32(inputs), u32(16 // size))
        at = lane
        while u32(at + u32(32 * (_DEPTH - 1))) < chunks:
            offset = u64(u64(at) * u64(16))
            sums = many(sums, u64(from_x + offset), x_step, u64(from_w + offset), w_step)
            at = u32(at + u32(32 * _DEPTH))
        while at < chunks:
            offset = u64(u64(at) * u64(16))
            sums = one(sums, u64(from_x + offset), x_step, u64(from_w + offset), w_step)
            at = u32(at + u32(32))
        cuda.syncwarp()
        value = total(sums, lane)
        column = u32(first + (lane & u32(COLUMNS - 1)))
        row = divide(lane, u32(COLUMNS))
        if row < u32(rows) and column < u32(outputs):
            place = u64(row) * u64(u32(outputs)) + u64(column)
            value = activate(activation, f32(value + bias[column]), p, q, r)
            store(u64(address_of(y) + place * u64(out_size)), value)

    return kernel
