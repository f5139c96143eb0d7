"""Rounding to bfloat16, against a search for the nearest of its numbers."""

from __future__ import annotations

import numpy as np

from convcore.bfloat16 import NAN, from_bfloat16, to_bfloat16


def test_the_nearest_number_is_taken_and_of_two_the_even_one() -> None:
    all_of_them = from_bfloat16(np.arange(0x7F80, dtype=np.uint16)).astype(np.float64)
    ties = (all_of_them[:-1] + all_of_them[1:]) / 2
    drawn = np.random.default_rng(0).integers(0, 0x7F000000, 20_000, np.uint32).view(np.float32)
    x = np.concatenate([ties[::7].astype(np.float32), drawn, all_of_them[::11].astype(np.float32)])
    x = np.concatenate([x, -x])
    above = np.searchsorted(all_of_them, np.abs(x).astype(np.float64))
    below = np.maximum(above - (all_of_them[above] != np.abs(x)), 0)
    up, down = all_of_them[above] - np.abs(x), np.abs(x) - all_of_them[below]
    nearest = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    assert (to_bfloat16(x) == nearest + 0x8000 * np.signbit(x)).all()


def test_what_is_no_finite_number() -> None:
    largest = np.float32(3.4028235e38)  # nearer to the number after the last than to the last
    x = np.float32([np.inf, -np.inf, largest, np.nan, -np.nan, 0.0, -0.0])
    assert to_bfloat16(x).tolist() == [0x7F80, 0xFF80, 0x7F80, NAN, NAN, 0, 0x8000]
    assert np.isnan(from_bfloat16(np.array([NAN]))).all()


def test_any_strides() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 10), np.float32).transpose(2, 0, 1)[::-3]
    assert (from_bfloat16(to_bfloat16(x)) == from_bfloat16(to_bfloat16(x.copy()))).all()
    assert (np.abs(from_bfloat16(to_bfloat16(x)) - x) <= 2.0**-8 * np.abs(x)).all()
