"""Operations measured on CPU and GPU, and what each number means: rates, share of the roofline, error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from convcore import _native, gpu
from convcore.bench.cases import ARTICLE, CASES, case
from convcore.bench.comparison import Comparison, Measured, compare
from convcore.bench.exact import Work, work
from convcore.bench.machine import machine
from convcore.bench.operations import OPERATION_CASES, operation_case, sweep
from convcore.errors import ArgumentError
from convcore.run.roofline import Peaks
from convcore.run.roofline import measure as roofline

__all__ = ["NOT_MEASURED", "Result", "as_record", "chosen_cases", "measured", "no_gpu", "unmeasured"]

#: The status of everything on a GPU where there is none.
NOT_MEASURED = "not measured"
#: The word for all operations, in the place of a name.
ALL = "all"


@dataclass(frozen=True)
class Result:
    """One case on one device. `peaks` are the CPU's; on a GPU the copy bandwidth is in the facts."""

    comparison: Comparison
    device: str
    isa: str
    work: Work
    peaks: Peaks | None = None

    @property
    def ours(self) -> str:
        """The name of ours; with several instruction sets the first."""
        return next(iter(self.comparison.ours), "convcore")

    @property
    def mine(self) -> Measured:
        """Ours, timed or not."""
        return self.comparison.peers[self.ours]

    def rates(self, measured: Measured) -> dict[str, float | None]:
        """GFLOP/s, GB/s, and the least time at the device's measured best over the time taken."""
        if not measured.median:
            return {"gflops": None, "gbytes": None, "fraction_of_roofline": None}
        seconds, (flops, read, written) = 1e-3 * measured.median, self.work
        return {
            "gflops": flops / seconds / 1e9 if flops else None,
            "gbytes": (read + written) / seconds / 1e9,
            "fraction_of_roofline": self._fraction(measured, seconds),
        }

    def _fraction(self, measured: Measured, seconds: float) -> float | None:
        flops, read, written = self.work
        if self.peaks is not None:
            return self.peaks.seconds(flops, read, written) / seconds
        copied = measured.facts.get("copy_bytes_per_s")
        return (read + written) / copied / seconds if copied else None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        found = self.comparison.as_dict()
        operation, _, problem = self.comparison.case.partition(":")
        for name, one in self.comparison.peers.items():
            if one.median is not None:
                found["peers"][name] |= self.rates(one)
        return {
            "case": found.pop("case"),
            "operation": operation,
            "problem": problem,
            "device": self.device,
            "isa": self.isa,
            "flops": self.work.flops,
            "bytes": self.work.read + self.work.written,
            **found,
        }


def chosen_cases(operations: Sequence[str], problems: Sequence[str] = (), sizes: bool = False) -> list[str]:
    """Return the names of cases for operations and problem strings.

    Parameters
    ----------
    operations
        Names of operations; ``all``, or ``article`` for the three workloads of the article's figure.
    problems
        Problem strings for the one operation; empty for those that are measured unless others are asked for.
    sizes
        Whether each is measured at several sizes.

    Raises
    ------
    ArgumentError
        An operation or a problem is none.

    Examples
    --------
    >>> chosen_cases(["correlate"], ["ih64kh3"])
    ['correlate:ih64kh3']
    >>> chosen_cases(["article"])[0]
    'mlp_784_500_10'
    """
    found = []
    for name in operations:
        if name == ARTICLE:
            found += [one for one in CASES.values() if one.group == ARTICLE]
        elif problems:
            found += [operation_case(name, text) for text in problems]
        else:
            texts = [(n, text) for n, text in OPERATION_CASES if name in (n, ALL)]
            if not texts:
                operation_case(name, "")  # says which operations there are
            found += [operation_case(*pair) for pair in texts]
    if sizes:
        found = [at for one in found for at in (sweep(one) if not one.planned else [one])]
    return list(dict.fromkeys(one.name for one in found))


def no_gpu() -> str:
    """Return why no GPU can be measured here, in a sentence; empty if one can.

    Examples
    --------
    >>> isinstance(no_gpu(), str)
    True
    """
    why = gpu.describe()["unusable"]
    return f"No GPU can be used: {why}." if why else ""


def unmeasured(name: str, threads: int, reason: str) -> Result:
    """Return what is known of a case on a GPU that is not there: its work, and the reason."""
    one = case(name)
    graph, batch = one.build(), one.batch or 1
    comparison = Comparison(name, batch, threads, {"convcore": Measured(NOT_MEASURED, reason)})
    return Result(comparison, "cuda", "", work(graph, batch, one.inputs(1).itemsize))


def measured(
    names: Sequence[str],
    *,
    devices: Sequence[str] = ("cpu",),
    peers: Sequence[str] = ("convcore",),
    threads: int = 1,
    rounds: int = 10,
    isas: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> Iterator[Result]:
    """Measure each case on each device beside the peers that have it; outputs are compared first.

    Without a GPU the results on it say why they are not there.

    Examples
    --------
    >>> results = list(measured(["tanh:1000"], peers=["convcore", "numpy"], rounds=1))  # doctest: +SKIP
    >>> results[0].mine.status  # doctest: +SKIP
    'timed'
    """
    unknown = set(devices) - {"cpu", "cuda"}
    if unknown:
        raise ArgumentError("bench", "device", got=sorted(unknown), expected="cpu or cuda")
    missing = no_gpu() if "cuda" in devices else ""
    isa = isas[0] if isas else _native.default_isa()
    for name in names:
        one = case(name)
        graph, batch = one.build(), one.batch or 1
        todo = work(graph, batch, one.inputs(1).itemsize)
        del graph
        for device in devices:
            if device == "cuda" and missing:
                yield unmeasured(name, threads, missing)
                continue
            on_cpu = device == "cpu"
            # Everyone is compared with ours, which is first.
            beside = list(dict.fromkeys(["convcore", *peers]))
            found = compare(
                name, peers=beside, threads=threads, rounds=rounds, isas=isas if on_cpu else (),
                device=device, exact=True, say=say,
            )  # fmt: skip
            yield Result(
                found, device, isa if on_cpu else "", todo, roofline(isa, threads) if on_cpu else None
            )


def as_record(results: Sequence[Result], packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return results as plain data, with the machine's context; `packages` are those whose versions count."""
    peaks = {(p.isa, p.threads): p.as_dict() for r in results if (p := r.peaks) is not None}
    on_gpu = any(r.device == "cuda" for r in results)
    return {
        "kind": "operations",
        "machine": machine(*packages),
        "gpu": gpu.describe() if on_gpu else None,
        "rooflines": list(peaks.values()),
        "results": [r.as_dict() for r in results],
    }
