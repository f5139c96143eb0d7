"""The GPU: whether there is one that the kernels can use, and the stream that they run on."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from convcore.cuda.toolkit import cuda, simulated
from convcore.errors import ArgumentError, DeviceError

__all__ = ["as_stream", "is_available", "launching", "require_gpu", "stream"]

#: Ampere: the first with ``cp.async`` and tensor cores for TF32 and bfloat16.
OLDEST = (8, 0)

#: The stream that the operations of this context run on, as Numba has it; 0 is the default stream.
stream: ContextVar[Any] = ContextVar("convcore_cuda_stream", default=0)


@functools.cache
def _unusable() -> str:
    """Why no GPU can be used; empty if one can."""
    if simulated:
        return ""
    if not cuda.is_available():
        try:
            count = len(cuda.list_devices())
        except Exception as error:
            reason = " ".join(str(error).split())
            return f"the NVIDIA driver cannot be used ({reason})"
        return "the driver sees no GPU" if count == 0 else "the driver is too old for this version of CUDA"
    device = cuda.get_current_device()
    if device.compute_capability < OLDEST:
        have, want = (".".join(map(str, c)) for c in (device.compute_capability, OLDEST))
        return f"the GPU has compute capability {have}; the kernels need {want}"
    return ""


def is_available() -> bool:
    """Whether there is a GPU that the kernels can run on (or Numba's simulator was asked for)."""
    return not _unusable()


def require_gpu(where: str) -> None:
    """Raise :class:`DeviceError` with the reason if no GPU can be used."""
    reason = _unusable()
    if reason:
        raise DeviceError(where, reason, expected="an NVIDIA GPU of the Ampere generation or later")


def as_stream(value: Any, where: str) -> Any:
    """Return a stream as Numba has it.

    Parameters
    ----------
    value
        None or 0 (the default stream), a handle as an integer, a Numba stream, or an object with
        ``__cuda_stream__`` (cuda.core, CuPy, PyTorch), ``cuda_stream`` (PyTorch) or ``ptr`` (CuPy).
    where
        The operation, for the error message.
    """
    if value is None or simulated:
        return 0
    if isinstance(value, int):
        return cuda.external_stream(value) if value else 0
    if hasattr(value, "__cuda_stream__"):
        _version, handle = value.__cuda_stream__()
        return cuda.external_stream(int(handle)) if handle else 0
    if hasattr(value, "auto_synchronize"):  # Numba's own
        return value
    for name in ("cuda_stream", "ptr"):
        handle = getattr(value, name, None)
        if isinstance(handle, int):
            return cuda.external_stream(handle) if handle else 0
    raise ArgumentError(where, "stream", got=type(value).__name__, expected="a CUDA stream or its handle")


@contextmanager
def launching(on: Any, where: str) -> Iterator[None]:
    """Let the operations of this context run on stream `on`; see :func:`as_stream`."""
    token = stream.set(as_stream(on, where))
    try:
        yield
    finally:
        stream.reset(token)
