"""Feature maps as small grey pictures, many in one: rounded to 256 steps, for the eye alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sprite", "as_picture", "sprite"]

#: Longest side of one map, in pixels.
_TILE = 64
#: Share of the values that black and white each stand for and beyond: single peaks do not darken the rest.
_CLIPPED = 0.002


class Sprite(NamedTuple):
    """All maps of a node in one grey picture, left to right and top to bottom.

    Attributes
    ----------
    pixels
        uint8 (rows, columns).
    tile
        (height, width) of a map in it.
    columns
        How many are side by side.
    low, high
        The values that are black and white; what lies beyond is clipped.
    scale
        How many values a side one pixel is the mean of.
    depth
        Which slice of a volume is shown; None for maps.
    """

    pixels: NDArray[np.uint8]
    tile: tuple[int, int]
    columns: int
    low: float
    high: float
    scale: int
    depth: int | None


def sprite(value: NDArray[np.float32], pixels: int) -> Sprite:
    """Draw every channel of `value`, (length, c), (h, w, c) or (d, h, w, c), in about `pixels` pixels.

    Of a volume the slice in the middle is drawn; a map of one spatial axis becomes a strip.

    Examples
    --------
    >>> drawn = sprite(np.arange(8, dtype=np.float32).reshape(2, 2, 2), 64)
    >>> drawn.tile, drawn.pixels.shape, drawn.low < drawn.high
    ((2, 2), (2, 4), True)
    """
    depth = None
    if value.ndim == 4:
        depth = value.shape[0] // 2
        value = value[depth]
    if value.ndim == 2:
        value = value[None]
    count = value.shape[-1]
    side = max(min(_TILE, math.isqrt(max(pixels // count, 1))), 1)
    scale = max(math.ceil(max(value.shape[:2]) / side), 1)
    maps = _shrunk(np.moveaxis(value, -1, 0), scale)
    low, high = _ends(maps)
    grey = _grey(maps, low, high)
    # As wide as high, about.
    columns = min(count, math.ceil(math.sqrt(count * grey.shape[1] / grey.shape[2])))
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, *grey.shape[1:]), np.uint8)
    tiles[:count] = grey
    height, width = grey.shape[1:]
    whole = tiles.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    return Sprite(whole, (height, width), columns, low, high, scale, depth)


def _shrunk(maps: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Means of `scale` x `scale` values; what is left over at the high ends makes smaller means."""
    if scale == 1:
        return maps
    for axis in (1, 2):
        starts = np.arange(0, maps.shape[axis], scale)
        lengths = np.diff(np.append(starts, maps.shape[axis])).astype(np.float32)
        sums = np.add.reduceat(maps, starts, axis=axis)
        maps = (sums / lengths.reshape([-1 if a == axis else 1 for a in range(3)])).astype(np.float32)
    return maps


def _ends(maps: NDArray[np.float32]) -> tuple[float, float]:
    finite = maps[np.isfinite(maps)]
    if not finite.size:
        return 0.0, 0.0
    low, high = np.quantile(finite, [_CLIPPED, 1 - _CLIPPED])
    if low == high:  # nearly all are alike: show those that are not
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def _grey(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """low to high -> 0 to 255; NaN is black, and a flat picture grey."""
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(255 * np.nan_to_num(scaled, nan=0.0)).astype(np.uint8)


def as_picture(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an input (h, w), (h, w, 1) or (h, w, 3) as a picture, black to white as its values range.

    Examples
    --------
    >>> as_picture(np.float32([[-1, 1]])).tolist()
    [[0, 255]]
    """
    x = x[:, :, 0] if x.ndim == 3 and x.shape[2] == 1 else x
    finite = x[np.isfinite(x)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return _grey(np.asarray(x, np.float32), low, high)
