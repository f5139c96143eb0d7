"""Kernel cases in a file, so that a program without Python can run them: ``tests/c/replay.c`` has the format.

A case is a Python call. What reaches the library is recorded: every step with its fields and weights, and
the memory that the program was given. Where in it the case's answer lies is found by running it once more,
with every element of the last step's output replaced by its own number: the call then returns positions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from convcore import _native, ops
from convcore.ops import arrays as ops_arrays
from convcore.ops.replay import Recording

from .kernel_cases import Case

Array = NDArray[Any]
_RealStep, _RealProgram = _native.Step, _native.Program

#: Keyword arguments of ``_native.Step`` that are names of numbers.
_NAMES = {
    "binary": _native.BINARIES,
    "sample": _native.SAMPLES,
    "probe": _native.PROBES,
    "accuracy": _native.ACCURACIES,
    "edge": _native.EDGES,
}
#: Those that are numbers, or so many.
_INTEGERS = (
    "kernel", "stride", "dilation", "pad_low", "groups", "flip", "include_padding", "linear", "pool", "seed",
)  # fmt: skip
_REALS = ("value", "edge_value", "resize_scale", "resize_offset")
#: What a step has where the argument is left out, if that is not 0.
_DEFAULTS = {
    "kernel": (1, 1, 1), "stride": (1, 1, 1), "dilation": (1, 1, 1), "groups": 1, "linear": True, "pool": 1,
    "resize_scale": (1.0, 1.0, 1.0),
}  # fmt: skip


def _memories(buffers: list[Array]) -> tuple[list[Array], list[tuple[int, int]]]:
    """Bytes that arrays lie in, which may overlap, and for each array in which of them and where."""
    bounds = [byte_bounds(b) for b in buffers]
    merged: list[list[int]] = []
    for low, high in sorted(bounds):
        if merged and low < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    memories = [np.frombuffer((ctypes.c_char * (b - a)).from_address(a), np.uint8) for a, b in merged]
    number = [next(i for i, (a, b) in enumerate(merged) if a <= low and high <= b) for low, high in bounds]
    return memories, [(i, b.ctypes.data - merged[i][0]) for i, b in zip(number, buffers, strict=True)]


class _Recorder:
    """The calls of one case."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.given: list[Array] = []  # memories before the run
        self.places: list[tuple[int, int]] = []  # of the buffers in them
        self.result: Array | None = None  # the last step's output after the run, before it is numbered
        self.numbering = False

    def run(self, steps: list[_Step], buffers: list[Array], options: dict[str, Any]) -> None:
        assert self.result is None, "a case is one program"
        memories, self.places = _memories(buffers)
        self.steps, self.given = steps, [m.copy() for m in memories]
        _RealProgram([s.real for s in steps]).run(buffers, **options)
        buffer, _, kind, *_ = steps[-1].fields["out"]
        out = memories[self.places[buffer][0]].view(kind)
        self.result = out.copy()
        if self.numbering:
            # What is still NaN was not written, and the case may test that.
            number = np.arange(out.size)
            out[...] = np.where(np.isnan(out), out, number) if out.dtype.kind == "f" else number


_recorder: list[_Recorder] = []


class _Step:
    """A ``_native.Step`` that remembers what it was made of."""

    def __init__(self, operation: str, *, isa: str | None = None, **fields: Any) -> None:
        self.real = _RealStep(operation, isa=isa, **fields)
        self.fields = fields
        self.weights: Array | None = None
        self.bias: Array | None = None
        self.space: int | None = None

    def pack(self, weights: Array, bias: Array | None, packed: Array) -> None:
        self.weights = np.array(weights, np.float32)
        self.bias = None if bias is None else np.array(bias, np.float32)
        self.real.pack(weights, bias, packed)

    def set_workspace(self, buffer: int, offset: int) -> None:
        self.space = buffer
        self.real.set_workspace(buffer, offset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class _Program:
    def __init__(self, steps: Iterable[_Step]) -> None:
        self.steps = list(steps)

    def run(self, buffers: list[Array], **options: Any) -> None:
        _recorder[-1].run(self.steps, buffers, options)


class _RecordingMemory(type(ops_arrays.backend.get())):  # type: ignore[misc]
    step = _Step
    program = _Program


@contextmanager
def _recording(*, numbering: bool = False) -> Iterator[_Recorder]:
    recorder = _Recorder()
    recorder.numbering = numbering
    for name in ops.__all__:  # a call that is replayed makes no steps
        getattr(ops, name).forget()
    keep = Recording.program
    Recording.program = lambda self: None  # type: ignore[method-assign]
    token = ops_arrays.backend.set(_RecordingMemory())
    _native.Step, _native.Program = _Step, _Program  # type: ignore[misc, assignment]
    _recorder.append(recorder)
    try:
        yield recorder
    finally:
        _recorder.pop()
        Recording.program = keep  # type: ignore[method-assign]
        _native.Step, _native.Program = _RealStep, _RealProgram  # type: ignore[misc]
        ops_arrays.backend.reset(token)


def _positions(case: Case, recorder: _Recorder, plain: Array) -> Array:
    """Where in the result buffer each number of the answer lies; proved on the answer itself."""
    finite = [np.nan_to_num(a, nan=1, posinf=1, neginf=1) if a.dtype.kind == "f" else a for a in case.arrays]
    with _recording(numbering=True) as again:
        numbered = case.call(*finite)
    assert recorder.result is not None and again.result is not None, f"{case.name} never reached the library"
    positions = numbered.ravel().astype(np.int64)
    if numbered.dtype.kind != "f":  # numbers above the largest have wrapped around
        positions %= 1 << 8 * numbered.itemsize
    result = recorder.result
    assert result.size <= min(1 << 24, 1 << 8 * result.itemsize), f"{case.name} is too large to number"
    assert result[positions].tobytes() == plain.tobytes(), f"{case.name}: its answer is no part of a buffer"
    return positions


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.places: list[tuple[int, int]] = []

    def line(self, *words: Any) -> None:
        self.file.write((" ".join(map(str, words)) + "\n").encode())

    def data(self, name: str, values: Array | None, dtype: Any) -> None:
        if values is not None:
            self.line(name, values.size)
            self.file.write(np.ascontiguousarray(values, dtype).tobytes())

    def view(self, side: str, view: Any) -> None:
        buffer, offset, kind, shape, ld, *blocked = view
        memory, place = self.places[buffer]
        offset += place // np.dtype(kind).itemsize
        ld_block, low, high = blocked or (0, (0, 0, 0), (0, 0, 0))
        words = (len(shape), *shape, *ld, ld_block, *low, *high)
        self.line("view", side, memory, offset, _native.TYPES[kind], *map(int, words))

    def step(self, step: _Step) -> None:
        fields = _DEFAULTS | step.fields
        self.line("step", _native.OPERATIONS[step.operation])
        for name, side in (("x", "in"), ("x2", "in2"), ("out", "out")):
            view = fields.pop(name, None)
            if view is not None:
                self.view(side, view)
        kind, parameters = fields.pop("activation", ("linear", ()))
        self.line("set activation", _native.ACTIVATIONS[kind])
        self.line("set activation_parameter", *_hexadecimal([*parameters, 0.0, 0.0, 0.0][:3]))
        slope, intercept = fields.pop("slope", None), fields.pop("intercept", None)
        value, to = fields.pop("padding_value", None), fields.pop("padding_to", None)
        if slope is not None:
            self.line("set has_padding", int(value is not None))
            self.line("set padding_value", value or 0)
            self.line("set padding_is_hu", int(to is not None))
            self.line("set padding_to", *_hexadecimal(to or 0.0))
            self.data("slope", slope, np.float64)
            self.data("intercept", intercept, np.float64)
        for name, given in fields.items():
            if name in _NAMES:
                self.line("set", name, _NAMES[name][given])
            elif name in _INTEGERS:
                self.line("set", name, *np.ravel(given).astype(np.uint64 if name == "seed" else np.int64))
            elif name in _REALS:
                self.line("set", name, *_hexadecimal(given))
            else:
                raise NotImplementedError(f"a step's {name}: say here and in replay.c how it is written")
        self.data("weights", step.weights, np.float32)
        self.data("bias", step.bias, np.float32)

    def case(self, case: Case) -> None:
        with _recording() as recorder:
            plain = case.call(*case.arrays)
        positions = _positions(case, recorder, plain)
        steps, self.places = recorder.steps, recorder.places
        memory = [i for i, _ in self.places]
        spaces = {memory[s.space] for s in steps if s.space is not None}
        # Whose contents matter: a border is made around cells that are there.
        read = {memory[s.fields[name][0]] for s in steps for name in ("x", "x2") if s.fields.get(name)}
        read |= {memory[s.fields["out"][0]] for s in steps if s.operation == "border"}
        self.line("case", case.name)
        for i, given in enumerate(recorder.given):
            self.line("buffer", 0 if i in spaces else given.size, int(i in read))
            if i in read:
                self.file.write(given.tobytes())
        for step in steps:
            self.step(step)
        out = steps[-1].fields["out"]
        self.line("result", memory[out[0]], _native.TYPES[out[2]], plain.size)
        self.file.write(positions.tobytes())
        # NaN and infinity are exact.
        for values in (case.expected, np.where(np.isfinite(case.expected), case.bound, 0)):
            self.file.write(np.ascontiguousarray(values, np.float64).tobytes())


def _hexadecimal(values: Any) -> list[str]:
    return [float(v).hex() for v in np.ravel(values)]


def write_cases(path: Path, cases: Iterable[Case]) -> int:
    """Write `cases` to a file for ``tests/c/replay.c``; return how many there were."""
    count = 0
    with path.open("wb") as file:
        writer = _Writer(file)
        writer.line("convcore-cases 1")
        for case in cases:
            writer.case(case)
            count += 1
    return count
