"""Runs a plan on a GPU: one arena, weights uploaded once, the whole network replayed as one CUDA graph."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from convcore.cuda import transfer
from convcore.cuda.arrays import DeviceArray, empty, to_device
from convcore.cuda.device import current, launching, on_device, require_gpu
from convcore.cuda.graph import Recording
from convcore.cuda.step import Program
from convcore.cuda.toolkit import simulated
from convcore.errors import OutOfMemoryError
from convcore.plan.data import Plan
from convcore.run.pipeline import Batch, Slot, Streams, run_batches
from convcore.run.runner import Runner, bind

#: Replays of a graph that are queued to keep the GPU busy; its queue has room for about a thousand launches.
_MOST_AHEAD = 200
#: Batches in flight at the same time: one is computed while another is copied.
_IN_FLIGHT = 2


class Times(NamedTuple):
    """Seconds of every step, and of the graph, in every run; and whose clock told them."""

    steps: list[list[float]]
    graph: list[float]
    clock: str


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _between(marks: Sequence[Any]) -> list[float]:
    """Seconds between neighbouring events, the last of which is waited for."""
    marks[-1].synchronize()
    return [1e-3 * float(a.elapsed_time(b)) for a, b in pairwise(marks)]


class CudaProgram:
    """A plan bound to a batch size on the GPU: steps, an arena, and slots of memory for inputs and outputs.

    A CUDA graph reads and writes the addresses that it was recorded with, so every slot has its own: that
    needs no copies from slot to slot. All share the arena, since they run on one stream, one after the other.

    Attributes
    ----------
    stream
        Where all of it runs.
    """

    def __init__(self, plan: Plan, batch: int, weights: Sequence[DeviceArray | None], stream: Any) -> None:
        self.batch = batch
        self._plan = plan
        self.stream = stream
        steps, arena_floats = bind(plan, batch, weights)
        self._program = Program(steps)
        constants = [to_device(np.ascontiguousarray(c)) for c in plan.constants.values()]
        self._shared = [empty((arena_floats,)), *constants]
        self._buffers: list[list[DeviceArray]] = []  # of every slot, as the steps name them
        self._slots = [self._new_slot()]
        self._most_slots = _IN_FLIGHT

    def _new_slot(self) -> Slot:
        inputs = [empty((self.batch, *shape)) for _, shape in self._plan.inputs]
        outputs = [empty((self.batch, *shape)) for _, shape in self._plan.outputs]
        buffers = [*self._shared, *inputs, *outputs]
        self._buffers.append(buffers)
        recording = Recording(lambda: self._program.run(buffers), self.stream)
        return Slot(inputs, outputs, recording.replay, transfer)

    def slot(self, number: int) -> Slot:
        """The slot for batch `number` of a row; the first alone where there is no memory for more."""
        if len(self._slots) <= number % self._most_slots:
            try:
                self._slots.append(self._new_slot())
            except OutOfMemoryError:
                self._most_slots = len(self._slots)
        return self._slots[number % self._most_slots]

    def step_times(self, repeats: int) -> Times:
        """Time every step, and the graph of them all, on what the first slot's inputs hold."""
        replay, steps = self._slots[0].replay, self._program.steps
        replay()
        replay()  # the first compiles, the second records
        self.stream.synchronize()
        if simulated:
            graph = [_seconds(replay) for _ in range(repeats)]
            alone = [[_seconds(partial(s.run, self._buffers[0])) for s in steps] for _ in range(repeats)]
            return Times(alone, graph, "the host's clock, in Numba's simulator")

        marks = [transfer.event(timing=True) for _ in range(len(steps) + 1)]

        def each() -> list[float]:
            marks[0].record(self.stream)
            for step, mark in zip(steps, marks[1:], strict=True):
                step.run(self._buffers[0])
                mark.record(self.stream)
            return _between(marks)

        def whole() -> list[float]:
            marks[0].record(self.stream)
            replay()
            marks[1].record(self.stream)
            return _between(marks[:2])

        graph = [whole()[0] for _ in range(repeats)]
        started = time.perf_counter()
        each()
        # While the GPU is busy with these, the host queues all steps: their times have no gaps of launching.
        ahead = min(math.ceil((time.perf_counter() - started) / max(min(graph), 1e-6)) + 1, _MOST_AHEAD)
        alone = []
        for _ in range(repeats):
            for _ in range(ahead):
                replay()
            alone.append(each())
        return Times(alone, graph, "events on the GPU")


class CudaRunner(Runner[CudaProgram]):
    """A plan, its weights on the GPU, and its programs by batch size.

    Calls from several threads take turns. All of them run on the GPU that was the thread's when it was made.
    """

    def __init__(self, plan: Plan) -> None:
        require_gpu(plan.name)
        super().__init__(plan)
        self._device = current()
        self._weights = [None if s.weights is None else to_device(s.weights) for s in plan.steps]
        self.streams = Streams(*(transfer.new_stream() for _ in Streams._fields))
        self._turn = threading.Lock()

    def _new_program(self, batch: int) -> CudaProgram:
        return CudaProgram(self.plan, batch, self._weights, self.streams.compute)

    def _run_parts(
        self, parts: Sequence[slice], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> None:
        # A single batch has nothing to overlap with: on one stream it needs no waiting of one for another.
        streams = self.streams if len(parts) > 1 else Streams(*(self.streams.compute,) * 3)
        with self._turn, on_device(self._device), launching(streams.compute, self.plan.name):
            run_batches(self._batches(parts, inputs, outputs), streams)

    def step_times(self, inputs: Sequence[np.ndarray], repeats: int) -> Times:
        """Time every step on `inputs`, all in one batch; see :meth:`CudaProgram.step_times`."""
        self.run(inputs)
        program = self.program(inputs[0].shape[0])
        with self._turn, on_device(self._device), launching(self.streams.compute, self.plan.name):
            return program.step_times(repeats)

    def _batches(
        self, parts: Sequence[slice], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> Iterator[Batch]:
        for number, part in enumerate(parts):
            # The rest, which is smaller, has a program and memory of its own.
            whole = part.stop - part.start == parts[0].stop
            slot = self.program(part.stop - part.start).slot(number if whole else 0)
            yield Batch(slot, [x[part] for x in inputs], [y[part] for y in outputs])
