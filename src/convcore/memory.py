"""Aligned memory for weights, arenas and workspaces."""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A cache line; also the width of the widest vector.
ALIGNMENT = 64
#: From this size on, ask for huge pages: 494 MB in 4 KiB pages are 120,000 page faults.
_HUGE = 4 << 20
_HUGE_PAGE = 2 << 20


def aligned_floats(count: int) -> NDArray[np.float32]:
    """Return `count` float32 on a 64-byte boundary, not initialised; ``MemoryError`` if there is none.

    Examples
    --------
    >>> aligned_floats(3).ctypes.data % ALIGNMENT
    0
    """
    size = max(count, 1) * 4
    if size >= _HUGE:
        return _huge_floats(count, size)
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(np.float32)[:count]


def asks_for_huge_pages(size: int) -> bool:
    """Whether :func:`aligned_floats` asks for huge pages for so many bytes, on systems that have them."""
    return size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE")


def _huge_floats(count: int, size: int) -> NDArray[np.float32]:
    # Whole huge pages. What mmap gives by default is shared memory, which Linux keeps in small ones.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        pages = mmap.mmap(-1, -(-size // _HUGE_PAGE) * _HUGE_PAGE + _HUGE_PAGE, **private)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for {size:,} bytes") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    start = -np.frombuffer(pages, np.uint8, 1).ctypes.data % _HUGE_PAGE
    return np.frombuffer(pages, np.float32, count, start)
