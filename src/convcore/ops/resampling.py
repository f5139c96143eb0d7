"""Moving, repeating and interpolating samples: padding, cropping, upsampling, resizing images and volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from convcore import shapes
from convcore.errors import ArgumentError
from convcore.ops.arrays import (
    ArrayInput,
    Axes,
    Out,
    Output,
    as_float,
    as_map,
    channels_last,
    stored_shape,
)
from convcore.ops.call import Call, steps_of
from convcore.ops.replay import replayed

__all__ = ["crop", "resample", "resize", "upsample", "zero_pad"]

_Sides = int | Sequence[int] | Sequence[Sequence[int]]


@replayed("x")
def zero_pad(
    x: ArrayInput,
    padding: _Sides = 1,
    *,
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Surround the spatial axes of x (n, spatial..., c) with zeros.

    `padding` is one integer for every side, one per axis, or one (low, high) pair per axis. For the
    other arguments see :func:`conv2d`.

    Definition: docs/operations/shapes.md#zero_pad

    Examples
    --------
    >>> zero_pad(np.ones((1, 2, 1), np.float32), [(1, 2)]).ravel()
    array([0., 1., 1., 0., 0.], dtype=float32)
    """
    where = "zero_pad"
    a = as_map(x, data_format, where, dtype)
    pairs = shapes.side_pairs(padding, a.ndim - 2, "padding", where)
    sizes = tuple(i + lo + hi for i, (lo, hi) in zip(a.shape[1:-1], pairs, strict=True))
    result = Output(out, stored_shape((a.shape[0], *sizes, a.shape[-1]), data_format), where, (a,))
    if result.array.size:
        y = channels_last(result.array, data_format, where)
        inside = tuple(slice(lo, lo + i) for i, (lo, _) in zip(a.shape[1:-1], pairs, strict=True))
        call = Call()
        call.step("fill", out=call.map_view(y))
        call.step("copy", x=call.map_view(a), out=call.map_view(y[(slice(None), *inside)]))
        call.run()
    return result.finish()


@replayed("x")
def crop(
    x: ArrayInput,
    cropping: _Sides = 1,
    *,
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Cut samples off the spatial axes of x (n, spatial..., c); the result is a copy.

    `cropping` is one integer for every side, one per axis, or one (low, high) pair per axis. For the
    other arguments see :func:`conv2d`.

    Definition: docs/operations/shapes.md#crop

    Examples
    --------
    >>> crop(np.arange(5, dtype=np.float32).reshape(1, 5, 1), [(1, 2)]).ravel()
    array([1., 2.], dtype=float32)
    """
    where = "crop"
    a = as_map(x, data_format, where, dtype)
    pairs = shapes.side_pairs(cropping, a.ndim - 2, "cropping", where, shapes.MOST_ELEMENTS)
    sizes = tuple(i - lo - hi for i, (lo, hi) in zip(a.shape[1:-1], pairs, strict=True))
    if min(sizes) < 1:
        raise ArgumentError(
            where, "nothing would be left", got=pairs, expected=f"less than {a.shape[1:-1]} in sum"
        )
    result = Output(out, stored_shape((a.shape[0], *sizes, a.shape[-1]), data_format), where, (a,))
    if result.array.size:
        kept = tuple(slice(lo, lo + o) for o, (lo, _) in zip(sizes, pairs, strict=True))
        call = Call()
        call.step(
            "copy",
            x=call.map_view(a[(slice(None), *kept)]),
            out=call.map_view(channels_last(result.array, data_format, where)),
        )
        call.run()
    return result.finish()


@replayed("x")
def upsample(
    x: ArrayInput,
    size: Axes = 2,
    *,
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Repeat every sample of x (n, spatial..., c) ``size[a]`` times along spatial axis a.

    For the other arguments see :func:`conv2d`.

    Definition: docs/operations/shapes.md#upsample

    Examples
    --------
    >>> upsample(np.array([1.0, 2.0], np.float32).reshape(1, 2, 1)).ravel()
    array([1., 1., 2., 2.], dtype=float32)
    """
    where = "upsample"
    a = as_map(x, data_format, where, dtype)
    factors = shapes.spatial_tuple(size, a.ndim - 2, "size", where, shapes.MOST_ELEMENTS)
    sizes = tuple(i * f for i, f in zip(a.shape[1:-1], factors, strict=True))
    result = Output(out, stored_shape((a.shape[0], *sizes, a.shape[-1]), data_format), where, (a,))
    if result.array.size:
        y = channels_last(result.array, data_format, where)
        # A copy in which each spatial axis is two: the sample, and its repetitions, which read the
        # same place (step 0) and write neighbouring ones.
        shape, x_ld, y_ld = [a.shape[0]], steps_of(a)[:1], steps_of(y)[:1]
        for i, f, sx, sy in zip(a.shape[1:-1], factors, steps_of(a)[1:-1], steps_of(y)[1:-1], strict=True):
            shape += [i, f]
            x_ld += [sx, 0]
            y_ld += [sy * f, sy]
        shape.append(a.shape[-1])
        call = Call()
        call.step(
            "copy",
            x=call.view(a, shape, [*x_ld, steps_of(a)[-1]]),
            out=call.view(y, shape, [*y_ld, steps_of(y)[-1]]),
        )
        call.run()
    return result.finish()


@replayed("volume")
def resample(
    volume: ArrayInput,
    output_shape: Sequence[int],
    *,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Linear interpolation of a volume to another number of voxels.

    The centres of the first and last voxels stay where they are: output index p of an axis lies at
    ``p * (i - 1) / (o - 1)`` of the input. This is ``scipy.ndimage.zoom`` with ``order=1``,
    ``mode="nearest"`` and ``grid_mode=False``.

    Definition: docs/operations/resampling.md#resample

    Parameters
    ----------
    volume
        (d, h, w) or (d, h, w, c), float32.
    output_shape
        Three integers: the voxels along d, h and w.
    out, dtype
        As for :func:`conv2d`.

    Returns
    -------
    ndarray
        ``(*output_shape,)`` or ``(*output_shape, c)``.

    Examples
    --------
    >>> resample(np.array([0.0, 10.0], np.float32).reshape(1, 1, 2), (1, 1, 3)).ravel()
    array([ 0.,  5., 10.], dtype=float32)
    """
    where = "resample"
    a = as_float(volume, "volume", where, dtype)
    if a.ndim not in (3, 4) or 0 in a.shape:
        raise ArgumentError(
            where, "shape of volume", got=a.shape, expected="(d, h, w) or (d, h, w, c), none empty"
        )
    sizes = shapes.spatial_tuple(output_shape, 3, "output_shape", where, shapes.MOST_ELEMENTS)
    result = Output(out, (*sizes, *a.shape[3:]), where, (a,))
    channel = (np.newaxis, ..., np.newaxis) if a.ndim == 3 else (np.newaxis, ...)
    call = Call()
    call.step(
        "resize",
        x=call.map_view(a[channel]),
        out=call.map_view(result.array[channel]),
        resize_scale=[(i - 1) / (o - 1) if o > 1 else 0.0 for i, o in zip(a.shape, sizes, strict=False)],
    )
    call.run()
    return result.finish()


@replayed("x")
def resize(
    x: ArrayInput,
    size: Sequence[int],
    *,
    interpolation: str = "bilinear",
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Resize images x (n, h, w, c) to `size` = (height, width), as Keras and TensorFlow do.

    Pixel centres lie at half integers and there is no antialiasing.

    Definition: docs/operations/resampling.md#resize

    Parameters
    ----------
    x
        float32; (n, c, h, w) with ``data_format="channels_first"``.
    size
        Two integers.
    interpolation
        "bilinear" holds the edges. "nearest" takes the pixel that holds the point; its position is
        computed in float32, as TensorFlow does, so that points on a border fall as they fell in
        training.
    data_format, out, dtype
        As for :func:`conv2d`.

    Examples
    --------
    >>> resize(np.array([0.0, 4.0], np.float32).reshape(1, 1, 2, 1), (1, 4)).ravel()
    array([0., 1., 3., 4.], dtype=float32)
    """
    where = "resize"
    a = as_map(x, data_format, where, dtype, 2)
    height, width = sizes = shapes.spatial_tuple(size, 2, "size", where, shapes.MOST_ELEMENTS)
    if interpolation not in ("bilinear", "nearest"):
        raise ArgumentError(where, "interpolation", got=interpolation, expected="bilinear or nearest")
    result = Output(out, stored_shape((a.shape[0], height, width, a.shape[-1]), data_format), where, (a,))
    if not result.array.size:
        return result.finish()
    y = channels_last(result.array, data_format, where)
    linear = interpolation == "bilinear"
    scale = [i / o for i, o in zip(a.shape[1:3], sizes, strict=True)]
    if not linear:
        scale = [float(np.float32(s)) for s in scale]  # as TensorFlow rounds it; see resize.c
    # Half-pixel centres: (p + 1/2) * scale - 1/2, or the pixel that (p + 1/2) * scale is in.
    offset = [0.5 * s - 0.5 if linear else 0.5 * s for s in scale]
    call = Call()
    call.step(
        "resize",
        x=call.map_view(a),
        out=call.map_view(y),
        linear=linear,
        resize_scale=[1.0, *scale],
        resize_offset=[0.0, *offset],
    )
    call.run()
    return result.finish()
