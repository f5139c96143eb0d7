"""Convolution as a matrix product whose left matrix is never stored: the fast kernels.

The product has a row for each output position and a column for each output channel, and sums over the taps
and input channels. Its left matrix, whose rows are windows, exists only as the tile in shared memory that a
block is working on; each 16 bytes of it are a run of channels of one input position, copied there
asynchronously, or zeros beyond the border.

    block     128 x 128 outputs with 4 warps, each 64 x 64; or 128 x 64 with 4 warps, each 32 x 64
    step      128 bytes of a row: 32 float32 or 64 bfloat16 channels of one or more taps
    stage     the tiles of a step, left and right, in shared memory; STAGES of them in a ring, so that copies
              run ahead of the products by STAGES - 1 steps
    swizzle   a row is 8 chunks of 16 bytes; chunk q of row r lies at q ^ (r % 8), so that the eight rows that
              one ``ldmatrix`` reads lie in eight different groups of banks

Weights are packed by columns, each ``steps`` x 128 bytes: the sum's index is then contiguous on both sides,
which is what the tensor cores' fragments want.

The sums go through shared memory once more, where the stages were, so that they are written row by row, 16
bytes at a time. With `pool` the rows are numbered so that the four positions of a 2x2 window follow each
other: their maximum is taken there, and only it is written.

With more than one part (``gridDim.z``) every part sums its share of the steps into a slice of its own, to be
added in order by another kernel: late layers have too few outputs to fill a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convcore.cuda.instructions import (
    address_of,
    commit_copies,
    copy_async,
    divide,
    load4_shared,
    load_fragments,
    mma,
    multiply_shared,
    remainder,
    shared_memory,
    store1,
    store1_bfloat16,
    store4,
    store4_bfloat16,
    store_fragments,
    store_lattice,
    wait_for_copies,
    zeros,
)
from convcore.cuda.kernels.activation import LINEAR, activate, larger
from convcore.cuda.toolkit import cuda

__all__ = ["CHUNK", "ROWS", "STEP", "THREADS", "WIDTHS", "make", "shared_bytes"]

ROWS = THREADS = 128
#: Columns of a block: the second for layers that have no more.
WIDTHS = (128, 64)
STAGES = 3
#: Bytes of a row of a tile, and of the smallest copy.
STEP, CHUNK = 128, 16
#: Columns of a warp.
_WARP_COLUMNS = 64
#: Rows of a tile that the threads copy at a time, a chunk each.
_PASS = THREADS * CHUNK // STEP
_LEFT_TILE = ROWS * STEP
#: A window that begins here lies outside any map: the row of a position that does not exist.
_NOWHERE = -(1 << 14)
#: An offset that stands for zeros. No map has so many elements.
_OUTSIDE = 0xFFFFFFFF

u32, i32, u64, f32 = np.uint32, np.int32, np.uint64, np.float32


def _store_some(store: Any, size: int) -> Any:
    """Return what stores the first `count` of four values, where a row ends, by `store` of `size` bytes."""

    @cuda.jit(device=True)
    def store_some(place: Any, count: Any, v0: Any, v1: Any, v2: Any, v3: Any) -> None:
        store(place, v0)
        if count > 1:
            store(u64(place + u64(size)), v1)
        if count > 2:
            store(u64(place + u64(2 * size)), v2)
        if count > 3:
            store(u64(place + u64(3 * size)), v3)

    return store_some


def _stage_bytes(width: int) -> int:
    """The tiles of a step."""
    return _LEFT_TILE + width * STEP


def _pitch(width: int) -> int:
    """Bytes from one row of the sums to the next: 8 banks on, so that rows of a fragment do not collide."""
    return 4 * (width + 8)


def shared_bytes(width: int) -> int:
    """Dynamic shared memory of a block: the stages, and a table of where the rows' windows begin."""
    return STAGES * _stage_bytes(width) + 3 * 4 * ROWS


def _on_tensor_cores(arithmetic: str, width: int) -> tuple[Any, Any, Any]:
    """Return no sums, the products of a stage, and the way of sums to shared memory, on tensor cores.

    The sums are in fragments as ``mma`` has them.
    """
    warps = width // _WARP_COLUMNS  # side by side; the others below each other
    warp_rows = ROWS * warps // 4
    m, n = warp_rows // 16, _WARP_COLUMNS // 8
    no_sums = zeros(4 * m * n)
    multiply = mma(arithmetic, m, n)
    load_left = load_fragments(m, 16 * STEP)
    load_right = load_fragments(n // 2, 16 * STEP)
    store = store_fragments(m, n, _pitch(width))
    pitch = _pitch(width)

    @cuda.jit(device=True)
    def products(sums: Any, stage: Any, warp: Any, lane: Any) -> Any:
        # This lane's rows of both tiles, and which half of a product's 32 bytes of them it reads.
        row = u32(divide(warp, u32(warps)) * u32(warp_rows) + (lane & u32(15)))
        column = u32(remainder(warp, u32(warps)) * u32(_WARP_COLUMNS) + (lane & u32(7)))
        column = u32(column + ((lane >> u32(4)) << u32(3)))
        left, right = u32(stage + row * u32(STEP)), u32(stage + u32(_LEFT_TILE) + column * u32(STEP))
        left_half, right_half = u32(lane >> u32(4)), u32((lane >> u32(3)) & u32(1))
        turn = u32(lane & u32(7))
        for k in range(4):
            a = load_left(u32(left + ((u32(2 * k) + left_half) ^ turn) * u32(CHUNK)))
            b = load_right(u32(right + ((u32(2 * k) + right_half) ^ turn) * u32(CHUNK)))
            sums = multiply(sums, a, b)
        return sums

    @cuda.jit(device=True)
    def store_sums(shared: Any, sums: Any, warp: Any, lane: Any) -> None:
        row = u32(divide(warp, u32(warps)) * u32(warp_rows) + (lane >> u32(2)))
        column = u32(remainder(warp, u32(warps)) * u32(_WARP_COLUMNS) + u32(2) * (lane & u32(3)))
        store(u32(shared + row * u32(pitch) + column * u32(4)), sums)

    return no_sums, products, store_sums


def _in_registers(width: int) -> tuple[Any, Any, Any]:
    """The same with multiply-adds of float32.

    Lane (t, s) of a warp's 4 x 8 has its rows t + 4 i and columns s + 8 j. Rows or columns that lanes read at
    a time are neighbours, so the swizzle keeps their banks apart.
    """
    warps = width // _WARP_COLUMNS
    warp_rows = ROWS * warps // 4
    m, n = warp_rows // 4, _WARP_COLUMNS // 8
    pitch = _pitch(width)
    no_sums = zeros(m * n)
    multiply = multiply_shared(m, 4 * STEP, n, 8 * STEP)
    store = store_lattice(m, 4 * pitch, n, 8 * 4)

    @cuda.jit(device=True)
    def products(sums: Any, stage: Any, warp: Any, lane: Any) -> Any:
        t, s = u32(lane >> u32(3)), u32(lane & u32(7))
        row = u32(divide(warp, u32(warps)) * u32(warp_rows) + t)
        column = u32(remainder(warp, u32(warps)) * u32(_WARP_COLUMNS) + s)
        left, right = u32(stage + row * u32(STEP)), u32(stage + u32(_LEFT_TILE) + column * u32(STEP))
        for k in range(STEP // CHUNK):
            even, odd = u32((u32(k) ^ t) * u32(CHUNK)), u32((u32(k) ^ (t + u32(4))) * u32(CHUNK))
            sums = multiply(sums, u32(left + even), u32(left + odd), u32(right + (u32(k) ^ s) * u32(CHUNK)))
        return sums

    @cuda.jit(device=True)
    def store_sums(shared: Any, sums: Any, warp: Any, lane: Any) -> None:
        row = u32(divide(warp, u32(warps)) * u32(warp_rows) + (lane >> u32(3)))
        column = u32(remainder(warp, u32(warps)) * u32(_WARP_COLUMNS) + (lane & u32(7)))
        store(u32(shared + row * u32(pitch) + column * u32(4)), sums)

    return no_sums, products, store_sums


def make(
    arithmetic: str,
    width: int,
    activation: int = LINEAR,
    pool: bool = False,
    split: bool = False,
    result: str = "float32",
) -> Callable[..., None]:
    """Return the kernel, as a Python function, for one kind of arithmetic and epilogue.

    Parameters
    ----------
    arithmetic
        "float32": multiply-adds. "tf32", "3xtf32", "bfloat16": tensor cores; see
        :func:`convcore.cuda.instructions.mma`.
    width
        Columns of a block, one of :data:`WIDTHS`.
    activation
        Number of the function of the result (:data:`convcore.cuda.kernels.activation.KINDS`).
    pool
        Write the maximum of every 2x2 window (stride 2) instead of every output.
    split
        Write bare sums in float32, one slice for each of ``gridDim.z`` parts of the steps.
    result
        "float32" or "bfloat16": the type of what is written otherwise.
    """
    size = 2 if arithmetic == "bfloat16" else 4
    run = CHUNK // size  # channels of a chunk
    no_sums, products, store_sums = (
        _in_registers(width) if arithmetic == "float32" else _on_tensor_cores(arithmetic, width)
    )
    wait_for_stage, wait_for_all = wait_for_copies(STAGES - 2), wait_for_copies(0)
    narrow = result == "bfloat16" and not split
    out_size = 2 if narrow else 4
    store_four = store4_bfloat16 if narrow else store4
    store_some = _store_some(store1_bfloat16 if narrow else store1, out_size)
    taken = 4 if pool and not split else 1  # rows that become one
    stage_bytes, pitch = _stage_bytes(width), _pitch(width)
    row_table = STAGES * stage_bytes
    left_passes, right_passes = ROWS // _PASS, width // _PASS
    fours = width // 4  # lanes that write a row
    written_at_a_time = THREADS // fours

    def kernel(
        x: Any, w: Any, bias: Any, y: Any, rows: Any, channels: Any, columns: Any, steps: Any,
        d: Any, h: Any, wd: Any, od: Any, oh: Any, ow: Any, kd: Any, kh: Any, kw: Any,
        stride_d: Any, stride_h: Any, stride_w: Any, dilation_d: Any, dilation_h: Any, dilation_w: Any,
        low_d: Any, low_h: Any, low_w: Any, p: Any, q: Any, r: Any,
    ) -> None:  # fmt: skip
        memory = cuda.shared.array(0, np.int32, 128)
        shared = shared_memory(memory)
        tid = u32(cuda.threadIdx.x)
        lane, warp = u32(tid & u32(31)), u32(tid >> u32(5))
        first_row = u32(u32(cuda.blockIdx.x) * u32(ROWS))
        first_column = u32(u32(cuda.blockIdx.y) * u32(width))

        # Thread t finds where the window of row t begins: the division is done once.
        table = u32(u32(row_table // 4) + tid)
        at = u32(first_row + tid)
        if at < u32(rows):
            if pool:
                # Windows in order, and in each the positions (0, 0), (0, 1), (1, 0), (1, 1).
                inner, window = u32(at & u32(3)), u32(at >> u32(2))
                half_w, half_h = u32(u32(ow) >> u32(1)), u32(u32(oh) >> u32(1))
                rest = divide(window, half_w)
                out_w = u32(u32(2) * remainder(window, half_w) + (inner & u32(1)))
                out_h = u32(u32(2) * remainder(rest, half_h) + (inner >> u32(1)))
                rest = divide(rest, half_h)
            else:
                rest = divide(at, u32(ow))
                out_w = remainder(at, u32(ow))
                out_h = remainder(rest, u32(oh))
                rest = divide(rest, u32(oh))
            at_w = i32(i32(out_w) * i32(stride_w) - i32(low_w))
            at_h = i32(i32(out_h) * i32(stride_h) - i32(low_h))
            image = divide(rest, u32(od))
            at_d = i32(i32(remainder(rest, u32(od))) * i32(stride_d) - i32(low_d))
            memory[table] = i32(i32(i32(i32(image) * i32(d) + at_d) * i32(h) + at_h) * i32(wd) + at_w)
            memory[u32(table + u32(ROWS))] = i32(i32(at_h << 16) | i32(at_w & 0xFFFF))
            memory[u32(table + u32(2 * ROWS))] = at_d
        else:
            memory[table] = i32(0)
            memory[u32(table + u32(ROWS))] = i32(_NOWHERE << 16)
            memory[u32(table + u32(2 * ROWS))] = i32(0)
        cuda.syncthreads()

        # This block's share of the steps.
        begin = u32(0)
        end = u32(steps)
        if split:
            parts = u32(cuda.gridDim.z)
            begin = divide(u32(u32(steps) * u32(cuda.blockIdx.z)), parts)
            end = divide(u32(u32(steps) * u32(u32(cuda.blockIdx.z) + u32(1))), parts)

        # Copies: thread t has chunk t % 8 of rows t / 8 + 16 i.
        chunk, row0 = u32(tid & u32(7)), u32(tid >> u32(3))
        swizzled = u32(shared + row0 * u32(STEP) + ((chunk ^ (row0 & u32(7))) * u32(CHUNK)))
        from_x = address_of(x)
        column_bytes = u64(u32(u32(steps) * u32(STEP)))
        from_w = u64(
            address_of(w) + u64(u32(first_column + row0)) * column_bytes + u64(u32(chunk * u32(CHUNK)))
            + u64(begin) * u64(STEP)
        )  # fmt: skip
        # The tap and channel of this thread's chunk.
        flat = u32(u32(begin * u32(STEP // CHUNK) + chunk) * u32(run))
        channel = remainder(flat, u32(channels))
        tap = divide(flat, u32(channels))
        tap_w = remainder(tap, u32(kw))
        tap = divide(tap, u32(kw))
        tap_h = remainder(tap, u32(kh))
        tap_d = divide(tap, u32(kh))

        # Where that tap's channels of each of the rows begin; found again when the tap is another.
        offsets = cuda.local.array(left_passes, np.uint32)
        moved = True

        sums = no_sums()
        copied = begin
        stage_in = u32(0)
        stage_out = u32(0)

        for step in range(i32(begin) - i32(STAGES - 1), i32(end)):
            if step >= i32(begin):
                wait_for_stage()
                cuda.syncthreads()
            if copied < end:
                into = u32(swizzled + stage_in)
                if moved:
                    place = i32(
                        i32(i32(tap_d * dilation_d) * i32(h) + i32(tap_h * dilation_h)) * i32(wd)
                        + i32(tap_w * dilation_w)
                    )
                    for i in range(left_passes):
                        entry = u32(u32(row_table // 4 + 16 * i) + row0)
                        corner = memory[u32(entry + u32(ROWS))]
                        at_h = i32(i32(corner >> 16) + i32(tap_h * dilation_h))
                        at_w = i32(i32(i32(corner << 16) >> 16) + i32(tap_w * dilation_w))
                        at_d = i32(memory[u32(entry + u32(2 * ROWS))] + i32(tap_d * dilation_d))
                        inside = (u32(at_h) < u32(h)) & (u32(at_w) < u32(wd)) & (u32(at_d) < u32(d))
                        inside = inside & (tap_d < u32(kd))  # the last step may reach beyond the last tap
                        offsets[i] = (
                            u32(u32(memory[entry] + place) * u32(channels)) if inside else u32(_OUTSIDE)
                        )
                for i in range(left_passes):
                    inside = offsets[i] != u32(_OUTSIDE)
                    offset = u32(offsets[i] + channel) if inside else u32(0)
                    copy_async(
                        u32(into + u32(16 * i * STEP)),
                        u64(from_x + u64(offset) * u64(size)),
                        u32(CHUNK) if inside else u32(0),
                    )
                for i in range(right_passes):
                    copy_async(
                        u32(into + u32(_LEFT_TILE + 16 * i * STEP)),
                        u64(from_w + u64(16 * i) * column_bytes),
                        u32(CHUNK),
                    )
                from_w = u64(from_w + u64(STEP))
                channel = u32(channel + u32(STEP // size))
                moved = channel >= u32(channels)
                while channel >= u32(channels):
                    channel = u32(channel - u32(channels))
                    tap_w = u32(tap_w + u32(1))
                    if tap_w == u32(kw):
                        tap_w = u32(0)
                        tap_h = u32(tap_h + u32(1))
                        if tap_h == u32(kh):
                            tap_h = u32(0)
                            tap_d = u32(tap_d + u32(1))
                copied = u32(copied + u32(1))
                stage_in = u32(stage_in + u32(stage_bytes))
                if stage_in == u32(STAGES * stage_bytes):
                    stage_in = u32(0)
            commit_copies()
            if step >= i32(begin):
                sums = products(sums, u32(shared + stage_out), warp, lane)
                stage_out = u32(stage_out + u32(stage_bytes))
                if stage_out == u32(STAGES * stage_bytes):
                    stage_out = u32(0)

        wait_for_all()
        cuda.syncthreads()
        store_sums(shared, sums, warp, lane)
        cuda.syncthreads()

        # Writing: four columns for each thread.
        column = u32(first_column + u32(4) * remainder(tid, u32(fours)))
        last_row = u32(rows)
        to = u64(address_of(y))
        if split:
            to = u64(to + u64(u32(cuda.blockIdx.z)) * u64(u32(rows)) * u64(u32(columns)) * u64(4))
        whole = u32(column + u32(3)) < u32(columns) and u32(columns) & u32(3) == u32(0)
        for row in range(divide(tid, u32(fours)), ROWS // taken, written_at_a_time):
            out_row = u32(divide(first_row, u32(taken)) + u32(row))
            if u32(out_row * u32(taken)) < last_row and column < u32(columns):
                from_sums = u32(shared + u32(row * taken) * u32(pitch) + u32(4) * (column - first_column))
                v0, v1, v2, v3 = load4_shared(from_sums)
                if taken == 4:
                    for i in range(1, 4):
                        t0, t1, t2, t3 = load4_shared(u32(from_sums + u32(i * pitch)))
                        v0, v1, v2, v3 = larger(v0, t0), larger(v1, t1), larger(v2, t2), larger(v3, t3)
                place = u64(to + (u64(out_row) * u64(u32(columns)) + u64(column)) * u64(out_size))
                if not split:
                    v0 = activate(activation, f32(v0 + bias[column]), p, q, r)
                    v1 = activate(activation, f32(v1 + bias[column + 1]), p, q, r)
                    v2 = activate(activation, f32(v2 + bias[column + 2]), p, q, r)
                    v3 = activate(activation, f32(v3 + bias[column + 3]), p, q, r)
                if whole:
                    store_four(place, v0, v1, v2, v3)
                else:
                    store_some(place, columns - column, v0, v1, v2, v3)

    return kernel
