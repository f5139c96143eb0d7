"""Peers side by side on one workload: outputs compared first, then timed in turn."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convcore.bench.cases import case
from convcore.bench.exact import error
from convcore.bench.exact import expected as expected_output
from convcore.bench.peers import OWN, adapters, installed
from convcore.bench.timing import median_ratio
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

    `difference` is the largest from the first peer's output over the largest output, `error` that from
    float64 where it was asked for; `ms` holds one median for each round, `calls` every call that was timed.
    `facts` is what the peer says beside its times.
    """

    status: str
    reason: str = ""
    difference: float | None = None
    ms: list[float] = field(default_factory=list)
    error: float | None = None
    calls: list[float] = field(default_factory=list)
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        """Milliseconds, the median round; None if nothing was timed."""
        return statistics.median(self.ms) if self.ms else None

    @property
    def p90(self) -> float | None:
        """Milliseconds that nine of ten calls stay below; None if single calls were not kept."""
        return float(np.percentile(self.calls, 90)) if self.calls else None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        compared = {"difference": self.difference} | ({} if self.error is None else {"error": self.error})
        if not self.ms:
            return {"status": self.status, "reason": self.reason, **compared}
        return {
            "status": self.status,
            **compared,
            "median": self.median,
            "p90": self.p90,
            "min": min(self.ms),
            "max": max(self.ms),
            "ms": [round(t, 5) for t in self.ms],
            **({"facts": dict(self.facts)} if self.facts else {}),
        }


@dataclass(frozen=True)
class Comparison:
    """All peers on one case, by name.

    Ours is called ``convcore``, or where several instruction sets were asked for ``convcore avx512`` and so
    on. ``roofline`` is the time that the case's bytes need at the machine's best.
    """

    case: str
    batch: int
    threads: int
    peers: Mapping[str, Measured]

    @property
    def ours(self) -> tuple[str, ...]:
        """Our own names, ``convcore_call`` and ``roofline`` left out."""
        return tuple(name for name in self.peers if name.partition(" ")[0] == "convcore")

    @property
    def fastest(self) -> str | None:
        """The fastest of the others; None if none was timed."""
        own = {*self.ours, *OWN}
        medians = {n: m.median for n, m in self.peers.items() if n not in own and m.median is not None}
        return min(medians, key=lambda name: medians[name] or 0.0) if medians else None

    @property
    def ratio(self) -> float | None:
        """Median over rounds of ours (the first) over that of the fastest other: below 1 we are faster."""
        return self.ratio_of(self.ours[0], self.fastest) if self.ours else None

    @property
    def share_of_roofline(self) -> float | None:
        """Median over rounds of the roofline's time over ours: 1 is as fast as memory; None if unknown."""
        return self.ratio_of("roofline", self.ours[0]) if self.ours else None

    def ratio_of(self, name: str, other: str | None) -> float | None:
        """Median over rounds of the time of `name` over that of `other`; None if one was not timed."""
        pair = [self.peers[n].ms if n in self.peers else [] for n in (name, other or "")]
        return median_ratio(*pair) if all(pair) else None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        found: dict[str, Any] = {
            "case": self.case,
            "batch": self.batch,
            "threads": self.threads,
            "peers": {name: measured.as_dict() for name, measured in self.peers.items()},
            "fastest_peer": self.fastest,
            "ratio_to_fastest_peer": self.ratio,
            "share_of_roofline": self.share_of_roofline,
        }
        if len(self.ours) > 1:
            found["instruction_sets"] = {
                name: {
                    f"ratio_to_{self.ours[0]}": self.ratio_of(name, self.ours[0]),
                    "ratio_to_fastest_peer": self.ratio_of(name, self.fastest),
                }
                for name in self.ours
            }
        return found


def compare(
    name: str,
    *,
    peers: Sequence[str] = ("convcore", "numpy"),
    batch: int = 1,
    threads: int = 1,
    rounds: int = 10,
    isas: Sequence[str] = (),
    device: str = "cpu",
    exact: bool = False,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Build the case in every peer, compare the outputs, and time those that agree in turn.

    Every peer has a process of its own, and all but one are stopped at any time; ``convcore.bench.worker``
    says why. In each round everyone runs for about 50 ms, after one untimed run; the order is turned round
    every other round.

    Parameters
    ----------
    name
        A name that :func:`convcore.bench.case` knows.
    peers
        Names of :data:`convcore.bench.PEERS`; the first that works is what the others are compared with.
    batch, threads, rounds
        Images in a call (unless the case says how many), threads of every peer, rounds of timing.
    isas
        Instruction sets for ``convcore``: it gets a process for each of them. By default its own choice.
    device
        "cpu" or "cuda".
    exact
        Whether the outputs are compared with float64, too; no peer runs meanwhile.
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
    workload = case(name)  # an unknown one is refused before anything is started
    batch = workload.batch or batch
    found, known = installed(device), adapters(device)
    truth = expected_output(workload.build(), workload.inputs(batch)) if exact else None
    measured: dict[str, Measured] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        expected: np.ndarray | None = None
        for peer, adapter, environment in _processes(peers, isas):
            if adapter not in known:
                measured[peer] = Measured("unsupported", f"no form of {adapter} on a GPU is written")
                continue
            if adapter not in found:
                measured[peer] = Measured("not installed", 'pip install "convcore[bench-peers]"')
                continue
            if say:
                say(f"{name}: {peer}")
            worker = stack.enter_context(Worker(adapter, threads, environment, device))
            try:
                y = worker.build(name, batch)
            except WorkerError as failure:
                measured[peer] = Measured(failure.kind, str(failure))
                worker.close()
                continue
            if y is None:  # it has no output, the roofline
                measured[peer] = Measured("timed")
            else:
                expected = y if expected is None else expected
                measured[peer] = _compared(y, expected)
                measured[peer].error = None if truth is None else error(y, truth)
            if measured[peer].status == "timed":
                workers[peer] = worker
                measured[peer].facts = worker.facts()
                worker.pause()
            else:
                worker.close()
        for r in range(rounds):
            if say:
                say(f"{name}: round {r + 1} of {rounds}")
            for peer in sorted(workers, key=list(workers).index, reverse=r % 2 == 1):
                workers[peer].resume()
                calls = workers[peer].time(_TURN)
                measured[peer].ms.append(statistics.median(calls))
                measured[peer].calls += calls
                workers[peer].pause()
    return Comparison(name, batch, threads, measured)


def _processes(peers: Sequence[str], isas: Sequence[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What a process is called, whose adapter it runs, and the variables that it gets."""
    for peer in dict.fromkeys(peers):
        if peer != "convcore" or not isas:
            yield peer, peer, {}
            continue
        for isa in dict.fromkeys(isas):
            yield (peer if len(isas) == 1 else f"{peer} {isa}"), peer, {"CONVCORE_ISA": isa}


def _compared(y: np.ndarray, expected: np.ndarray) -> Measured:
    if y.shape != expected.shape:
        return Measured("disagrees", f"its output has shape {y.shape}, expected {expected.shape}")
    difference = float(np.abs(y - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= _SAME:
        return Measured("disagrees", f"its output differs by {difference:.1e} of the largest", difference)
    return Measured("timed", "", difference)
