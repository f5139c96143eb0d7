"""Runs a plan on the CPU: one call into the library per batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from convcore import _native
from convcore.memory import aligned_floats
from convcore.plan.data import Plan
from convcore.run.runner import Runner, bind

#: With more constants than this a plan is so large that the long way costs nothing beside it.
_BOUND_CONSTANTS = 16


class CpuProgram:
    """A plan bound to a batch size: native steps, and where in the arena each value lies."""

    def __init__(self, plan: Plan, batch: int) -> None:
        self.batch = batch
        self._plan = plan
        self._constants = [np.ascontiguousarray(c) for c in plan.constants.values()]
        steps, self._arena_floats = bind(plan, batch, [s.weights for s in plan.steps])
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


class CpuRunner(Runner[CpuProgram]):
    """A plan, and its programs by batch size."""

    def _new_program(self, batch: int) -> CpuProgram:
        return CpuProgram(self.plan, batch)

    def _run_parts(
        self, parts: Sequence[slice], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> None:
        for part in parts:
            self.program(part.stop - part.start).run([x[part] for x in inputs], [y[part] for y in outputs])
