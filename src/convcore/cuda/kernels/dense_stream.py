"""Dense layers for few rows: one pass over the weights, which is all that such a layer costs.

    block     the outputs of one row of 16-byte pieces that a warp reads, and a share of the inputs
    warp      takes every fourth run of DEPTH inputs of the block's share; DEPTH loads are under way at a time
    lane      four outputs (eight with bfloat16 weights)

The four warps' sums meet in shared memory and are added in order; every share writes a slice of its own, and
:mod:`.split` adds the slices, so that the result is the same from run to run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convcore.cuda.instructions import (
    address_of,
    divide,
    load4_shared,
    multiply_stream,
    shared_memory,
    store1,
    store_lattice,
    zeros,
)
from convcore.cuda.toolkit import cuda

__all__ = ["THREADS", "columns_of", "make"]

THREADS = 128
#: Inputs of a run.
DEPTH = 8

u32, i32, u64 = np.uint32, np.int32, np.uint64


def columns_of(kind: str) -> int:
    """Outputs that a block computes."""
    return 32 * (8 if kind == "bfloat16" else 4)


def make(rows: int, kind: str) -> Callable[..., None]:
    """Return the kernel for up to `rows` rows of inputs and weights of type `kind`, "float32" or "bfloat16".

    The kernel's weights are (inputs, outputs) in C order, outputs a multiple of 4 (8 with bfloat16).
    """
    width = 8 if kind == "bfloat16" else 4
    size = 2 if kind == "bfloat16" else 4
    columns = columns_of(kind)
    cells = 4 * rows * columns
    no_sums = zeros(rows * width)
    many, one = multiply_stream(rows, DEPTH, kind), multiply_stream(rows, 1, kind)
    store = store_lattice(rows, 4 * columns, width, 4)

    def kernel(x: Any, w: Any, y: Any, inputs: Any, outputs: Any) -> None:
        memory = cuda.shared.array(cells, np.float32, 16)
        shared = shared_memory(memory)
        tid = u32(cuda.threadIdx.x)
        lane, warp = u32(tid & u32(31)), u32(tid >> u32(5))
        first = u32(u32(cuda.blockIdx.x) * u32(columns))
        column = u32(first + lane * u32(width))
        parts = u32(cuda.gridDim.y)
        begin = divide(u32(u32(inputs) * u32(cuda.blockIdx.y)), parts)
        end = divide(u32(u32(inputs) * u32(u32(cuda.blockIdx.y) + u32(1))), parts)

        sums = no_sums()
        if column < u32(outputs):
            w_step, x_step = u64(u64(u32(outputs)) * u64(size)), u64(u64(u32(inputs)) * u64(4))
            from_w, from_x = u64(address_of(w) + u64(column) * u64(size)), address_of(x)
            c = u32(begin + warp * u32(DEPTH))
            while u32(c + u32(DEPTH)) <= end:
                sums = many(
                    sums, u64(from_w + u64(c) * w_step), w_step, u64(from_x + u64(c) * u64(4)), x_step
                )
                c = u32(c + u32(4 * DEPTH))
            while c < end:
                sums = one(sums, u64(from_w + u64(c) * w_step), w_step, u64(from_x + u64(c) * u64(4)), x_step)
                c = u32(c + u32(1))
        store(u32(shared + (warp * u32(rows * columns) + lane * u32(width)) * u32(4)), sums)
        cuda.syncthreads()

        # Four sums at a time: element e of the block's rows x columns.
        to = u64(address_of(y) + u64(u32(cuda.blockIdx.y)) * u64(rows) * u64(u32(outputs)) * u64(4))
        for e in range(4 * tid, rows * columns, 4 * THREADS):
            v0, v1, v2, v3 = load4_shared(u32(shared + u32(e) * u32(4)))
            for other in range(1, 4):
                t0, t1, t2, t3 = load4_shared(u32(shared + u32(e + other * rows * columns) * u32(4)))
                v0, v1, v2, v3 = v0 + t0, v1 + t1, v2 + t2, v3 + t3
            row, at = u32(u32(e) // u32(columns)), u32(first + (u32(e) & u32(columns - 1)))
            if at < u32(outputs):
                place = u64(to + (u64(row) * u64(u32(outputs)) + u64(at)) * u64(4))
                store1(place, v0)
                store1(u64(place + u64(4)), v1)
                store1(u64(place + u64(8)), v2)
                store1(u64(place + u64(12)), v3)

    return kernel
