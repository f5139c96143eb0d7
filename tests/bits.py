"""The same input gives the same bits, whatever the number of threads and whatever the batch."""

from __future__ import annotations

import numpy as np

from convcore import _native
from convcore.run.cpu import CpuRunner

THREADS = (1, 2, 3, 4, 7)


def assert_equal_bits(runner: CpuRunner, x: np.ndarray) -> None:
    """Run the rows of `x` together, one by one and three by three, with every number of threads."""
    before = _native.get_num_threads()
    try:
        _native.set_num_threads(1)
        expected = runner.run([x])[0]
        for threads in THREADS:
            _native.set_num_threads(threads)
            # The whole batch twice: before and after others have used the memory.
            for batch_size in (len(x), 1, 3, len(x)):
                got = runner.run([x], batch_size=batch_size)[0]
                assert np.array_equal(got, expected), f"batch {batch_size}, {threads} threads"
    finally:
        _native.set_num_threads(before)
