"""The GPU: whether there is one that the kernels can use, its streams, and what its driver complains of."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from convcore import gpu
from convcore.cuda.toolkit import cuda, simulated
from convcore.errors import ArgumentError, DeviceError, OutOfMemoryError

__all__ = [
    "as_stream",
    "call",
    "current",
    "handle_of",
    "holder",
    "is_available",
    "is_drivers",
    "launching",
    "on_device",
    "require_gpu",
    "stream",
]

#: The stream that the operations of this context run on, as Numba has it; 0 is the default stream.
stream: ContextVar[Any] = ContextVar("convcore_cuda_stream", default=0)

#: What the caller can do about a status of the driver.
_REMEDIES = {
    "UNSUPPORTED_PTX_VERSION": "The driver is older than the compiler: update it.",
    "NO_BINARY_FOR_GPU": "The driver is older than the compiler, or the code was made for another GPU.",
    "ILLEGAL_ADDRESS": "The GPU's context is lost: start the process again.",
    "LAUNCH_FAILED": "The GPU's context is lost: start the process again.",
    "ECC_UNCORRECTABLE": "The GPU's memory is damaged.",
}
_OUT_OF_MEMORY = "OUT_OF_MEMORY"


#: Why a GPU cannot be used does not change while a process runs.
_why_unusable = functools.cache(gpu.why_unusable)


def _unusable() -> str:
    """Why this thread's GPU cannot be used; empty if it can."""
    if simulated:
        return ""
    # Numba can say which GPU is this thread's only if there is a driver.
    return _why_unusable(number=None) or _why_unusable(number=current())


def is_available() -> bool:
    """Whether there is a GPU that the kernels can run on (or Numba's simulator was asked for)."""
    return not _unusable()


def require_gpu(where: str) -> None:
    """Raise :class:`DeviceError` with the reason if no GPU can be used."""
    reason = _unusable()
    if reason:
        raise DeviceError(where, reason, expected="an NVIDIA GPU of the Ampere generation or later")


def current() -> int:
    """The number of this thread's GPU; Numba's ``select_device`` changes it."""
    return 0 if simulated else int(cuda.get_current_device().id)


@contextmanager
def on_device(number: int) -> Iterator[None]:
    """Make GPU `number` this thread's."""
    if simulated:
        yield
        return
    with cuda.gpus[number]:
        yield


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
        return _external(value, value)
    if hasattr(value, "__cuda_stream__"):
        _version, handle = value.__cuda_stream__()
        return _external(handle, value)
    if hasattr(value, "auto_synchronize"):  # Numba's own
        return value
    for name in ("cuda_stream", "ptr"):
        handle = getattr(value, name, None)
        if isinstance(handle, int):
            return _external(handle, value)
    raise ArgumentError(where, "stream", got=type(value).__name__, expected="a CUDA stream or its handle")


def _external(handle: Any, value: Any) -> Any:
    """A stream of another package as Numba has it; it ends no sooner than arrays that remember it."""
    if not handle:
        return 0
    on = cuda.external_stream(int(handle))
    on.convcore_owner = value
    return on


def handle_of(on: Any) -> int:
    """The driver's handle of a stream as Numba has it; 0 for the default stream."""
    handle = getattr(on, "handle", on)
    return int(getattr(handle, "value", handle) or 0)


@contextmanager
def launching(on: Any, where: str) -> Iterator[None]:
    """Let the operations of this context run on stream `on`; see :func:`as_stream`.

    What the driver complains of meanwhile becomes a :class:`DeviceError` of `where`.
    """
    token = stream.set(as_stream(on, where))
    try:
        yield
    except Exception as error:
        if is_drivers(error):
            raise failure(where, str(error)) from error
        raise
    finally:
        stream.reset(token)


def is_drivers(error: BaseException) -> bool:
    """Whether an error comes from NVIDIA's driver, by way of Numba or cuda.core."""
    modules = [c.__module__ for c in type(error).__mro__]
    return any(m.startswith(("numba.cuda.cudadrv", "cuda.")) for m in modules)


def failure(where: str, status: str, nbytes: int | None = None) -> DeviceError:
    """What the driver's `status`, or a message that names it, means, as an error to raise.

    `nbytes` is how much memory was asked for, where it was.
    """
    if _OUT_OF_MEMORY in status:
        asked = None if nbytes is None else f"{nbytes:,} bytes asked for"
        return OutOfMemoryError(
            where,
            "no memory on the GPU",
            got=asked,
            expected=_memory(),
            remedy="A smaller batch needs less.",
        )
    remedy = next((text for name, text in _REMEDIES.items() if name in status), "")
    return DeviceError(where, "CUDA failed", got=status, expected="success", remedy=remedy)


def _memory() -> str:
    """How much memory the GPU has."""
    try:
        free, total = cuda.current_context().get_memory_info()
    except Exception:  # the driver answers nothing any more
        return "enough free"
    return f"at most {free:,} bytes, which are free of {total:,}"


def holder(address: int, name: str, where: str) -> int:
    """The number of the GPU whose memory `address` is.

    Raises
    ------
    DeviceError
        It is no memory that the driver knows.
    """
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    try:
        return int(call("cuPointerGetAttribute", attribute, address))
    except DeviceError as error:
        raise DeviceError(
            where, f"{name} says that it is on a GPU, and no GPU has its address", got=hex(address)
        ) from error


def call(name: str, *args: Any) -> Any:
    """Call a function of the driver in this thread's context, and return its result, or a tuple of them.

    Raises
    ------
    DeviceError
        The driver answers with anything but success.
    """
    from cuda.bindings import driver

    cuda.current_context()  # this thread may not have made it its own yet
    status, *found = getattr(driver, name)(*args)
    if int(status):
        raise failure(name, status.name)
    return found[0] if len(found) == 1 else tuple(found)
