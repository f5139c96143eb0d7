"""Depthwise and separable convolution in 1 and 2 dimensions."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from convcore.errors import ArgumentError
from convcore.ops.arrays import ArrayInput, Axes, FloatOut, Out, Output, as_float, stored_shape, vector
from convcore.ops.call import Call
from convcore.ops.double import in_double, is_double
from convcore.ops.elementwise import fused
from convcore.ops.replay import replayed
from convcore.ops.windows import channels_error, check_kernel, conv_geometry, map_inputs, run_last, window
from convcore.shapes import Padding

__all__ = ["depthwise_conv1d", "depthwise_conv2d", "separable_conv1d", "separable_conv2d"]


def depthwise(
    rank: int,
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None,
    *,
    strides: Axes,
    padding: Padding,
    dilation_rate: Axes,
    data_format: str,
    flip: bool,
    activation: str | None,
    out: FloatOut,
    dtype: DTypeLike | None,
) -> Any:
    """Depthwise convolution over `rank` axes; see :func:`depthwise_conv2d`."""
    where = f"depthwise_conv{rank}d"
    if is_double(dtype, where):
        return in_double(
            "depthwise_conv", where, rank, x, w, bias, strides=strides, padding=padding,
            dilation_rate=dilation_rate, data_format=data_format, flip=flip, activation=activation, out=out,
        )  # fmt: skip
    a, kernel = map_inputs(rank, where, x, w, data_format, dtype)
    if a.shape[-1] != kernel.shape[-2]:
        raise channels_error(where, a, kernel, "w (k..., input channels, multiplier)")
    oc = kernel.shape[-2] * kernel.shape[-1]
    b = None if bias is None else vector(bias, oc, "bias", where, dtype)
    size = kernel.shape[:-2]
    steps, dilation, pairs, output = conv_geometry(where, a, size, strides, dilation_rate, padding)
    native = fused(activation, where)
    result = Output(out, stored_shape((a.shape[0], *output, oc), data_format), where, (a,))
    call = Call()
    return run_last(
        call,
        result,
        data_format,
        where,
        operation="depthwise_conv",
        weights=kernel,
        bias=b,
        x=call.map_view(a),
        flip=flip,
        activation=native,
        **window(size, steps, dilation, tuple(lo for lo, _ in pairs)),
    )


@replayed("x", "w", "bias")
def depthwise_conv1d(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """1-D depthwise convolution of x (n, w, ic) with w (kw, ic, m). See :func:`depthwise_conv2d`.

    Definition: docs/operations/convolution.md#depthwise_conv1d-depthwise_conv2d

    Examples
    --------
    >>> depthwise_conv1d(np.ones((1, 4, 2), np.float32), np.ones((3, 2, 1), np.float32)).shape
    (1, 2, 2)
    """
    return depthwise(
        1, x, w, bias, strides=strides, padding=padding, dilation_rate=dilation_rate,
        data_format=data_format, flip=flip, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip


@replayed("x", "w", "bias")
def depthwise_conv2d(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """2-D depthwise convolution: every input channel goes through m kernels of its own.

    `w` is (kh, kw, ic, m), `bias` (ic * m,); output channel ``c * m + j`` is channel c through its
    kernel j. For the other arguments see :func:`conv2d`.

    Definition: docs/operations/convolution.md#depthwise_conv1d-depthwise_conv2d

    Examples
    --------
    >>> x = np.ones((1, 3, 3, 2), np.float32)
    >>> depthwise_conv2d(x, np.ones((3, 3, 2, 2), np.float32)).ravel()
    array([9., 9., 9., 9.], dtype=float32)
    """
    return depthwise(
        2, x, w, bias, strides=strides, padding=padding, dilation_rate=dilation_rate,
        data_format=data_format, flip=flip, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip


def separable(
    rank: int,
    x: ArrayInput,
    depthwise: ArrayInput,
    pointwise: ArrayInput,
    bias: ArrayInput | None,
    *,
    strides: Axes,
    padding: Padding,
    dilation_rate: Axes,
    data_format: str,
    flip: bool,
    activation: str | None,
    out: FloatOut,
    dtype: DTypeLike | None,
) -> Any:
    """Separable convolution over `rank` axes; see :func:`separable_conv2d`."""
    where = f"separable_conv{rank}d"
    a, first = map_inputs(rank, where, x, depthwise, data_format, dtype)
    second = as_float(pointwise, "pointwise", where, dtype)
    check_kernel(second, rank, "pointwise", where)
    if a.shape[-1] != first.shape[-2]:
        raise channels_error(where, a, first, "depthwise (k..., input channels, multiplier)")
    between, oc = first.shape[-2] * first.shape[-1], second.shape[-1]
    expected = ((1,) * rank) + (between, oc)
    if second.shape != expected:
        raise ArgumentError(where, "shape of pointwise", got=second.shape, expected=expected)
    b = None if bias is None else vector(bias, oc, "bias", where, dtype)
    size = first.shape[:-2]
    steps, dilation, pairs, output = conv_geometry(where, a, size, strides, dilation_rate, padding)
    native = fused(activation, where)
    result = Output(out, stored_shape((a.shape[0], *output, oc), data_format), where, (a,))
    call = Call()
    middle = call.scratch((a.shape[0], *output, between), where)
    if middle.size:
        call.step(
            "depthwise_conv",
            weights=first,
            x=call.map_view(a),
            out=call.map_view(middle),
            flip=flip,
            **window(size, steps, dilation, tuple(lo for lo, _ in pairs)),
        )
    return run_last(
        call,
        result,
        data_format,
        where,
        operation="conv",
        weights=second,
        bias=b,
        x=call.map_view(middle),
        activation=native,
    )


@replayed("x", "depthwise", "pointwise", "bias")
def separable_conv1d(
    x: ArrayInput,
    depthwise: ArrayInput,
    pointwise: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """1-D separable convolution: `depthwise` (kw, ic, m), then `pointwise` (1, ic * m, oc).

    See :func:`separable_conv2d`.

    Definition: docs/operations/convolution.md#separable_conv1d-separable_conv2d

    Examples
    --------
    >>> x, dw = np.ones((1, 5, 2), np.float32), np.ones((3, 2, 1), np.float32)
    >>> separable_conv1d(x, dw, np.ones((1, 2, 4), np.float32)).shape
    (1, 3, 4)
    """
    return separable(
        1, x, depthwise, pointwise, bias, strides=strides, padding=padding, dilation_rate=dilation_rate,
        data_format=data_format, flip=flip, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip


@replayed("x", "depthwise", "pointwise", "bias")
def separable_conv2d(
    x: ArrayInput,
    depthwise: ArrayInput,
    pointwise: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """2-D separable convolution: a depthwise one, then a 1x1 convolution that mixes its channels.

    `depthwise` is (kh, kw, ic, m) and takes strides, padding, dilation and flip; `pointwise` is
    (1, 1, ic * m, oc); `bias` (oc,) and `activation` come last. For the other arguments see
    :func:`conv2d`.

    Definition: docs/operations/convolution.md#separable_conv1d-separable_conv2d

    Examples
    --------
    >>> x, dw = np.ones((1, 3, 3, 2), np.float32), np.ones((3, 3, 2, 1), np.float32)
    >>> separable_conv2d(x, dw, np.ones((1, 1, 2, 1), np.float32)).ravel()
    array([18.], dtype=float32)
    """
    return separable(
        2, x, depthwise, pointwise, bias, strides=strides, padding=padding, dilation_rate=dilation_rate,
        data_format=data_format, flip=flip, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip
