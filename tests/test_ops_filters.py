"""convolve and correlate against SciPy's two libraries, whose arguments they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore as cc
from convcore.errors import ArgumentError, DTypeError

from .memory import AWKWARD
from .tolerance import assert_within, dot_bound, unit_roundoff

ndimage = pytest.importorskip("scipy.ndimage")
signal = pytest.importorskip("scipy.signal")

Array = np.ndarray[Any, Any]
BORDERS = ("reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant")
NAMES = ("correlate", "convolve")


def floats(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bound(x: Array, w: Array, cval: float = 0.0, dtype: Any = np.float32) -> Array:
    """Of any sum: no window's magnitudes are more than those of the largest sample everywhere."""
    most = max(float(np.abs(x).max()), abs(cval))
    return dot_bound(w.size + 1, np.abs(w.astype(np.float64)).sum() * most, dtype)


def fourier_bound(x: Array, w: Array, points: int, dtype: Any = np.float32) -> float:
    """The docstring's: 4 u log2(n) |x| |w|, n the samples transformed together."""
    norms = np.linalg.norm(x.astype(np.float64).ravel()) * np.linalg.norm(w.astype(np.float64).ravel())
    return float(4 * unit_roundoff(dtype) * np.log2(points) * norms)


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Array, Array]:
    rank = draw(st.integers(1, 3))
    most = (150, 40, 12)[rank - 1]
    shape = [draw(st.integers(1, most)) for _ in range(rank)]
    taps = [draw(st.integers(1, min(9, 2 * n + 2))) for n in shape]
    x = floats(draw(st.integers(0, 99)), *shape)
    steps = [draw(st.sampled_from((1, 1, -1, 2))) for _ in shape]
    return x[tuple(slice(None, None, s) for s in steps)], floats(draw(st.integers(0, 99)), *taps)


@settings(max_examples=150, deadline=None)
@given(drawn(), st.sampled_from(BORDERS), st.sampled_from(NAMES), st.data())
def test_ndimage(operands: tuple[Array, Array], mode: str, name: str, data: st.DataObject) -> None:
    x, w = operands
    origin = [data.draw(st.integers(-(k // 2), (k - 1) // 2)) for k in w.shape]
    options: dict[str, Any] = {
        "mode": mode,
        "cval": data.draw(st.sampled_from((0.0, -1.5))),
        "origin": origin,
    }
    try:
        exact = getattr(ndimage, name)(x.astype(np.float64), w.astype(np.float64), **options)
    except ValueError:  # an even kernel, turned around, has its centre elsewhere
        with pytest.raises(ArgumentError, match="origin"):
            getattr(cc, name)(x, w, **options)
        return
    got = getattr(cc, name)(x, w, **options)
    assert got.dtype == np.float32
    assert_within(got, exact, bound(x, w, options["cval"]))
    double = getattr(cc, name)(x, w, dtype="float64", **options)
    assert double.dtype == np.float64
    assert_within(double, exact, 2 * bound(x, w, options["cval"], np.float64))


@settings(max_examples=150, deadline=None)
@given(drawn(), st.sampled_from(("full", "same", "valid")), st.sampled_from(NAMES))
def test_signal(operands: tuple[Array, Array], mode: str, name: str) -> None:
    x, w = operands
    try:
        exact = getattr(signal, name)(x.astype(np.float64), w.astype(np.float64), mode, "direct")
    except ValueError:  # valid, and neither is as long as the other on every axis
        with pytest.raises(ArgumentError, match="valid"):
            getattr(cc, name)(x, w, mode=mode)
        return
    length = min(x.size, w.size)
    magnitude = np.abs(x).max().astype(np.float64) * np.abs(w).max() * length
    assert_within(getattr(cc, name)(x, w, mode=mode), exact, dot_bound(length + 1, magnitude))


@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", NAMES)
def test_signal_in_two_dimensions(name: str, mode: str, boundary: str) -> None:
    x = floats(1, 13, 37)
    for taps in ((3, 3), (4, 2), (1, 6), (8, 5)):
        w = floats(2, *taps)
        judge = getattr(signal, f"{name}2d")
        doubles = x.astype(np.float64), w.astype(np.float64)
        exact = judge(*doubles, mode, boundary, 0.5)
        if mode == "same" and name == "correlate":
            # The middle as in correlate: SciPy's correlate2d has another one for even kernels.
            low, high = (
                [(k - 1) // 2 for k in taps],
                [(k - 1) // 2 + n for k, n in zip(taps, x.shape, strict=True)],
            )
            exact = judge(*doubles, "full", boundary, 0.5)[low[0] : high[0], low[1] : high[1]]
        got = getattr(cc, name)(x, w, mode=mode, border=boundary, cval=0.5)
        assert_within(got, exact, bound(x, w, 0.5))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "axes", "taps"),
    [
        ((5, 40), 0, (3,)),
        ((5, 40), -1, (4,)),
        ((9, 11, 3), (0, 1), (3, 4)),
        ((9, 11, 20), (0, 1), (3, 4)),
        ((9, 11, 20), (0,), (5,)),
        ((4, 9, 11), (1, 2), (3, 3)),
        ((4, 9, 11, 2), (0, 2), (2, 3)),
        ((2, 3, 4, 5, 6), (1, 2, 4), (2, 3, 3)),
        ((2, 3, 4, 5, 6), 3, (3,)),
        ((6, 7), (1, 0), (2, 3)),
    ],
)
def test_some_axes(name: str, shape: tuple[int, ...], axes: Any, taps: tuple[int, ...]) -> None:
    x, w = floats(3, *shape), floats(4, *taps)
    wide = [1] * x.ndim
    which = [axes % x.ndim] if isinstance(axes, int) else [i % x.ndim for i in axes]
    for i, k in zip(which, taps, strict=True):
        wide[i] = k
    whole = w.transpose(np.argsort(which)).reshape(wide)
    for mode in ("mirror", "constant"):
        judge = getattr(ndimage, name)(x.astype(np.float64), whole.astype(np.float64), mode=mode, cval=1.0)
        for awkward in (lambda a: a, *AWKWARD):
            got = getattr(cc, name)(awkward(x), awkward(w), axes=axes, mode=mode, cval=1.0)
            assert_within(got, judge, bound(x, w, 1.0))
        transposed = np.empty(x.shape[::-1], np.float32).T
        assert getattr(cc, name)(x, w, axes=axes, mode=mode, cval=1.0, out=transposed) is transposed
        assert_within(transposed, judge, bound(x, w, 1.0))


@pytest.mark.parametrize("to", ["float32", "float64", "int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
def test_integers(kind: str, to: str) -> None:
    limits = np.iinfo(kind)
    x = np.random.default_rng(5).integers(limits.min, limits.max, (30, 83), kind, endpoint=True)
    w = floats(6, 3, 5)
    exact = ndimage.correlate(x.astype(np.float64), w.astype(np.float64))
    got = cc.correlate(x, w, dtype=to)
    assert got.dtype == to
    if np.dtype(to).kind == "f":
        assert_within(got, exact, 2 * bound(x, w, dtype=to))
        return
    # A sum that is off by its bound may be rounded to the other side.
    low, high = np.iinfo(to).min, np.iinfo(to).max
    off = bound(x, w)
    assert (got >= np.clip(np.rint(exact - off), low, high)).all()
    assert (got <= np.clip(np.rint(exact + off), low, high)).all()
    assert np.array_equal(cc.correlate(x, w, out=np.empty(x.shape, to)), got)
    assert np.array_equal(cc.correlate(x, w, output=np.dtype(to)), got)


def test_halves_go_to_even_and_ends_saturate() -> None:
    x = np.array([-300, 1, 2, 3, 5, 254, 255, 600], np.int16)
    half = np.float32([0.5])
    assert cc.correlate(x, half, dtype="uint8").tolist() == [0, 0, 1, 2, 2, 127, 128, 255]
    assert cc.correlate(x, half, dtype="int8").tolist() == [-128, 0, 1, 2, 2, 127, 127, 127]
    assert cc.correlate(np.float32([np.nan, np.inf, -np.inf]), half, dtype="int16").tolist() == [
        -32768,
        32767,
        -32768,
    ]


@pytest.mark.parametrize("shape", [(50,), (17, 40), (6, 9, 20)])
@pytest.mark.parametrize("border", ["reflect", "constant"])
def test_separable(shape: tuple[int, ...], border: str) -> None:
    x = floats(7, *shape)
    parts = [floats(8 + i, 3 + i) for i in range(len(shape))]
    whole = parts[0].astype(np.float64)
    for part in parts[1:]:
        whole = np.multiply.outer(whole, part.astype(np.float64))
    for mode in ("same", "full"):
        exact = cc.correlate(x, whole, mode=mode, border=border, cval=0.5, dtype="float64")
        magnitude = np.abs(whole).sum() * max(float(np.abs(x).max()), 0.5)
        # Sums of one pass after the other, and what is lost in finding the kernels and rounding them.
        allowed = dot_bound(sum(p.size + 3 for p in parts), magnitude)
        options: dict[str, Any] = {"mode": mode, "border": border, "cval": 0.5}
        assert_within(cc.correlate(x, parts, **options), exact, allowed)
        rounding = (
            whole.size * unit_roundoff() * np.linalg.norm(whole) * np.sqrt(whole.size) * np.abs(x).max()
        )
        got = cc.correlate(x, whole.astype(np.float32), separable=True, **options)
        assert_within(got, exact, allowed + rounding)
        assert_within(
            cc.convolve(x, parts, **options),
            cc.convolve(x, whole, dtype="float64", **options),
            allowed,
        )


def test_no_separable_kernel() -> None:
    with pytest.raises(ArgumentError, match=r"correlate: .*product of one kernel per axis.*singular value"):
        cc.correlate(floats(1, 9, 9), floats(2, 3, 3), separable=True)


@settings(max_examples=60, deadline=None)
@given(drawn(), st.sampled_from(BORDERS), st.sampled_from(NAMES))
def test_by_fourier_transforms(operands: tuple[Array, Array], mode: str, name: str) -> None:
    x, w = operands
    exact = getattr(ndimage, name)(x.astype(np.float64), w.astype(np.float64), mode=mode, cval=0.5)
    padded = np.pad(
        np.abs(x), [(k, k) for k in w.shape], "constant", constant_values=max(0.5, np.abs(x).max())
    )
    for dtype in ("float32", "float64"):
        got = getattr(cc, name)(x, w, mode=mode, cval=0.5, method="fft", dtype=dtype)
        assert got.dtype == dtype
        assert_within(got, exact, fourier_bound(padded, w, max(2, padded.size), dtype))


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_views_and_threads_change_no_bit(method: str) -> None:
    x, w = floats(9, 61, 75), floats(10, 5, 7)
    plain = cc.correlate(x, w, method=method)
    for threads in (1, 2, 5):
        assert cc.correlate(x, w, method=method, num_threads=threads).tobytes() == plain.tobytes()
    for awkward in AWKWARD:
        assert cc.correlate(awkward(x), awkward(w), method=method).tobytes() == plain.tobytes()
    itself = x.copy()
    assert cc.correlate(itself, w, method=method, out=itself).tobytes() == plain.tobytes()


def test_neighbours_of_nan_alone_are_nan() -> None:
    x = floats(11, 30, 90)
    x[10, 40] = np.nan
    spoilt = np.isnan(cc.correlate(x, floats(12, 3, 5)))
    expected = np.zeros_like(spoilt)
    expected[9:12, 38:43] = True
    assert np.array_equal(spoilt, expected)


X, K = floats(13, 8, 9), floats(14, 3, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: cc.correlate(X, K, border="edge"), ArgumentError, "border.*edge.*nearest"),
        (lambda: cc.correlate(X, K, mode="edge"), ArgumentError, "mode.*edge.*full"),
        (lambda: cc.correlate(X, K, method="overlap"), ArgumentError, "method.*auto, direct, fft"),
        (lambda: cc.correlate(X, K, mode="same", origin=1), ArgumentError, "origin.*same"),
        (lambda: cc.correlate(X, floats(1, 9, 3), mode="valid"), ArgumentError, "valid.*leaves nothing"),
        (lambda: cc.correlate(X, K, axes=0), ArgumentError, "shapes.*as many axes"),
        (lambda: cc.correlate(X, K, axes=(0, 0)), ArgumentError, "axes.*different"),
        (lambda: cc.correlate(X, K[0], axes=2), ArgumentError, "axis"),
        (lambda: cc.correlate(X, [K[0]]), ArgumentError, "kernels.*2, one per axis"),
        (lambda: cc.correlate(X, K, num_threads=0), ArgumentError, "num_threads.*1 to 256"),
        (lambda: cc.correlate(X, K, cval=np.inf), ArgumentError, "cval"),
        (lambda: cc.correlate(X, K, output="float32", dtype="float32"), ArgumentError, "output"),
        (lambda: cc.correlate(X, K, out=np.empty((8, 9), np.int32)), DTypeError, "int32"),
        (lambda: cc.correlate(X, K, dtype="complex64"), DTypeError, "dtype.*complex64"),
        (lambda: cc.correlate(X.astype(np.float64), K), DTypeError, "x.*float64.*dtype"),
        (lambda: cc.correlate(X, K.astype(np.float64)), DTypeError, "weights.*float64"),
        (lambda: cc.correlate(floats(1, 2, 2, 2, 2), K), ArgumentError, "axes="),
        (lambda: cc.correlate(X[:0], K, mode="full"), ArgumentError, "empty"),
    ],
)
def test_refusals(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_nothing_in_nothing_out() -> None:
    assert cc.correlate(X[:0], K).shape == (0, 9)
    assert cc.correlate(np.empty((0, 8, 9), np.float32), K, axes=(1, 2)).shape == (0, 8, 9)


@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize("axes", [0, (0, 1)])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
def test_nan_is_the_lowest_integer(method: str, axes: Any, kind: str) -> None:
    x, w = np.full((9, 8), np.nan, np.float32), np.ones((3, 3) if axes else 3, np.float32)
    y = cc.correlate(x, w, axes=axes, method=method, dtype=kind)
    assert (y == np.iinfo(kind).min).all()
