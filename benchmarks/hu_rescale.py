"""Stored CT values to Hounsfield units, 300 x 512 x 512 int16 to float32, beside NumPy and pydicom.

    python benchmarks/hu_rescale.py [--slices 300] [--rounds 9] [-o RESULT.json]

Everyone writes into memory that is there already, where that is possible. The floor is the time that the
bytes need at this machine's measured bandwidths: read, and written past the caches.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np

import convcore as cc
from convcore import _native
from convcore.bench import interleaved, machine, median_ratio, roofline
from convcore.cli.terminal import note, print_json
from convcore.writers import write_json

SLOPE, INTERCEPT, OUTSIDE = 1.0, -1024.0, -2000


def candidates(volume: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Ways to the same numbers; each returns them."""
    out, scratch = np.empty(volume.shape, np.float32), np.empty(volume.shape[1:], np.float32)
    slope, intercept = np.float32(SLOPE), np.float32(INTERCEPT)

    def ours() -> np.ndarray:
        return cc.hu_rescale(volume, SLOPE, INTERCEPT, padding_value=OUTSIDE, out=out)

    def numpy_whole() -> np.ndarray:
        np.copyto(out, volume)
        out[volume == OUTSIDE] = 0
        np.multiply(out, slope, out=out)
        return np.add(out, intercept, out=out)

    def numpy_by_slice() -> np.ndarray:
        for raw, hu in zip(volume, out, strict=True):
            np.copyto(scratch, raw)
            scratch[raw == OUTSIDE] = 0
            np.multiply(scratch, slope, out=scratch)
            np.add(scratch, intercept, out=hu)
        return out

    found: dict[str, Callable[[], np.ndarray]] = {
        "convcore": ours,
        "numpy, whole volume": numpy_whole,
        "numpy, slice by slice": numpy_by_slice,
    }
    try:
        from pydicom.dataset import Dataset
        from pydicom.pixels import apply_rescale
    except ImportError:
        return found
    header = Dataset()
    header.RescaleSlope, header.RescaleIntercept = SLOPE, INTERCEPT

    def pydicom() -> np.ndarray:
        # Its own path makes float64 and leaves the pixels outside the scan as they are.
        for raw, hu in zip(volume, out, strict=True):
            hu[...] = apply_rescale(raw, header)
        return out

    def pydicom_alone() -> np.ndarray:
        return np.stack([apply_rescale(raw, header)[:1] for raw in volume])

    found["pydicom"] = pydicom
    found["pydicom, result dropped"] = pydicom_alone
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    volume = np.random.default_rng(0).integers(0, 4096, (options.slices, 512, 512), np.int16)
    volume[:, :40, :40] = OUTSIDE
    calls = candidates(volume)
    expected = calls["numpy, whole volume"]().copy()
    for name in ("convcore", "numpy, slice by slice"):
        if not np.array_equal(calls[name](), expected):
            raise SystemExit(f"{name} computes something else")
    peaks = roofline(_native.default_isa())
    times = interleaved(calls, options.rounds, warm_up=1)
    floor = 1e3 * peaks.seconds(0, volume.nbytes, expected.nbytes)
    best_numpy = min((n for n in times if n.startswith("numpy")), key=lambda n: statistics.median(times[n]))
    result = {
        "benchmark": "hu_rescale",
        "shape": list(volume.shape),
        "milliseconds": {name: statistics.median(ms) for name, ms in times.items()},
        "floor_milliseconds": floor,
        "fraction_of_floor": floor / statistics.median(times["convcore"]),
        "ratio_to_best_numpy": median_ratio(times["convcore"], times[best_numpy]),
        "roofline": peaks.as_dict(),
        "machine": machine("pydicom"),
    }
    if "pydicom" in times:
        result["ratio_to_pydicom"] = median_ratio(times["convcore"], times["pydicom, result dropped"])
    print_json(result)
    if options.output:
        note(f"written: {write_json(options.output, result)}")


if __name__ == "__main__":
    main()
