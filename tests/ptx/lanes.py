"""A block of threads as lanes of arrays: its registers, and how operands are read and written.

An instruction is decoded once, into a function of the mask of lanes that execute it (True for all of them).
What it reads and writes are arrays that the function holds: views of registers, constants, special
registers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .faults import PartialWarp, UnknownInstruction
from .memory import SHARED_START, GlobalMemory, LocalMemory
from .parser import Instruction, Program
from .shared import SharedMemory

__all__ = ["DTYPES", "Decoder", "Lanes", "Mask", "Run", "list_of"]

Array = NDArray[Any]
#: The lanes that execute: True for all.
Mask = Any
Run = Callable[[Mask], None]

DTYPES: dict[str, Any] = {
    "u8": np.uint8, "s8": np.int8, "b8": np.uint8,
    "u16": np.uint16, "s16": np.int16, "b16": np.uint16, "f16": np.float16,
    "u32": np.uint32, "s32": np.int32, "b32": np.uint32, "f32": np.float32,
    "u64": np.uint64, "s64": np.int64, "b64": np.uint64, "f64": np.float64,
    "pred": np.bool_,
}  # fmt: skip


def list_of(operand: str) -> list[str]:
    """The registers of ``{a, b}``, or the one that stands alone."""
    return [part.strip() for part in operand.strip("{}").split(",")]


class Lanes:
    """The state of one block.

    Parameters
    ----------
    program
        The kernel.
    block, grid
        Threads of a block and blocks of the grid, along x, y and z.
    memory
        Global memory; the kernel's variables in it are allocated here.
    parameters
        The address and bytes of each parameter, by its name.
    shared_bytes
        Dynamic shared memory.
    """

    def __init__(
        self,
        program: Program,
        block: tuple[int, int, int],
        grid: tuple[int, int, int],
        memory: GlobalMemory,
        parameters: dict[str, bytes],
        shared_bytes: int,
    ) -> None:
        self.program, self.memory, self.parameters = program, memory, parameters
        self._grid = grid
        self.count = block[0] * block[1] * block[2]
        self.warps = -(-self.count // 32)
        self.threads = np.arange(self.count)
        self._registers = {
            name: np.zeros(self.count, DTYPES[kind]) for name, kind in program.registers.items()
        }
        self.carry = np.zeros(self.count, bool)
        self._addresses: dict[str, int] = {}
        self._place_variables(shared_bytes)
        i = np.arange(self.count, dtype=np.uint32)
        self._special = {
            "%tid.x": i % np.uint32(block[0]),
            "%tid.y": i // np.uint32(block[0]) % np.uint32(block[1]),
            "%tid.z": i // np.uint32(block[0] * block[1]),
            "%laneid": i % np.uint32(32),
            "%warpid": i // np.uint32(32),
            "%lanemask_eq": np.uint32(1) << i % np.uint32(32),
            "%lanemask_lt": (np.uint32(1) << i % np.uint32(32)) - np.uint32(1),
            "%dynamic_smem_size": self._all(shared_bytes, np.uint32),
            "%total_smem_size": self._all(self._shared_size, np.uint32),
            "WARP_SZ": self._all(32, np.uint32),
        }
        for axis, threads, blocks in zip("xyz", block, grid, strict=True):
            self._special[f"%ntid.{axis}"] = self._all(threads, np.uint32)
            self._special[f"%nctaid.{axis}"] = self._all(blocks, np.uint32)
            self._special[f"%ctaid.{axis}"] = self._all(0, np.uint32)
        self.shared: SharedMemory
        self.local: LocalMemory
        self.start((0, 0, 0))

    def _all(self, value: int, dtype: Any) -> Array:
        return np.full(self.count, value, dtype)

    def _place_variables(self, shared_bytes: int) -> None:
        shared = local = 0
        names: list[tuple[int, str]] = []
        # The launch's own shared memory comes after the variables that have a size.
        for v in sorted(self.program.variables, key=lambda v: v.space == "shared" and v.size == 0):
            if v.space == "shared":
                shared = -(-shared // v.alignment) * v.alignment
                self._addresses[v.name] = SHARED_START + shared
                names.append((shared, v.name))
                shared += v.size
            elif v.space == "local":
                local = -(-local // v.alignment) * v.alignment
                self._addresses[v.name] = SHARED_START + local
                local += v.size
            else:
                data = None if v.data is None else np.frombuffer(v.data, np.uint8)
                self._addresses[v.name] = self.memory.allocate(v.name, v.size, data=data).base
        self._shared_size, self._local_size, self._shared_names = shared + shared_bytes, local, names

    def start(self, block_index: tuple[int, int, int]) -> None:
        """Begin another block: nothing is left in its memories."""
        self.block_index = block_index
        x, y, z = block_index
        self.memory.block = x + self._grid[0] * (y + self._grid[1] * z)
        self.memory.barriers = 0
        for axis, index in zip("xyz", block_index, strict=True):
            self._special[f"%ctaid.{axis}"][:] = index
        self.shared = SharedMemory(self._shared_size, self._cell(), self.count, self._shared_names)
        self.local = LocalMemory(self.count, self._local_size)

    def _cell(self) -> int:
        """Bytes of the smallest store that may be to shared memory."""
        sizes = [4]
        for ins in self.program.code:
            if ins.parts[0] in ("st", "atom", "red") and not {"global", "local"} & set(ins.parts):
                sizes.append(np.dtype(DTYPES[ins.parts[-1]]).itemsize)
        return min(sizes)

    # ---- operands ---------------------------------------------------------------------------------

    def read(self, operand: str, dtype: Any) -> Array:
        """The array that holds an operand, as `dtype`; of a wider register its low part."""
        size = np.dtype(dtype).itemsize
        if operand in self._registers:
            register = self._registers[operand]
        elif operand in self._special:
            register = self._special[operand]
        else:
            return self._constant(operand, dtype)
        if register.dtype == dtype:
            return register
        if np.bool_ in (register.dtype, dtype) or register.itemsize < size:
            raise UnknownInstruction(f"{operand} ({register.dtype}) read as {np.dtype(dtype)}")
        return register.view(dtype)[:: register.itemsize // size]

    def _constant(self, operand: str, dtype: Any) -> Array:
        if operand in self._addresses:
            return self._all(self._addresses[operand], np.uint64).astype(dtype)
        if re.fullmatch(r"0[fd][0-9a-fA-F]{8,16}", operand):
            bits = np.array(int(operand[2:], 16), np.uint32 if operand[1] == "f" else np.uint64)
            number = bits.view(np.float32 if operand[1] == "f" else np.float64)
            if np.dtype(dtype).kind == "f":
                return np.full(self.count, number, dtype)
            return np.full(self.count, bits, bits.dtype).view(dtype)
        try:
            value = int(operand.rstrip("U"), 0)
        except ValueError:
            raise UnknownInstruction(f"operand {operand}") from None
        if np.dtype(dtype).kind == "b":
            return np.full(self.count, bool(value))
        bits_of = np.dtype(dtype).itemsize * 8
        unsigned = np.dtype(f"u{bits_of // 8}")
        return np.full(self.count, value % (1 << bits_of), unsigned).view(dtype)

    def predicate(self, operand: str) -> Callable[[], Array]:
        """A function that gives a predicate, which may be written ``!p``."""
        if operand.startswith("!"):
            register = self.read(operand[1:], np.bool_)
            return lambda: ~register
        register = self.read(operand, np.bool_)
        return lambda: register

    def target(self, operand: str, dtype: Any) -> Array:
        """The array that a result of `dtype` is written to: a register, or an integer's wider one."""
        if operand == "_":
            return np.empty(self.count, dtype)
        register = self._registers[operand]
        dtype = np.dtype(dtype)
        if register.dtype == dtype:
            return register
        if register.itemsize > dtype.itemsize and dtype.kind in "iu":
            return register.view(f"{dtype.kind}{register.itemsize}")
        if register.itemsize != dtype.itemsize or np.bool_ in (register.dtype, dtype):
            raise UnknownInstruction(f"{dtype} written to {operand} ({register.dtype})")
        return register.view(dtype)

    def address(self, operand: str) -> Callable[[], Array]:
        """A function that gives the addresses ``[base + offset]`` of all lanes."""
        base, _, offset = operand.strip("[] ").partition("+")
        step = int(offset, 0) if offset else 0
        base = base.strip()
        if base in self._registers and self._registers[base].itemsize == 4:
            narrow = self.read(base, np.uint32)
            return lambda: narrow.astype(np.int64) + step
        wide = self.read(base, np.int64)
        return lambda: wide + step

    # ---- masks ------------------------------------------------------------------------------------

    def active(self, mask: Mask) -> Array:
        """The numbers of the threads of a mask."""
        return self.threads if mask is True else np.flatnonzero(mask)

    def whole_warps(self, mask: Mask, what: str) -> Array:
        """The numbers of the warps of a mask, which has whole warps only."""
        if self.count % 32:
            raise PartialWarp(
                f"{what} in a block of {self.count} threads: the last warp is not whole", self.count - 1
            )
        if mask is True:
            return np.arange(self.warps)
        lanes = mask.reshape(-1, 32)
        some, every = lanes.any(1), lanes.all(1)
        if (some != every).any():
            warp = int(np.flatnonzero(some != every)[0])
            missing = np.flatnonzero(~lanes[warp]).tolist()
            raise PartialWarp(
                f"{what} without lanes {missing} of warp {warp}", warp * 32 + int(np.argmax(lanes[warp]))
            )
        return np.flatnonzero(every)


#: Decodes one instruction of a family.
Decoder = Callable[[Lanes, Instruction], Run]
