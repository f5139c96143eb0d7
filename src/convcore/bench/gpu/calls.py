"""Single operations on a GPU as people call them, for the table beside the CPU: ours and PyTorch's.

Adapters like those of :mod:`convcore.bench.peers`, timed by two events on one stream around enough calls. A
call is the public function from Python with ``out=``, with everything it does: checks, packing of weights,
launches. PyTorch is called in the same way, and neither is recorded as a graph; for small arrays what is
seen is the launch. How fast the kernels themselves are, with the arrays in no cache, is what :mod:`.record`
measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.bench.formats import UnsupportedError
from convcore.bench.gpu.driver import Clock, Device, Memory, call
from convcore.bench.gpu.network import chain
from convcore.bench.gpu.timing import repeats_of
from convcore.bench.gpu.torch_peer import TorchPeer, are_maps, as_array
from convcore.bench.operations import is_call, public_call
from convcore.errors import DeviceError
from convcore.loader.graph import Graph

__all__ = ["ConvcoreCuda", "TorchCuda"]

_COPIED = 256 << 20
_COPIES = 5


class _OnGpu:
    """A device, a stream on it, and a clock."""

    def __init__(self, threads: int) -> None:
        self._device = Device()
        self._stream = self._device.stream
        self._clock = Clock(self._stream)
        self._seconds: dict[str, float] = {}
        self._run: Callable[[], object] = lambda: None
        self._y: Any = None

    def run(self) -> None:
        """Put one call on the stream."""
        self._run()

    def run_and_wait(self) -> None:
        """Call, and return when the GPU is done."""
        self._run()
        self._wait()

    def _wait(self) -> None:
        """Wait for the stream that the calls are put on."""
        call("cuStreamSynchronize", self._stream)

    def time(self, seconds: float, most: int) -> list[float]:
        """Return milliseconds of a call, one number for each of several stretches of about 10 ms."""
        self._clock(self._run, 1)
        repeats = repeats_of(self._clock(self._run, 1))
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or (len(times) < most and time.perf_counter() < end):
            times.append(self._clock(self._run, repeats) / repeats)
        return times

    def facts(self) -> dict[str, float]:
        """Seconds of the first call (it compiles) and of the arrays' ways, and the GPU's copy bandwidth."""
        source, target = Memory(_COPIED), Memory(_COPIED)
        self._device.fill(source, 0)
        self._device.copy(target, source)
        ms = min(self._clock(lambda: self._device.copy(target, source), 1) for _ in range(_COPIES))
        return {**self._seconds, "copy_bytes_per_s": 2 * _COPIED / (1e-3 * ms)}


class ConvcoreCuda(_OnGpu):
    """:mod:`convcore.cuda`'s functions; a network by the engine, with its recorded graph."""

    packages = ("convcore", "numba-cuda")

    def build(self, graph: Graph, x: NDArray[Any]) -> None:
        """Copy the arrays to the GPU and call once, which compiles."""
        from convcore import cuda

        shape = (len(x), *(n or 0 for n in graph.node(graph.outputs[0]).shape))
        start = time.perf_counter()
        if is_call(graph):
            image, self._y = cuda.to_device(x), cuda.empty(shape, np.float32)
            self._seconds["copy_in_s"] = time.perf_counter() - start
            self._run = public_call(graph, cuda, image, self._y, cuda.to_device, stream=self._stream)
            start = time.perf_counter()
            self._run()
            self._wait()
        else:
            self._engine(graph, x)
        self._seconds["first_call_s"] = time.perf_counter() - start

    def _engine(self, graph: Graph, x: NDArray[Any]) -> None:
        from convcore import plan
        from convcore.cuda.device import handle_of
        from convcore.run.cuda import CudaRunner

        runner = CudaRunner(plan.build(graph, plan.Device("cuda")))
        for _ in range(3):  # compiles, records, replays
            (self._y,) = runner.run([x])
        program = runner.program(len(x))
        self._stream = handle_of(program.stream)
        self._clock = Clock(self._stream)
        self._run = program.slot(0).replay

    def output(self) -> NDArray[np.float32]:
        """Return what the last call computed."""
        self._wait()
        start = time.perf_counter()
        y: NDArray[np.float32] = self._y if isinstance(self._y, np.ndarray) else self._y.copy_to_host()
        self._seconds["copy_out_s"] = time.perf_counter() - start
        return y


class TorchCuda(_OnGpu):
    """PyTorch on cuDNN, float32 with TF32 off, channels last."""

    packages = ("torch",)

    def build(self, graph: Graph, x: NDArray[Any]) -> None:
        """Copy the arrays to the GPU and call once."""
        layers = chain(graph)
        self._maps = are_maps(layers[-1])
        peer = TorchPeer("float32")
        try:
            forward = peer.call(layers, x, False)
        except DeviceError as error:
            raise UnsupportedError(str(error)) from error
        torch, on = peer.torch, peer.torch.cuda.ExternalStream(self._stream)

        def run() -> None:
            with torch.cuda.stream(on), torch.inference_mode():
                self._y = forward()

        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        self._wait()
        self._seconds["first_call_s"] = time.perf_counter() - start
        self._run = run

    def output(self) -> NDArray[np.float32]:
        """Return what the last call computed, channels last."""
        self._wait()
        return as_array(self._y, self._maps)
