"""A CT volume in Hounsfield units with its place in the patient: rescale, resample, cut out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore import ops
from convcore.errors import ArgumentError, SeriesError
from convcore.medical.series import Series

__all__ = ["AIR", "Volume", "cube", "hu_concerns", "hu_volume", "parse_place", "resample"]

AIR = -1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A volume on a regular grid.

    Attributes
    ----------
    array
        float32 in HU (or a mask, or a probability), shape (z, y, x).
    spacing
        Distance between voxel centres along z, y, x in mm.
    origin
        Patient coordinates x, y, z in mm of the centre of voxel (0, 0, 0).
    direction
        Unit vectors of the array axes z, y, x in patient coordinates, one a row: shape (3, 3).

    Examples
    --------
    >>> import numpy as np
    >>> from convcore.medical import Volume
    >>> v = Volume(np.zeros((4, 8, 8), np.float32), (2.5, 0.7, 0.7), (-100.0, -80.0, 30.0))
    >>> v.to_mm((2, 0, 1)).round(3).tolist()
    [-99.3, -80.0, 35.0]
    """

    array: NDArray[Any]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise ArgumentError("Volume", "array", got=self.array.shape, expected="three axes (z, y, x)")
        if len(self.spacing) != 3 or not all(s > 0 and np.isfinite(s) for s in self.spacing):
            raise ArgumentError("Volume", "spacing", got=self.spacing, expected="three lengths in mm")

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.array.shape
        return (z, y, x)

    def to_mm(self, voxel_zyx: Sequence[float]) -> NDArray[np.float64]:
        """Return the patient coordinates x, y, z in mm of a (fractional) voxel index z, y, x."""
        return np.asarray(self.origin, np.float64) + np.asarray(voxel_zyx, np.float64) @ self._steps()

    def to_voxel(self, place_mm: Sequence[float]) -> NDArray[np.float64]:
        """Return the fractional voxel index z, y, x of patient coordinates x, y, z in mm."""
        offset = np.asarray(place_mm, np.float64) - np.asarray(self.origin)
        return np.asarray(np.linalg.solve(self._steps().T, offset))

    def contains(self, voxel_zyx: Sequence[float]) -> bool:
        """Return whether a voxel index lies inside the volume (its voxels' outer faces included)."""
        return all(-0.5 <= v <= n - 0.5 for v, n in zip(voxel_zyx, self.shape, strict=True))

    def _steps(self) -> NDArray[np.float64]:
        """One step of each array axis in patient coordinates, mm, one a row."""
        steps: NDArray[np.float64] = np.asarray(self.direction) * np.asarray(self.spacing)[:, None]
        return steps


def hu_volume(series: Series, *, padding_to: float = AIR) -> Volume:
    """Read a series' pixels and convert them to Hounsfield units.

    HU = slope * stored + intercept, each slice with its own slope and intercept; pixels that carry the
    padding value become `padding_to`. Missing slices (``read_series(..., allow_gaps=True)``) are
    interpolated linearly between their neighbours. Values below -1024 that some scanners store outside
    the scan field without calling them padding stay as they are: a model card's clip removes them.

    Definition: docs/operations/preprocessing.md#hu_rescale

    Returns
    -------
    Volume
        float32, shape ``series.shape``.

    Examples
    --------
    >>> import tempfile
    >>> from convcore.medical import make_phantom, read_series, write_series
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_series(make_phantom(seed=7, shape=(4, 64, 64), n_nodules=0), folder)
    ...     volume = hu_volume(read_series(folder))
    >>> volume.array.dtype, volume.shape, float(volume.array.min()) < -900
    (dtype('float32'), (4, 64, 64), True)
    """
    pixels = series.pixels()
    slopes, intercepts, paddings = series.slopes, series.intercepts, np.array(series.padding_values)
    if np.all(paddings == paddings[0]):
        hu = ops.hu_rescale(pixels, slopes, intercepts, padding_value=int(paddings[0]), padding_to=padding_to)
    else:
        hu = np.empty(pixels.shape, np.float32)
        for value in np.unique(paddings):
            which = paddings == value
            hu[which] = ops.hu_rescale(
                pixels[which],
                slopes[which],
                intercepts[which],
                padding_value=int(value),
                padding_to=padding_to,
            )
    return Volume(_filled(hu, series), series.spacing, series.origin, series.direction)


def _filled(hu: NDArray[np.float32], series: Series) -> NDArray[np.float32]:
    if not series.missing:
        return hu
    whole = np.empty(series.shape, np.float32)
    whole[list(series.grid)] = hu
    for index in series.missing:
        above = int(np.searchsorted(series.grid, index))
        low, high = series.grid[above - 1], series.grid[above]
        share = np.float32((index - low) / (high - low))
        whole[index] = whole[low] + share * (whole[high] - whole[low])
    return whole


def resample(volume: Volume, spacing: Sequence[float]) -> Volume:
    """Resample to (nearly) the spacing asked for, linearly.

    The first and last voxel centres of each axis stay where they are, so the number of voxels is
    ``round((n - 1) * old / new) + 1`` and the spacing that results is the exact quotient, not the one
    asked for; it is in the result.

    Definition: docs/operations/preprocessing.md#resampling-to-a-spacing

    Parameters
    ----------
    volume
        float32, shape (z, y, x).
    spacing
        Wanted spacing along z, y, x in mm.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore.medical import Volume, resample
    >>> v = resample(Volume(np.zeros((5, 9, 9), np.float32), (2.5, 0.7, 0.7)), (1, 1, 1))
    >>> v.shape, [round(s, 4) for s in v.spacing]
    ((11, 7, 7), [1.0, 0.9333, 0.9333])
    """
    wanted = [float(s) for s in spacing]
    if len(wanted) != 3 or not all(s > 0 and np.isfinite(s) for s in wanted):
        raise ArgumentError("resample", "spacing", got=spacing, expected="three lengths in mm (z, y, x)")
    extent = [(n - 1) * s for n, s in zip(volume.shape, volume.spacing, strict=True)]
    shape = tuple(round(e / w) + 1 for e, w in zip(extent, wanted, strict=True))
    exact = [e / (n - 1) if n > 1 else old for e, n, old in zip(extent, shape, volume.spacing, strict=True)]
    array = volume.array if shape == volume.shape else ops.resample(volume.array, shape)
    return replace(volume, array=array, spacing=(exact[0], exact[1], exact[2]))


def cube(
    volume: Volume, centre_mm: Sequence[float], size: Sequence[int], *, padding: float = AIR
) -> NDArray[np.float32]:
    """Cut out a box of whole voxels around a place; what lies outside the volume is `padding`.

    Definition: docs/operations/preprocessing.md#cutting-out-a-cube

    Parameters
    ----------
    volume
        Shape (z, y, x), already at the spacing wanted.
    centre_mm
        Patient coordinates x, y, z in mm. Voxel ``size // 2`` of the box is the voxel nearest to it.
    size
        Number of voxels along z, y, x.
    padding
        Value outside the volume, in HU.

    Returns
    -------
    numpy.ndarray
        float32, C-contiguous, shape `size`.

    Raises
    ------
    ArgumentError
        The centre lies outside the volume, or `size` is not three positive integers.

    Examples
    --------
    >>> from convcore.medical import Volume
    >>> v = Volume(np.zeros((4, 8, 8), np.float32), (1.0, 1.0, 1.0))
    >>> cube(v, (0, 0, 0), (3, 3, 3), padding=-1000)[:, 1, 1]  # the first plane lies outside
    array([-1000.,     0.,     0.], dtype=float32)
    """
    if len(size) != 3 or any(int(n) != n or n < 1 for n in size):
        raise ArgumentError("cube", "size", got=size, expected="three positive integers (z, y, x)")
    check_inside(volume, centre_mm, "cube")
    start = np.rint(volume.to_voxel(centre_mm)).astype(int) - np.asarray(size) // 2
    box = np.full(tuple(int(n) for n in size), padding, np.float32)
    source, target = [], []
    for first, count, n in zip(start.tolist(), box.shape, volume.shape, strict=True):
        low, high = max(first, 0), min(first + count, n)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    box[tuple(target)] = volume.array[tuple(source)]
    return box


def check_inside(
    volume: Volume, place_mm: Sequence[float], where: str, *, resampled: Volume | None = None
) -> None:
    """Raise :class:`ArgumentError` if a place lies outside the volume, or outside what it became.

    The message is in voxels of `volume`, which the caller knows. Resampling keeps the outer voxels'
    centres but not their faces, so a place in the outer half of one can lie outside `resampled` alone.
    """
    index = volume.to_voxel(place_mm)
    inside = volume.contains(index.tolist())
    if inside and resampled is not None:
        inside = resampled.contains(resampled.to_voxel(place_mm).tolist())
    if not inside:
        voxel = ", ".join(f"{round(float(v), 2):g}" for v in index[::-1])
        raise ArgumentError(
            where,
            "the place lies outside the volume",
            got=f"voxel x, y, z = {voxel} ({', '.join(f'{v:.1f}' for v in place_mm)} mm)",
            expected=f"voxels 0 to {', 0 to '.join(str(n - 1) for n in volume.shape[::-1])}",
        )


_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(mm)?\s*")


def place_numbers(text: str) -> list[tuple[float, bool]]:
    """Return the three numbers of ``"x,y,z"`` and whether each carries ``mm``.

    >>> place_numbers("2, 4, 35mm")
    [(2.0, False), (4.0, False), (35.0, True)]
    """
    matches = [_NUMBER.fullmatch(part) for part in text.split(",")]
    numbers = [(float(m[1]), m[2] is not None) for m in matches if m is not None]
    if len(matches) != 3 or len(numbers) != 3 or not all(np.isfinite(n) for n, _ in numbers):
        raise ArgumentError(
            "place",
            got=text,
            expected="x,y,z as voxel indices, or with mm after a number that is a coordinate",
        )
    return numbers


def parse_place(text: str, volume: Volume) -> NDArray[np.float64]:
    """Turn ``"x,y,z"`` into patient coordinates in mm.

    Each of the three is a voxel index, or with ``mm`` after it a patient coordinate, and they may be
    mixed: LIDC's reading files, for one, give x and y as indices and z in mm.

    >>> import numpy as np
    >>> from convcore.medical import Volume, parse_place
    >>> v = Volume(np.zeros((4, 8, 8), np.float32), (2.5, 0.5, 0.5), (-100.0, -80.0, 30.0))
    >>> parse_place("2, 4, 35mm", v).tolist()
    [-99.0, -78.0, 35.0]
    """
    # One linear equation for each number: either an index is given, or a coordinate.
    matrix, right = np.eye(3), np.zeros(3)
    for i, (number, in_mm) in enumerate(place_numbers(text)):
        right[i] = number
        if in_mm:
            matrix[i] = volume._steps()[::-1, i]
            right[i] -= volume.origin[i]
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise ArgumentError("place", "the three numbers do not fix a place in this volume", got=text)
    return volume.to_mm(np.linalg.solve(matrix, right)[::-1].tolist())


def hu_concerns(volume: Volume) -> tuple[str, ...]:
    """Return what looks wrong with a chest CT's HU values, in sentences; nothing if all is well.

    A chest CT holds air (-1000 HU) around and in the lungs and soft tissue (0 to 100 HU); a volume
    that lacks either was probably rescaled twice or not at all, and a model's answer would be worthless.

    Examples
    --------
    >>> from convcore.medical import Volume
    >>> hu_concerns(Volume(np.full((2, 4, 4), -1000, np.float32), (1.0, 1.0, 1.0)))
    ('Less than 1 % of the volume is as bright as fat, water or muscle (-150 to 150 HU).',)
    """
    inside = volume.array[volume.array >= -1200]
    if not inside.size:
        raise SeriesError("HU check", "no voxel lies above -1200 HU")
    concerns = []
    if np.count_nonzero(inside < -700) < 0.01 * inside.size:
        concerns.append("Less than 1 % of the volume is as dark as air or lung (below -700 HU).")
    if np.count_nonzero((inside > -150) & (inside < 150)) < 0.01 * inside.size:
        concerns.append("Less than 1 % of the volume is as bright as fat, water or muscle (-150 to 150 HU).")
    return tuple(concerns)
