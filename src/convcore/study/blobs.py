"""Arrays of a report: JSON says which blob, type and shape; the bytes lie beside it as base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convcore.errors import ArgumentError
from convcore.extras import import_cv2

__all__ = ["Blobs"]

_DTYPES = frozenset({"float32", "int16", "uint8"})


class Blobs:
    """The binary parts of a record, numbered as they come.

    Examples
    --------
    >>> blobs = Blobs()
    >>> blobs.add(np.float32([1, 2])), blobs.encoded
    ({'blob': 0, 'dtype': 'float32', 'shape': [2]}, ['AACAPwAAAEA='])
    """

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def add(self, array: ArrayLike) -> dict[str, Any]:
        """Keep float32, int16 or uint8 numbers, little-endian in C order; return the JSON that names them."""
        array = np.asarray(array)
        if array.dtype.name not in _DTYPES:
            raise ArgumentError("Blobs.add", "dtype", got=str(array.dtype), expected=", ".join(_DTYPES))
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return self._keep(little.tobytes(), array.dtype.name, array.shape)

    def add_png(self, picture: np.ndarray) -> dict[str, Any]:
        """Keep a uint8 picture (rows, columns) or (rows, columns, 3) RGB as PNG.

        Raises
        ------
        MissingExtraError
            OpenCV is not installed.
        """
        cv2 = import_cv2()
        ordered = np.ascontiguousarray(picture if picture.ndim == 2 else picture[:, :, ::-1])
        done, encoded = cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 6])
        if not done:
            raise ArgumentError("Blobs.add_png", "OpenCV cannot encode the picture", got=picture.shape)
        return self._keep(encoded.tobytes(), "png", picture.shape)

    def _keep(self, data: bytes, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
        self.encoded.append(base64.b64encode(data).decode("ascii"))
        return {"blob": len(self.encoded) - 1, "dtype": dtype, "shape": list(shape)}
