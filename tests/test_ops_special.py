"""Infinities, NaN and windows that do not fit, where docs/operations says how Keras differs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import convcore as cc
from convcore.errors import ArgumentError

from .memory import Array

INF = np.float32(np.inf)
ENDS = np.array([-INF, INF, np.nan], np.float32)


@pytest.mark.parametrize("name", ["gelu", "silu", "hard_silu", "mish"])
def test_gates_have_their_limits_at_infinity(name: str) -> None:
    low, high, nan = getattr(cc, name)(ENDS)
    assert low == 0 and np.signbit(low) and high == INF and np.isnan(nan)


def test_softsign_has_its_limits_at_infinity() -> None:
    assert cc.softsign(ENDS).tolist()[:2] == [-1, 1]
    assert np.isnan(cc.softsign(ENDS)[2])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_maxima_keep_nan_and_minus_infinity(rank: int) -> None:
    windows = np.array([np.nan, 1, -INF, -INF], np.float32).reshape(1, *(1,) * (rank - 1), 4, 1)
    got = cc.max_pool(windows, (*(1,) * (rank - 1), 2)).ravel()
    assert np.isnan(got[0]) and got[1] == -INF
    assert np.isnan(cc.global_max_pool(windows)).all()
    assert (cc.global_max_pool(np.full_like(windows, -INF)) == -INF).all()


@pytest.mark.parametrize("pool", [cc.max_pool, cc.average_pool])
def test_a_window_larger_than_the_input_is_an_error(pool: Callable[..., Array]) -> None:
    with pytest.raises(ArgumentError, match="smaller than the pool"):
        pool(np.ones((1, 2, 2, 1), np.float32), 3)
    assert pool(np.ones((1, 2, 2, 1), np.float32), 3, padding="same").shape == (1, 1, 1, 1)
