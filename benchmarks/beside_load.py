"""VGG16 at batch 1 beside one other busy process: how much longer the slow calls are than the usual one.

    python benchmarks/beside_load.py [--peers convcore,ncnn] [--seconds 20] [-o RESULT.json]

A thread that was preempted must not keep the others waiting long: the figure is the 90th percentile over
the median. Quiet and busy turns alternate, one peer after the other, each in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from convcore import _native
from convcore.bench import machine
from convcore.bench.worker import Worker, WorkerError
from convcore.cli.terminal import note, print_json
from convcore.writers import write_json

TURN_SECONDS = 2.0


@contextmanager
def busy_process() -> Iterator[None]:
    """Another process that never waits."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def summary(ms: list[float]) -> dict[str, float]:
    """Median, 90th percentile, and their ratio."""
    median, tenths = statistics.median(ms), statistics.quantiles(ms, n=10)
    return {"calls": len(ms), "median": median, "p90": tenths[8], "p90_of_median": tenths[8] / median}


def measure(names: list[str], threads: int, seconds: float) -> dict[str, Any]:
    """Return milliseconds of every peer, quiet and busy."""
    times: dict[str, dict[str, list[float]]] = {name: {"quiet": [], "busy": []} for name in names}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, threads)) for name in names}
        for name, worker in workers.items():
            try:
                worker.build("vgg16", 1)
            except WorkerError as error:
                raise SystemExit(f"{name}: {error}") from None
            worker.pause()
        for _ in range(max(1, round(seconds / (2 * TURN_SECONDS)))):
            for name, worker in workers.items():
                worker.resume()
                times[name]["quiet"] += worker.time(TURN_SECONDS, most=1000)
                with busy_process():
                    times[name]["busy"] += worker.time(TURN_SECONDS, most=1000)
                worker.pause()
    return {name: {kind: summary(ms) for kind, ms in both.items()} for name, both in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default="convcore")
    parser.add_argument("--threads", type=int, default=_native.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20.0, help="for each peer")
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    names = options.peers.split(",")
    result = {
        "benchmark": "vgg16 beside one busy process",
        "threads": options.threads,
        "peers": measure(names, options.threads, options.seconds),
        "machine": machine(*(n for n in names if n != "convcore")),
    }
    print_json(result)
    if options.output:
        note(f"written: {write_json(options.output, result)}")


if __name__ == "__main__":
    main()
