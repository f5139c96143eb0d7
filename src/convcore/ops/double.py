"""Convolution and depthwise convolution in float64, where ``dtype="float64"`` asks for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convcore import _native, activations
from convcore.errors import ArgumentError, DTypeError
from convcore.ops.arrays import (
    FLOAT32,
    FLOAT64,
    ArrayInput,
    Axes,
    FloatOut,
    Output,
    as_array,
    backend,
    channels_last,
    check_map,
    dtype_among,
    stored_shape,
)
from convcore.ops.call import Call
from convcore.ops.windows import channels_error, check_kernel, conv_geometry, sizes_named, window
from convcore.shapes import Padding, spatial_tuple

__all__ = ["in_double", "is_double"]

_ACTIVATIONS = (None, "linear", "relu")


def is_double(dtype: DTypeLike | None, where: str) -> bool:
    """Whether the argument `dtype`, which may also be float32, asks for float64."""
    if dtype is None or dtype_among(dtype, (FLOAT32, FLOAT64), where) == FLOAT32:
        return False
    if backend.get().step is not _native.Step:
        raise DTypeError(where, "dtype", got="float64", expected="float32, on a GPU")
    return True


def _as_double(x: ArrayInput, name: str, where: str) -> NDArray[np.float64]:
    a = as_array(x, name, where)
    if a.dtype.kind not in "biuf":
        raise DTypeError(where, name, got=str(a.dtype), expected="real numbers")
    return a if a.dtype == FLOAT64 and a.flags.aligned else a.astype(FLOAT64)


def in_double(
    operation: str,
    where: str,
    rank: int,
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None,
    *,
    strides: Axes,
    padding: Padding,
    dilation_rate: Axes,
    groups: int = 1,
    data_format: str,
    flip: bool,
    activation: str | None,
    out: FloatOut,
) -> Any:
    """Return what `operation`, "conv" or "depthwise_conv", computes in float64; arguments as there."""
    a, kernel = _as_double(x, "x", where), _as_double(w, "w", where)
    check_map(a, where, rank)
    a = channels_last(a, data_format, where)
    check_kernel(kernel, rank, "w", where)
    (parts,) = spatial_tuple(groups, 1, "groups", where, a.shape[-1])
    depthwise = operation == "depthwise_conv"
    oc = kernel.shape[-1] * (kernel.shape[-2] if depthwise else 1)
    if a.shape[-1] != kernel.shape[-2] * parts or oc % parts:
        raise channels_error(where, a, kernel, f"as many channels in w's last axis but one, times {parts}")
    b = np.zeros(oc) if bias is None else _as_double(bias, "bias", where)
    if b.shape != (oc,):
        raise ArgumentError(where, "shape of bias", got=b.shape, expected=(oc,))
    if activation not in _ACTIVATIONS:
        raise ArgumentError(
            where, "activation in float64", got=activation, expected='None, "linear" or "relu"'
        )
    size = kernel.shape[:-2]
    steps, dilation, pairs, output = conv_geometry(where, a, size, strides, dilation_rate, padding)
    shape = stored_shape((a.shape[0], *output, oc), data_format)
    result = Output(out, shape, where, (a,), dtype=FLOAT64)
    if math.prod(shape):
        y = channels_last(result.array, data_format, where)
        fields = window(size, steps, dilation, tuple(lo for lo, _ in pairs))
        call = Call()
        with sizes_named(where, y, fields):
            call.step(
                operation,
                x=call.map_view(a),
                x2=call.view(np.concatenate([b, kernel.ravel()])),
                out=call.map_view(y),
                groups=parts,
                flip=flip,
                activation=activations.native(activation or "linear", {}, where),
                **fields,
            )
        call.run()
    return result.finish()
