"""Launches recorded as a CUDA graph and replayed as one: at batch 1 they cost more than the arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convcore.cuda.device import launching, require_gpu
from convcore.cuda.toolkit import cuda, simulated
from convcore.errors import DeviceError

__all__ = ["Recording"]


class Recording:
    """What `work` puts on a stream of its own, to be replayed there.

    The first replay runs `work` itself, since compiling and loading kernels cannot be recorded; the second
    records it; every one from then on is a single launch.

    Attributes
    ----------
    stream
        Where it runs; 0 under Numba's simulator, which has no streams and runs `work` every time.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        require_gpu("convcore.cuda")
        self._work = work
        self.stream: Any = 0 if simulated else cuda.stream()
        self._ran = False
        self._graph: Any = None

    def replay(self) -> None:
        """Put the work on the stream."""
        with launching(self.stream, "replay"):
            if simulated or not self._ran:
                self._work()
                self._ran = True
                return
        if self._graph is None:
            self._graph = self._recorded()
        from cuda.bindings import driver

        _checked(driver.cuGraphLaunch(self._graph, self._handle))

    @property
    def _handle(self) -> int:
        handle = self.stream.handle
        return int(getattr(handle, "value", handle))

    def _recorded(self) -> Any:
        from cuda.bindings import driver

        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _checked(driver.cuStreamBeginCapture(self._handle, mode))
        try:
            with launching(self.stream, "record"):
                self._work()
        finally:
            (graph,) = _checked(driver.cuStreamEndCapture(self._handle))
        (executable,) = _checked(driver.cuGraphInstantiate(graph, 0))
        _checked(driver.cuGraphDestroy(graph))
        return executable

    def __del__(self) -> None:
        if getattr(self, "_graph", None) is not None:
            from cuda.bindings import driver

            driver.cuGraphExecDestroy(self._graph)


def _checked(result: Any) -> tuple[Any, ...]:
    """What a call of the driver returned beside its status, which must be success."""
    status, *rest = result
    if int(status):
        raise DeviceError("CUDA graph", f"the driver failed: {status.name}")
    return tuple(rest)
