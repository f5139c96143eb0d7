"""What copies beside kernels need: streams of our own, events, and host memory that the GPU reaches itself.

Numba's simulator has none of these; there they do nothing, and work is done when it is asked for.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.cuda.device import call, is_drivers
from convcore.cuda.toolkit import cuda, simulated

__all__ = ["event", "new_stream", "pinned"]


def new_stream() -> Any:
    """A stream that does not wait for the default stream, nor that for it.

    One that did could not be recorded while another thread, or another package, works on the default stream.
    """
    if simulated:
        return cuda.stream()
    from cuda.bindings import driver

    handle = int(call("cuStreamCreate", driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
    stream = cuda.external_stream(handle)
    weakref.finalize(stream, driver.cuStreamDestroy, handle).atexit = False
    return stream


def event(*, timing: bool = False) -> Any:
    """A mark in a stream, which other streams and the host can wait for."""
    return cuda.event() if simulated else cuda.event(timing=timing)


def pinned(shape: Sequence[int]) -> NDArray[np.float32]:
    """Page-locked float32 host memory, not initialised; ordinary memory if there is no more of that.

    Copies from and to ordinary memory are right too: the driver makes them in pieces, and slower.
    """
    if not simulated:
        try:
            locked: NDArray[np.float32] = cuda.pinned_array(tuple(shape), np.float32)
            return locked
        except Exception as error:
            if not is_drivers(error):
                raise
    return np.empty(tuple(shape), np.float32)
