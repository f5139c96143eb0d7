"""The sampling activations: the reference's stream, whatever the strides, and the right distribution."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

import convcore as cc
from convcore import _native, errors, reference
from convcore.ops.call import instruction_set

from .memory import AWKWARD
from .tolerance import assert_within, relative_bound

ISAS = _native.isas()
N = 200_000
#: A normal variable is farther than this from its mean once in 1.7 million draws; seeds are fixed.
SIGMAS = 5


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_rrelu_draws_the_stream_of_the_reference(isa: str, seed: int) -> None:
    x = np.full(1003, -1.0, np.float32)
    with instruction_set(isa):
        got = cc.rrelu(x, lower=3.0, upper=8.0, training=True, seed=seed)
    a = 3.0 + 5.0 * reference.philox_uniform(seed, x.size)
    assert_within(got, -1 / a, relative_bound(4, 1 / a))


@pytest.mark.parametrize("isa", ISAS)
def test_elements_draw_by_their_position(isa: str) -> None:
    x = -np.ones((7, 5, 9), np.float32)
    draw = partial(cc.rrelu, training=True, seed=3)
    with instruction_set(isa):
        expected = draw(x)
        assert len(np.unique(expected)) > 300
        for layout in AWKWARD:
            assert draw(layout(x)).tobytes() == expected.tobytes(), layout.__name__
        y = x.copy()
        assert draw(y, out=y) is y and y.tobytes() == expected.tobytes()


def test_every_instruction_set_draws_the_same_rrelu() -> None:
    results = set()
    for isa in ISAS:
        with instruction_set(isa):
            results.add(cc.rrelu(-np.ones(5000, np.float32), training=True, seed=11).tobytes())
    assert len(results) == 1


def test_distribution_of_rrelu() -> None:
    a = -1.0 / cc.rrelu(np.full(N, -1.0, np.float32), lower=3.0, upper=8.0, training=True, seed=1)
    assert 3.0 - 1e-5 < a.min() < 3.01 and 7.99 < a.max() < 8.0 + 1e-5
    deviation = 5 / math.sqrt(12)
    assert abs(a.mean(dtype=np.float64) - 5.5) < SIGMAS * deviation / math.sqrt(N)
    # The variance of a uniform sample variance: (9/5 - 1) sigma^4 / n.
    assert abs(a.var(dtype=np.float64) - 25 / 12) < SIGMAS * deviation**2 * math.sqrt(0.8 / N)
    x = np.array([0.0, 1.0, 7.5], np.float32)
    assert cc.rrelu(x, training=True, seed=1).tolist() == x.tolist()


@pytest.mark.parametrize("value", [3.0, 6.0])
def test_distribution_of_noisy_relu(value: float) -> None:
    # At these values the noise (variance below 1) hardly ever reaches 0, so nothing is cut.
    y = cc.noisy_relu(np.full(N, value, np.float32), training=True, seed=2).astype(np.float64)
    variance = 1 / (1 + math.exp(-value))
    cut = math.erfc(value / math.sqrt(2 * variance)) / 2 * 4  # at most, of mean and variance
    assert abs(y.mean() - value) < SIGMAS * math.sqrt(variance / N) + cut
    assert abs(y.var() - variance) < SIGMAS * variance * math.sqrt(2 / N) + 3 * value * cut


def test_noisy_relu_at_zero_is_half_a_normal() -> None:
    y = cc.noisy_relu(np.zeros(N, np.float32), training=True, seed=4).astype(np.float64)
    share = np.count_nonzero(y == 0) / N
    assert abs(share - 0.5) < SIGMAS * 0.5 / math.sqrt(N)
    # E[max(0, z)] for z with variance 1/2, and its own variance.
    mean = math.sqrt(0.5) / math.sqrt(2 * math.pi)
    assert abs(y.mean() - mean) < SIGMAS * math.sqrt((0.25 - mean**2) / N)


def test_a_seed_is_needed_and_checked() -> None:
    x = np.zeros(3, np.float32)
    for function in (cc.rrelu, cc.noisy_relu):
        for seed in (None, -1, 2**64):
            with pytest.raises(errors.ArgumentError, match="seed"):
                function(x, training=True, seed=seed)
