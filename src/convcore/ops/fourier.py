"""Correlation by NumPy's Fourier transforms: for kernels so large that sums of products take longer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.errors import ArgumentError
from convcore.shapes import MOST_ELEMENTS

Array = NDArray[Any]

#: Samples of an axis that are transformed together are a product of these: what pocketfft has loops for.
_FACTORS = (2, 3, 5, 7, 11)
#: Time of a point of the transforms there and back, over the logarithm of all of them, in products and sums
#: of the direct kernel, by the number of axes. One transform of a long signal does not fit the caches.
_TIME = {1: 200.0, 2: 120.0, 3: 100.0}
#: How many times as long a product and sum takes in float64: vectors are half as long, nothing is fused.
_FLOAT64_TIME = 2.5


def good_size(n: int) -> int:
    """The least size from `n` on that is a product of 2, 3, 5, 7 and 11.

    Examples
    --------
    >>> good_size(13), good_size(1054)
    (14, 1056)
    """
    while True:
        rest = n
        for factor in _FACTORS:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def correlate(
    a: Array, w: Array, y: Array, *, axes: Sequence[int], low: Sequence[int], mode: str, value: float
) -> None:
    """Write to `y` the sums over t of a[o + t - low] * w[t] along `axes` (ascending), in the type of `w`.

    `mode` is ``np.pad``'s word for what lies beyond the edge of `a`, `value` that of "constant".
    """
    pairs, sizes = [(0, 0)] * a.ndim, []
    for i, k, lo in zip(axes, w.shape, low, strict=True):
        pairs[i] = (lo, max(0, y.shape[i] + k - 1 - lo - a.shape[i]))
        sizes.append(good_size(y.shape[i] + k - 1))
    if math.prod(sizes) * (a.size // math.prod(a.shape[i] for i in axes)) > MOST_ELEMENTS:
        raise ArgumentError("fft", "kernel and input are too large together", got=f"{a.shape}, {w.shape}")
    options: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
    source = np.pad(a.astype(w.dtype, copy=False), pairs, mode, **options)  # type: ignore[call-overload]
    spectrum = np.fft.rfftn(source, sizes, axes)
    factor = np.fft.rfftn(w, sizes, range(w.ndim)).conj()
    spectrum *= factor.reshape([factor.shape[axes.index(i)] if i in axes else 1 for i in range(a.ndim)])
    result = np.fft.irfftn(spectrum, sizes, axes)[tuple(slice(n) for n in y.shape)]
    if y.dtype.kind in "iu":
        limits = np.iinfo(y.dtype)
        result = np.clip(np.nan_to_num(np.rint(result), nan=limits.min), limits.min, limits.max)
    y[...] = result


def faster(taps: Sequence[int], sizes: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether transforms take less time than sums of products in `dtype`, by the shapes alone."""
    points = math.prod(good_size(n + k - 1) for n, k in zip(sizes, taps, strict=True))
    products = math.prod(taps) * math.prod(sizes) * (_FLOAT64_TIME if dtype.itemsize == 8 else 1.0)
    return products > _TIME[len(taps)] * points * math.log2(points)
