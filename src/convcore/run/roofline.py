"""The machine's own ceilings, measured: multiply-adds in registers, bytes read, written and copied.

The probes are a kernel of the library (``csrc/kernels/probe.c``), compiled for every instruction set and
run by the library's own threads: no GEMM is asked what a GEMM could do at best. Memory is measured on an
array far larger than the last cache; what is written goes past the caches, as it does in kernels whose
output does not fit them.
"""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from convcore import _native
from convcore.memory import aligned_floats
from convcore.plan.data import PlanStep

#: Floats of the array that memory is measured on, where the last cache is not known to be larger: 256 MiB.
_FLOATS = 64 << 20
#: Floats of one item: long enough to leave its start out of account, short enough to share.
_ROW = 16384
#: Items of the multiply-add probe: about 16 ms on one core of 116 GFLOP/s.
_FMA_ROWS = 2048
_REPEATS = 7


@dataclass(frozen=True)
class Peaks:
    """Best of a few runs: FLOP per second, and bytes per second read, written (streaming) and copied.

    A copy counts its bytes twice, read and written. `median_of_best` is, for each of the four, the median
    run over the best one: far below 1, the machine was not quiet.
    """

    isa: str
    threads: int
    flops: float
    read: float
    write: float
    copy: float
    median_of_best: tuple[float, float, float, float]

    def seconds(self, flops: float, read: float, written: float) -> float:
        """The least time for so much arithmetic and traffic, if they overlap perfectly.

        Examples
        --------
        >>> Peaks("avx2", 1, 100e9, 20e9, 25e9, 30e9, (1, 1, 1, 1)).seconds(1e9, 1e9, 0)
        0.05
        """
        return max(flops / self.flops, read / self.read + written / self.write)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, in GFLOP/s and GB/s."""
        return {
            "isa": self.isa,
            "threads": self.threads,
            "gflops": self.flops / 1e9,
            "read_gbytes": self.read / 1e9,
            "write_gbytes": self.write / 1e9,
            "copy_gbytes": self.copy / 1e9,
            "median_of_best": dict(
                zip(("gflops", "read", "write", "copy"), self.median_of_best, strict=True)
            ),
        }


def last_cache_bytes() -> int:
    """Bytes of the largest cache that the system tells of; 0 where it tells nothing.

    Examples
    --------
    >>> last_cache_bytes() >= 0
    True
    """
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        found = re.fullmatch(r"(\d+)([KMG]?)\s*", path.read_text())
        if found:
            sizes.append(int(found[1]) * units.get(found[2], 1))
    return max(sizes)


def _view(buffer: int, rows: int, columns: int, offset: int = 0) -> _native.View:
    return buffer, offset, "float32", (rows, columns), (columns, 1)


def _probes(isa: str, floats: int) -> dict[str, _native.Step]:
    """The four probes; buffer 0 is the large array, buffer 1 has a float for every row of it."""
    rows = floats // _ROW
    whole, sums = _view(0, rows, _ROW), _view(1, rows, 1)
    few = _view(1, min(_FMA_ROWS, rows), 1)
    halves = _view(0, rows // 2, _ROW), _view(0, rows // 2, _ROW, rows // 2 * _ROW)
    return {
        "fma": _native.Step("probe", probe="fma", value=0.5, x=few, out=few, isa=isa),
        "read": _native.Step("probe", probe="read", x=whole, out=sums, isa=isa),
        "write": _native.Step("probe", probe="write", value=1.0, x=whole, out=whole, isa=isa),
        "copy": _native.Step("probe", probe="copy", x=halves[0], out=halves[1], isa=isa),
    }


def measure(isa: str, threads: int = 0, *, floats: int = 0) -> Peaks:
    """Return the peaks of `isa`; measured once per process for each number of threads.

    Parameters
    ----------
    isa
        A name of ``_native.isas()``.
    threads
        How many take part; 0 for the current number.
    floats
        Length of the array that memory is measured on; 0 takes 256 MiB, or four times the last cache if
        that is more.

    Examples
    --------
    >>> peaks = measure("scalar", 1, floats=1 << 20)
    >>> peaks.flops > 0 and peaks.read > 0
    True
    """
    return _measure(isa, threads or _native.get_num_threads(), floats or max(_FLOATS, last_cache_bytes()))


def traffic(read: int, written: int) -> Callable[[], None]:
    """Return a call that reads and writes so many bytes of its own, by the probes; in whole rows of 64 KiB.

    Examples
    --------
    >>> traffic(1 << 20, 1 << 16)()
    """
    isa = _native.default_isa()
    rows = [max(1, round(size / (4 * _ROW))) for size in (read, written)]
    buffers = [aligned_floats(rows[0] * _ROW), aligned_floats(rows[1] * _ROW), aligned_floats(rows[0])]
    for buffer in buffers:
        buffer[:] = 1.0
    source, target = _view(0, rows[0], _ROW), _view(1, rows[1], _ROW)
    steps = [
        _native.Step("probe", probe="read", x=source, out=_view(2, rows[0], 1), isa=isa),
        _native.Step("probe", probe="write", value=1.0, x=target, out=target, isa=isa),
    ]
    program = _native.Program(steps)
    return lambda: program.run(buffers)


@lru_cache(maxsize=16)
def _measure(isa: str, threads: int, floats: int) -> Peaks:
    # At least two rows, for the copy; whole pairs of rows.
    floats = max(floats // (2 * _ROW), 1) * 2 * _ROW
    buffers = [aligned_floats(floats), aligned_floats(max(floats // _ROW, _FMA_ROWS))]
    for buffer in buffers:
        buffer[:] = 1.0
    steps = _probes(isa, floats)
    programs = {name: _native.Program([step]) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(-1, _REPEATS):
        for name, program in programs.items():
            start = time.perf_counter()
            program.run(buffers, threads=threads)
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - start)
    best = {name: min(s) for name, s in seconds.items()}
    fma, read, write, copy = (best[name] / statistics.median(seconds[name]) for name in best)
    return Peaks(
        isa,
        threads,
        steps["fma"].flops / best["fma"],
        steps["read"].bytes / best["read"],
        steps["write"].bytes / best["write"],
        steps["copy"].bytes / best["copy"],
        (fma, read, write, copy),
    )


@dataclass(frozen=True)
class Work:
    """What one run of a step must do: FLOP of the definition, FLOP of its algorithm, bytes each way.

    Every array is counted once, weights as packed: what stays in a cache is counted all the same.
    """

    flops: float
    algorithm_flops: float
    read: float
    written: float

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flops + other.flops,
            self.algorithm_flops + other.algorithm_flops,
            self.read + other.read,
            self.written + other.written,
        )


def work(step: PlanStep, batch: int) -> Work:
    """Return what `step` must do for `batch` images."""
    # The library's own count, step.bytes, has the weights as they were before packing.
    read = step.weight_bytes + batch * step.bytes_read
    flops = batch * step.flops
    return Work(flops, flops * _winograd_share(step), read, batch * step.bytes_written)


def _winograd_share(step: PlanStep) -> float:
    """Multiplications of F(m x m, 3 x 3) over those of the definition: (m + 2)^2 / (9 m^2), whole tiles."""
    found = re.search(r"(\d)x\1", step.algorithm)
    if not step.algorithm.startswith("Winograd") or not found:
        return 1.0
    m = int(found[1])
    pool = max(int(step.options.get("pool", 1)), 1)
    height, width = step.output.shape[-3] * pool, step.output.shape[-2] * pool
    tiles = math.ceil(height / m) * math.ceil(width / m)
    return tiles * (m + 2) ** 2 / (9 * height * width)
