"""Where the time of a prediction goes, beside what the machine could do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convcore import _native
from convcore.run import roofline
from convcore.run.cpu import CpuRunner
from convcore.tables import text_table


@dataclass(frozen=True)
class StepProfile:
    """One step: median milliseconds for the batch, and its share of the machine's roofline.

    `fraction` is the least time that the step's arithmetic and memory traffic need at the measured
    peaks, over the time that it took. It counts the operations of the definition and every byte from
    memory: Winograd's algorithm, with a quarter of the products, and weights that stay in a cache can
    pass 1.
    """

    layers: tuple[str, ...]
    operation: str
    algorithm: str
    ms: float
    flops: float
    bytes: float
    fraction: float


@dataclass(frozen=True)
class Profile:
    """Steps in order; `repeats` runs of a batch of `batch` images on `threads` threads."""

    steps: tuple[StepProfile, ...]
    batch: int
    threads: int
    repeats: int
    peak_gflops: float
    peak_gbytes: float

    @property
    def ms(self) -> float:
        """Milliseconds of all steps."""
        return sum(s.ms for s in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {**asdict(self), "ms": self.ms}

    def __str__(self) -> str:
        head = ("ms", "%", "GFLOP/s", "GB/s", "of roofline", "operation", "layers")
        rows = []
        for s in self.steps:
            rows.append(
                (
                    f"{s.ms:.3f}",
                    f"{100 * s.ms / max(self.ms, 1e-12):.1f}",
                    f"{s.flops / max(s.ms, 1e-9) / 1e6:.1f}",
                    f"{s.bytes / max(s.ms, 1e-9) / 1e6:.1f}",
                    f"{100 * s.fraction:.0f} %",
                    f"{s.operation} ({s.algorithm})",
                    ", ".join(s.layers),
                )
            )
        total = (
            f"{self.ms:.3f} ms for a batch of {self.batch} on {self.threads} thread(s), "
            f"medians of {self.repeats}; "
            f"measured peaks {self.peak_gflops:.0f} GFLOP/s, {self.peak_gbytes:.1f} GB/s"
        )
        return f"{text_table(head, rows, left=(5, 6))}\n{total}"


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
    medians = np.median(np.array(runs), axis=0) if runner.plan.steps else []
    steps = []
    for s, t in zip(runner.plan.steps, medians, strict=True):
        weight_bytes = 0 if s.weights is None else s.weights.nbytes
        traffic = weight_bytes + batch * max(s.bytes - weight_bytes, 0.0)
        least = max(batch * s.flops / peaks.flops, traffic / peaks.bandwidth)
        steps.append(
            StepProfile(
                s.layers,
                s.operation,
                s.algorithm,
                1e3 * float(t),
                batch * s.flops,
                traffic,
                least / max(float(t), 1e-12),
            )
        )
    return Profile(
        tuple(steps), batch, _native.get_num_threads(), repeats, peaks.flops / 1e9, peaks.bandwidth / 1e9
    )
