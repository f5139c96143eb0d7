"""Runs a plan on a GPU: one arena, weights uploaded once, the whole network replayed as one CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from convcore.cuda.arrays import DeviceArray, empty, to_device
from convcore.cuda.device import launching, require_gpu
from convcore.cuda.graph import Recording
from convcore.cuda.step import Program
from convcore.plan.data import Plan
from convcore.run.runner import Runner, bind


class CudaProgram:
    """A plan bound to a batch size on the GPU: steps, an arena, and memory for inputs and outputs."""

    def __init__(self, plan: Plan, batch: int, weights: Sequence[DeviceArray | None]) -> None:
        self.batch = batch
        steps, arena_floats = bind(plan, batch, weights)
        self._program = Program(steps)
        constants = [to_device(np.ascontiguousarray(c)) for c in plan.constants.values()]
        self._inputs = [empty((batch, *shape)) for _, shape in plan.inputs]
        self._outputs = [empty((batch, *shape)) for _, shape in plan.outputs]
        self._buffers = [empty((arena_floats,)), *constants, *self._inputs, *self._outputs]
        self._recording = Recording(lambda: self._program.run(self._buffers))
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Compute `outputs` (C-ordered float32, written) from `inputs` (C-ordered float32).

        Calls from several threads take turns: a program has one arena.
        """
        with self._lock, launching(self._recording.stream, "predict"):
            for array, x in zip(self._inputs, inputs, strict=True):
                array.copy_from_host(x)
            self._recording.replay()
            for array, y in zip(self._outputs, outputs, strict=True):
                y[...] = array.copy_to_host()


class CudaRunner(Runner[CudaProgram]):
    """A plan, its weights on the GPU, and its programs by batch size."""

    def __init__(self, plan: Plan) -> None:
        require_gpu(plan.name)
        super().__init__(plan)
        self._weights = [None if s.weights is None else to_device(s.weights) for s in plan.steps]

    def _new_program(self, batch: int) -> CudaProgram:
        return CudaProgram(self.plan, batch, self._weights)

    def _run_parts(
        self, parts: Sequence[slice], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> None:
        for part in parts:
            self.program(part.stop - part.start).run([x[part] for x in inputs], [y[part] for y in outputs])
