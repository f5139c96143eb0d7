"""Stored CT pixels to Hounsfield units."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from convcore.errors import ArgumentError, DTypeError

_INPUTS = ("int8", "uint8", "int16", "uint16", "int32")


def _per_pixel(values: ArrayLike, pixels: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return a scalar, or one value per slice shaped to broadcast along axis 0."""
    v = np.asarray(values, np.float64)
    if v.ndim > 1 or (v.ndim == 1 and (pixels.ndim == 0 or v.shape[0] != pixels.shape[0])):
        raise ArgumentError(
            "reference.hu_rescale",
            f"{name} must be one number or one per slice",
            got=f"shape {v.shape} for pixels {pixels.shape}",
        )
    if not np.isfinite(v).all():
        raise ArgumentError("reference.hu_rescale", f"{name} must be finite", got=values)
    return v if v.ndim == 0 else v.reshape(-1, *(1,) * (pixels.ndim - 1))


def hu_rescale(
    pixels: ArrayLike,
    slope: ArrayLike,
    intercept: ArrayLike,
    *,
    padding_value: int | None = -2000,
    padding_to: Literal["article"] | float = "article",
    dtype: DTypeLike = "float32",
) -> NDArray[Any]:
    """Return ``slope * pixels + intercept`` in Hounsfield units.

    Parameters
    ----------
    pixels
        int8, uint8, int16, uint16 or int32, any shape; slices along axis 0.
    slope, intercept
        DICOM's RescaleSlope and RescaleIntercept: scalars, or one per slice.
    padding_value
        The stored value of pixels outside the scanned circle. One that the type of `pixels` cannot
        hold matches nothing, and neither does None.
    padding_to
        "article": such pixels become raw 0 first and are rescaled then. A number: the value in HU
        that they become.
    dtype
        float32: the exact result rounded once (from float64). int16: rounded half to even, values
        outside the range set to its ends.

    Raises
    ------
    DTypeError
        `pixels` or `dtype` of another type.
    ArgumentError
        `slope` or `intercept` not finite, or not one per slice; `padding_to` neither a finite number
        nor "article".

    Examples
    --------
    >>> hu_rescale(np.array([-2000, 0, 1024], np.int16), 1, -1024)
    array([-1024., -1024.,     0.], dtype=float32)
    """
    raw = np.asarray(pixels)
    if raw.dtype.name not in _INPUTS:
        raise DTypeError("reference.hu_rescale", "pixels", got=raw.dtype.name, expected=", ".join(_INPUTS))
    out = np.dtype(dtype)
    if out.name not in ("float32", "int16"):
        raise DTypeError("reference.hu_rescale", "dtype", got=out.name, expected="float32 or int16")
    if padding_to != "article" and (isinstance(padding_to, str) or not np.isfinite(padding_to)):
        raise ArgumentError(
            "reference.hu_rescale", "padding_to", got=padding_to, expected='a finite number or "article"'
        )
    # Widened first: comparing a uint16 array with -2000 must be false, never an overflow.
    wide = raw.astype(np.float64)
    is_padding = np.zeros(raw.shape, bool) if padding_value is None else wide == padding_value
    if padding_to == "article":
        wide = np.where(is_padding, 0.0, wide)
    hu = wide * _per_pixel(slope, raw, "slope") + _per_pixel(intercept, raw, "intercept")
    if padding_to != "article":
        hu = np.where(is_padding, float(padding_to), hu)
    if out == np.int16:
        limits = np.iinfo(np.int16)
        hu = np.clip(np.rint(hu), limits.min, limits.max)
    with np.errstate(over="ignore"):  # a slope beyond float32's range may give inf, as the kernel does
        return hu.astype(out)
