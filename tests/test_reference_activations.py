"""The reference's activations against Keras, their limits, and the article's own forms."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from convcore.reference import ACTIVATIONS

from .judges import import_keras
from .tolerance import assert_within, relative_bound

INF = math.inf
X = np.concatenate([np.linspace(-12, 12, 481), [-700.0, -100, -1e-8, 1e-8, 100, 700]])

# Parameters on one side, Keras's call on the other; limits at -inf and +inf beside them.
CASES: list[tuple[str, dict[str, Any], str, dict[str, Any], float, float]] = [
    ("linear", {}, "linear", {}, -INF, INF),
    ("relu", {}, "relu", {}, 0, INF),
    ("relu", {"max_value": 6.0}, "relu6", {}, 0, 6),
    ("leaky_relu", {}, "leaky_relu", {}, -INF, INF),
    ("leaky_relu", {"negative_slope": 1.5}, "leaky_relu", {"negative_slope": 1.5}, -INF, INF),
    ("elu", {}, "elu", {}, -1, INF),
    ("elu", {"alpha": 0.5}, "elu", {"alpha": 0.5}, -0.5, INF),
    ("celu", {}, "celu", {}, -1, INF),
    ("celu", {"alpha": 2.0}, "celu", {"alpha": 2.0}, -2, INF),
    ("selu", {}, "selu", {}, -1.0507009873554805 * 1.6732632423543772, INF),
    ("gelu", {}, "gelu", {}, 0, INF),
    ("gelu", {"approximate": True}, "gelu", {"approximate": True}, 0, INF),
    ("silu", {}, "silu", {}, 0, INF),
    ("softplus", {}, "softplus", {}, 0, INF),
    ("softsign", {}, "softsign", {}, -1, 1),
    ("sigmoid", {}, "sigmoid", {}, 0, 1),
    ("hard_sigmoid", {}, "hard_sigmoid", {}, 0, 1),
    ("hard_silu", {}, "hard_silu", {}, 0, INF),
    ("tanh", {}, "tanh", {}, -1, 1),
    ("exponential", {}, "exponential", {}, 0, INF),
    ("mish", {}, "mish", {}, 0, INF),
    ("noisy_relu", {}, "relu", {}, 0, INF),
    ("rrelu", {}, "leaky_relu", {"negative_slope": 1 / 5.5}, -INF, INF),
    ("leaky_divide", {"a": 100.0}, "leaky_relu", {"negative_slope": 0.01}, -INF, INF),
]


@pytest.mark.parametrize(("kind", "parameters", "keras_name", "keras_parameters", "_low", "_high"), CASES)
def test_activation_is_keras(
    kind: str, parameters: dict[str, Any], keras_name: str, keras_parameters: dict[str, Any],
    _low: float, _high: float,
) -> None:  # fmt: skip
    keras = import_keras()
    # TensorFlow holds the slope of leaky ReLU and the constants of GELU in float32.
    dtype = np.float32 if keras_name in ("leaky_relu", "gelu") else np.float64
    x = X.astype(dtype)
    judge = np.asarray(getattr(keras.activations, keras_name)(x, **keras_parameters))
    # Keras subtracts near 0 and near its saturation, so its error is absolute: relative to the largest
    # intermediate value, which is 1 or |x|.
    bound = relative_bound(8, np.maximum(np.maximum(abs(judge), abs(x)), 1), dtype)
    assert_within(ACTIVATIONS[kind](x, **parameters), judge, bound)


@pytest.mark.parametrize(("kind", "parameters", "_name", "_parameters", "low", "high"), CASES)
def test_limits_and_nan(
    kind: str, parameters: dict[str, Any], _name: str, _parameters: dict[str, Any], low: float, high: float
) -> None:
    y = ACTIVATIONS[kind]([-INF, INF, np.nan], **parameters)
    assert y[:2].tolist() == [low, high]
    assert np.isnan(y[2])


def test_every_kind_is_tested_and_takes_keywords_only() -> None:
    assert set(ACTIVATIONS) == {case[0] for case in CASES}
    for function in ACTIVATIONS.values():
        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
        assert all(kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds[1:])


@pytest.mark.parametrize("negative_slope", [0.0, 0.25])
@pytest.mark.parametrize("max_value", [None, 6.0, 4.0])
@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0])
def test_relu_with_every_option_is_keras(
    negative_slope: float, max_value: float | None, threshold: float
) -> None:
    keras = import_keras()
    options = {"negative_slope": negative_slope, "max_value": max_value, "threshold": threshold}
    x = np.concatenate([X, [threshold, np.nextafter(threshold, 9), -INF, INF, -0.0]])
    judge = np.asarray(keras.activations.relu(x, **options))
    got = ACTIVATIONS["relu"](x, **options)
    finite = np.isfinite(x)
    assert_within(got[finite], judge[finite], relative_bound(3, abs(x[finite]) + 1, np.float64))
    assert (got[~finite] == judge[~finite]).all()


def test_the_threshold_is_strict() -> None:
    assert ACTIVATIONS["relu"]([1.0, np.nextafter(1, 2)], threshold=1.0).tolist() == [0, np.nextafter(1, 2)]


def test_leaky_relu_of_the_article_divides() -> None:
    assert ACTIVATIONS["leaky_divide"]([-5.5, 2.0]).tolist() == [-1, 2]
    assert ACTIVATIONS["leaky_divide"]([-5.0], a=100.0).tolist() == [-0.05]
    assert ACTIVATIONS["rrelu"]([-5.5, 2.0]).tolist() == [-1, 2]


def test_sigmoid_identities() -> None:
    sigmoid, tanh = ACTIVATIONS["sigmoid"], ACTIVATIONS["tanh"]
    u = relative_bound(4, 1.0, np.float64)
    assert_within(sigmoid(-X), 1 - sigmoid(X), u)
    assert_within(2 * sigmoid(2 * X) - 1, tanh(X), u)
    # The article's closed interval is true in float32: 1 - sigmoid(x) = e^-x / (1 + e^-x) rounds away
    # below 2^-25, and a computation by the formula loses e^-x beside 1 a little earlier, below 2^-24.
    assert np.float32(sigmoid(25 * math.log(2) + 0.001)) == 1 > np.float32(sigmoid(25 * math.log(2) - 0.001))
    assert np.float32(1) + np.exp(np.float32(-16.636)) == 1 < np.float32(1) + np.exp(np.float32(-16.635))
    assert sigmoid(-700.0) == math.exp(-700)


def test_published_differences_between_versions() -> None:
    sweep = np.linspace(-6, 6, 120001)
    hard = abs(ACTIVATIONS["hard_sigmoid"](sweep) - ACTIVATIONS["hard_sigmoid"](sweep, slope=0.2))
    assert_within(hard.max(), 1 / 12, relative_bound(4, 1.0, np.float64))
    assert abs(sweep[hard.argmax()]) == pytest.approx(2.5, abs=1e-4)  # the grid's step
    gelu = abs(ACTIVATIONS["gelu"](sweep) - ACTIVATIONS["gelu"](sweep, approximate=True))
    assert round(gelu.max(), 6) == 0.000473
    assert round(abs(sweep[gelu.argmax()]), 2) == 2.70


def test_no_accuracy_is_lost_near_zero_or_in_the_tails() -> None:
    tiny = 1e-12
    for kind in ("elu", "celu"):
        assert_within(ACTIVATIONS[kind](-tiny), -tiny + tiny**2 / 2, relative_bound(2, tiny, np.float64))
    assert_within(ACTIVATIONS["softplus"](-50.0), math.exp(-50), relative_bound(2, math.exp(-50), np.float64))
    exact = -10 * 7.61985302416052606597e-24  # -10 Phi(-10)
    assert_within(ACTIVATIONS["gelu"](-10.0), exact, relative_bound(64, exact, np.float64))
