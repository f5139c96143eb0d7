"""Aligned memory for weights, arenas and workspaces."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

#: A cache line; also the width of the widest vector.
ALIGNMENT = 64
#: From this size on, ask for huge pages: 494 MB in 4 KiB pages are 120,000 page faults.
_HUGE = 4 << 20


def aligned_floats(count: int) -> NDArray[np.float32]:
    """Return `count` float32 on a 64-byte boundary, not initialised; ``MemoryError`` if there is none.

    Examples
    --------
    >>> aligned_floats(3).ctypes.data % ALIGNMENT
    0
    """
    size = max(count, 1) * 4
    if size >= _HUGE:
        try:
            pages = mmap.mmap(-1, size)
        except OSError as error:
            raise MemoryError(f"no memory for {size:,} bytes") from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            pages.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(pages, np.float32, count)
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(np.float32)[:count]
