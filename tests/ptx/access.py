"""Instructions on memory: loads, stores, atomic operations, asynchronous copies, address conversions.

Source: NVIDIA, Parallel Thread Execution ISA, chapters 9.7.9 and 9.7.13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import floats
from .faults import Fault, UnknownInstruction
from .lanes import DTYPES, Decoder, Lanes, Mask, Run, list_of
from .memory import LOCAL_WINDOW, SHARED_WINDOW
from .parser import Instruction

__all__ = ["FAMILIES"]

Array = NDArray[Any]

_MODIFIERS = {
    "global", "shared", "shared::cta", "local", "const", "param", "v2", "v4", "volatile", "weak", "relaxed",
    "acquire", "release", "acq_rel", "cta", "gpu", "sys", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc",
}  # fmt: skip


def _space(ins: Instruction) -> str:
    """The state space that an instruction names, or "generic"."""
    parts = ins.parts
    if any(p not in _MODIFIERS and not p.startswith(("L1::", "L2::")) for p in parts[1:-1]):
        raise UnknownInstruction(str(ins))
    if "shared::cta" in parts:
        return "shared"
    return next((s for s in ("global", "shared", "local", "const", "param") if s in parts), "generic")


def _memory(lanes: Lanes, space: str) -> Any:
    if space == "shared":
        return lanes.shared
    return lanes.local if space == "local" else lanes.memory


def _parts(space: str, addresses: Array) -> list[tuple[str, Array, Any]]:
    """The spaces that addresses are in: each with its addresses there, and which they are."""
    if space != "generic":
        return [(space, addresses, slice(None))]
    if (addresses < SHARED_WINDOW).all():
        return [("global", addresses, slice(None))]
    found = []
    for name, low, high in (
        ("global", -(1 << 63), SHARED_WINDOW),
        ("shared", SHARED_WINDOW, LOCAL_WINDOW),
        ("local", LOCAL_WINDOW, (1 << 63) - 1),
    ):
        rows = (addresses >= low) & (addresses < high)
        if rows.any():
            base = 0 if name == "global" else low
            found.append((name, addresses[rows] - base, slice(None) if rows.all() else rows))
    return found


def _put(out: Array, mask: Mask, values: Array) -> None:
    out[... if mask is True else mask] = values


def _load(lanes: Lanes, ins: Instruction) -> Run:
    space = _space(ins)
    dtype = DTYPES[ins.parts[-1]]
    outs = [lanes.target(o, dtype) for o in list_of(ins.operands[0])]
    if space == "param":
        return _load_parameter(lanes, ins, dtype, outs)
    address, count = lanes.address(ins.operands[1]), len(outs)

    def run(mask: Mask) -> None:
        threads = lanes.active(mask)
        addresses = address()[threads]
        lanes.shared.instruction = ins
        parts = _parts(space, addresses)
        if len(parts) == 1:
            values = _memory(lanes, parts[0][0]).load(threads, parts[0][1], dtype, count)
        else:
            values = np.empty((len(threads), count), dtype)
            for name, there, rows in parts:
                values[rows] = _memory(lanes, name).load(threads[rows], there, dtype, count)
        for i, out in enumerate(outs):
            _put(out, mask, values[:, i])

    return run


def _load_parameter(lanes: Lanes, ins: Instruction, dtype: Any, outs: list[Array]) -> Run:
    name, _, offset = ins.operands[1].strip("[] ").partition("+")
    values = np.frombuffer(lanes.parameters[name.strip()], dtype, len(outs), int(offset or "0", 0))

    def run(mask: Mask) -> None:
        for out, value in zip(outs, values, strict=True):
            np.copyto(out, value, where=mask, casting="unsafe")

    return run


def _store(lanes: Lanes, ins: Instruction) -> Run:
    space = _space(ins)
    dtype = DTYPES[ins.parts[-1]]
    address = lanes.address(ins.operands[0])
    sources = [lanes.read(o, dtype) for o in list_of(ins.operands[1])]

    def run(mask: Mask) -> None:
        threads = lanes.active(mask)
        values = np.stack(sources, 1)[threads]
        lanes.shared.instruction = ins
        for name, there, rows in _parts(space, address()[threads]):
            _memory(lanes, name).store(threads[rows], there, values[rows])

    return run


# ---- atomic operations -----------------------------------------------------------------------------

_ATOMIC: dict[str, Callable[..., Array]] = {
    "add": lambda old, b: old + b,
    "min": lambda old, b: floats.minimum(old, b) if old.dtype.kind == "f" else np.minimum(old, b),
    "max": lambda old, b: floats.maximum(old, b) if old.dtype.kind == "f" else np.maximum(old, b),
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, b: b,
    "cas": lambda old, b, c: np.where(old == b, c, old),
    "inc": lambda old, b: np.where(old >= b, 0, old + 1).astype(old.dtype),
    "dec": lambda old, b: np.where((old == 0) | (old > b), b, old - 1).astype(old.dtype),
}


def _atomic(lanes: Lanes, ins: Instruction) -> Run:
    operation, kind = ins.parts[-2:]
    plain = Instruction(
        ".".join([*ins.parts[:-2], kind]), ins.operands, ins.guard, ins.negated, ins.line, ins.text
    )
    space = _space(plain)
    dtype = DTYPES[kind]
    if operation not in _ATOMIC:
        raise UnknownInstruction(str(ins))
    function = _ATOMIC[operation]
    operands = list(ins.operands)
    out = None if ins.parts[0] == "red" else lanes.target(operands.pop(0), dtype)
    address = lanes.address(operands[0])
    sources = [lanes.read(o, dtype) for o in operands[1:]]

    def run(mask: Mask) -> None:
        threads = lanes.active(mask)
        old = np.empty(len(threads), dtype)
        lanes.shared.instruction = ins
        for name, there, rows in _parts(space, address()[threads]):
            mine = threads[rows]
            old[rows] = _memory(lanes, name).update(
                mine,
                there,
                dtype,
                lambda some, old, mine=mine: function(old, *(s[mine[some]] for s in sources)),
            )
        if out is not None:
            _put(out, mask, old)

    return run


# ---- asynchronous copies ---------------------------------------------------------------------------


def _copy(lanes: Lanes, ins: Instruction) -> Run:
    if ins.opcode == "cp.async.commit_group":
        return lambda mask: lanes.shared.commit(lanes.active(mask))
    if ins.opcode in ("cp.async.wait_group", "cp.async.wait_all"):
        pending = int(ins.operands[0], 0) if ins.operands else None
        return lambda mask: lanes.shared.wait(lanes.active(mask), pending)
    parts = [p.removesuffix("::cta") for p in ins.parts if not p.startswith("L2::")]
    size = int(ins.operands[2], 0) if len(ins.operands) > 2 else 0
    if parts not in (["cp", "async", "ca", "shared", "global"], ["cp", "async", "cg", "shared", "global"]):
        raise UnknownInstruction(str(ins))
    if size not in ((16,) if "cg" in parts else (4, 8, 16)):
        raise UnknownInstruction(f"a copy of {size} bytes, {ins}")
    to, source = lanes.address(ins.operands[0]), lanes.address(ins.operands[1])
    read = _bytes_to_read(lanes, ins, size)

    def run(mask: Mask) -> None:
        threads = lanes.active(mask)
        lanes.shared.instruction = ins
        data = _fetch(lanes, threads, source()[threads], read()[threads], size)
        lanes.shared.copy(threads, to()[threads], data)

    return run


def _bytes_to_read(lanes: Lanes, ins: Instruction, size: int) -> Callable[[], Array]:
    """How many of a copy's bytes are read; the rest are zeros."""
    if len(ins.operands) < 4:
        everything = np.full(lanes.count, size)
        return lambda: everything
    if len(ins.operands) > 4:
        raise UnknownInstruction(str(ins))
    operand = ins.operands[3]
    if lanes.program.registers.get(operand.lstrip("!")) == "pred":  # true: read nothing
        ignored = lanes.predicate(operand)
        return lambda: np.where(ignored(), 0, size)
    given = lanes.read(operand, np.uint32)
    return lambda: given


def _fetch(lanes: Lanes, threads: Array, addresses: Array, read: Array, size: int) -> Array:
    data = np.zeros((len(threads), size), np.uint8)
    if (read > size).any():
        i = int(np.flatnonzero(read > size)[0])
        raise Fault(f"reads {int(read[i])} bytes for a copy of {size}", int(threads[i]))
    for count in np.unique(read[read > 0]).tolist():
        rows = read == count
        if count == size:
            data[rows] = lanes.memory.load(threads[rows], addresses[rows], np.uint8, size)
        else:
            for i in range(count):
                data[rows, i] = lanes.memory.load(threads[rows], addresses[rows] + i, np.uint8, 1)[:, 0]
    return data


# ---- addresses -------------------------------------------------------------------------------------


def _convert_address(lanes: Lanes, ins: Instruction) -> Run:
    """Between a space's own addresses and generic ones."""
    out = lanes.target(ins.operands[0], np.int64)
    source = lanes.read(ins.operands[1], np.int64)
    window = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(ins.parts[-2].removesuffix("::cta"), 0)
    step = -window if ins.parts[1] == "to" else window

    def run(mask: Mask) -> None:
        np.add(source, step, out=out, where=mask)

    return run


def _nothing(lanes: Lanes, ins: Instruction) -> Run:
    """Prefetches and fences: lanes see each other's writes at once, and races are found without them."""
    return lambda mask: None


FAMILIES: dict[str, Decoder] = {
    "ld": _load,
    "ldu": _load,
    "st": _store,
    "atom": _atomic,
    "red": _atomic,
    "cp": _copy,
    "cvta": _convert_address,
    "prefetch": _nothing,
    "prefetchu": _nothing,
    "membar": _nothing,
    "fence": _nothing,
    "nanosleep": _nothing,
}
