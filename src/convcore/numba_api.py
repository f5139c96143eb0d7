"""The C functions of convcore.h for code that Numba compiles, by their own names.

    from convcore.numba_api import cc_conv2d_f32

They run without the interpreter, in nopython mode and in ``cache=True`` functions. Arrays are passed as
``x.ctypes``: Numba checks their element type against the header's, and nobody checks that they are in C
order and long enough. The result is 0 (``CC_OK``) or another ``cc_status``. Structs are passed as addresses.

It needs Numba, which convcore does not bring along: ``pip install numba``.
"""

from __future__ import annotations

import ctypes
from typing import Any

from convcore import _capi
from convcore.errors import MissingExtraError
from convcore.linking import get_library

try:
    from numba import types
    from numba.core.types import ExternalFunction
except ImportError as error:
    raise MissingExtraError(
        "convcore.numba_api",
        f"needs Numba, which cannot be imported ({error})",
        remedy="Install it with: pip install numba",
    ) from error

# What the functions' signatures, which Cython wrote into the capsules' names, are made of.
_TYPES: dict[str, Any] = {
    "double": types.float64,
    "float": types.float32,
    "int": types.intc,
    "int32_t": types.int32,
    "int64_t": types.int64,
    "cc_status": types.int32,  # enums have C's int
    "cc_isa": types.int32,
    "char const *": types.CPointer(types.uint8),
    "float *": types.CPointer(types.float32),
    "float const *": types.CPointer(types.float32),
    "int16_t const *": types.CPointer(types.int16),
    "int *": types.CPointer(types.intc),
}


def _signature(text: str) -> Any:
    """Numba's form of a signature such as ``double (double, cc_activation const *)``."""
    result, _, arguments = text.rstrip(")").partition("(")
    names = [] if arguments == "void" else arguments.split(", ")
    return _TYPES[result.strip()](*(_TYPES.get(name, types.voidptr) for name in names))


def _capsule_name(capsule: Any) -> str:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    found: bytes = name(capsule)
    return found.decode()


# Numba looks for functions by name among the process's own symbols, which those of the library become here.
# (An address would do too, but code with an address in it cannot be kept in a cache.)
ctypes.CDLL(get_library(), ctypes.RTLD_GLOBAL)
_FUNCTIONS = {
    name: ExternalFunction(name, _signature(_capsule_name(capsule)))
    for name, capsule in _capi.__pyx_capi__.items()
    if name.startswith("cc_")
}
globals().update(_FUNCTIONS)
__all__ = sorted(_FUNCTIONS)


def __getattr__(name: str) -> Any:  # for type checkers, which do not see what the capsules hold
    raise AttributeError(f"convcore.h declares no {name!r}")
