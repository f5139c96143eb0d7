"""Runs a plan on a GPU: one arena, weights uploaded once, the whole network replayed as one CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from convcore.cuda.arrays import DeviceArray, empty, to_device
from convcore.cuda.device import launching, require_gpu
from convcore.cuda.graph import Recording
from convcore.cuda.step import Program
from convcore.plan.arena import lifetimes, place
from convcore.plan.build import library_of, library_step
from convcore.plan.data import Plan

#: Programs of different batch sizes kept per plan; see run/cpu.py.
_KEPT_PROGRAMS = 4


class CudaProgram:
    """A plan bound to a batch size on the GPU: steps, an arena, and memory for inputs and outputs.

    Buffers, in order: the arena, the constants, the inputs, the outputs.
    """

    def __init__(self, plan: Plan, batch: int, weights: Sequence[DeviceArray | None]) -> None:
        self.batch = batch
        buffers = {name: i for i, name in enumerate(plan.constants, start=1)}
        for name, _ in (*plan.inputs, *plan.outputs):
            buffers[name] = len(buffers) + 1

        library = library_of(plan.device)
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
        self._program = Program(steps)
        constants = [to_device(np.ascontiguousarray(c)) for c in plan.constants.values()]
        self._inputs = [empty((batch, *shape)) for _, shape in plan.inputs]
        self._outputs = [empty((batch, *shape)) for _, shape in plan.outputs]
        self._buffers = [empty((size // 4,)), *constants, *self._inputs, *self._outputs]
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


class CudaRunner:
    """A plan, its weights on the GPU, and its programs by batch size."""

    def __init__(self, plan: Plan) -> None:
        require_gpu(plan.name)
        self.plan = plan
        self._weights = [None if s.weights is None else to_device(s.weights) for s in plan.steps]
        self._programs: dict[int, CudaProgram] = {}
        self._lock = threading.Lock()

    def program(self, batch: int) -> CudaProgram:
        """The program for `batch` images; made on first use."""
        with self._lock:
            program = self._programs.pop(batch, None) or CudaProgram(self.plan, batch, self._weights)
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
