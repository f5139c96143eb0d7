"""Where the slices of a series lie: order along the normal, the step between them, and what is wrong.

Plain arithmetic on positions in millimetres; nothing here knows about files. Patient coordinates
are DICOM's: x grows to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convcore.errors import SeriesError

__all__ = ["Stack", "axes_of", "stack_slices"]

# A slice may lie this fraction of a voxel away from the regular grid that the volume puts it on:
# positions are decimal strings, rounded by the scanner, and a tenth of a voxel is below what the
# linear interpolation that follows can show. More than that is a gap, a tilt or uneven spacing.
MISPLACED = 0.1
# Two slices nearer than this (mm) are the same place twice; no CT steps less than 0.1 mm.
SAME_PLACE = 0.01
# Direction cosines written with few digits are still unit vectors and orthogonal to this accuracy.
COSINE_ERROR = 1e-3


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices put in order along their normal.

    Attributes
    ----------
    order
        Indices into the positions given, in order along the normal.
    grid
        For each slice in that order its index on the regular grid; ``0, 1, 2, ...`` without gaps.
    step
        Distance between grid planes in mm.
    """

    order: tuple[int, ...]
    grid: tuple[int, ...]
    step: float


def axes_of(orientation: Sequence[float], where: str) -> NDArray[np.float64]:
    """Return the unit vectors of the slice, row and column index axes, one per row: shape (3, 3).

    `orientation` is ImageOrientationPatient: the direction in which the column index grows, then the
    direction in which the row index grows. The slice axis is their cross product (the normal).
    Raises :class:`SeriesError` if the six numbers are not two orthogonal unit vectors.

    >>> axes_of([1, 0, 0, 0, 1, 0], "a.dcm").tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    along_x = np.asarray(orientation[:3], np.float64)
    along_y = np.asarray(orientation[3:], np.float64)
    lengths = np.array([np.linalg.norm(along_x), np.linalg.norm(along_y)])
    if np.any(np.abs(lengths - 1) > COSINE_ERROR) or abs(along_x @ along_y) > COSINE_ERROR:
        raise SeriesError(where, "ImageOrientationPatient is not two orthogonal unit vectors")
    along_x = along_x / lengths[0]
    along_y = along_y / lengths[1]
    normal = np.cross(along_x, along_y)
    return np.stack([normal / np.linalg.norm(normal), along_y, along_x])


def stack_slices(
    positions: NDArray[np.float64],
    axes: NDArray[np.float64],
    names: Sequence[str],
    pixel_spacing: tuple[float, float],
    *,
    allow_gaps: bool,
    where: str,
) -> Stack:
    """Order slices along their normal and check that they form a regular grid.

    Parameters
    ----------
    positions
        ImagePositionPatient of each slice, mm, shape (n, 3).
    axes
        From :func:`axes_of`.
    names
        What to call each slice in an error.
    pixel_spacing
        Row and column spacing in mm.
    allow_gaps
        Accept missing slices, as long as those that are there lie on one regular grid.
    where
        What to call the series in an error.

    Raises
    ------
    SeriesError
        Fewer than two slices, two at one place, a gap, uneven spacing, or a stack that does not run
        along the normal (gantry tilt). The message names the slices.
    """
    if len(positions) < 2:
        raise SeriesError(
            where,
            "one slice alone does not say how far apart slices are",
            got=f"{len(positions)} slice ({', '.join(names)})",
            expected="at least 2 slices of the series",
        )
    distances = positions @ axes[0]
    order = np.argsort(distances, kind="stable")
    along = distances[order]
    label = [f"{names[i]} ({distances[i]:.2f} mm)" for i in order.tolist()]
    steps = np.diff(along)
    _refuse_duplicates(steps, label, where)
    _refuse_tilt(positions[order], axes, names, order, pixel_spacing, where)

    # Gaps only make steps longer, so the shortest is one grid step. Each step is rounded by itself, so
    # positions written with few digits cannot add up to a slice that is not there; the whole stack then
    # refines the step.
    strides = np.rint(steps / steps.min()).astype(int)
    grid = np.concatenate([[0], np.cumsum(strides)])
    step = float((along[-1] - along[0]) / grid[-1])
    missing = int(grid[-1] + 1 - len(grid))
    # More holes than slices is no grid: one pair of slices lies closer together than the rest.
    if missing > len(grid) or np.any(np.abs(along - along[0] - grid * step) > MISPLACED * step):
        _refuse_uneven(steps, label, where)
    if missing and not allow_gaps:
        holes = [f"{label[i]} and {label[i + 1]}" for i in np.flatnonzero(strides > 1)]
        raise SeriesError(
            where,
            f"{missing} slice{'s are' if missing > 1 else ' is'} missing: the step is {step:.3f} mm, "
            "but there is a gap between " + "; between ".join(_few(holes)),
            remedy="Find the missing files, or pass allow_gaps=True to have the gaps interpolated.",
        )
    return Stack(tuple(int(i) for i in order), tuple(int(i) for i in grid), step)


def _refuse_duplicates(steps: NDArray[np.float64], label: Sequence[str], where: str) -> None:
    twice = np.flatnonzero(steps < SAME_PLACE)
    if len(twice):
        pairs = [f"{label[i]} and {label[i + 1]}" for i in twice.tolist()]
        raise SeriesError(
            where,
            f"{len(twice)} pairs of slices are at the same position: " + "; ".join(_few(pairs)),
            remedy="Keep one file for each position (one phase, one reconstruction).",
        )


def _refuse_tilt(
    ordered: NDArray[np.float64],
    axes: NDArray[np.float64],
    names: Sequence[str],
    order: NDArray[np.intp],
    pixel_spacing: tuple[float, float],
    where: str,
) -> None:
    shift = np.abs((ordered - ordered[0]) @ axes[1:].T) / np.asarray(pixel_spacing)
    worst = int(np.argmax(shift.max(axis=1)))
    first, odd = names[int(order[0])], names[int(order[worst])]
    if shift[worst].max() > MISPLACED:
        way = ordered[-1] - ordered[0]
        cosine = np.clip(abs(way @ axes[0]) / np.linalg.norm(way), 0, 1)
        raise SeriesError(
            where,
            "the slices are not stacked along their normal (gantry tilt or shifted slices): "
            f"{odd} lies {shift[worst].max():.2f} pixels to the side of {first}, "
            f"the stack leans by {np.degrees(np.arccos(cosine)):.2f} degrees",
            remedy="Resample the series to an upright stack first.",
        )


def _refuse_uneven(steps: NDArray[np.float64], label: Sequence[str], where: str) -> None:
    step = float(np.median(steps))
    worst = np.argsort(-np.abs(steps - step), kind="stable")
    pairs = [f"{steps[i]:.3f} mm between {label[i]} and {label[i + 1]}" for i in worst[:3]]
    raise SeriesError(where, f"the slices are unevenly spaced: {step:.3f} mm as a rule, " + "; ".join(pairs))


def _few(texts: Sequence[str], limit: int = 5) -> list[str]:
    """Return at most `limit` of `texts`, and a word on the rest: an error must stay readable."""
    return list(texts[:limit]) + ([f"{len(texts) - limit} more places"] if len(texts) > limit else [])
