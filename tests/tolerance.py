"""How far a computed result may be from the reference: formulas, never numbers tuned until green.

u is the unit roundoff: half of a type's machine epsilon, 2**-24 for float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[np.float64]


def unit_roundoff(dtype: DTypeLike = np.float32) -> float:
    """Return the largest relative error of rounding a number to `dtype`."""
    return float(np.finfo(dtype).eps) / 2


def dot_bound(length: int, absolute_products: ArrayLike, dtype: DTypeLike = np.float32) -> Array:
    """Return the error bound ``2 k u sum|a b|`` of a dot product of `length` k, in any order of sums.

    `absolute_products` is ``sum|a b|`` per output: the same operation on absolute values, with the
    bias counted as one more product. The classical bound is ``k u / (1 - k u)`` times that sum
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). The factor 2 covers the
    denominator and the rounding of the result, or a second computation to compare with.
    """
    return 2 * length * unit_roundoff(dtype) * np.asarray(absolute_products, np.float64)


def relative_bound(roundings: int, magnitude: ArrayLike, dtype: DTypeLike = np.float32) -> Array:
    """Return the bound of `roundings` roundings on values no larger than `magnitude`."""
    return 2 * roundings * unit_roundoff(dtype) * np.abs(np.asarray(magnitude, np.float64))


def ulp_difference(got: ArrayLike, exact: ArrayLike, dtype: DTypeLike = np.float32) -> Array:
    """Return ``|got - exact|`` in units in the last place of `exact` in `dtype`.

    `exact` keeps its float64 value, so half a unit is the best that any function can do. Equal
    infinities and NaN against NaN count as 0; one against anything else counts as infinite.
    """
    got, exact = np.asarray(got, np.float64), np.asarray(exact, np.float64)
    info = np.finfo(dtype)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        exponent = np.floor(np.log2(np.maximum(np.abs(exact), float(info.smallest_normal))))
        spacing = np.ldexp(1.0, np.nan_to_num(exponent, posinf=0).astype(int) - info.nmant)
        # A value that rounds to infinity is right as infinity.
        rounded = exact.astype(dtype).astype(np.float64)
        same = (got == exact) | (np.isinf(got) & (got == rounded)) | (np.isnan(got) & np.isnan(exact))
        error = np.abs(got - exact) / spacing
    return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))


def assert_within(got: ArrayLike, expected: ArrayLike, bound: ArrayLike) -> None:
    """Fail unless ``|got - expected| <= bound`` everywhere, naming the worst place."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    bound = np.broadcast_to(np.asarray(bound, np.float64), got.shape)
    excess = np.abs(got - expected) - bound
    if not (excess <= 0).all():
        worst: Any = np.unravel_index(np.argmax(np.nan_to_num(excess, nan=np.inf)), got.shape)
        raise AssertionError(
            f"at {tuple(int(i) for i in worst)}: got {got[worst]!r}, expected {expected[worst]!r}, "
            f"error {abs(got[worst] - expected[worst]):.3g}, bound {bound[worst]:.3g}"
        )
