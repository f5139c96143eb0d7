"""Bytes of input files, and whether those of a picture are all there before a decoder sees them.

Decoders fill what a cut-short JPEG lacks with grey and a damaged PNG with black, and say nothing: a
network would then classify the grey. Both formats say where they end, and PNG carries checksums.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from convcore.errors import InputError

__all__ = ["MAX_PIXELS", "check_picture", "read_bytes"]

#: Pictures with more pixels are refused before they are decoded (a few bytes can claim billions).
MAX_PIXELS = 1 << 27

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
START_OF_SCAN = 0xDA
# SOF0 to SOF15 carry the size; DHT, JPG and DAC share their range.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_bytes(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """Return a file's bytes; :class:`InputError` if it is missing, empty or larger than `limit`."""
    file = Path(path)
    try:
        size = file.stat().st_size
        if limit is not None and size > limit:
            raise InputError(str(file), "is too large", got=f"{size} bytes", expected=f"at most {limit}")
        data = file.read_bytes()
    except OSError as error:
        raise InputError(str(file), f"cannot be read: {error.strerror or error}") from None
    if not data:
        raise InputError(str(file), "is empty")
    return data


def check_picture(data: bytes, where: str) -> None:
    """Raise :class:`InputError` unless `data` is a whole JPEG or PNG file of a reasonable size.

    Parameters
    ----------
    data
        The file's bytes.
    where
        What to call it in an error.
    """
    if data.startswith(PNG_SIGNATURE):
        _check_png(data, where)
    elif data.startswith(JPEG_START):
        _check_jpeg(data, where)
    else:
        raise InputError(
            where, "is no picture", got=f"a file that starts with {data[:8]!r}", expected="JPEG or PNG"
        )


def _check_png(data: bytes, where: str) -> None:
    position = len(PNG_SIGNATURE)
    while True:
        if position + 12 > len(data):
            raise _cut_short(where, "PNG", "its end chunk is missing")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _cut_short(where, "PNG", f"{end - len(data)} bytes are missing")
        body = memoryview(data)[position + 4 : end - 4]
        if zlib.crc32(body) != struct.unpack_from(">I", data, end - 4)[0]:
            raise InputError(where, f"the PNG file is damaged: the checksum of a {kind!r} chunk is wrong")
        if kind == b"IHDR" and length >= 8:
            width, height = struct.unpack_from(">II", data, position + 8)
            _check_size(width, height, where)
        if kind == b"IEND":
            return
        position = end


def _check_jpeg(data: bytes, where: str) -> None:
    position = len(JPEG_START)
    while True:
        # A marker may be preceded by any number of fill bytes 0xFF.
        if position + 4 > len(data):
            raise _cut_short(where, "JPEG", "it ends before its pixels start")
        if data[position] != 0xFF:
            raise InputError(where, f"the JPEG file is damaged: no marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = struct.unpack_from(">H", data, position + 2)[0]
        if marker in START_OF_FRAME and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            _check_size(width, height, where)
        position += 2 + length
        if marker == START_OF_SCAN:
            break
    # Inside a scan 0xFF is always followed by 0x00 or a restart marker, so this is the end itself; an
    # EXIF thumbnail, which has an end of its own, lies before the scan.
    if data.find(JPEG_END, position) < 0:
        raise _cut_short(where, "JPEG", "its end marker is missing")


def _check_size(width: int, height: int, where: str) -> None:
    if not width or not height or width * height > MAX_PIXELS:
        raise InputError(
            where, "the picture's size", got=f"{width} x {height}", expected=f"1 to {MAX_PIXELS} pixels"
        )


def _cut_short(where: str, kind: str, detail: str) -> InputError:
    return InputError(where, f"the {kind} file is cut short: {detail}")
