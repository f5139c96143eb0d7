"""The generator against its published vectors; means and variances of the sampling forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from convcore.reference import noisy_relu_sample, philox_normal, philox_uniform, rrelu_sample
from convcore.reference.sampling import _normal_quantile, _philox

from .tolerance import assert_within, relative_bound

N = 200_000
#: A normal variable is farther than this from its mean once in 1.7 million draws; seeds are fixed.
SIGMAS = 5

# Random123's known-answer vectors of philox4x32-10: counter, key, result.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_philox_vectors(counter: str, key: str, result: str) -> None:
    k0, k1 = words(key)
    got = _philox([np.array([w], np.uint64) for w in words(counter)], (k0, k1))
    assert [int(w[0]) for w in got] == words(result)


def test_uniform_is_the_top_of_each_lane() -> None:
    expected = [((w >> 9) + 0.5) / 2**23 for w in words(VECTORS[0][2])]
    assert philox_uniform(0, 4).tolist() == expected


def test_uniform_is_exact_in_float32_and_open() -> None:
    u = philox_uniform(1, N)
    assert (u.astype(np.float32) == u).all()
    assert u.min() > 0 and u.max() < 1
    assert np.float32(0.5 * 2.0**-23) == 0.5 * 2.0**-23 and np.float32((2**23 - 0.5) / 2**23) < 1


def test_the_stream_can_be_cut_anywhere() -> None:
    whole = philox_uniform(2, 1000)
    for cut in (1, 2, 3, 4, 7, 500):
        parts = [philox_uniform(2, cut), philox_uniform(2, 1000 - cut, offset=cut)]
        assert (np.concatenate(parts) == whole).all()
    beyond = 4 * 2**32  # the counter's second word
    assert (philox_uniform(2, 8, offset=beyond - 4)[4:] == philox_uniform(2, 4, offset=beyond)).all()
    assert (philox_uniform(2, 4, offset=beyond) != whole[:4]).all()
    assert philox_uniform(2, 0).shape == (0,)


def test_both_halves_of_the_seed_count() -> None:
    first = [philox_uniform(seed, 1).item() for seed in (0, 1, 2**32, 2**63)]
    assert len(set(first)) == 4


def test_uniform_is_uniform() -> None:
    assert stats.kstest(philox_uniform(3, N), "uniform").pvalue > 1e-3


def test_normal_quantile_is_scipys() -> None:
    p = (np.concatenate([np.arange(0, 2**23, 97), np.arange(200), 2**23 - 1 - np.arange(200)]) + 0.5) / 2**23
    p = np.concatenate([p, 10.0 ** -np.arange(1, 300)])
    judge = special.ndtri(p)
    # Both approximations are stated to about 1e-16; a dozen operations come on top.
    assert_within(_normal_quantile(p), judge, relative_bound(16, judge, np.float64))


def assert_mean_and_variance(y: np.ndarray, mean: float, variance: float) -> None:
    """Compare with the standard errors of a sample's mean and variance."""
    assert abs(y.mean() - mean) <= SIGMAS * math.sqrt(variance / y.size)
    fourth = ((y - y.mean()) ** 4).mean()
    assert abs(y.var() - variance) <= SIGMAS * math.sqrt((fourth - variance**2) / y.size)


def test_normal_is_normal() -> None:
    z = philox_normal(4, N)
    assert_mean_and_variance(z, 0, 1)
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_rrelu_divides_by_a_uniform_number() -> None:
    """E[1/a] = ln(u/l) / (u - l) and E[1/a^2] = 1 / (l u) for a from U(l, u)."""
    y = rrelu_sample(np.full(N, -1.0), 3.0, 8.0, seed=5)
    mean = -math.log(8 / 3) / 5
    assert_mean_and_variance(y, mean, 1 / 24 - mean**2)
    assert y.min() >= -1 / 3 and y.max() <= -1 / 8
    x = np.array([[0.0, 2.0], [np.inf, np.nan]])
    kept = rrelu_sample(x, 3.0, 8.0, seed=5)
    assert kept.ravel()[:3].tolist() == [0, 2, np.inf] and np.isnan(kept[1, 1])


@pytest.mark.parametrize("x", [-1.0, -0.5, 0.0, 0.5, 3.0])
def test_noisy_relu_has_sigmoid_as_its_variance(x: float) -> None:
    """The mean and variance of a normal variable cut at 0, with standard deviation sqrt(sigmoid(x))."""
    s = math.sqrt(special.expit(x))
    density, above = stats.norm.pdf(x / s), stats.norm.cdf(x / s)
    mean = x * above + s * density
    second = (x * x + s * s) * above + x * s * density
    y = noisy_relu_sample(np.full(N, x), seed=6)
    assert_mean_and_variance(y, float(mean), float(second - mean**2))


def test_sampling_forms_repeat() -> None:
    x = np.random.default_rng(0).standard_normal((5, 7))
    assert (noisy_relu_sample(x, 9) == noisy_relu_sample(x, 9)).all()
    assert (noisy_relu_sample(x, 9) != noisy_relu_sample(x, 10)).any()
    assert (rrelu_sample(x, 3, 8, 9).ravel()[:6] == rrelu_sample(x.ravel()[:6], 3, 8, 9)).all()
