"""Functions whose calls are replayed: checked and recorded once for each kind of arguments, then run.

Between the arguments and the library lie checks, shapes, the choice of an algorithm: tens of microseconds,
whose outcome depends on shapes, strides and options alone. A decorated function goes that way at the first
call of a kind, and :class:`Recording` notes the steps that ran and whose memory they worked on.
``_replay.pxi`` repeats that for every later call of the kind. What a recording cannot say (elements that
NumPy moved, weights that were computed on the way, a second program) is not replayed: such calls take the
checked way each time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from convcore import _native
from convcore.memory import aligned_floats
from convcore.threads import join_threadpoolctl, settings, threads_argument

if TYPE_CHECKING:
    from convcore.ops.arrays import Float, Output

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Program(NamedTuple):
    """What a call did, as ``_native.Recorded`` repeats it."""

    program: Any
    #: The arrays that the steps work on. Which of them hold nothing before and after: number of the buffer,
    #: and of the first one that is the same array.
    buffers: list[NDArray[Any]]
    scratch: dict[int, int]
    #: Number of a step, and the weights and bias that were packed for it.
    packs: list[tuple[int, NDArray[Any], NDArray[Any] | None]]
    result: NDArray[Any]
    #: Makes a new array for the result, and one for large scratch memory.
    empty: Callable[[], NDArray[Any]]
    allocate: Callable[[int], NDArray[Any]]
    #: Whether scratch memory is kept between calls even if it is large.
    keep: bool


class PackedWeights:
    """Packed weights of a prepared kernel: one copy for all plans that pack them in the same way."""

    def __init__(self) -> None:
        self._packed: list[Float] = []

    def keep(self, packed: Float) -> Float:
        """Return `packed`, or an array kept before that has the same bits."""
        for known in self._packed:
            if known.size == packed.size and np.array_equal(known.view(np.uint32), packed.view(np.uint32)):
                return known
        self._packed.append(packed)
        return packed

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(p.nbytes for p in self._packed)


class Recording:
    """What is noted while a function goes the checked way."""

    def __init__(self, packed: PackedWeights | None = None) -> None:
        self.packed = packed
        self._runs: list[tuple[Any, list[NDArray[Any]], dict[int, int], list[Any]]] = []
        self._outputs: list[Output] = []

    def ran(
        self, program: Any, buffers: list[NDArray[Any]], scratch: dict[int, int], packs: list[Any]
    ) -> None:
        """Note a program that was run."""
        self._runs.append((program, buffers, scratch, packs))

    def finished(self, output: Output) -> None:
        """Note that a result is complete."""
        self._outputs.append(output)

    def program(self) -> Program | None:
        """Return what can be repeated, or None: more happened than one program that wrote the result."""
        if len(self._runs) != 1 or len(self._outputs) != 1 or not self._outputs[0].direct:
            return None
        program, buffers, scratch, packs = self._runs[0]
        result = self._outputs[0].array
        empty = functools.partial(np.empty, result.shape, result.dtype)
        keep = self.packed is not None
        return Program(program, buffers, scratch, packs, result, empty, aligned_floats, keep)


_recording: ContextVar[Recording | None] = ContextVar("convcore_ops_recording", default=None)


def current_recording() -> Recording | None:
    """The recording that this context makes, if it makes one."""
    return _recording.get()


@contextmanager
def recording(packed: PackedWeights | None = None) -> Iterator[Recording]:
    """Record what the operation inside does. With `packed`, weights are packed once and for all."""
    made = Recording(packed)
    token = _recording.set(made)
    try:
        yield made
    finally:
        _recording.reset(token)


def _checked(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Program | None]:
    """Call `function`, which leaves ``num_threads=`` to its caller, and return what can be repeated too."""
    join_threadpoolctl()
    threads = threads_argument(kwargs.pop("num_threads", None), function.__name__)
    with recording() as made:
        if threads is None:
            result = function(*args, **kwargs)
        else:
            with settings(threads=threads):
                result = function(*args, **kwargs)
    return result, made.program()


def replayed(*arrays: str) -> Callable[[_Function], _Function]:
    """Decorate a function whose parameters `arrays`, and ``out``, are the arrays that it works on.

    Its result may depend on their elements through its steps alone. ``num_threads=`` is dealt with here:
    the function has the parameter for whoever reads its signature.
    """

    def decorate(function: _Function) -> _Function:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        taken = [n for n in names if n in arrays or n == "out"]
        return cast(
            "_Function",
            _native.Recorded(
                function, names, code.co_argcount, taken, array_type=np.ndarray, record=_checked
            ),
        )

    return decorate
