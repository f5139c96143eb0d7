"""Reading HDF5: the only file that knows an HDF5 reader, and imports it only when a file is opened.

The reader is pyfive (``docs/hdf5-choice.md`` says why). It parses the structure; this file gives it a
handle that bounds what it may read, refuses every kind of indirection (links to other places and
files, external storage, virtual datasets), and reads and decodes the numbers itself, because only
then can their size be checked before memory is taken.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from convcore.errors import ConvcoreError, ModelFormatError, WeightsError
from convcore.loader import limits
from convcore.loader.lazy import FileArray, WeightsFile

__all__ = ["SIGNATURE", "Hdf5File", "StoredArray"]

#: The first eight bytes of an HDF5 file.
SIGNATURE = b"\x89HDF\r\n\x1a\n"

_UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF
_COMPACT, _CONTIGUOUS, _CHUNKED = 0, 1, 2
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
#: Most reads of structure in one file: a file of 20,000 weights takes about 300,000. A structure
#: that points back into itself ends here and not never.
_READS = 400_000
_STRUCTURE_BYTES = 256 << 20
#: Arrays of this size and more stay in the file until they are packed.
LAZY_BYTES = 1 << 20


class _StandIn(ModuleType):
    """A module's place while pyfive is imported: has what that needs, and forwards all else to the module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove_stand_ins()
        return getattr(importlib.import_module(self.__name__), name)


class _Fletcher32:
    """For numcodecs' class, of which pyfive makes one object at once, to be used for data it never reads."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("numcodecs").Fletcher32(), name)


def _version(distribution: str) -> str:
    """For importlib.metadata's function, which pyfive asks for its own version."""
    if distribution == "pyfive":
        return ""
    _remove_stand_ins()
    return str(importlib.import_module("importlib.metadata").version(distribution))


#: What pyfive imports for remote files, checksums of chunks and its version, and what it must find there.
#: Four fifths of its time to import; none of it is used, as files are local and chunks are decoded here.
_NOT_NEEDED: dict[str, dict[str, Any]] = {
    "fsspec.utils": {},
    "fsspec": {},
    "numcodecs": {"Fletcher32": _Fletcher32},
    "importlib.metadata": {"version": _version, "PackageNotFoundError": ModuleNotFoundError},
}
_importing = threading.Lock()


def _remove_stand_ins() -> None:
    for name in _NOT_NEEDED:
        if isinstance(sys.modules.get(name), _StandIn):
            sys.modules.pop(name, None)


def _import_pyfive() -> ModuleType:
    """Import pyfive, without what it does not need here unless that has been imported already."""
    with _importing:
        if "pyfive" not in sys.modules:
            for name, attributes in _NOT_NEEDED.items():
                if name not in sys.modules:
                    stand_in = sys.modules[name] = _StandIn(name)
                    stand_in.__dict__.update(attributes)
            if isinstance(sys.modules["fsspec"], _StandIn):
                sys.modules["fsspec"].__dict__["utils"] = sys.modules["fsspec.utils"]
            try:
                return importlib.import_module("pyfive")
            finally:
                _remove_stand_ins()
        return importlib.import_module("pyfive")


class _BoundedHandle(io.RawIOBase):
    """A file that counts what is read from it, and is never read beyond its end.

    It has no ``fileno``, so that nothing can map it into memory: a mapped file that another process
    cuts short kills this one.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self._where = where
        self._reads = 0
        self._bytes = 0
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._kept: WeightsFile | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and not 0 <= offset <= self.size:
            raise ModelFormatError(self._where, "damaged: points beyond the end of the file")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.size - self._file.tell():
            raise ModelFormatError(self._where, "damaged or truncated: ends too early")
        self._reads += 1
        self._bytes += size
        if self._reads > _READS or self._bytes > _STRUCTURE_BYTES:
            raise ModelFormatError(self._where, "damaged: its structure points back into itself")
        return self._file.read(size)

    def fill(self, array: np.ndarray, offset: int) -> None:
        """Read the bytes of `array` from `offset`."""
        self.seek(offset)
        view = memoryview(array.reshape(-1).view(np.uint8).data)
        done = 0
        while done < len(view):
            count = self._file.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise ModelFormatError(self._where, "damaged or truncated: ends too early")
            done += count

    def lazy(self, shape: tuple[int, ...], offset: int, where: str) -> FileArray | None:
        """The array at `offset`, to be read when it is needed; None if the bytes are in no file."""
        start = getattr(self._file, "start", 0)  # of a member of an archive
        if self._kept is None:
            try:
                self._kept = WeightsFile(self._file, self._where, getattr(self._file, "check", None))
            except OSError:
                return None
        return FileArray(shape, self._kept, start + offset, where)

    def finish(self) -> None:
        """Look at the checksum, if there is one that nobody will look at later."""
        check = getattr(self._file, "check", None)
        if check is not None and self._kept is None:
            check(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        super().close()


class StoredArray(NamedTuple):
    """An array in a weights file that has not been read yet."""

    path: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray | FileArray]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Hdf5File:
    """A model's HDF5 file, read only, as a tree of groups with attributes and arrays.

    Parameters
    ----------
    source
        A path, or a file open for reading, which is closed with this one.
    where
        What errors call it.

    Raises
    ------
    ModelFormatError
        The file is damaged, or uses a part of HDF5 that no Keras file needs: soft or external
        links, external or virtual storage, filters other than deflate, shuffle and fletcher32.
    """

    def __init__(self, source: Path | BinaryIO, where: str) -> None:
        self.where = where
        file: BinaryIO = source.open("rb") if isinstance(source, Path) else source
        try:
            with self._guarded():
                pyfive = _import_pyfive()
                self._handle = _BoundedHandle(file, where)
                limits.check_size(self._handle.size, limits.FILE_BYTES, where, "file")
                self._pyfive = pyfive
                self._root = pyfive.File(self._handle)
                self._groups: dict[str, Any] = {"": self._root}
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._handle.finish()
        finally:
            self._handle.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        # A damaged file can make the reader fail in any way at all (struct.error, AssertionError,
        # RecursionError, ...): to a caller they are all one thing.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except (ConvcoreError, ImportError):
            raise
        except Exception as error:
            raise ModelFormatError(
                self.where, f"damaged HDF5 ({type(error).__name__}: {error})", remedy="Copy the file again."
            ) from error

    def children(self, path: str) -> tuple[str, ...]:
        """Names in the group `path` ("" is the root), or nothing if there is no such group."""
        group = self._find(path)
        return tuple(group) if isinstance(group, self._pyfive.Group) else ()

    def is_group(self, path: str) -> bool:
        """Whether there is a group at `path`."""
        return isinstance(self._find(path), self._pyfive.Group)

    def attribute(self, path: str, name: str) -> Any:
        """The attribute `name` of the group `path`: a ``str``, an array, or ``None`` if there is none."""
        group = self._find(path)
        if group is None:
            return None
        with self._guarded():
            value = group.attrs.get(name)
            if isinstance(value, bytes | np.bytes_):
                value = value.decode("utf-8")
            return str(value) if isinstance(value, str) else value

    def names(self, path: str, name: str) -> tuple[str, ...] | None:
        """The list of strings in attribute `name`, or in its parts ``name0``, ``name1``, ...

        Keras splits a list that is too long for one attribute. ``None`` if there is neither.
        """
        value = self.attribute(path, name)
        parts = [value]
        if value is None:
            parts = []
            while (part := self.attribute(path, f"{name}{len(parts)}")) is not None:
                parts.append(part)
            if not parts:
                return None
        with self._guarded():
            items = [item for part in parts for item in np.atleast_1d(np.asarray(part)).reshape(-1).tolist()]
            return tuple(i.decode("utf-8") if isinstance(i, bytes) else str(i) for i in items)

    def array(self, path: str) -> StoredArray | None:
        """The array at `path`, checked but not read; ``None`` if there is none."""
        dataset = self._find(path)
        if not isinstance(dataset, self._pyfive.Dataset):
            return None
        where = f"{self.where}: {path}"
        with self._guarded():
            shape = tuple(int(d) for d in dataset.shape)
            limits.check_shape(shape, where)
            return StoredArray(path, shape, lambda: self._read(dataset, shape, where))

    def _find(self, path: str) -> Any:
        """The object at `path`, or None. Only direct (hard) links are followed."""
        path = path.strip("/")
        if path in self._groups:
            return self._groups[path]
        parent_path, _, name = path.rpartition("/")
        if path.count("/") > limits.DEPTH:
            raise ModelFormatError(self.where, "groups nest too deeply", expected=f"{limits.DEPTH} levels")
        parent = self._find(parent_path)
        if not isinstance(parent, self._pyfive.Group):
            return None
        with self._guarded():
            if name in ("", ".", ".."):
                return None
            try:
                # get_lazy_view reads no chunk index yet. A soft link gives an object of another name.
                found = parent.get_lazy_view(name)
            except KeyError:  # asked beforehand (`in`), pyfive would make the object and its index to see
                return None
            if found is None or found.name.strip("/") != path:
                raise ModelFormatError(
                    self.where, f"{path} is a link", remedy="Links inside a model file are never followed."
                )
        self._groups[path] = found
        return found

    def _read(self, dataset: Any, shape: tuple[int, ...], where: str) -> np.ndarray | FileArray:
        """Read a dataset as float32, unless it is large and its numbers lie in the file just so."""
        with self._guarded():
            dtype = np.dtype(dataset.dtype)
            # NumPy has no bfloat16: Keras stores its bits as they are and says so.
            brain = dtype.itemsize == 2 and dataset.attrs.get("dtype") in ("bfloat16", b"bfloat16")
            if not brain and dtype.kind not in "fiu":
                raise WeightsError(where, "not an array of numbers", got=str(dtype))
            stored = np.dtype("<u2") if brain else dtype
            limits.check_size(math.prod(shape) * stored.itemsize, limits.FILE_BYTES, where, "array")
            layout = dataset.id.layout_class
            if layout == _CONTIGUOUS:
                offset = self._offset(dataset, shape, stored, where)
                if stored == np.float32 and math.prod(shape) * 4 >= LAZY_BYTES:
                    lazy = self._handle.lazy(shape, offset, where)
                    if lazy is not None:
                        return lazy
                values = np.empty(shape, stored)
                self._handle.fill(values, offset)
            elif layout == _CHUNKED:
                values = self._chunked(dataset, shape, stored, where)
            elif layout == _COMPACT:
                # Compact: the numbers are part of the structure, at most 64 KiB, already read.
                values = np.asarray(dataset[()]).view(stored).reshape(shape)
            else:
                raise ModelFormatError(where, "virtual dataset", remedy="Its numbers are in other files.")
            if brain:
                return (values.astype(np.uint32) << 16).view(np.float32)
            return np.ascontiguousarray(values, np.float32)

    def _stored(self, got: int, expected: int, where: str) -> None:
        if got != expected:
            raise ModelFormatError(where, "stored size and shape differ", got=got, expected=expected)

    def _offset(self, dataset: Any, shape: tuple[int, ...], dtype: np.dtype, where: str) -> int:
        """Where in the file the numbers of a contiguous dataset begin; all of them are in it."""
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return 0
        offset = dataset.id.data_offset
        if offset == _UNDEFINED:
            raise ModelFormatError(
                where, "its numbers are not in this file", remedy="External storage is never opened."
            )
        offset += self._root.userblock_size
        if offset + size > self._handle.size:
            raise ModelFormatError(
                where, "damaged or truncated", got=f"{self._handle.size} bytes", expected=offset + size
            )
        return int(offset)

    def _chunked(self, dataset: Any, shape: tuple[int, ...], dtype: np.dtype, where: str) -> np.ndarray:
        chunk = tuple(int(c) for c in dataset.chunks)
        filters = [f["filter_id"] for f in dataset.id.filter_pipeline or ()]
        if set(filters) - {_DEFLATE, _SHUFFLE, _FLETCHER32}:
            raise ModelFormatError(
                where, "unknown filter", got=filters, expected="deflate (1), shuffle (2), fletcher32 (3)"
            )
        limits.check_shape(chunk, where)
        if len(chunk) != len(shape) or 0 in chunk:
            raise ModelFormatError(where, "impossible chunks", got=chunk, expected=f"{len(shape)} sizes")
        expected = math.prod(-(-size // step) for size, step in zip(shape, chunk, strict=True))
        # A chunk larger than its array is legal, and would be a way to ask for any amount of memory.
        size = math.prod(chunk) * dtype.itemsize
        limits.check_size(size, max(1 << 20, 16 * math.prod(shape) * dtype.itemsize), where, "chunk")
        self._stored(dataset.id.get_num_chunks(), expected, where)
        values = np.empty(shape, dtype)
        for index in range(expected):
            info = dataset.id.get_chunk_info(index)
            corner = tuple(int(c) for c in info.chunk_offset)
            if any(c % step or c >= n for c, step, n in zip(corner, chunk, shape, strict=True)):
                raise ModelFormatError(where, "a chunk lies outside its array", got=corner)
            raw = np.empty(_bounded(info.size, self._handle.size, where), np.uint8)
            self._handle.fill(raw, int(info.byte_offset) + self._root.userblock_size)
            data = _decode(raw.tobytes(), filters, info.filter_mask, size, dtype.itemsize, where)
            block = np.frombuffer(data, dtype).reshape(chunk)
            place = tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, chunk, shape, strict=True))
            values[place] = block[tuple(slice(0, p.stop - p.start) for p in place)]
        return values


def _bounded(size: int, limit: int, where: str) -> int:
    if not 0 <= size <= limit:
        raise ModelFormatError(where, "damaged: a chunk is larger than its file", got=size)
    return int(size)


def _decode(data: bytes, filters: list[int], mask: int, size: int, itemsize: int, where: str) -> bytes:
    """Undo the filters of one chunk, never making more than `size` bytes (and its checksum)."""
    for position in reversed(range(len(filters))):
        if mask >> position & 1:
            continue
        kind = filters[position]
        if kind == _DEFLATE:
            decoder = zlib.decompressobj()
            data = decoder.decompress(data, size + 4)
            if not decoder.eof:
                raise ModelFormatError(where, "damaged: a compressed chunk has the wrong size")
        elif kind == _SHUFFLE:
            whole = len(data) // itemsize * itemsize
            planes = np.frombuffer(data[:whole], np.uint8).reshape(itemsize, -1)
            data = planes.T.tobytes() + data[whole:]
        else:
            data, checksum = data[:-4], data[-4:]
            if _fletcher32(data) != int.from_bytes(checksum, "little"):
                raise ModelFormatError(where, "damaged: a chunk's checksum is wrong")
    if len(data) != size:
        raise ModelFormatError(where, "damaged: a chunk has the wrong size", got=len(data), expected=size)
    return data


def _fletcher32(data: bytes) -> int:
    """HDF5's checksum: two sums, modulo 65535, over big-endian 16-bit words."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    first = second = 0
    # In blocks, so that the weighted sum stays below 2**63: 65536 * 65536 * 65535 < 2**48.
    for start in range(0, len(words), 1 << 16):
        block = words[start : start + (1 << 16)]
        weights = np.arange(len(block), 0, -1, dtype=np.uint64)
        second = (second + len(block) * first + int((block * weights).sum())) % 65535
        first = (first + int(block.sum())) % 65535
    return second << 16 | first
