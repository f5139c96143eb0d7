"""The library's pool of threads, for threadpoolctl: importing this module is all that is needed.

    import threadpoolctl, convcore.threadpool
    with threadpoolctl.threadpool_limits(2):
        ...

``threadpool_limits`` then acts on convcore too, for the whole process, and ``threadpool_info`` lists it.
convcore imports this by itself at the first call after threadpoolctl was imported, and needs it for nothing.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import threadpoolctl

import convcore
from convcore import _native
from convcore.threads import MOST_THREADS

__all__ = ["ConvcoreController"]


class _Where(ctypes.Structure):
    """``Dl_info`` of dladdr(3)."""

    _fields_ = (
        ("path", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _library() -> str:
    """File name of the library that has the pool: the extension module, or one that it is linked to."""
    module = str(_native.__file__)
    try:
        function = ctypes.CDLL(module).cc_get_num_threads
        where = _Where()
        if ctypes.CDLL(None).dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(where)):
            module = where.path.decode()
    except (AttributeError, OSError):
        pass  # no dladdr here
    return Path(module).name


class ConvcoreController(threadpoolctl.LibController):  # type: ignore[misc,unused-ignore]
    """What threadpoolctl asks and tells the library."""

    user_api = "convcore"
    internal_api = "convcore"
    filename_prefixes = (_library(),)
    check_symbols = ("cc_get_num_threads", "cc_set_num_threads")

    def get_num_threads(self) -> int:
        """The threads of the process, whatever a context wants for itself."""
        return int(self.dynlib.cc_get_num_threads())

    def set_num_threads(self, num_threads: int) -> None:
        """Set the threads of the process."""
        self.dynlib.cc_set_num_threads(max(1, min(int(num_threads), MOST_THREADS)))

    def get_version(self) -> str:
        """The version of the package."""
        return convcore.__version__

    def set_additional_attributes(self) -> None:
        """Note the instruction set, which ``threadpool_info`` shows."""
        self.architecture: Any = _native.default_isa()


threadpoolctl.register(ConvcoreController)
