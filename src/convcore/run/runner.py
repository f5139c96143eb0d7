"""What running a plan has in common on every device: where its values lie, and programs by batch size."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from convcore.plan.arena import lifetimes, place
from convcore.plan.build import library_of, library_step
from convcore.plan.data import Plan

#: Programs of different batch sizes kept per plan: the usual one, the rest of a data set, and 1.
_KEPT_PROGRAMS = 4

P = TypeVar("P")


class Bound(NamedTuple):
    """The steps of a plan for one batch size, as its library has them, and the size of their arena.

    Buffers, in order: the arena, the constants, the inputs, the outputs.
    """

    steps: list[Any]
    arena_floats: int


def bind(plan: Plan, batch: int, weights: Sequence[Any]) -> Bound:
    """Make the steps of `plan` for `batch` images; `weights` has each one's packed weights, or None."""
    buffers = {name: i for i, name in enumerate(plan.constants, start=1)}
    for name, _ in (*plan.inputs, *plan.outputs):
        buffers[name] = len(buffers) + 1

    # Choose again for this batch: the algorithm is the same, workspace and items may not be.
    library = library_of(plan.device._replace(isa=plan.isa))
    chosen = [library_step(s, library, batch) for s in plan.steps]
    offsets, size = place(lifetimes(plan, [s.workspace_bytes for s in chosen], batch))

    def locate(value: str) -> tuple[int, int]:
        return (buffers[value], 0) if value in buffers else (0, offsets[value] // 4)

    steps = []
    for i, (planned, packed) in enumerate(zip(plan.steps, weights, strict=True)):
        step = library_step(planned, library, batch, locate)
        if packed is not None:
            step.set_weights(packed)
        if step.workspace_bytes:
            step.set_workspace(0, offsets[f"workspace {i}"])
        steps.append(step)
    return Bound(steps, size // 4)


class Runner(ABC, Generic[P]):
    """A plan, and its programs by batch size."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._programs: dict[int, P] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def _new_program(self, batch: int) -> P:
        """Bind the plan to `batch` images."""

    @abstractmethod
    def _run_parts(
        self, parts: Sequence[slice], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> None:
        """Compute those rows of `outputs` from the same rows of `inputs`, one part after the other."""

    def program(self, batch: int) -> P:
        """The program for `batch` images; made on first use."""
        with self._lock:
            program = self._programs.pop(batch, None) or self._new_program(batch)
            self._programs[batch] = program
            while len(self._programs) > _KEPT_PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
        return program

    def run(self, inputs: Sequence[np.ndarray], *, batch_size: int | None = None) -> list[np.ndarray]:
        """Return every output for all images of `inputs`, `batch_size` at a time."""
        total = inputs[0].shape[0]
        outputs = [np.empty((total, *shape), np.float32) for _, shape in self.plan.outputs]
        step = min(batch_size or total, total)
        parts = [slice(start, min(start + step, total)) for start in range(0, total, step)]
        self._run_parts(parts, inputs, outputs)
        return outputs
