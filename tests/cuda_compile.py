"""Kernels compiled for a GPU that is not there: their PTX, their machine code's make-up, and gates on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

__all__ = [
    "FLOAT64",
    "LOCAL_MEMORY",
    "LONG_DIVISION",
    "Compiled",
    "Compiler",
    "Gate",
    "Kernel",
    "MachineCode",
    "NotAvailable",
]

#: Families of instructions in float64, a fraction of float32's speed on most GPUs.
FLOAT64 = ("DADD", "DMUL", "DFMA", "DSETP", "DMNMX", "F2F.F64", "I2F.F64", "F2I.F64", "MUFU.RCP64H")
#: Registers that have become memory.
LOCAL_MEMORY = ("LDL", "STL")
#: Functions that ``//`` and ``%`` of 64-bit integers call; Numba promotes 32-bit unsigned ones to them.
LONG_DIVISION = ("div_s64", "div_u64", "rem_s64", "rem_u64")

#: Processes that compile at the same time; each takes some 350 MB.
_MOST_PROCESSES = 2


class NotAvailable(Exception):  # noqa: N818 - a reason to skip
    """numba-cuda or one of NVIDIA's wheels is missing."""


@dataclass(frozen=True)
class Kernel:
    """What to compile.

    Parameters
    ----------
    kernel
        ``module:expression``, the expression being evaluated in the module; the module may be a file's path.
    signature
        The tuple of arguments' types in Numba's words, ``"(float32[:, ::1], UniTuple(int64, 3), boolean)"``;
        names of the module may occur in it.
    capability
        The compute capability to compile for.
    launch_bounds
        Threads of a block, and blocks at once on a multiprocessor; None leaves it open.
    fastmath
        As in ``@cuda.jit``.
    """

    kernel: str
    signature: str
    capability: tuple[int, int] = (9, 0)
    launch_bounds: tuple[int, int] | None = None
    fastmath: bool = False

    @property
    def name(self) -> str:
        """A short name, for messages and files."""
        expression = self.kernel.partition(":")[2]
        return f"{expression} for sm_{self.capability[0]}{self.capability[1]}"


@dataclass(frozen=True)
class MachineCode:
    """What a kernel has become.

    Parameters
    ----------
    opcodes
        How often each opcode occurs in the text, with all its modifiers: ``LDG.E.128``.
    functions
        Names of NVIDIA's functions that it calls.
    registers, spill_bytes, shared_bytes
        Of a thread, of a thread, and of a block (the system's own included, dynamic memory not).
    warnings
        The linker's.
    """

    opcodes: Mapping[str, int]
    functions: tuple[str, ...]
    registers: int
    spill_bytes: int
    shared_bytes: int
    warnings: tuple[str, ...]

    def count(self, family: str) -> int:
        """How many instructions have all of a family's parts: "LDG.128" counts LDG.E.128.CONSTANT too.

        A name in lower case counts the functions whose names it is part of: "div_u64".
        """
        if family.islower():
            return sum(family in f for f in self.functions)
        name, *modifiers = family.split(".")
        total = 0
        for opcode, times in self.opcodes.items():
            first, *parts = opcode.split(".")
            if first == name and set(modifiers) <= set(parts):
                total += times
        return total

    def families(self) -> str:
        """The most frequent opcodes, in words."""
        most = sorted(self.opcodes.items(), key=lambda item: -item[1])
        return ", ".join(f"{times} {opcode}" for opcode, times in most[:12])


@dataclass(frozen=True)
class Compiled:
    """A kernel's PTX and machine code; `folder` has both as files."""

    kernel: Kernel
    ptx: str
    code: MachineCode
    folder: Path


@dataclass(frozen=True)
class Gate:
    """What the machine code of a kernel must have and must not have.

    Parameters
    ----------
    has
        Families of instructions and the least number of each.
    has_not
        Families that must not occur.
    most_registers
        Registers of a thread.
    """

    has: Mapping[str, int] = field(default_factory=dict)
    has_not: tuple[str, ...] = LOCAL_MEMORY
    most_registers: int = 255

    def check(self, compiled: Compiled) -> None:
        """Raise AssertionError with all that is wrong."""
        code = compiled.code
        wrong = [
            f"{code.count(family)} {family}, expected at least {least}"
            for family, least in self.has.items()
            if code.count(family) < least
        ]
        wrong += [f"{code.count(f)} {f}, expected none" for f in self.has_not if code.count(f)]
        if code.registers > self.most_registers:
            wrong.append(f"{code.registers} registers, expected at most {self.most_registers}")
        if code.spill_bytes:
            wrong.append(f"{code.spill_bytes} bytes of registers spilled")
        wrong += code.warnings
        if wrong:
            raise AssertionError(
                f"{compiled.kernel.name}: {'; '.join(wrong)}\n  it has {code.families()}\n"
                f"  see {compiled.folder}"
            )


class _Process:
    """A process without the simulator that compiles one kernel after another; starts without waiting."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cuda_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"},
        )
        self._missing: str | None = None

    @property
    def missing(self) -> str:
        """What it lacks to do its work; empty if nothing."""
        if self._missing is None:
            self._missing = str(self._answer()["missing"])
        return self._missing

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            ended = self._process.wait()
            said = Path(self._log.name).read_text()[-2000:]
            raise RuntimeError(f"the compiling process ended with {ended}: {said}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def compile(self, kernel: Kernel) -> dict[str, Any]:
        """Return what it answers."""
        assert self._process.stdin is not None
        assert not self.missing
        request = {
            "kernel": kernel.kernel,
            "signature": kernel.signature,
            "capability": kernel.capability,
            "launch_bounds": kernel.launch_bounds,
            "fastmath": kernel.fastmath,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()
        self._log.close()


class Compiler:
    """Compiles kernels in processes without the simulator, each kernel once.

    Parameters
    ----------
    folder
        Where the PTX and machine code of every kernel are left to look at.

    Raises
    ------
    NotAvailable
        If something is not installed, with what.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[Kernel, Future[Compiled]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._processes = [_Process(folder / "log0.txt")]
        reason = self._processes[0].missing
        if reason:
            self._processes[0].close()
            raise NotAvailable(reason)
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._idle.put(self._processes[0])
        self._threads = ThreadPoolExecutor(_MOST_PROCESSES)

    def expect(self, kernels: Iterable[Kernel]) -> None:
        """Begin to compile kernels that will be asked for, in that order, with one more process."""
        if len(self._processes) < min(_MOST_PROCESSES, os.cpu_count() or 1):
            self._processes.append(_Process(self._folder / f"log{len(self._processes)}.txt"))
            self._idle.put(self._processes[-1])
        for kernel in kernels:
            self._begun(kernel)

    def compile(self, kernel: Kernel) -> Compiled:
        """Return a kernel's PTX and machine code.

        Raises
        ------
        RuntimeError
            With the compiler's words, if it cannot be compiled.
        """
        return self._begun(kernel).result()

    def _begun(self, kernel: Kernel) -> Future[Compiled]:
        if kernel not in self._made:
            self._made[kernel] = self._threads.submit(self._compiled, kernel, len(self._made))
        return self._made[kernel]

    def _compiled(self, kernel: Kernel, number: int) -> Compiled:
        process = self._idle.get()
        try:
            answer = process.compile(kernel)
        finally:
            self._idle.put(process)
        if "error" in answer:
            raise RuntimeError(f"{kernel.name} cannot be compiled:\n{answer['error']}")
        folder = self._folder / f"{number:03d}"
        folder.mkdir(exist_ok=True)
        (folder / "kernel.ptx").write_text(answer["ptx"])
        (folder / "kernel.sass").write_text(answer["sass"])
        code = MachineCode(
            answer["opcodes"],
            tuple(answer["functions"]),
            answer["registers"],
            answer["spill_bytes"],
            answer["shared_bytes"],
            tuple(answer["warnings"]),
        )
        return Compiled(kernel, answer["ptx"], code, folder)

    def close(self) -> None:
        """End the processes; what nobody has waited for is not compiled."""
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()
