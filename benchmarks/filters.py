"""``cc.correlate`` beside SciPy, OpenCV and PyTorch, by the size of the kernel: one thread and two.

    pip install ".[bench-peers]" && python benchmarks/filters.py [-o benchmarks/results/filters.json]

One float32 image, the border mirrored where a library can (PyTorch and scipy.signal put zeros beyond the
edge, which is less work). Every result is compared with sums in float64 before anything is timed; outputs'
memory is given where a library takes it. All run in one process, in turn; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convcore as cc
from convcore import _native
from convcore.bench.machine import machine
from convcore.bench.timing import interleaved, median_ratio
from convcore.cli.terminal import note, print_json
from convcore.run import roofline
from convcore.writers import write_json

Array = NDArray[Any]

KERNELS = (3, 5, 7, 9, 11, 15, 21, 31)
#: Peers slower than this many times the fastest are timed in a few rounds alone.
SLOW = 8.0
FEW = 3


def peers(
    x: Array, w: Array, threads: int
) -> dict[str, tuple[Callable[[], Array], tuple[slice, ...], Array]]:
    """Return, by name, a call, the part of its result to compare, and that part of the exact answer."""
    import cv2
    import torch
    from scipy import ndimage, signal

    k = w.shape[0]
    inside = (slice(k // 2, -(k // 2)),) * 2
    everywhere = (slice(None),) * 2
    exact = cc.correlate(x, w, mode="mirror", dtype="float64", method="direct")
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)
    y, cv_y, nd_y = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    image, kernel = torch.from_numpy(x)[None, None], torch.from_numpy(w)[None, None]

    def of_torch() -> Array:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(image, kernel, padding=k // 2)[0, 0].numpy()

    calls: dict[str, tuple[Callable[[], Array], tuple[slice, ...]]] = {
        "convcore": (lambda: cc.correlate(x, w, mode="mirror", out=y, num_threads=threads), everywhere),
        "convcore direct": (
            lambda: cc.correlate(x, w, mode="mirror", method="direct", out=y, num_threads=threads),
            everywhere,
        ),
        "opencv filter2D": (
            lambda: cv2.filter2D(x, -1, w, dst=cv_y, borderType=cv2.BORDER_REFLECT_101),
            everywhere,
        ),
        "torch conv2d": (of_torch, inside),
        "scipy.ndimage correlate": (lambda: ndimage.correlate(x, w, nd_y, mode="mirror"), everywhere),
        "scipy.signal fft": (lambda: signal.correlate(x, w, "same", "fft"), inside),
        "scipy.signal oaconvolve": (lambda: signal.oaconvolve(x, w[::-1, ::-1], "same"), inside),
    }
    if k <= 7:  # minutes beyond
        calls["scipy.signal direct"] = (lambda: signal.correlate2d(x, w, "same", "symm"), inside)
    return {name: (call, part, exact[part]) for name, (call, part) in calls.items()}


def measure(size: int, k: int, threads: int, rounds: int) -> dict[str, Any]:
    """Return one size of kernel, every library compared and timed."""
    rng = np.random.default_rng(k)
    x = rng.standard_normal((size, size), np.float32)
    w = rng.standard_normal((k, k), np.float32)
    candidates: dict[str, Callable[[], Array]] = {}
    errors: dict[str, float] = {}
    for name, (call, part, exact) in peers(x, w, threads).items():
        scale = float(np.sqrt(np.mean(exact**2)))
        errors[name] = float(np.abs(call()[part] - exact).max()) / scale
        if not errors[name] < 1e-4:
            raise SystemExit(f"{name}, {k}x{k}: differs from float64 by {errors[name]:.1e} of the rms result")
        candidates[name] = call
    first = {name: ms[0] for name, ms in interleaved(candidates, 1, 0).items()}
    others = [name for name in candidates if not name.startswith("convcore")]
    rival = min(others, key=lambda name: first[name])  # timed in every round, however slow
    quick = {n: c for n, c in candidates.items() if n == rival or first[n] < SLOW * min(first.values())}
    slow = {n: c for n, c in candidates.items() if n not in quick or n == "convcore"}
    times = interleaved(slow, FEW, 0) | interleaved(quick, rounds)
    return summary(times, k, threads, size, errors)


def summary(
    times: Mapping[str, list[float]], k: int, threads: int, size: int, errors: Mapping[str, float]
) -> dict[str, Any]:
    """Return medians, ratios to the fastest other and shares of the roofline."""
    ours = times["convcore"]
    medians = {name: statistics.median(ms) for name, ms in times.items()}
    others = {n: m for n, m in medians.items() if not n.startswith("convcore")}
    fastest = min(others, key=lambda n: others[n])
    peaks = roofline.measure(_native.default_isa(), threads)
    pixels = 4 * size * size
    least = 1e3 * peaks.seconds(2.0 * k * k * size * size, pixels, pixels)
    ratio = median_ratio(ours, times[fastest])
    return {
        "kernel": [k, k],
        "image": [size, size],
        "threads": threads,
        "median_ms": {n: round(m, 4) for n, m in medians.items()},
        "rounds": {n: len(ms) for n, ms in times.items()},
        "largest_error_of_rms_result": errors,
        "fastest_other": fastest,
        "ratio_to_fastest_other": round(ratio, 3),
        "ratio_to": {n: round(medians["convcore"] / m, 4) for n, m in others.items()},
        "least_ms_of_direct_sums": round(least, 4),
        "direct_share_of_roofline": round(least / medians["convcore direct"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--kernels", default=",".join(map(str, KERNELS)))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    runs = []
    for threads in map(int, options.threads.split(",")):
        for k in map(int, options.kernels.split(",")):
            runs.append(measure(options.size, k, threads, options.rounds))
            ratio, other = runs[-1]["ratio_to_fastest_other"], runs[-1]["fastest_other"]
            note(f"{threads} threads, {k}x{k}: {ratio} of {other}")
    result = {
        "benchmark": "filters",
        "runs": runs,
        "peaks": {
            t: roofline.measure(_native.default_isa(), int(t)).as_dict() for t in options.threads.split(",")
        },
        "machine": machine("scipy", "opencv-python-headless", "torch"),
    }
    print_json(result)
    if options.output:
        note(f"written: {write_json(options.output, result)}")


if __name__ == "__main__":
    main()
