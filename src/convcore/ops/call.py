"""One call into the library: views of arrays, steps on them, and the memory that the steps want."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from convcore import _native
from convcore.ops.arrays import FLOAT32, Float, backend, contiguous, empty
from convcore.ops.replay import current_recording
from convcore.threads import settings

if TYPE_CHECKING:
    from convcore._native import View


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Run the operations of this context on instruction set `name`: for tests and benchmarks.

    Examples
    --------
    >>> import convcore as cc, numpy as np
    >>> with instruction_set("scalar"):
    ...     cc.relu(np.array([-1.0, 2.0], np.float32))
    array([0., 2.], dtype=float32)
    """
    with settings(isa=name):
        yield


def current_isa() -> str | None:
    """The instruction set that operations of this context are told to use; None: the process's own."""
    return _native.settings()[0]


def steps_of(a: NDArray[Any]) -> list[int]:
    """Return the memory steps of `a` in elements."""
    size = a.itemsize
    return [s // size for s in a.strides]


def _rank5(a: NDArray[Any]) -> tuple[list[int], list[int]]:
    """Return shape and memory steps of `a` (n, spatial..., c) as (n, d, h, w, c)."""
    shape, ld = list(a.shape), steps_of(a)
    if shape[-1] == 1:
        ld[-1] = 1  # one channel is its own neighbour, whatever the array says
    while len(shape) < 5:
        # A missing axis steps over the next one, so that the library sees whether rows are adjacent.
        ld.insert(1, shape[1] * ld[1])
        shape.insert(1, 1)
    return shape, ld


def _memory(floats: int, operation: str, purpose: str) -> Float:
    try:
        return backend.get().floats(floats)
    except MemoryError:
        size = floats * FLOAT32.itemsize
        raise MemoryError(f"{operation}: no memory for {size:,} bytes of {purpose}") from None


class Call:
    """Steps and the buffers that they work on, run as one program.

    Arrays are float32, or what the operation takes; their memory is used in place, so they must
    outlive :meth:`run` (the call holds them).
    """

    __slots__ = ("_backend", "_buffers", "_packs", "_scratch", "_steps")

    def __init__(self) -> None:
        self._backend = backend.get()
        self._buffers: list[NDArray[Any]] = []
        self._scratch: list[NDArray[Any]] = []
        self._packs: list[tuple[int, Float, Float | None]] = []
        self._steps: list[Any] = []

    def scratch(self, shape: tuple[int, ...], where: str) -> Float:
        """Return a new array for what the steps hand to each other, and nobody sees outside."""
        self._scratch.append(empty(shape, where))
        return self._scratch[-1]

    def view(
        self, a: NDArray[Any], shape: Sequence[int] | None = None, ld: Sequence[int] | None = None
    ) -> View:
        """Return `a` as the library sees it, with its own shape and steps unless others are given."""
        self._buffers.append(a)
        return (
            len(self._buffers) - 1,
            0,
            "float32" if a.dtype == FLOAT32 else a.dtype.name,
            a.shape if shape is None else shape,
            steps_of(a) if ld is None else ld,
        )

    def map_view(self, a: NDArray[Any]) -> View:
        """Return `a` (n, spatial..., c) as a view of rank 5."""
        return self.view(a, *_rank5(a))

    def step(
        self, operation: str, *, weights: Float | None = None, bias: Float | None = None, **fields: Any
    ) -> None:
        """Append a step. `weights` and `bias` are packed; `fields` are those of ``_native.Step``."""
        step = self._backend.step(operation, isa=current_isa(), **fields)
        if weights is not None:
            packed = _memory(step.packed_floats, operation, f"weights of shape {weights.shape}")
            weights = contiguous(weights)
            step.pack(weights, bias, packed)
            recording = current_recording()
            if recording is not None and recording.packed is not None:
                packed = recording.packed.keep(packed)
            else:
                self._packs.append((len(self._steps), weights, bias))
            step.set_weights(packed)
        if step.workspace_bytes:
            shapes = " and ".join(str(a.shape) for a in self._buffers)
            floats = -(-step.workspace_bytes // FLOAT32.itemsize)
            self._buffers.append(_memory(floats, operation, f"working space, arrays of shapes {shapes}"))
            self._scratch.append(self._buffers[-1])
            step.set_workspace(len(self._buffers) - 1, 0)
        self._steps.append(step)

    def run(self) -> None:
        """Run the steps, without the GIL."""
        program = self._backend.program(self._steps)
        program.run(self._buffers)
        recording = current_recording()
        if recording is not None:
            first = {id(a): i for i, a in reversed(list(enumerate(self._buffers)))}
            own = {id(a) for a in self._scratch}
            scratch = {i: first[id(a)] for i, a in enumerate(self._buffers) if id(a) in own}
            recording.ran(program, self._buffers, scratch, self._packs)
