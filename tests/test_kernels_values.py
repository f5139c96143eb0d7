"""Numbers at the ends: units in the last place, NaN, infinities, zeros, denormals, saturation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import _native, reference
from convcore.ops.call import instruction_set

from .memory import Array
from .tolerance import assert_within, relative_bound, ulp_difference, unit_roundoff

ISAS = _native.isas()
TINY = np.float32(2.0**-149)
NORMAL = np.finfo(np.float32).smallest_normal
LARGEST = np.finfo(np.float32).max
SPECIAL = np.array(
    [
        *(0.0, -0.0, TINY, -TINY, 1000 * TINY, -1000 * TINY, NORMAL, -NORMAL, 1e-30, -1e-30),
        *(np.inf, -np.inf, np.nan, LARGEST, -LARGEST, 88.72283, 88.72284, -87.33655, -103.9, -103.98, -104.0),
        *(1.0, -1.0, 3.0, -3.0, 2.5, -2.5, 16.636, -16.636),
    ],
    np.float32,
)

#: Functions and options; the second list makes no use of exp and is a few roundings of x.
CURVED: list[tuple[str, dict[str, Any]]] = [
    ("elu", {}), ("elu", {"alpha": 0.3}), ("celu", {}), ("celu", {"alpha": 2.0}), ("selu", {}), ("gelu", {}),
    ("gelu", {"approximate": True}), ("silu", {}), ("softplus", {}), ("sigmoid", {}), ("tanh", {}),
    ("exponential", {}), ("mish", {}),
]  # fmt: skip
STRAIGHT: list[tuple[str, dict[str, Any]]] = [
    ("relu", {}), ("relu", {"max_value": 6.0}), ("relu", {"negative_slope": 0.25}),
    ("relu", {"threshold": 1.0}), ("relu", {"negative_slope": 0.5, "max_value": 2.0, "threshold": 1.0}),
    ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 1.5}), ("leaky_divide", {}),
    ("leaky_divide", {"a": 100.0}), ("rrelu", {}), ("noisy_relu", {}), ("softsign", {}),
    ("hard_sigmoid", {}), ("hard_sigmoid", {"slope": 0.2}), ("hard_silu", {}),
]  # fmt: skip


def rounded(options: dict[str, Any]) -> dict[str, Any]:
    """The options as the kernels see them: parameters are float32."""
    return {k: float(np.float32(v)) if isinstance(v, float) else v for k, v in options.items()}


def inputs() -> Array:
    """Every exponent in both signs, and the interesting range densely."""
    bits = np.random.default_rng(1).integers(0, 2**32, 60_000, np.uint32)
    anywhere = bits.view(np.float32)
    return np.concatenate([anywhere[np.isfinite(anywhere)], np.linspace(-25, 25, 60_001, dtype=np.float32)])


@pytest.fixture(scope="module")
def x() -> Array:
    return inputs()


@pytest.mark.parametrize(("name", "options"), CURVED, ids=lambda v: str(v))
def test_curved_activations_within_two_ulp(name: str, options: dict[str, Any], x: Array) -> None:
    exact = reference.ACTIVATIONS[name](x, **rounded(options))
    for isa in ISAS:
        with instruction_set(isa):
            error = ulp_difference(getattr(cc, name)(x, **options), exact)
        worst = int(np.argmax(error))
        assert error[worst] <= 2, f"{isa}: {error[worst]} ULP at {x[worst]!r}"


@pytest.mark.parametrize(("name", "options"), STRAIGHT, ids=lambda v: str(v))
def test_straight_activations(name: str, options: dict[str, Any], x: Array) -> None:
    x = x[np.abs(x) < LARGEST / 4]  # x - threshold and slope * x stay finite
    defaults = {"slope": 1 / 6} if name == "hard_sigmoid" and not options else {}
    exact = reference.ACTIVATIONS[name](x, **rounded(defaults | options))
    # At most three roundings, of values no larger than |x| + 1; results may be denormal.
    scale = np.minimum(np.abs(x), 4) + 1 if name.startswith("hard") else np.abs(exact)
    bound = relative_bound(3, scale) + float(TINY)
    if name == "hard_silu":
        bound = bound * np.maximum(np.abs(x), 1)
    for isa in ISAS:
        with instruction_set(isa):
            assert_within(getattr(cc, name)(x, **options), exact, bound)


@pytest.mark.parametrize(("name", "options"), CURVED + STRAIGHT, ids=lambda v: str(v))
@pytest.mark.parametrize("isa", ISAS)
def test_special_values(isa: str, name: str, options: dict[str, Any]) -> None:
    function: Callable[..., Array] = getattr(cc, name)
    for length in (1, len(SPECIAL)):
        for start in range(0, len(SPECIAL), length):
            x = SPECIAL[start : start + length]
            with np.errstate(over="ignore"):
                exact = reference.ACTIVATIONS[name](x, **rounded(options))
                expected = exact.astype(np.float32)
            with instruction_set(isa):
                got = function(x, **options)
            assert (np.isnan(got) == np.isnan(x)).all(), f"NaN: {x} -> {got}"
            infinite = np.isinf(x) | np.isinf(expected)
            np.testing.assert_array_equal(got[infinite], expected[infinite])
            small = (np.abs(x) <= 1e-30) & (name not in ("hard_sigmoid", "hard_silu"))
            assert (ulp_difference(got[small], exact[small]) <= 2).all(), f"{x[small]} -> {got[small]}"


@pytest.mark.parametrize("isa", ISAS)
def test_pooling_with_nan_and_infinity(isa: str) -> None:
    for c in (1, 3, 16, 19):
        x = np.zeros((1, 6, 6, c), np.float32)
        x[0, 1, 1], x[0, 4, 4], x[0, :2, 4:] = np.nan, np.inf, -np.inf
        with instruction_set(isa), np.errstate(invalid="ignore"):
            largest, mean = cc.max_pool(x, 2), cc.average_pool(x, 2)
            assert np.isnan(cc.global_max_pool(x)).all()
            assert np.isnan(cc.global_average_pool(x)).all()
        assert np.isnan(largest[0, 0, 0]).all() and np.isnan(mean[0, 0, 0]).all()
        assert (largest[0, 2, 2] == np.inf).all() and (mean[0, 2, 2] == np.inf).all()
        assert (largest[0, 0, 2] == -np.inf).all() and (mean[0, 0, 2] == -np.inf).all()
        assert (largest[0, 1, 1] == 0).all()


@pytest.mark.parametrize("isa", ISAS)
def test_convolution_with_nan_and_infinity(isa: str) -> None:
    x, w = np.ones((1, 7, 7, 3), np.float32), np.ones((3, 3, 3, 5), np.float32)
    x[0, 0, 0, 0], x[0, 6, 6, 0] = np.nan, np.inf
    with instruction_set(isa):
        y = cc.conv2d(x, w, padding="same")
    nan, infinite = np.isnan(y), np.isinf(y)
    assert nan[0, :2, :2].all() and nan.sum() == 4 * 5
    assert infinite[0, 5:, 5:].all() and infinite.sum() == 4 * 5


@pytest.mark.parametrize("width", [3, 4, 5, 7])
@pytest.mark.parametrize("isa", ISAS)
def test_depthwise_taps_in_the_padding_are_left_out(isa: str, width: int) -> None:
    x, w = np.ones((1, 3, 20, 17), np.float32), np.ones((1, width, 17, 1), np.float32)
    w[:, 0] = np.inf
    with instruction_set(isa):
        y = cc.depthwise_conv2d(x, w, padding="same")
    outside = (width - 1) // 2  # columns whose first tap would multiply padding
    assert np.isfinite(y[:, :, :outside]).all() and np.isinf(y[:, :, outside:]).all()


@pytest.mark.parametrize("isa", ISAS)
def test_denormals_are_not_flushed(isa: str) -> None:
    x = np.full((1, 4, 4, 16), 3 * TINY, np.float32)
    with instruction_set(isa):
        assert (cc.conv2d(x, np.ones((2, 2, 16, 8), np.float32)) == 3 * 64 * TINY).all()
        assert (cc.depthwise_conv2d(x, np.ones((2, 2, 16, 1), np.float32)) == 12 * TINY).all()
        assert (cc.average_pool(x, 2) == 3 * TINY).all()
        assert (cc.relu(x) == x).all() and (cc.leaky_relu(-x, negative_slope=2) == -6 * TINY).all()


@pytest.mark.parametrize("isa", ISAS)
def test_prelu_of_special_values(isa: str) -> None:
    for alpha in (0.0, 0.25, -1.0):
        slopes = np.array([alpha], np.float32)
        finite = SPECIAL[~np.isneginf(SPECIAL)] if alpha == 0 else SPECIAL  # 0 * inf: Keras says NaN
        with instruction_set(isa):
            got = cc.prelu(finite, slopes)
        np.testing.assert_array_equal(got, reference.prelu(finite, slopes).astype(np.float32))


@pytest.mark.parametrize("isa", ISAS)
def test_softmax_of_special_rows(isa: str) -> None:
    rows = np.array(
        [[0, 0, 0], [1000, 1000, -1000], [-np.inf, 0, -np.inf], [LARGEST, -LARGEST, 0], [-104, 0, -90]],
        np.float32,
    )
    bad = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf] * 3, [0, 0, np.nan]], np.float32)
    with instruction_set(isa):
        got = cc.softmax(rows)
        assert np.isnan(cc.softmax(bad)).all()
    exact = reference.softmax(rows)
    assert (ulp_difference(got, exact) <= 4).all()
    assert np.abs(got.sum(axis=1) - 1).max() <= 4 * unit_roundoff()


@pytest.mark.parametrize("isa", ISAS)
def test_hu_rescale_saturates_and_rounds_half_to_even(isa: str) -> None:
    pixels = np.array([-32768, -3, -1, 1, 3, 5, 32767], np.int16)
    int16 = partial(cc.hu_rescale, padding_value=None, dtype="int16")
    with instruction_set(isa):
        assert int16(pixels, 0.5, 0.0).tolist() == [-16384, -2, 0, 0, 2, 2, 16384]
        assert int16(pixels, 3.0, 0.0).tolist() == [-32768, -9, -3, 3, 9, 15, 32767]
        assert int16(np.array([2**31 - 1, -(2**31)], np.int32), 1e-3, 0.0).tolist() == [32767, -32768]
        big = np.array([2**24 + 1, -(2**24) - 3, 2**31 - 1], np.int32)
        got = cc.hu_rescale(big, 1.0, -1.0, padding_value=None)
    assert got.tolist() == (big.astype(np.float64) - 1).astype(np.float32).tolist()


@pytest.mark.parametrize("isa", _native.isas())
def test_a_slope_of_zero_at_minus_infinity(isa: str) -> None:
    """0 times infinity is NaN, in the kernels as in the reference and in Keras's PReLU."""
    x = np.array([-np.inf, -1.0, np.inf], np.float32)
    with instruction_set(isa):
        for y in (cc.prelu(x, np.zeros(3, np.float32)), cc.leaky_relu(x, negative_slope=0.0)):
            np.testing.assert_array_equal(y, [np.nan, 0.0, np.inf])
    np.testing.assert_array_equal(reference.prelu(x, 0.0), [np.nan, 0.0, np.inf])
