"""Pooling: windows as a view, then one reduction."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from convcore import shapes
from convcore.shapes import Pairs, Sizes

Array = NDArray[np.float64]


def _windows(x: Array, pool_size: Sizes, strides: Sizes, padding: Pairs, fill: float, where: str) -> Array:
    """Return a view (n, output..., c, pool...) of `x` padded with `fill`."""
    shapes.pool_output(x.shape[1:-1], pool_size, strides, padding, where)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    axes = tuple(range(1, x.ndim - 1))
    every: Array = sliding_window_view(padded, pool_size, axis=axes)
    return every[(slice(None), *(slice(None, None, s) for s in strides))]


def _spatial(x: Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim - 1))


def max_pool(x: ArrayLike, pool_size: Sizes, strides: Sizes, padding: Pairs) -> Array:
    """Return the maximum of every window of `x` (n, spatial..., c).

    Padding counts as -inf, so it never wins. A NaN in the window makes the result NaN.

    Examples
    --------
    >>> max_pool(np.arange(4.0).reshape(1, 4, 1), (2,), (2,), ((0, 0),)).ravel()
    array([1., 3.])
    """
    x = np.asarray(x, np.float64)
    windows = _windows(x, pool_size, strides, padding, -np.inf, "reference.max_pool")
    return np.asarray(windows.max(axis=tuple(range(x.ndim, windows.ndim))))


def average_pool(
    x: ArrayLike, pool_size: Sizes, strides: Sizes, padding: Pairs, include_padding: bool = False
) -> Array:
    """Return the mean of every window of `x` (n, spatial..., c).

    The divisor is the number of real samples in the window; with `include_padding` it is the whole
    window, padding counted as zeros (Theano in Keras 2.0 to 2.1.4).

    Examples
    --------
    >>> average_pool(np.arange(3.0).reshape(1, 3, 1), (2,), (2,), ((0, 1),)).ravel()
    array([0.5, 2. ])
    """
    x = np.asarray(x, np.float64)
    where = "reference.average_pool"
    windows = _windows(x, pool_size, strides, padding, 0.0, where)
    pool_axes = tuple(range(x.ndim, windows.ndim))
    total = windows.sum(axis=pool_axes)
    if include_padding:
        return np.asarray(total / np.prod(pool_size))
    real = _windows(np.ones_like(x), pool_size, strides, padding, 0.0, where)
    return np.asarray(total / real.sum(axis=pool_axes))


def global_max_pool(x: ArrayLike, keepdims: bool = False) -> Array:
    """Return the maximum over all spatial axes of `x` (n, spatial..., c): (n, c).

    With `keepdims` the spatial axes stay, with length 1.

    Examples
    --------
    >>> global_max_pool(np.arange(4.0).reshape(1, 4, 1))
    array([[3.]])
    """
    x = np.asarray(x, np.float64)
    return np.asarray(x.max(axis=_spatial(x), keepdims=keepdims))


def global_average_pool(x: ArrayLike, keepdims: bool = False) -> Array:
    """Return the mean over all spatial axes of `x` (n, spatial..., c): (n, c).

    With `keepdims` the spatial axes stay, with length 1.

    Examples
    --------
    >>> global_average_pool(np.arange(4.0).reshape(1, 4, 1))
    array([[1.5]])
    """
    x = np.asarray(x, np.float64)
    return np.asarray(x.mean(axis=_spatial(x), keepdims=keepdims))
