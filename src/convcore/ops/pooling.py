"""Pooling over windows and over whole maps; 1, 2 or 3 spatial axes, read off the array."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from convcore import shapes
from convcore.ops.arrays import (
    ArrayInput,
    Axes,
    FloatOut,
    Out,
    Output,
    as_map,
    channels_last,
    stored_shape,
)
from convcore.ops.call import Call
from convcore.ops.replay import replayed
from convcore.ops.windows import sizes_named, window
from convcore.shapes import Padding

__all__ = ["average_pool", "global_average_pool", "global_max_pool", "max_pool"]


def _pool(
    where: str,
    x: ArrayInput,
    pool_size: Axes,
    strides: Axes | None,
    padding: Padding,
    data_format: str,
    out: FloatOut,
    dtype: DTypeLike | None,
    **fields: Any,
) -> Any:
    a = as_map(x, data_format, where, dtype)
    rank, sizes = a.ndim - 2, a.shape[1:-1]
    pool = shapes.spatial_tuple(pool_size, rank, "pool_size", where)
    steps = pool if strides is None else shapes.spatial_tuple(strides, rank, "strides", where)
    pairs = shapes.pool_padding(padding, sizes, pool, steps, where)
    output = shapes.pool_output(sizes, pool, steps, pairs, where)
    result = Output(out, stored_shape((a.shape[0], *output, a.shape[-1]), data_format), where, (a,))
    if result.array.size:
        call = Call()
        y = channels_last(result.array, data_format, where)
        fields |= window(pool, steps, low=tuple(lo for lo, _ in pairs))
        with sizes_named(where, y, fields):
            call.step(where, x=call.map_view(a), out=call.map_view(y), **fields)
        call.run()
    return result.finish()


@replayed("x")
def max_pool(
    x: ArrayInput,
    pool_size: Axes = 2,
    *,
    strides: Axes | None = None,
    padding: Padding = "valid",
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Largest value of every window.

    Definition: docs/operations/pooling.md#max_pool

    Parameters
    ----------
    x
        (n, spatial..., c) with 1, 2 or 3 spatial axes, float32; (n, c, spatial...) with
        ``data_format="channels_first"``.
    pool_size
        Size of the window: one integer, or one per spatial axis.
    strides
        Distance of windows; None: `pool_size`.
    padding
        "valid", "same", "same_lower", "full" (one less than the window), or integers: one, one per axis,
        or one (low, high) pair per axis, smaller than the window. Padding never wins.
    data_format, out, dtype
        As for :func:`conv2d`.

    Returns
    -------
    ndarray
        (n, output..., c), or (n, c, output...). A window that holds a NaN gives NaN.

    Examples
    --------
    >>> x = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
    >>> max_pool(x.reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    array([[6., 8.],
           [3., 4.]], dtype=float32)
    """
    return _pool("max_pool", x, pool_size, strides, padding, data_format, out, dtype)


@replayed("x")
def average_pool(
    x: ArrayInput,
    pool_size: Axes = 2,
    *,
    strides: Axes | None = None,
    padding: Padding = "valid",
    include_padding: bool = False,
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Mean of every window.

    Padding does not count, unless `include_padding` counts it as zeros (Theano in Keras 2.0 to
    2.1.4). For the other arguments see :func:`max_pool`.

    Definition: docs/operations/pooling.md#average_pool

    Examples
    --------
    >>> x = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> average_pool(x, 2, padding="same")[0, :, :, 0]
    array([[3. , 4.5],
           [7.5, 9. ]], dtype=float32)
    """
    return _pool(
        "average_pool",
        x,
        pool_size,
        strides,
        padding,
        data_format,
        out,
        dtype,
        include_padding=include_padding,
    )


def _global(
    where: str, x: ArrayInput, keepdims: bool, data_format: str, out: FloatOut, dtype: DTypeLike | None
) -> Any:
    a = as_map(x, data_format, where, dtype)
    n, c = a.shape[0], a.shape[-1]
    spatial = (1,) * (a.ndim - 2)
    result = Output(out, stored_shape((n, *spatial, c), data_format) if keepdims else (n, c), where, (a,))
    if result.array.size:
        y = channels_last(result.array, data_format, where) if keepdims else result.array
        along_n, along_c = y.strides[0] // y.itemsize, y.strides[-1] // y.itemsize
        call = Call()
        call.step(where, x=call.map_view(a), out=call.view(y, (n, 1, 1, 1, c), (along_n, 0, 0, 0, along_c)))
        call.run()
    return result.finish()


@replayed("x")
def global_max_pool(
    x: ArrayInput,
    *,
    keepdims: bool = False,
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Largest value of every channel: (n, c), or with `keepdims` spatial axes of length 1 too.

    For the other arguments see :func:`max_pool`.

    Definition: docs/operations/pooling.md#global_max_pool-global_average_pool

    Examples
    --------
    >>> global_max_pool(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2))
    array([[6., 7.]], dtype=float32)
    """
    return _global("global_max_pool", x, keepdims, data_format, out, dtype)


@replayed("x")
def global_average_pool(
    x: ArrayInput,
    *,
    keepdims: bool = False,
    data_format: str = "channels_last",
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Mean of every channel: (n, c), or with `keepdims` spatial axes of length 1 too.

    For the other arguments see :func:`max_pool`.

    Definition: docs/operations/pooling.md#global_max_pool-global_average_pool

    Examples
    --------
    >>> global_average_pool(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2))
    array([[3., 4.]], dtype=float32)
    """
    return _global("global_average_pool", x, keepdims, data_format, out, dtype)
