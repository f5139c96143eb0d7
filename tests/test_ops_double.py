"""float64 where it is asked for: types, errors, and the same bits on every instruction set."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import _native
from convcore.errors import ArgumentError, DTypeError
from convcore.ops.call import instruction_set

R = np.random.default_rng(0)
X, W, B = R.standard_normal((2, 7, 6, 5)), R.standard_normal((3, 3, 5, 18)), R.standard_normal(18)
DEPTHWISE = R.standard_normal((3, 3, 5, 2))


def test_every_instruction_set_has_the_same_bits() -> None:
    results = []
    for isa in _native.isas():
        with instruction_set(isa):
            y = cc.conv2d(X, W, B, padding="same", dtype="float64")
            results.append((y.tobytes(), cc.depthwise_conv2d(X, DEPTHWISE, dtype="float64").tobytes()))
    assert len(set(results)) == 1


def test_threads_and_batches_have_the_same_bits() -> None:
    together = cc.conv2d(X, W, B, dtype="float64", num_threads=1)
    for threads in (2, 3, 7):
        assert cc.conv2d(X, W, B, dtype="float64", num_threads=threads).tobytes() == together.tobytes()
    assert cc.conv2d(X[1:], W, B, dtype="float64").tobytes() == together[1:].tobytes()


def test_other_types_are_converted_exactly() -> None:
    x, w = np.arange(36, dtype=np.int64).reshape(1, 6, 6, 1) * 2**40, np.full((1, 1, 1, 1), 0.5, np.float32)
    y = cc.conv2d(x, w, dtype=np.float64)
    assert np.array_equal(y, x / 2)
    assert np.array_equal(cc.conv2d(x.astype(">f8"), w, dtype="float64"), y)


def test_it_is_more_exact_than_float32() -> None:
    x = np.array([1.0, 2.0**-30]).reshape(1, 2, 1)
    w = np.ones((2, 1, 1))
    assert cc.conv1d(x, w, dtype="float64").item() == 1 + 2.0**-30
    assert cc.conv1d(x, w, dtype="float32").item() == 1


def test_relu_bias_out_and_formats() -> None:
    expected = np.maximum(cc.conv2d(X, W, B, dtype="float64"), 0)
    y = np.full(expected.shape, np.nan)
    assert cc.conv2d(X, W, B, activation="relu", out=y, dtype="float64") is y
    assert np.array_equal(y, expected)
    first = cc.conv2d(X.transpose(0, 3, 1, 2), W, B, data_format="channels_first", dtype="float64")
    assert np.array_equal(first.transpose(0, 2, 3, 1), cc.conv2d(X, W, B, dtype="float64"))
    overlapping = X.copy()
    same = cc.depthwise_conv2d(X, DEPTHWISE[..., :1], padding="same", dtype="float64")
    cc.depthwise_conv2d(overlapping, DEPTHWISE[..., :1], padding="same", out=overlapping, dtype="float64")
    assert np.array_equal(overlapping, same)
    nan = cc.conv1d(np.full((1, 1, 1), np.nan), np.ones((1, 1, 1)), activation="relu", dtype="float64")
    assert np.isnan(nan).all()


def test_what_it_refuses() -> None:
    with pytest.raises(DTypeError, match=r"conv2d: x, got float64.*dtype=\"float32\""):
        cc.conv2d(X, W)  # never by itself
    with pytest.raises(ArgumentError, match="conv2d: activation in float64, got tanh"):
        cc.conv2d(X, W, activation="tanh", dtype="float64")
    with pytest.raises(DTypeError, match="conv2d: out, got float32, expected float64"):
        cc.conv2d(X, W, out=np.empty((2, 5, 4, 18), np.float32), dtype="float64")
    with pytest.raises(ArgumentError, match="conv2d: kernel and input do not fit"):
        cc.conv2d(X, W[:, :, :4], dtype="float64")
    with pytest.raises(ArgumentError, match="conv2d: shape of bias"):
        cc.conv2d(X, W, B[:3], dtype="float64")
    with pytest.raises(DTypeError, match="conv2d: x, got complex128, expected real numbers"):
        cc.conv2d(X.astype(complex), W, dtype="float64")
    with pytest.raises(DTypeError, match="conv2d: dtype, got float16, expected float32 or float64"):
        cc.conv2d(X, W, dtype="float16")
    for name in ("dense", "relu", "max_pool", "conv2d_transpose"):
        function = getattr(cc, name)
        arguments: list[Any] = [X, DEPTHWISE][: 1 + ("w" in inspect.signature(function).parameters)]
        with pytest.raises(DTypeError, match="dtype, got float64, expected float32"):
            function(*arguments, dtype="float64")
    with pytest.raises(DTypeError, match="dtype, got float64, expected float32"):
        cc.prepare_conv2d(W, dtype="float64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool": 2}, "argument"),
        ({"groups": 0}, "argument"),
        ({"groups": 3}, "shape"),
        ({"activation": ("tanh", ())}, "argument"),
        ({"x2": (2, 0, "float64", (91,), (1,))}, "shape"),
        ({"x2": (2, 0, "float64", (92,), (2,))}, "argument"),
        ({"x2": (2, 0, "float32", (92,), (1,))}, "type"),
        ({"x": (0, 0, "float32", (1, 1, 6, 6, 5), (0, 0, 30, 5, 1))}, "type"),
    ],
)
def test_the_library_checks_the_step(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "x": (0, 0, "float64", (1, 1, 6, 6, 5), (180, 180, 30, 5, 1)),
        "x2": (2, 0, "float64", (92,), (1,)),  # two output channels of 9 taps and 5 channels, and biases
        "out": (1, 0, "float64", (1, 1, 4, 4, 2), (32, 32, 8, 2, 1)),
        "kernel": (1, 3, 3),
    }
    assert _native.Step("conv", **fields).algorithm == "direct, double"
    with pytest.raises(ArgumentError, match=message):
        _native.Step("conv", **(fields | change))
