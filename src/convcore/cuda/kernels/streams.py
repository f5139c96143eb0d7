"""Kernels that move memory, four or more elements at a time: what they compute costs less than that.

They take addresses of contiguous arrays that begin on 16 bytes, of float32 or bfloat16 as their ``make`` is
told, and compute in float32; the kernels of the other files take everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from convcore.cuda.instructions import (
    address_of,
    bfloat16_pair,
    divide,
    load1,
    load1_bfloat16,
    load4,
    load4_bfloat16,
    load4_words,
    remainder,
    store4,
    store4_bfloat16,
    store4_words,
)
from convcore.cuda.kernels.activation import activate, larger
from convcore.cuda.kernels.elementwise import combine
from convcore.cuda.toolkit import cuda

__all__ = ["make_activation", "make_binary", "make_hu", "make_pad", "make_pool", "make_softmax"]

u32, i32, u64, f32 = np.uint32, np.int32, np.uint64, np.float32
_LOWEST = np.float32(-np.inf)
_ALL = 0xFFFFFFFF

#: Bytes of an element, and how four are loaded and stored, by the type.
_FOURS = {"float32": (4, load4, store4), "bfloat16": (2, load4_bfloat16, store4_bfloat16)}


def make_pad(source: str, result: str) -> Callable[..., None]:
    """Return the kernel that copies rows of `source` to rows of `result`, continued by zeros to whole chunks.

    It is how inputs become bfloat16, and how three channels become four, or eight of bfloat16.
    """
    narrow = result == "bfloat16"
    run = 8 if narrow else 4
    size, load = (2, load1_bfloat16) if source == "bfloat16" else (4, load1)

    @cuda.jit(device=True)
    def element(row: Any, channel: Any, channels: Any) -> Any:
        """Zero beyond the row."""
        return load(u64(row + u64(channel) * u64(size))) if channel < channels else f32(0)

    def kernel(x: Any, y: Any, count: Any, channels: Any) -> None:
        """Thread t has chunk t of `y`, 16 bytes of a row; `count` is the number of chunks."""
        t = u32(u32(cuda.blockIdx.x) * u32(cuda.blockDim.x) + u32(cuda.threadIdx.x))
        if t >= u32(count):
            return
        width = u32(channels)
        chunks = divide(u32(width + u32(run - 1)), u32(run))
        row = divide(t, chunks)
        c = u32(u32(run) * u32(t - row * chunks))
        begin = u64(address_of(x) + u64(row) * u64(width) * u64(size))
        to = u64(address_of(y) + u64(t) * u64(16))
        v0, v1 = element(begin, c, width), element(begin, u32(c + u32(1)), width)
        v2, v3 = element(begin, u32(c + u32(2)), width), element(begin, u32(c + u32(3)), width)
        if narrow:
            v4, v5 = element(begin, u32(c + u32(4)), width), element(begin, u32(c + u32(5)), width)
            v6, v7 = element(begin, u32(c + u32(6)), width), element(begin, u32(c + u32(7)), width)
            store4_words(
                to, bfloat16_pair(v0, v1), bfloat16_pair(v2, v3), bfloat16_pair(v4, v5), bfloat16_pair(v6, v7)
            )
        else:
            store4(to, v0, v1, v2, v3)

    return kernel


def make_activation(kind: int, source: str = "float32", result: str = "float32") -> Callable[..., None]:
    """Return the kernel ``y[i] = f(x[i])`` for one function of :data:`.activation.KINDS`."""
    (x_size, load, _), (y_size, _, store) = _FOURS[source], _FOURS[result]

    def kernel(x: Any, y: Any, fours: Any, p: Any, q: Any, r: Any) -> None:
        """Thread t has elements 4 t to 4 t + 3."""
        t = u64(u64(u32(cuda.blockIdx.x)) * u64(u32(cuda.blockDim.x)) + u64(u32(cuda.threadIdx.x)))
        if t < u64(fours):
            a, b, c, d = load(u64(address_of(x) + t * u64(4 * x_size)))
            store(
                u64(address_of(y) + t * u64(4 * y_size)),
                activate(kind, a, p, q, r),
                activate(kind, b, p, q, r),
                activate(kind, c, p, q, r),
                activate(kind, d, p, q, r),
            )

    return kernel


def make_binary(
    operation: int, kind: int, first: str = "float32", second: str = "float32", result: str = "float32"
) -> Callable[..., None]:
    """Return the kernel ``y[i] = f(a[i] op b[i])`` for one operation of :data:`.elementwise.BINARIES`."""
    (a_size, load_a, _), (b_size, load_b, _), (y_size, _, store) = (
        _FOURS[first],
        _FOURS[second],
        _FOURS[result],
    )

    def kernel(a: Any, b: Any, y: Any, fours: Any, p: Any, q: Any, r: Any) -> None:
        """Thread t has elements 4 t to 4 t + 3."""
        t = u64(u64(u32(cuda.blockIdx.x)) * u64(u32(cuda.blockDim.x)) + u64(u32(cuda.threadIdx.x)))
        if t < u64(fours):
            a0, a1, a2, a3 = load_a(u64(address_of(a) + t * u64(4 * a_size)))
            b0, b1, b2, b3 = load_b(u64(address_of(b) + t * u64(4 * b_size)))
            store(
                u64(address_of(y) + t * u64(4 * y_size)),
                activate(kind, combine(operation, a0, b0), p, q, r),
                activate(kind, combine(operation, a1, b1), p, q, r),
                activate(kind, combine(operation, a2, b2), p, q, r),
                activate(kind, combine(operation, a3, b3), p, q, r),
            )

    return kernel


def make_pool(largest: bool, source: str = "float32", result: str = "float32") -> Callable[..., None]:
    """Return the kernel of maximum or average pooling of maps (n, h, w, c), c a multiple of 4."""
    (x_size, load, _), (y_size, _, store) = _FOURS[source], _FOURS[result]

    def kernel(
        x: Any, y: Any, count: Any, h: Any, w: Any, channels: Any, oh: Any, ow: Any, kh: Any, kw: Any,
        stride_h: Any, stride_w: Any, low_h: Any, low_w: Any, include_padding: Any,
    ) -> None:  # fmt: skip
        """Thread t has elements 4 t to 4 t + 3 of `y`: four channels of one output."""
        t = u32(u32(cuda.blockIdx.x) * u32(cuda.blockDim.x) + u32(cuda.threadIdx.x))
        if t >= u32(count):
            return
        fours = u32(u32(channels) >> u32(2))
        at = divide(t, fours)
        channel = u32(u32(4) * u32(t - at * fours))
        out_w = remainder(at, u32(ow))
        at = divide(at, u32(ow))
        out_h = remainder(at, u32(oh))
        image = divide(at, u32(oh))
        first_h = i32(i32(out_h) * i32(stride_h) - i32(low_h))
        first_w = i32(i32(out_w) * i32(stride_w) - i32(low_w))
        begin_h, end_h = max(first_h, i32(0)), min(i32(first_h + kh), i32(h))
        begin_w, end_w = max(first_w, i32(0)), min(i32(first_w + kw), i32(w))
        a = b = c = d = _LOWEST if largest else f32(0)
        for at_h in range(begin_h, end_h):
            row = u64(u32(image * u32(h)) + u32(at_h)) * u64(u32(w))
            for at_w in range(begin_w, end_w):
                place = u64((row + u64(u32(at_w))) * u64(u32(channels)) + u64(channel))
                va, vb, vc, vd = load(u64(address_of(x) + place * u64(x_size)))
                if largest:
                    a, b, c, d = larger(a, va), larger(b, vb), larger(c, vc), larger(d, vd)
                else:
                    a, b, c, d = f32(a + va), f32(b + vb), f32(c + vc), f32(d + vd)
        if not largest:
            real = i32((end_h - begin_h) * (end_w - begin_w))
            number = f32(i32(kh * kw) if include_padding else real)
            a, b, c, d = f32(a / number), f32(b / number), f32(c / number), f32(d / number)
        store(u64(address_of(y) + u64(t) * u64(4 * y_size)), a, b, c, d)

    return kernel


def make_hu(signed: bool) -> Callable[..., None]:
    """Return the kernel that rescales 16-bit pixels to float32 HU, `signed` or not.

    A 16-bit pixel times a float32 slope plus a float32 intercept in one multiply-add is the exact value
    rounded once, so slope and intercept must be float32 numbers.
    """

    @cuda.jit(device=True)
    def value(raw: Any, slope: Any, intercept: Any, has_padding: Any, padding: Any, replaced: Any) -> Any:
        return replaced if has_padding and raw == padding else cuda.fma(f32(raw), slope, intercept)

    @cuda.jit(device=True)
    def halves(word: Any) -> Any:
        if signed:
            return i32(i32(word << u32(16)) >> 16), i32(i32(word) >> 16)
        return i32(word & u32(0xFFFF)), i32(word >> u32(16))

    def kernel(
        x: Any,
        y: Any,
        slope: Any,
        intercept: Any,
        eights: Any,
        has_padding: Any,
        padding: Any,
        has_air: Any,
        air: Any,
    ) -> None:
        """Thread t of row s (``blockIdx.y``) has pixels 8 t to 8 t + 7 of slice s."""
        t = u32(u32(cuda.blockIdx.x) * u32(cuda.blockDim.x) + u32(cuda.threadIdx.x))
        if t >= u32(eights):
            return
        s = u32(cuda.blockIdx.y)
        place = u64(u64(s) * u64(u32(eights)) + u64(t))
        m, n = slope[s], intercept[s]
        replaced = air if has_air else n
        w0, w1, w2, w3 = load4_words(u64(address_of(x) + place * u64(16)))
        to = u64(address_of(y) + place * u64(32))
        a, b = halves(w0)
        c, d = halves(w1)
        store4(
            to,
            value(a, m, n, has_padding, padding, replaced),
            value(b, m, n, has_padding, padding, replaced),
            value(c, m, n, has_padding, padding, replaced),
            value(d, m, n, has_padding, padding, replaced),
        )
        a, b = halves(w2)
        c, d = halves(w3)
        store4(
            u64(to + u64(16)),
            value(a, m, n, has_padding, padding, replaced),
            value(b, m, n, has_padding, padding, replaced),
            value(c, m, n, has_padding, padding, replaced),
            value(d, m, n, has_padding, padding, replaced),
        )

    return kernel


@cuda.jit(device=True)
def _absorb(v: Any, largest: Any, total: Any) -> Any:
    """The maximum and the sum of exponentials below it, with one more value."""
    above = v if v > largest or math.isnan(v) else largest
    if above == _LOWEST:  # nothing but -inf until now
        return above, total
    return above, f32(total * math.exp(f32(largest - above)) + math.exp(f32(v - above)))


@cuda.jit(device=True)
def _merge(largest: Any, total: Any, other: Any, other_total: Any) -> Any:
    above = other if other > largest or math.isnan(other) else largest
    if above == _LOWEST:
        return above, total
    mine = f32(total * math.exp(f32(largest - above)))
    return above, f32(mine + other_total * math.exp(f32(other - above)))


def make_softmax(source: str = "float32", result: str = "float32") -> Callable[..., None]:
    """Return the kernel of softmax over rows."""
    (x_size, load, _), (y_size, _, store) = _FOURS[source], _FOURS[result]

    def kernel(x: Any, y: Any, rows: Any, columns: Any) -> None:
        """``y[row] = exp(x[row] - max) / sum``, `columns` a multiple of 4. Warp t has row t.

        One pass finds the maximum and the sum together, rescaling the sum when the maximum grows; the second
        writes, and finds the row in a cache. A NaN or +inf in a row makes all of it NaN, and so does nothing
        but -inf.
        """
        warp = u32(u32(cuda.threadIdx.x) >> u32(5))
        row = u32(u32(cuda.blockIdx.x) * u32(u32(cuda.blockDim.x) >> u32(5)) + warp)
        lane = u32(u32(cuda.threadIdx.x) & u32(31))
        if row >= u32(rows):
            return
        begin = u64(u64(row) * u64(u32(columns)))
        from_x = u64(address_of(x) + begin * u64(x_size))
        to = u64(address_of(y) + begin * u64(y_size))
        fours = u32(u32(columns) >> u32(2))
        largest, total = _LOWEST, f32(0)
        for i in range(lane, fours, 32):
            a, b, c, d = load(u64(from_x + u64(u32(i)) * u64(4 * x_size)))
            largest, total = _absorb(a, largest, total)
            largest, total = _absorb(b, largest, total)
            largest, total = _absorb(c, largest, total)
            largest, total = _absorb(d, largest, total)
        for step in (16, 8, 4, 2, 1):
            other = cuda.shfl_xor_sync(_ALL, largest, step)
            other_total = cuda.shfl_xor_sync(_ALL, total, step)
            largest, total = _merge(largest, total, other, other_total)
        if largest == _LOWEST:
            total = f32(math.nan)
        for i in range(lane, fours, 32):
            a, b, c, d = load(u64(from_x + u64(u32(i)) * u64(4 * x_size)))
            store(
                u64(to + u64(u32(i)) * u64(4 * y_size)),
                f32(math.exp(f32(a - largest)) / total),
                f32(math.exp(f32(b - largest)) / total),
                f32(math.exp(f32(c - largest)) / total),
                f32(math.exp(f32(d - largest)) / total),
            )

    return kernel
