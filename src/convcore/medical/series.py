"""A folder of DICOM files -> one CT series in the right order, its geometry checked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from convcore.errors import SeriesError
from convcore.medical.dicom_file import OtherImage, SliceHeader, read_header, read_pixels, reads_as_dicom
from convcore.medical.geometry import COSINE_ERROR, MISPLACED, axes_of, stack_slices

__all__ = ["ARTICLE_PADDING", "Series", "read_series"]

MAX_FILES = 20_000
MAX_VOLUME_BYTES = 8 << 30
# Outside the scan circle many scanners store -2000, often without saying so in PixelPaddingValue.
ARTICLE_PADDING = -2000


@dataclass(frozen=True, slots=True)
class Series:
    """One CT series: slices in order along their normal, on a regular grid.

    Attributes
    ----------
    uid
        SeriesInstanceUID.
    slices
        The slices' headers, in order along the normal (for axial slices from the feet to the head).
    grid
        Index of each slice on the regular grid: ``0, 1, 2, ...`` unless gaps were allowed.
    spacing
        Distance between voxel centres along z, y, x in mm; z comes from the positions, never from
        SliceThickness.
    origin
        Patient coordinates x, y, z in mm of the centre of voxel (0, 0, 0).
    direction
        Unit vectors of the array axes z, y, x in patient coordinates, one a row: shape (3, 3).
    ignored
        Names of files in the folder that are clearly no DICOM images.
    n_warnings
        How many warnings pydicom gave; their text may hold patient data and is not kept.
    """

    uid: str
    slices: tuple[SliceHeader, ...]
    grid: tuple[int, ...]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], ...]
    ignored: tuple[str, ...]
    n_warnings: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the whole grid, missing slices included."""
        return (self.grid[-1] + 1, self.slices[0].rows, self.slices[0].columns)

    @property
    def missing(self) -> tuple[int, ...]:
        """Grid indices at which there is no slice."""
        return tuple(sorted(set(range(self.shape[0])) - set(self.grid)))

    @property
    def slopes(self) -> NDArray[np.float64]:
        """RescaleSlope of each slice, shape (number of slices,)."""
        return np.array([s.slope for s in self.slices])

    @property
    def intercepts(self) -> NDArray[np.float64]:
        """RescaleIntercept of each slice, shape (number of slices,)."""
        return np.array([s.intercept for s in self.slices])

    @property
    def padding_values(self) -> tuple[int, ...]:
        """The stored value that marks padding in each slice: what the file names, else -2000."""
        return tuple(ARTICLE_PADDING if s.padding_value is None else s.padding_value for s in self.slices)

    def pixels(self) -> NDArray[Any]:
        """Return the stored values, int16 or uint16, shape (number of slices, rows, columns).

        Before any rescaling; slices in order. Bits above BitsStored are masked off.

        Raises
        ------
        SeriesError
            A file is cut short or damaged, or no decoder is installed for its compression.
        """
        first = self.slices[0]
        dtype = np.int16 if first.signed else np.uint16
        volume = np.empty((len(self.slices), first.rows, first.columns), dtype)
        for index, header in enumerate(self.slices):
            volume[index] = read_pixels(header)
        return volume


def read_series(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    series_uid: str | None = None,
    allow_gaps: bool = False,
) -> Series:
    """Read the headers of one CT series and put its slices in order. Pixels are read by ``.pixels()``.

    Parameters
    ----------
    path
        A folder (searched with its subfolders), or the files themselves.
    series_uid
        Which series to take if there are several.
    allow_gaps
        Accept missing slices; :func:`convcore.medical.hu_volume` then interpolates them, and
        ``Series.missing`` names them.

    Raises
    ------
    SeriesError
        No series or several; a file that is damaged, no CT image, or without position, spacing or
        rescale; slices that differ in size, spacing or orientation, are missing, doubled, unevenly
        spaced or not stacked along their normal. The message names the files, never a patient's data.

    Examples
    --------
    >>> import tempfile
    >>> from convcore.medical import make_phantom, read_series, write_series
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_series(make_phantom(seed=1, shape=(8, 32, 32)), folder)
    ...     series = read_series(folder)
    >>> series.shape, series.spacing[0]
    ((8, 32, 32), 2.5)
    """
    files, where = _files_of(path)
    headers, ignored = _read_headers(files, series_uid)
    if not headers:
        raise SeriesError(where, "holds no DICOM image", got=f"{len(ignored)} other files")
    chosen = _one_series(headers, series_uid, where)
    _check_alike(chosen)
    first = chosen[0]
    if first.rows * first.columns * 2 * len(chosen) > MAX_VOLUME_BYTES:
        raise SeriesError(where, f"the volume would take more than {MAX_VOLUME_BYTES} bytes")
    axes = axes_of(first.orientation, first.name)
    stack = stack_slices(
        np.array([h.position for h in chosen], np.float64),
        axes,
        [h.name for h in chosen],
        first.pixel_spacing,
        allow_gaps=allow_gaps,
        where=where,
    )
    slices = tuple(chosen[i] for i in stack.order)
    if (stack.grid[-1] + 1) * first.rows * first.columns * 4 > MAX_VOLUME_BYTES:
        raise SeriesError(where, f"with its gaps filled it would take more than {MAX_VOLUME_BYTES} bytes")
    return Series(
        uid=first.series_uid,
        slices=slices,
        grid=stack.grid,
        spacing=(stack.step, *first.pixel_spacing),
        origin=slices[0].position,
        direction=tuple((float(a[0]), float(a[1]), float(a[2])) for a in axes),
        ignored=tuple(ignored),
        n_warnings=sum(h.n_warnings for h in slices),
    )


def _files_of(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[list[Path], str]:
    if not isinstance(path, str | os.PathLike):
        return [Path(p) for p in path], "the files given"
    folder = Path(path)
    if not folder.is_dir():
        raise SeriesError(str(folder), "is no folder", remedy="Name the folder that holds the series' files.")
    files: list[Path] = []

    def fail(error: OSError) -> NoReturn:
        # A folder that is passed over would be slices that are missing, or no series at all.
        raise SeriesError(str(error.filename), f"cannot be read: {error.strerror}") from None

    for root, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        files.extend(Path(root) / name for name in sorted(names))
        if len(files) > MAX_FILES:
            raise SeriesError(str(folder), f"holds more than {MAX_FILES} files")
    return files, str(folder)


def _read_headers(
    files: Sequence[Path], series_uid: str | None
) -> tuple[list[SliceHeader | OtherImage], list[str]]:
    headers: list[SliceHeader | OtherImage] = []
    ignored: list[str] = []
    for file in files:
        header = read_header(file, series_uid) if reads_as_dicom(file) else None
        if header is None:
            ignored.append(file.name)
        else:
            headers.append(header)
    return headers, ignored


def _one_series(
    headers: Sequence[SliceHeader | OtherImage], series_uid: str | None, where: str
) -> list[SliceHeader]:
    counts = Counter(h.series_uid for h in headers)
    listed = ", ".join(f"{uid} ({n} files)" for uid, n in counts.most_common(10))
    if series_uid is None and len(counts) > 1:
        raise SeriesError(
            where,
            f"holds {len(counts)} series: {listed}",
            remedy="Choose one with series_uid= (on the command line --series).",
        )
    if series_uid is not None and series_uid not in counts:
        raise SeriesError(where, f"holds no series {series_uid}", got=listed)
    chosen = [h for h in headers if series_uid in (None, h.series_uid)]
    others = [h for h in chosen if isinstance(h, OtherImage)]
    if others:
        names = ", ".join(h.name for h in others[:5])
        raise SeriesError(names, "is no CT image", got=f"Modality {others[0].modality}", expected="CT")
    return [h for h in chosen if isinstance(h, SliceHeader)]


def _check_alike(headers: Sequence[SliceHeader]) -> None:
    """Refuse slices that cannot share one voxel grid; the odd ones out are named, not the majority."""
    _refuse_odd(headers, "size (Rows, Columns)", [(h.rows, h.columns) for h in headers])
    _refuse_odd(headers, "PixelRepresentation", [h.signed for h in headers])
    _refuse_odd(headers, "FrameOfReferenceUID", [h.frame_of_reference for h in headers])
    # Decimal strings of the same value may be rounded differently: alike means that no pixel of the
    # slice moves by more than MISPLACED of a pixel.
    tolerance = MISPLACED / max(headers[0].rows, headers[0].columns)
    spacing = np.array([h.pixel_spacing for h in headers])
    usual = np.median(spacing, axis=0)
    _refuse_odd(headers, "PixelSpacing", np.any(np.abs(spacing - usual) > tolerance * usual, axis=1).tolist())
    orientation = np.array([h.orientation for h in headers])
    off = np.abs(orientation - np.median(orientation, axis=0))
    _refuse_odd(headers, "ImageOrientationPatient", np.any(off > COSINE_ERROR, axis=1).tolist())


def _refuse_odd(headers: Sequence[SliceHeader], what: str, values: Sequence[Hashable]) -> None:
    usual, count = Counter(values).most_common(1)[0]
    odd = [h.name for h, value in zip(headers, values, strict=True) if value != usual]
    if odd:
        names = ", ".join(odd[:5]) + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")
        raise SeriesError(names, f"differs in {what} from the other {count} slices of the series")
