"""Activations as SciPy's low-level callables: quadrature of one calls C and never Python.

Only functions of one number are here. SciPy's image filters take callbacks too, for the values under a
window; what convcore could give them, :func:`convcore.correlate` does for the whole array.
"""

from __future__ import annotations

import ctypes
from typing import Any

from convcore import _capi
from convcore._native import ACTIVATIONS
from convcore.activations import native
from convcore.errors import MissingExtraError

__all__ = ["activation"]


class _Activation(ctypes.Structure):
    """``cc_activation`` of convcore.h."""

    _fields_ = (("kind", ctypes.c_int32), ("parameter", ctypes.c_float * 3))


def activation(kind: str, **parameters: Any) -> Any:
    """Return an elementwise function, in double precision, as a ``scipy.LowLevelCallable``.

    Parameters
    ----------
    kind
        Its name, as the argument ``activation=`` of the operations takes it.
    parameters
        Its parameters, by Keras's names; they are rounded to float32, as a layer's are.

    Returns
    -------
    scipy.LowLevelCallable
        ``double (double, void *)``, which `scipy.integrate.quad` and its kin take.

    Raises
    ------
    ArgumentError
        There is no such function, or it has no such parameter.
    MissingExtraError
        SciPy is not installed.

    Examples
    --------
    The mean of GELU over [-1, 1]:

    >>> from scipy.integrate import quad
    >>> round(quad(activation("gelu"), -1, 1)[0] / 2, 6)
    0.120985
    """
    try:
        from scipy import LowLevelCallable
    except ImportError as error:
        raise MissingExtraError(
            "convcore.scipy_api",
            f"needs SciPy, which cannot be imported ({error})",
            remedy="pip install scipy",
        ) from error
    name, values = native(kind, parameters, "scipy_api.activation")
    struct = _Activation(ACTIVATIONS[name], (ctypes.c_float * 3)(*values))
    address = ctypes.cast(ctypes.pointer(struct), ctypes.c_void_p)  # which keeps the struct alive
    return LowLevelCallable.from_cython(_capi, "activation_callback", user_data=address)
