"""Runs a plan on a GPU: one arena, weights uploaded once, the whole network replayed as one CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from convcore.cuda import transfer
from convcore.cuda.arrays import DeviceArray, empty, to_device
from convcore.cuda.device import current, launching, on_device, require_gpu
from convcore.cuda.graph import Recording
from convcore.cuda.step import Program
from convcore.errors import OutOfMemoryError
from convcore.plan.data import Plan
from convcore.run.pipeline import Batch, Slot, Streams, run_batches
from convcore.run.runner import Runner, bind

#: Batches in flight at the same time: one is computed while another is copied.
_IN_FLIGHT = 2


class CudaProgram:
    """A plan bound to a batch size on the GPU: steps, an arena, and slots of memory for inputs and outputs.

    A CUDA graph reads and writes the addresses that it was recorded with, so every slot has its own: that
    needs no copies from slot to slot. All share the arena, since they run on one stream, one after the other.
    """

    def __init__(self, plan: Plan, batch: int, weights: Sequence[DeviceArray | None], stream: Any) -> None:
        self.batch = batch
        self._plan = plan
        self._stream = stream
        steps, arena_floats = bind(plan, batch, weights)
        self._program = Program(steps)
        constants = [to_device(np.ascontiguousarray(c)) for c in plan.constants.values()]
        self._shared = [empty((arena_floats,)), *constants]
        self._slots = [self._new_slot()]
        self._most_slots = _IN_FLIGHT

    def _new_slot(self) -> Slot:
        inputs = [empty((self.batch, *shape)) for _, shape in self._plan.inputs]
        outputs = [empty((self.batch, *shape)) for _, shape in self._plan.outputs]
        buffers = [*self._shared, *inputs, *outputs]
        recording = Recording(lambda: self._program.run(buffers), self._stream)
        return Slot(inputs, outputs, recording.replay, transfer)

    def slot(self, number: int) -> Slot:
        """The slot for batch `number` of a row; the first alone where there is no memory for more."""
        if len(self._slots) <= number % self._most_slots:
            try:
                self._slots.append(self._new_slot())
            except OutOfMemoryError:
                self._most_slots = len(self._slots)
        return self._slots[number % self._most_slots]


class CudaRunner(Runner[CudaProgram]):
    """A plan, its weights on the GPU, and its programs by batch size.

    Calls from several threads take turns. All of them run on the GPU that was the thread's when it was made.
    """

    def __init__(self, plan: Plan) -> None:
        require_gpu(plan.name)
        super().__init__(plan)
        self._device = current()
        self._weights = [None if s.weights is None else to_device(s.weights) for s in plan.steps]
        self._streams = Streams(*(transfer.new_stream() for _ in Streams._fields))
        self._turn = threading.Lock()

    def _new_program(self, batch: int) -> CudaProgram:
        return CudaProgram(self.plan, batch, self._weights, self._streams.compute)

    def _run_parts(
        self, parts: Sequence[slice], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> None:
        # A single batch has nothing to overlap with: on one stream it needs no waiting of one for another.
        streams = self._streams if len(parts) > 1 else Streams(*(self._streams.compute,) * 3)
        with self._turn, on_device(self._device), launching(streams.compute, self.plan.name):
            run_batches(self._batches(parts, inputs, outputs), streams)

    def _batches(
        self, parts: Sequence[slice], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> Iterator[Batch]:
        for number, part in enumerate(parts):
            slot = self.program(part.stop - part.start).slot(number)
            yield Batch(slot, [x[part] for x in inputs], [y[part] for y in outputs])
