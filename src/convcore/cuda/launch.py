"""Launch arithmetic: how many blocks of how many threads, and on which stream."""

from __future__ import annotations

from typing import Any

from convcore.cuda.device import stream
from convcore.errors import ArgumentError

__all__ = ["MOST_AXES", "THREADS", "all_axes", "launch"]

#: Threads of a block of the simple kernels: eight warps, which hide latency without many registers.
THREADS = 256

#: The kernels that work on one element at a time see arrays of this many axes.
MOST_AXES = 8


def launch(kernel: Any, elements: int, *args: Any, threads: int = THREADS) -> None:
    """Run `kernel` with one thread for each of `elements`, numbered by :func:`thread`.

    Device arrays among `args` are passed as Numba takes them; everything else as it is.
    """
    if elements:
        blocks = -(-elements // threads)
        passed = [a.as_numba() if hasattr(a, "as_numba") else a for a in args]
        kernel[blocks, threads, stream.get()](*passed)


def all_axes(a: Any) -> Any:
    """Return device array `a` as a view of :data:`MOST_AXES` axes, those that it has not of length 1."""
    if a.ndim > MOST_AXES:
        raise ArgumentError(
            "convcore.cuda",
            "number of axes",
            got=a.ndim,
            expected=f"at most {MOST_AXES} where arrays are not contiguous",
        )
    return a[(*(None,) * (MOST_AXES - a.ndim), ...)]
