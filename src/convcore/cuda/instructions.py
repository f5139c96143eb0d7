"""Instructions that Numba has no name for, as functions that kernels can call.

128-bit loads and stores, asynchronous copies to shared memory (``cp.async``), matrix loads (``ldmatrix``)
and tensor-core products (``mma.sync``), each an ``@intrinsic`` with inline assembly or plain LLVM. Those on
whole fragments (tuples of registers) are unrolled here, where the loop is Python's, because a loop in a
kernel's own source may stay a loop, and its arrays then lie in memory instead of registers.

Every address is a number: 32 bits for shared memory, 64 for the device's.

Source: NVIDIA, Parallel Thread Execution ISA, chapter 9.7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from numba.cuda import cgutils, types  # isort: skip - after the toolkit's import, which makes this one work
from numba.cuda.extending import intrinsic  # isort: skip

__all__ = [
    "address_of",
    "bfloat16_pair",
    "commit_copies",
    "copy_async",
    "divide",
    "load1",
    "load1_bfloat16",
    "load4",
    "load4_bfloat16",
    "load4_shared",
    "load4_words",
    "load_fragments",
    "mma",
    "multiply_shared",
    "multiply_streams",
    "remainder",
    "shared_memory",
    "store1",
    "store1_bfloat16",
    "store4",
    "store4_bfloat16",
    "store4_words",
    "store_fragments",
    "store_lattice",
    "sum_over_warp",
    "wait_for_copies",
    "zeros",
]

_F32, _VOID = ir.FloatType(), ir.VoidType()
_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_LLVM = {types.float32: _F32, types.uint32: _I32, types.int32: _I32, types.uint64: _I64}


def _tuple_of(kind: Any, count: int) -> Any:
    return types.UniTuple(kind, count)


def _assembly(
    text: str, constraints: str, result: Any, arguments: Sequence[Any], *, effects: bool = True
) -> Any:
    """Return an intrinsic that is one piece of assembly: scalars in; a scalar, a tuple or nothing out."""
    count = result.count if isinstance(result, types.UniTuple) else 0
    if count:
        returned: Any = ir.LiteralStructType([_LLVM[result.dtype]] * count)
    else:
        returned = _VOID if result == types.void else _LLVM[result]

    def typer(context: Any, *given: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = ir.FunctionType(returned, [_LLVM[a] for a in arguments])
            got = builder.call(ir.InlineAsm(function, text, constraints, side_effect=effects), values)
            if result == types.void:
                return context.get_dummy_value()
            return cgutils.pack_array(builder, _parts(builder, got, count)) if count else got

        return result(*arguments), emit

    return _with_arity(typer, len(arguments))


def _with_arity(typer: Callable[..., Any], count: int) -> Any:
    """Numba reads an intrinsic's number of arguments off its signature."""
    names = [f"a{i}" for i in range(count)]
    listed = "".join(f", {n}" for n in names)
    made: dict[str, Any] = {}
    exec(f"def typed(context{listed}): return typer(context{listed})", {"typer": typer}, made)
    return intrinsic(made["typed"])


def _parts(builder: Any, aggregate: Any, count: int) -> list[Any]:
    return [builder.extract_value(aggregate, i) for i in range(count)]


# ---- addresses and numbers ---------------------------------------------------------------------------


@intrinsic
def address_of(context: Any, pointer: Any) -> Any:
    """The address that a pointer argument of a kernel holds."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(values[0], _I64)

    return types.uint64(pointer), emit


@intrinsic
def shared_memory(context: Any, array: Any) -> Any:
    """The address of a shared array."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        shared = ir.PointerType(data.type.pointee, 3)
        return builder.ptrtoint(
            data if data.type.addrspace == 3 else builder.addrspacecast(data, shared), _I32
        )

    return types.uint32(array), emit


def _binary32(name: str) -> Any:
    """A 32-bit unsigned operation that Numba would do in 64 bits, with a call."""

    @intrinsic
    def operation(context: Any, a: Any, b: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return getattr(builder, name)(*values)

        return types.uint32(types.uint32, types.uint32), emit

    return operation


divide = _binary32("udiv")
remainder = _binary32("urem")


def zeros(count: int) -> Any:
    """Return an intrinsic that gives a tuple of `count` zeros: accumulators."""

    @intrinsic
    def made(context: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return cgutils.pack_array(builder, [ir.Constant(_F32, 0.0)] * count)

        return _tuple_of(types.float32, count)(), emit

    return made


# ---- memory --------------------------------------------------------------------------------------------

#: ``copy_async(shared, device, bytes)``: copy 16 bytes, of which `bytes` (0 or 16) are read; the rest are 0.
copy_async = _assembly(
    "cp.async.cg.shared.global [$0], [$1], 16, $2;",
    "r,l,r,~{memory}",
    types.void,
    (types.uint32, types.uint64, types.uint32),
)

#: ``commit_copies()``: this thread's copies since the last commit are one group.
commit_copies = _assembly("cp.async.commit_group;", "~{memory}", types.void, ())


def wait_for_copies(pending: int) -> Any:
    """Return an intrinsic that waits until at most `pending` of this thread's groups are under way."""
    return _assembly(f"cp.async.wait_group {pending};", "~{memory}", types.void, ())


def load_fragments(count: int, apart: int) -> Any:
    """Return ``load(shared)``: `count` times four 8x8 matrices of 16-bit elements, `apart` bytes apart.

    Lane l gives the address of row l % 8 of matrix l // 8. Seen as 32-bit elements a matrix is 8x4, and lane
    l receives element (l // 4, l % 4): the fragments of ``mma``.
    """
    registers = ["=r"] * 4
    text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0,$1,$2,$3}, [$4];"

    @intrinsic
    def load(context: Any, shared: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = ir.FunctionType(ir.LiteralStructType([_I32] * 4), [_I32])
            assembly = ir.InlineAsm(
                function, text, ",".join([*registers, "r", "~{memory}"]), side_effect=True
            )
            got: list[Any] = []
            for i in range(count):
                address = builder.add(values[0], ir.Constant(_I32, i * apart))
                got += _parts(builder, builder.call(assembly, [address]), 4)
            return cgutils.pack_array(builder, got)

        return _tuple_of(types.uint32, 4 * count)(types.uint32), emit

    return load


def store_fragments(rows: int, columns: int, pitch: int) -> Any:
    """Return ``store(shared, c)``: a warp's accumulators (see :func:`mma`) to a matrix in shared memory.

    Its rows are `pitch` bytes apart; lane l gives the address of element (l // 4, 2 (l % 4)) of its tile.
    """
    text = "st.shared.v2.f32 [$0], {$1, $2};"

    @intrinsic
    def store(context: Any, shared: Any, c: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = ir.FunctionType(_VOID, [_I32, _F32, _F32])
            assembly = ir.InlineAsm(function, text, "r,f,f,~{memory}", side_effect=True)
            sums = _parts(builder, values[1], 4 * rows * columns)
            for at in range(0, len(sums), 2):
                product, lower = divmod(at, 4)
                i, j = divmod(product, columns)
                offset = (16 * i + 4 * lower) * pitch + 32 * j
                address = builder.add(values[0], ir.Constant(_I32, offset))
                builder.call(assembly, [address, *sums[at : at + 2]])
            return context.get_dummy_value()

        return types.void(types.uint32, _tuple_of(types.float32, 4 * rows * columns)), emit

    return store


#: ``load4_shared(shared)``: four float32 in one access.
load4_shared = _assembly(
    "ld.shared.v4.f32 {$0,$1,$2,$3}, [$4];",
    "=f,=f,=f,=f,r,~{memory}",
    types.UniTuple(types.float32, 4),
    (types.uint32,),
)

#: ``load4(device)``: four float32 in one access.
load4 = _assembly(
    "ld.global.v4.f32 {$0,$1,$2,$3}, [$4];",
    "=f,=f,=f,=f,l,~{memory}",
    types.UniTuple(types.float32, 4),
    (types.uint64,),
)

#: ``load4_words(device)``: four 32-bit words in one access.
load4_words = _assembly(
    "ld.global.v4.b32 {$0,$1,$2,$3}, [$4];",
    "=r,=r,=r,=r,l,~{memory}",
    types.UniTuple(types.uint32, 4),
    (types.uint64,),
)

#: ``load1(device)``: one float32.
load1 = _assembly("ld.global.f32 $0, [$1];", "=f,l,~{memory}", types.float32, (types.uint64,))

#: ``store1(device, a)``: one float32.
store1 = _assembly("st.global.f32 [$0], $1;", "l,f,~{memory}", types.void, (types.uint64, types.float32))

#: ``store4(device, a, b, c, d)``: four float32 in one access.
store4 = _assembly(
    "st.global.v4.f32 [$0], {$1,$2,$3,$4};",
    "l,f,f,f,f,~{memory}",
    types.void,
    (types.uint64, *(types.float32,) * 4),
)

#: ``store4_words(device, a, b, c, d)``: four 32-bit words in one access.
store4_words = _assembly(
    "st.global.v4.b32 [$0], {$1,$2,$3,$4};",
    "l,r,r,r,r,~{memory}",
    types.void,
    (types.uint64, *(types.uint32,) * 4),
)

_ROUND_PAIR = "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f"

#: ``bfloat16_pair(low, high)``: two float32 rounded to bfloat16, `low` in the lower half.
bfloat16_pair = _assembly(*_ROUND_PAIR, types.uint32, (types.float32, types.float32), effects=False)


def _halves(builder: Any, word: Any) -> list[Any]:
    """The two bfloat16 of a word as float32, the lower one first."""
    low = builder.shl(word, ir.Constant(_I32, 16))
    high = builder.and_(word, ir.Constant(_I32, 0xFFFF0000))
    return [builder.bitcast(low, _F32), builder.bitcast(high, _F32)]


def _rounded_pair(builder: Any, low: Any, high: Any) -> Any:
    """:func:`bfloat16_pair`."""
    function = ir.FunctionType(_I32, [_F32, _F32])
    return builder.call(ir.InlineAsm(function, *_ROUND_PAIR), [low, high])


@intrinsic
def load1_bfloat16(context: Any, device: Any) -> Any:
    """One bfloat16, as float32."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function = ir.FunctionType(_I16, [_I64])
        load = ir.InlineAsm(function, "ld.global.u16 $0, [$1];", "=h,l,~{memory}", side_effect=True)
        word = builder.zext(builder.call(load, values), _I32)
        return builder.bitcast(builder.shl(word, ir.Constant(_I32, 16)), _F32)

    return types.float32(types.uint64), emit


@intrinsic
def load4_bfloat16(context: Any, device: Any) -> Any:
    """Four bfloat16 in one access of 8 bytes, as float32."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function = ir.FunctionType(ir.LiteralStructType([_I32] * 2), [_I64])
        text = "ld.global.v2.b32 {$0,$1}, [$2];"
        load = ir.InlineAsm(function, text, "=r,=r,l,~{memory}", side_effect=True)
        low, high = _parts(builder, builder.call(load, values), 2)
        return cgutils.pack_array(builder, _halves(builder, low) + _halves(builder, high))

    return _tuple_of(types.float32, 4)(types.uint64), emit


@intrinsic
def store1_bfloat16(context: Any, device: Any, a: Any) -> Any:
    """One float32, rounded to bfloat16."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pair = _rounded_pair(builder, values[1], ir.Constant(_F32, 0.0))
        function = ir.FunctionType(_VOID, [_I64, _I16])
        store = ir.InlineAsm(function, "st.global.u16 [$0], $1;", "l,h,~{memory}", side_effect=True)
        builder.call(store, [values[0], builder.trunc(pair, _I16)])
        return context.get_dummy_value()

    return types.void(types.uint64, types.float32), emit


@intrinsic
def store4_bfloat16(context: Any, device: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Four float32, rounded to bfloat16, in one access of 8 bytes."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place, *numbers = values
        words = [_rounded_pair(builder, *numbers[i : i + 2]) for i in (0, 2)]
        function = ir.FunctionType(_VOID, [_I64, _I32, _I32])
        text = "st.global.v2.b32 [$0], {$1,$2};"
        builder.call(ir.InlineAsm(function, text, "l,r,r,~{memory}", side_effect=True), [place, *words])
        return context.get_dummy_value()

    return types.void(types.uint64, *(types.float32,) * 4), emit


# ---- products ------------------------------------------------------------------------------------------


def _mma_assembly(kind: str) -> ir.InlineAsm:
    """One m16n8 product: 4 registers of A, 2 of B, 4 accumulators."""
    shape = {"tf32": "m16n8k8", "bf16": "m16n8k16"}[kind]
    text = (
        f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )
    function = ir.FunctionType(ir.LiteralStructType([_F32] * 4), [_I32] * 6 + [_F32] * 4)
    return ir.InlineAsm(function, text, ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4))


def _rounded(builder: Any, bits: Any) -> Any:
    """A float32 whose upper 19 bits, all that a TF32 product reads, are the nearest ones."""
    return builder.add(bits, ir.Constant(_I32, 0x1000))


def _high_and_low(builder: Any, bits: Any) -> tuple[Any, Any]:
    """The nearest TF32 number to a float32, and the nearest one to the rest."""
    high = builder.and_(_rounded(builder, bits), ir.Constant(_I32, 0xFFFFE000))
    low = builder.fsub(builder.bitcast(bits, _F32), builder.bitcast(high, _F32))
    return high, _rounded(builder, builder.bitcast(low, _I32))


def mma(arithmetic: str, rows: int, columns: int) -> Any:
    """Return ``multiply(c, a, b)`` for a warp's tile of `rows` x `columns` products m16n8.

    `a` has 4 registers for each row, `b` 2 for each column, `c` 4 for each product, row by row.

    Parameters
    ----------
    arithmetic
        "tf32": operands rounded to TF32 (10 bits after the point). "3xtf32": each float32 operand as the sum
        of two TF32 numbers, and three of the four products, smallest first. What the two leave of an operand,
        and the fourth product, are 2^-22 of a product each; an infinity comes out as NaN.
        "bfloat16": operands are pairs of bfloat16.
    rows, columns
        Size of the tile, in products.
    """
    assembly = _mma_assembly("bf16" if arithmetic == "bfloat16" else "tf32")

    @intrinsic
    def multiply(context: Any, c: Any, a: Any, b: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            sums = _parts(builder, values[0], 4 * rows * columns)
            left = _parts(builder, values[1], 4 * rows)
            right = _parts(builder, values[2], 2 * columns)

            def product(i: int, j: int, a: list[Any], b: list[Any]) -> None:
                at = 4 * (i * columns + j)
                operands = [*a[4 * i : 4 * i + 4], *b[2 * j : 2 * j + 2], *sums[at : at + 4]]
                sums[at : at + 4] = _parts(builder, builder.call(assembly, operands), 4)

            passes = [(left, right)]
            if arithmetic == "3xtf32":
                left_high, left_low = map(list, zip(*(_high_and_low(builder, v) for v in left), strict=True))
                right_high, right_low = map(
                    list, zip(*(_high_and_low(builder, v) for v in right), strict=True)
                )
                passes = [(left_low, right_high), (left_high, right_low), (left_high, right_high)]
            elif arithmetic == "tf32":
                passes = [([_rounded(builder, v) for v in left], [_rounded(builder, v) for v in right])]
            for a, b in passes:
                for i in range(rows):
                    for j in range(columns):
                        product(i, j, a, b)
            return cgutils.pack_array(builder, sums)

        sums_type = _tuple_of(types.float32, 4 * rows * columns)
        return sums_type(
            sums_type, _tuple_of(types.uint32, 4 * rows), _tuple_of(types.uint32, 2 * columns)
        ), emit

    return multiply


def multiply_shared(rows: int, row_bytes: int, columns: int, column_bytes: int) -> Any:
    """Return ``multiply(c, even, odd, right)``: a lane's `rows` x `columns` sums, four products for each.

    Row i of the left matrix lies at ``i * row_bytes`` from the address `even` or `odd`, as i is; column j of
    the right one at ``j * column_bytes`` from `right`. Each is one 128-bit load; the products are added in
    their order.
    """
    text = "ld.shared.v4.f32 {$0,$1,$2,$3}, [$4];"

    @intrinsic
    def multiply(context: Any, c: Any, even: Any, odd: Any, right: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = ir.FunctionType(ir.LiteralStructType([_F32] * 4), [_I32])
            assembly = ir.InlineAsm(function, text, "=f,=f,=f,=f,r,~{memory}", side_effect=True)

            def load(address: Any, offset: int) -> list[Any]:
                at = builder.add(address, ir.Constant(_I32, offset))
                return _parts(builder, builder.call(assembly, [at]), 4)

            sums = _parts(builder, values[0], rows * columns)
            left = [load(values[1 + i % 2], i * row_bytes) for i in range(rows)]
            for j in range(columns):
                b = load(values[3], j * column_bytes)
                for k in range(4):
                    for i in range(rows):
                        at = i * columns + j
                        sums[at] = builder.fma(left[i][k], b[k], sums[at])
            return cgutils.pack_array(builder, sums)

        sums_type = _tuple_of(types.float32, rows * columns)
        return sums_type(sums_type, types.uint32, types.uint32, types.uint32), emit

    return multiply


def store_lattice(rows: int, row_bytes: int, columns: int, column_bytes: int) -> Any:
    """Return ``store(shared, c)``: `rows` x `columns` float32, so far from each other in shared memory."""

    @intrinsic
    def store(context: Any, shared: Any, c: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = ir.FunctionType(_VOID, [_I32, _F32])
            assembly = ir.InlineAsm(function, "st.shared.f32 [$0], $1;", "r,f,~{memory}", side_effect=True)
            for at, value in enumerate(_parts(builder, values[1], rows * columns)):
                i, j = divmod(at, columns)
                address = builder.add(values[0], ir.Constant(_I32, i * row_bytes + j * column_bytes))
                builder.call(assembly, [address, value])
            return context.get_dummy_value()

        return types.void(types.uint32, _tuple_of(types.float32, rows * columns)), emit

    return store


def multiply_streams(rows: int, columns: int, depth: int, apart: int, *, bfloat16: bool = False) -> Any:
    """Return ``multiply(c, x, x_step, w, w_step)``: add products of `rows` by `columns` streams of numbers.

    They are float32, or bfloat16, whose products are summed in float32 all the same. This thread has 16 bytes
    of every stream at a time, `depth` times, `apart` bytes from each other: of row i from ``x + i * x_step``
    and of column j from ``w + j * w_step``; ``c[i * columns + j]`` is their sum. All loads of the columns,
    which nobody reads twice, come first, to be under way together.
    """
    word, letter, kind = (_I32, "r", "b32") if bfloat16 else (_F32, "f", "f32")

    @intrinsic
    def multiply(context: Any, c: Any, x: Any, x_step: Any, w: Any, w_step: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = ir.FunctionType(ir.LiteralStructType([word] * 4), [_I64])

            def load(cache: str, place: Sequence[Any], index: int, turn: int) -> list[Any]:
                base, step = place
                text = f"ld.global{cache}.v4.{kind} {{$0,$1,$2,$3}}, [$4];"
                constraints = ",".join([f"={letter}"] * 4 + ["l"])
                assembly = ir.InlineAsm(function, text, constraints, side_effect=True)
                at = builder.add(base, builder.mul(step, ir.Constant(_I64, index)))
                return _parts(
                    builder, builder.call(assembly, [builder.add(at, ir.Constant(_I64, turn * apart))]), 4
                )

            def numbers(loaded: Any) -> list[Any]:
                return _halves(builder, loaded) if bfloat16 else [loaded]

            sums = _parts(builder, values[0], rows * columns)
            streams = [[load(".cs", values[3:5], j, turn) for j in range(columns)] for turn in range(depth)]
            for turn in range(depth):
                for i in range(rows):
                    factors = load("", values[1:3], i, turn)
                    for k in range(4):
                        left = numbers(factors[k])
                        for j in range(columns):
                            at = i * columns + j
                            for a, b in zip(left, numbers(streams[turn][j][k]), strict=True):
                                sums[at] = builder.fma(a, b, sums[at])
            return cgutils.pack_array(builder, sums)

        sums_type = _tuple_of(types.float32, rows * columns)
        return sums_type(sums_type, *(types.uint64,) * 4), emit

    return multiply


def sum_over_warp(count: int) -> Any:
    """Return ``total(c, lane)``: each of `count` numbers summed over the warp; lane i gets sum number i.

    Pairs of lanes 16, 8, 4, 2 and 1 apart are added: always in the same order.
    """

    @intrinsic
    def total(context: Any, c: Any, lane: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            function = ir.FunctionType(_F32, [_F32, _I32])
            text = "shfl.sync.bfly.b32 $0, $1, $2, 0x1f, 0xffffffff;"
            shuffle = ir.InlineAsm(function, text, "=f,f,r", side_effect=True)
            mine: Any = ir.Constant(_F32, 0.0)
            for i, value in enumerate(_parts(builder, values[0], count)):
                for apart in (16, 8, 4, 2, 1):
                    value = builder.fadd(value, builder.call(shuffle, [value, ir.Constant(_I32, apart)]))
                is_mine = builder.icmp_unsigned("==", values[1], ir.Constant(_I32, i))
                mine = builder.select(is_mine, value, mine)
            return mine

        return types.float32(_tuple_of(types.float32, count), types.uint32), emit

    return total
