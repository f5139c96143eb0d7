"""Arrays in awkward places: between forbidden pages, strided, reversed, at odd addresses."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_PROT_NONE = 0
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[mmap.mmap] = []  # a mapping that is collected would give its pages to someone else


def guarded(shape: tuple[int, ...], dtype: Any, *, at_end: bool, alignment: int = 1) -> Array:
    """Return an array between two pages that nobody may touch, ending (or beginning) right at one."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    inner = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    region = mmap.mmap(-1, inner + 2 * mmap.PAGESIZE)
    _kept.append(region)
    base = ctypes.addressof(ctypes.c_char.from_buffer(region))
    for page in (base, base + mmap.PAGESIZE + inner):
        if _libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = mmap.PAGESIZE + ((inner - size) // alignment * alignment if at_end else 0)
    return np.ndarray(shape, dtype, buffer=region, offset=offset)


def forget_guarded() -> None:
    """Give back the pages of guarded arrays that nobody holds any more."""
    alive = []
    for region in _kept:
        try:
            region.close()
        except BufferError:
            alive.append(region)
    _kept[:] = alive


def guarded_copy(a: Array, *, at_end: bool) -> Array:
    """Return a contiguous copy of `a` between forbidden pages."""
    copy = guarded(a.shape, a.dtype, at_end=at_end)
    copy[...] = a
    return copy


def _filled(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of what must neither be read nor written: NaN, or a loud integer."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)


def gaps(a: Array) -> Array:
    """Every element surrounded by ones that must not be touched."""
    view = _filled(tuple(3 * n + 1 for n in a.shape), a.dtype)[(slice(1, None, 3),) * a.ndim]
    view = view[tuple(slice(0, n) for n in a.shape)]
    view[...] = a
    return view


def reverse(a: Array) -> Array:
    """Negative steps on every axis."""
    copy = np.ascontiguousarray(np.flip(a))
    return np.flip(copy)


def transpose(a: Array) -> Array:
    """The first axis is the one whose neighbours are closest."""
    return np.asfortranarray(a)


def unaligned(a: Array) -> Array:
    """Elements at odd addresses."""
    raw = np.empty(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def big_endian(a: Array) -> Array:
    """The other byte order."""
    return a.astype(a.dtype.newbyteorder("S"))


AWKWARD: tuple[Callable[[Array], Array], ...] = (gaps, reverse, transpose, unaligned, big_endian)
