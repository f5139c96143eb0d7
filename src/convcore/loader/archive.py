"""Members of a ``.keras`` zip file, and NumPy's ``.npz``, read in memory and within bounds.

Nothing is ever extracted to disk.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from convcore.errors import ModelFormatError, UnsafeModelError, WeightsError, printable
from convcore.loader import limits
from convcore.loader.hdf5 import LAZY_BYTES, StoredArray

#: From this size on, a member's checksum is looked at when its numbers are first needed: a packed-weight
#: cache does without them.
_LARGE = 8 << 20
#: Longest header of an array that is looked at.
_HEADER_BYTES = 1 << 12


class Archive:
    """The members of a zip file."""

    def __init__(self, source: Path | bytes, where: str) -> None:
        self.where = where
        self._path = source if isinstance(source, Path) else None
        with self._guarded():
            self._zip = zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        names = self._zip.namelist()
        if len(names) > limits.NODES or len(set(names)) != len(names):
            raise ModelFormatError(where, "archive with too many members, or two of the same name")

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Names of the members."""
        return self._zip.namelist()

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a member, at most `limit`, whatever its header says."""
        with self._guarded():
            info = self._zip.getinfo(name)
            limits.check_size(info.file_size, limit, f"{self.where}: {name}", "member")
            with self._zip.open(info) as member:
                data = member.read(limit + 1)
        limits.check_size(len(data), limit, f"{self.where}: {name}", "member")
        return data

    def open(self, name: str, limit: int) -> BinaryIO:
        """A member as a seekable file; a large one that is stored uncompressed is not read into memory."""
        with self._guarded():
            info = self._zip.getinfo(name)
            stored = info.compress_type == zipfile.ZIP_STORED
            if self._path is None or not stored or info.file_size < LAZY_BYTES:
                return io.BytesIO(self.read(name, limit))
            limits.check_size(info.file_size, limit, f"{self.where}: {name}", "member")
            window = _Window(self._path, info)
            if info.file_size < _LARGE:
                try:
                    self._check(window.fileno(), window.start, info)
                except BaseException:
                    window.close()
                    raise
            else:
                window.check = lambda descriptor: self._check(descriptor, window.start, info)
            return cast(BinaryIO, window)

    def _check(self, descriptor: int, start: int, info: zipfile.ZipInfo) -> None:
        """Compare a stored member's checksum."""
        checksum, at = 0, 0
        with self._guarded():
            while block := os.pread(descriptor, min(1 << 20, info.file_size - at), start + at):
                checksum = zlib.crc32(block, checksum)
                at += len(block)
            if checksum != info.CRC or at != info.file_size:
                raise zipfile.BadZipFile(f"wrong checksum of {info.filename}")

    def start(self, name: str, count: int) -> bytes:
        """The first `count` bytes of a member."""
        with self._guarded(), self._zip.open(name) as member:
            return member.read(count)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            EOFError,
            OSError,
            ValueError,
            RuntimeError,
        ) as error:
            if isinstance(error, ModelFormatError):
                raise
            raise ModelFormatError(
                self.where, f"damaged archive ({error})", remedy="Copy the file again."
            ) from error


class _Window(io.RawIOBase):
    """The bytes of one uncompressed member, read from the archive's own file.

    `check`, if it is not None, must be called with the file's descriptor before the bytes are believed.
    """

    check: Callable[[int], None] | None = None

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._file = path.open("rb")
        self._file.seek(info.header_offset)
        # A local header: 26 bytes, the lengths of the name and of the extra field, then those two.
        name, extra = struct.unpack("<26xHH", self._file.read(30))
        self.start: int = info.header_offset + 30 + name + extra
        self._size: int = info.file_size
        self.seek(0)

    def fileno(self) -> int:
        return self._file.fileno()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._file.seek(self.start + max(base + offset, 0))
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell() - self.start)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        return int(self._file.readinto(view[: max(self._size - self.tell(), 0)]))

    def close(self) -> None:
        self._file.close()
        super().close()


def npz_variables(data: bytes, where: str) -> dict[str, list[StoredArray]]:
    """The variables of a ``model.weights.npz``: path of their owner -> arrays, in order.

    Arrays are called ``<path>/vars/<number>``, as in Keras's HDF5 weights. What ``numpy.savez`` makes
    of Keras's own dictionaries is Python pickles, which are refused: reading them runs code.
    """
    inner = Archive(data, where)
    found: dict[str, dict[int, StoredArray]] = {}
    for member in inner.names:
        path, _, number = member.removesuffix(".npy").rpartition("/")
        if not number.isdecimal() or path.rpartition("/")[2] != "vars":
            _refuse_pickle(inner, member, where)
            raise WeightsError(where, f"name of an array {printable(member)!r}", expected="PATH/vars/0")
        found.setdefault(path.removesuffix("vars").strip("/"), {})[int(number)] = _npy(inner, member, where)
    for owner, arrays in found.items():
        if sorted(arrays) != list(range(len(arrays))):
            raise WeightsError(where, f"{owner}: variables", got=sorted(arrays), expected="0, 1, ...")
    return {owner: [arrays[i] for i in range(len(arrays))] for owner, arrays in found.items()}


def _header(archive: Archive, member: str, where: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, Fortran order, type and length of the header of one ``.npy`` member."""
    stream = io.BytesIO(archive.start(member, _HEADER_BYTES))
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=_HEADER_BYTES)
    except ValueError as error:
        raise ModelFormatError(where, f"{printable(member)!r} is no array ({error})") from error
    limits.check_shape(shape, where)
    return shape, fortran, dtype, stream.tell()


def _refuse_pickle(archive: Archive, member: str, where: str) -> None:
    if _header(archive, member, where)[2].hasobject:
        raise UnsafeModelError(
            where,
            f"{printable(member)!r} is a Python pickle, which convcore never opens",
            remedy="Save the model again with its weights as HDF5, Keras's default.",
        )


def _npy(archive: Archive, member: str, where: str) -> StoredArray:
    _refuse_pickle(archive, member, where)
    shape, fortran, dtype, start = _header(archive, member, where)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "fiu":
        raise WeightsError(where, f"{printable(member)!r} is not an array of numbers", got=str(dtype))

    def read() -> np.ndarray:
        data = archive.read(member, start + size)
        if len(data) != start + size:
            raise ModelFormatError(where, f"{printable(member)!r} is cut short", got=len(data), expected=size)
        values = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
        return np.ascontiguousarray(values, np.float32)

    return StoredArray(member, tuple(shape), read)
