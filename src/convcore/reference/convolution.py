"""Convolutions: a loop over the kernel's taps, each one matrix product over the channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcore import shapes
from convcore.errors import ArgumentError
from convcore.shapes import Pairs, Sizes

Array = NDArray[np.float64]


def _pad(x: Array, padding: Pairs) -> Array:
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def _taps(
    kernel: Sizes, strides: Sizes, dilation: Sizes, windows: Sizes
) -> Iterator[tuple[Sizes, tuple[slice, ...]]]:
    """Yield each tap's index and the samples that it meets: those at i s + tap d, i < windows."""
    for tap in np.ndindex(*kernel):
        starts = [t * d for t, d in zip(tap, dilation, strict=True)]
        samples = tuple(
            slice(a, a + (o - 1) * s + 1, s) for a, s, o in zip(starts, strides, windows, strict=True)
        )
        yield tap, (slice(None), *samples)


def conv(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: Sizes,
    dilation: Sizes,
    groups: int = 1,
    padding: Pairs,
    flip: bool = False,
) -> Array:
    """Return the convolution of `x` (n, spatial..., ic) with `kernel` (k..., ic / groups, oc).

    ``y[p, o] = bias[o] + sum over t, c of x[p s + t d - low, c] kernel[t, c, o]``: a
    cross-correlation, as in Keras. `flip` turns the kernel around on its spatial axes: the
    convolution of mathematics. Group g reads the g-th block of input channels and writes the g-th
    block of output channels.

    Raises
    ------
    ArgumentError
        The channels do not fit the kernel and `groups`, or the output would be empty.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    >>> k = np.array([0.0, 1.0, 0.5]).reshape(3, 1, 1)
    >>> conv(x, k, strides=(1,), dilation=(1,), padding=((2, 2),), flip=True).ravel()
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    rank = x.ndim - 2
    ic, oc = x.shape[-1], kernel.shape[-1]
    if kernel.ndim != x.ndim or ic != kernel.shape[-2] * groups or oc % groups:
        raise ArgumentError(
            "reference.conv",
            "kernel and groups do not fit the input",
            got=f"input {x.shape}, kernel {kernel.shape}, groups {groups}",
            expected="kernel (k..., ic / groups, oc), oc divisible by groups",
        )
    if flip:
        kernel = np.flip(kernel, axis=tuple(range(rank)))
    size = kernel.shape[:-2]
    output = shapes.conv_output(x.shape[1:-1], size, strides, dilation, padding, "reference.conv")
    x = _pad(x, padding)
    # One leading axis per group turns a grouped convolution into `groups` stacked products.
    y = np.zeros((groups, x.shape[0], *output, oc // groups))
    for tap, samples in _taps(size, strides, dilation, output):
        for g, (xg, kg) in enumerate(
            zip(np.split(x[samples], groups, axis=-1), np.split(kernel[tap], groups, axis=-1), strict=True)
        ):
            y[g] += xg @ kg
    result = np.concatenate(list(y), axis=-1)
    return result if bias is None else result + np.asarray(bias, np.float64)


def depthwise_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: Sizes,
    dilation: Sizes,
    padding: Pairs,
) -> Array:
    """Return the depthwise convolution of `x` (n, spatial..., ic) with `kernel` (k..., ic, m).

    Every input channel has m kernels of its own; output channel ``c m + j`` is channel c through its
    kernel j.

    Examples
    --------
    >>> x = np.ones((1, 4, 2))
    >>> depthwise_conv(x, np.ones((3, 2, 1)), strides=(1,), dilation=(1,), padding=((0, 0),)).shape
    (1, 2, 2)
    """
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    if kernel.ndim != x.ndim or x.shape[-1] != kernel.shape[-2]:
        raise ArgumentError(
            "reference.depthwise_conv",
            "kernel does not fit the input",
            got=f"input {x.shape}, kernel {kernel.shape}",
            expected="kernel (k..., ic, m)",
        )
    size, ic, multiplier = kernel.shape[:-2], kernel.shape[-2], kernel.shape[-1]
    output = shapes.conv_output(x.shape[1:-1], size, strides, dilation, padding, "reference.depthwise_conv")
    x = _pad(x, padding)
    y = np.zeros((x.shape[0], *output, ic, multiplier))
    for tap, samples in _taps(size, strides, dilation, output):
        y += x[samples][..., np.newaxis] * kernel[tap]
    result = y.reshape(*y.shape[:-2], ic * multiplier)
    return result if bias is None else result + np.asarray(bias, np.float64)


def conv_transpose(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: Sizes,
    dilation: Sizes,
    padding: Pairs,
    output_size: Sizes,
) -> Array:
    """Return the transposed convolution of `x` (n, spatial..., ic) with `kernel` (k..., oc, ic).

    Every input sample adds its multiple of the kernel to the full output at p s + t d; `padding` is
    how much of that is cut at each end. A negative entry appends zeros, so that the bias alone
    stands there. It is the gradient of :func:`conv` with respect to its input.

    Raises
    ------
    ArgumentError
        The channels do not fit, or `output_size` is not what the crop leaves.

    Examples
    --------
    >>> x = np.ones((1, 2, 1))
    >>> conv_transpose(x, np.ones((3, 1, 1)), strides=(2,), dilation=(1,), padding=((0, 1),),
    ...                output_size=(4,)).ravel()
    array([1., 1., 2., 1.])
    """
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    if kernel.ndim != x.ndim or x.shape[-1] != kernel.shape[-1]:
        raise ArgumentError(
            "reference.conv_transpose",
            "kernel does not fit the input",
            got=f"input {x.shape}, kernel {kernel.shape}",
            expected="kernel (k..., oc, ic)",
        )
    sizes, size = x.shape[1:-1], kernel.shape[:-2]
    full = tuple(
        (i - 1) * s + (k - 1) * d + 1 for i, s, k, d in zip(sizes, strides, size, dilation, strict=True)
    )
    left = tuple(f - lo - hi for f, (lo, hi) in zip(full, padding, strict=True))
    if left != tuple(output_size):
        raise ArgumentError(
            "reference.conv_transpose",
            "output_size is not what the crop leaves",
            got=output_size,
            expected=left,
        )
    y = np.zeros((x.shape[0], *full, kernel.shape[-2]))
    for tap, samples in _taps(size, strides, dilation, sizes):
        y[samples] += x @ kernel[tap].T
    kept = tuple(slice(max(lo, 0), f - max(hi, 0)) for f, (lo, hi) in zip(full, padding, strict=True))
    y = _pad(y[(slice(None), *kept)], tuple((max(-lo, 0), max(-hi, 0)) for lo, hi in padding))
    return y if bias is None else y + np.asarray(bias, np.float64)
