"""bfloat16 in NumPy, which has no such type: the upper halves of float32 numbers, as uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NAN", "from_bfloat16", "to_bfloat16"]

#: What every NaN becomes, as on NVIDIA's GPUs.
NAN = 0x7FFF

_EXPONENT, _ALL_BUT_SIGN = np.uint32(0x7F800000), np.uint32(0x7FFFFFFF)


def to_bfloat16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16 numbers, ties to even: within 2^-8 of each from 2^-126 up.

    Examples
    --------
    >>> [hex(bits) for bits in to_bfloat16(np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, np.nan]))]
    ['0x3f80', '0x3f80', '0x3f82', '0x7f80', '0x7fff']
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    rounded[(bits & _ALL_BUT_SIGN) > _EXPONENT] = NAN
    return rounded


def from_bfloat16(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return as float32 the numbers that bits of bfloat16 are.

    Examples
    --------
    >>> from_bfloat16(np.uint16([0x3f80, 0xc000]))
    array([ 1., -2.], dtype=float32)
    """
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
