"""PTX text to a list of instructions, as far as Numba's compiler writes it: one kernel, all calls inlined.

Source: NVIDIA, Parallel Thread Execution ISA, chapters 4 and 5.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .faults import UnknownInstruction

__all__ = ["WIDTH", "Instruction", "Parameter", "Program", "Variable", "parse"]

#: Bytes of a fundamental type.
WIDTH = {f"{kind}{bits}": bits // 8 for kind in "usbf" for bits in (8, 16, 32, 64)} | {"pred": 1}


@dataclass(frozen=True)
class Instruction:
    """One statement: ``@guard opcode operands;``."""

    opcode: str
    operands: tuple[str, ...]
    guard: str | None
    negated: bool
    line: int
    text: str

    @property
    def parts(self) -> list[str]:
        """The opcode between its dots."""
        return self.opcode.split(".")

    def __str__(self) -> str:
        return f"PTX line {self.line}: {self.text}"


@dataclass(frozen=True)
class Parameter:
    """A parameter of the kernel: `count` elements of `kind` (more than one for a structure)."""

    name: str
    kind: str
    count: int = 1


@dataclass(frozen=True)
class Variable:
    """Memory with a name; shared memory of size 0 is what the launch asks for."""

    name: str
    space: str
    alignment: int
    size: int
    data: bytes | None = None


@dataclass(frozen=True)
class Program:
    """One kernel."""

    name: str
    parameters: tuple[Parameter, ...]
    variables: tuple[Variable, ...]
    registers: dict[str, str]
    code: tuple[Instruction, ...]
    labels: dict[str, int]
    most_threads: int | None


_VARIABLE = re.compile(
    r"\.(shared|global|const|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)\s*(\[\d*\])?\s*(?:=\s*(\{[^}]*\}|[^;]+))?;"
)
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)", re.S)
_STATEMENT = re.compile(
    r"\s*(?:(?P<open>\{)|(?P<close>\})|(?P<label>[\w$]+):(?!:)|(?P<text>[^;{}]+(?:\{[^{}]*\}[^;{}]*)*);)"
)
_GUARDED = re.compile(r"@(!?)(\S+)\s+(.*)", re.S)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s{}\[\]]+")


def parse(ptx: str) -> Program:
    """Return the kernel of a PTX text.

    Raises
    ------
    UnknownInstruction
        If the text holds anything but one kernel and the variables that it uses.
    """
    ptx = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), ptx, flags=re.S)
    ptx = re.sub(r"//[^\n]*|^\s*\.(?:loc|file)\b[^\n]*", "", ptx, flags=re.M)
    entries = list(re.finditer(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)\{", ptx))
    if len(entries) != 1:
        raise UnknownInstruction(f"{len(entries)} kernels in one text, expected 1")
    entry = entries[0]
    start = entry.end()
    end = _closing(ptx, start)
    bound = re.search(r"\.maxntid\s+([\d,\s]+)", entry[3])
    threads = 1
    for axis in bound[1].split(",") if bound else ():
        threads *= int(axis)
    statements = _Statements(ptx, start, end)
    return Program(
        name=_demangled(entry[1]),
        parameters=tuple(
            Parameter(name, kind, int(count or 1)) for kind, name, count in _PARAMETER.findall(entry[2])
        ),
        variables=tuple(_variable(m) for m in _VARIABLE.finditer(ptx)),
        registers=statements.registers,
        code=tuple(statements.code),
        labels=statements.labels,
        most_threads=threads if bound else None,
    )


class _Statements:
    """The statements of a body, with names declared in inner braces made unique."""

    def __init__(self, ptx: str, start: int, end: int) -> None:
        self.registers: dict[str, str] = {}
        self.code: list[Instruction] = []
        self.labels: dict[str, int] = {}
        scopes: list[dict[str, str]] = []
        opened = 0
        at, line, counted = start, 1, 0
        while m := _STATEMENT.match(ptx, at, end):
            at = m.end()
            line += ptx.count("\n", counted, m.start(m.lastgroup or 0))
            counted = m.start(m.lastgroup or 0)
            if m["open"]:
                opened += 1
                scopes.append({})
            elif m["close"]:
                scopes.pop()
            elif m["label"]:
                self.labels[m["label"]] = len(self.code)
            else:
                self._statement(m["text"].strip(), line, scopes, opened)
        if ptx[at:end].strip():
            raise UnknownInstruction(f"PTX line {line}: {ptx[at:end].strip()[:80]!r}")

    def _statement(self, text: str, line: int, scopes: list[dict[str, str]], opened: int) -> None:
        if declared := _REGISTERS.match(text):
            for name in (n.strip() for n in declared[2].split(",")):
                self._declare(name, declared[1], scopes, opened)
            return
        if text.startswith("."):  # variables and pragmas
            return
        written = " ".join(text.split())
        for name, unique in {n: u for scope in scopes for n, u in scope.items()}.items():
            text = re.sub(rf"(?<![\w%$.]){re.escape(name)}(?![\w$@])", unique, text)
        guard, negated = None, False
        if guarded := _GUARDED.match(text):
            negated, guard, text = guarded[1] == "!", guarded[2], guarded[3]
        opcode, _, rest = text.partition(" ") if " " in text.split("\t")[0] else text.partition("\t")
        operands = tuple(_OPERAND.findall(rest))
        self.code.append(Instruction(opcode.strip(), operands, guard, negated, line, written))

    def _declare(self, name: str, kind: str, scopes: list[dict[str, str]], opened: int) -> None:
        if many := re.fullmatch(r"(.*)<(\d+)>", name):
            for i in range(int(many[2])):
                self._declare(f"{many[1]}{i}", kind, scopes, opened)
            return
        if scopes:
            unique = f"{name}@{opened}"
            scopes[-1][name] = unique
            name = unique
        self.registers[name] = kind


def _closing(ptx: str, start: int) -> int:
    depth = 1
    for m in re.finditer(r"[{}]", ptx[start:]):
        depth += 1 if m[0] == "{" else -1
        if not depth:
            return start + m.start()
    raise UnknownInstruction("a body without its end")


def _demangled(name: str) -> str:
    """The last part of an Itanium-mangled nested name: the Python function's."""
    at, last = 3, name
    if not name.startswith("_ZN"):
        return name
    while m := re.match(r"\d+", name[at:]):
        length = int(m[0])
        last = name[at + m.end() : at + m.end() + length]
        at += m.end() + length
    return last


def _variable(m: re.Match[str]) -> Variable:
    space, alignment, kind, name, length, initial = m.groups()
    width = WIDTH[kind]
    count = 1 if length is None else int(length[1:-1] or 0)
    data = None
    if initial is not None:
        words = [w.strip() for w in initial.strip("{} \n\t").split(",") if w.strip()]
        data = b"".join(_initial_word(w, kind, width) for w in words).ljust(count * width, b"\0")
    return Variable(name, space, int(alignment or width), count * width, data)


def _initial_word(word: str, kind: str, width: int) -> bytes:
    if re.fullmatch(r"0[fd][0-9a-fA-F]+", word):
        bits = int(word[2:], 16)
        return bits.to_bytes(4 if word[1] == "f" else 8, "little")
    try:
        return (int(word, 0) % (1 << 8 * width)).to_bytes(width, "little")
    except ValueError:
        if kind.startswith("f"):
            return struct.pack("<f" if width == 4 else "<d", float(word))
        raise UnknownInstruction(f"initial value {word}") from None
