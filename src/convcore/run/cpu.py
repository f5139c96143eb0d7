"""Runs a plan on the CPU: one call into the library per batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from convcore import _native
from convcore.memory import aligned_floats
from convcore.plan.arena import lifetimes, place
from convcore.plan.build import library_of, library_step
from convcore.plan.data import Plan

#: Programs of different batch sizes kept per plan: the usual one, the rest of a data set, and 1.
_KEPT_PROGRAMS = 4
#: With more constants than this a plan is so large that the long way costs nothing beside it.
_BOUND_CONSTANTS = 16


class CpuProgram:
    """A plan bound to a batch size: native steps, and where in the arena each value lies.

    Buffers, in order: the arena, the constants, the inputs, the outputs.
    """

    def __init__(self, plan: Plan, batch: int) -> None:
        self.batch = batch
        self._plan = plan
        self._constants = [np.ascontiguousarray(c) for c in plan.constants.values()]
        buffers = {name: i for i, name in enumerate(plan.constants, start=1)}
        for name, _ in (*plan.inputs, *plan.outputs):
            buffers[name] = len(buffers) + 1

        # Choose again for this batch: the algorithm is the same, workspace and items may not be.
        library = library_of(plan.device._replace(isa=plan.isa))
        chosen = [library_step(s, library, batch) for s in plan.steps]
        offsets, size = place(lifetimes(plan, [s.workspace_bytes for s in chosen], batch))
        self._arena_floats = size // 4

        def locate(value: str) -> tuple[int, int]:
            return (buffers[value], 0) if value in buffers else (0, offsets[value] // 4)

        steps = []
        for i, planned in enumerate(plan.steps):
            step = library_step(planned, library, batch, locate)
            if planned.weights is not None:
                step.set_weights(planned.weights)
            if step.workspace_bytes:
                step.set_workspace(0, offsets[f"workspace {i}"])
            steps.append(step)
        self._program = _native.Program(steps)
        #: Free ones; calls that run at the same time take one each (a list's pop and append are atomic).
        self._arenas: list[np.ndarray] = []

    def run(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        *,
        seconds: list[float] | None = None,
    ) -> None:
        """Compute `outputs` (C-ordered float32, written) from `inputs` (C-ordered float32).

        Every call that runs at the same time has an arena of its own.
        """
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = self._new_arena()
        try:
            self._program.run([arena, *self._constants, *inputs, *outputs], seconds=seconds)
        finally:
            self._arenas.append(arena)

    def _new_arena(self) -> np.ndarray:
        return aligned_floats(self._arena_floats)

    def bound(self) -> Callable[[Any], Any] | None:
        """For a plan of one input and one output: a function that runs it on an array in a few microseconds.

        It returns None for anything but a C-ordered float32 array of the input's shape, batch included.
        None if the plan has more inputs or outputs.
        """
        ends = self._plan.inputs, self._plan.outputs
        if any(len(end) != 1 for end in ends) or len(self._constants) > _BOUND_CONSTANTS:
            return None
        (_, shape), (_, output) = ends[0][0], ends[1][0]
        return _native.Call(
            self._program,
            self._constants,
            (self.batch, *shape),
            arenas=self._arenas,
            allocate=self._new_arena,
            empty=partial(np.empty, (self.batch, *output), np.dtype(np.float32)),
        )


class CpuRunner:
    """A plan, and its programs by batch size."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._programs: dict[int, CpuProgram] = {}
        self._lock = threading.Lock()

    def program(self, batch: int) -> CpuProgram:
        """The program for `batch` images; made on first use."""
        with self._lock:
            program = self._programs.pop(batch, None) or CpuProgram(self.plan, batch)
            self._programs[batch] = program
            while len(self._programs) > _KEPT_PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
        return program

    def run(self, inputs: Sequence[np.ndarray], *, batch_size: int | None = None) -> list[np.ndarray]:
        """Return every output for all images of `inputs`, `batch_size` at a time."""
        total = inputs[0].shape[0]
        outputs = [np.empty((total, *shape), np.float32) for _, shape in self.plan.outputs]
        step = min(batch_size or total, total)
        for start in range(0, total, step):
            part = slice(start, min(start + step, total))
            self.program(part.stop - start).run([x[part] for x in inputs], [y[part] for y in outputs])
        return outputs
