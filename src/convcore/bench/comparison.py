"""Peers side by side on one workload: outputs compared first, then timed in turn."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convcore.bench.cases import case
from convcore.bench.peers import installed
from convcore.bench.worker import Worker, WorkerError

__all__ = ["Comparison", "Measured", "compare"]

#: Larger differences, over the largest output, are another network and not another rounding. The least
#: exact peer known, MNN's Winograd, is 3e-3 off on one layer; everyone's difference is in the result.
_SAME = 1e-2
#: How long a peer runs at a time, in seconds: long beside the switch, short beside the disturbances.
_TURN = 0.05


@dataclass
class Measured:
    """One peer: `status` is "timed", or why it was not, with a `reason`.

    `difference` is the largest from the first peer's output over the largest output; `ms` holds one
    median for each round.
    """

    status: str
    reason: str = ""
    difference: float | None = None
    ms: list[float] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        """Milliseconds, the median round; None if nothing was timed."""
        return statistics.median(self.ms) if self.ms else None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        if not self.ms:
            return {"status": self.status, "reason": self.reason, "difference": self.difference}
        return {
            "status": self.status,
            "difference": self.difference,
            "median": self.median,
            "min": min(self.ms),
            "max": max(self.ms),
            "ms": [round(t, 4) for t in self.ms],
        }


@dataclass(frozen=True)
class Comparison:
    """All peers on one case, by name; ours is called ``convcore``."""

    case: str
    batch: int
    threads: int
    peers: Mapping[str, Measured]

    @property
    def fastest(self) -> str | None:
        """The fastest of the others; None if none was timed."""
        medians = {n: m.median for n, m in self.peers.items() if n != "convcore" and m.median is not None}
        return min(medians, key=lambda name: medians[name] or 0.0) if medians else None

    @property
    def ratio(self) -> float | None:
        """Median over rounds of ours over that of the fastest other: below 1 we are faster."""
        ours = self.peers.get("convcore")
        if ours is None or not ours.ms or self.fastest is None:
            return None
        theirs = self.peers[self.fastest].ms
        return statistics.median(a / b for a, b in zip(ours.ms, theirs, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "case": self.case,
            "batch": self.batch,
            "threads": self.threads,
            "peers": {name: measured.as_dict() for name, measured in self.peers.items()},
            "fastest_peer": self.fastest,
            "ratio_to_fastest_peer": self.ratio,
        }


def compare(
    name: str,
    *,
    peers: Sequence[str] = ("convcore", "numpy"),
    batch: int = 1,
    threads: int = 1,
    rounds: int = 10,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Build the case in every peer, compare the outputs, and time those that agree in turn.

    Every peer has a process of its own, and all but one are stopped at any time (:mod:`.worker` says why).
    In each round everyone runs for about 50 ms, after one untimed run; the order is turned round every
    other round.

    Parameters
    ----------
    name
        A case of :data:`convcore.bench.CASES`.
    peers
        Names of :data:`convcore.bench.PEERS`; the first that works is what the others are compared with.
    batch, threads, rounds
        Images in a call, threads of every peer, rounds of timing.
    environment
        Variables for our own process, such as ``CONVCORE_ISA``.
    say
        Is told what is being done.

    Returns
    -------
    Comparison
        With every peer that was asked for: timed, or with the reason why not.

    Examples
    --------
    >>> result = compare("sonar_mlp", peers=["convcore", "numpy"], rounds=2)  # doctest: +SKIP
    >>> result.peers["convcore"].status  # doctest: +SKIP
    'timed'
    """
    case(name)  # an unknown one is refused before anything is started
    found = installed()
    measured: dict[str, Measured] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        expected: np.ndarray | None = None
        for peer in dict.fromkeys(peers):
            if peer not in found:
                measured[peer] = Measured("not installed", 'pip install "convcore[bench-peers]"')
                continue
            if say:
                say(f"{name}: {peer}")
            worker = stack.enter_context(Worker(peer, threads, environment if peer == "convcore" else None))
            try:
                y = worker.build(name, batch)
            except WorkerError as error:
                measured[peer] = Measured(error.kind, str(error))
                worker.close()
                continue
            expected = y if expected is None else expected
            measured[peer] = _compared(y, expected)
            if measured[peer].status == "timed":
                workers[peer] = worker
                worker.pause()
            else:
                worker.close()
        for r in range(rounds):
            if say:
                say(f"{name}: round {r + 1} of {rounds}")
            for peer in sorted(workers, key=list(workers).index, reverse=r % 2 == 1):
                workers[peer].resume()
                measured[peer].ms.append(statistics.median(workers[peer].time(_TURN)))
                workers[peer].pause()
    return Comparison(name, batch, threads, measured)


def _compared(y: np.ndarray, expected: np.ndarray) -> Measured:
    if y.shape != expected.shape:
        return Measured("disagrees", f"its output has shape {y.shape}, expected {expected.shape}")
    difference = float(np.abs(y - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= _SAME:
        return Measured("disagrees", f"its output differs by {difference:.1e} of the largest", difference)
    return Measured("timed", "", difference)
