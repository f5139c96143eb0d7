"""Timing on a machine that is not quite idle: candidates in turn, medians, ratios round by round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Return milliseconds of every call, by candidate; in each round every candidate runs once.

    Whatever disturbs the machine for a while disturbs all candidates alike. The order is turned round
    every other round, so that none always runs behind the same neighbour.

    Examples
    --------
    >>> times = interleaved({"sum": lambda: sum(range(10)), "max": lambda: max(range(10))}, rounds=3)
    >>> {name: len(ms) for name, ms in times.items()}
    {'sum': 3, 'max': 3}
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    for r in range(-warm_up, rounds):
        for name, run in order if r % 2 == 0 else reversed(order):
            start = time.perf_counter()
            run()
            if r >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over rounds of ours / theirs: below 1 is faster.

    Examples
    --------
    >>> median_ratio([1.0, 2.0, 9.0], [2.0, 4.0, 3.0])
    0.5
    """
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
