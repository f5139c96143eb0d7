"""One DICOM file of a CT series: its header as numbers, and its pixels as integers.

Files are somebody else's and may be damaged or hostile, so: only regular files are opened, no read
goes past the end of the file, sizes are checked before anything is allocated, and no value out of
the file appears in an error or a warning, because any value may be a patient's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.errors import SeriesError
from convcore.extras import import_pydicom

__all__ = ["OtherImage", "SliceHeader", "open_regular", "read_header", "read_pixels", "reads_as_dicom"]

MAX_FILE_BYTES = 1 << 30
MAX_SIDE = 8192
TRANSFER_SYNTAX = 0x00020010
DEFLATED = b"1.2.840.10008.1.2.1.99"
DICOMDIR = "1.2.840.10008.1.3.10"
# Suffixes that scanners and archives give to slices: such a file is meant to be one.
DICOM_SUFFIXES = {".dcm", ".dicom", ".dic", ".ima"}


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What the volume needs to know of one slice. Lengths in mm; no patient data.

    ``padding_value`` is the stored value that marks pixels outside the scan field, read in the
    slice's own pixel representation (63536 in a signed image is -2000), or None if the file names none.
    ``padding_limit`` is the other end of the range if the file names a range.
    """

    path: Path
    series_uid: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    pixel_spacing: tuple[float, float]
    orientation: tuple[float, ...]
    position: tuple[float, float, float]
    frame_of_reference: str
    slope: float
    intercept: float
    padding_value: int | None
    padding_limit: int | None
    transfer_syntax: str
    n_warnings: int

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True)
class OtherImage:
    """A DICOM file that is not part of the series wanted, or no CT image: only what it belongs to."""

    path: Path
    series_uid: str
    modality: str

    @property
    def name(self) -> str:
        return self.path.name


class _Bounded(io.BufferedReader):
    """A file whose reads stop at its end before memory is asked for, whatever length a tag declares."""

    def __init__(self, raw: io.FileIO, size: int) -> None:
        super().__init__(raw)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; a FIFO or device raises :class:`SeriesError` and never blocks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise SeriesError(path.name, f"cannot be opened: {error.strerror}") from None
    info = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(info.st_mode):
        problem = "is no regular file"
    elif info.st_size > MAX_FILE_BYTES:
        problem = f"is {info.st_size} bytes long; a slice has at most {MAX_FILE_BYTES}"
    if problem:
        os.close(descriptor)
        raise SeriesError(path.name, problem)
    return _Bounded(io.FileIO(descriptor), info.st_size)


def reads_as_dicom(path: Path) -> bool:
    """Return whether a file is DICOM; False only if it clearly is something else.

    Raises :class:`SeriesError` for what is meant to be a slice but is damaged: a ``.dcm`` file without
    the DICOM mark, a data set without its preamble, an empty file without a suffix.
    """
    with open_regular(path) as file:
        head = file.read(132)
    if head[128:132] == b"DICM":
        return True
    # A data set without preamble starts with a low group number: 0002 or 0008, little or big endian.
    bare = head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08") and len(head) >= 8
    suffix = path.suffix.lower()
    cut_short = len(head) < 132 and (not suffix or suffix[1:].isdigit()) and not path.name.startswith(".")
    if bare or suffix in DICOM_SUFFIXES or cut_short:
        raise SeriesError(
            path.name,
            "is meant to be a DICOM file but is damaged",
            got=f"{len(head)} bytes" if len(head) < 132 else "no DICOM mark at byte 128",
            remedy="Repair the file's preamble and meta header, or take it out of the folder.",
        )
    return False


def read_header(path: Path, series_uid: str | None = None) -> SliceHeader | OtherImage | None:
    """Read one slice's header and check that the slice is a plain CT image.

    Returns an :class:`OtherImage`, unchecked, for a file of another modality, or of another series than
    `series_uid` if that is given; None for a DICOMDIR, which is an index and holds no image.

    Raises
    ------
    SeriesError
        The file is damaged, is no single-frame MONOCHROME2 image of 8 or 16 bits, or lacks the
        attributes that place it in space and give it Hounsfield units.
    """
    with _reading(path) as caught, open_regular(path) as file:
        dataset = import_pydicom().dcmread(_without_deflation(file, path), stop_before_pixels=True)
        if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == DICOMDIR:
            return None
        tags = _Tags(dataset, path.name)
        uid = tags.text("SeriesInstanceUID")
        if not uid or not all(c.isdigit() or c == "." for c in uid):
            raise SeriesError(path.name, "has no valid SeriesInstanceUID, so it belongs to no series")
        modality = _code(tags.text("Modality"))
        if modality != "CT" or (series_uid is not None and uid != series_uid):
            return OtherImage(path, uid, modality)
        header = _header(tags, path, uid)
    return replace(header, n_warnings=len(caught))


def read_pixels(header: SliceHeader) -> NDArray[Any]:
    """Decode one slice's stored values: int16 or uint16, shape (rows, columns).

    Bits above BitsStored are masked off and signed values sign-extended. Pixels that carry the padding
    value, or lie in the padding range, all come back as ``padding_value``.
    """
    path = header.path
    with _reading(path), open_regular(path) as file:
        dataset = import_pydicom().dcmread(file)
        if (dataset.Rows, dataset.Columns) != (header.rows, header.columns):
            raise SeriesError(path.name, "has changed since its header was read")
        if "PixelData" not in dataset:
            raise SeriesError(path.name, "has no pixel data (the file is cut short, or holds no image)")
        needed = header.rows * header.columns * header.bits_allocated // 8
        if not dataset.file_meta.TransferSyntaxUID.is_compressed and len(dataset.PixelData) < needed:
            raise SeriesError(
                path.name,
                "is cut short",
                got=f"{len(dataset.PixelData)} bytes of pixels",
                expected=f"{needed} bytes",
            )
        _check_decoder(header)
        # The bits above BitsStored are wanted here: a padding value may use them (see _as_16_bit).
        stored = np.asarray(import_pydicom().pixels.pixel_array(dataset, correct_unused_bits=False))
    if stored.shape != (header.rows, header.columns):
        raise SeriesError(
            path.name, got=f"an image of shape {stored.shape}", expected=(header.rows, header.columns)
        )
    return _as_16_bit(stored, header)


def _as_16_bit(stored: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    wide = np.int16 if header.signed else np.uint16
    values = stored.astype(wide)
    padding = None
    if header.padding_value is not None:
        # Compared before masking: scanners write 63536 into images of 12 stored bits.
        limit = header.padding_value if header.padding_limit is None else header.padding_limit
        low, high = sorted((header.padding_value, limit))
        padding = (values >= low) & (values <= high)
    unused = 16 - header.bits_stored
    if unused:
        # Up and down again: a logical shift for unsigned values, an arithmetic one for signed.
        values = (values << unused) >> unused
    if padding is not None:
        values[padding] = np.asarray(header.padding_value, wide)
    return np.ascontiguousarray(values)


def _check_decoder(header: SliceHeader) -> None:
    pydicom = import_pydicom()
    uid = pydicom.uid.UID(header.transfer_syntax)
    if not uid.is_compressed:
        return
    try:
        decoder = pydicom.pixels.get_decoder(uid)
    except NotImplementedError:
        raise SeriesError(header.name, f"its compression ({uid.name}) cannot be decoded by pydicom") from None
    if not decoder.is_available:
        raise SeriesError(
            header.name,
            f"no decoder is installed for its compression, {uid.name}",
            got=", ".join(decoder.missing_dependencies),
            remedy="Install the decoders with: pip install convcore[app]",
        )


def _without_deflation(file: io.BufferedReader, path: Path) -> io.BufferedReader:
    # pydicom inflates such files whole and without a limit, so a small file could ask for any memory.
    file.seek(132)
    meta = import_pydicom().filereader.data_element_generator(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag >> 16 != 2
    )
    if any(element.tag == TRANSFER_SYNTAX and element.value.strip(b"\0 ") == DEFLATED for element in meta):
        raise SeriesError(
            path.name,
            "is a deflated data set, which is not read",
            remedy="Rewrite it as Explicit VR Little Endian.",
        )
    file.seek(0)
    return file


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[list[warnings.WarningMessage]]:
    """Turn whatever pydicom raises into a SeriesError without the file's values; keep its warnings quiet."""
    logger = logging.getLogger("pydicom")

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    except (SeriesError, ImportError):
        raise
    except Exception as error:
        problem = f"is damaged or no image that can be read ({type(error).__name__})"
        raise SeriesError(path.name, problem) from None
    finally:
        logger.removeFilter(drop)


class _Tags:
    """Typed look-ups in a data set; an error names the attribute and never its value."""

    def __init__(self, dataset: Any, where: str) -> None:
        self.dataset = dataset
        self.where = where

    def numbers(self, keyword: str, count: int) -> tuple[float, ...]:
        value = self._needed(keyword)
        try:
            values = tuple(float(v) for v in (value if count > 1 else [value]))
        except (TypeError, ValueError):
            raise self.wrong(keyword) from None
        if len(values) != count or not all(isfinite(v) for v in values):
            raise self.wrong(keyword)
        return values

    def integer(self, keyword: str, low: int, high: int) -> int:
        value = self._needed(keyword)
        if not isinstance(value, int) or not low <= value <= high:
            raise SeriesError(self.where, f"{keyword} is out of range", expected=f"{low} to {high}")
        return value

    def text(self, keyword: str, default: str = "") -> str:
        return str(self.dataset.get(keyword, default))

    def wrong(self, keyword: str) -> SeriesError:
        return SeriesError(self.where, f"{keyword} is not what the standard asks for")

    def _needed(self, keyword: str) -> Any:
        value = self.dataset.get(keyword)
        if value is None or value == "":
            raise SeriesError(self.where, f"has no {keyword}", expected="a CT image that names it")
        return value


def _header(tags: _Tags, path: Path, uid: str) -> SliceHeader:
    for keyword, expected in (("SamplesPerPixel", 1), ("NumberOfFrames", 1)):
        if tags.dataset.get(keyword, expected) != expected:
            raise SeriesError(
                path.name, f"{keyword} is not {expected}", expected="one plain grey slice a file"
            )
    photometric = tags.text("PhotometricInterpretation")
    if photometric != "MONOCHROME2":
        raise SeriesError(
            path.name, f"PhotometricInterpretation is {_code(photometric)}", expected="MONOCHROME2, as CT has"
        )
    allocated = tags.integer("BitsAllocated", 8, 16)
    stored = tags.integer("BitsStored", 1, allocated)
    if allocated % 8 or tags.integer("HighBit", 0, 15) != stored - 1:
        raise SeriesError(
            path.name, "the pixels are packed in an unknown way", expected="HighBit = BitsStored - 1"
        )
    signed = tags.integer("PixelRepresentation", 0, 1) == 1
    if tags.text("RescaleType", "HU") not in ("HU", "US", ""):
        raise SeriesError(path.name, "RescaleType names other units than Hounsfield's", expected="HU")
    spacing = tags.numbers("PixelSpacing", 2)
    slope = tags.numbers("RescaleSlope", 1)[0]
    if min(spacing) <= 0 or slope == 0:
        raise tags.wrong("RescaleSlope" if slope == 0 else "PixelSpacing")
    position = tags.numbers("ImagePositionPatient", 3)
    return SliceHeader(
        path=path,
        series_uid=uid,
        rows=tags.integer("Rows", 1, MAX_SIDE),
        columns=tags.integer("Columns", 1, MAX_SIDE),
        bits_allocated=allocated,
        bits_stored=stored,
        signed=signed,
        pixel_spacing=(spacing[0], spacing[1]),
        orientation=tags.numbers("ImageOrientationPatient", 6),
        position=(position[0], position[1], position[2]),
        frame_of_reference=tags.text("FrameOfReferenceUID"),
        slope=slope,
        intercept=tags.numbers("RescaleIntercept", 1)[0],
        padding_value=_padding(tags, "PixelPaddingValue", allocated, signed),
        padding_limit=_padding(tags, "PixelPaddingRangeLimit", allocated, signed),
        transfer_syntax=str(tags.dataset.file_meta.get("TransferSyntaxUID", "")),
        n_warnings=0,
    )


def _padding(tags: _Tags, keyword: str, allocated: int, signed: bool) -> int | None:
    """Read a padding value in the pixels' own representation, whichever of US and SS it was written as."""
    value = tags.dataset.get(keyword)
    if value is None or value == "":
        return None
    if not isinstance(value, int) or not -(1 << 15) <= value < (1 << 16):
        raise tags.wrong(keyword)
    value &= (1 << allocated) - 1
    return value - (1 << allocated) if signed and value >> (allocated - 1) else value


def _code(text: str) -> str:
    """Return a DICOM code string for an error, or nothing of it if it is none (A-Z, 0-9, _ and space)."""
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ")
    fits = 0 < len(text) <= 16 and allowed.issuperset(text)
    return text if fits else "(none that the standard allows)"
