"""Runs a kernel: blocks one after another, the threads of a block as lanes.

Threads that stand at one instruction go on together, those that are furthest back first, so that paths
which part meet again where they join. A barrier holds its threads until all of the block are there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import access, arithmetic, warps
from .faults import BarrierDivergence, Endless, Fault, Trap, UnknownInstruction
from .lanes import DTYPES, Decoder, Lanes, Mask, Run
from .memory import Allocation, GlobalMemory
from .parser import WIDTH, Instruction, Program, parse

__all__ = ["Pointer", "launch"]

Array = NDArray[Any]

_FAMILIES: dict[str, Decoder] = {**arithmetic.FAMILIES, **access.FAMILIES, **warps.FAMILIES}


@dataclass(frozen=True)
class Pointer:
    """An argument that is an array's address alone: ``CPointer`` in a signature."""

    array: Array


def launch(
    ptx: str | Program,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    args: Sequence[Any],
    *,
    shared_bytes: int = 0,
    blocks: Iterable[tuple[int, int, int]] | None = None,
    watch_global: bool = True,
    most_instructions: int = 5_000_000,
) -> int:
    """Run a kernel on the CPU and return how many instructions its warps' lanes executed together.

    Parameters
    ----------
    ptx
        The text of one kernel, as Numba compiles it.
    grid, block
        Blocks of the grid and threads of a block, along x, y and z.
    args
        In the order of the Python function: arrays of any strides (results are written into them), tuples and
        scalars of NumPy or Python, and :class:`Pointer`.
    shared_bytes
        Dynamic shared memory of a block.
    blocks
        Which blocks to run, as (x, y, z); all of the grid if None.
    watch_global
        Find races on global memory. A kernel whose blocks wait for each other, by fences and atomic
        operations, is not understood: switch it off.
    most_instructions
        A block that executes more is taken for endless.

    Raises
    ------
    Fault
        What the kernel must not do, with the instruction, the block and the thread.
    UnknownInstruction
        What the emulator cannot do.
    """
    program = parse(ptx) if isinstance(ptx, str) else ptx
    sizes = [_three(s) for s in (grid, block)]
    memory = GlobalMemory()
    memory.watched = watch_global
    arguments = _Arguments(memory, args)
    parameters = _parameters(program, arguments.words)
    lanes = Lanes(program, sizes[1], sizes[0], memory, parameters, shared_bytes)
    if program.most_threads is not None and lanes.count > program.most_threads:
        raise ValueError(
            f"{lanes.count} threads, but {program.name} is compiled for at most {program.most_threads}"
        )
    machine = _Machine(lanes, most_instructions)
    executed = 0
    z, y, x = (range(n) for n in reversed(sizes[0]))
    for index in ((i, j, k) for k, j, i in product(z, y, x)) if blocks is None else blocks:
        lanes.start(index)
        executed += machine.run()
    arguments.copy_back()
    return executed


def _three(size: int | Sequence[int]) -> tuple[int, int, int]:
    given = (size,) if isinstance(size, int) else tuple(size)
    x, y, z = (*given, *(1,) * (3 - len(given)))
    return x, y, z


#: NumPy's own arrays begin at multiples of this; views into them may not.
_ALIGNED = 16

# ---- arguments -------------------------------------------------------------------------------------


class _Arguments:
    """Arguments as the words that Numba passes, arrays copied to memory of their own and back."""

    def __init__(self, memory: GlobalMemory, args: Sequence[Any]) -> None:
        self._memory = memory
        self._arrays: list[tuple[Array, Allocation]] = []
        self.words: list[Any] = []
        for i, arg in enumerate(args):
            self._add(arg, f"argument {i}")

    def _add(self, arg: Any, name: str) -> None:
        if isinstance(arg, tuple):
            for j, part in enumerate(arg):
                self._add(part, f"{name}[{j}]")
        elif isinstance(arg, Pointer):
            self.words.append(self._address(arg.array, name))
        elif isinstance(arg, np.ndarray) and arg.ndim:
            # Numba's array: two pointers to its owner, then what it is.
            address = self._address(arg, name)
            self.words += [0, 0, arg.size, arg.itemsize, address, *arg.shape, *arg.strides]
        else:
            self.words.append(arg)

    def _address(self, array: Array, name: str) -> int:
        low, high = np.lib.array_utils.byte_bounds(array) if array.size else (0, 0)
        span = self._span(array, low, high)
        first = array.__array_interface__["data"][0] - low if array.size else 0
        for other, allocation in self._arrays:
            other_low, other_high = np.lib.array_utils.byte_bounds(other)
            if (low, high) == (other_low, other_high):
                return allocation.base + first
            if low < other_high and other_low < high:
                raise ValueError(f"{name} overlaps another argument in part")
        allocation = self._memory.allocate(name, high - low, array.dtype, span, low % _ALIGNED)
        if array.size:
            self._arrays.append((array, allocation))
        return allocation.base + first

    @staticmethod
    def _span(array: Array, low: int, high: int) -> Array:
        """All bytes from the first to the last of an array, those between its elements too."""
        if not array.size:
            return np.empty(0, np.uint8)
        return np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low))

    def copy_back(self) -> None:
        """Write what the kernel has written into the caller's arrays."""
        for array, allocation in self._arrays:
            if allocation.written:
                if not array.flags.writeable:
                    raise ValueError(f"the kernel writes {allocation.name}, which may not be written")
                low, high = np.lib.array_utils.byte_bounds(array)
                self._span(array, low, high)[...] = allocation.content


def _parameters(program: Program, words: list[Any]) -> dict[str, bytes]:
    """The bytes of every parameter."""
    wanted = len(program.parameters)
    if wanted != len(words):
        raise ValueError(f"{program.name} takes {wanted} words of arguments, got {len(words)}")
    out: dict[str, bytes] = {}
    for parameter, word in zip(program.parameters, words, strict=True):
        if parameter.count != 1:
            raise UnknownInstruction(f"parameter {parameter.name}: a structure")
        kind, width = DTYPES[parameter.kind], WIDTH[parameter.kind]
        whole = isinstance(word, int | np.integer | np.bool_)
        if np.dtype(kind).kind == "f":
            out[parameter.name] = np.array(word, kind).tobytes()
        elif whole:
            out[parameter.name] = (int(word) % (1 << 8 * width)).to_bytes(width, "little")
        else:
            raise TypeError(f"{program.name}: {word!r} for a parameter of type {parameter.kind}")
    return out


# ---- execution -------------------------------------------------------------------------------------

_PLAIN, _BRANCH, _EXIT, _BARRIER = range(4)


@dataclass
class _Step:
    """One decoded instruction."""

    instruction: Instruction
    kind: int
    run: Run | None = None
    target: int = 0
    guard: Array | None = None
    negated: bool = False

    def mask(self, mask: Mask) -> Mask:
        """The lanes of a mask that the guard lets through: True for all of the block, None for none."""
        if self.guard is None:
            return mask
        passed = ~self.guard if self.negated else self.guard
        if mask is not True:
            passed = passed & mask
        if passed.all():
            return True
        return passed.copy() if passed.any() else None


class _Machine:
    """Decodes a kernel once for a shape of block, and runs it for one block after another."""

    def __init__(self, lanes: Lanes, most_instructions: int) -> None:
        self._lanes, self._most = lanes, most_instructions
        self._steps = [self._decode(ins) for ins in lanes.program.code]
        self._at: _Step | None = None

    def _decode(self, ins: Instruction) -> _Step:
        parts = ins.parts
        guard = None if ins.guard is None else self._lanes.read(ins.guard, np.bool_)
        step = _Step(ins, _PLAIN, guard=guard, negated=ins.negated)
        if parts[0] == "bra":
            step.kind, step.target = _BRANCH, self._lanes.program.labels[ins.operands[0]]
        elif parts[0] in ("ret", "exit"):
            step.kind = _EXIT
        elif parts[0] in ("bar", "barrier") and parts[1] == "sync":
            if len(ins.operands) > 1:
                raise UnknownInstruction(f"a barrier of some threads, {ins}")
            step.kind = _BARRIER
        elif parts[0] == "trap":
            step.run = _trap
        else:
            family = "bar.warp" if parts[:2] == ["bar", "warp"] else parts[0]
            if family not in _FAMILIES:
                raise UnknownInstruction(str(ins))
            try:
                step.run = _FAMILIES[family](self._lanes, ins)
            except (KeyError, IndexError, ValueError) as error:
                raise UnknownInstruction(f"{ins} ({error!r})") from error
        return step

    def run(self) -> int:
        """Run one block; return the number of instructions executed."""
        try:
            with np.errstate(all="ignore"):
                return self._run()
        except Fault as fault:
            name, block = self._lanes.program.name, self._lanes.block_index
            at = f"\n  at {self._at.instruction}" if self._at else ""
            fault.locate(f"\n  in {name}, block {block}{at}")
            raise

    def _run(self) -> int:
        steps, count = self._steps, self._lanes.count
        everyone = np.ones(count, bool)
        standing: dict[int, Array] = {0: everyone}  # threads by the instruction that they stand at
        held: dict[int, Array] = {}  # threads that wait at a barrier
        gone = np.zeros(count, bool)
        executed = 0

        def stand(at: int, threads: Array) -> None:
            standing[at] = standing[at] | threads if at in standing else threads

        while standing or held:
            if not standing:
                at = self._release(held, gone)
                standing[at + 1] = held.pop(at)
                continue
            at = min(standing)
            threads = standing.pop(at)
            mask: Mask = True if threads.all() else threads
            nearest = min(standing, default=len(steps) + 1)
            while True:
                if at >= nearest:
                    stand(at, threads)
                    break
                if at == len(steps):
                    raise UnknownInstruction("the end of the kernel without ret")
                self._at = step = steps[at]
                executed += 1
                active = step.mask(mask)
                at += 1
                if active is None:
                    continue
                if step.kind == _PLAIN:
                    assert step.run is not None
                    step.run(active)
                    continue
                taken = everyone if active is True else active
                if step.kind == _BRANCH:
                    if executed > self._most:
                        raise Endless(f"more than {self._most} instructions", int(np.argmax(taken)))
                    if active is mask or (active is not True and (taken == threads).all()):
                        at = step.target
                        continue
                    stand(step.target, taken)
                elif step.kind == _EXIT:
                    gone = gone | taken
                else:
                    held[at - 1] = held[at - 1] | taken if at - 1 in held else taken
                rest = threads & ~taken
                if rest.any():
                    stand(at, rest)
                break
        return executed

    def _release(self, held: dict[int, Array], gone: Array) -> int:
        """The barrier that all threads wait at."""
        at = min(held)
        self._at = self._steps[at]
        if not held[at].all():
            missing = np.flatnonzero(~held[at])
            there = {t: "has returned" for t in np.flatnonzero(gone).tolist()}
            for other, threads in held.items():
                if other != at:
                    there |= {
                        t: f"waits at {self._steps[other].instruction}"
                        for t in np.flatnonzero(threads).tolist()
                    }
            first = int(missing[0])
            raise BarrierDivergence(
                f"{len(missing)} of {len(gone)} threads do not arrive: thread {first} {there[first]}",
                int(np.flatnonzero(held[at])[0]),
            )
        self._lanes.shared.instruction = self._at.instruction
        self._lanes.shared.synchronise()
        self._lanes.memory.barriers += 1
        return at


def _trap(mask: Mask) -> None:
    raise Trap("trap", None if mask is True else int(np.flatnonzero(mask)[0]))
