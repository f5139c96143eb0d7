"""exp, sigmoid, tanh and GELU (which is erf) on every float32 there is: at most 2 units in the last place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erfc

import convcore as cc
from convcore import _native
from convcore.ops.call import instruction_set

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

GOAL = 2.0
#: Below 2^-26 and from 2^7 in magnitude the functions are, to a float, what `small` and `large` say.
SMALL, LARGE = np.float32(2.0**-26), np.float32(2.0**7)
#: What is less than half a unit above the largest float still rounds to it.
OVERFLOW = 2.0**128 - 2.0**103


@dataclass(frozen=True)
class Function:
    ours: Callable[..., Floats]
    exact: Callable[[Doubles], Doubles]
    small: Callable[[Floats], Floats]
    large: Callable[[Floats], Floats]


def _sigmoid(x: Doubles) -> Doubles:
    e = np.exp(-np.abs(x))
    y: Doubles = np.where(x < 0, e, 1.0) / (1.0 + e)
    return y


FUNCTIONS = {
    "exponential": Function(
        cc.exponential, np.exp, np.ones_like, lambda x: np.where(x > 0, np.float32(np.inf), np.float32(0))
    ),
    "sigmoid": Function(
        cc.sigmoid, _sigmoid, lambda x: np.full_like(x, 0.5), lambda x: (x > 0).astype(np.float32)
    ),
    "tanh": Function(cc.tanh, np.tanh, lambda x: x, np.sign),
    "gelu": Function(
        cc.gelu,
        lambda x: 0.5 * x * erfc(-x * np.sqrt(0.5)),
        lambda x: x / 2,
        lambda x: np.where(x > 0, x, np.float32(0)),
    ),
}


def _unit(exact: Doubles) -> Doubles:
    """The last place of a float of that size, below a power of two that it would round up to."""
    nearest = np.abs(exact).astype(np.float32)
    bits = nearest.view(np.uint32) - (nearest > np.abs(exact))
    unit: Doubles = np.ldexp(1.0, np.maximum(bits >> 23, 1).astype(np.int32) - 150)
    return unit


def _bits(x: np.float32) -> int:
    return int(x.view(np.uint32))


def _chunks(first: int, last: int, step: int) -> Iterator[range]:
    """The bits from `first` up to `last` in pieces, which fit the L2 cache with all that is made of them.

    They are no arrays yet: the pool takes all its work at once, and 2^32 floats would not fit the memory.
    """
    in_float64 = _bits(SMALL) <= first < _bits(LARGE)
    count = step << (14 if in_float64 else 16)
    for begin in range(first, last, count):
        yield range(begin, min(last, begin + count), step)


def _of_every_isa(function: Function, x: Floats) -> Iterator[Floats]:
    for isa in _native.isas():
        with instruction_set(isa):
            yield function.ours(x)


def _error(function: Function, x: Floats) -> float:
    """The largest error in units of the last place, of any instruction set."""
    size = np.abs(x[0])
    with np.errstate(all="ignore"):
        if not size < np.inf:
            assert all(np.isnan(y[np.isnan(x)]).all() for y in _of_every_isa(function, x))
            x = x[~np.isnan(x)]
        if not SMALL <= size < LARGE:
            simple = (function.small if size < SMALL else function.large)(x).view(np.int32)
            worst = [np.abs(y.view(np.int32) - simple).max(initial=0) for y in _of_every_isa(function, x)]
            return float(max(worst))
        exact = function.exact(x.astype(np.float64))
        overflows = np.abs(exact) >= OVERFLOW
        exact[overflows] = OVERFLOW
        unit = _unit(exact)
        worst = []
        for y in _of_every_isa(function, x):
            # There is no last place up there: only infinity will do.
            assert np.array_equal(np.isinf(y), overflows)
            worst.append((np.abs(np.where(overflows, exact, y) - exact) / unit).max())
        return float(max(worst))


def _error_of_both_signs(function: Function, bits: range) -> float:
    x = np.arange(bits.start, bits.stop, bits.step, np.uint32)
    return max(_error(function, signed.view(np.float32)) for signed in (x, x | np.uint32(1 << 31)))


def _worst(function: Function, step: int) -> float:
    edges = [0, *map(_bits, (SMALL, LARGE, np.float32(np.inf))), 1 << 31]
    threads = cc.get_num_threads()
    cc.set_num_threads(1)  # every core has pieces of its own: to share one costs more than it gives
    try:
        with ThreadPoolExecutor(threads) as pool:
            return max(
                max(pool.map(partial(_error_of_both_signs, function), _chunks(first, last, step)))
                for first, last in pairwise(edges)
            )
    finally:
        cc.set_num_threads(threads)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_sample_of_all_floats(name: str) -> None:
    assert _worst(FUNCTIONS[name], 4099) <= GOAL


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_float(name: str) -> None:
    assert _worst(FUNCTIONS[name], 1) <= GOAL
