"""Instructions on registers: arithmetic, logic, comparison, selection, conversion.

Source: NVIDIA, Parallel Thread Execution ISA, chapters 9.7.1 to 9.7.10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import floats
from .faults import UnknownInstruction
from .lanes import DTYPES, Decoder, Lanes, Run, list_of
from .parser import Instruction

__all__ = ["FAMILIES"]

Array = NDArray[Any]

#: Decoders by the first part of an opcode.
FAMILIES: dict[str, Decoder] = {}


def _family(*names: str) -> Callable[[Decoder], Decoder]:
    def register(decoder: Decoder) -> Decoder:
        FAMILIES.update(dict.fromkeys(names, decoder))
        return decoder

    return register


def _known(ins: Instruction, *allowed: str) -> set[str]:
    """The parts of the opcode between the first and the last; all must be among those that are allowed."""
    parts = set(ins.parts[1:-1])
    if parts - set(allowed):
        raise UnknownInstruction(str(ins))
    return parts


def _elementwise(
    lanes: Lanes, ins: Instruction, dtype: Any, function: Callable[..., Array], *sources: Array
) -> Run:
    """Run a function that is no ufunc of the same type."""
    out = lanes.target(ins.operands[0], dtype)

    def run(mask: Any) -> None:
        np.copyto(out, function(*sources), where=mask, casting="unsafe")

    return run


def _ufunc(lanes: Lanes, ins: Instruction, dtype: Any, function: np.ufunc, *sources: Array) -> Run:
    out = lanes.target(ins.operands[0], dtype)
    if out.dtype != dtype:
        return _elementwise(lanes, ins, dtype, function, *sources)

    def run(mask: Any) -> None:
        function(*sources, out=out, where=mask)

    return run


def _sources(lanes: Lanes, ins: Instruction, dtype: Any) -> list[Array]:
    return [lanes.read(o, dtype) for o in ins.operands[1:]]


def _finish(parts: set[str], function: Callable[..., Array]) -> Callable[..., Array]:
    """Add what ``.ftz`` and ``.sat`` do to a float32 function."""
    if "ftz" in parts:
        inner = function

        def function(*args: Array) -> Array:
            return floats.flushed(inner(*(floats.flushed(a) for a in args)))

    if "sat" in parts:
        whole = function

        def function(*args: Array) -> Array:
            y = whole(*args)
            return np.where(np.isnan(y), np.float32(0), np.clip(y, np.float32(0), np.float32(1)))

    return function


# ---- arithmetic ------------------------------------------------------------------------------------

_UFUNCS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip
_DIRECTED = ("rz", "rm", "rp")


@_family("add", "sub", "mul", "div", "rem", "mad", "fma")
def _arithmetic(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES.get(ins.parts[-1])
    if dtype is None:
        raise UnknownInstruction(str(ins))
    if "cc" in ins.parts:
        return _with_carry(lanes, ins)
    decode = _float_arithmetic if np.dtype(dtype).kind == "f" else _integer_arithmetic
    return decode(lanes, ins, dtype)


def _float_arithmetic(lanes: Lanes, ins: Instruction, dtype: Any) -> Run:
    name = ins.parts[0]
    parts = _known(ins, "rn", "ftz", "sat", "approx", "full", *_DIRECTED)
    sources = _sources(lanes, ins, dtype)
    direction = next((d for d in _DIRECTED if d in parts), "rn")
    function: Callable[..., Array]
    if name in ("fma", "mad"):
        if dtype == np.float32:
            function = lambda a, b, c: floats.fma32(a, b, c, direction)  # noqa: E731
        elif dtype == np.float64 and direction == "rn":
            function = floats.fma64
        else:
            raise UnknownInstruction(str(ins))
    elif direction != "rn":
        if dtype != np.float32 or name not in ("add", "sub", "mul"):
            raise UnknownInstruction(str(ins))
        one, zero = np.float32(1), np.float32(-0.0)
        function = {
            "add": lambda a, b: floats.fma32(a, one, b, direction),
            "sub": lambda a, b: floats.fma32(a, one, -b, direction),
            "mul": lambda a, b: floats.fma32(a, b, zero, direction),
        }[name]
    elif name in _UFUNCS:
        if not parts & {"ftz", "sat"}:
            return _ufunc(lanes, ins, dtype, _UFUNCS[name], *sources)
        function = _UFUNCS[name]
    else:
        raise UnknownInstruction(str(ins))
    return _elementwise(lanes, ins, dtype, _finish(parts, function), *sources)


def _integer_arithmetic(lanes: Lanes, ins: Instruction, dtype: Any) -> Run:
    name = ins.parts[0]
    parts = _known(ins, "lo", "hi", "wide")
    size = np.dtype(dtype).itemsize
    kind = np.dtype(dtype).kind
    if name in ("add", "sub"):
        return _ufunc(lanes, ins, dtype, _UFUNCS[name], *_sources(lanes, ins, dtype))
    if name in ("div", "rem"):
        function = _quotient if name == "div" else _remainder
        return _elementwise(lanes, ins, dtype, function, *_sources(lanes, ins, dtype))
    if "wide" in parts:
        wide = np.dtype(f"{kind}{2 * size}").type
        a, b = (lanes.read(o, dtype) for o in ins.operands[1:3])
        product = lambda a, b: a.astype(wide) * b.astype(wide)  # noqa: E731
        if name == "mul":
            return _elementwise(lanes, ins, wide, product, a, b)
        c = lanes.read(ins.operands[3], wide)
        return _elementwise(lanes, ins, wide, lambda a, b, c: product(a, b) + c, a, b, c)
    sources = _sources(lanes, ins, dtype)
    if "hi" in parts:
        if name == "mul":
            return _elementwise(lanes, ins, dtype, _high_product, *sources)
        return _elementwise(lanes, ins, dtype, lambda a, b, c: _high_product(a, b) + c, *sources)
    if name == "mul":
        return _ufunc(lanes, ins, dtype, np.multiply, *sources)
    return _elementwise(lanes, ins, dtype, lambda a, b, c: a * b + c, *sources)


@_family("addc", "subc", "madc")
def _with_carry(lanes: Lanes, ins: Instruction) -> Run:
    """Numbers of several words: ``.cc`` leaves a carry (or borrow), ``addc`` and the like take it."""
    dtype = np.dtype(DTYPES[ins.parts[-1]])
    parts = set(ins.parts[1:-1])
    name = ins.parts[0].removesuffix("c")
    if parts - {"cc", "lo", "hi"} or dtype.itemsize != 4:
        raise UnknownInstruction(str(ins))
    out = lanes.target(ins.operands[0], np.uint32)
    sources = [lanes.read(o, dtype) for o in ins.operands[1:]]
    takes = ins.parts[0].endswith("c")

    def run(mask: Any) -> None:
        first = sources[0]
        if name == "mad":
            first = _high_product(*sources[:2]) if "hi" in parts else sources[0] * sources[1]
        a, b = (v.view(np.uint32).astype(np.int64) for v in (np.ascontiguousarray(first), sources[-1]))
        carry = lanes.carry.astype(np.int64) if takes else 0
        total = a - b - carry if name == "sub" else a + b + carry
        np.copyto(out, total & 0xFFFFFFFF, where=mask, casting="unsafe")
        if "cc" in parts:
            np.copyto(lanes.carry, total >> 32 != 0, where=mask)

    return run


def _quotient(a: Array, b: Array) -> Array:
    """Rounded to zero; by zero all ones, as the hardware gives for want of a rule."""
    if a.dtype.kind == "u":
        return np.where(b == 0, ~np.zeros_like(a), a // np.where(b == 0, 1, b).astype(a.dtype))
    unsigned = f"u{a.itemsize}"
    size_a, size_b = np.abs(a).view(unsigned), np.abs(b).view(unsigned)
    q = _quotient(size_a, size_b).view(a.dtype)
    return np.where((a < 0) != (b < 0), -q, q)


def _remainder(a: Array, b: Array) -> Array:
    """With the sign of `a`."""
    return a - _quotient(a, b) * b


def _high_product(a: Array, b: Array) -> Array:
    """The upper half of the product."""
    kind, size = a.dtype.kind, a.itemsize
    if size < 8:
        wide = f"{kind}{2 * size}"
        return (a.astype(wide) * b.astype(wide) >> 8 * size).astype(a.dtype)
    if kind == "i":
        unsigned = _high_product(a.view(np.uint64), b.view(np.uint64)).view(np.int64)
        return unsigned - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = (a0 * b0 >> half) + (a1 * b0 & low) + a0 * b1
    return a1 * b1 + (a1 * b0 >> half) + (middle >> half)


@_family("min", "max")
def _extreme(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    parts = _known(ins, "ftz", "NaN")
    sources = _sources(lanes, ins, dtype)
    smaller = ins.parts[0] == "min"
    if np.dtype(dtype).kind != "f":
        return _ufunc(lanes, ins, dtype, np.minimum if smaller else np.maximum, *sources)
    function: Callable[..., Array] = floats.minimum if smaller else floats.maximum
    if "NaN" in parts:
        number = function
        function = lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.float32(np.nan), number(a, b))  # noqa: E731
    return _elementwise(lanes, ins, dtype, _finish(parts, function), *sources)


@_family("neg", "abs")
def _sign(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    parts = _known(ins, "ftz")
    function = np.negative if ins.parts[0] == "neg" else np.absolute
    if "ftz" in parts:
        return _elementwise(lanes, ins, dtype, _finish(parts, function), *_sources(lanes, ins, dtype))
    return _ufunc(lanes, ins, dtype, function, *_sources(lanes, ins, dtype))


@_family("copysign")
def _copysign(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    return _elementwise(lanes, ins, dtype, floats.copysign_of, *_sources(lanes, ins, dtype))


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sqrt": np.sqrt, "rcp": lambda x: 1 / x, "rsqrt": lambda x: 1 / np.sqrt(x), "ex2": np.exp2,
    "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
}  # fmt: skip


@_family(*_FUNCTIONS)
def _function(lanes: Lanes, ins: Instruction) -> Run:
    """Exact to the last rounding, also where PTX allows an approximation."""
    dtype = DTYPES[ins.parts[-1]]
    parts = _known(ins, "rn", "approx", "ftz")
    function = _FUNCTIONS[ins.parts[0]]
    sources = _sources(lanes, ins, dtype)
    if dtype == np.float64:
        if "approx" in parts:  # of the upper halves only, and with a lower half of 0
            upper = np.uint64(0xFFFFFFFF00000000)
            cut = lambda x: (x.view(np.uint64) & upper).view(np.float64)  # noqa: E731
            return _elementwise(lanes, ins, dtype, lambda x: cut(function(cut(x))), *sources)
        return _elementwise(lanes, ins, dtype, function, *sources)
    if dtype != np.float32:
        raise UnknownInstruction(str(ins))
    once = lambda x: function(x.astype(np.float64)).astype(np.float32)  # noqa: E731
    return _elementwise(lanes, ins, dtype, _finish(parts, once), *sources)


# ---- logic and bits --------------------------------------------------------------------------------


@_family("and", "or", "xor")
def _logic(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    _known(ins)
    if dtype == np.bool_ and any(o.startswith("!") for o in ins.operands):
        sources = [lanes.predicate(o) for o in ins.operands[1:]]
        function = _UFUNCS[ins.parts[0]]
        return _elementwise(lanes, ins, dtype, lambda: function(*(s() for s in sources)))
    return _ufunc(lanes, ins, dtype, _UFUNCS[ins.parts[0]], *_sources(lanes, ins, dtype))


@_family("not")
def _not(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    return _ufunc(lanes, ins, dtype, np.invert, *_sources(lanes, ins, dtype))


@_family("shl", "shr")
def _shift(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    bits = np.dtype(dtype).itemsize * 8
    a, by = lanes.read(ins.operands[1], dtype), lanes.read(ins.operands[2], np.uint32)
    left = ins.parts[0] == "shl"

    def shifted(a: Array, by: Array) -> Array:
        # Shifts of the whole width and more are allowed: zeros, or the sign.
        n = np.minimum(by, bits - 1).astype(dtype)
        if left:
            return np.where(by < bits, a << n, np.array(0, dtype))
        if np.dtype(dtype).kind == "u":
            return np.where(by < bits, a >> n, np.array(0, dtype))
        return a >> n

    return _elementwise(lanes, ins, dtype, shifted, a, by)


@_family("shf")
def _funnel(lanes: Lanes, ins: Instruction) -> Run:
    """Shift the 64 bits {b, a} and give the upper (left) or lower (right) half."""
    parts = _known(ins, "l", "r", "wrap", "clamp")

    def shifted(a: Array, b: Array, c: Array) -> Array:
        n = (c & 31 if "wrap" in parts else np.minimum(c, 32)).astype(np.uint64)
        both = b.astype(np.uint64) << np.uint64(32) | a
        return (both << n) >> np.uint64(32) if "l" in parts else both >> n

    return _elementwise(lanes, ins, np.uint32, shifted, *_sources(lanes, ins, np.uint32))


@_family("popc", "clz", "brev")
def _bits(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    bits = np.dtype(dtype).itemsize * 8
    unpack = lambda a: np.unpackbits(a.view(np.uint8).reshape(-1, bits // 8)[:, ::-1], axis=1)  # noqa: E731
    source = lanes.read(ins.operands[1], dtype)
    source = source if source.flags.c_contiguous else source.copy()
    if ins.parts[0] == "popc":
        return _elementwise(lanes, ins, np.uint32, lambda a: unpack(a).sum(1), source)
    if ins.parts[0] == "clz":
        return _elementwise(
            lanes, ins, np.uint32, lambda a: np.where(a == 0, bits, unpack(a).argmax(1)), source
        )
    return _elementwise(
        lanes, ins, dtype, lambda a: np.packbits(unpack(a), axis=1, bitorder="little").view(dtype)[:, 0],
        source,
    )  # fmt: skip


@_family("bfe")
def _extract(lanes: Lanes, ins: Instruction) -> Run:
    """`length` bits from `start`; beyond the top zeros, or the sign."""
    dtype = DTYPES[ins.parts[-1]]
    size = np.dtype(dtype).itemsize
    a = lanes.read(ins.operands[1], dtype)
    start, length = (lanes.read(o, np.uint32) for o in ins.operands[2:])

    def extracted(a: Array, start: Array, length: Array) -> Array:
        start, length = start & 0xFF, length & 0xFF
        wide = [(int(v) >> int(s)) & ((1 << int(n)) - 1) for v, s, n in zip(a, start, length, strict=True)]
        if np.dtype(dtype).kind == "i":
            top = 8 * size
            wide = [
                w - (1 << int(n)) if n and int(n) < top and w >> (int(n) - 1) else w
                for w, n in zip(wide, length, strict=True)
            ]
        return np.array([w % (1 << 8 * size) for w in wide], f"u{size}").view(dtype)

    return _elementwise(lanes, ins, dtype, extracted, a, start, length)


@_family("bfi")
def _insert(lanes: Lanes, ins: Instruction) -> Run:
    """`b` with `length` bits from `start` replaced by those of `a`."""
    dtype = DTYPES[ins.parts[-1]]
    bits = np.dtype(dtype).itemsize * 8
    a, b = (lanes.read(o, dtype) for o in ins.operands[1:3])
    start, length = (lanes.read(o, np.uint32) for o in ins.operands[3:])

    def inserted(a: Array, b: Array, start: Array, length: Array) -> Array:
        start, length = start & 0xFF, length & 0xFF
        out = []
        for v, w, s, n in zip(a.tolist(), b.tolist(), start.tolist(), length.tolist(), strict=True):
            field = ((1 << n) - 1) << s
            out.append((w & ~field | v << s & field) % (1 << bits))
        return np.array(out, dtype)

    return _elementwise(lanes, ins, dtype, inserted, a, b, start, length)


@_family("lop3")
def _lookup(lanes: Lanes, ins: Instruction) -> Run:
    """Any function of three bits, given by its table."""
    table = int(ins.operands[4], 0)
    sources = [lanes.read(o, np.uint32) for o in ins.operands[1:4]]

    def looked_up(a: Array, b: Array, c: Array) -> Array:
        out = np.zeros_like(a)
        for row in range(8):
            if table >> row & 1:
                out |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        return out

    return _elementwise(lanes, ins, np.uint32, looked_up, *sources)


@_family("prmt")
def _permute(lanes: Lanes, ins: Instruction) -> Run:
    """Four bytes chosen from {b, a} by the nibbles of `c`; a nibble's top bit spreads the byte's sign."""
    if ins.opcode != "prmt.b32":
        raise UnknownInstruction(str(ins))

    def permuted(a: Array, b: Array, c: Array) -> Array:
        both = b.astype(np.uint64) << np.uint64(32) | a
        out = np.zeros_like(a)
        for i in range(4):
            nibble = c >> np.uint32(4 * i) & np.uint32(15)
            byte = (both >> (np.uint64(8) * (nibble & np.uint32(7))) & np.uint64(0xFF)).astype(np.uint32)
            byte = np.where(nibble & 8, np.where(byte & 0x80, np.uint32(0xFF), np.uint32(0)), byte)
            out |= byte << np.uint32(8 * i)
        return out

    return _elementwise(lanes, ins, np.uint32, permuted, *_sources(lanes, ins, np.uint32))


# ---- comparison and selection ----------------------------------------------------------------------

_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
#: Of floats: a name ending in u is also true where an operand is NaN.
_FLOAT_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": lambda a, b: (a < b) | (a > b), "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "equ": lambda a, b: ~((a < b) | (a > b)), "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b), "leu": lambda a, b: ~(a > b), "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b), "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}  # fmt: skip


@_family("setp")
def _compare(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    combine = next((c for c in ("and", "or", "xor") if c in ins.parts), None)
    flush = "ftz" in ins.parts
    table = _FLOAT_COMPARISONS if np.dtype(dtype).kind == "f" else _COMPARISONS
    comparison = table.get(ins.parts[1])
    if comparison is None or set(ins.parts[2:-1]) - {"and", "or", "xor", "ftz"}:
        raise UnknownInstruction(str(ins))
    names = ins.operands[0].split("|")
    out = lanes.target(names[0], np.bool_)
    other = lanes.target(names[1], np.bool_) if len(names) > 1 else None
    a, b = (lanes.read(o, dtype) for o in ins.operands[1:3])
    third = lanes.predicate(ins.operands[3]) if combine else None

    def run(mask: Any) -> None:
        true = comparison(floats.flushed(a), floats.flushed(b)) if flush else comparison(a, b)
        false = ~true
        if third is not None:
            with_third = _UFUNCS[combine or ""]
            true, false = with_third(true, third()), with_third(false, third())
        np.copyto(out, true, where=mask)
        if other is not None:
            np.copyto(other, false, where=mask)

    return run


@_family("selp")
def _select(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    a, b = (lanes.read(o, dtype) for o in ins.operands[1:3])
    which = lanes.predicate(ins.operands[3])
    return _elementwise(lanes, ins, dtype, lambda a, b: np.where(which(), a, b), a, b)


# ---- moves and conversions -------------------------------------------------------------------------


@_family("mov")
def _move(lanes: Lanes, ins: Instruction) -> Run:
    dtype = DTYPES[ins.parts[-1]]
    to, source = ins.operands
    if not to.startswith("{") and not source.startswith("{"):
        return _elementwise(lanes, ins, dtype, lambda a: a, lanes.read(source, dtype))
    parts = list_of(to if to.startswith("{") else source)
    size = np.dtype(dtype).itemsize // len(parts)
    piece = np.dtype(f"u{size}")
    if to.startswith("{"):  # take apart
        whole = lanes.read(source, dtype)
        outs = [lanes.target(p, piece) for p in parts]

        def unpack(mask: Any) -> None:
            pieces = np.ascontiguousarray(whole).view(piece).reshape(-1, len(parts)).copy()
            for i, out in enumerate(outs):
                np.copyto(out, pieces[:, i], where=mask)

        return unpack
    pieces = [lanes.read(p, piece) for p in parts]
    return _elementwise(lanes, ins, dtype, lambda: np.stack(pieces, 1).view(dtype)[:, 0])


_ROUND_INTEGER = ("rni", "rzi", "rmi", "rpi")


@_family("cvt")
def _convert(lanes: Lanes, ins: Instruction) -> Run:
    to, source = ins.parts[-2:]
    parts = set(ins.parts[1:-2])
    if parts - {"rn", "rna", "ftz", "sat", *_DIRECTED, *_ROUND_INTEGER}:
        raise UnknownInstruction(str(ins))
    if to in ("bf16x2", "f16x2"):
        return _convert_pair(lanes, ins, to)
    if to == "tf32":
        return _elementwise(lanes, ins, np.uint32, floats.to_tf32, lanes.read(ins.operands[1], np.float32))
    if to == "bf16":
        return _elementwise(
            lanes, ins, np.uint16, floats.to_bfloat16, lanes.read(ins.operands[1], np.float32)
        )
    if source == "bf16":
        read = lanes.read(ins.operands[1], np.uint16)
        return _elementwise(lanes, ins, DTYPES[to], floats.bfloat16_to_float32, read)
    dtype, from_dtype = DTYPES[to], DTYPES[source]
    function = _conversion(ins, parts, dtype, from_dtype)
    return _elementwise(lanes, ins, dtype, function, lanes.read(ins.operands[1], from_dtype))


def _convert_pair(lanes: Lanes, ins: Instruction, to: str) -> Run:
    """Two float32 to the halves of a word, the first to the upper one."""
    upper, lower = (lanes.read(o, np.float32) for o in ins.operands[1:])
    half = floats.to_bfloat16 if to == "bf16x2" else lambda x: x.astype(np.float16).view(np.uint16)
    word = lambda a, b: half(a).astype(np.uint32) << np.uint32(16) | half(b)  # noqa: E731
    return _elementwise(lanes, ins, np.uint32, word, upper, lower)


def _conversion(ins: Instruction, parts: set[str], dtype: Any, source: Any) -> Callable[[Array], Array]:
    to_float, from_float = (np.dtype(d).kind == "f" for d in (dtype, source))
    whole = next((r for r in _ROUND_INTEGER if r in parts), None)
    if from_float and not to_float:
        return lambda a: floats.to_integer(a, whole or "rzi", dtype)
    if from_float and whole:
        rounded = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[whole]
        return _finish(parts, rounded) if dtype == np.float32 else rounded
    if to_float:
        direction = next((d for d in _DIRECTED if d in parts), "rn")
        if direction != "rn":
            if (dtype, source) != (np.float32, np.float64):
                raise UnknownInstruction(str(ins))
            return lambda a: floats.round_float32(a, direction)
        convert = lambda a: a.astype(dtype)  # noqa: E731
        if "ftz" in parts and source == np.float32 and dtype != np.float32:
            return lambda a: convert(floats.flushed(a))
        return _finish(parts, convert) if dtype == np.float32 else convert
    if "sat" in parts:
        info = np.iinfo(dtype)
        return lambda a: np.array([min(max(v, info.min), info.max) for v in a.tolist()], dtype)
    return lambda a: a.astype(dtype)
