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
from typing import Any, NamedTuple

import numpy as np

import convcore as cc
from convcore.bench import machine, median_ratio
from convcore.writers import write_json

#: Calls in a run: about 50 microseconds, of which the clock costs a thousandth.
CALLS = 100
#: Most that a call may cost, in calls of NumPy's add.
BARS = {o: {"prepared": 4.0, "function": 12.0} for o in ("conv2d", "conv2d, no padding")}

Array = np.ndarray[Any, np.dtype[np.float32]]


class Run(NamedTuple):
    """A statement and what its names mean."""

    statement: str
    names: dict[str, Any]

    def result(self) -> Any:
        """Run it once."""
        return eval(self.statement, dict(self.names))


def _draw(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def arrays() -> dict[str, Array]:
    """Return what all work on: an image with its filter, and a row with its matrix."""
    named = {"x": _draw(1, 8, 8, 1), "w": _draw(3, 3, 1, 1), "rows": _draw(1, 16), "matrix": _draw(16, 16)}
    outputs = {"y": (1, 8, 8, 1), "inner": (1, 6, 6, 1), "half": (1, 4, 4, 1), "product": (1, 16)}
    return named | {name: np.empty(shape, np.float32) for name, shape in outputs.items()}


def ours(named: dict[str, Array]) -> dict[str, dict[str, Run]]:
    """Return the calls of convcore: for each operation, the ways to call it."""
    w = named["w"]
    names = {
        **named,
        "cc": cc,
        "conv": cc.prepare_conv2d(w, padding="same"),
        "valid": cc.prepare_conv2d(w),
        "depthwise": cc.prepare_depthwise_conv2d(w, padding="same"),
        "dense": cc.prepare_dense(named["matrix"]),
    }
    statements = {
        "conv2d": {
            "prepared": "conv(x, out=y)",
            "prepared, new array": "conv(x)",
            "function": "cc.conv2d(x, w, padding='same')",
            "function, out": "cc.conv2d(x, w, padding='same', out=y)",
        },
        "conv2d, no padding": {"prepared": "valid(x, out=inner)", "function": "cc.conv2d(x, w)"},
        "depthwise_conv2d": {
            "prepared": "depthwise(x, out=y)",
            "function": "cc.depthwise_conv2d(x, w, padding='same')",
        },
        "dense": {"prepared": "dense(rows, out=product)", "function": "cc.dense(rows, matrix)"},
        "relu": {"function": "cc.relu(x)", "function, out": "cc.relu(x, out=y)"},
        "max_pool": {"function": "cc.max_pool(x)", "function, out": "cc.max_pool(x, out=half)"},
    }
    return {o: {way: Run(s, names) for way, s in ways.items()} for o, ways in statements.items()}


def peers(named: dict[str, Array]) -> dict[str, dict[str, Run]]:
    """Return the same operations of other packages, on the same arrays."""
    names: dict[str, Any] = {**named, "np": np}
    image, kernel = names["image"], names["kernel"] = named["x"][0, :, :, 0], named["w"][:, :, 0, 0]
    statements: dict[str, dict[str, str]] = {
        "conv2d": {},
        "dense": {"numpy": "np.matmul(rows, matrix, out=product)"},
        "relu": {"numpy": "np.maximum(x, 0, out=y)"},
        "max_pool": {},
    }
    try:
        import cv2

        names |= {"cv2": cv2, "zeros": cv2.BORDER_CONSTANT}
        statements["conv2d"]["opencv"] = "cv2.filter2D(image, -1, kernel, borderType=zeros)"
    except ImportError:
        pass
    try:
        from scipy import ndimage, signal

        names |= {"ndimage": ndimage, "signal": signal}
        statements["conv2d"]["scipy.ndimage"] = "ndimage.correlate(image, kernel, mode='constant')"
        statements["conv2d"]["scipy.signal"] = "signal.correlate2d(image, kernel, mode='same')"
    except ImportError:
        pass
    try:
        import torch
        from torch.nn import functional

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        names |= {"functional": functional, "tx": torch.from_numpy(image[None, None].copy())}
        names |= {"tw": torch.from_numpy(kernel[None, None].copy()), "tr": torch.from_numpy(named["rows"])}
        names["tm"] = torch.from_numpy(np.ascontiguousarray(named["matrix"].T))
        statements["conv2d"]["torch"] = "functional.conv2d(tx, tw, padding=1)"
        statements["dense"]["torch"] = "functional.linear(tr, tm)"
        statements["relu"]["torch"] = "functional.relu(tx)"
        statements["max_pool"]["torch"] = "functional.max_pool2d(tx, 2)"
    except ImportError:
        pass
    return {o: {way: Run(s, names) for way, s in ways.items()} for o, ways in statements.items()}


def compare(groups: dict[str, dict[str, Run]]) -> None:
    """Raise unless all ways to compute an operation agree, within the rounding of their sums."""
    for operation, runs in groups.items():
        results = {name: np.asarray(run.result(), np.float64).ravel() for name, run in runs.items()}
        expected = next(iter(results.values()))
        for name, y in results.items():
            # at most 16 products of numbers below 6 each
            if np.abs(y - expected).max() > 16 * 36 * np.finfo(np.float32).eps:
                raise SystemExit(f"{operation}: {name} computes something else")


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Return seconds of one call, one number for each round; the runs take turns."""
    timers = {name: timeit.Timer(run.statement, globals=run.names) for name, run in runs.items()}
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
    named = arrays()
    own, others = ours(named), peers(named)
    compare({operation: {**runs, **others.get(operation, {})} for operation, runs in own.items()})
    add = {"a": _draw(8, 8), "b": _draw(8, 8), "c": np.empty((8, 8), np.float32), "np": np}
    runs = {"np.add": Run("np.add(a, b, out=c)", add)}
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
