"""Kernels that emulator, compiler and gates are tested on: one for each kind that they must carry.

Compiled by :mod:`cuda_worker` and never imported by the tests themselves, whose simulator knows no
assembly. The few instructions that Numba has no name for are here a second time on purpose: what tests them
must not change with the package's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from convcore.cuda.toolkit import cuda

from numba.cuda import cgutils, types  # isort: skip - after the toolkit, which makes this import work
from numba.cuda.extending import intrinsic  # isort: skip

u32, i32, u64, f32 = np.uint32, np.int32, np.uint64, np.float32

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_LLVM = {types.float32: _F32, types.uint32: _I32, types.uint64: _I64}


def _with_names(typer: Any, count: int) -> Any:
    """Numba reads an intrinsic's number of arguments off its signature."""
    names = "".join(f", a{i}" for i in range(count))
    scope: dict[str, Any] = {"typer": typer}
    exec(f"def typed(context{names}): return typer(context{names})", scope)
    return scope["typed"]


def _assembly(text: str, results: Sequence[Any], arguments: Sequence[Any]) -> Any:
    """Return an intrinsic of one piece of assembly: scalars in, a tuple of scalars (or nothing) out."""
    letter = {types.float32: "f", types.uint32: "r", types.uint64: "l"}
    constraints = ",".join(
        [*(f"={letter[r]}" for r in results), *(letter[a] for a in arguments), "~{memory}"]
    )
    returned = types.Tuple(tuple(results)) if results else types.void
    if results and len(set(results)) == 1:
        returned = types.UniTuple(results[0], len(results))

    def typer(context: Any, *given: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            struct = ir.LiteralStructType([_LLVM[r] for r in results]) if results else ir.VoidType()
            single = len(results) == 1
            function = ir.FunctionType(_LLVM[results[0]] if single else struct, [_LLVM[a] for a in arguments])
            got = builder.call(ir.InlineAsm(function, text, constraints, side_effect=True), values)
            if not results:
                return context.get_dummy_value()
            parts = [got] if single else [builder.extract_value(got, i) for i in range(len(results))]
            return cgutils.pack_array(builder, parts)

        return returned(*arguments), emit

    return intrinsic(_with_names(typer, len(arguments)))


@intrinsic
def shared_address(context: Any, array: Any) -> Any:
    """The address of a shared array in shared memory."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.ptrtoint(builder.addrspacecast(data, ir.PointerType(data.type.pointee, 3)), _I32)

    return types.uint32(array), emit


@intrinsic
def global_address(context: Any, array: Any) -> Any:
    """The address of an array's first element."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(context.make_array(signature.args[0])(context, builder, values[0]).data, _I64)

    return types.uint64(array), emit


@intrinsic
def float_of(context: Any, bits: Any) -> Any:
    """The float32 that bits are."""
    return types.float32(types.uint32), lambda context, builder, signature, values: builder.bitcast(
        values[0], _F32
    )


_WORDS4, _FLOATS4 = [types.uint32] * 4, [types.float32] * 4
load4 = _assembly("ld.global.v4.f32 {$0,$1,$2,$3}, [$4];", _FLOATS4, [types.uint64])
store4 = _assembly("st.global.v4.f32 [$0], {$1,$2,$3,$4};", [], [types.uint64, *_FLOATS4])
load4_shared = _assembly("ld.shared.v4.f32 {$0,$1,$2,$3}, [$4];", _FLOATS4, [types.uint32])
load_word = _assembly("ld.shared.b32 $0, [$1];", [types.uint32], [types.uint32])
store4_shared = _assembly("st.shared.v4.f32 [$0], {$1,$2,$3,$4};", [], [types.uint32, *_FLOATS4])
copy16 = _assembly(
    "cp.async.cg.shared.global [$0], [$1], 16, $2;", [], [types.uint32, types.uint64, types.uint32]
)
copy4 = _assembly(
    "cp.async.ca.shared.global [$0], [$1], 4, $2;", [], [types.uint32, types.uint64, types.uint32]
)
commit = _assembly("cp.async.commit_group;", [], [])
wait1 = _assembly("cp.async.wait_group 1;", [], [])
wait0 = _assembly("cp.async.wait_group 0;", [], [])
matrices4 = _assembly(
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0,$1,$2,$3}, [$4];", _WORDS4, [types.uint32]
)
matrices2_transposed = _assembly(
    "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {$0,$1}, [$2];", [types.uint32] * 2, [types.uint32]
)


def _unrolled(kinds: Sequence[Any], step: Any) -> Any:
    """Return an intrinsic of tuples, the first of which it changes: ``step(builder, *lists)`` does, unrolled.

    A loop in a kernel's own source may stay a loop, and its tuples then lie in memory instead of registers.
    """

    def typer(context: Any, *given: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            lists = [
                [builder.extract_value(v, i) for i in range(kind.count)]
                for v, kind in zip(values, kinds, strict=True)
            ]
            step(builder, *lists)
            return cgutils.pack_array(builder, lists[0])

        return kinds[0](*kinds), emit

    return intrinsic(_with_names(typer, len(kinds)))


def _zeros(count: int) -> Any:
    """Return an intrinsic: a tuple of zeros."""

    @intrinsic
    def made(context: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return cgutils.pack_array(builder, [ir.Constant(_F32, 0.0)] * count)

        return types.UniTuple(types.float32, count)(), emit

    return made


def _mma(shape: str, kind: str) -> Any:
    text = (
        f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )
    return _assembly(text, _FLOATS4, [*[types.uint32] * 6, *_FLOATS4])


mma_tf32 = _mma("m16n8k8", "tf32")
mma_bf16 = _mma("m16n8k16", "bf16")
mma_f16 = _mma("m16n8k16", "f16")


# ---- matrix products -------------------------------------------------------------------------------


def _outer_product(builder: Any, sums: list[Any], left: list[Any], right: list[Any]) -> None:
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            at = i * len(right) + j
            sums[at] = builder.fma(a, b, sums[at])


@intrinsic
def _store_tile(context: Any, sums: Any, place: Any, pitch: Any) -> Any:
    """8 rows of 8 sums, rows `pitch` bytes apart."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [_I64, *[_F32] * 4])
        store = ir.InlineAsm(
            function, "st.global.v4.f32 [$0], {$1,$2,$3,$4};", "l,f,f,f,f,~{memory}", side_effect=True
        )
        row = values[1]
        for i in range(8):
            for half in range(2):
                at = builder.add(row, ir.Constant(_I64, 16 * half))
                four = [builder.extract_value(values[0], 8 * i + 4 * half + j) for j in range(4)]
                builder.call(store, [at, *four])
            row = builder.add(row, values[2])
        return context.get_dummy_value()

    return types.void(sums, types.uint64, types.uint64), emit


_outer = _unrolled([types.UniTuple(types.float32, n) for n in (64, 8, 8)], _outer_product)
_no_tile = _zeros(64)


def gemm_float32(a: Any, b: Any, c: Any, k: Any) -> None:
    """``C = A B`` on register tiles: blocks of 64 x 64 outputs and 64 threads, 8 x 8 outputs a thread.

    `a` is (k, m): its columns, so that both tiles are copied by rows. All sizes are multiples of the tiles'.
    """
    tiles = cuda.shared.array((2, 8, 64), types.float32, alignment=16)
    tile = shared_address(tiles)
    tid = u32(cuda.threadIdx.x)
    m, n = u32(u32(cuda.gridDim.x) * u32(64)), u32(u32(cuda.gridDim.y) * u32(64))
    from_a, from_b, to = global_address(a), global_address(b), global_address(c)
    row, column = u32(tid >> u32(3)), u32(tid & u32(7))
    sums = _no_tile()
    for step in range(u32(0), u32(k), u32(8)):
        for half in range(2):
            at = u32(column * u32(8) + u32(4 * half))
            into = u32(tile + (row * u32(64) + at) * u32(4))
            wide = u64(u32(step) + row)
            v0, v1, v2, v3 = load4(
                u64(from_a + (wide * u64(m) + u64(cuda.blockIdx.x) * u64(64) + u64(at)) * u64(4))
            )
            store4_shared(into, v0, v1, v2, v3)
            v0, v1, v2, v3 = load4(
                u64(from_b + (wide * u64(n) + u64(cuda.blockIdx.y) * u64(64) + u64(at)) * u64(4))
            )
            store4_shared(u32(into + u32(8 * 64 * 4)), v0, v1, v2, v3)
        cuda.syncthreads()
        for deep in range(8):
            left = u32(tile + u32(deep * 256) + row * u32(32))
            right = u32(tile + u32(2048 + deep * 256) + column * u32(32))
            a0, a1, a2, a3 = load4_shared(left)
            a4, a5, a6, a7 = load4_shared(u32(left + u32(16)))
            b0, b1, b2, b3 = load4_shared(right)
            b4, b5, b6, b7 = load4_shared(u32(right + u32(16)))
            sums = _outer(sums, (a0, a1, a2, a3, a4, a5, a6, a7), (b0, b1, b2, b3, b4, b5, b6, b7))
        cuda.syncthreads()
    line = u64(cuda.blockIdx.x) * u64(64) + u64(row * u32(8))
    at = u64(cuda.blockIdx.y) * u64(64) + u64(column * u32(8))
    _store_tile(sums, u64(to + (line * u64(n) + at) * u64(4)), u64(u64(n) * u64(4)))


def _product_of_halves(multiply: Any) -> Any:
    """Return ``C = A B`` for 16-bit matrices by ``ldmatrix``: one warp and 16 x 16 outputs a block."""

    def kernel(a: Any, b: Any, c: Any, k: Any) -> None:
        memory = cuda.shared.array(
            2 * 16 * 24, types.uint16, alignment=16
        )  # rows of 16 elements and 8 of padding
        left = shared_address(memory)
        right = u32(left + u32(16 * 48))
        lane = u32(cuda.threadIdx.x)
        row, chunk = u32(lane >> u32(1)), u32(lane & u32(1))
        n = u32(u32(cuda.gridDim.y) * u32(16))
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = f32(0)
        for step in range(u32(0), u32(k), u32(16)):
            at_a = (
                u64(u32(cuda.blockIdx.x) * u32(16) + row) * u64(k) + u64(u32(step) + chunk * u32(8))
            ) * u64(2)
            at_b = (
                u64(u32(step) + row) * u64(n) + u64(u32(cuda.blockIdx.y) * u32(16) + chunk * u32(8))
            ) * u64(2)
            place = u32(row * u32(48) + chunk * u32(16))
            copy16(u32(left + place), u64(global_address(a) + at_a), u32(16))
            copy16(u32(right + place), u64(global_address(b) + at_b), u32(16))
            commit()
            wait0()
            cuda.syncthreads()
            a0, a1, a2, a3 = matrices4(u32(left + (lane & u32(15)) * u32(48) + (lane >> u32(4)) * u32(16)))
            b0, b1 = matrices2_transposed(u32(right + (lane & u32(15)) * u32(48)))
            s0, s1, s2, s3 = multiply(a0, a1, a2, a3, b0, b1, s0, s1, s2, s3)
            b0, b1 = matrices2_transposed(u32(right + (lane & u32(15)) * u32(48) + u32(16)))
            t0, t1, t2, t3 = multiply(a0, a1, a2, a3, b0, b1, t0, t1, t2, t3)
            cuda.syncthreads()
        y = u32(cuda.blockIdx.x) * u32(16) + (lane >> u32(2))
        x = u32(cuda.blockIdx.y) * u32(16) + u32(2) * (lane & u32(3))
        c[y, x], c[y, x + 1], c[y + 8, x], c[y + 8, x + 1] = s0, s1, s2, s3
        c[y, x + 8], c[y, x + 9], c[y + 8, x + 8], c[y + 8, x + 9] = t0, t1, t2, t3

    return kernel


gemm_bfloat16 = _product_of_halves(mma_bf16)
gemm_float16 = _product_of_halves(mma_f16)


# ---- convolution -----------------------------------------------------------------------------------

_ROWS, _COLUMNS, _DEPTH, _STAGES = 64, 64, 32, 3
_LEFT_PITCH, _RIGHT_PITCH = _DEPTH + 4, _COLUMNS + 8  # words; no two lanes of a fragment meet in one bank
_LEFT_WORDS = _ROWS * _LEFT_PITCH
_STAGE_WORDS = _LEFT_WORDS + _DEPTH * _RIGHT_PITCH
CONV_SHARED_BYTES = 4 * _STAGES * _STAGE_WORDS


def _multiply_fragments(builder: Any, sums: list[Any], left: list[Any], right: list[Any]) -> None:
    text = (
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )
    function = ir.FunctionType(ir.LiteralStructType([_F32] * 4), [_I32] * 6 + [_F32] * 4)
    product = ir.InlineAsm(function, text, ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4))
    columns = len(right) // 2
    for i in range(len(left) // 4):
        for j in range(columns):
            at = 4 * (i * columns + j)
            got = builder.call(
                product, [*left[4 * i : 4 * i + 4], *right[2 * j : 2 * j + 2], *sums[at : at + 4]]
            )
            sums[at : at + 4] = [builder.extract_value(got, n) for n in range(4)]


_products = _unrolled(
    [types.UniTuple(types.float32, 32), types.UniTuple(types.uint32, 8), types.UniTuple(types.uint32, 8)],
    _multiply_fragments,
)
_no_sums = _zeros(32)


def conv_tf32(x: Any, w: Any, bias: Any, y: Any, height: Any, width: Any, channels: Any) -> None:
    """3x3 convolution, "same" padding, bias and ReLU, one image: an implicit product by TF32 tensor cores.

    A block has 4 warps and 64 positions x 64 output channels; `x` is (height, width, channels), `w` (3, 3,
    channels, outputs). Positions and outputs are multiples of 64, channels of 32. Copies run two stages
    ahead.
    """
    memory = cuda.shared.array(0, types.float32, alignment=16)
    start = shared_address(memory)
    tid = u32(cuda.threadIdx.x)
    lane, warp = u32(tid & u32(31)), u32(tid >> u32(5))
    outputs = u32(u32(cuda.gridDim.y) * u32(_COLUMNS))
    first_row, first_column = (
        u32(u32(cuda.blockIdx.x) * u32(_ROWS)),
        u32(u32(cuda.blockIdx.y) * u32(_COLUMNS)),
    )
    from_x, from_w = global_address(x), global_address(w)
    steps = u32(u32(9) * (u32(channels) >> u32(5)))
    group, within = u32(lane >> u32(2)), u32(lane & u32(3))
    row_of_warp, column_of_warp = u32((warp & u32(1)) * u32(32)), u32((warp >> u32(1)) * u32(32))
    sums = _no_sums()
    tap_h, tap_w, channel = i32(-1), i32(-1), u32(0)
    copied = u32(0)
    for step in range(i32(-2), i32(steps)):
        if copied < steps:
            into = u32(start + u32(copied % u32(_STAGES)) * u32(4 * _STAGE_WORDS))
            for i in range(4):  # 64 rows of 8 chunks
                row, chunk = u32((tid >> u32(3)) + u32(16 * i)), u32(tid & u32(7))
                position = u32(first_row + row)
                at_h = i32(i32(position // u32(width)) + tap_h)
                at_w = i32(i32(position % u32(width)) + tap_w)
                inside = at_h >= 0 and at_h < height and at_w >= 0 and at_w < width
                offset = u32((u32(at_h) * u32(width) + u32(at_w)) * u32(channels) + channel + chunk * u32(4))
                copy16(
                    u32(into + (row * u32(_LEFT_PITCH) + chunk * u32(4)) * u32(4)),
                    u64(from_x + u64(offset if inside else u32(0)) * u64(4)),
                    u32(16) if inside else u32(0),
                )
            for i in range(4):  # 32 rows of 16 chunks
                row, chunk = u32((tid >> u32(4)) + u32(8 * i)), u32(tid & u32(15))
                offset = u32((copied * u32(_DEPTH) + row) * outputs + first_column + chunk * u32(4))
                copy16(
                    u32(into + (u32(_LEFT_WORDS) + row * u32(_RIGHT_PITCH) + chunk * u32(4)) * u32(4)),
                    u64(from_w + u64(offset) * u64(4)),
                    u32(16),
                )
            copied = u32(copied + u32(1))
            channel = u32(channel + u32(_DEPTH))
            if channel == u32(channels):
                channel = u32(0)
                tap_w = i32(tap_w + 1)
                if tap_w == 2:
                    tap_w = i32(-1)
                    tap_h = i32(tap_h + 1)
        commit()
        if step < 0:
            continue
        wait_for_two_later()
        cuda.syncthreads()
        stage = u32(start + u32(u32(step) % u32(_STAGES)) * u32(4 * _STAGE_WORDS))
        left = u32(stage + ((row_of_warp + group) * u32(_LEFT_PITCH) + within) * u32(4))
        right = u32(stage + (u32(_LEFT_WORDS) + within * u32(_RIGHT_PITCH) + column_of_warp + group) * u32(4))
        for deep in range(0, _DEPTH, 8):
            a = fragment_left(u32(left + u32(4 * deep)))
            b = fragment_right(u32(right + u32(4 * deep * _RIGHT_PITCH)))
            sums = _products(sums, a, b)
        cuda.syncthreads()
    for i in range(2):
        for j in range(4):
            for half in range(2):
                position = u32(first_row + row_of_warp + u32(16 * i + 8 * half) + group)
                for e in range(2):
                    output = u32(first_column + column_of_warp + u32(8 * j) + u32(2) * within + u32(e))
                    value = sums[4 * (4 * i + j) + 2 * half + e] + bias[output]
                    y[position, output] = max(value, f32(0))


wait_for_two_later = _assembly("cp.async.wait_group 2;", [], [])


def _words_at(offsets: Sequence[int]) -> Any:
    """Return an intrinsic: words of shared memory at fixed distances from an address."""
    text = " ".join(f"ld.shared.b32 ${i}, [${len(offsets)}+{4 * o}];" for i, o in enumerate(offsets))
    return _assembly(text, [types.uint32] * len(offsets), [types.uint32])


fragment_left = _words_at(
    [(16 * i + r) * _LEFT_PITCH + c for i in range(2) for r, c in ((0, 0), (8, 0), (0, 4), (8, 4))]
)
fragment_right = _words_at([8 * j + k * _RIGHT_PITCH for j in range(4) for k in (0, 4)])


# ---- one thing each --------------------------------------------------------------------------------


def neighbours(x: Any, y: Any) -> None:
    """``y[i] = x[i - 1] + x[i] + x[i + 1]`` within a block, through shared memory, twice."""
    row = cuda.shared.array(64, types.float32)
    t = cuda.threadIdx.x
    i = cuda.blockIdx.x * 64 + t
    row[t] = x[i]
    cuda.syncthreads()
    total = row[t] + (row[t - 1] if t > 0 else f32(0)) + (row[t + 1] if t < 63 else f32(0))
    cuda.syncthreads()
    row[63 - t] = total
    cuda.syncthreads()
    y[i] = row[t]


def warp_sums(x: Any, sums: Any, counts: Any) -> None:
    """The sum of each warp by shuffles, and how many of its values are positive by a vote."""
    i = cuda.grid(1)
    v = x[i]
    positive = cuda.ballot_sync(u32(0xFFFFFFFF), v > f32(0))
    total = v
    for by in (16, 8, 4, 2, 1):
        total += cuda.shfl_down_sync(u32(0xFFFFFFFF), total, by)
    first = cuda.shfl_sync(u32(0xFFFFFFFF), total, 0)
    around = cuda.shfl_xor_sync(u32(0xFFFFFFFF), v, 1) + cuda.shfl_up_sync(u32(0xFFFFFFFF), v, 1)
    if cuda.threadIdx.x % 32 == 0:
        sums[i // 32, 0] = first
        counts[i // 32] = cuda.popc(positive)
    if cuda.threadIdx.x % 32 == 5:
        sums[i // 32, 1] = around


def histogram(x: Any, bins: Any, total: Any) -> None:
    """Counts by atomic operations on shared memory, then on the device's."""
    own = cuda.shared.array(8, types.uint32)
    t = cuda.threadIdx.x
    if t < 8:
        own[t] = u32(0)
    cuda.syncthreads()
    v = x[cuda.grid(1)]
    cuda.atomic.add(own, int(v) & 7, u32(1))
    cuda.atomic.add(total, 0, v)
    cuda.syncthreads()
    if t < 8:
        cuda.atomic.add(bins, t, own[t])


def spilled(x: Any, y: Any, k: Any) -> None:
    """A local array with an index that is not known before: memory, not registers."""
    own = cuda.local.array(32, types.float32)
    i = cuda.grid(1)
    for j in range(32):
        own[(j * k) % 32] = x[i] * f32(j)
    y[i] = own[k % 32] + own[(k * 7 + 1) % 32]


TABLE = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.float32)


def functions(x: Any, y: Any) -> None:
    """A row for each elementary function of float32, and a constant table."""
    table = cuda.const.array_like(TABLE)
    i = cuda.grid(1)
    v = x[i]
    y[0, i] = math.exp(v)
    y[1, i] = math.log(abs(v) + f32(1))
    y[2, i] = math.sqrt(abs(v))
    y[3, i] = f32(1) / (v + f32(0.1))
    y[4, i] = math.tanh(v)
    y[5, i] = math.erfc(v)
    y[6, i] = math.sin(v)
    y[7, i] = math.floor(v) + math.ceil(v)
    y[8, i] = table[i % 8]


def integers(a: Any, b: Any, y: Any) -> None:
    """A row for each operation of integers."""
    i = cuda.grid(1)
    p, q = a[i], b[i]
    y[0, i] = p // q
    y[1, i] = p % q
    y[2, i] = cuda.popc(p)
    y[3, i] = cuda.clz(p)
    y[4, i] = cuda.brev(i32(p))
    y[5, i] = min(p, q) - max(p, q)
    y[6, i] = (p << (q & 31)) ^ (p >> (q & 15))
    y[7, i] = i32(p) * i32(q)
    y[8, i] = int(float(p) / float(q))


def copies(x: Any, y: Any, n: Any) -> None:
    """One array through shared memory by copies of 4 bytes, the last ones of which are zeros."""
    row = cuda.shared.array(64, types.float32)
    t = u32(cuda.threadIdx.x)
    i = u32(u32(cuda.blockIdx.x) * u32(64) + t)
    inside = i < u32(n)
    copy4(
        u32(shared_address(row) + t * u32(4)),
        u64(global_address(x) + u64(i if inside else u32(0)) * u64(4)),
        u32(4) if inside else u32(0),
    )
    commit()
    wait0()
    cuda.syncthreads()
    y[i] = row[u32(63) - t]
