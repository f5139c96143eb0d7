"""The operations of convcore on a GPU: the same names, arguments and definitions, on device arrays::

    import convcore.cuda as cc_cuda
    y = cc_cuda.conv2d(x, w, padding="same", stream=stream)

Arrays may come from Numba, CuPy, PyTorch or JAX: anything with ``__cuda_array_interface__`` or DLPack goes
in, a :class:`DeviceArray` with both comes out (or ``out=``, which may be any of theirs). Nothing is copied
between host and device but by :func:`to_device` and :meth:`DeviceArray.copy_to_host`. Every operation takes
``stream=`` beside its arguments and returns when its work is on that stream, not when it is done.

It needs the extra ``cuda`` (``pip install "convcore[cuda]"``) and an NVIDIA GPU of the Ampere generation or
later. What depends on values differs from the CPU: :func:`convcore.batch_norm` cannot refuse a variance that
is not positive without reading it, so it gives NaN.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import convcore.ops
from convcore.cuda.arrays import DeviceArray, empty, to_device
from convcore.cuda.backend import DeviceMemory
from convcore.cuda.device import is_available, launching, require_gpu
from convcore.ops.arrays import backend

__all__ = ["DeviceArray", "empty", "is_available", "to_device", *convcore.ops.__all__]


def _mirrored(operation: Callable[..., Any]) -> Callable[..., DeviceArray]:
    """Return `operation` on device arrays, with ``stream=`` and without ``num_threads=``."""
    operation = inspect.unwrap(operation)  # its calls are replayed in main memory alone
    name = operation.__name__

    @functools.wraps(operation)
    def on_device(*args: Any, stream: Any = None, **kwargs: Any) -> Any:
        if "num_threads" in kwargs:
            raise TypeError(f"convcore.cuda.{name}() takes no num_threads: it runs on a GPU")
        require_gpu(name)
        token = backend.set(DeviceMemory())
        try:
            with launching(stream, name):
                return operation(*args, **kwargs)
        finally:
            backend.reset(token)

    signature = inspect.signature(operation)
    kept = [p for p in signature.parameters.values() if p.name != "num_threads"]
    extra = inspect.Parameter("stream", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Any")
    on_device.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*kept, extra]
    )
    on_device.__doc__ = (
        f"`convcore.{name}` on device arrays, queued on `stream`; see there for the definition.\n\n"
        "Arrays may be of any package with ``__cuda_array_interface__`` or DLPack. Returns a\n"
        ":class:`DeviceArray`, or `out`."
    )
    on_device.__module__ = __name__
    return on_device


globals().update({name: _mirrored(getattr(convcore.ops, name)) for name in convcore.ops.__all__})
