"""Where the time of a prediction goes, beside what the machine could do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from convcore import _native
from convcore.plan.data import Plan
from convcore.plan.printed import layer_span
from convcore.run import roofline
from convcore.run.cpu import CpuRunner
from convcore.tables import text_table

if TYPE_CHECKING:
    from convcore.run.cuda import CudaRunner


@dataclass(frozen=True)
class StepProfile:
    """One step: median milliseconds for the batch, and its share of the machine's roofline.

    The zeros around a map are written for the step that fills it, and their time and bytes are part of its.
    `least_ms` is the least time that the arithmetic of its algorithm and its memory traffic need at the
    measured peaks, and `fraction` that over `ms`; both are NaN where no peaks are measured. Every array is
    counted once and as if it came from memory: a step whose arrays stay in a cache can pass 1. `flops` is
    the arithmetic of the definition, so GFLOP/s are effective ones: Winograd's algorithm passes the peak.
    """

    layers: tuple[str, ...]
    operation: str
    computes: tuple[str, ...]
    algorithm: str
    ms: float
    flops: float
    algorithm_flops: float
    bytes_read: float
    bytes_written: float
    least_ms: float

    @property
    def fraction(self) -> float:
        """Least time over measured time."""
        return self.least_ms / max(self.ms, 1e-9)

    @property
    def gflops(self) -> float:
        """Effective GFLOP/s: the definition's arithmetic over the time."""
        return self.flops / max(self.ms, 1e-9) / 1e6

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {**asdict(self), "fraction": self.fraction, "gflops": self.gflops}


@dataclass(frozen=True)
class _Steps:
    """Steps in order, and a table of them."""

    steps: tuple[StepProfile, ...]
    batch: int
    repeats: int
    #: Columns of the table that hold words, and are aligned left.
    LEFT: ClassVar[tuple[int, ...]] = (5, 6, 7)

    @property
    def ms(self) -> float:
        """Milliseconds of all steps."""
        return sum(s.ms for s in self.steps)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Titles and cells of the table."""
        head = ("ms", "share", "GFLOP/s", "MB", "of roofline", "operation", "algorithm", "layers")
        rows: list[tuple[str, ...]] = [
            (
                f"{s.ms:.3f}",
                f"{100 * s.ms / max(self.ms, 1e-12):.1f} %",
                f"{s.gflops:.1f}",
                f"{(s.bytes_read + s.bytes_written) / 1e6:.2f}",
                "" if math.isnan(s.least_ms) else f"{100 * s.fraction:.0f} %",
                " + ".join(s.computes),
                s.algorithm,
                layer_span(s.layers),
            )
            for s in self.steps
        ]
        return head, rows

    def summary(self) -> str:
        """The line below the table."""
        raise NotImplementedError

    def __str__(self) -> str:
        head, rows = self.rows()
        return f"{text_table(head, rows, left=self.LEFT)}\n{self.summary()}"


@dataclass(frozen=True)
class Profile(_Steps):
    """`repeats` runs of a batch of `batch` images on `threads` threads of the CPU."""

    threads: int
    peaks: roofline.Peaks

    @property
    def least_ms(self) -> float:
        """The floor: the least milliseconds of all steps, one after the other."""
        return sum(s.least_ms for s in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "steps": [s.as_dict() for s in self.steps],
            "batch": self.batch,
            "threads": self.threads,
            "repeats": self.repeats,
            "peaks": self.peaks.as_dict(),
            "ms": self.ms,
            "least_ms": self.least_ms,
        }

    def summary(self) -> str:
        """The line below the table."""
        share = 100 * self.least_ms / max(self.ms, 1e-12)
        return (
            f"{self.ms:.3f} ms for a batch of {self.batch} on {self.threads} thread(s), medians of "
            f"{self.repeats}; floor {self.least_ms:.3f} ms ({share:.0f} %) at {self.peaks.flops / 1e9:.0f} "
            f"GFLOP/s, {self.peaks.read / 1e9:.1f} GB/s read, {self.peaks.write / 1e9:.1f} GB/s written"
        )


@dataclass(frozen=True)
class CudaProfile(_Steps):
    """`repeats` runs of a batch of `batch` images on a GPU.

    Steps are timed one after the other without the graph, `graph_ms` is the graph of them all. `clock` says
    what was read. The GPU's peaks are not measured here, so that there is no roofline.
    """

    graph_ms: float
    clock: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "steps": [s.as_dict() for s in self.steps],
            "batch": self.batch,
            "repeats": self.repeats,
            "ms": self.ms,
            "graph_ms": self.graph_ms,
            "clock": self.clock,
        }

    def summary(self) -> str:
        """The line below the table."""
        return (
            f"{self.ms:.3f} ms for a batch of {self.batch}, step by step; {self.graph_ms:.3f} ms as one "
            f"graph; medians of {self.repeats} by {self.clock}; no roofline: the GPU's peaks are not measured"
        )


def profile(runner: CpuRunner, inputs: Sequence[np.ndarray], repeats: int) -> Profile:
    """Run `repeats` times and return medians per step."""
    peaks = roofline.measure(runner.plan.isa)
    batch = inputs[0].shape[0]
    program = runner.program(batch)
    outputs = [np.empty((batch, *shape), np.float32) for _, shape in runner.plan.outputs]
    program.run(inputs, outputs)
    runs = []
    for _ in range(repeats):
        seconds: list[float] = []
        program.run(inputs, outputs, seconds=seconds)
        runs.append(seconds)

    def least(work: roofline.Work) -> float:
        return peaks.seconds(work.algorithm_flops, work.read, work.written)

    steps = _step_profiles(runner.plan, batch, runs, least)
    return Profile(steps, batch, repeats, _native.get_num_threads(), peaks)


def profile_cuda(runner: CudaRunner, inputs: Sequence[np.ndarray], repeats: int) -> CudaProfile:
    """Run `repeats` times on the GPU and return medians per step."""
    times = runner.step_times(inputs, repeats)
    batch = inputs[0].shape[0]
    steps = _step_profiles(runner.plan, batch, times.steps, lambda _: math.nan)
    return CudaProfile(steps, batch, repeats, 1e3 * float(np.median(times.graph)), times.clock)


def _step_profiles(
    plan: Plan,
    batch: int,
    runs: Sequence[Sequence[float]],
    least: Callable[[roofline.Work], float],
) -> tuple[StepProfile, ...]:
    """The rows of `plan` for `batch` images: medians of `runs`, which have every step's seconds."""
    rows = plan.rows
    times = [[sum(seconds[i] for i in row) for row in rows] for seconds in runs]
    medians = np.median(np.array(times), axis=0) if rows else []
    steps = []
    for row, t in zip(rows, medians, strict=True):
        *before, s = (plan.steps[i] for i in row)
        work = sum((roofline.work(b, batch) for b in before), roofline.work(s, batch))
        steps.append(
            StepProfile(
                layers=s.layers,
                operation=s.operation,
                computes=s.computes,
                algorithm=s.algorithm,
                ms=1e3 * float(t),
                flops=work.flops,
                algorithm_flops=work.algorithm_flops,
                bytes_read=work.read,
                bytes_written=work.written,
                least_ms=1e3 * least(work),
            )
        )
    return tuple(steps)
