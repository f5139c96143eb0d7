"""Weights that are not in memory: large ones stay in their file until their numbers are asked for.

They are read, never mapped: a mapped file that another process cuts short, as h5py does when it writes a
model anew, kills this process, and its pages count as this process's memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from convcore.errors import ModelFormatError

__all__ = ["FileArray", "LazyArray", "Weight", "WeightsFile"]


class LazyArray:
    """A float32 array that is made whenever NumPy asks for its numbers, and not kept.

    Has an array's `shape`, `dtype` and sizes; ``np.asarray`` and :meth:`astype` give the numbers.

    Examples
    --------
    >>> lazy = LazyArray((2, 2), lambda: np.eye(2, dtype=np.float32))
    >>> lazy.size, np.asarray(lazy)[0].tolist()
    (4, [1.0, 0.0])
    """

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> None:
        self.shape = shape
        self._read = read

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def astype(self, dtype: Any) -> np.ndarray:
        """The numbers as an array of `dtype`."""
        return self._read().astype(dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a lazy array has no memory to share")
        array = self._read()
        return array if dtype is None else array.astype(dtype, copy=False)


class WeightsFile:
    """A file kept open for its arrays: it may be renamed or deleted, but not changed.

    `check`, if given, is called with the descriptor before the first array is read.
    """

    def __init__(self, file: BinaryIO, where: str, check: Callable[[int], None] | None = None) -> None:
        self.where = where
        self._check = check
        self._descriptor = os.dup(file.fileno())
        self._state = self._now()

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def descriptor(self) -> int:
        """The open file. Raises ModelFormatError if it is no longer what was loaded."""
        if self._now() != self._state:
            raise ModelFormatError(
                self.where, "the file has changed since the model was loaded", remedy="Load it again."
            )
        if self._check is not None:
            self._check(self._descriptor)
            self._check = None
        return self._descriptor

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class FileArray(LazyArray):
    """A C-ordered, native float32 array at byte `offset` of a file."""

    def __init__(self, shape: tuple[int, ...], file: WeightsFile, offset: int, where: str) -> None:
        super().__init__(shape, self._from_file)
        self.file = file
        self.offset = offset
        self.where = where

    def _from_file(self) -> np.ndarray:
        values = np.empty(self.shape, np.float32)
        view, done = memoryview(values.reshape(-1).view(np.uint8).data), 0
        descriptor = self.file.descriptor()
        while done < len(view):
            count = os.preadv(descriptor, [view[done:]], self.offset + done)
            if not count:
                raise ModelFormatError(self.where, "damaged or truncated: ends too early")
            done += count
        self.file.descriptor()
        values.flags.writeable = False
        return values


#: What a graph's nodes have: an array, or something that becomes one.
Weight = np.ndarray | LazyArray
