"""A GPU for tests of measuring: the driver's functions on main memory, kernels in the emulator, no clock.

Every function that it has must be one of the real driver's, with as many arguments.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convcore.machine_code import Code

from .memory import Array

#: Attributes of an H200.
_ATTRIBUTES = {"COMPUTE_CAPABILITY_MAJOR": 9, "COMPUTE_CAPABILITY_MINOR": 0, "L2_CACHE_SIZE": 4096}


class Status(int):
    """A status as the driver answers it."""

    @property
    def name(self) -> str:
        """The driver's word for it."""
        return "CUDA_SUCCESS" if self == 0 else f"CUDA_ERROR_{int(self)}"


class FakeDriver:
    """What ``cuda.bindings.driver`` is to the code that measures."""

    def __init__(self, milliseconds: float = 2.0) -> None:
        self._memory: dict[int, Array] = {}
        self._milliseconds = milliseconds
        self.calls: list[str] = []
        self.fails: dict[str, int] = {}
        self._replayed = 0
        self._recording: list[Callable[[], None]] | None = None
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._events: dict[int, int] = {}

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith(("cu", "CU")):
            return object.__getattribute__(self, name)
        if name.startswith("CU"):
            return Names()
        function, fake = object.__getattribute__(self, name), self

        def call(*arguments: Any) -> tuple[Any, ...]:
            fake.calls.append(name)
            status = Status(fake.fails.get(name, 0))
            if status:
                return (status,)
            value = function(*arguments)
            return (status,) if value is None else (status, value)

        return call

    # ---- the device ------------------------------------------------------------------------------

    def cuInit(self, flags: int) -> None:  # noqa: N802
        assert flags == 0

    def cuDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def cuDeviceGet(self, ordinal: int) -> int:  # noqa: N802
        return ordinal

    def cuDriverGetVersion(self) -> int:  # noqa: N802
        return 13010

    def cuDeviceGetName(self, length: int, dev: int) -> bytes:  # noqa: N802
        return b"NVIDIA of the tests".ljust(length, b"\0")

    def cuDeviceTotalMem(self, dev: int) -> int:  # noqa: N802
        return 1 << 30

    def cuDeviceGetAttribute(self, attrib: str, dev: int) -> int:  # noqa: N802
        return _ATTRIBUTES.get(attrib.removeprefix("CU_DEVICE_ATTRIBUTE_"), 1)

    def cuDevicePrimaryCtxRetain(self, dev: int) -> int:  # noqa: N802
        return 1

    def cuCtxSetCurrent(self, ctx: int) -> None:  # noqa: N802
        assert ctx == 1

    def cuCtxSynchronize(self) -> None:  # noqa: N802
        pass

    def cuStreamCreate(self, flags: int) -> int:  # noqa: N802
        return 77

    def cuStreamSynchronize(self, stream: int) -> None:  # noqa: N802
        assert stream == 77

    # ---- memory ----------------------------------------------------------------------------------

    def cuMemAlloc(self, bytesize: int) -> int:  # noqa: N802
        whole = np.full(bytesize + 256, 0xA5, np.uint8)
        start = -whole.ctypes.data % 256
        part = whole[start : start + bytesize]
        self._memory[part.ctypes.data] = part
        return int(part.ctypes.data)

    def cuMemFree(self, dptr: int) -> None:  # noqa: N802
        del self._memory[dptr]

    def cuMemHostAlloc(self, bytesize: int, flags: int) -> int:  # noqa: N802
        return self.cuMemAlloc(bytesize)[1]  # type: ignore[index, no-any-return]

    def cuMemFreeHost(self, p: int) -> None:  # noqa: N802
        del self._memory[p]

    def _move(self, to: int, source: int, count: int) -> None:
        ctypes.memmove(to, source, count)

    def cuMemcpyHtoD(self, to: int, source: int, count: int) -> None:  # noqa: N802
        self._move(to, source, count)

    def cuMemcpyDtoH(self, to: int, source: int, count: int) -> None:  # noqa: N802
        self._move(to, source, count)

    def cuMemcpyHtoDAsync(self, to: int, source: int, count: int, stream: int) -> None:  # noqa: N802
        self._move(to, source, count)

    def cuMemcpyDtoHAsync(self, to: int, source: int, count: int, stream: int) -> None:  # noqa: N802
        self._move(to, source, count)

    def cuMemcpyDtoDAsync(self, to: int, source: int, count: int, stream: int) -> None:  # noqa: N802
        self._move(to, source, count)

    def cuMemsetD8Async(self, to: int, byte: int, count: int, stream: int) -> None:  # noqa: N802
        ctypes.memset(to, byte, count)

    def array_at(self, address: int, others: Sequence[int]) -> Array:
        """The memory from an address on, which may lie within an array, to its end or one of the others."""
        for start, array in self._memory.items():
            if start <= address < start + array.nbytes:
                end = min([start + array.nbytes, *(a for a in others if a > address)])
                return array[address - start : end - start]
        raise AssertionError(f"{address:#x} lies in no memory of the GPU")

    # ---- events and graphs -----------------------------------------------------------------------

    def cuEventCreate(self, flags: int) -> int:  # noqa: N802
        self._events[len(self._events) + 1] = 0
        return len(self._events)

    def cuEventRecord(self, event: int, stream: int) -> None:  # noqa: N802
        self._events[event] = self._replayed

    def cuEventSynchronize(self, event: int) -> None:  # noqa: N802
        pass

    def cuEventElapsedTime(self, start: int, end: int) -> float:  # noqa: N802
        return self._milliseconds * max(1, self._events[end] - self._events[start])

    def cuStreamBeginCapture(self, stream: int, mode: Any) -> None:  # noqa: N802
        self._recording = []

    def cuStreamEndCapture(self, stream: int) -> int:  # noqa: N802
        assert self._recording is not None
        self._graphs[len(self._graphs) + 1] = self._recording
        self._recording = None
        return len(self._graphs)

    def cuGraphInstantiate(self, graph: int, flags: int) -> int:  # noqa: N802
        return graph

    def cuGraphDestroy(self, graph: int) -> None:  # noqa: N802
        pass

    def cuGraphExecDestroy(self, graph: int) -> None:  # noqa: N802
        pass

    def cuGraphLaunch(self, graph: int, stream: int) -> None:  # noqa: N802
        assert self._graphs[graph], "a graph that does nothing"
        self._replayed += 1

    def put(self, work: Callable[[], None]) -> None:
        """Run `work`, or record it."""
        work() if self._recording is None else self._recording.append(work)


class Names:
    """An enumeration of the driver's whose members are their names."""

    def __getattr__(self, name: str) -> str:
        return name


class Emulated:
    """Stands in for loading and launching machine code: runs the PTX of the kernels in the emulator."""

    def __init__(self, driver: FakeDriver, ptx: Callable[[str], str]) -> None:
        self._driver = driver
        self._ptx = ptx

    def load(self, code: Code, name: str, device: int) -> str:
        """The kernel's name stands for it."""
        assert code.cubin[:4] == b"\x7fELF"
        return name

    def launch(
        self, loaded: str, code: Code, stream: int, grid: Sequence[int], arguments: Sequence[Any]
    ) -> None:
        """Run it, or record it."""
        from .ptx import Pointer, launch

        addresses = [a for kind, a in zip(code.signature, arguments, strict=True) if kind == "p"]
        kinds: dict[str, Callable[[Any], Any]] = {
            "p": lambda address: Pointer(self._driver.array_at(address, addresses)),
            "i": np.int32,
            "f": np.float32,
        }
        passed = [kinds[kind](a) for kind, a in zip(code.signature, arguments, strict=True)]
        shape, ptx = (code.threads, 1, 1), self._ptx(loaded)
        self._driver.put(lambda: launch(ptx, grid, shape, passed, shared_bytes=code.shared_bytes) and None)
