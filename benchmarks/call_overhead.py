"""What a call costs beside its arithmetic: tiny arrays, in units of ``np.add(a, b, out=c)`` on 8 x 8 floats.

    pip install ".[bench-peers]"
    python benchmarks/call_overhead.py [--rounds 60] [-o RESULT.json]

All statements take turns in one process, on one thread, each in runs of a hundred; the number is the median
over the rounds of the ratio to NumPy's time in the same round. OpenCV, SciPy and PyTorch compute the same 3x3
filter or function, and are compared with it before anything is timed; a package that is not installed is left
out.
"""

from __future__ import annotations

import argparse
import statistics
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

import convcore as cc
from convcore.bench import machine, median_ratio
from convcore.writers import write_json

#: Calls in a run: about 50 microseconds, of which the clock costs a thousandth.
CALLS = 100
#: Most that a call may cost, in calls of NumPy's add.
BARS = {"conv2d": {"prepared": 4.0, "function": 12.0}}

Run = Callable[[], Any]


def _draw(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def ours() -> dict[str, dict[str, Run]]:
    """Return the calls of convcore: for each operation, the ways to call it."""
    x, w, y = _draw(1, 8, 8, 1), _draw(3, 3, 1, 1), np.empty((1, 8, 8, 1), np.float32)
    conv, depthwise = cc.prepare_conv2d(w, padding="same"), cc.prepare_depthwise_conv2d(w, padding="same")
    rows, matrix, product = _draw(1, 16), _draw(16, 16), np.empty((1, 16), np.float32)
    dense, half = cc.prepare_dense(matrix), np.empty((1, 4, 4, 1), np.float32)
    return {
        "conv2d": {
            "prepared": lambda: conv(x, out=y),
            "prepared, new array": lambda: conv(x),
            "function": lambda: cc.conv2d(x, w, padding="same"),
            "function, out": lambda: cc.conv2d(x, w, padding="same", out=y),
        },
        "depthwise_conv2d": {
            "prepared": lambda: depthwise(x, out=y),
            "function": lambda: cc.depthwise_conv2d(x, w, padding="same"),
        },
        "dense": {
            "prepared": lambda: dense(rows, out=product),
            "function": lambda: cc.dense(rows, matrix),
        },
        "relu": {"function": lambda: cc.relu(x), "function, out": lambda: cc.relu(x, out=y)},
        "max_pool": {"function": lambda: cc.max_pool(x), "function, out": lambda: cc.max_pool(x, out=half)},
    }


def peers() -> dict[str, dict[str, Run]]:
    """Return the same operations of other packages, on the same arrays."""
    x, w = _draw(1, 8, 8, 1), _draw(3, 3, 1, 1)
    image, kernel = x[0, :, :, 0], w[:, :, 0, 0]
    rows, matrix = _draw(1, 16), _draw(16, 16)
    product = np.empty((1, 16), np.float32)
    found: dict[str, dict[str, Run]] = {"dense": {"numpy": lambda: np.matmul(rows, matrix, out=product)}}
    found["relu"] = {"numpy": lambda: np.maximum(x, 0)}
    conv: dict[str, Run] = {}
    try:
        import cv2

        conv["opencv"] = lambda: cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    except ImportError:
        pass
    try:
        from scipy import ndimage, signal

        conv["scipy.ndimage"] = lambda: ndimage.correlate(image, kernel, mode="constant")
        conv["scipy.signal"] = lambda: signal.correlate(image, kernel, mode="same", method="direct")
    except ImportError:
        pass
    try:
        import torch
        from torch.nn import functional

        torch.set_num_threads(1)
        tx, tw = torch.from_numpy(image[None, None].copy()), torch.from_numpy(kernel[None, None].copy())
        tr, tm = torch.from_numpy(rows), torch.from_numpy(np.ascontiguousarray(matrix.T))

        def without_gradients(run: Run) -> Run:
            return torch.inference_mode()(run)

        conv["torch"] = without_gradients(lambda: functional.conv2d(tx, tw, padding=1))
        found["dense"]["torch"] = without_gradients(lambda: functional.linear(tr, tm))
        found["relu"]["torch"] = without_gradients(lambda: functional.relu(tx))
        found["max_pool"] = {"torch": without_gradients(lambda: functional.max_pool2d(tx, 2))}
    except ImportError:
        pass
    return {"conv2d": conv, **found}


def compare(groups: dict[str, dict[str, Run]]) -> None:
    """Raise unless all ways to compute an operation agree, within the rounding of their sums."""
    for operation, runs in groups.items():
        results = {name: np.asarray(run(), np.float64).ravel() for name, run in runs.items()}
        expected = next(iter(results.values()))
        for name, y in results.items():
            # at most 16 products of numbers below 6 each
            if np.abs(y - expected).max() > 16 * 36 * np.finfo(np.float32).eps:
                raise SystemExit(f"{operation}: {name} computes something else")


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Return seconds of one call, one number for each round; the runs take turns."""
    timers = {name: timeit.Timer(run) for name, run in runs.items()}
    for timer in timers.values():
        timer.timeit(CALLS)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(CALLS) / CALLS)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("-o", "--output")
    arguments = parser.parse_args()
    cc.set_num_threads(1)
    own, others = ours(), peers()
    compare({operation: {**runs, **others.get(operation, {})} for operation, runs in own.items()})
    a, b, c = _draw(8, 8), _draw(8, 8), np.empty((8, 8), np.float32)
    runs: dict[str, Run] = {"np.add": lambda: np.add(a, b, out=c)}
    for group in (own, others):
        runs |= {f"{o}: {way}": run for o, ways in group.items() for way, run in ways.items()}
    seconds = measure(runs, arguments.rounds)
    ratios = {name: median_ratio(s, seconds["np.add"]) for name, s in seconds.items()}
    for name, ratio in ratios.items():
        print(f"{name:34} {statistics.median(seconds[name]) * 1e6:8.2f} us {ratio:7.2f}")
    missed = [
        f"{operation}: {way}"
        for operation, ways in BARS.items()
        for way, bar in ways.items()
        if ratios[f"{operation}: {way}"] > bar
    ]
    print("above the bar: " + ", ".join(missed) if missed else "within the bars")
    if arguments.output:
        facts = machine("numpy", "scipy", "opencv-python-headless", "torch")
        record = {"machine": facts, "rounds": arguments.rounds, "calls": CALLS, "bars": BARS}
        record["microseconds"] = {n: statistics.median(s) * 1e6 for n, s in seconds.items()}
        write_json(arguments.output, {**record, "times_numpy_add": ratios})


if __name__ == "__main__":
    main()
