"""Transposed convolution in 1, 2 and 3 dimensions."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from convcore import shapes
from convcore.ops.arrays import ArrayInput, Axes, FloatOut, Out, Output, stored_shape, vector
from convcore.ops.call import Call
from convcore.ops.elementwise import fused
from convcore.ops.replay import replayed
from convcore.ops.windows import channels_error, map_inputs, run_last, window
from convcore.shapes import Padding

__all__ = ["conv1d_transpose", "conv2d_transpose", "conv3d_transpose"]


def transpose(
    rank: int,
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None,
    *,
    strides: Axes,
    padding: Padding,
    output_padding: Axes | None,
    dilation_rate: Axes,
    data_format: str,
    flip: bool,
    activation: str | None,
    out: FloatOut,
    dtype: DTypeLike | None,
) -> Any:
    """Transposed convolution over `rank` axes; see :func:`conv2d_transpose`."""
    where = f"conv{rank}d_transpose"
    a, kernel = map_inputs(rank, where, x, w, data_format, dtype)
    if a.shape[-1] != kernel.shape[-1]:
        raise channels_error(where, a, kernel, "w (k..., output channels, input channels)")
    oc, size = kernel.shape[-2], kernel.shape[:-2]
    b = None if bias is None else vector(bias, oc, "bias", where, dtype)
    steps = shapes.spatial_tuple(strides, rank, "strides", where)
    dilation = shapes.spatial_tuple(dilation_rate, rank, "dilation_rate", where)
    crop, output = shapes.conv_transpose_geometry(
        a.shape[1:-1], size, steps, dilation, padding, output_padding, where
    )
    native = fused(activation, where)
    result = Output(out, stored_shape((a.shape[0], *output, oc), data_format), where, (a,))
    call = Call()
    return run_last(
        call,
        result,
        data_format,
        where,
        operation="conv_transpose",
        weights=kernel,
        bias=b,
        x=call.map_view(a),
        flip=flip,
        activation=native,
        **window(size, steps, dilation, tuple(lo for lo, _ in crop)),
    )


@replayed("x", "w", "bias")
def conv1d_transpose(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    output_padding: Axes | None = None,
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """1-D transposed convolution of x (n, w, ic) with w (kw, oc, ic). See :func:`conv2d_transpose`.

    Definition: docs/operations/convolution.md#conv1d_transpose-conv2d_transpose-conv3d_transpose

    Examples
    --------
    >>> x, k = np.ones((1, 2, 1), np.float32), np.ones((3, 1, 1), np.float32)
    >>> conv1d_transpose(x, k, strides=2, padding="same").ravel()
    array([1., 1., 2., 1.], dtype=float32)
    """
    return transpose(
        1, x, w, bias, strides=strides, padding=padding, output_padding=output_padding, flip=flip,
        dilation_rate=dilation_rate, data_format=data_format, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip


@replayed("x", "w", "bias")
def conv2d_transpose(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    output_padding: Axes | None = None,
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """2-D transposed convolution: the gradient of :func:`conv2d` with respect to its input.

    Every input pixel adds its multiple of the kernel to the output, `strides` apart.

    Definition: docs/operations/convolution.md#conv1d_transpose-conv2d_transpose-conv3d_transpose

    Parameters
    ----------
    x
        (n, h, w, ic), or (n, ic, h, w) with ``data_format="channels_first"``.
    w
        Kernel (kh, kw, oc, ic): output channels before input channels, as Keras stores it.
    bias
        (oc,), or None.
    padding, output_padding
        How the full output is cropped, and what is added at its end: Keras's rules, tabulated at
        :func:`convcore.shapes.conv_transpose_geometry`.
    strides, dilation_rate, data_format, flip, activation, out, dtype
        As for :func:`conv2d`.

    Examples
    --------
    >>> x, k = np.ones((1, 1, 2, 1), np.float32), np.ones((1, 2, 1, 1), np.float32)
    >>> conv2d_transpose(x, k, strides=2)[0, :, :, 0]
    array([[1., 1., 1., 1.],
           [0., 0., 0., 0.]], dtype=float32)
    """
    return transpose(
        2, x, w, bias, strides=strides, padding=padding, output_padding=output_padding, flip=flip,
        dilation_rate=dilation_rate, data_format=data_format, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip


@replayed("x", "w", "bias")
def conv3d_transpose(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    output_padding: Axes | None = None,
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """3-D transposed convolution of x (n, d, h, w, ic), w (kd, kh, kw, oc, ic). See :func:`conv2d_transpose`.

    Definition: docs/operations/convolution.md#conv1d_transpose-conv2d_transpose-conv3d_transpose

    Examples
    --------
    >>> x, k = np.ones((1, 2, 2, 2, 1), np.float32), np.ones((2, 2, 2, 3, 1), np.float32)
    >>> conv3d_transpose(x, k, strides=2).shape
    (1, 4, 4, 4, 3)
    """
    return transpose(
        3, x, w, bias, strides=strides, padding=padding, output_padding=output_padding, flip=flip,
        dilation_rate=dilation_rate, data_format=data_format, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip
