"""Stored CT pixels to Hounsfield units."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from convcore.errors import ArgumentError, DTypeError
from convcore.ops.arrays import ArrayInput, Output, PixelsOut, as_array, dtype_among, empty, finite
from convcore.ops.call import Call
from convcore.ops.replay import replayed

__all__ = ["hu_rescale"]

_INPUTS = tuple(np.dtype(t) for t in ("int8", "uint8", "int16", "uint16", "int32"))
_OUTPUTS = tuple(np.dtype(t) for t in ("float32", "int16"))


def _stored(pixels: ArrayInput, where: str) -> NDArray[Any]:
    """Return pixels of a type that the library reads, in this machine's byte order."""
    a = as_array(pixels, "pixels", where)
    native = a.dtype.newbyteorder("=")
    if native not in _INPUTS:
        raise DTypeError(where, "pixels", got=str(a.dtype), expected=", ".join(t.name for t in _INPUTS))
    # DICOM has a big-endian transfer syntax: such pixels are swapped in a copy.
    return a if a.dtype == native and a.flags.aligned else a.astype(native)


def _per_slice(value: ArrayLike, slices: int | None, name: str, where: str) -> NDArray[np.float64]:
    try:
        v = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise DTypeError(
            where, name, got=type(value).__name__, expected="a number, or one per slice"
        ) from None
    if v.ndim > 1 or (v.ndim == 1 and len(v) != slices):
        raise ArgumentError(
            where,
            f"{name} must be one number or one per slice",
            got=f"shape {v.shape}",
            expected=f"a number or {slices} of them",
        )
    if not np.isfinite(v).all():
        raise ArgumentError(where, f"{name} must be finite", got=value)
    return v


def _padding(value: Any, dtype: np.dtype[Any], where: str) -> int | None:
    """Return the padding value as an integer, None if no pixel of `dtype` can have it."""
    if value is None:
        return None
    number = finite(value, "padding_value", where)
    if isinstance(value, bool) or number != math.floor(number):
        raise ArgumentError(where, "padding_value", got=repr(value), expected="an integer or None")
    limits = np.iinfo(dtype)
    return int(number) if limits.min <= number <= limits.max else None


@replayed("pixels")
def hu_rescale(
    pixels: ArrayInput,
    slope: ArrayLike,
    intercept: ArrayLike,
    *,
    padding_value: int | None = -2000,
    padding_to: Literal["article"] | float = "article",
    dtype: DTypeLike = "float32",
    out: PixelsOut | None = None,
    num_threads: int | None = None,
) -> PixelsOut:
    """``slope * pixels + intercept``: stored CT values to Hounsfield units (DICOM PS3.3 C.11.1).

    Definition: docs/operations/preprocessing.md#hu_rescale

    Parameters
    ----------
    pixels
        int8, uint8, int16, uint16 or int32, any shape, slices along the first axis. Either byte order.
    slope, intercept
        RescaleSlope and RescaleIntercept: one number each, or one per slice.
    padding_value
        The stored value of pixels outside the scanned circle. One that the type of `pixels` cannot
        hold matches nothing, and neither does None.
    padding_to
        "article": such pixels become raw 0 first and are rescaled then, so that they end up at the
        intercept. A number: the HU that they become; -1000 is air.
    dtype
        "float32": the exact value rounded once. "int16": rounded half to even, values outside the
        range set to its ends.
    out
        Array of the shape of `pixels` and of type `dtype` to write to.

    Returns
    -------
    ndarray
        HU, the shape of `pixels`; `out` if given.

    Raises
    ------
    DTypeError
        `pixels` or `dtype` of a type not listed.
    ArgumentError
        `slope` or `intercept` not finite or not one per slice; `padding_to` neither a finite number
        nor "article"; `out` does not fit.

    Examples
    --------
    >>> hu_rescale(np.array([-2000, 0, 1024], np.int16), 1, -1024)
    array([-1024., -1024.,     0.], dtype=float32)
    >>> hu_rescale(np.array([-2000, 0, 1024], np.int16), 1, -1024, padding_to=-1000, dtype="int16")
    array([-1000, -1024,     0], dtype=int16)
    """
    where = "hu_rescale"
    a = _stored(pixels, where)
    to = dtype_among(dtype, _OUTPUTS, where)
    slices = a.shape[0] if a.ndim else None
    slopes = _per_slice(slope, slices, "slope", where)
    intercepts = _per_slice(intercept, slices, "intercept", where)
    air = None if padding_to == "article" else finite(padding_to, "padding_to", where)
    absent = _padding(padding_value, a.dtype, where)
    result = Output(out, a.shape, where, (a,), dtype=to)
    if a.size:
        rows = a.shape[0] if slopes.ndim or intercepts.ndim else 1
        y = result.array
        direct = y.flags.c_contiguous
        target = y.reshape(rows, -1) if direct else empty((rows, a.size // rows), where, to)
        call = Call()
        call.step(
            "hu_rescale",
            x=call.view(a.reshape(rows, -1)),
            out=call.view(target),
            padding_value=absent,
            padding_to=air,
            slope=np.ascontiguousarray(np.broadcast_to(slopes, (rows,))),
            intercept=np.ascontiguousarray(np.broadcast_to(intercepts, (rows,))),
        )
        call.run()
        if not direct:
            y[...] = target.reshape(y.shape)
    return result.finish()
