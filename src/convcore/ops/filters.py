"""Convolution and correlation of plain arrays: signals, images, volumes, in the words of SciPy.

``csrc/kernels/filter.c`` has the direct sums and where the border comes from, :mod:`convcore.ops.fourier` the
transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convcore.errors import ArgumentError, DTypeError
from convcore.ops import fourier
from convcore.ops.arrays import (
    FLOAT32,
    FLOAT64,
    SPATIAL_RANKS,
    ArrayInput,
    Output,
    PixelsOut,
    as_array,
    as_float,
    axis_of,
    backend,
    dtype_among,
    empty,
    finite,
)
from convcore.ops.call import Call, steps_of
from convcore.ops.replay import replayed
from convcore.ops.windows import check_taps, window

__all__ = ["convolve", "correlate"]

Array = NDArray[Any]

#: What lies beyond the edge: our names, which are SciPy's, and what else SciPy calls them.
_BORDERS = {
    "constant": "constant", "nearest": "nearest", "reflect": "reflect", "mirror": "mirror", "wrap": "wrap",
    "grid-constant": "constant", "grid-mirror": "reflect", "grid-wrap": "wrap",
    "fill": "constant", "symm": "reflect",
}  # fmt: skip
#: The same in NumPy's words.
_PADS = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "constant": "constant",
}
_EXTENTS = ("full", "same", "valid")
_METHODS = ("auto", "direct", "fft")
_STORED: tuple[np.dtype[Any], ...] = tuple(np.dtype(t) for t in ("int8", "uint8", "int16", "uint16"))
_RESULTS: tuple[np.dtype[Any], ...] = (FLOAT32, FLOAT64, *_STORED)
_READ: dict[np.dtype[Any], tuple[np.dtype[Any], ...]] = {
    FLOAT32: (FLOAT32, *_STORED),
    FLOAT64: (*_RESULTS, np.dtype(np.int32)),
}
#: Longest kernel that the library's own transforms of images take: a side of the largest tile.
_TRANSFORMED = 256
#: Samples side by side from which it is better to keep taps of different ones apart.
_MANY_CHANNELS = 16


class Border(NamedTuple):
    """What lies beyond the edge: one of :data:`_PADS`, and the value of "constant"."""

    kind: str
    value: float


@dataclass(frozen=True)
class _Filter:
    """One pass: `weights` over `axes` of the input, in ascending order, turned round if `flip`.

    Output o of an axis is the sum over t of x[o + t - low] * w[t], and there are `sizes` of them.
    """

    weights: Array
    axes: tuple[int, ...]
    flip: bool
    low: tuple[int, ...]
    sizes: tuple[int, ...]
    border: Border

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        result = list(shape)
        for axis, size in zip(self.axes, self.sizes, strict=True):
            result[axis] = size
        return tuple(result)


def _origins(origin: int | Sequence[int], rank: int, where: str) -> tuple[int, ...]:
    entries = np.asarray(origin)
    if entries.dtype.kind not in "iu" or entries.shape not in ((), (rank,)):
        raise ArgumentError(where, "origin", got=origin, expected=f"an integer or {rank} of them")
    return tuple(int(o) for o in np.broadcast_to(entries, (rank,)))


def _extent_and_border(mode: str, border: str | None, where: str) -> tuple[str | None, str]:
    """Return which outputs there are (None: SciPy's ndimage's) and what lies beyond the edge."""
    if not isinstance(mode, str) or (mode not in _EXTENTS and mode not in _BORDERS):
        expected = f"{', '.join(_EXTENTS)}, or {', '.join(_BORDERS)}"
        raise ArgumentError(where, "mode", got=mode, expected=expected)
    if border is not None and (not isinstance(border, str) or border not in _BORDERS):
        raise ArgumentError(where, "border", got=border, expected=", ".join(_BORDERS))
    if mode in _EXTENTS:
        return mode, _BORDERS[border or "constant"]
    return None, _BORDERS[border or mode]


def _geometry(
    extent: str | None,
    flip: bool,
    sizes: Sequence[int],
    taps: Sequence[int],
    origin: int | Sequence[int],
    where: str,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return, for each axis, the samples before the first one that its window holds, and the outputs."""
    origins = _origins(origin, len(taps), where)
    if extent is not None and any(origins):
        raise ArgumentError(
            where, "origin", got=origin, expected=f'0 with mode="{extent}", which says where outputs lie'
        )
    if extent == "full":
        return tuple(k - 1 for k in taps), tuple(n + k - 1 for n, k in zip(sizes, taps, strict=True))
    if extent == "valid":
        outputs = tuple(n - k + 1 for n, k in zip(sizes, taps, strict=True))
        if min(outputs) < 1:
            raise ArgumentError(
                where,
                'mode="valid" leaves nothing',
                got=f"x {tuple(sizes)}, weights {tuple(taps)}",
                expected="one that is at least as long as the other on every axis",
            )
        return (0,) * len(taps), outputs
    if extent == "same":
        return tuple(k // 2 for k in taps), tuple(sizes)
    low = []
    for k, o in zip(taps, origins, strict=True):
        # The kernel's centre is k // 2; turned around, that of an even kernel moves by one.
        low.append(k // 2 + (o if not flip else -o - (1 - k % 2)))
        if not 0 <= low[-1] < k:
            raise ArgumentError(where, "origin", got=origin, expected="the centre inside the kernel")
    return tuple(low), tuple(sizes)


def _result_type(dtype: DTypeLike | None, out: Any, where: str) -> np.dtype[Any]:
    """Return the type of the result: what `dtype` says, else that of `out`, else float32."""
    if dtype is not None:
        return dtype_among(dtype, _RESULTS, where)
    if out is None:
        return FLOAT32
    given = backend.get().target(out, where).dtype
    if given not in _RESULTS:
        raise DTypeError(where, "out", got=str(given), expected=" or ".join(t.name for t in _RESULTS))
    return np.dtype(given)


def _readable(x: ArrayInput, name: str, where: str, allowed: Sequence[np.dtype[Any]], convert: bool) -> Array:
    """Return `x` as an array of one of the types `allowed`, sharing its memory if it can."""
    a = as_array(x, name, where)
    if a.dtype in allowed:
        return a if a.flags.aligned else a.copy()
    native = a.dtype.newbyteorder("=")
    if native in allowed:
        return a.astype(native)
    if convert and a.dtype.kind in "biuf":
        with np.errstate(over="ignore"):  # beyond the type's range lies infinity, as for any rounding
            return a.astype(allowed[0])
    raise DTypeError(
        where,
        name,
        got=str(a.dtype),
        expected=" or ".join(t.name for t in allowed),
        remedy='Pass dtype="float32" to have real numbers converted, or dtype="float64" to compute in it.'
        if a.dtype.kind in "biuf"
        else "",
    )


def _on_host(f: _Filter, a: Array, y: Array, method: str) -> None:
    """Filter `a` into `y`, both of any strides, in the type of the weights."""
    image = len(f.axes) == 2 and f.axes[-1] == a.ndim - 1 and f.weights.dtype == FLOAT32
    if not (image and max(f.weights.shape) <= _TRANSFORMED) and (
        method == "fft" or (method == "auto" and fourier.faster(f.weights.shape, f.sizes, f.weights.dtype))
    ):
        w = np.flip(f.weights) if f.flip else f.weights
        fourier.correlate(a, w, y, axes=f.axes, low=f.low, mode=_PADS[f.border.kind], value=f.border.value)
        return
    trailing = list(range(f.axes[-1] + 1, a.ndim))
    leading = [i for i in range(f.axes[-1]) if i not in f.axes]
    order = (*leading, *f.axes, *trailing)
    batch = int(np.prod([a.shape[i] for i in leading]))
    channels = int(np.prod([a.shape[i] for i in trailing]))
    taps, low, sizes = f.weights.shape, f.low, f.sizes
    if len(taps) < max(SPATIAL_RANKS) and channels >= _MANY_CHANNELS:
        taps, low, sizes, channels = (*taps, 1), (*low, 0), (*sizes, channels), 1

    def rank5(array: Array) -> Array:
        """As (n, d, h, w, c); a copy where axes that belong together do not lie together."""
        inner = (*(array.shape[i] for i in f.axes), *sizes[len(f.axes) :])
        return array.transpose(order).reshape(batch, *(1,) * (3 - len(inner)), *inner, channels)

    target = rank5(y)
    apart = not np.may_share_memory(target, y)
    call = Call()

    def view(array: Array) -> Any:
        ld = steps_of(array)
        if channels == 1:
            ld[-1] = 1
        return call.view(array, array.shape, ld)

    w = f.weights.reshape((1,) * (3 - len(taps)) + taps)
    call.step(
        "filter",
        x=view(rank5(a)),
        x2=call.view(w),
        out=view(target),
        flip=f.flip,
        accuracy={"direct": "direct", "auto": "standard", "fft": "fast"}[method],
        edge=f.border.kind,
        edge_value=f.border.value,
        **window(taps, (1,) * len(taps), low=low),
    )
    call.run()
    if apart:
        y[...] = target.reshape([y.shape[i] for i in order]).transpose(np.argsort(order))


def _factors(w: Array, where: str) -> list[Array]:
    """Return one kernel per axis whose product `w` is, to within its own rounding."""
    rest, factors = w.astype(np.float64), []
    while rest.ndim > 1:
        u, s, v = np.linalg.svd(rest.reshape(rest.shape[0], -1), full_matrices=False)
        # Rounding w moves it, as a matrix, by no more than u |w|, and so each of its singular values.
        most = np.finfo(w.dtype).eps * float(np.linalg.norm(rest))
        if len(s) > 1 and not s[1] <= most:
            raise ArgumentError(
                where,
                "weights are no product of one kernel per axis",
                got=f"second singular value {s[1]:.3g} beside {s[0]:.3g}",
                expected=f"at most {most:.3g}, the rounding of the weights",
            )
        scale = np.sqrt(s[0])
        factors.append(u[:, 0] * scale)
        rest = (v[0] * scale).reshape(rest.shape[1:])
    return [*factors, rest]


def _on_device(f: _Filter, a: Any, y: Any) -> None:
    """The same on another backend's arrays: a copy with its border, and the convolution of a layer."""
    pairs = [
        (lo, o + k - 1 - lo - n) for n, k, lo, o in zip(a.shape, f.weights.shape, f.low, f.sizes, strict=True)
    ]
    # Only zeros come for free, as the padding of the convolution itself.
    zeros = f.border == ("constant", 0)
    source = a if zeros else backend.get().pad(a, pairs, _PADS[f.border.kind], f.border.value)
    call = Call()
    call.step(
        "conv",
        weights=f.weights[..., np.newaxis, np.newaxis],
        x=call.map_view(source[np.newaxis, ..., np.newaxis]),
        out=call.map_view(y[np.newaxis, ..., np.newaxis]),
        flip=f.flip,
        **window(f.weights.shape, (1,) * a.ndim, low=f.low if zeros else (0,) * a.ndim),
    )
    call.run()


def _axes(axes: int | Sequence[int] | None, a: Any, where: str) -> tuple[int, ...]:
    if axes is None:
        if a.ndim not in SPATIAL_RANKS:
            raise ArgumentError(
                where, "number of axes", got=a.shape, expected="1, 2 or 3, or axes= to say which are filtered"
            )
        return tuple(range(a.ndim))
    given = [axes] if not isinstance(axes, Sequence) else list(axes)
    found = tuple(axis_of(i, a, where) for i in given)
    if len(found) not in SPATIAL_RANKS or len(set(found)) != len(found):
        raise ArgumentError(where, "axes", got=axes, expected="1, 2 or 3 different axes")
    return found


def _host_operands(
    x: Any, weights: Any, axes: Any, separable: bool, out: Any, dtype: DTypeLike | None, where: str
) -> tuple[Array, tuple[int, ...], list[Array], np.dtype[Any]]:
    """Return x, the axes filtered, their kernel or one for each of them, and the type of the result."""
    to = _result_type(dtype, out, where)
    sums = FLOAT64 if to == FLOAT64 else FLOAT32
    a = _readable(x, "x", where, _READ[sums], dtype is not None)
    filtered = _axes(axes, a, where)

    def kernel(values: ArrayInput, name: str, rank: int) -> Array:
        w = _readable(values, name, where, (sums,), dtype is not None or sums == FLOAT64)
        _check_kernel(a, w, name, rank, where)
        return w

    if isinstance(weights, (list, tuple)):
        if len(weights) != len(filtered):
            raise ArgumentError(where, "kernels", got=len(weights), expected=f"{len(filtered)}, one per axis")
        return a, filtered, [kernel(w, f"weights[{i}]", 1) for i, w in enumerate(weights)], to
    w = kernel(weights, "weights", len(filtered))
    return a, filtered, [f.astype(sums) for f in _factors(w, where)] if separable else [w], to


def _device_operands(
    x: Any, weights: Any, axes: Any, separable: bool, method: str, dtype: DTypeLike | None, where: str
) -> tuple[Any, tuple[int, ...], list[Any], np.dtype[Any]]:
    a = as_float(x, "x", where, dtype)
    if axes is not None or separable or method == "fft" or isinstance(weights, (list, tuple)):
        raise ArgumentError(
            where, "axes, separable, method and kernels per axis are for arrays in main memory"
        )
    w = as_float(weights, "weights", where, dtype)
    filtered = _axes(None, a, where)
    _check_kernel(a, w, "weights", a.ndim, where)
    return a, filtered, [w], FLOAT32


def _check_kernel(a: Any, w: Any, name: str, rank: int, where: str) -> None:
    if w.ndim != rank or 0 in w.shape:
        raise ArgumentError(
            where,
            "shapes",
            got=f"x {a.shape}, {name} {w.shape}",
            expected=f"as many axes ({rank}), none empty",
        )
    check_taps(w.shape, name, where)


def _filter(
    where: str,
    x: ArrayInput,
    weights: ArrayInput | Sequence[ArrayInput],
    mode: str,
    border: str | None,
    cval: float,
    origin: int | Sequence[int],
    axes: int | Sequence[int] | None,
    method: str,
    separable: bool,
    out: Any,
    output: Any,
    dtype: DTypeLike | None,
) -> Any:
    flip = where == "convolve"
    extent, kind = _extent_and_border(mode, border, where)
    edge = Border(kind, finite(cval, "cval", where))
    if method not in _METHODS:
        raise ArgumentError(where, "method", got=method, expected=", ".join(_METHODS))
    if output is not None:  # SciPy's word for either
        array = isinstance(output, np.ndarray)
        if (array and out is not None) or (not array and dtype is not None):
            raise ArgumentError(where, "output", got=output, expected="either output, or out and dtype")
        out, dtype = (output, dtype) if array else (out, output)
    a = as_array(x, "x", where)
    host = isinstance(a, np.ndarray)
    if host:
        a, filtered, kernels, to = _host_operands(a, weights, axes, separable, out, dtype, where)
    else:
        a, filtered, kernels, to = _device_operands(a, weights, axes, separable, method, dtype, where)
    if 0 in a.shape and extent not in (None, "same"):
        raise ArgumentError(where, "x is empty", got=a.shape, expected="sizes >= 1")
    given = a
    a, kernels = _longer_first(extent, flip, a, filtered, kernels)
    lengths = tuple(a.shape[i] for i in filtered)
    taps = kernels[0].shape if len(kernels) == 1 else tuple(w.shape[0] for w in kernels)
    low, sizes = _geometry(extent, flip, lengths, taps, origin, where)
    shape = list(a.shape)
    for i, n in zip(filtered, sizes, strict=True):
        shape[i] = n
    result = Output(out, tuple(shape), where, (given, *kernels), dtype=to)
    if not result.array.size:
        return result.finish()
    order = [int(i) for i in np.argsort(filtered)]
    if len(kernels) == 1:
        parts = [(kernels[0].transpose(*order), order)]
    else:
        parts = [(kernels[i], [i]) for i in order]
    for number, (w, which) in enumerate(parts):
        f = _Filter(
            w,
            axes=tuple(filtered[i] for i in which),
            flip=flip,
            low=tuple(low[i] for i in which),
            sizes=tuple(sizes[i] for i in which),
            border=edge,
        )
        last = number == len(parts) - 1
        y = result.array if last else empty(f.output_shape(a.shape), where, w.dtype)
        if host:
            _on_host(f, a, y, method)
        else:
            _on_device(f, a, y)
        if not last and kind == "constant":  # beyond the edges of the axes to come, too, this pass was made
            edge = Border(kind, edge.value * float(np.sum(w, dtype=np.float64)))
        a = y
    return result.finish()


def _longer_first(
    extent: str | None, flip: bool, a: Array, filtered: Sequence[int], kernels: list[Array]
) -> tuple[Array, list[Array]]:
    """Return signal and kernel; of mode "valid" the longer one is the signal, as in ``scipy.signal``."""
    w = kernels[0]
    if extent != "valid" or w.shape == a.shape or len(filtered) != w.ndim or w.ndim != a.ndim:
        return a, kernels
    if len(kernels) > 1 or any(k < n for k, n in zip(w.shape, a.shape, strict=True)):
        return a, kernels
    signal, kernel = w, a.astype(w.dtype)
    # Convolution commutes; a correlation comes out turned around.
    return (signal, [kernel]) if flip else (np.flip(signal), [np.flip(kernel)])


@replayed("x", "weights")
def correlate(
    x: ArrayInput,
    weights: ArrayInput | Sequence[ArrayInput],
    *,
    mode: str = "reflect",
    border: str | None = None,
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
    axes: int | Sequence[int] | None = None,
    method: str = "auto",
    separable: bool = False,
    out: PixelsOut | None = None,
    output: Any = None,
    dtype: DTypeLike | None = None,
    num_threads: int | None = None,
) -> PixelsOut:
    """Correlation of a signal, an image or a volume with a kernel, in the words of SciPy.

    Takes the arguments of ``scipy.ndimage.correlate`` and of ``scipy.signal.correlate`` and ``correlate2d``,
    and equals their results.

    Definition: docs/operations/filters.md#correlate-convolve

    Parameters
    ----------
    x
        float32, int8, uint8, int16 or uint16, with 1, 2 or 3 axes, or more with `axes`; any strides. float64
        and int32 too where the result is float64.
    weights
        The kernel, float32 (float64 where the result is), one axis for each that is filtered. Or a sequence
        of kernels with one axis, one for each that is filtered: their product, applied one after the other.
    mode
        In ``scipy.ndimage``'s words what lies beyond the edge: "reflect" (d c b a | a b c d | d c b a),
        "mirror" (d c b | a b c d | c b a), "nearest", "wrap" or "constant", or one of its other names for
        these; the result has the shape of `x`, and entry ``k // 2`` of the kernel lies over the output
        sample. In ``scipy.signal``'s words which outputs are wanted: "full", every one whose window meets
        `x`; "valid", those whose window is inside; "same", the middle of "full", as many as in `x` (where
        ``correlate2d`` takes another middle for even kernels, this is ``correlate``'s). Beyond the edge lies
        `cval` then, unless `border` says otherwise. With "valid" a kernel that is longer than `x` on every
        axis is taken for the signal.
    border
        What lies beyond the edge, in the words above or in those of ``correlate2d`` ("fill", "wrap", "symm").
    cval
        The value beyond the edge for "constant".
    origin
        Shifts the centre: one integer, or one per filtered axis. 0 for "full", "same" and "valid".
    axes
        The axes of `x` that are filtered, in the order of the kernel's; by default all. Every combination of
        the others is filtered alone.
    method
        "direct": sums of products in the order of the kernel's entries, in float32, or in float64 if that is
        the type of the result: within ``2 k u sum|x w|`` of the exact ones, for k entries and unit roundoff
        u. "fft": by Fourier transforms, within about ``4 u log2(n) |x|_2 |w|_2`` for n samples transformed
        together: small results beside large samples are less exact, and NaN or infinity fills all of them.
        "auto": the faster of the two by the shapes alone; see ``docs/kernels.md`` for the rule.
    separable
        Whether to find one kernel per axis whose product `weights` is; ArgumentError if there is none to
        within the rounding of `weights`.
    out
        Array to write to. Without `dtype` its type is the result's.
    output
        SciPy's argument: an array is `out`, anything else `dtype`.
    dtype
        The type of the result: "float32", the default; "float64", computed as such; "int8", "uint8", "int16",
        "uint16": rounded half to even and saturated. If it is given, other real types of `x` and `weights`
        are converted to the type of the sums.
    num_threads
        Threads for this call; by default :func:`get_num_threads`. The result does not depend on it.

    Returns
    -------
    ndarray
        `out` if given.

    Raises
    ------
    ArgumentError
        Shapes, `mode`, `border`, `origin`, `axes`, `method` or `num_threads` are not as above; `weights` is
        no product of kernels.
    DTypeError
        `x`, `weights`, `out` or `dtype` of a type not listed.

    Examples
    --------
    >>> signal, kernel = np.array([1, 2, 3], np.float32), np.array([0, 0, 1], np.float32)
    >>> correlate(signal, kernel, mode="constant")
    array([2., 3., 0.], dtype=float32)
    >>> correlate(signal, kernel, mode="full")
    array([1., 2., 3., 0., 0.], dtype=float32)
    >>> image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    >>> box = np.full(3, 1 / 3, np.float32)
    >>> correlate(image, [box, box], border="nearest", dtype="uint8")
    array([[1, 2, 3],
           [2, 3, 4]], dtype=uint8)
    """
    return _filter(
        "correlate",
        x,
        weights,
        mode,
        border,
        cval,
        origin,
        axes,
        method,
        separable,
        out,
        output,
        dtype,
    )


@replayed("x", "weights")
def convolve(
    x: ArrayInput,
    weights: ArrayInput | Sequence[ArrayInput],
    *,
    mode: str = "reflect",
    border: str | None = None,
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
    axes: int | Sequence[int] | None = None,
    method: str = "auto",
    separable: bool = False,
    out: PixelsOut | None = None,
    output: Any = None,
    dtype: DTypeLike | None = None,
    num_threads: int | None = None,
) -> PixelsOut:
    """Convolution of a signal, an image or a volume with a kernel, in the words of SciPy.

    It is :func:`correlate` with the kernel turned around on every axis, and takes the same arguments; those
    of ``scipy.ndimage.convolve`` and of ``scipy.signal.convolve`` and ``convolve2d``.

    Definition: docs/operations/filters.md#correlate-convolve

    Examples
    --------
    >>> convolve(np.array([1, 2, 3], np.float32), np.array([0, 0, 1], np.float32), mode="constant")
    array([0., 1., 2.], dtype=float32)
    """
    return _filter(
        "convolve",
        x,
        weights,
        mode,
        border,
        cval,
        origin,
        axes,
        method,
        separable,
        out,
        output,
        dtype,
    )
