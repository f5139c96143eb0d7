"""Calls that the operations refuse: sizes too large, types, seeds, an `out` that overlaps itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore.errors import ArgumentError, DTypeError
from convcore.memory import aligned_floats

from .memory import Array

X = np.ones((1, 4, 4, 2), np.float32)
W = np.ones((2, 2, 2, 2), np.float32)
LINE = np.ones((1, 4, 1), np.float32)
TAPS = np.ones((2, 1, 1), np.float32)
MOST = 2**20

CONVERTS: dict[str, Callable[..., Array]] = {
    "conv2d": lambda **k: cc.conv2d(X, W, **k),
    "conv2d_transpose": lambda **k: cc.conv2d_transpose(X, W, **k),
    "depthwise_conv2d": lambda **k: cc.depthwise_conv2d(X, W, **k),
    "max_pool": lambda **k: cc.max_pool(X, **k),
    "global_max_pool": lambda **k: cc.global_max_pool(X, **k),
    "dense": lambda **k: cc.dense(X, W[0, 0], **k),
    "softmax": lambda **k: cc.softmax(X, **k),
    "relu": lambda **k: cc.relu(X, **k),
    "correlate": lambda **k: cc.correlate(X[0, :, :, 0], W[:, :, 0, 0], **k),
    "resample": lambda **k: cc.resample(X, (2, 2, 2), **k),
    "zero_pad": lambda **k: cc.zero_pad(X, **k),
    "hu_rescale": lambda **k: cc.hu_rescale(np.zeros(3, np.int16), 1, 0, **k),
}


#: Of these, what also computes in float64.
IN_DOUBLE = ("conv2d", "correlate", "depthwise_conv2d")


@pytest.mark.parametrize("name", CONVERTS)
@pytest.mark.parametrize("dtype", ["float64", "int8", np.float16, ">f4", "no type", 7])
def test_dtype_is_float32_even_where_nothing_is_converted(name: str, dtype: Any) -> None:
    if (name, dtype) in {("correlate", "int8"), *((n, "float64") for n in IN_DOUBLE)}:
        pytest.skip("it has results of this type")
    with pytest.raises(DTypeError, match=f"{name}: dtype, got .* expected float32"):
        CONVERTS[name](dtype=dtype)
    assert CONVERTS[name](dtype="float32").tobytes() == CONVERTS[name]().tobytes()


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda v: cc.conv2d(X, W, strides=v), "strides"),
        (lambda v: cc.conv2d(X, W, strides=(1, v)), "strides"),
        (lambda v: cc.conv2d(X, W, dilation_rate=v), "dilation_rate"),
        (lambda v: cc.conv2d(X, W, padding=v), "padding"),
        (lambda v: cc.conv2d(X, W, padding=((0, v), (0, 0))), "padding"),
        (lambda v: cc.depthwise_conv2d(X, W, strides=v), "strides"),
        (lambda v: cc.separable_conv2d(X, W, np.ones((1, 1, 4, 1), np.float32), padding=v), "padding"),
        (lambda v: cc.conv2d_transpose(X, W, strides=v), "strides"),
        (lambda v: cc.conv2d_transpose(X, W, dilation_rate=v), "dilation_rate"),
        (lambda v: cc.conv2d_transpose(X, W, padding=v), "padding"),
        (lambda v: cc.conv2d_transpose(X, W, output_padding=v), "output_padding"),
        (lambda v: cc.max_pool(X, v), "pool_size"),
        (lambda v: cc.max_pool(X, strides=v), "strides"),
        (lambda v: cc.average_pool(X, padding=v), "padding"),
        (lambda v: cc.zero_pad(X, v), "padding"),
        (lambda v: cc.zero_pad(X, ((0, 0), (v, 0))), "padding"),
    ],
)
@pytest.mark.parametrize("value", [MOST + 1, 2**31, 2**40, 2**62, 2**63, 10**30])
def test_numbers_beyond_the_library_s_are_named(
    call: Callable[[int], object], argument: str, value: int
) -> None:
    with pytest.raises(ArgumentError, match=rf": {argument}\b.*{value}.*1048576"):
        call(value)


def test_the_largest_numbers_work() -> None:
    assert cc.conv1d(LINE, TAPS, strides=MOST).shape == (1, 1, 1)
    assert cc.conv1d(LINE, TAPS, dilation_rate=MOST, padding=MOST).shape == (1, 4 + MOST, 1)
    assert cc.zero_pad(LINE, [(MOST, 0)]).shape == (1, 4 + MOST, 1)
    long = np.arange(MOST + 3, dtype=np.float32).reshape(1, -1, 1)
    assert cc.max_pool(long, MOST, strides=1).ravel().tolist() == [MOST - 1, MOST, MOST + 1, MOST + 2]
    # No window slides here, so there is no such limit.
    assert cc.crop(long, [(MOST + 1, 0)]).ravel().tolist() == [MOST + 1, MOST + 2]
    assert cc.upsample(LINE[:, :1], MOST + 1).shape == (1, MOST + 1, 1)


def test_padding_words_meet_the_limit_too() -> None:
    for word in ("full", "same", "causal"):
        with pytest.raises(ArgumentError, match=f"conv1d: padding .*{word}.*1048576"):
            cc.conv1d(LINE, np.ones((4, 1, 1), np.float32), dilation_rate=MOST, padding=word)
    with pytest.raises(ArgumentError, match=r"conv1d_transpose: padding .*1048576"):
        cc.conv1d_transpose(LINE, np.ones((4, 1, 1), np.float32), dilation_rate=MOST, padding="same")


def test_kernels_beyond_the_library_s_are_named() -> None:
    taps = np.ones((MOST + 1, 1, 1), np.float32)
    with pytest.raises(ArgumentError, match=r"conv1d: .*w.*1048577.*1048576"):
        cc.conv1d(LINE, taps, padding="full")
    with pytest.raises(ArgumentError, match=r"correlate: .*weights.*1048577.*1048576"):
        cc.correlate(LINE.ravel(), taps.ravel())


@pytest.mark.parametrize(
    "call",
    [
        lambda: cc.zero_pad(np.ones((1, 1, 1, 1, 1), np.float32), MOST),
        lambda: cc.upsample(X, 2**20),
        lambda: cc.resize(X, (2**30, 2**30)),
        lambda: cc.resample(X, (2**30, 2**30, 2**30)),
        lambda: cc.conv3d_transpose(
            np.ones((1, 3, 3, 3, 1), np.float32), np.ones((1, 1, 1, 1, 1), np.float32), strides=MOST
        ),
        lambda: cc.upsample(X[:0], 2**40),
    ],
)
def test_results_beyond_the_library_s_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError, match=r"result .*got \(.*2\*\*40 elements"):
        call()


def test_memory_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(shape: Any, *rest: Any) -> Array:
        raise MemoryError

    monkeypatch.setattr("convcore.ops.arrays.np.empty", refuse)
    with pytest.raises(MemoryError, match=r"zero_pad: .*\(1, 6, 6, 2\)"):
        inspect.unwrap(cc.zero_pad)(X)  # the checked way, whatever has been recorded


def test_tensors_that_record_gradients_say_what_to_call() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.arange(-2.0, 2.0, requires_grad=True)
    with pytest.raises(DTypeError, match=r"x records gradients.*x\.detach\(\)"):
        cc.relu(x)
    assert cc.relu(x.detach()).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((3, 3), (4, 4)), ((3, 3), (0, 4)), ((2, 3), (8, 4)), ((3, 2), (4, 8)), ((3, 3), (12, 2))],
)
def test_out_that_overlaps_itself_is_refused(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    base = np.zeros(12, np.float32)
    out = np.lib.stride_tricks.as_strided(base, shape, strides)
    for view in (out, out[::-1], out[..., ::-1]):
        with pytest.raises(ArgumentError, match=r"out .*overlap"):
            cc.relu(np.ones(shape, np.float32), out=view)
    assert not base.any()


def test_out_with_steps_that_do_not_matter_is_fine() -> None:
    base = np.zeros(12, np.float32)
    out = np.lib.stride_tricks.as_strided(base, (1, 3, 1), (0, 4, 0))
    cc.relu(np.ones((1, 3, 1), np.float32), out=out)
    assert base.tolist() == [1, 1, 1] + [0] * 9
    out = base.reshape(3, 4).T[::-1, 1:]
    assert cc.relu(np.ones((4, 2), np.float32), out=out) is out


@pytest.mark.parametrize("function", [cc.rrelu, cc.noisy_relu])
def test_seeds(function: Callable[..., Array]) -> None:
    name = function.__name__
    for seed in (2**64, -1, 10**30):
        message = rf"{name}: seed out of range, got {seed}, expected 0 to 2\*\*64 - 1"
        with pytest.raises(ArgumentError, match=message):
            function(LINE, training=True, seed=seed)
    with pytest.raises(ArgumentError, match="training=True needs a seed"):
        function(LINE, training=True)
    with pytest.raises(ArgumentError, match=r"seed, got 1\.5, expected an integer"):
        function(LINE, training=True, seed=1.5)
    assert function(LINE, training=True, seed=2**64 - 1).shape == LINE.shape


@pytest.mark.parametrize("call", [cc.conv2d, cc.depthwise_conv2d], ids=["conv2d", "depthwise_conv2d"])
def test_sizes_too_large_together_are_named(call: Callable[..., Array]) -> None:
    """Each within its limit and a small result, but 2**42 padded samples to look at: no bare refusal."""
    options = {"padding": MOST, "strides": MOST}
    try:
        got = call(X, W, **options)
    except ArgumentError as error:
        words = str(error)
        assert words.startswith(f"{call.__name__}: ") and "padding" in words and str(MOST) in words
    else:
        assert got.shape[:3] == (1, 3, 3)  # a kernel that needs no padded copy


@pytest.mark.parametrize("pool", [cc.max_pool, cc.average_pool], ids=["max_pool", "average_pool"])
def test_pools_too_large_together_are_named(pool: Callable[..., Array]) -> None:
    with pytest.raises(ArgumentError, match=rf"{pool.__name__}: .*kernel \({MOST}, {MOST}\)"):
        pool(X, MOST, padding="same")


def test_memory_for_packed_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(count: int) -> Array:
        raise MemoryError("no memory")

    monkeypatch.setattr("convcore.ops.arrays.aligned_floats", refuse)
    with pytest.raises(MemoryError, match=r"conv: no memory for .* bytes .*\(2, 2, 2, 2\)"):
        inspect.unwrap(cc.conv2d)(X, W)


def test_memory_that_mmap_refuses_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="bytes"):
        aligned_floats(1 << 60)
