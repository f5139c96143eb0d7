"""One peer in a process of its own, and the side of the pipe that drives it.

Thread pools go on spinning after a call, in whatever process they are, and take the cores from whoever is
timed next. So every peer has a process, and all but the one whose turn it is are stopped (SIGSTOP): a
stopped pool cannot spin. A process that dies of a network takes nothing down with it, either. Medians in
milliseconds of a 3x3 convolution of 28 x 28 x 256 to 512 on two cores, turns of 50 ms:

                                   convcore  PyTorch  ONNX Runtime  OpenVINO  ncnn  LiteRT
    each alone on the machine           3.5      8.3           8.9       9.1   3.8     9.4
    processes in turn, stopped          2.8      8.3           8.8       8.9   3.4     9.3
    processes in turn, not stopped      3.5     15.8          12.4      16.0   3.7     9.9
    one process, in turn                3.4      9.6           9.1      14.0   3.8    10.0
    one process, single calls           8.7     17.5          13.3      18.2   6.9    19.3

    python -m convcore.bench.worker NAME THREADS DEVICE

reads pickled messages from stdin and answers on stdout; both ends are this module.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from convcore.bench.cases import case
from convcore.bench.formats import UnsupportedError
from convcore.bench.peers import adapters
from convcore.errors import printable

__all__ = ["Worker", "WorkerError"]

_THREAD_VARIABLES = (
    "CONVCORE_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
)  # fmt: skip


class WorkerError(Exception):
    """The peer cannot do it: `kind` is "unsupported", "failed" or "died"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Worker:
    """A running process with the peer called `name`; a context manager that ends it.

    Parameters
    ----------
    name
        A key of :data:`convcore.bench.peers.PEERS`.
    threads
        How many threads the peer may use.
    environment
        More variables for the process, such as ``CONVCORE_ISA``.
    device
        "cpu", or "cuda" for the peer's form on an NVIDIA GPU.
    """

    def __init__(
        self, name: str, threads: int, environment: Mapping[str, str] | None = None, device: str = "cpu"
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "convcore.bench.worker", name, str(threads), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), **(environment or {})},
        )

    def build(self, name: str, batch: int) -> Any:
        """Build the case called `name`; return its output on the case's seeded input."""
        return self._ask("build", name, batch)

    def time(self, seconds: float, most: int = 1000) -> list[float]:
        """Run once untimed, to warm the caches, then for about `seconds`; return milliseconds of each."""
        times: list[float] = self._ask("time", seconds, most)
        return times

    def facts(self) -> dict[str, float]:
        """Return what the peer says of itself beside its times; empty for most."""
        found: dict[str, float] = self._ask("facts")
        return found

    def pause(self) -> None:
        """Stop the process and every thread in it until its next turn."""
        self._signal("SIGSTOP")

    def resume(self) -> None:
        """Let it run again."""
        self._signal("SIGCONT")

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _ask(self, *message: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
            # Our own process's answer: no stranger can write to this pipe.
            status, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._process.wait(10)
            raise WorkerError("died", f"the process ended with code {code}") from None
        if status != "done":
            raise WorkerError(status, answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _die_with_parent() -> None:
    """Where Linux can: a stopped process would outlive a killed parent for ever."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _serve(name: str, threads: int, device: str, questions: IO[bytes], answers: IO[bytes]) -> None:
    peer: Any = None
    while True:
        try:
            verb, *message = pickle.load(questions)
        except EOFError:
            return
        try:
            if verb == "build":
                peer = adapters(device)[name](threads)
                workload = case(message[0])
                graph = workload.build()
                peer.build(graph, workload.inputs(message[1]))
                del graph
                gc.collect()
                peer.run()
                answer = ("done", peer.output())
            elif verb == "facts":
                answer = ("done", peer.facts() if hasattr(peer, "facts") else {})
            else:
                # A GPU has a clock of its own.
                answer = ("done", peer.time(*message) if hasattr(peer, "time") else _time(peer, *message))
        except UnsupportedError as error:
            answer = ("unsupported", str(error))
        except Exception as error:
            answer = ("failed", printable(f"{type(error).__name__}: {error}", 300))
        pickle.dump(answer, answers)
        answers.flush()


def _time(peer: Any, seconds: float, most: int) -> list[float]:
    peer.run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or (len(times) < most and time.perf_counter() < end):
        start = time.perf_counter()
        peer.run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def _main() -> None:
    _die_with_parent()
    # Libraries greet on stdout, some of them in C: they get the bin, and the answers a descriptor apart.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
