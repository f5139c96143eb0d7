"""Arrays in the memory of a GPU, and how they come from and go to other packages.

What NumPy knows about views (slices, transposed and broadcast axes, strides) it knows without touching
an element. A :class:`DeviceArray` therefore keeps its address, shape and strides in an ``ndarray`` that
is never read or written, and lets NumPy do the arithmetic; under Numba's simulator, whose device memory
is main memory, that ``ndarray`` is the array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike, NDArray

from convcore.cuda.device import require_gpu, stream
from convcore.cuda.kernels import copy
from convcore.cuda.toolkit import cuda, simulated
from convcore.errors import ArgumentError, DeviceError, DTypeError

__all__ = ["DeviceArray", "as_device_array", "empty", "to_device"]

_DLPACK_CUDA = (2, 13)  # device memory, managed memory
_LEGACY_DEFAULT_STREAM = 1


class _Pointer:
    """An address and how to read it, as NumPy's array interface has it."""

    def __init__(
        self, address: int, shape: Sequence[int], strides: Any, typestr: str, read_only: bool
    ) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, read_only),
            "shape": tuple(shape),
            "strides": strides,
            "typestr": typestr,
        }


class DeviceArray:
    """An array in the memory of a GPU.

    It has the shape, strides and views of a NumPy array, but its elements can be read on the host only
    through :meth:`copy_to_host`: nothing is ever copied there by itself. It exports
    ``__cuda_array_interface__`` and DLPack, so Numba, CuPy, PyTorch and JAX take it as it is.

    Made by :func:`to_device`, :func:`empty` and the operations of :mod:`convcore.cuda`.
    """

    __slots__ = ("_map", "_owner")

    def __init__(self, map_: NDArray[Any], owner: object) -> None:
        self._map = map_
        self._owner = owner

    # ---- what it is -----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._map.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis."""
        return self._map.strides

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._map.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._map.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._map.size

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self._map.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._map.nbytes

    @property
    def flags(self) -> Any:
        """Contiguity, alignment and whether it may be written, as NumPy has them."""
        return self._map.flags

    @property
    def pointer(self) -> int:
        """Address of the first element on the device."""
        return int(self._map.ctypes.data)

    @property
    def span(self) -> tuple[int, int]:
        """The addresses that its elements lie between: [low, high)."""
        if not self.size:
            return self.pointer, self.pointer
        steps = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        low = self.pointer + sum(s for s in steps if s < 0)
        return low, self.pointer + sum(s for s in steps if s > 0) + self.itemsize

    def __len__(self) -> int:
        return len(self._map)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    # ---- views ----------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> DeviceArray:
        for k in key if isinstance(key, tuple) else (key,):
            if not (k is None or k is Ellipsis or isinstance(k, (int, np.integer, slice))):
                raise ArgumentError(
                    "DeviceArray", "index", got=type(k).__name__, expected="integers, slices, None or ..."
                )
        taken = self._map[key if isinstance(key, tuple) else (key,)]
        if not isinstance(taken, np.ndarray):  # all integers: a view without axes, not its value
            taken = self._map[(*(key if isinstance(key, tuple) else (key,)), Ellipsis)]
        return DeviceArray(taken, self)

    def transpose(self, *axes: Any) -> DeviceArray:
        """The view with permuted axes, as ``ndarray.transpose``."""
        return DeviceArray(self._map.transpose(*axes), self)

    def broadcast_to(self, shape: Sequence[int]) -> DeviceArray:
        """The view stretched to `shape`, as ``numpy.broadcast_to``."""
        return DeviceArray(np.broadcast_to(self._map, tuple(shape)), self)

    def view(self, dtype: DTypeLike) -> DeviceArray:
        """The same memory as elements of another type, as ``ndarray.view``."""
        return DeviceArray(self._map.view(dtype), self)

    def strided(self, offset: int, shape: Sequence[int], ld: Sequence[int]) -> DeviceArray:
        """The view from element `offset` on with memory steps `ld`, both in elements."""
        size = self.itemsize
        start = _Pointer(
            self.pointer + offset * size, (1,), None, self.dtype.str, not self._map.flags.writeable
        )
        first: NDArray[Any] = np.asarray(start)
        return DeviceArray(as_strided(first, shape, [s * size for s in ld]), self)

    def reshape(self, *shape: Any) -> DeviceArray:
        """The array in another shape: a view where the strides allow it, else a copy."""
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        try:
            return DeviceArray(self._map.reshape(wanted, copy=False), self)
        except ValueError:  # the strides do not allow it (or the sizes do not fit, which is raised again)
            copied = self.copy()
            return DeviceArray(copied._map.reshape(wanted, copy=False), copied)

    # ---- copies ---------------------------------------------------------------------------------

    def copy(self) -> DeviceArray:
        """A new array in C order with the same elements."""
        return self.astype(self.dtype)

    def astype(self, dtype: DTypeLike) -> DeviceArray:
        """A new array in C order, each element converted to `dtype`."""
        result = empty(self.shape, dtype)
        result[...] = self
        return result

    def __setitem__(self, key: Any, value: Any) -> None:
        target = self[key]
        if isinstance(value, (int, float)):
            copy.launch_fill(target, value)
        else:
            copy.launch(target, as_device_array(value, "value", "DeviceArray").broadcast_to(target.shape))

    def copy_to_host(self) -> NDArray[Any]:
        """The elements as a NumPy array, after everything on the context's stream is done."""
        source = self if self.flags.c_contiguous else self.copy()
        if simulated:
            return source._map.copy()
        host = np.empty(source.shape, source.dtype)
        if host.size:
            on = stream.get()
            source.as_numba().copy_to_host(host, stream=on)
            cuda.synchronize() if on == 0 else on.synchronize()
        return host

    def copy_from_host(self, x: NDArray[Any]) -> None:
        """Fill this contiguous array with the elements of `x`, an array of the same shape and type."""
        if simulated:
            self._map[...] = x
        elif self.size:
            on = stream.get()
            self.as_numba().copy_to_device(np.ascontiguousarray(x), stream=on)
            cuda.synchronize() if on == 0 else on.synchronize()  # the host array may change from now on

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        raise DeviceError(
            "DeviceArray",
            "its elements lie on the GPU",
            remedy="x.copy_to_host() gives them as a NumPy array.",
        )

    # ---- to other packages ----------------------------------------------------------------------

    def as_numba(self) -> Any:
        """The same memory as Numba's kernels take it."""
        if simulated:
            return cuda.cudadrv.devicearray.FakeCUDAArray(self._map)
        return cuda.from_cuda_array_interface(self.__cuda_array_interface__, owner=self, sync=False)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        handle = getattr(stream.get(), "handle", None)
        return {
            "version": 3,
            "shape": self.shape,
            "strides": None if self.flags.c_contiguous else self.strides,
            "typestr": self.dtype.str,
            "data": (self.pointer, not self.flags.writeable),
            "stream": int(getattr(handle, "value", handle) or _LEGACY_DEFAULT_STREAM),
        }

    def _strided_view(self) -> Any:
        from cuda.core.utils import StridedMemoryView

        return StridedMemoryView.from_cuda_array_interface(self, stream_ptr=-1)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._strided_view().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._strided_view().__dlpack_device__()
        return device


def empty(shape: Sequence[int], dtype: DTypeLike = np.float32) -> DeviceArray:
    """A new array on the current GPU, not initialised.

    Raises
    ------
    DeviceError
        There is no GPU that can be used.
    MemoryError
        The GPU has not that much memory free; the message says how much it has.
    """
    kind: np.dtype[Any] = np.dtype(dtype)
    if simulated:
        memory = np.empty(tuple(shape), kind)
        return DeviceArray(memory, None)
    require_gpu("convcore.cuda.empty")
    nbytes = math.prod(shape) * kind.itemsize
    if not nbytes:
        return DeviceArray(np.empty(tuple(shape), kind), None)
    try:
        memory = cuda.current_context().memalloc(nbytes)
    except Exception as error:
        if "MEMORY" not in str(error).upper():
            raise
        free, total = cuda.current_context().get_memory_info()
        raise MemoryError(
            f"convcore.cuda: no memory on the GPU for {nbytes:,} bytes; {free:,} of {total:,} are free"
        ) from error
    pointer = _Pointer(int(memory.device_ctypes_pointer.value), shape, None, kind.str, False)
    return DeviceArray(np.asarray(pointer), memory)


def to_device(x: NDArray[Any]) -> DeviceArray:
    """Copy a NumPy array to the current GPU.

    Examples
    --------
    >>> from convcore.cuda import to_device, relu          # doctest: +SKIP
    >>> relu(to_device(np.float32([-1, 2]))).copy_to_host()  # doctest: +SKIP
    array([0., 2.], dtype=float32)
    """
    if not isinstance(x, np.ndarray):
        raise DTypeError("to_device", "x", got=type(x).__name__, expected="a NumPy array")
    result = empty(x.shape, x.dtype)
    result.copy_from_host(x)
    return result


def _wait_for(handle: int | None) -> None:
    """Let the context's stream wait for what was put on stream `handle` until now."""
    if handle is None or simulated:
        return
    producer, consumer = cuda.external_stream(handle), stream.get() or cuda.default_stream()
    done = cuda.event(timing=False)
    done.record(producer)
    done.wait(consumer)


def as_device_array(x: Any, name: str, where: str) -> DeviceArray:
    """Return `x`, an array of any package that lies on a GPU, sharing its memory.

    Work that its package has put on a stream is waited for on the context's stream, not on the host.

    Raises
    ------
    DeviceError
        `x` lies in main memory, or on another GPU than the current one. Copying it is never done silently.
    DTypeError
        `x` is no array, or records gradients.
    """
    if isinstance(x, DeviceArray):
        return x
    if simulated and isinstance(x, cuda.cudadrv.devicearray.FakeCUDAArray):
        return DeviceArray(x._ary, x)
    if getattr(x, "requires_grad", False) is True:
        raise DTypeError(
            where,
            f"{name} records gradients",
            got=type(x).__name__,
            remedy=f"Take its values alone: {name}.detach().",
        )
    try:
        interface = getattr(x, "__cuda_array_interface__", None)
    except (AttributeError, RuntimeError, TypeError):
        interface = None  # such as PyTorch's for a tensor in main memory
    if interface is not None:
        return _from_interface(interface, x, name, where)
    device = getattr(x, "__dlpack_device__", None)
    if device is not None and device()[0] in _DLPACK_CUDA:
        from cuda.core.utils import StridedMemoryView

        handle = getattr(stream.get(), "handle", None)
        wait_on = int(getattr(handle, "value", handle) or _LEGACY_DEFAULT_STREAM)
        view = StridedMemoryView.from_dlpack(x, stream_ptr=wait_on)
        strides = None if view.strides is None else [s * view.dtype.itemsize for s in view.strides]
        pointer = _Pointer(view.ptr, view.shape, strides, np.dtype(view.dtype).str, view.readonly)
        return DeviceArray(np.asarray(pointer), (x, view))
    if device is not None or hasattr(x, "__array__") or hasattr(x, "__array_interface__"):
        raise DeviceError(
            where,
            f"{name} lies in main memory",
            got=type(x).__name__,
            expected="an array on the GPU",
            remedy=f"convcore.cuda.to_device({name}) copies it there.",
        )
    raise DTypeError(
        where,
        f"{name} is no array",
        got=type(x).__name__,
        expected="an object with __cuda_array_interface__ or DLPack",
    )


def _from_interface(interface: dict[str, Any], x: object, name: str, where: str) -> DeviceArray:
    if interface.get("mask") is not None:
        raise DTypeError(where, f"{name} is a masked array", got=type(x).__name__)
    address, read_only = interface["data"]
    _wait_for(interface.get("stream"))
    pointer = _Pointer(address, interface["shape"], interface.get("strides"), interface["typestr"], read_only)
    return DeviceArray(np.asarray(pointer), x)
