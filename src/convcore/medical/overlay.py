"""Pictures of a CT with what a model found in it: mask as tint and outline, places as circles with scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.errors import ArgumentError
from convcore.extras import import_cv2
from convcore.medical.volume import Volume

__all__ = ["Mark", "choose_slices", "montage", "overlay_slice"]

# The window that radiologists look at lungs in: centre -600 HU, width 1500 HU.
LUNG_WINDOW = (-1350.0, 150.0)
MASK_RGB = (64, 200, 255)
FOUND_RGB = (255, 176, 32)
CLEAR_RGB = (120, 230, 130)
TEXT_RGB = (235, 240, 245)
FRAME_RGB = (18, 20, 24)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mark:
    """A circle to draw: centre x, y, z in patient mm, diameter in mm, short text, whether it is a finding."""

    centre_mm: tuple[float, float, float]
    diameter_mm: float
    text: str = ""
    finding: bool = True


def choose_slices(
    volume: Volume, count: int, mask: NDArray[np.bool_] | None = None, marks: Sequence[Mark] = ()
) -> list[int]:
    """Choose slices to show: those through the marks, then ones spread evenly over the mask (or volume).

    Examples
    --------
    >>> from convcore.medical import Volume
    >>> choose_slices(Volume(np.zeros((30, 8, 8), np.float32), (1.0, 1.0, 1.0)), 3)
    [5, 15, 25]
    """
    n = volume.shape[0]
    chosen: list[int] = []
    for mark in marks:
        index = round(float(volume.to_voxel(mark.centre_mm)[0]))
        if 0 <= index < n and index not in chosen:
            chosen.append(index)
    chosen = chosen[:count]
    filled = np.flatnonzero(mask.any(axis=(1, 2))) if mask is not None else np.arange(n)
    low, high = (int(filled[0]), int(filled[-1])) if len(filled) else (0, n - 1)
    span = high - low + 1
    if not chosen:
        return sorted({low + int((i + 0.5) * span / count) for i in range(count)})
    # Farthest first: every further slice goes where the widest stretch is still unseen. The stretch's
    # ends count as seen half a stretch outside, so that its last slices get their turn, but not first.
    margin = span // (2 * count)
    while len(chosen) < count:
        candidates = [k for k in range(low, high + 1) if k not in chosen]
        if not candidates:
            break
        seen = [*chosen, low - 1 - margin, high + 1 + margin]
        chosen.append(max(candidates, key=lambda k: min(abs(k - s) for s in seen)))
    return sorted(chosen)


def overlay_slice(
    volume: Volume,
    index: int,
    mask: NDArray[np.bool_] | None = None,
    marks: Sequence[Mark] = (),
    *,
    size: int = 512,
    window: tuple[float, float] = LUNG_WINDOW,
) -> Picture:
    """Draw one slice.

    Parameters
    ----------
    volume
        HU, shape (z, y, x).
    index
        Which slice.
    mask
        bool, the shape of the volume: tinted and outlined.
    marks
        Circles: drawn where the ball meets this slice, labelled on the slice nearest to its centre.
    size
        Height of the picture in pixels; the width follows from the pixel spacing.
    window
        HU that become black and white.

    Returns
    -------
    numpy.ndarray
        RGB, uint8, shape (size, width, 3).

    Examples
    --------
    >>> from convcore.medical import make_phantom
    >>> phantom = make_phantom(seed=3, shape=(4, 64, 64), n_nodules=0)
    >>> picture = overlay_slice(phantom.volume(), 2, phantom.lungs)
    >>> picture.dtype, picture.ndim
    (dtype('uint8'), 3)
    """
    cv2 = import_cv2()
    if not 0 <= index < volume.shape[0]:
        raise ArgumentError("overlay_slice", "index", got=index, expected=f"0 to {volume.shape[0] - 1}")
    if mask is not None and mask.shape != volume.shape:
        raise ArgumentError("overlay_slice", "mask", got=mask.shape, expected=volume.shape)
    _, rows, columns = volume.shape
    width = max(1, round(size * columns * volume.spacing[2] / (rows * volume.spacing[1])))
    grey = np.clip((volume.array[index] - window[0]) / (window[1] - window[0]), 0, 1)
    # Enlarging with a cubic looks like a viewer's picture; shrinking needs the area average.
    how = cv2.INTER_CUBIC if size >= rows else cv2.INTER_AREA
    grey = cv2.resize(grey.astype(np.float32), (width, size), interpolation=how)
    picture = np.repeat((np.clip(grey, 0, 1) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if mask is not None:
        picture = _tint(cv2, picture, mask[index])
    scale = (size / rows, width / columns)
    for mark in marks:
        _draw_mark(cv2, picture, volume, index, mark, scale)
    _draw_scale(cv2, picture, size / (rows * volume.spacing[1]))
    z = float(volume.to_mm((index, (rows - 1) / 2, (columns - 1) / 2))[2])
    _write(cv2, picture, f"slice {index}   z {z:.1f} mm", (10, 24), TEXT_RGB)
    return picture


def montage(
    volume: Volume,
    mask: NDArray[np.bool_] | None = None,
    marks: Sequence[Mark] = (),
    *,
    title: str = "",
    count: int = 6,
    columns: int = 3,
    size: int = 400,
) -> Picture:
    """Draw several slices side by side under a title: RGB, uint8. Arguments as in :func:`overlay_slice`.

    Examples
    --------
    >>> from convcore.medical import Mark, make_phantom, montage
    >>> p = make_phantom(seed=3, shape=(12, 64, 64))
    >>> montage(p.volume(), p.lungs, count=2, columns=2, size=128).shape
    (176, 260, 3)
    """
    if count < 1 or columns < 1 or size < 16:
        raise ArgumentError(
            "montage", got=(count, columns, size), expected="at least 1 slice, 1 column, 16 pixels"
        )
    cv2 = import_cv2()
    tiles = [
        overlay_slice(volume, k, mask, marks, size=size) for k in choose_slices(volume, count, mask, marks)
    ]
    columns = min(columns, len(tiles))
    gap, header = 4, 48
    height, width = tiles[0].shape[:2]
    n_rows = -(-len(tiles) // columns)
    sheet = np.empty((header + n_rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    sheet[:] = FRAME_RGB
    for i, tile in enumerate(tiles):
        top, left = header + (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    room = _legend(cv2, sheet, mask is not None, marks) - 24
    _write(cv2, sheet, _cut(cv2, title, room, 0.62), (12, 31), TEXT_RGB, 0.62)
    return sheet


def _tint(cv2: Any, picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    # The mask is enlarged as a smooth field, so that its outline follows the edge between pixel centres.
    share = cv2.resize(mask.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    inside = (share >= 0.5).astype(np.uint8)
    colour = np.array(MASK_RGB, np.float32)
    blend = np.where(inside[:, :, None] > 0, np.float32(0.16), np.float32(0))
    picture = (picture * (1 - blend) + colour * blend).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, MASK_RGB, 1, cv2.LINE_AA)
    return picture


def _draw_mark(
    cv2: Any, picture: Picture, volume: Volume, index: int, mark: Mark, scale: tuple[float, float]
) -> None:
    z, y, x = volume.to_voxel(mark.centre_mm)
    off = abs(z - index) * volume.spacing[0]
    nearest = round(float(np.clip(z, 0, volume.shape[0] - 1))) == index
    if off > mark.diameter_mm / 2 and not nearest:
        return
    radius = np.sqrt(max((mark.diameter_mm / 2) ** 2 - off**2, 0)) / volume.spacing[1] * scale[0] + 6
    colour = FOUND_RGB if mark.finding else CLEAR_RGB
    # Pixel centres: voxel 0 spreads over the picture's first `scale` pixels.
    column, row = (x + 0.5) * scale[1] - 0.5, (y + 0.5) * scale[0] - 0.5
    centre = (round(float(column) * 16), round(float(row) * 16))
    # Four fractional bits, so that small circles sit where they belong.
    cv2.circle(picture, centre, round(float(radius) * 16), (0, 0, 0), 4, cv2.LINE_AA, 4)
    cv2.circle(picture, centre, round(float(radius) * 16), colour, 2, cv2.LINE_AA, 4)
    if mark.text and nearest:
        length = cv2.getTextSize(mark.text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
        left = min(int(column - length / 2), picture.shape[1] - length - 4)
        above = int(row - radius - 7)
        _write(
            cv2, picture, mark.text, (max(left, 4), above if above > 14 else int(row + radius + 18)), colour
        )


def _draw_scale(cv2: Any, picture: Picture, pixels_per_mm: float) -> None:
    length = round(50 * pixels_per_mm)
    bottom, right = picture.shape[0] - 14, picture.shape[1] - 14
    if length < picture.shape[1] // 2 and picture.shape[0] >= 128:
        cv2.line(picture, (right - length, bottom), (right, bottom), TEXT_RGB, 2)
        _write(cv2, picture, "5 cm", (right - length, bottom - 7), TEXT_RGB, 0.4)


def _cut(cv2: Any, text: str, width: int, size: float) -> str:
    """As much of `text` as fits into `width` pixels, with dots where some is left out."""

    def length(shown: str) -> int:
        return int(cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])

    if length(text) <= width:
        return text
    while text and length(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _legend(cv2: Any, sheet: Picture, masked: bool, marks: Sequence[Mark]) -> int:
    """Draw what the colours mean, from the right; return where it begins."""
    entries = [("mask", MASK_RGB)] if masked else []
    if any(m.finding for m in marks):
        entries.append(("finding", FOUND_RGB))
    if any(not m.finding for m in marks):
        entries.append(("no finding", CLEAR_RGB))
    right = int(sheet.shape[1]) - 12
    for text, colour in reversed(entries):
        length = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
        right -= int(length)
        _write(cv2, sheet, text, (right, 30), colour)
        cv2.circle(sheet, (right - 12, 25), 5, colour, 2, cv2.LINE_AA)
        right -= 36
    return right


def _write(
    cv2: Any,
    picture: Picture,
    text: str,
    at: tuple[int, int],
    colour: tuple[int, int, int],
    size: float = 0.5,
) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
