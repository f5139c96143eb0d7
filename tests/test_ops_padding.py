"""Every kind of padding of every windowed operation: Keras, PyTorch, and the rules themselves as judges."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convcore as cc
from convcore import shapes
from convcore.errors import ArgumentError

from .judges import import_keras

Array = NDArray[np.float32]
WORDS = ("valid", "same", "same_lower", "full")
#: Taps along each axis, odd and even; strides; dilations, of which one is 1 as Keras wants it.
WINDOWS = [(3, 1, 1), (4, 2, 1), (2, 3, 1), (3, 1, 2), (5, 2, 1)]


def draw(*shape: int) -> Array:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def close(y: Array, expected: NDArray[Any], terms: int) -> bool:
    """Within the rounding of a sum of `terms` products of numbers of size 1, a few of them as large as 5."""
    assert y.shape == expected.shape
    return bool(np.abs(y - expected).max() <= 2 * terms * 25 * np.finfo(np.float32).eps)


def pairs_of(word: str, sizes: tuple[int, ...], k: int, s: int, d: int) -> list[tuple[int, int]]:
    """The rule in one line each: zeros on both sides of every axis."""
    extent = (k - 1) * d + 1
    total = [max((-(-i // s) - 1) * s + extent - i, 0) for i in sizes]
    return {
        "valid": [(0, 0) for _ in sizes],
        "same": [(t // 2, t - t // 2) for t in total],
        "same_lower": [(t - t // 2, t // 2) for t in total],
        "full": [(extent - 1, extent - 1) for _ in sizes],
    }[word]


def naive(x: Array, w: Array, pairs: list[tuple[int, int]], s: int, d: int) -> NDArray[np.float64]:
    """Convolution in float64 from a padded copy, one tap at a time."""
    rank, k = x.ndim - 2, w.shape[0]
    p = np.pad(x.astype(np.float64), [(0, 0), *pairs, (0, 0)])
    out = [(n - (k - 1) * d - 1) // s + 1 for n in p.shape[1:-1]]
    y = np.zeros((x.shape[0], *out, w.shape[-1]))
    for taps in itertools.product(range(k), repeat=rank):
        window = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, o in zip(taps, out, strict=True))
        y += p[(slice(None), *window)] @ w[taps].astype(np.float64)
    return y


@pytest.mark.parametrize(("k", "s", "d"), WINDOWS)
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions(rank: int, word: str, k: int, s: int, d: int) -> None:
    x = draw(2, *(11, 10, 9)[:rank], 3)
    w = draw(*(k,) * rank, 3, 4)
    pairs = pairs_of(word, x.shape[1:-1], k, s, d)
    expected = naive(x, w, pairs, s, d)
    function, prepare = getattr(cc, f"conv{rank}d"), getattr(cc, f"prepare_conv{rank}d")
    for padding in (word, pairs, tuple(pairs)):
        y = function(x, w, strides=s, dilation_rate=d, padding=padding)
        assert close(y, expected, k**rank * 3)
        assert np.array_equal(prepare(w, strides=s, dilation_rate=d, padding=padding)(x), y)
    first = np.moveaxis(x, -1, 1)
    y_first = function(first, w, strides=s, dilation_rate=d, padding=word, data_format="channels_first")
    assert close(np.moveaxis(y_first, 1, -1), expected, k**rank * 3)


@pytest.mark.parametrize(("k", "s", "d"), WINDOWS)
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("rank", [1, 2])
def test_depthwise_and_separable(rank: int, word: str, k: int, s: int, d: int) -> None:
    x, m = draw(2, *(11, 10)[:rank], 3), 2
    w, pointwise = draw(*(k,) * rank, 3, m), draw(*(1,) * rank, 3 * m, 4)
    pairs = pairs_of(word, x.shape[1:-1], k, s, d)
    full = np.zeros((*(k,) * rank, 3, 3 * m), np.float32)
    for c in range(3):
        full[..., c, c * m : (c + 1) * m] = w[..., c, :]
    expected = naive(x, full, pairs, s, d)
    options: dict[str, Any] = {"strides": s, "dilation_rate": d}
    depthwise, separable = getattr(cc, f"depthwise_conv{rank}d"), getattr(cc, f"separable_conv{rank}d")
    for padding in (word, pairs):
        assert close(depthwise(x, w, padding=padding, **options), expected, k**rank)
        mixed = expected @ pointwise.reshape(3 * m, 4).astype(np.float64)
        assert close(separable(x, w, pointwise, padding=padding, **options), mixed, k**rank * 3 * m * 5)


@pytest.mark.parametrize(("k", "s", "d"), [w for w in WINDOWS if w[2] == 1])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling(rank: int, word: str, k: int, s: int, d: int) -> None:
    x = draw(2, *(11, 10, 9)[:rank], 3)
    pairs = pairs_of(word, x.shape[1:-1], k, s, d)
    p = np.pad(x.astype(np.float64), [(0, 0), *pairs, (0, 0)], constant_values=np.nan)
    axes = tuple(range(1, rank + 1))
    windows = np.lib.stride_tricks.sliding_window_view(p, (k,) * rank, axes)
    windows = windows[(slice(None), *(slice(None, None, s),) * rank)]
    taps = tuple(range(-rank, 0))
    for padding in (word, pairs):
        assert np.array_equal(cc.max_pool(x, k, strides=s, padding=padding), np.nanmax(windows, taps))
        mean = cc.average_pool(x, k, strides=s, padding=padding)
        assert close(mean, np.nanmean(windows, taps), k**rank)
        zeros = cc.average_pool(x, k, strides=s, padding=padding, include_padding=True)
        assert close(zeros, np.nan_to_num(windows).mean(taps), k**rank)


@pytest.mark.parametrize(("k", "s", "d"), WINDOWS)
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_is_the_adjoint(rank: int, word: str, k: int, s: int, d: int) -> None:
    """<conv(u), x> = <u, transposed(x)> for every u, where the sizes fit: that is what transposed means."""
    sizes = (12, 12, 6)[:rank]  # multiples of every stride
    if word == "valid":
        sizes = tuple((i - (k - 1) * d - 1) // s * s + (k - 1) * d + 1 for i in sizes)
        if k < s:
            sizes = tuple(i + s - k for i in sizes)  # Keras appends what no window saw
    if word == "full":
        sizes = tuple((i + (k - 1) * d - 1) // s * s + 1 - (k - 1) * d for i in sizes)
        if min(sizes) < 1:
            pytest.skip("no size fits")
    u, w = draw(1, *sizes, 2), draw(*(k,) * rank, 2, 3)
    forward = naive(u, w, pairs_of(word, sizes, k, s, d), s, d)
    x = draw(*forward.shape)
    y = getattr(cc, f"conv{rank}d_transpose")(x, w, strides=s, dilation_rate=d, padding=word)
    assert y.shape == u.shape
    left, right = np.vdot(forward, x.astype(np.float64)), np.vdot(u.astype(np.float64), y.astype(np.float64))
    terms = x.size * w.size / w.shape[-1]
    assert abs(left - right) <= terms * 25 * np.finfo(np.float32).eps * 5
    k_prepared = getattr(cc, f"prepare_conv{rank}d_transpose")(w, strides=s, dilation_rate=d, padding=word)
    assert np.array_equal(k_prepared(x), y)


@pytest.mark.parametrize(("k", "s", "d"), WINDOWS)
def test_causal_sees_nothing_later(k: int, s: int, d: int) -> None:
    x, w = draw(1, 12, 2), draw(k, 2, 3)
    assert close(
        cc.conv1d(x, w, strides=s, dilation_rate=d, padding="causal"),
        naive(x, w, [((k - 1) * d, 0)], s, d),
        k * 2,
    )
    with pytest.raises(ArgumentError, match="unknown padding, got causal"):
        cc.conv2d(draw(1, 5, 5, 1), draw(3, 3, 1, 1), padding="causal")


@pytest.mark.parametrize(("k", "s", "d"), WINDOWS)
@pytest.mark.parametrize("word", ["valid", "same"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_keras_agrees(rank: int, word: str, k: int, s: int, d: int) -> None:
    keras = import_keras()
    x, w = draw(2, *(11, 10, 9)[:rank], 3), draw(*(k,) * rank, 3, 4)
    y = getattr(cc, f"conv{rank}d")(x, w, strides=s, dilation_rate=d, padding=word)
    expected = keras.ops.conv(
        x.astype(np.float64), w.astype(np.float64), strides=s, padding=word, dilation_rate=d
    )
    assert close(y, np.asarray(expected), k**rank * 3)


@pytest.mark.parametrize(("k", "s", "d"), WINDOWS)
@pytest.mark.parametrize("p", [0, 1, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pytorch_agrees_about_numbers(rank: int, p: int, k: int, s: int, d: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, w = draw(2, *(11, 10, 9)[:rank], 3), draw(*(k,) * rank, 3, 4)
    first = torch.from_numpy(np.moveaxis(x, -1, 1).astype(np.float64))
    filters = torch.from_numpy(np.moveaxis(w, (-1, -2), (0, 1)).astype(np.float64))
    expected = getattr(torch, f"conv{rank}d")(first, filters, stride=s, padding=p, dilation=d)
    y = getattr(cc, f"conv{rank}d")(x, w, strides=s, dilation_rate=d, padding=p)
    assert close(y, np.moveaxis(expected.numpy(), 1, -1), k**rank * 3)
    back = getattr(cc, f"conv{rank}d_transpose")(
        y, w, strides=s, dilation_rate=d, padding=p, output_padding=0
    )
    expected = getattr(torch, f"conv_transpose{rank}d")(expected, filters, stride=s, padding=p, dilation=d)
    assert close(back, np.moveaxis(expected.numpy(), 1, -1), k**rank * 4 * 60)


@pytest.mark.parametrize("name", ["max_pool", "average_pool", "conv1d_transpose"])
def test_unknown_words_name_the_known_ones(name: str) -> None:
    x, w = draw(1, 6, 2), draw(2, 2, 2)
    arguments = (x, w) if name.startswith("conv") else (x,)
    with pytest.raises(
        ArgumentError, match="unknown padding, got reflect, expected valid, same, same_lower, full"
    ):
        getattr(cc, name)(*arguments, padding="reflect")


def test_every_padded_operation_is_here() -> None:
    from convcore import ops

    padded = {n for n in ops.__all__ if "padding" in inspect.signature(getattr(ops, n)).parameters}
    here = {f"conv{r}d{t}" for r in (1, 2, 3) for t in ("", "_transpose")}
    here |= {f"{kind}_conv{r}d" for kind in ("depthwise", "separable") for r in (1, 2)}
    assert padded == here | {"max_pool", "average_pool", "zero_pad"}
    assert shapes.side_pairs(1, 2, "padding", "zero_pad") == ((1, 1), (1, 1))
