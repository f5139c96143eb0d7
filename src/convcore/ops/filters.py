"""Convolution and correlation of plain arrays, shaped like ``scipy.ndimage``'s."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from convcore.errors import ArgumentError
from convcore.ops.arrays import SPATIAL_RANKS, ArrayInput, Float, FloatOut, Output, as_float, backend
from convcore.ops.call import Call
from convcore.ops.windows import check_taps, window

__all__ = ["convolve", "correlate"]


#: SciPy's names for what lies beyond the edge, and NumPy's.
_MODES = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "constant": "constant",
}


def _origins(origin: int | Sequence[int], rank: int, where: str) -> tuple[int, ...]:
    entries = np.asarray(origin)
    if entries.dtype.kind not in "iu" or entries.shape not in ((), (rank,)):
        raise ArgumentError(where, "origin", got=origin, expected=f"an integer or {rank} of them")
    return tuple(int(o) for o in np.broadcast_to(entries, (rank,)))


def _filter(
    where: str,
    x: ArrayInput,
    weights: ArrayInput,
    mode: str,
    cval: float,
    origin: int | Sequence[int],
    out: FloatOut,
    dtype: DTypeLike | None,
) -> Float:
    flip = where == "convolve"
    a, w = as_float(x, "x", where, dtype), as_float(weights, "weights", where, dtype)
    if a.ndim not in SPATIAL_RANKS or w.ndim != a.ndim or 0 in w.shape:
        raise ArgumentError(
            where, "shapes", got=f"x {a.shape}, weights {w.shape}", expected="1, 2 or 3 axes, as many in both"
        )
    check_taps(w.shape, "weights", where)
    if mode not in _MODES:
        raise ArgumentError(where, "mode", got=mode, expected=", ".join(_MODES))
    pairs = []
    for k, o in zip(w.shape, _origins(origin, a.ndim, where), strict=True):
        # The kernel's centre is k // 2; turned around, that of an even kernel moves by one.
        low = k // 2 + (o if not flip else -o - (1 - k % 2))
        if not 0 <= low < k:
            raise ArgumentError(where, "origin", got=origin, expected="the centre inside the kernel")
        pairs.append((low, k - 1 - low))
    result = Output(out, a.shape, where, (a,))
    if a.size:
        # Only zeros come for free, as the padding of the convolution itself.
        zeros = mode == "constant" and cval == 0
        source = a if zeros else backend.get().pad(a, pairs, _MODES[mode], cval)
        low_sides = tuple(lo for lo, _ in pairs) if zeros else (0,) * a.ndim
        call = Call()
        call.step(
            "conv",
            weights=w[..., np.newaxis, np.newaxis],
            x=call.map_view(source[np.newaxis, ..., np.newaxis]),
            out=call.map_view(result.array[np.newaxis, ..., np.newaxis]),
            flip=flip,
            **window(w.shape, (1,) * a.ndim, low=low_sides),
        )
        call.run()
    return result.finish()


def correlate(
    x: ArrayInput,
    weights: ArrayInput,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
    out: FloatOut = None,
    dtype: DTypeLike | None = None,
) -> Float:
    """Correlation of an array with a kernel, shaped like ``scipy.ndimage.correlate``.

    Parameters
    ----------
    x
        float32 with 1, 2 or 3 axes: a signal, one grey image, one volume.
    weights
        The kernel, float32, as many axes. Its centre, entry ``k // 2``, lies over the output sample.
    mode
        What lies beyond the edge, in SciPy's words: "reflect" (d c b a | a b c d | d c b a), "mirror"
        (d c b | a b c d | c b a), "nearest", "wrap" or "constant".
    cval
        The value for "constant".
    origin
        Shifts the centre: one integer, or one per axis.
    out, dtype
        As for :func:`conv2d`.

    Returns
    -------
    ndarray
        float32, the shape of `x`.

    Examples
    --------
    >>> correlate(np.array([1, 2, 3], np.float32), np.array([0, 0, 1], np.float32), mode="constant")
    array([2., 3., 0.], dtype=float32)
    """
    return _filter("correlate", x, weights, mode, cval, origin, out, dtype)


def convolve(
    x: ArrayInput,
    weights: ArrayInput,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
    out: FloatOut = None,
    dtype: DTypeLike | None = None,
) -> Float:
    """Convolution of an array with a kernel, shaped like ``scipy.ndimage.convolve``.

    It is :func:`correlate` with the kernel turned around on every axis.

    Examples
    --------
    >>> convolve(np.array([1, 2, 3], np.float32), np.array([0, 0, 1], np.float32), mode="constant")
    array([0., 1., 2.], dtype=float32)
    """
    return _filter("convolve", x, weights, mode, cval, origin, out, dtype)
