"""Shared memory, and who may touch what and when.

It is shadowed by cells, each as large as the smallest access. A cell knows who wrote it last and when, who
read it since, and whether a ``cp.async`` to it is on its way. Time counts the accesses of a block.

Two accesses of different threads, one of them a write, must have a barrier between them: ``bar.sync``,
which orders all threads, or ``bar.warp.sync`` within a warp. That a warp's lanes run in step orders
nothing. Allowed without one: atomic operations among themselves, and lanes of one warp that store the same
value at one place in one instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .faults import Fault, LateCopy, OutOfBounds, Race, Uninitialised
from .memory import SHARED_START, Array, Bytes, Step, Threads, check_alignment, first_of, in_turn

__all__ = ["SharedMemory"]

_NOBODY, _MANY, _ATOMIC = -1, -2, -3
_NEVER = 1 << 62  # the time of a write that has not been
_ON_ITS_WAY = _NEVER + 1  # the time of a write by cp.async that has not been waited for


@dataclass
class _Copy:
    """One ``cp.async`` instruction: what its threads copy, and which of each thread's groups it is in."""

    threads: Threads
    addresses: Array
    data: Array
    groups: Array
    instruction: object

    def of(self, chosen: Array) -> _Copy:
        """What the chosen threads of it copy."""
        return _Copy(
            self.threads[chosen],
            self.addresses[chosen],
            self.data[chosen],
            self.groups[chosen],
            self.instruction,
        )


class SharedMemory:
    """The memory that a block's threads share.

    Parameters
    ----------
    size
        Bytes.
    cell
        Bytes of a cell of the shadow; no store is smaller.
    threads
        Threads of the block.
    names
        Pairs of an offset and the variable that begins there, in order.
    """

    def __init__(self, size: int, cell: int, threads: int, names: Sequence[tuple[int, str]]) -> None:
        self._bytes = Bytes(size)
        self._cell, self._names = cell, names
        cells = len(self._bytes.data) // cell
        self._writer = np.full(cells, _NOBODY, np.int64)
        self._written = np.full(cells, _NEVER, np.int64)
        self._reader = np.full(cells, _NOBODY, np.int64)  # _MANY: several threads
        self._reader_warp = np.full(cells, _NOBODY, np.int64)  # _MANY: of several warps
        self._read = np.full(cells, -1, np.int64)
        self._copies: list[_Copy] = []
        self._committed = np.zeros(threads, np.int64)
        self._now = 0
        self._barrier = 0
        self._warp_barrier = np.zeros(-(-threads // 32), np.int64)
        self._instructions: list[object] = [None]
        #: The instruction that is being executed, for messages.
        self.instruction: object = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self._bytes.size

    # ---- time -----------------------------------------------------------------------------------

    def _tick(self) -> int:
        self._now += 1
        self._instructions.append(self.instruction)
        return self._now

    def synchronise(self) -> None:
        """All threads have met: what they did before is seen by what they do after."""
        self._barrier = self._tick()

    def synchronise_warps(self, warps: Array) -> None:
        """The threads of each of some warps have met."""
        self._warp_barrier[warps] = self._tick()

    # ---- who, where and when ----------------------------------------------------------------------

    def _cells(self, threads: Threads, addresses: Array, size: int, what: str) -> tuple[Array, Array]:
        """The offsets of accesses, and the cells (accesses, cells of one)."""
        check_alignment(threads, addresses, size)
        offsets = addresses - SHARED_START
        outside = (offsets < 0) | (offsets + size > self.size)
        if outside.any():
            i = first_of(outside)
            raise OutOfBounds(
                f"{what} {size} bytes at {self._describe(int(offsets[i]))}, "
                f"of {self.size} bytes of shared memory",
                int(threads[i]),
            )
        first = offsets // self._cell
        return offsets, first[:, None] + np.arange(max(size // self._cell, 1))

    def _describe(self, offset: int) -> str:
        name, start = "shared memory", 0
        for begin, named in self._names:
            if begin <= offset:
                name, start = named, begin
        return f"byte {offset - start} of {name}"

    def _refuse(self, kind: type[Fault], text: str, threads: Threads, cells: Array, bad: Array) -> None:
        """Raise about the first bad cell; `text` may use what is known of it."""
        i, j = (int(v) for v in np.argwhere(bad)[0])
        cell = cells[i, j]
        writer, written = int(self._writer[cell]), int(self._written[cell])
        if written >= _NEVER:
            written = 0
        copies = [c.instruction for c in self._copies if writer in c.threads]
        known = {
            "copy": copies[0] if copies else None,
            "place": self._describe(int(cell) * self._cell),
            "writer": "an atomic operation" if writer == _ATOMIC else f"thread {writer}",
            "write": self._instructions[written],
            "reader": "several threads" if self._reader[cell] < 0 else f"thread {self._reader[cell]}",
            "read": self._instructions[max(int(self._read[cell]), 0)],
        }
        raise kind(text.format(**known), int(threads[i]))

    def _since_barrier(self, times: Array, who: Array, warps: Array, of_warps: Array) -> Array:
        """Which of the accesses at `times` by others no barrier separates from now."""
        same_warp = warps == of_warps
        return (
            (times > self._barrier)
            & (who != _NOBODY)
            & ~(same_warp & (times <= self._warp_barrier[of_warps]))
        )

    def _check_written(self, threads: Threads, cells: Array, verb: str, *, atomic: bool = False) -> None:
        """Refuse an access to what others have written since the barrier, or a copy is on its way to."""
        written = self._written[cells]
        if not (written > self._barrier).any():
            return
        late = written == _ON_ITS_WAY
        if late.any():
            self._refuse(
                LateCopy,
                verb + " {place}, where a cp.async is on its way: {writer} has not waited for it ({copy})",
                threads, cells, late,
            )  # fmt: skip
        writer = self._writer[cells]
        mine = threads[:, None]
        race = self._since_barrier(written, writer, writer >> 5, np.broadcast_to(mine >> 5, cells.shape))
        race &= (writer != mine) & (written < _NEVER)
        if atomic:
            race &= writer != _ATOMIC
        if race.any():
            self._refuse(
                Race,
                verb + " {place}, which {writer} wrote with no barrier since ({write})",
                threads,
                cells,
                race,
            )

    def _check_initialised(self, threads: Threads, cells: Array, verb: str) -> None:
        if (never := self._written[cells] == _NEVER).any():
            self._refuse(Uninitialised, verb + " {place}, which nobody has written", threads, cells, never)

    def _check_unread(self, threads: Threads, cells: Array) -> None:
        """Refuse a write to cells that others have read since the barrier."""
        read = self._read[cells]
        if not (read > self._barrier).any():
            return
        reader, mine = self._reader[cells], threads[:, None]
        race = self._since_barrier(
            read, reader, self._reader_warp[cells], np.broadcast_to(mine >> 5, cells.shape)
        ) & (reader != mine)
        if race.any():
            self._refuse(
                Race,
                "writes {place}, which {reader} read with no barrier since ({read})",
                threads,
                cells,
                race,
            )

    # ---- accesses ---------------------------------------------------------------------------------

    def load(self, threads: Threads, addresses: Array, dtype: Any, count: int) -> Array:
        """Return (accesses, count) elements."""
        size = np.dtype(dtype).itemsize * count
        offsets, cells = self._cells(threads, addresses, size, "reads")
        self._note_read(threads, cells)
        return self._bytes.rows(dtype, count)[offsets // size]

    def load_for(
        self, threads: Threads, addresses: Array, readers: Threads, reader_addresses: Array
    ) -> Array:
        """Return rows of eight 16-bit elements, of which `readers` receive parts."""
        offsets, _ = self._cells(threads, addresses, 16, "reads")
        _, cells = self._cells(readers, reader_addresses, 2, "reads")
        self._note_read(readers, cells)
        return self._bytes.rows(np.uint16, 8)[offsets // 16]

    def _note_read(self, threads: Threads, cells: Array) -> None:
        self._check_written(threads, cells, "reads")
        self._check_initialised(threads, cells, "reads")
        now = self._tick()
        mine = np.broadcast_to(threads[:, None], cells.shape)
        warp = mine >> 5
        before = self._read[cells]
        if (before > self._barrier).any():
            reader, reader_warp = self._reader[cells], self._reader_warp[cells]
            kept = self._since_barrier(before, reader, reader_warp, warp)
            mine = np.where(kept & (reader != mine), _MANY, mine)
            warp = np.where(kept & (reader_warp != warp), _MANY, warp)
        self._read[cells] = now
        # Of several lanes at one cell the last is left: then it is many.
        self._reader[cells], self._reader_warp[cells] = mine, warp
        if (others := self._reader[cells] != mine).any():
            self._reader[cells[others]] = _MANY
            if (others := self._reader_warp[cells] != warp).any():
                self._reader_warp[cells[others]] = _MANY

    def store(self, threads: Threads, addresses: Array, values: Array) -> None:
        """Write (accesses, count) elements."""
        size = values.dtype.itemsize * values.shape[1]
        offsets, cells = self._cells(threads, addresses, size, "writes")
        self._note_write(threads, cells)
        rows = self._bytes.rows(values.dtype.type, values.shape[1])
        rows[offsets // size] = values
        if (others := self._writer[cells] != threads[:, None]).any():
            kept = rows[offsets // size]
            same = (kept.view(np.uint8) == np.ascontiguousarray(values).view(np.uint8)).all(1)
            same_warp = (self._writer[cells] >> 5 == threads[:, None] >> 5).all(1)
            bad = others & ~(same & same_warp)[:, None]
            if bad.any():
                self._refuse(
                    Race, "writes {place}, and {writer} does at the same time ({write})", threads, cells, bad
                )

    def _note_write(self, threads: Threads, cells: Array) -> None:
        self._check_written(threads, cells, "writes")
        self._check_unread(threads, cells)
        self._writer[cells] = threads[:, None]
        self._written[cells] = self._tick()

    def update(self, threads: Threads, addresses: Array, dtype: Any, step: Step) -> Array:
        """Atomically replace each element; return the old ones. See :func:`in_turn`."""
        size = np.dtype(dtype).itemsize
        offsets, cells = self._cells(threads, addresses, size, "updates")
        self._check_written(threads, cells, "updates", atomic=True)
        self._check_unread(threads, cells)
        self._check_initialised(threads, cells, "updates")
        self._writer[cells] = _ATOMIC
        self._written[cells] = self._tick()
        elements = self._bytes.rows(dtype, 1)[:, 0]

        def once(rows: slice) -> Array:
            at = offsets[rows] // size
            old = elements[at]
            elements[at] = step(rows, old)
            return old

        return in_turn(addresses, once)

    # ---- asynchronous copies -----------------------------------------------------------------------

    def copy(self, threads: Threads, addresses: Array, data: Array) -> None:
        """Begin to write (accesses, bytes): until it is waited for, the place holds NaN and is nobody's."""
        size = data.shape[1]
        offsets, cells = self._cells(threads, addresses, size, "copies")
        self._note_write(threads, cells)
        if (others := self._writer[cells] != threads[:, None]).any():
            self._refuse(
                Race, "copies to {place}, and {writer} does at the same time", threads, cells, others
            )
        self._written[cells] = _ON_ITS_WAY
        self._bytes.rows(np.uint8, size)[offsets // size] = 0xFF
        self._copies.append(_Copy(threads, addresses, data, self._committed[threads], self.instruction))

    def commit(self, threads: Threads) -> None:
        """Each thread's copies since its last commit are one group."""
        self._committed[threads] += 1

    def wait(self, threads: Threads, pending: int | None) -> None:
        """Finish all but each thread's last `pending` groups; None: all copies, also those of no group."""
        if not self._copies:
            return
        waiting = np.zeros(len(self._committed), bool)
        waiting[threads] = True
        now = self._tick()
        left = []
        for copy in self._copies:
            done = waiting[copy.threads]
            if pending is not None:
                done &= copy.groups < self._committed[copy.threads] - pending
            if done.any():
                landed = copy.of(done)
                size = landed.data.shape[1]
                offsets, cells = self._cells(landed.threads, landed.addresses, size, "copies")
                self._bytes.rows(np.uint8, size)[offsets // size] = landed.data
                self._written[cells] = now
            if not done.all():
                left.append(copy.of(~done))
        self._copies = left
