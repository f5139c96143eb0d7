"""HU rescaling: the article's order, the corrected one, types, rounding and saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convcore.errors import ArgumentError, DTypeError
from convcore.reference import hu_rescale

RAW = np.array([-2000, -1024, 0, 24, 32767], np.int16)


def test_padding_becomes_raw_zero_before_rescaling() -> None:
    assert hu_rescale(RAW, 1, -1024).tolist() == [-1024, -2048, -1024, -1000, 31743]
    # With intercept 0 the article's order makes padding water; a number names the HU itself.
    assert hu_rescale(RAW, 1, 0)[0] == 0
    assert hu_rescale(RAW, 1, 0, padding_to=-1000)[0] == -1000
    assert hu_rescale(RAW, 2, -1024, padding_to=-1000)[0] == -1000


def test_any_padding_value_or_none() -> None:
    assert hu_rescale(RAW, 1, 0, padding_value=24).tolist() == [-2000, -1024, 0, 0, 32767]
    assert hu_rescale(RAW, 1, 0, padding_value=None).tolist() == RAW.tolist()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
def test_every_stored_type(dtype: str) -> None:
    limits = np.iinfo(dtype)
    pixels = np.array([limits.min, 0, 1, limits.max], dtype)
    expected = (pixels.astype(np.float64) * 0.5 - 7).astype(np.float32)
    assert (hu_rescale(pixels, 0.5, -7) == expected).all()


def test_a_padding_value_outside_the_type_matches_nothing() -> None:
    wrapped = np.array([63536, 0], np.uint16)  # -2000 in the bits of an int16
    assert hu_rescale(wrapped, 1, 0, padding_to=-1000).tolist() == [63536, 0]
    assert hu_rescale(wrapped, 1, 0, padding_value=63536, padding_to=-1000).tolist() == [-1000, 0]


def test_int16_rounds_half_to_even_and_saturates() -> None:
    pixels = np.array([1, 3, 5, -1, -3], np.int16)
    assert hu_rescale(pixels, 0.5, 0, dtype="int16").tolist() == [0, 2, 2, 0, -2]
    ends = np.array([-32768, 32767], np.int16)
    y = hu_rescale(ends, 2, 0, dtype=np.int16)
    assert y.dtype == np.int16 and y.tolist() == [-32768, 32767]
    assert hu_rescale(RAW, 1, 0, padding_to=1e9, dtype="int16")[0] == 32767


def test_float32_is_rounded_once() -> None:
    pixels = np.array([2**24 + 1], np.int32)
    # float32 arithmetic would lose the 1 before the intercept cancels the rest.
    assert hu_rescale(pixels, 1, -(2**24)).tolist() == [1]


def test_slope_and_intercept_per_slice() -> None:
    pixels = np.arange(12, dtype=np.int16).reshape(3, 2, 2)
    slope, intercept = np.array([1, 2, 0.5]), [0, -10, 100]
    expected = np.stack([hu_rescale(p, s, i) for p, s, i in zip(pixels, slope, intercept, strict=True)])
    assert (hu_rescale(pixels, slope, intercept) == expected).all()


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((RAW.astype(np.float32), 1, 0), {}, DTypeError),
        ((RAW.astype(np.int64), 1, 0), {}, DTypeError),
        ((RAW, 1, 0), {"dtype": "float64"}, DTypeError),
        ((RAW, [1, 2], 0), {}, ArgumentError),
        ((RAW, 1, np.zeros((5, 1))), {}, ArgumentError),
        ((RAW, np.nan, 0), {}, ArgumentError),
        ((RAW, 1, np.inf), {}, ArgumentError),
        ((RAW, 1, 0), {"padding_to": "air"}, ArgumentError),
        ((RAW, 1, 0), {"padding_to": np.nan}, ArgumentError),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="hu_rescale"):
        hu_rescale(*arguments, **options)
