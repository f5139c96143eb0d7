"""Timing on a GPU: candidates in turn, each long enough for its events, medians of rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from convcore.bench.timing import median_ratio

__all__ = ["Candidate", "interleaved", "ratio", "repeats_of", "summary"]

#: How long a candidate runs at a time, in ms: long beside an event's resolution of half a microsecond.
_TURN = 10.0
_MOST_REPEATS = 200


@dataclass(frozen=True)
class Candidate:
    """Something to time: `replay` puts `calls` calls of it on the stream."""

    replay: Callable[[], object]
    calls: int = 1


def interleaved(
    candidates: Mapping[str, Candidate],
    clock: Callable[[Callable[[], object], int], float],
    rounds: int,
    warm_up: int = 2,
) -> dict[str, list[float]]:
    """Return milliseconds of a call, one number for each round, by candidate.

    In each round every candidate runs for about 10 ms, in turned order every other round. `clock(work, n)` is
    the milliseconds of n calls of `work`.

    Examples
    --------
    >>> times = interleaved({"a": Candidate(lambda: None, calls=4)}, lambda work, n: 2.0 * n, rounds=3)
    >>> times
    {'a': [0.5, 0.5, 0.5]}
    """
    repeats = {}
    for name, candidate in candidates.items():
        for _ in range(warm_up):
            clock(candidate.replay, 1)
        repeats[name] = repeats_of(clock(candidate.replay, 1))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    for r in range(-1, rounds):  # the round before the first warms the clocks up
        for name, candidate in order if r % 2 == 0 else reversed(order):
            ms = clock(candidate.replay, repeats[name]) / repeats[name] / candidate.calls
            if r >= 0:
                times[name].append(ms)
    return times


def repeats_of(once: float) -> int:
    """Return how many calls of `once` ms make a turn.

    Examples
    --------
    >>> repeats_of(3.0), repeats_of(1e-6), repeats_of(50.0)
    (4, 200, 1)
    """
    return max(1, min(_MOST_REPEATS, math.ceil(_TURN / max(once, 1e-4))))


def summary(ms: list[float]) -> dict[str, Any]:
    """Return a candidate's rounds as plain data.

    Examples
    --------
    >>> summary([2.0, 1.0, 4.0])["median_ms"]
    2.0
    """
    return {
        "median_ms": statistics.median(ms),
        "min_ms": min(ms),
        "max_ms": max(ms),
        "ms": [round(t, 6) for t in ms],
    }


def ratio(times: Mapping[str, list[float]], ours: str, theirs: str) -> float | None:
    """Return the median over rounds of ours over theirs, or None if one was not timed.

    Examples
    --------
    >>> ratio({"a": [1.0, 2.0], "b": [2.0, 4.0]}, "a", "b")
    0.5
    """
    mine, others = times.get(ours), times.get(theirs)
    return median_ratio(mine, others) if mine and others else None
