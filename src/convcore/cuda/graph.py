"""Launches recorded as a CUDA graph and replayed as one: at batch 1 they cost more than the arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convcore.cuda.device import call, handle_of, launching, require_gpu
from convcore.cuda.toolkit import cuda, simulated
from convcore.cuda.transfer import new_stream

__all__ = ["Recording"]


class Recording:
    """What `work` puts on a stream, to be replayed there.

    The first replay runs `work` itself, since compiling and loading kernels cannot be recorded; the second
    records it; every one from then on is a single launch.

    Parameters
    ----------
    work
        Launches on the context's stream. It may neither allocate memory nor wait for the device.
    stream
        Where to run; one of its own by default.

    Attributes
    ----------
    stream
        Where it runs; 0 under Numba's simulator, which has no streams and runs `work` every time.
    """

    def __init__(self, work: Callable[[], None], stream: Any = None) -> None:
        require_gpu("convcore.cuda")
        self._work = work
        self.stream: Any = 0 if simulated else stream or new_stream()
        self._ran = False
        self._graph: Any = None
        self._destroy: Any = None

    def replay(self) -> None:
        """Put the work on the stream."""
        with launching(self.stream, "replay"):
            if simulated or not self._ran:
                self._work()
                self._ran = True
                return
        if self._graph is None:
            self._graph = self._recorded()
        call("cuGraphLaunch", self._graph, handle_of(self.stream))

    def _recorded(self) -> Any:
        from cuda.bindings import driver

        on = handle_of(self.stream)
        # Memory that Python lets go of meanwhile may not be freed: that would spoil the recording.
        with cuda.defer_cleanup():
            call("cuStreamBeginCapture", on, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            try:
                with launching(self.stream, "record"):
                    self._work()
            except BaseException:
                driver.cuStreamEndCapture(on)  # the stream is to be of use again; why it failed is known
                raise
            graph = call("cuStreamEndCapture", on)
        self._destroy = driver.cuGraphExecDestroy  # where Python ends, __del__ can import nothing any more
        try:
            return call("cuGraphInstantiate", graph, 0)
        finally:
            driver.cuGraphDestroy(graph)

    def __del__(self) -> None:
        if getattr(self, "_graph", None) is not None:
            self._destroy(self._graph)
