"""What goes into an operation and what comes out: conversion, checks and `out=`.

The operations themselves do not care whose memory they work in: what depends on it, a
:class:`Backend` does. The one for NumPy arrays is here; :mod:`convcore.cuda` has the other.

Anything with DLPack, the buffer protocol or ``__array__`` goes in, with any strides (negative, zero,
transposed): the kernels read it where it lies. Only two kinds are copied: elements that do not lie on
multiples of four bytes, and big-endian float32, whose values a copy keeps exactly. float32 is the
working type; every other type is refused unless ``dtype=`` says to convert it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convcore import _native
from convcore.errors import ArgumentError, DeviceError, DTypeError
from convcore.memory import aligned_floats
from convcore.ops.replay import current_recording
from convcore.shapes import MOST_ELEMENTS

Float: TypeAlias = NDArray[np.float32]
#: What ``out=`` takes: None, or a writable array of any package in main memory. It is returned as it is.
FloatOut: TypeAlias = Any
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # A function returns `out` where it is given, else a new array: the default says so to type checkers.
    Out = TypeVar("Out", default=Float)
    PixelsOut = TypeVar("PixelsOut", default=NDArray[Any])
else:
    from typing import TypeVar

    Out, PixelsOut = TypeVar("Out"), TypeVar("PixelsOut")
#: One integer for every spatial axis, or one per axis.
Axes: TypeAlias = int | Sequence[int]
#: An object with DLPack, the buffer protocol or ``__array__``.
ArrayInput: TypeAlias = Any

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_DLPACK_CPU = 1
#: Fewest and most spatial axes.
SPATIAL_RANKS = (1, 2, 3)


class Backend(Protocol):
    """Whose memory arrays lie in, and who computes on them.

    Arrays of another backend than NumPy's have what the operations use of an ``ndarray``: its shape,
    strides and flags, and the methods that make views of it.
    """

    #: Makes a step (see ``_native.Step``), and a program of steps.
    step: Any
    program: Any

    def array(self, x: ArrayInput, name: str, where: str) -> NDArray[Any]:
        """Return `x` as an array of this backend that shares its memory, or raise."""

    def target(self, out: Any, where: str) -> NDArray[Any]:
        """Return the caller's ``out=`` as an array of this backend that shares its memory, or raise."""

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a new array, not initialised; MemoryError if there is no memory for it."""

    def floats(self, count: int) -> Float:
        """Return `count` floats that lie as the kernels like best; MemoryError as for :meth:`empty`."""

    def pad(self, a: Float, pairs: Sequence[tuple[int, int]], mode: str, value: float) -> Float:
        """Return ``np.pad(a, pairs, mode)``; `value` is that of mode "constant"."""

    def batch_norm_affine(
        self, mean: Float, variance: Float, gamma: Float | None, beta: Float | None, epsilon: float
    ) -> tuple[Float, Float]:
        """Return scale and offset, taken in float64 and rounded once, of normalisation at inference."""


def _on_cpu(x: Any) -> bool:
    device = getattr(x, "__dlpack_device__", None)
    if device is None:
        return True
    try:
        return bool(device()[0] == _DLPACK_CPU)
    except (BufferError, RuntimeError, ValueError):
        return False  # one that DLPack has no number for, such as a tensor without memory


class _MainMemory:
    """NumPy arrays and the C library."""

    step: Any = _native.Step
    program: Any = _native.Program

    def array(self, x: ArrayInput, name: str, where: str) -> NDArray[Any]:
        return _as_ndarray(x, name, where)

    def target(self, out: Any, where: str) -> NDArray[Any]:
        return out if type(out) is np.ndarray else _target_ndarray(out, where)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.empty(shape, dtype)

    def floats(self, count: int) -> Float:
        return aligned_floats(count)

    def pad(self, a: Float, pairs: Sequence[tuple[int, int]], mode: str, value: float) -> Float:
        options = {"constant_values": value} if mode == "constant" else {}
        return np.pad(a, pairs, mode, **options)  # type: ignore[call-overload]

    def batch_norm_affine(
        self, mean: Float, variance: Float, gamma: Float | None, beta: Float | None, epsilon: float
    ) -> tuple[Float, Float]:
        spread = variance.astype(np.float64) + epsilon
        if not (spread > 0).all():
            raise ArgumentError(
                "batch_norm", "variance + epsilon", got=spread.min(initial=np.inf), expected="numbers > 0"
            )
        scale = 1 / np.sqrt(spread)
        if gamma is not None:
            scale *= gamma
        offset = -mean.astype(np.float64) * scale
        if beta is not None:
            offset += beta
        return scale.astype(np.float32), offset.astype(np.float32)


#: The backend of the operations that this context calls.
backend: ContextVar[Backend] = ContextVar("convcore_ops_backend", default=_MainMemory())  # noqa: B039


def _as_ndarray(x: ArrayInput, name: str, where: str) -> NDArray[Any]:
    """Return `x` as a NumPy array that shares its memory, by the first protocol that gives one."""
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise DTypeError(
            where, f"{name} is a masked array", remedy="Fill it first: x.filled(value) gives a plain array."
        )
    if isinstance(x, np.ndarray):
        return x.view(np.ndarray)
    if not _on_cpu(x) or (hasattr(x, "__cuda_array_interface__") and not hasattr(x, "__dlpack__")):
        raise DeviceError(where, f"{name} lies on another device", expected="an array in main memory")
    if hasattr(x, "__dlpack__"):
        try:
            return np.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # a type that DLPack cannot say (strings, big-endian): the next protocol may
    try:
        if hasattr(x, "__array__") or hasattr(x, "__array_interface__"):
            return np.asarray(x)
        return np.asarray(memoryview(x))
    except Exception as error:
        if getattr(x, "requires_grad", False) is True:
            raise DTypeError(
                where,
                f"{name} records gradients",
                got=type(x).__name__,
                remedy=f"Take its values alone: {name}.detach().",
            ) from error
        raise DTypeError(
            where,
            f"{name} is no array",
            got=type(x).__name__,
            expected="an object with DLPack, the buffer protocol or __array__",
            remedy="A list has no element type: np.asarray(x, np.float32) gives it one.",
        ) from error


def _target_ndarray(out: Any, where: str) -> NDArray[Any]:
    """Return the caller's `out` as a NumPy array that shares its memory, for writing."""
    a = _as_ndarray(out, "out", where)
    if getattr(out, "requires_grad", False) is True:  # what is written here would be in no graph
        raise DTypeError(
            where,
            "out records gradients",
            got=type(out).__name__,
            remedy="Give its values alone: out.detach().",
        )
    if a.flags.writeable or isinstance(out, np.ndarray):
        return a
    # A DLPack older than version 1 cannot say that its memory may be written: perhaps another protocol can.
    for by_buffer in (False, True):
        try:
            b: NDArray[Any] = np.asarray(memoryview(out) if by_buffer else out)
        except Exception:
            continue
        same = b.ctypes.data == a.ctypes.data
        if same and b.flags.writeable and b.strides == a.strides and b.dtype == a.dtype:
            return b
    return a


def as_array(x: ArrayInput, name: str, where: str) -> NDArray[Any]:
    """Return `x` as an array of the context's backend that shares its memory.

    Raises
    ------
    DTypeError
        `x` is no array: a list, a number, a string; or it hides some of its elements (a masked array).
    DeviceError
        `x` lies in the memory of another device. Copying it is never done silently.
    """
    return backend.get().array(x, name, where)


def dtype_among(dtype: DTypeLike, allowed: Sequence[np.dtype[Any]], where: str) -> np.dtype[Any]:
    """Return the argument `dtype` as one of the types `allowed`."""
    expected = " or ".join(t.name for t in allowed)
    try:
        given: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError):
        raise DTypeError(where, "dtype", got=repr(dtype), expected=expected) from None
    if given not in allowed:
        raise DTypeError(where, "dtype", got=str(given), expected=expected)
    return given


def as_float(x: ArrayInput, name: str, where: str, dtype: DTypeLike | None = None) -> Float:
    """Return `x` as an array of float32 that the kernels can read, sharing its memory where possible.

    Parameters
    ----------
    x
        The array.
    name, where
        The argument's and the operation's name, for the error message.
    dtype
        None: `x` must be float32. ``"float32"``: other real types are converted, each value rounded
        to the nearest float32. There is no other working type.
    """
    if dtype is not None:
        dtype_among(dtype, (FLOAT32,), where)
    a = as_array(x, name, where)
    if a.dtype == FLOAT32:
        if a.flags.aligned:
            return a
        return a.copy()
    if a.dtype.kind == "f" and a.dtype.itemsize == 4:
        return a.astype(FLOAT32)
    if dtype is not None and a.dtype.kind in "biuf":
        with np.errstate(over="ignore"):  # beyond float32's range lies infinity, as for any rounding
            return a.astype(FLOAT32)
    raise DTypeError(
        where,
        name,
        got=str(a.dtype),
        expected="float32",
        remedy='Pass dtype="float32" to have real numbers converted.' if a.dtype.kind in "biuf" else "",
    )


def vector(x: ArrayInput, length: int, name: str, where: str, dtype: DTypeLike | None) -> Float:
    """Return `x` as `length` contiguous floats: a bias, or one number per channel."""
    a = as_float(x, name, where, dtype)
    if a.shape != (length,):
        raise ArgumentError(where, f"shape of {name}", got=a.shape, expected=(length,))
    return contiguous(a)


def contiguous(a: NDArray[Any]) -> NDArray[Any]:
    """Return `a`, or a copy of it in C order."""
    return a if a.flags.c_contiguous else a.copy()


def finite(value: Any, name: str, where: str) -> float:
    """Return the parameter `value` as a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentError(where, name, got=repr(value), expected="a finite number")
    return number


def axis_of(axis: Any, x: NDArray[Any], where: str) -> int:
    """Return `axis` of `x`, counted from the start or from the end, as an index from 0."""
    try:
        index = operator.index(axis)
    except TypeError:
        index = x.ndim
    if not -x.ndim <= index < x.ndim:
        raise ArgumentError(where, "axis", got=repr(axis), expected=f"an axis of shape {x.shape}")
    return index % x.ndim


def channels_last(x: NDArray[Any], data_format: str, where: str) -> NDArray[Any]:
    """Return `x` (n, spatial..., c), or (n, c, spatial...) if so said, as a channels-last view."""
    if data_format == "channels_last":
        return x
    if data_format == "channels_first":
        return x.transpose(0, *range(2, x.ndim), 1)
    raise ArgumentError(where, "data_format", got=data_format, expected="channels_last or channels_first")


def stored_shape(shape: Sequence[int], data_format: str) -> tuple[int, ...]:
    """Return the shape that a channels-last `shape` has in `data_format`."""
    if data_format == "channels_last":
        return tuple(shape)
    return (shape[0], shape[-1], *shape[1:-1])


def check_map(x: NDArray[Any], where: str, rank: int | None = None) -> None:
    """Raise unless `x` (n, spatial..., c) has `rank` (else 1, 2 or 3) spatial axes and is not empty."""
    ranks = SPATIAL_RANKS if rank is None else (rank,)
    if x.ndim - 2 not in ranks:
        axes = " or ".join(str(r) for r in ranks)
        raise ArgumentError(
            where,
            "number of axes",
            got=x.shape,
            expected=f"{' or '.join(str(r + 2) for r in ranks)} axes: batch, {axes} spatial, channels",
            remedy="One image needs a batch axis: x[np.newaxis]." if x.ndim - 1 in ranks else "",
        )
    if 0 in x.shape[1:]:
        raise ArgumentError(
            where, "an axis is empty", got=x.shape, expected="sizes >= 1 (the batch may be 0)"
        )


def as_map(
    x: ArrayInput, data_format: str, where: str, dtype: DTypeLike | None, rank: int | None = None
) -> Float:
    """Return what the caller gave as `x` as a checked channels-last view; see :func:`check_map`."""
    a = as_float(x, "x", where, dtype)
    check_map(a, where, rank)
    return channels_last(a, data_format, where)


def empty(shape: tuple[int, ...], where: str, dtype: np.dtype[Any] = FLOAT32) -> NDArray[Any]:
    """Return a new array, not initialised.

    Raises
    ------
    ArgumentError
        It would have more than 2**40 elements, an empty batch counted as one.
    MemoryError
        The system has not that much memory.
    """
    if math.prod(max(n, 1) for n in shape) > MOST_ELEMENTS:
        raise ArgumentError(
            where, "the result would be too large", got=shape, expected="at most 2**40 elements"
        )
    try:
        return backend.get().empty(shape, dtype)
    except MemoryError:
        raise MemoryError(f"{where}: no memory for an array of shape {shape} of {dtype}") from None


def _elements_apart(a: NDArray[Any]) -> bool:
    """Whether no two elements of `a` share memory.

    False also where axes interleave, which only ``as_strided`` can make: to say whether any two
    elements meet there is a problem in integers without a quick answer.
    """
    if a.flags.c_contiguous or a.flags.f_contiguous:
        return True
    reach = a.itemsize
    for stride, size in sorted((abs(st), n) for st, n in zip(a.strides, a.shape, strict=True) if n > 1):
        if stride < reach:
            return False
        reach += (size - 1) * stride
    return True


class Output:
    """Where a result goes: a new array, the caller's `out`, or a new one that is copied into `out`.

    The last is for an `out` that the kernels cannot write directly: it shares memory with an input or
    lies at odd addresses. One whose elements overlap cannot hold a result and is refused.

    Parameters
    ----------
    out
        The caller's argument.
    shape, dtype
        What the operation computes.
    where
        The operation, for the error message.
    inputs
        Arrays that are read while the result is written.
    in_place
        Whether `out` may be an input itself: element i of the result depends on element i alone.
    """

    __slots__ = ("_out", "_target", "array")

    def __init__(
        self,
        out: Any,
        shape: tuple[int, ...],
        where: str,
        inputs: Sequence[NDArray[Any]] = (),
        *,
        dtype: np.dtype[Any] = FLOAT32,
        in_place: bool = False,
    ) -> None:
        self._out = out
        self._target: NDArray[Any] | None = None
        if out is None:
            self.array: NDArray[Any] = empty(shape, where, dtype)
            return
        target = backend.get().target(out, where)
        if target.dtype != dtype:
            raise DTypeError(where, "out", got=str(target.dtype), expected=dtype.name)
        if target.shape != shape:
            raise ArgumentError(where, "shape of out", got=target.shape, expected=shape)
        if not target.flags.writeable:
            raise ArgumentError(where, "out is read-only")
        if not _elements_apart(target):
            raise ArgumentError(
                where,
                "out has elements that overlap",
                got=f"shape {target.shape} with strides {target.strides} in bytes",
                expected="a memory location of its own for each element",
            )
        if target.flags.aligned and all(_apart(target, x, in_place) for x in inputs):
            self.array = target
        else:
            self.array, self._target = empty(shape, where, dtype), target

    @property
    def direct(self) -> bool:
        """Whether the kernels write the result where it goes."""
        return self._target is None

    def finish(self) -> Any:
        """Return the result: `out` itself where it was given."""
        recording = current_recording()
        if recording is not None:
            recording.finished(self)
        if self._target is not None:
            self._target[...] = self.array
        return self.array if self._out is None else self._out


def broadcast(a: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `a` stretched to `shape` by NumPy's rule, as a view; ValueError if it does not fit."""
    return np.broadcast_to(a, shape) if isinstance(a, np.ndarray) else a.broadcast_to(shape)


def overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether the memory that `a` spans meets that of `b`: quick, and errs towards yes."""
    if isinstance(a, np.ndarray):
        return np.may_share_memory(a, b)
    (a_low, a_high), (b_low, b_high) = a.span, b.span
    return bool(a_low < b_high and b_low < a_high)


def _apart(out: NDArray[Any], x: NDArray[Any], in_place: bool) -> bool:
    if not overlap(out, x):
        return True
    same = _address(out) == _address(x) and out.strides == x.strides and out.shape == x.shape
    return in_place and same


def _address(a: NDArray[Any]) -> int:
    """Where element 0 of `a` lies."""
    return int(a.ctypes.data if isinstance(a, np.ndarray) else a.pointer)
