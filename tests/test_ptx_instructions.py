"""The emulator's instructions, one at a time, against plain integers, fractions and the C library."""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from .ptx import Pointer, Race, UnknownInstruction, launch, parse
from .ptx.snippets import apply, kernel

Array = NDArray[Any]

_INTEGERS = {
    "u16": np.uint16, "s16": np.int16, "u32": np.uint32, "s32": np.int32, "u64": np.uint64, "s64": np.int64,
}  # fmt: skip


def some(dtype: Any, count: int = 256, seed: int = 0) -> Array:
    """Random bits, with the ends of the range and zeros among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, count * np.dtype(dtype).itemsize, np.uint8).view(dtype).copy()
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        x[:6] = np.array([0, 1, info.max, info.min, info.max - 1, 3], dtype)
        x[16:80] = (x[16:80].astype(np.int64) % 7).astype(dtype)
    return x


def wrapped(value: int, dtype: Any) -> int:
    """An integer as `dtype` keeps it."""
    bits = np.dtype(dtype).itemsize * 8
    value %= 1 << bits
    return value - (1 << bits) if np.dtype(dtype).kind == "i" and value >> (bits - 1) else value


def truncated(a: int, b: int) -> int:
    """The quotient rounded to zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


# ---- integers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _INTEGERS)
def test_integer_arithmetic(kind: str) -> None:
    dtype = _INTEGERS[kind]
    bits = np.dtype(dtype).itemsize * 8
    a, b, c = (some(dtype, seed=s) for s in range(3))
    b[b == 0] = 5
    wanted = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul.lo": lambda x, y: x * y,
        "mul.hi": lambda x, y: x * y >> bits,
        "div": truncated,
        "rem": lambda x, y: x - truncated(x, y) * y,
        "min": min,
        "max": max,
    }
    for name, function in wanted.items():
        (got,) = apply(f"{name}.{kind} {{x}}, {{a}}, {{b}};", a, b, results=[dtype])
        expected = [wrapped(function(int(x), int(y)), dtype) for x, y in zip(a, b, strict=True)]
        assert got.tolist() == expected, name
    (got,) = apply(f"mad.lo.{kind} {{x}}, {{a}}, {{b}}, {{c}};", a, b, c, results=[dtype])
    assert got.tolist() == [wrapped(int(x) * int(y) + int(z), dtype) for x, y, z in zip(a, b, c, strict=True)]
    if bits < 64:
        wide = np.dtype(f"{np.dtype(dtype).kind}{bits // 4}").type
        (got,) = apply(f"mul.wide.{kind} {{x}}, {{a}}, {{b}};", a, b, results=[wide])
        assert got.tolist() == [int(x) * int(y) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("kind", ["b16", "b32", "b64", "s16", "s32", "s64", "u16", "u32", "u64"])
def test_shifts_beyond_the_width(kind: str) -> None:
    dtype = _INTEGERS[kind.replace("b", "u")]
    bits = int(kind[1:])
    a = some(dtype)
    by = np.arange(256, dtype=np.uint32) % (bits + 9)
    by[-1] = 1 << 31
    if kind[0] == "b":
        (got,) = apply(f"shl.{kind} {{x}}, {{a}}, {{b}};", a, by, results=[dtype])
        assert got.tolist() == [wrapped(int(x) << min(int(n), 64), dtype) for x, n in zip(a, by, strict=True)]
    else:
        (got,) = apply(f"shr.{kind} {{x}}, {{a}}, {{b}};", a, by, results=[dtype])
        assert got.tolist() == [int(x) >> min(int(n), 64) for x, n in zip(a, by, strict=True)]


def test_numbers_of_two_words() -> None:
    a, b = some(np.uint64), some(np.uint64, seed=1)
    split = "mov.b64 {{%r10, %r11}}, {a}; mov.b64 {{%r12, %r13}}, {b};"
    (got,) = apply(
        split + "add.cc.u32 %r10, %r10, %r12; addc.u32 %r11, %r11, %r13; mov.b64 {x}, {{%r10, %r11}};",
        a, b, results=[np.uint64],
    )  # fmt: skip
    assert (got == a + b).all()
    (got,) = apply(
        split + "sub.cc.u32 %r10, %r10, %r12; subc.u32 %r11, %r11, %r13; mov.b64 {x}, {{%r10, %r11}};",
        a, b, results=[np.uint64],
    )  # fmt: skip
    assert (got == a - b).all()
    p, q, r = (some(np.uint32, seed=s) for s in range(3))
    (got,) = apply(
        "mad.lo.cc.u32 %r10, {a}, {b}, {c}; madc.hi.u32 %r11, {a}, {b}, 7; mov.b64 {x}, {{%r10, %r11}};",
        p, q, r, results=[np.uint64],
    )  # fmt: skip
    assert (got == p.astype(np.uint64) * q + r + (7 << 32)).all()


def test_bits() -> None:
    a, b, c = (some(np.uint32, seed=s) for s in range(3))
    start, length = some(np.uint32, seed=3) % 40, some(np.uint32, seed=4) % 40

    def bits(x: Any, width: int = 32) -> str:
        return f"{int(x) % (1 << width):0{width}b}"

    for kind, dtype in (("b32", np.uint32), ("b64", np.uint64)):
        x = some(dtype)
        width = int(kind[1:])
        ones, zeros, reverse = apply(
            f"popc.{kind} {{x}}, {{a}}; clz.{kind} {{y}}, {{a}}; brev.{kind} {{z}}, {{a}};",
            x, results=[np.uint32, np.uint32, dtype],
        )  # fmt: skip
        assert ones.tolist() == [bits(v, width).count("1") for v in x]
        assert zeros.tolist() == [len(bits(v, width)) - len(bits(v, width).lstrip("0")) for v in x]
        assert reverse.tolist() == [int(bits(v, width)[::-1], 2) for v in x]

    unsigned, signed, inserted = apply(
        "bfe.u32 {x}, {a}, {c}, {d}; bfe.s32 {y}, {a}, {c}, {d}; bfi.b32 {z}, {b}, {a}, {c}, {d};",
        a, b, start, length, results=[np.uint32, np.int32, np.uint32],
    )  # fmt: skip
    for i in range(len(a)):
        s, n = int(start[i]), int(length[i])
        whole = int(a[i]) >> s & ((1 << n) - 1)
        assert unsigned[i] == whole
        # The rest is the field's top bit, or the number's where the field reaches beyond it.
        rest = int(a[i]) >> min(s + n - 1, 31) & 1 if n else 0
        listed = [int(a[i]) >> (s + j) & 1 if j < n and s + j < 32 else rest for j in range(32)]
        assert signed[i] == wrapped(sum(bit << j for j, bit in enumerate(listed)), np.int32)
        field = ((1 << n) - 1) << s & 0xFFFFFFFF
        assert inserted[i] == int(a[i]) & ~field | int(b[i]) << s & field

    for table in (0x96, 0xE8, 0x01, 0xCA):
        (got,) = apply(f"lop3.b32 {{x}}, {{a}}, {{b}}, {{c}}, {table};", a, b, c, results=[np.uint32])
        expected_bits = np.zeros((len(a), 32), np.uint32)
        for row, (p, q, r) in enumerate(itertools.product((0, 1), repeat=3)):
            here = [(v[:, None] >> np.arange(32) & 1) == w for v, w in ((a, p), (b, q), (c, r))]
            expected_bits |= np.where(here[0] & here[1] & here[2], table >> row & 1, 0).astype(np.uint32)
        assert (got == (expected_bits << np.arange(32, dtype=np.uint32)).sum(1, dtype=np.uint32)).all()

    (got,) = apply("prmt.b32 {x}, {a}, {b}, {c};", a, b, c, results=[np.uint32])
    for i in range(len(a)):
        source = int(a[i]).to_bytes(4, "little") + int(b[i]).to_bytes(4, "little")
        expected_bytes = []
        for j in range(4):
            nibble = int(c[i]) >> 4 * j & 15
            byte = source[nibble & 7]
            expected_bytes.append((0xFF if byte & 0x80 else 0) if nibble & 8 else byte)
        assert got[i] == int.from_bytes(bytes(expected_bytes), "little")

    left, right = apply(
        "shf.l.wrap.b32 {x}, {a}, {b}, {c}; shf.r.clamp.b32 {y}, {a}, {b}, {d};",
        a, b, c, start, results=[np.uint32, np.uint32],
    )  # fmt: skip
    both = [int(y) << 32 | int(x) for x, y in zip(a, b, strict=True)]
    assert left.tolist() == [(v << int(n % 32) >> 32) % 2**32 for v, n in zip(both, c, strict=True)]
    assert right.tolist() == [(v >> min(int(n), 32)) % 2**32 for v, n in zip(both, start, strict=True)]


# ---- floats ----------------------------------------------------------------------------------------


def hard_floats() -> tuple[Array, Array, Array]:
    """Operands of a b + c whose rounding is decided far behind the point, and random ones of all sizes."""
    rng = np.random.default_rng(5)
    a, b, c = (some(np.float32, 4096, seed=s) for s in range(3))
    # Products halfway between two float32, and a bit beyond them that float64 has no room for.
    one = np.float32(1)
    for i in range(512):
        a[i], b[i] = one + np.float32(2.0**-12) * (2 * rng.integers(0, 1024) + 1), one + np.float32(2.0**-12)
        c[i] = np.float32(rng.choice([-1, 1])) * np.float32(2.0 ** rng.integers(-90, -55))
    for i in range(512, 1024):  # sums that are subnormal in float32
        a[i], b[i] = rng.standard_normal(2).astype(np.float32) * np.float32(2.0**-64)
        c[i] = np.float32(rng.standard_normal() * 2.0**-140)
    a[1024:2048], b[1024:2048] = rng.standard_normal((2, 1024)).astype(np.float32)
    c[1024:2048] = -(a[1024:2048] * b[1024:2048])  # only the product's lower half is left
    return a, b, c


def same_floats(got: Array, expected: Array) -> None:
    """The same bits, or NaN where NaN is expected."""
    bits = f"u{got.itemsize}"
    wrong = (got.view(bits) != expected.view(bits)) & ~(np.isnan(got) & np.isnan(expected))
    assert not wrong.any(), [(got[i], expected[i]) for i in np.flatnonzero(wrong)[:3]]


def test_fma_rounds_once() -> None:
    function = ctypes.CDLL(ctypes.util.find_library("m")).fmaf
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    a, b, c = hard_floats()
    (got,) = apply("fma.rn.f32 {x}, {a}, {b}, {c};", a, b, c, results=[np.float32], block=256)
    expected = np.array(
        [function(*v) for v in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)], np.float32
    )
    same_floats(got, expected)
    # Twice rounded is not the same: the cases are hard enough to tell.
    with np.errstate(all="ignore"):
        twice = (a.astype(np.float64) * b + c).astype(np.float32)
    assert (np.isfinite(twice) & (twice != expected)).sum() > 100


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
def test_other_directions(mode: str) -> None:
    a, b, c = hard_floats()
    keep = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    a, b, c = (v[keep][:1536] for v in (a, b, c))
    with np.errstate(over="ignore"):
        keep = np.isfinite(a * b + c)
    a, b, c = (v[keep][:1024] for v in (a, b, c))
    products, sums, narrowed = apply(
        f"fma.{mode}.f32 {{x}}, {{a}}, {{b}}, {{c}}; add.{mode}.f32 {{y}}, {{a}}, {{c}}; "
        f"cvt.f64.f32 %fd1, {{a}}; cvt.f64.f32 %fd2, {{b}}; mul.f64 %fd1, %fd1, %fd2; "
        f"cvt.{mode}.f32.f64 {{z}}, %fd1;",
        a, b, c, results=[np.float32] * 3, block=256,
    )  # fmt: skip
    for got, exact in (
        (
            products,
            [
                Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
                for x, y, z in zip(a, b, c, strict=True)
            ],
        ),
        (sums, [Fraction(float(x)) + Fraction(float(z)) for x, z in zip(a, c, strict=True)]),
        (narrowed, [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)]),
    ):
        for value, wanted in zip(got, exact, strict=True):
            if not np.isfinite(value):
                assert abs(wanted) > np.finfo(np.float32).max
                continue
            here = Fraction(float(value))
            if here == wanted:
                continue
            up = mode == "rp" or (mode == "rz" and wanted < 0)
            assert (here > wanted) == up
            beyond = np.nextafter(value, np.float32(-np.inf if up else np.inf))
            assert not np.isfinite(beyond) or (Fraction(float(beyond)) < wanted) == up


def test_signed_zeros_and_nan() -> None:
    zero, nan = np.float32(0), np.float32(np.nan)
    a = np.array([zero, -zero, -zero, nan, 1, nan, -2], np.float32)
    b = np.array([-zero, zero, -zero, 1, nan, nan, 3], np.float32)
    low, high, sign = apply(
        "min.f32 {x}, {a}, {b}; max.f32 {y}, {a}, {b}; copysign.f32 {z}, {a}, {b};",
        a,
        b,
        results=[np.float32] * 3,
    )
    same_floats(low, np.array([-zero, -zero, -zero, 1, 1, nan, -2], np.float32))
    same_floats(high, np.array([zero, zero, -zero, 1, 1, nan, 3], np.float32))
    same_floats(sign, np.copysign(b, a))
    (propagated,) = apply("max.NaN.f32 {x}, {a}, {b};", a, b, results=[np.float32])
    assert np.isnan(propagated).tolist() == [False, False, False, True, True, True, False]


def test_subnormals_are_flushed_on_request() -> None:
    small = np.float32(2.0**-127)
    a = np.array([small, -small, 1, np.float32(2.0**-126)], np.float32)
    b = np.array([0, 0, small, np.float32(-0.75 * 2.0**-126)], np.float32)
    kept, flushed = apply("add.f32 {x}, {a}, {b}; add.ftz.f32 {y}, {a}, {b};", a, b, results=[np.float32] * 2)
    same_floats(kept, a + b)
    # The operands go before the sum, so the last one keeps all of its first operand.
    same_floats(flushed, np.array([0, 0, 1, 2.0**-126], np.float32))


_COMPARED = np.array(list(itertools.product([-1.0, 0.0, 2.0, np.nan], repeat=2)), np.float32)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("unordered", ["", "u"])
def test_comparisons_of_floats(name: str, unordered: str) -> None:
    a, b = _COMPARED.T.copy()
    (got,) = apply(
        f"setp.{name}{unordered}.f32 %p1, {{a}}, {{b}}; selp.u32 {{x}}, 1, 0, %p1;", a, b, results=[np.uint32]
    )
    ordered = {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[name]
    either = np.isnan(a) | np.isnan(b)
    assert (got.astype(bool) == np.where(either, bool(unordered), ordered)).all()


@pytest.mark.parametrize("combine", ["and", "or", "xor"])
def test_comparisons_that_are_combined(combine: str) -> None:
    a, b = some(np.int32), some(np.int32, seed=1)
    got, other = apply(
        "setp.gt.s32 %p3, {b}, 5; "
        f"setp.lt.{combine}.s32 %p1|%p2, {{a}}, {{b}}, !%p3; "
        "selp.u32 {x}, 1, 0, %p1; selp.u32 {y}, 1, 0, %p2;",
        a, b, results=[np.uint32] * 2,
    )  # fmt: skip
    function = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[combine]
    third = ~(b > 5)
    assert (got.astype(bool) == function(a < b, third)).all()
    assert (other.astype(bool) == function(~(a < b), third)).all()


# ---- conversions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
def test_floats_to_integers(mode: str) -> None:
    x = np.array([0.5, 1.5, -0.5, -2.5, 3.7, -3.7, 1e30, -1e30, 2.0**31, 2.0**63, -(2.0**63), np.nan, np.inf])
    whole = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode](x)
    for kind, dtype in _INTEGERS.items():
        info = np.iinfo(dtype)
        (got,) = apply(f"cvt.{mode}.{kind}.f64 {{x}}, {{a}};", x, results=[dtype])
        # Values outside of the range become its ends, and NaN 0.
        inside = [0 if math.isnan(v) else min(max(v, float(info.min)), float(info.max)) for v in whole]
        expected = [min(int(v), int(info.max)) for v in inside]
        assert got.tolist() == expected, kind
    (got,) = apply(f"cvt.{mode}.f32.f32 {{x}}, {{a}};", x.astype(np.float32), results=[np.float32])
    same_floats(
        got, {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode](x.astype(np.float32))
    )


def test_integers_to_others() -> None:
    a = some(np.int64)
    floats, doubles, low, narrow = apply(
        "cvt.rn.f32.s64 {x}, {a}; cvt.rn.f64.s64 {y}, {a}; cvt.u32.u64 {z}, {a}; "
        "cvt.s8.s64 %h1, {a}; cvt.s32.s8 {u}, %h1;",
        a, results=[np.float32, np.float64, np.uint32, np.int32],
    )  # fmt: skip
    for i, v in enumerate(a.tolist()):
        assert low[i] == v % 2**32
        assert narrow[i] == wrapped(v, np.int8)
        assert doubles[i] == float(v)
        error = abs(Fraction(float(floats[i])) - v)
        assert error <= Fraction(float(np.spacing(np.abs(floats[i])))) / 2
    clamped, saturated = apply(
        "cvt.sat.s16.s64 {x}, {a}; cvt.rn.f32.s64 %f1, {a}; cvt.sat.f32.f32 {y}, %f1;",
        a,
        results=[np.int16, np.float32],
    )
    assert clamped.tolist() == [min(max(v, -32768), 32767) for v in a.tolist()]
    assert saturated.tolist() == [float(min(max(v, 0), 1)) for v in a.tolist()]


def test_small_floats() -> None:
    x = np.concatenate(
        [some(np.float32), np.float32([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 2**-8 + 2**-20, np.inf])]
    )
    y = x[::-1].copy()
    pairs, one, rounded, half = apply(
        "cvt.rn.bf16x2.f32 {x}, {a}, {b}; cvt.rn.bf16.f32 {y}, {a}; "
        "cvt.rna.tf32.f32 {z}, {a}; cvt.rn.f16.f32 {u}, {a};",
        x, y, results=[np.uint32, np.uint16, np.uint32, np.float16],
    )  # fmt: skip

    def nearest(v: np.float32, bits: int, away: bool) -> float:
        """`v` to so many bits after the point; halves to even, or away from zero."""
        if not np.isfinite(v) or v == 0:
            return float(v)
        unit = Fraction(2) ** (max(math.frexp(float(v))[1] - 1, -126) - bits)
        scaled = abs(Fraction(float(v))) / unit
        whole = math.floor(scaled + Fraction(1, 2)) if away else round(scaled)
        magnitude = whole * unit
        return math.copysign(math.inf if magnitude >= 2**128 else float(magnitude), v)

    upper = (pairs >> 16 << 16).view(np.float32)
    lower = (pairs << 16).view(np.float32)
    for i, v in enumerate(x):
        for got, bits, away in ((upper[i], 7, False), (rounded.view(np.float32)[i], 10, True)):
            assert np.isnan(got) if np.isnan(v) else float(got) == nearest(v, bits, away), (v, got)
    assert (one == pairs >> 16).all()
    same_floats(lower, upper[::-1].copy())
    with np.errstate(over="ignore"):
        same_floats(half, x.astype(np.float16))


def test_words_are_packed_and_unpacked() -> None:
    a, b = some(np.uint16), some(np.uint16, seed=1)
    word, first, second = apply(
        "mov.b32 {x}, {{{a}, {b}}}; mov.b32 {{{y}, {z}}}, {x};",
        a,
        b,
        results=[np.uint32, np.uint16, np.uint16],
    )
    assert (word == a.astype(np.uint32) | b.astype(np.uint32) << 16).all()
    assert (first == a).all()
    assert (second == b).all()


def test_bytes_are_extended() -> None:
    a = some(np.uint8)
    out = np.zeros((2, 256), np.int32)
    ptx = kernel(
        """
        mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [p0]; ld.param.u64 %rd1, [p1];
        mad.wide.u32 %rd0, %r0, 1, %rd0; mad.wide.u32 %rd1, %r0, 4, %rd1;
        ld.global.u8 %r1, [%rd0]; ld.global.s8 %r2, [%rd0];
        st.global.b32 [%rd1], %r1; st.global.b32 [%rd1+1024], %r2;
        """,
        ["u64", "u64"],
    )

    launch(ptx, 1, 256, [Pointer(a), Pointer(out)])
    assert (out[0] == a).all()
    assert (out[1] == a.view(np.int8)).all()


# ---- warps and atomic operations -------------------------------------------------------------------


@pytest.mark.parametrize("width", [32, 16, 8])
@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode: str, width: int) -> None:
    a = np.arange(64, dtype=np.uint32) * 3
    by = np.random.default_rng(0).integers(0, 32, 64, np.uint32)
    bounds = (32 - width) << 8 | (0 if mode == "up" else 31)
    got, valid = apply(
        f"shfl.sync.{mode}.b32 {{x}}|%p1, {{a}}, {{b}}, {bounds}, -1; selp.u32 {{y}}, 1, 0, %p1;",
        a, by, results=[np.uint32] * 2,
    )  # fmt: skip
    for i in range(64):
        lane, n = i % 32, int(by[i])
        segment = lane // width * width
        source = {"up": lane - n, "down": lane + n, "bfly": lane ^ n, "idx": segment + n % width}[mode]
        # bfly may reach below its segment: only its upper end is guarded.
        inside = source >= segment if mode == "up" else source < segment + width
        assert valid[i] == inside
        assert got[i] == a[i - lane + source if inside else i]


def test_votes() -> None:
    a = np.random.default_rng(1).integers(0, 2, 96, np.uint32)
    a[32:64] = 1
    ballot, every, some_, same, active = apply(
        "setp.ne.u32 %p1, {a}, 0; vote.sync.ballot.b32 {x}, %p1, -1; "
        "vote.sync.all.pred %p2, %p1, -1; selp.u32 {y}, 1, 0, %p2; vote.sync.any.pred %p2, !%p1, -1; "
        "selp.u32 {z}, 1, 0, %p2; vote.sync.uni.pred %p2, %p1, -1; selp.u32 {u}, 1, 0, %p2; "
        "activemask.b32 {v};",
        a, results=[np.uint32] * 5,
    )  # fmt: skip
    warps = a.reshape(3, 32)
    assert ballot.reshape(3, 32)[:, 0].tolist() == [int("".join(map(str, w[::-1])), 2) for w in warps]
    assert every.reshape(3, 32)[:, 7].tolist() == [0, 1, 0]
    assert some_.reshape(3, 32)[:, 7].tolist() == [1, 0, 1]
    assert same.reshape(3, 32)[:, 7].tolist() == [0, 1, 0]
    assert (active == 0xFFFFFFFF).all()


@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomic_operations(space: str) -> None:
    a = np.random.default_rng(2).integers(0, 50, 64, np.uint32)
    out = np.zeros((6, 64), np.uint32)
    totals = np.array([1000, 7, 7, 0], np.uint32)
    where = "%rd3" if space == "global" else "%r9"
    ptx = kernel(
        f"""
        mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [p0]; ld.param.u64 %rd1, [p1]; ld.param.u64 %rd3, [p2];
        mad.wide.u32 %rd0, %r0, 4, %rd0; mad.wide.u32 %rd1, %r0, 4, %rd1; ld.global.u32 %r1, [%rd0];
        mov.u32 %r9, space; setp.eq.u32 %p1, %r0, 0;
        @%p1 ld.global.v4.u32 {{%r5, %r6, %r7, %r8}}, [%rd3];
        @%p1 st.shared.v4.u32 [%r9], {{%r5, %r6, %r7, %r8}};
        bar.sync 0;
        atom.{space}.add.u32 %r2, [{where}], %r1; st.global.u32 [%rd1], %r2;
        atom.{space}.max.u32 %r2, [{where}+4], %r1; st.global.u32 [%rd1+256], %r2;
        red.{space}.min.u32 [{where}+8], %r1;
        atom.{space}.cas.b32 %r2, [{where}+12], 0, %r1; st.global.u32 [%rd1+512], %r2;
        bar.sync 0;
        @%p1 ld.{space}.v4.u32 {{%r5, %r6, %r7, %r8}}, [{where}];
        @%p1 st.global.v4.u32 [%rd3], {{%r5, %r6, %r7, %r8}};
        """,
        ["u64"] * 3,
        outside=".shared .align 16 .b8 space[16];",
    )

    launch(ptx, 1, 64, [Pointer(a), Pointer(out), Pointer(totals)])
    assert totals.tolist() == [1000 + a.sum(), max(7, a.max()), min(7, a.min()), a[a != 0][0]]
    assert out[0].tolist() == (1000 + np.cumsum(a) - a).tolist()
    assert out[1].tolist() == np.maximum.accumulate(np.append(7, a))[:-1].tolist()
    changed = int(np.flatnonzero(a)[0])
    assert out[2].tolist() == [0] * (changed + 1) + [int(a[changed])] * (63 - changed)


# ---- the language ----------------------------------------------------------------------------------


def test_names_of_inner_braces_are_their_own() -> None:
    a = some(np.uint32)
    (got,) = apply(
        "{{ .reg .b32 t; add.u32 t, {a}, 1; {{ .reg .b32 t; mov.u32 t, 100; }} mov.b32 {x}, t; }}",
        a, results=[np.uint32],
    )  # fmt: skip
    assert (got == a + 1).all()


def test_variables_with_values() -> None:
    out = np.zeros(4, np.float32)
    ptx = kernel(
        """
        mov.u64 %rd1, table; ld.param.u64 %rd0, [p0];
        ld.const.f32 %f0, [%rd1+4]; ld.global.f32 %f2, [own];
        ld.const.u8 %r1, [numbers+2]; cvt.rn.f32.u32 %f1, %r1;
        st.global.f32 [%rd0], %f0; st.global.f32 [%rd0+4], %f1; st.global.f32 [%rd0+8], %f2;
        """,
        ["u64"],
        outside=".const .align 4 .f32 table[2] = {0f3F800000, 0f40490FDB};\n"
        ".const .align 1 .b8 numbers[4] = {1, 2, 200};\n.global .align 4 .f32 own = 0f3F000000;",
    )

    launch(ptx, 1, 1, [Pointer(out)])
    assert out.tolist() == [np.float32(np.pi), 200.0, 0.5, 0.0]


def test_paths_that_part_meet_again() -> None:
    a = np.arange(64, dtype=np.uint32)
    (got,) = apply(
        """
        mov.u32 {x}, 0; mov.u32 %r10, {a};
        LOOP: setp.eq.u32 %p1, %r10, 0; @%p1 bra DONE;
        and.b32 %r11, %r10, 1; setp.eq.u32 %p2, %r11, 1; @!%p2 bra EVEN;
        add.u32 {x}, {x}, %r10; bra.uni NEXT;
        EVEN: sub.u32 {x}, {x}, 1;
        NEXT: sub.u32 %r10, %r10, 1; bra LOOP;
        DONE: shfl.sync.idx.b32 %r12, {x}, 3, 31, -1; add.u32 {x}, {x}, %r12;
        """,
        a, results=[np.uint32],
    )  # fmt: skip
    alone = np.array([sum(j if j % 2 else -1 for j in range(1, n + 1)) for n in range(64)])
    expected = alone + np.repeat(alone[[3, 35]], 32)
    assert (got == expected.astype(np.uint32)).all()


@pytest.mark.parametrize(
    "text",
    [
        "frobnicate.b32 %r1, %r2;",
        "add.rn.f16x2 %r1, %r2, %r3;",
        "mov.u32 %r1, %clock;",
        "bar.sync 1, 64;",
        "call f;",
    ],
)
def test_what_is_not_known_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UnknownInstruction) as caught:
        launch(kernel(text), 1, 32, [])
    assert text.split()[-1].rstrip(";") in str(caught.value)


def test_a_mangled_name_is_read() -> None:
    ptx = kernel("").replace("snippet", "_ZN8convcore4cuda15max_pool_kernelB3v12E")
    assert parse(ptx).name == "max_pool_kernel"


def test_a_block_larger_than_it_was_compiled_for_is_refused() -> None:
    ptx = kernel("").replace("()\n", "()\n.maxntid 32, 1, 1\n")
    launch(ptx, 1, 32, [])
    with pytest.raises(ValueError, match="64 threads, but snippet is compiled for at most 32"):
        launch(ptx, 1, 64, [])


def test_arguments_must_fit_the_parameters() -> None:
    launch(kernel("", ["u32", "f32", "u8"]), 1, 32, [-1, 2, True])
    with pytest.raises(TypeError, match=r"snippet: 2\.5 for a parameter of type u32"):
        launch(kernel("", ["u32"]), 1, 32, [2.5])
    with pytest.raises(ValueError, match="snippet takes 2 words of arguments, got 1"):
        launch(kernel("", ["u32", "u32"]), 1, 32, [1])


def test_arrays_of_any_strides_come_back() -> None:
    """Only elements that the kernel writes change, not those between them."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    before = base.copy()
    view = base[::-2, 1::2]
    ptx = kernel(
        # Numba's array of two axes: its address is word 4, its strides words 7 and 8.
        """
        mov.u32 %r0, %tid.x; ld.param.u64 %rd4, [p4]; ld.param.u64 %rd7, [p7]; ld.param.u64 %rd8, [p8];
        ld.param.u64 %rd5, [p5]; cvt.u64.u32 %rd0, %r0; rem.u64 %rd1, %rd0, 3; div.u64 %rd2, %rd0, 3;
        mad.lo.s64 %rd4, %rd2, %rd7, %rd4; mad.lo.s64 %rd4, %rd1, %rd8, %rd4;
        ld.f32 %f0, [%rd4]; neg.f32 %f0, %f0; st.f32 [%rd4], %f0;
        """,
        ["u64"] * 9,
    )
    launch(ptx, 1, 6, [view])
    expected = before.copy()
    expected[::-2, 1::2] *= -1
    assert (base == expected).all()


def test_a_race_names_both_threads_and_instructions() -> None:
    ptx = kernel(
        """
        mov.u32 %r0, %tid.x; mov.u32 %r1, row; mad.lo.u32 %r2, %r0, 4, %r1; st.shared.b32 [%r2], %r0;
        ld.shared.b32 %r3, [%r1+20];
        """,
        outside=".shared .align 4 .b8 row[256];",
    )
    with pytest.raises(Race) as caught:
        launch(ptx, 1, 64, [])
    message = str(caught.value)
    assert (
        "thread 0 (warp 0, lane 0): reads byte 20 of row, which thread 5 wrote with no barrier since"
        in message
    )
    assert "st.shared.b32 [%r2], %r0" in message
    assert "in snippet, block (0, 0, 0)" in message
    assert "ld.shared.b32 %r3, [%r1+20]" in message
