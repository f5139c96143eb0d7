"""How many threads a call uses: for this call, for a block of code, for the process.

The most specific wins: ``num_threads=`` of a call (or of a prepared kernel), then :func:`num_threads` around
it, then what :func:`convcore.set_num_threads` or threadpoolctl has set for the process, and at first
``CONVCORE_NUM_THREADS``, ``OMP_NUM_THREADS``, or the CPUs that affinity and containers leave.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from convcore import _native
from convcore.errors import ArgumentError

__all__ = ["num_threads"]

#: Most threads of a call; CC_MOST_THREADS of ``csrc/threads.h``.
MOST_THREADS = 256


def threads_argument(value: Any, where: str) -> int | None:
    """Return the argument ``num_threads``: None, or an integer from 1 to 256."""
    if value is None:
        return None
    try:
        threads = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        threads = -1
    if not 1 <= threads <= MOST_THREADS:
        raise ArgumentError(
            where, "num_threads", got=repr(value), expected=f"an integer from 1 to {MOST_THREADS}, or None"
        )
    return threads


@contextmanager
def settings(isa: str | None = None, threads: int | None = None) -> Iterator[None]:
    """Let this context use an instruction set or a number of threads; None: as it did before."""
    old_isa, old_threads = _native.settings()
    token = _native.enter_settings(isa or old_isa, threads or old_threads)
    try:
        yield
    finally:
        _native.leave_settings(token)


@contextmanager
def num_threads(threads: int | None) -> Iterator[None]:
    """Let the calls inside use so many threads: ``with num_threads(2): ...``; also a decorator.

    It holds for this thread of Python (or this task of asyncio) alone, and ends with the block even if other
    threads enter and leave blocks of their own meanwhile. What starts inside but runs elsewhere, such as the
    tasks of a ``ThreadPoolExecutor``, is not inside. For the whole process there is
    :func:`convcore.set_num_threads`, or threadpoolctl, which this overrides.

    Parameters
    ----------
    threads
        1 to 256, the caller's own among them; None changes nothing.

    Raises
    ------
    ArgumentError
        Another number.

    Examples
    --------
    >>> with num_threads(1):
    ...     cc.get_num_threads()
    1
    """
    with settings(threads=threads_argument(threads, "num_threads")):
        yield


def join_threadpoolctl() -> None:
    """Make threadpoolctl know of the library's pool, if the process uses it at all."""
    if "threadpoolctl" in sys.modules and "convcore.threadpool" not in sys.modules:
        import convcore.threadpool  # noqa: F401
