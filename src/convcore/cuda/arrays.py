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

from convcore.cuda.device import (
    call,
    current,
    failure,
    handle_of,
    holder,
    is_drivers,
    require_gpu,
    stream,
)
from convcore.cuda.kernels import copy
from convcore.cuda.toolkit import cuda, simulated
from convcore.cuda.transfer import event
from convcore.errors import ArgumentError, DeviceError, DTypeError

__all__ = ["DeviceArray", "as_device_array", "empty", "to_device"]

_DLPACK_CUDA = (2, 13)  # device memory, managed memory
_DLPACK_CPU = 1
_LEGACY_DEFAULT_STREAM = 1
_NO_WAITING = -1
#: The first version of the CUDA array interface that has streams.
_NAMES_STREAMS = 3


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


class _Memory:
    """What all views of one piece of memory share: whose GPU it is on, and the stream that wrote it last."""

    __slots__ = ("device", "stream")

    def __init__(self) -> None:
        self.device, self.stream = current(), stream.get()


class DeviceArray:
    """An array in the memory of a GPU.

    It has the shape, strides and views of a NumPy array, but its elements can be read on the host only
    through :meth:`copy_to_host`: nothing is ever copied there by itself. It exports
    ``__cuda_array_interface__`` and DLPack, so Numba, CuPy, PyTorch and JAX take it as it is.

    Made by :func:`to_device`, :func:`empty` and the operations of :mod:`convcore.cuda`.
    """

    __slots__ = ("_map", "_memory", "_owner")

    def __init__(self, map_: NDArray[Any], owner: object) -> None:
        self._map = map_
        self._owner = owner
        self._memory: _Memory = owner._memory if isinstance(owner, DeviceArray) else _Memory()

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
        """Address of the first element on the device; 0 if there is none."""
        return int(self._map.ctypes.data) if self.size else 0

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
        keys = key if isinstance(key, tuple) else (key,)
        for k in keys:
            if not (k is None or k is Ellipsis or isinstance(k, (int, np.integer, slice))):
                raise ArgumentError(
                    "DeviceArray", "index", got=type(k).__name__, expected="integers, slices, None or ..."
                )
        # With ... NumPy makes a view of an element too; without it, it would read the address.
        return DeviceArray(self._map[keys if any(k is Ellipsis for k in keys) else (*keys, ...)], self)

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
        _wait(target._memory.stream, stream.get())
        target.written_on(stream.get())
        if isinstance(value, (int, float)):
            copy.launch_fill(target, value)
        else:
            copy.launch(target, as_device_array(value, "value", "DeviceArray").broadcast_to(target.shape))

    def copy_to_host(self) -> NDArray[Any]:
        """The elements as a NumPy array, after everything on the context's stream is done.

        And after what wrote them, whichever stream that was on: the default stream, which is the context's
        where nothing else is said, does not wait for streams of the kind that PyTorch and the engine make.
        """
        source = self if self.flags.c_contiguous else self.copy()
        host = np.empty(source.shape, source.dtype)
        on = stream.get()
        _wait(source._memory.stream, on)
        source.get(host, on)
        _wait_on_host(on)
        return host

    def copy_from_host(self, x: NDArray[Any]) -> None:
        """Fill this C-ordered array with the elements of `x`, an array of the same shape and type."""
        on = stream.get()
        source = np.ascontiguousarray(x)
        _wait(self._memory.stream, on)
        self.put(source, on)
        _wait_on_host(on)  # the host array may change, and end, from now on

    def get(self, host: NDArray[Any], on: Any) -> None:
        """Queue a copy to `host` on stream `on`; both C-ordered, of the same shape and type.

        `host` has the elements when the stream has come so far, and may neither end nor be read before.
        """
        if simulated:
            host[...] = self._map
        elif self.size:
            call("cuMemcpyDtoHAsync", host.ctypes.data, self.pointer, self.nbytes, handle_of(on))

    def put(self, host: NDArray[Any], on: Any) -> None:
        """Queue a copy from `host` on stream `on`; both C-ordered, of the same shape and type.

        `host` may neither end nor change before the stream has come so far.
        """
        if simulated:
            self._map[...] = host
        elif self.size:
            self.written_on(on)
            call("cuMemcpyHtoDAsync", self.pointer, host.ctypes.data, self.nbytes, handle_of(on))

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
        return {
            "version": 3,
            "shape": self.shape,
            "strides": None if self.flags.c_contiguous else self.strides,
            "typestr": self.dtype.str,
            "data": (self.pointer, not self.flags.writeable),
            # Not the stream of whoever asks: the one to wait for.
            "stream": handle_of(self._memory.stream) or _LEGACY_DEFAULT_STREAM,
        }

    def written_on(self, on: Any) -> None:
        """Note that stream `on` writes it from now on: who reads it elsewhere waits for that one."""
        self._memory.stream = on

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a DLPack capsule, for ``from_dlpack`` of any package.

        `stream`, the consumer's, is made to wait for what has been queued to write the array: None and 1
        stand for the default stream, 2 for the thread's, -1 for no waiting. Only a consumer that says
        it understands version 1 takes what may not be written.

        Raises
        ------
        BufferError
            The consumer wants it on another device, or cannot take what may not be written.
        """
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"the array is on device {self.__dlpack_device__()}, not on {dl_device}")
        source = self.copy() if copy else self
        versioned = max_version is not None and max_version[0] >= 1
        if not versioned and not source.flags.writeable:
            raise BufferError("the array may not be written, and this version of DLPack cannot say so")
        if simulated:  # NumPy's array is the array
            return source._map.__dlpack__(max_version=max_version)
        if stream != _NO_WAITING:
            _wait(source._memory.stream, _LEGACY_DEFAULT_STREAM if stream is None else int(stream))
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_cuda_array_interface(source, stream_ptr=_NO_WAITING)
        return view.__dlpack__(stream=_NO_WAITING, max_version=max_version)

    def __dlpack_device__(self) -> tuple[int, int]:
        # The simulator's device memory is main memory.
        return (_DLPACK_CPU, 0) if simulated else (_DLPACK_CUDA[0], self._memory.device)


def empty(shape: Sequence[int], dtype: DTypeLike = np.float32) -> DeviceArray:
    """A new array on the current GPU, not initialised.

    Raises
    ------
    DeviceError
        There is no GPU that can be used.
    OutOfMemoryError
        The GPU has not that much memory free; the message says how much it has. It is a ``MemoryError`` too.
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
        if not is_drivers(error):
            raise
        raise failure("convcore.cuda", str(error), nbytes) from error
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


def _wait_on_host(on: Any) -> None:
    """Wait until stream `on` has come to its end."""
    if not simulated:
        call("cuStreamSynchronize", handle_of(on))


def _wait(producer: Any, consumer: Any) -> None:
    """Let stream `consumer` wait for what has been put on stream `producer` until now."""
    if simulated:
        return
    first, then = (handle_of(s) or _LEGACY_DEFAULT_STREAM for s in (producer, consumer))
    if first != then:
        done = event()
        done.record(cuda.external_stream(first))
        done.wait(cuda.external_stream(then))


def _refuse_other_device(device: int, name: str, where: str) -> None:
    if device != current():
        raise DeviceError(
            where,
            f"{name} is on another GPU",
            got=f"GPU {device}",
            expected=f"GPU {current()}, this thread's",
        )


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
        _refuse_other_device(x._memory.device, name, where)
        _wait(x._memory.stream, stream.get())
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
        _refuse_other_device(int(device()[1]), name, where)
        from cuda.core.utils import StridedMemoryView

        wait_on = handle_of(stream.get()) or _LEGACY_DEFAULT_STREAM
        view = StridedMemoryView.from_dlpack(x, stream_ptr=wait_on)
        if view.dtype is None:
            raise DTypeError(where, f"{name} has elements that NumPy has no type for", got=type(x).__name__)
        strides = None if view.strides is None else tuple(s * view.dtype.itemsize for s in view.strides)
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
    array = DeviceArray(
        np.asarray(
            _Pointer(address, interface["shape"], interface.get("strides"), interface["typestr"], read_only)
        ),
        x,
    )
    if array.size and not simulated:
        _refuse_other_device(holder(address, name, where), name, where)
    producer = interface.get("stream")
    if producer is not None:  # None: there is nothing to wait for
        _wait(int(producer), stream.get())
    elif interface.get("version", 0) < _NAMES_STREAMS and array.size and not simulated:
        # Such as PyTorch's: the interface cannot say on which stream the array is written. DLPack, by being
        # asked for it, has our stream wait for that one; the array itself is known already.
        export = getattr(x, "__dlpack__", None)
        if export is not None:
            export(stream=handle_of(stream.get()) or _LEGACY_DEFAULT_STREAM)
    return array
