"""Convolution in 1, 2 and 3 dimensions."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from convcore import shapes
from convcore.ops.arrays import ArrayInput, Axes, FloatOut, Out, Output, stored_shape, vector
from convcore.ops.call import Call
from convcore.ops.double import in_double, is_double
from convcore.ops.elementwise import fused
from convcore.ops.replay import replayed
from convcore.ops.windows import channels_error, conv_geometry, map_inputs, run_last, window
from convcore.shapes import Padding

__all__ = ["conv1d", "conv2d", "conv3d"]


def conv(
    rank: int,
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None,
    *,
    strides: Axes,
    padding: Padding,
    dilation_rate: Axes,
    groups: int,
    data_format: str,
    flip: bool,
    activation: str | None,
    out: FloatOut,
    dtype: DTypeLike | None,
    accuracy: str = "direct",
) -> Any:
    """Convolution over `rank` axes; see :func:`conv2d`, and :func:`prepare_conv2d` for `accuracy`."""
    where = f"conv{rank}d"
    if is_double(dtype, where):
        return in_double(
            "conv", where, rank, x, w, bias, strides=strides, padding=padding, dilation_rate=dilation_rate,
            groups=groups, data_format=data_format, flip=flip, activation=activation, out=out,
        )  # fmt: skip
    a, kernel = map_inputs(rank, where, x, w, data_format, dtype)
    (parts,) = shapes.spatial_tuple(groups, 1, "groups", where, shapes.MOST_ELEMENTS)
    oc = kernel.shape[-1]
    if a.shape[-1] != kernel.shape[-2] * parts or oc % parts:
        raise channels_error(where, a, kernel, f"w (k..., input channels / {parts}, a multiple of {parts})")
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
        operation="conv",
        weights=kernel,
        bias=b,
        x=call.map_view(a),
        groups=parts,
        flip=flip,
        activation=native,
        accuracy=accuracy,
        **window(size, steps, dilation, tuple(lo for lo, _ in pairs)),
    )


@replayed("x", "w", "bias")
def conv1d(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """1-D convolution of x (n, w, ic) with w (kw, ic / groups, oc): (n, ow, oc).

    `padding` may also be "causal". For the rest see :func:`conv2d`.

    Definition: docs/operations/convolution.md#conv1d-conv2d-conv3d

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0], np.float32).reshape(1, 3, 1)
    >>> k = np.array([0.0, 1.0, 0.5], np.float32).reshape(3, 1, 1)
    >>> conv1d(x, k, padding="full", flip=True).ravel()
    array([0. , 1. , 2.5, 4. , 1.5], dtype=float32)
    """
    return conv(
        1, x, w, bias, strides=strides, padding=padding, dilation_rate=dilation_rate, groups=groups,
        data_format=data_format, flip=flip, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip


@replayed("x", "w", "bias")
def conv2d(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """2-D convolution, as in Keras: every output is a bias plus the dot product of window and kernel.

    Definition: docs/operations/convolution.md#conv1d-conv2d-conv3d

    Parameters
    ----------
    x
        Images (n, h, w, ic), float32; (n, ic, h, w) with ``data_format="channels_first"``.
    w
        Kernel (kh, kw, ic / groups, oc) in either data format.
    bias
        (oc,), or None.
    strides, dilation_rate
        One integer, or one per spatial axis.
    padding
        "valid" (none), "same" (Keras's: the odd zero at the end), "same_lower", "full"; or integers:
        one, one per axis, or one (low, high) pair per axis.
    groups
        Input and output channels fall into this many groups that do not see each other.
    data_format
        "channels_last" or "channels_first", of `x` and of the result.
    flip
        True turns the kernel around: the convolution of mathematics (and Theano's) instead of the
        cross-correlation that the layers of networks compute.
    activation
        None, or the name of an elementwise function, computed in the same pass with its defaults.
    out
        Array of float32 of the result's shape to write to.
    dtype
        ``"float32"``: convert inputs of other real types first. Without it they are refused.
        ``"float64"``: convert to, and compute in, float64, on the CPU and with no other activation than
        ReLU; a simple kernel, for where exactness counts and time does not.

    Returns
    -------
    ndarray
        (n, oh, ow, oc), or (n, oc, oh, ow); `out` if given.

    Raises
    ------
    ArgumentError
        Shapes do not fit, or an option that is not defined. Nothing was computed.
    DTypeError
        An input is no array of float32.

    Examples
    --------
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> conv2d(x, np.ones((2, 2, 1, 1), np.float32))[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    return conv(
        2, x, w, bias, strides=strides, padding=padding, dilation_rate=dilation_rate, groups=groups,
        data_format=data_format, flip=flip, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip


@replayed("x", "w", "bias")
def conv3d(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """3-D convolution of x (n, d, h, w, ic) with w (kd, kh, kw, ic / groups, oc). See :func:`conv2d`.

    Definition: docs/operations/convolution.md#conv1d-conv2d-conv3d

    Examples
    --------
    >>> x = np.ones((1, 4, 4, 4, 2), np.float32)
    >>> conv3d(x, np.ones((3, 3, 3, 2, 1), np.float32), padding="same")[0, 1, 1, 1, 0]
    np.float32(54.0)
    """
    return conv(
        3, x, w, bias, strides=strides, padding=padding, dilation_rate=dilation_rate, groups=groups,
        data_format=data_format, flip=flip, activation=activation, out=out, dtype=dtype,
    )  # fmt: skip
