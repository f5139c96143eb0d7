"""Packed weights kept on disk: one file for one model in one configuration, shared by all its processes.

The file is 64 bytes of prefix, a JSON header, and the arrays from the next multiple of 2 MiB on (so that the
system may map them in huge pages), each on a 64-byte boundary. The prefix has the header's SHA-256, the
header everything that the numbers depend on and every array's SHA-256. A file that is not exactly what is
wanted is never used: there is a warning, and it is written anew.

It is mapped into memory read-only. convcore itself only ever replaces such a file by a whole new one, which
leaves mappings of the old one as they are. Whoever cuts one short in place ends the processes that use it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convcore import __version__, _native
from convcore.errors import ConvcoreWarning, InputError
from convcore.memory import ALIGNMENT
from convcore.writers import replacing

__all__ = ["Wanted", "WeightCache"]

#: Magic, format, header's bytes, file's bytes; then the SHA-256 of these and of the header.
_PREFIX = struct.Struct("<8sQQQ")
_DIGEST_BYTES = 32
_MAGIC, _FORMAT = b"ccpacked", 1
_START = 2 << 20
_HEADER_BYTES = 16 << 20

#: What a step needs: operation, algorithm, name of its result, floats of packed weights.
Wanted = tuple[str, str, str, int]


class _UnusableError(Exception):
    """The file is not what is wanted; says why."""


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(array.data.cast("B")).hexdigest()


class WeightCache:
    """The cache file of one model in one configuration.

    Parameters
    ----------
    folder
        Where it is; made when it is written.
    name
        What the file's name begins with.
    identity
        JSON data that tells this model and configuration from all others: the file's name depends on it.
    state
        JSON data that must be unchanged, such as size and time of the model's files.
    verify
        Check every number of the file, and not the header alone.
    """

    def __init__(
        self, folder: Path, name: str, identity: Mapping[str, Any], state: Any, *, verify: bool = False
    ) -> None:
        self._facts = {
            "convcore": __version__,
            "packing": _native.PACKED_VERSION,
            "identity": dict(identity),
            "state": state,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self.path = folder / f"{name}-{key}.ccpacked"
        self._verify = verify

    def load(self, wanted: Sequence[Wanted]) -> list[np.ndarray] | None:
        """The packed weights, mapped from the file; None if there is none that can be used.

        Warns
        -----
        ConvcoreWarning
            There is a file, but it is damaged, or of another model, version or time; or the model's
            weights held NaN or infinity when they were packed.
        """
        try:
            arrays, notes = self._read(wanted)
        except FileNotFoundError:
            return None
        except (_UnusableError, OSError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            self._warn(f"packed weights not used: {text}; they are packed again")
            return None
        for note in notes:
            warnings.warn(note, ConvcoreWarning, stacklevel=5)
        return arrays

    def _read(self, wanted: Sequence[Wanted]) -> tuple[list[np.ndarray], list[str]]:
        try:
            return self._open(wanted)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            # A right checksum over a header that convcore did not write.
            raise _UnusableError("not written by convcore") from None

    def _open(self, wanted: Sequence[Wanted]) -> tuple[list[np.ndarray], list[str]]:
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _UnusableError("not a regular file")
            header = self._header(file.read(_PREFIX.size + _DIGEST_BYTES), file, status.st_size)
            if {k: header.get(k) for k in self._facts} != self._plain(self._facts):
                raise _UnusableError("of another model, configuration or version, or the model has changed")
            if header["wanted"] != self._plain(wanted):
                raise _UnusableError("packed for other kernels")
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if wanted else b""
        arrays = []
        for (*_, floats), offset, digest in zip(wanted, header["offsets"], header["digests"], strict=True):
            if offset % ALIGNMENT:
                raise _UnusableError("not written by convcore")
            array = np.frombuffer(pages, np.float32, floats, offset)
            if self._verify and _sha256(array) != digest:
                raise _UnusableError("damaged: wrong checksum of its numbers")
            arrays.append(array)
        return arrays, header["notes"]

    @staticmethod
    def _header(prefix: bytes, file: Any, size: int) -> dict[str, Any]:
        """Read the header, trusting nothing before its checksum is right."""
        if len(prefix) < _PREFIX.size + _DIGEST_BYTES or not prefix.startswith(_MAGIC):
            raise _UnusableError("no cache of packed weights")
        _, version, header_bytes, file_bytes = _PREFIX.unpack_from(prefix)
        if version != _FORMAT:
            raise _UnusableError(f"format {version}, expected {_FORMAT}")
        if file_bytes != size or header_bytes > min(size, _HEADER_BYTES):
            raise _UnusableError("damaged or truncated")
        text = file.read(header_bytes)
        if hashlib.sha256(prefix[: _PREFIX.size] + text).digest() != prefix[_PREFIX.size :]:
            raise _UnusableError("damaged: wrong checksum of its header")
        header: dict[str, Any] = json.loads(text)
        return header

    @staticmethod
    def _plain(value: Any) -> Any:
        """As JSON gives it back: tuples are lists."""
        return json.loads(json.dumps(value))

    def save(self, wanted: Sequence[Wanted], packed: Sequence[np.ndarray], notes: Sequence[str]) -> bool:
        """Write the file, whole or not at all: whether it is there. Where that fails there is a warning."""
        offsets, at = [], _START
        for array in packed:
            offsets.append(at)
            at += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        header = {
            **self._facts,
            "wanted": wanted,
            "offsets": offsets,
            "digests": [_sha256(array) for array in packed],
            "notes": list(notes),
        }
        text = json.dumps(header).encode()
        if _PREFIX.size + _DIGEST_BYTES + len(text) > _START:
            return False  # a network of ten thousand layers: not worth a format of its own
        prefix = _PREFIX.pack(_MAGIC, _FORMAT, len(text), at)
        try:
            with replacing(self.path) as file:
                file.write(prefix + hashlib.sha256(prefix + text).digest() + text)
                for offset, array in zip(offsets, packed, strict=True):
                    file.seek(offset)
                    file.write(array.data.cast("B"))
                file.truncate(at)
        except InputError as error:
            self._warn(f"packed weights not kept: {error.problem}")
            return False
        return True

    def _warn(self, text: str) -> None:
        warnings.warn(f"{self.path}: {text}", ConvcoreWarning, stacklevel=6)
