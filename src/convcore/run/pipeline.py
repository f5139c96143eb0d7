"""Batches in a row on a GPU: while one is computed, the next is copied in and the last one out.

Three streams work side by side: copies in, computation, copies out. Every batch in flight has a :class:`Slot`
of device memory and of host memory, and three events say how far it has come. With two slots in turn:

    copy in    0  1  2  3 ...
    compute       0  1  2 ...
    copy out         0  1 ...

Memory is written again only when what read it is done: :meth:`Slot.start` says what it waits for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Batch", "Slot", "Streams", "run_batches"]


class Streams(NamedTuple):
    """Where copies in, computation and copies out are queued; for a single batch all three may be one."""

    copy_in: Any
    compute: Any
    copy_out: Any


class Slot:
    """Memory for one batch in flight: on the device, and on the host as a stage before it.

    Parameters
    ----------
    inputs, outputs
        Device arrays, which `replay` reads and writes.
    replay
        Queues the computation on the stream ``compute``.
    gpu
        Who makes page-locked memory and events: the module :mod:`convcore.cuda.transfer`.
    """

    def __init__(
        self, inputs: Sequence[Any], outputs: Sequence[Any], replay: Callable[[], None], gpu: Any
    ) -> None:
        self.inputs, self.outputs, self.replay = inputs, outputs, replay
        self._staged_in = [gpu.pinned(a.shape) for a in inputs]
        self._staged_out = [gpu.pinned(a.shape) for a in outputs]
        # An event that was never recorded counts as over.
        self._copied_in, self._computed, self._copied_out = gpu.event(), gpu.event(), gpu.event()
        self._wanted: Sequence[np.ndarray] | None = None

    def start(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], streams: Streams) -> None:
        """Queue a batch, and finish the one that the slot had before.

        `inputs` may change when this has returned; `outputs` are written by :meth:`finish`.
        """
        self._copied_in.synchronize()  # the last inputs have left their stage
        for stage, x in zip(self._staged_in, inputs, strict=True):
            stage[...] = x
        self._computed.wait(streams.copy_in)  # the last inputs have been read
        for array, stage in zip(self.inputs, self._staged_in, strict=True):
            array.put(stage, streams.copy_in)
        self._copied_in.record(streams.copy_in)

        self._copied_in.wait(streams.compute)
        self._copied_out.wait(streams.compute)  # the last outputs have left the device
        self.replay()
        self._computed.record(streams.compute)

        self.finish()  # the last outputs have left their stage
        self._wanted = outputs
        self._computed.wait(streams.copy_out)
        for array, stage in zip(self.outputs, self._staged_out, strict=True):
            array.get(stage, streams.copy_out)
        self._copied_out.record(streams.copy_out)

    def finish(self) -> None:
        """Wait for the batch, if there is one, and write its results where they are wanted."""
        if self._wanted is not None:
            self._copied_out.synchronize()
            for y, stage in zip(self._wanted, self._staged_out, strict=True):
                y[...] = stage
            self._wanted = None

    def give_up(self) -> None:
        """Forget the batch: nothing of it is in flight any more, and nobody wants it."""
        self._wanted = None


class Batch(NamedTuple):
    """What to compute in a slot: float32 arrays of the slot's shapes."""

    slot: Slot
    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]


def run_batches(batches: Iterable[Batch], streams: Streams) -> None:
    """Compute every batch; when this returns, or raises, nothing is in flight.

    Consecutive batches overlap where their slots are different ones.
    """
    used: dict[Slot, None] = {}
    try:
        for slot, inputs, outputs in batches:
            used[slot] = None
            slot.start(inputs, outputs, streams)
        for slot in used:
            slot.finish()
    except BaseException:
        # Memory may be let go of now, by the caller or by us: no copy may still be using it.
        for stream in streams:
            with contextlib.suppress(Exception):  # what went wrong first is the better message
                stream.synchronize()
        for slot in used:
            slot.give_up()
        raise
