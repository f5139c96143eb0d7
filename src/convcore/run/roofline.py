"""The two ceilings of this machine, measured: multiply-adds in registers, and memory traffic.

Both are measured with the library's own kernels on all its threads: a dense layer whose weights and
inputs stay in the L1 and L2 caches, and a copy of an array far larger than the last cache (each byte
read and each byte written counts).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

from convcore import _native
from convcore.memory import aligned_floats


@dataclass(frozen=True)
class Peaks:
    """FLOP per second and bytes per second."""

    flops: float
    bandwidth: float


def _best_seconds(program: _native.Program, buffers: list[object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        program.run(buffers)
        best = min(best, time.perf_counter() - start)
    return best


def _view(buffer: int, *shape: int) -> _native.View:
    ld = tuple(shape[1] if a == 0 and len(shape) == 2 else 1 for a in range(len(shape)))
    return buffer, 0, "float32", shape, ld


@lru_cache(maxsize=8)
def _measure(isa: str, threads: int) -> Peaks:
    rows, channels, outputs = 84 * 64, 256, 32
    x, y = aligned_floats(rows * channels), aligned_floats(rows * outputs)
    x[:], y[:] = 0.5, 0.0
    step = _native.Step("dense", x=_view(0, rows, channels), out=_view(1, rows, outputs), isa=isa)
    packed = aligned_floats(step.packed_floats)
    packed[:] = 0.5
    step.set_weights(packed)
    flops = step.flops / _best_seconds(_native.Program([step]), [x, y], 20)

    count = 32 << 20
    source, target = aligned_floats(count), aligned_floats(count)
    source[:], target[:] = 1.0, 0.0
    copy = _native.Program([_native.Step("copy", x=_view(0, count), out=_view(1, count), isa=isa)])
    return Peaks(flops, 8.0 * count / _best_seconds(copy, [source, target], 5))


def measure(isa: str) -> Peaks:
    """Return the peaks for `isa` on the current number of threads; measured once per process."""
    return _measure(isa, _native.get_num_threads())
