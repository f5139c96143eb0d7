"""Global and local memory.

Addresses are numbers of 64 bits. Every array that a kernel is given lies in a region of its own, far from the
others, so that one step beyond its end is in nobody's memory. Shared and local memory are windows of the
generic address space, and spaces of their own that begin a little above 0.

Blocks run one after another here, and in any order on a GPU: no thread may read or write what a thread of
another block has written in the same launch, and none what one of its own block has, but for a barrier
between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .faults import Misaligned, OutOfBounds, Race

__all__ = [
    "LOCAL_WINDOW",
    "SHARED_START",
    "SHARED_WINDOW",
    "Allocation",
    "Array",
    "Bytes",
    "GlobalMemory",
    "LocalMemory",
    "Step",
    "Threads",
    "check_alignment",
    "first_of",
    "in_turn",
]

Array = NDArray[Any]
Threads = NDArray[np.int64]

_REGION = 36  # bits of an address within an allocation's region
_IN_REGION = (1 << _REGION) - 1
SHARED_WINDOW = 1 << 60
LOCAL_WINDOW = 1 << 61
#: Address 0 of shared and local memory is nobody's.
SHARED_START = 1024
_PAGE = 16  # the largest access

_NOBODY = -1


def first_of(bad: Array) -> int:
    """The first access (row) that is bad."""
    return int(np.flatnonzero(bad.reshape(len(bad), -1).any(1))[0])


def check_alignment(threads: Threads, addresses: Array, size: int) -> None:
    """Refuse addresses that are no multiples of `size`."""
    if size > 1 and (addresses & (size - 1)).any():
        i = first_of(addresses & (size - 1) != 0)
        raise Misaligned(
            f"address {int(addresses[i]):#x} of an access of {size} bytes is "
            f"{int(addresses[i]) % size} bytes past a multiple of {size}",
            int(threads[i]),
        )


#: New elements from which accesses they are for, and their old elements.
Step = Callable[[Any, Array], Array]


def in_turn(addresses: Array, once: Callable[[slice], Array]) -> Array:
    """Do atomic accesses, one thread after another where they meet at one place; return the old elements."""
    if len(np.unique(addresses)) == len(addresses):
        return once(slice(None))
    return np.concatenate([once(slice(i, i + 1)) for i in range(len(addresses))])


class Bytes:
    """Bytes that can be seen as rows of elements of any type."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = np.zeros(-(-size // _PAGE) * _PAGE, np.uint8)
        self._views: dict[tuple[Any, int], Array] = {}

    def rows(self, dtype: Any, count: int) -> Array:
        """All of it as rows of `count` elements."""
        key = (dtype, count)
        if key not in self._views:
            self._views[key] = self.data.view(dtype).reshape(-1, count)
        return self._views[key]


class _Owners:
    """Which thread of which block has written each cell of an allocation, after how many barriers."""

    def __init__(self, size: int, cell: int) -> None:
        self._cell = cell
        self._block = np.full(size // cell, _NOBODY, np.int64)
        self._thread = np.full(size // cell, _NOBODY, np.int64)  # nobody: an atomic operation
        self._barriers = np.zeros(size // cell, np.int64)

    def _cells(self, places: Array, size: int) -> Array:
        return (places // self._cell)[:, None] + np.arange(max(size // self._cell, 1))

    def check(
        self, threads: Threads, places: Array, size: int, block: int, barriers: int, *, atomic: bool = False
    ) -> tuple[int, str] | None:
        """Return which access is to what another thread has written with nothing between, and who did it."""
        cells = self._cells(places, size)
        writer, by = self._block[cells], self._thread[cells]
        here = (writer == block) & (by != threads[:, None]) & (self._barriers[cells] == barriers)
        bad = (writer != _NOBODY) & ((writer != block) | here)
        if atomic:  # they may meet each other
            bad &= by != _NOBODY
        if not bad.any():
            return None
        i, j = (int(v) for v in np.argwhere(bad)[0])
        who = "an atomic operation" if by[i, j] == _NOBODY else f"thread {by[i, j]}"
        return i, f"{who} of block number {writer[i, j]}"

    def note(
        self, threads: Threads, places: Array, size: int, block: int, barriers: int, *, atomic: bool
    ) -> None:
        """Remember who has written."""
        cells = self._cells(places, size)
        self._block[cells], self._barriers[cells] = block, barriers
        self._thread[cells] = _NOBODY if atomic else threads[:, None]


class Allocation(Bytes):
    """Global memory that belongs to one array.

    It begins a little after its region, as far as its array lies after a multiple of the largest access.
    """

    def __init__(
        self, name: str, region: int, size: int, dtype: Any, data: Array | None = None, misaligned: int = 0
    ) -> None:
        super().__init__(size + misaligned)
        self.size, self.base = size, (region << _REGION) + misaligned
        self.name, self.dtype, self.written = name, np.dtype(dtype), False
        self.content = self.data[misaligned : misaligned + size]
        if data is not None:
            self.content[...] = data
        self._owners: _Owners | None = None

    @property
    def owners(self) -> _Owners:
        """Who has written what in this launch."""
        if self._owners is None:
            self._owners = _Owners(len(self.data), min(4, self.dtype.itemsize))
        return self._owners

    def describe(self, offset: int) -> str:
        """The place `offset` bytes from the start, in words."""
        element, rest = divmod(offset, self.dtype.itemsize)
        inside = f", byte {rest}" if rest else ""
        count = self.size // self.dtype.itemsize
        return f"element {element}{inside} of {self.name}, which has {count} {self.dtype}"


class GlobalMemory:
    """Allocations, each in its own region of the address space."""

    def __init__(self) -> None:
        self.allocations: list[Allocation] = []
        #: The number of the block that runs, how many barriers it has passed, and whether to look at them.
        self.block = self.barriers = 0
        self.watched = True

    def allocate(
        self, name: str, size: int, dtype: Any = np.uint8, data: Array | None = None, misaligned: int = 0
    ) -> Allocation:
        """Return a new allocation, `misaligned` bytes after an address that suits every access."""
        made = Allocation(name, len(self.allocations) + 1, size, dtype, data, misaligned)
        self.allocations.append(made)
        return made

    def _find(self, threads: Threads, addresses: Array, size: int, what: str) -> list[tuple[Allocation, Any]]:
        """The allocations that the accesses fall into, each with the rows that do."""
        check_alignment(threads, addresses, size)
        regions = addresses >> _REGION
        found: list[tuple[Allocation, Any]] = []
        if (regions == regions[0]).all():
            parts: list[tuple[int, Any]] = [(int(regions[0]), slice(None))]
        else:
            parts = [(int(r), regions == r) for r in np.unique(regions)]
        for region, rows in parts:
            if not 1 <= region <= len(self.allocations):
                i = int(np.flatnonzero(regions == region)[0])
                raise OutOfBounds(f"{what} {self._near(int(addresses[i]))}", int(threads[i]))
            allocation = self.allocations[region - 1]
            offsets = addresses[rows] - allocation.base
            outside = (offsets < 0) | (offsets + size > allocation.size)
            if outside.any():
                i = int(np.flatnonzero(outside)[0])
                raise OutOfBounds(f"{what} {self._near(int(addresses[rows][i]))}", int(threads[rows][i]))
            found.append((allocation, rows))
        return found

    def _near(self, address: int) -> str:
        """An address in words: the nearest array is the one that was meant."""
        nearest = min(
            self.allocations, key=lambda a: max(a.base - address, address - (a.base + a.size)), default=None
        )
        return f"address {address:#x}" if nearest is None else nearest.describe(address - nearest.base)

    def _check_owner(
        self,
        allocation: Allocation,
        threads: Threads,
        places: Array,
        size: int,
        verb: str,
        atomic: bool = False,
    ) -> None:
        if not (self.watched and allocation.written):
            return
        found = allocation.owners.check(threads, places, size, self.block, self.barriers, atomic=atomic)
        if found is not None:
            at = allocation.describe(int(places[found[0]]) - (allocation.base & _IN_REGION))
            raise Race(f"{verb} {at}, which {found[1]} has written in this launch", int(threads[found[0]]))

    def load(self, threads: Threads, addresses: Array, dtype: Any, count: int) -> Array:
        """Return (accesses, count) elements."""
        size = np.dtype(dtype).itemsize * count
        out = np.empty((len(addresses), count), dtype)
        for allocation, rows in self._find(threads, addresses, size, "reads"):
            places = addresses[rows] & _IN_REGION
            self._check_owner(allocation, threads[rows], places, size, "reads")
            out[rows] = allocation.rows(dtype, count)[places // size]
        return out

    def store(self, threads: Threads, addresses: Array, values: Array) -> None:
        """Write (accesses, count) elements."""
        size = values.dtype.itemsize * values.shape[1]
        for allocation, rows in self._find(threads, addresses, size, "writes"):
            mine, places = threads[rows], addresses[rows] & _IN_REGION
            self._check_owner(allocation, mine, places, size, "writes")
            allocation.written = True
            stored = allocation.rows(values.dtype.type, values.shape[1])
            stored[places // size] = values[rows]
            if self.watched:
                allocation.owners.note(mine, places, size, self.block, self.barriers, atomic=False)
                if len(np.unique(places)) < len(places):  # at once: then all must store the same
                    kept = np.ascontiguousarray(stored[places // size]).view(np.uint8)
                    other = (kept != np.ascontiguousarray(values[rows]).view(np.uint8)).any(1)
                    if other.any():
                        i = int(np.flatnonzero(other)[0])
                        at = allocation.describe(int(places[i]) - (allocation.base & _IN_REGION))
                        raise Race(f"writes {at}, and another thread does at the same time", int(mine[i]))

    def update(self, threads: Threads, addresses: Array, dtype: Any, step: Step) -> Array:
        """Atomically replace each element; return the old ones. See :func:`in_turn`."""
        size = np.dtype(dtype).itemsize
        old = np.empty(len(addresses), dtype)
        for allocation, rows in self._find(threads, addresses, size, "updates"):
            mine, places = threads[rows], addresses[rows] & _IN_REGION
            self._check_owner(allocation, mine, places, size, "updates", atomic=True)
            allocation.written = True
            elements = allocation.rows(dtype, 1)[:, 0]

            which = np.arange(len(addresses))[rows]

            def once(
                some: slice, places: Array = places, elements: Array = elements, which: Array = which
            ) -> Array:
                at = places[some] // size
                before = elements[at]
                elements[at] = step(which[some], before)
                return before

            old[rows] = in_turn(places, once)
            if self.watched:
                allocation.owners.note(mine, places, size, self.block, self.barriers, atomic=True)
        return old


class LocalMemory:
    """Each thread's own memory."""

    def __init__(self, threads: int, size: int) -> None:
        self.size = size
        self._stride = -(-size // _PAGE) * _PAGE
        self._bytes = Bytes(threads * self._stride)

    def _place(self, threads: Threads, addresses: Array, size: int) -> Array:
        check_alignment(threads, addresses, size)
        offsets = addresses - SHARED_START
        outside = (offsets < 0) | (offsets + size > self.size)
        if outside.any():
            i = first_of(outside)
            raise OutOfBounds(
                f"accesses {size} bytes at byte {int(offsets[i])} of {self.size} bytes of local memory",
                int(threads[i]),
            )
        return (threads * self._stride + offsets) // size

    def load(self, threads: Threads, addresses: Array, dtype: Any, count: int) -> Array:
        """Return (accesses, count) elements."""
        size = np.dtype(dtype).itemsize * count
        return self._bytes.rows(dtype, count)[self._place(threads, addresses, size)]

    def store(self, threads: Threads, addresses: Array, values: Array) -> None:
        """Write (accesses, count) elements."""
        size = values.dtype.itemsize * values.shape[1]
        rows = self._bytes.rows(values.dtype.type, values.shape[1])
        rows[self._place(threads, addresses, size)] = values
