"""Resampling on a regular grid: linear volumes, image resizing, pixel repetition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcore.errors import ArgumentError

Array = NDArray[np.float64]


def _interpolate(x: Array, axis: int, position: Array) -> Array:
    """Return `x` at fractional indices along `axis`: ``(1 - t) x[j] + t x[j + 1]``, edges held."""
    position = np.clip(position, 0, x.shape[axis] - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    along = [1] * x.ndim
    along[axis] = len(position)
    t = (position - low).reshape(along)
    return np.asarray(x.take(low, axis) * (1 - t) + x.take(high, axis) * t)


def _check_sizes(sizes: Sequence[int], rank: int, where: str) -> None:
    if len(sizes) > rank or min(sizes, default=0) < 1:
        raise ArgumentError(where, "output sizes", got=tuple(sizes), expected=f"at most {rank} integers >= 1")


def resample_linear(volume: ArrayLike, output_shape: Sequence[int]) -> Array:
    """Return `volume` resampled linearly to `output_shape` on its leading axes.

    The centres of the first and last samples stay where they are: output index p lies at
    ``p (i - 1) / (o - 1)``; a single output sample is the first input sample. This is
    ``scipy.ndimage.zoom(order=1, mode="nearest", grid_mode=False)``. Axes beyond `output_shape`
    (channels) are carried along.

    Examples
    --------
    >>> resample_linear([0.0, 10.0], (3,))
    array([ 0.,  5., 10.])
    """
    x = np.asarray(volume, np.float64)
    _check_sizes(output_shape, x.ndim, "reference.resample_linear")
    for axis, o in enumerate(output_shape):
        step = (x.shape[axis] - 1) / (o - 1) if o > 1 else 0.0
        x = _interpolate(x, axis, np.arange(o) * step)
    return x


def resize(x: ArrayLike, size: Sequence[int], interpolation: str = "bilinear") -> Array:
    """Return images `x` (n, h, w, c) resized to `size` = (height, width), without antialiasing.

    Pixel centres lie at half integers: output pixel p sees the input at ``(p + 1/2) i / o``.
    "bilinear" interpolates between the neighbouring centres and holds the edges. "nearest" takes the
    pixel that holds the point. Its position is computed in float32, as TensorFlow does: on the
    border between two pixels rounding decides, and a model was trained with that decision.

    Examples
    --------
    >>> resize(np.array([0.0, 4.0]).reshape(1, 1, 2, 1), (1, 4)).ravel()
    array([0., 1., 3., 4.])
    """
    y: Array = np.asarray(x, np.float64)
    if y.ndim != 4 or len(size) != 2:
        raise ArgumentError(
            "reference.resize", "images (n, h, w, c) to (height, width)", got=f"{y.shape} to {tuple(size)}"
        )
    _check_sizes(size, 2, "reference.resize")
    for axis, o in enumerate(size, start=1):
        i = y.shape[axis]
        if interpolation == "bilinear":
            y = _interpolate(y, axis, (np.arange(o) + 0.5) * i / o - 0.5)
        elif interpolation == "nearest":
            centre = np.arange(o, dtype=np.float32) + np.float32(0.5)
            position = np.floor(centre * (np.float32(i) / np.float32(o))).astype(np.intp)
            y = y.take(np.minimum(position, i - 1), axis)
        else:
            raise ArgumentError(
                "reference.resize", "unknown interpolation", got=interpolation, expected="nearest or bilinear"
            )
    return y


def upsample(x: ArrayLike, size: Sequence[int]) -> Array:
    """Return `x` (n, spatial..., c) with every sample repeated ``size[a]`` times along axis a.

    Examples
    --------
    >>> upsample(np.array([1.0, 2.0]).reshape(1, 2, 1), (2,)).ravel()
    array([1., 1., 2., 2.])
    """
    x = np.asarray(x, np.float64)
    if len(size) != x.ndim - 2:
        raise ArgumentError(
            "reference.upsample",
            "one factor per spatial axis",
            got=tuple(size),
            expected=f"{x.ndim - 2} integers",
        )
    for axis, factor in enumerate(size, start=1):
        x = x.repeat(factor, axis)
    return x
