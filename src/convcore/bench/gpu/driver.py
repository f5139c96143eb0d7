"""The GPU through NVIDIA's driver alone: memory, copies, events and graphs, with or without Numba beside it.

Numba and PyTorch use the device's primary context; so does this, so that all three share memory and streams.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore import gpu
from convcore.errors import DeviceError

__all__ = ["Clock", "Device", "Graph", "Memory", "Pinned", "described"]

_NON_BLOCKING = 1
_ATTRIBUTES = {
    "multiprocessors": "MULTIPROCESSOR_COUNT",
    "clock_khz": "CLOCK_RATE",
    "memory_clock_khz": "MEMORY_CLOCK_RATE",
    "l2_bytes": "L2_CACHE_SIZE",
    "ecc": "ECC_ENABLED",
}


def _driver() -> Any:
    from cuda.bindings import driver

    return driver


def checked(result: tuple[Any, ...], what: str) -> Any:
    """Return what a call of the driver gave beside its status: nothing, a value, or a tuple of them.

    Raises
    ------
    DeviceError
        The status is not success; the message names it.
    """
    status, *values = result
    if int(status):
        raise DeviceError(what, f"the driver failed: {getattr(status, 'name', status)}")
    return values[0] if len(values) == 1 else tuple(values)


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the driver; see :func:`checked`."""
    return checked(getattr(_driver(), name)(*arguments), name)


class Memory:
    """Bytes on the GPU, given back when nobody holds the object."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._free = _driver().cuMemFree
        self.pointer = int(call("cuMemAlloc", max(nbytes, 1)))

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._free(self.pointer)


class Pinned:
    """Bytes of main memory that the GPU copies to and from by itself."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._free = _driver().cuMemFreeHost
        self.pointer = int(call("cuMemHostAlloc", max(nbytes, 1), 0))

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._free(self.pointer)


class Graph:
    """What `work` puts on the device's stream, recorded; it is `calls` calls of the thing that is timed."""

    def __init__(self, device: Device, work: Callable[[], None], calls: int = 1) -> None:
        driver = _driver()
        self.calls = calls
        on = device.stream
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call("cuStreamBeginCapture", on, mode)
        try:
            work()
        except BaseException:
            driver.cuStreamEndCapture(on)  # the stream is to be of use again
            raise
        graph = call("cuStreamEndCapture", on)
        self._destroy = driver.cuGraphExecDestroy
        self._executable = call("cuGraphInstantiate", graph, 0)
        call("cuGraphDestroy", graph)

    def replay_on(self, stream: int) -> Callable[[], None]:
        """Return what puts all of it on the stream with this handle."""
        return lambda: call("cuGraphLaunch", self._executable, stream)

    def __del__(self) -> None:
        if hasattr(self, "_executable"):
            self._destroy(self._executable)


@contextlib.contextmanager
def _asked() -> Iterator[gpu.Machine]:
    """The driver, initialised; what it does not answer becomes a :class:`DeviceError`."""
    try:
        machine = gpu.Machine(_driver())
        machine.start()
        if not machine.count():
            raise DeviceError("GPU", "the driver sees no GPU")
        yield machine
    except gpu.Unusable as why:
        raise DeviceError("GPU", str(why)) from None


def _attribute(device: Any, name: str) -> int:
    attribute = getattr(_driver().CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    return int(call("cuDeviceGetAttribute", attribute, device))


def described(number: int = 0) -> dict[str, Any]:
    """Return a GPU's name, capability, memory and clocks, and what its driver supports; makes no context.

    Raises
    ------
    DeviceError
        There is no driver or no GPU.
    """
    with _asked() as machine:
        named, serves = machine.gpu(number), machine.driver_cuda()
    found: dict[str, Any] = {
        "name": named.name,
        "compute_capability": ".".join(map(str, named.capability)),
        "driver_supports_cuda": ".".join(map(str, serves)),
        "memory_bytes": named.memory_bytes,
    }
    device = call("cuDeviceGet", number)
    for key, attribute in _ATTRIBUTES.items():
        try:
            found[key] = _attribute(device, attribute)
        except (AttributeError, DeviceError):  # a version of CUDA that has it no more
            found[key] = None
    return found


class Device:
    """The first GPU, its primary context, and a stream on it.

    Raises
    ------
    DeviceError
        There is no driver or no GPU.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        with _asked() as machine:
            self.capability = machine.gpu(number).capability
        device = call("cuDeviceGet", number)
        call("cuCtxSetCurrent", call("cuDevicePrimaryCtxRetain", device))
        self.l2_bytes = _attribute(device, "L2_CACHE_SIZE")
        self.stream = int(call("cuStreamCreate", _NON_BLOCKING))

    def upload(self, array: NDArray[Any]) -> Memory:
        """Copy an array to new memory."""
        host = np.ascontiguousarray(array)
        memory = Memory(host.nbytes)
        if host.nbytes:
            call("cuMemcpyHtoD", memory.pointer, host.ctypes.data, host.nbytes)
            call("cuCtxSynchronize")  # a copy from pageable memory may return before its last bytes are there
        return memory

    def download(self, memory: Memory, shape: Sequence[int], dtype: str) -> NDArray[Any]:
        """Copy memory to a new array, after all that was put on the stream."""
        self.synchronize()
        host = np.empty(tuple(shape), dtype)
        if host.nbytes > memory.nbytes:
            raise DeviceError("download", got=f"{host.nbytes:,} bytes", expected=f"at most {memory.nbytes:,}")
        if host.nbytes:
            call("cuMemcpyDtoH", host.ctypes.data, memory.pointer, host.nbytes)
        return host

    def fill(self, memory: Memory, byte: int) -> None:
        """Set every byte; 0xFF makes NaN of floating-point numbers."""
        call("cuMemsetD8Async", memory.pointer, byte, memory.nbytes, self.stream)

    def copy(self, to: Memory | Pinned, source: Memory | Pinned) -> None:
        """Put a copy of all bytes on the stream: within the GPU, or to or from pinned memory."""
        pair = ("D" if isinstance(m, Memory) else "H" for m in (source, to))
        name = "cuMemcpy{}to{}Async".format(*pair)
        call(name, to.pointer, source.pointer, min(to.nbytes, source.nbytes), self.stream)

    def synchronize(self) -> None:
        """Wait for all that was put on the stream."""
        call("cuStreamSynchronize", self.stream)


class Clock:
    """Two events on a stream."""

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._start, self._stop = call("cuEventCreate", 0), call("cuEventCreate", 0)

    def __call__(self, work: Callable[[], object], repeats: int) -> float:
        """Return the milliseconds of `repeats` calls of `work`, which puts work on the stream."""
        call("cuEventRecord", self._start, self._stream)
        for _ in range(repeats):
            work()
        call("cuEventRecord", self._stop, self._stream)
        call("cuEventSynchronize", self._stop)
        return float(call("cuEventElapsedTime", self._start, self._stop))
