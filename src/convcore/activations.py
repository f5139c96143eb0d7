"""From the names and parameters that people and model files use to the kernels' own.

The kernels know fewer functions than the world has names: ReLU6 is a ReLU with a ceiling, RReLU at
inference is a leaky ReLU that divides. This is the one place that says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from convcore.errors import ArgumentError

#: A kernel's name and its parameters, as ``_native.Step(activation=...)`` takes them.
Native = tuple[str, tuple[float, ...]]

LINEAR: Native = ("linear", ())


def _relu(negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Native:
    if negative_slope == 0.0 and max_value is None and threshold == 0.0:
        return "relu", ()
    return "relu_general", (negative_slope, math.inf if max_value is None else max_value, threshold)


_NATIVE: Mapping[str, Callable[..., Native]] = {
    "linear": lambda: LINEAR,
    "relu": _relu,
    "leaky_relu": lambda negative_slope=0.2: ("leaky_relu", (negative_slope,)),
    "leaky_divide": lambda a=5.5: ("leaky_divide", (a,)),
    "rrelu": lambda lower=3.0, upper=8.0: ("leaky_divide", ((lower + upper) / 2,)),
    "noisy_relu": lambda: ("relu", ()),
    "elu": lambda alpha=1.0: ("elu", (alpha,)),
    "celu": lambda alpha=1.0: ("celu", (alpha,)),
    "selu": lambda: ("selu", ()),
    "gelu": lambda approximate=False: ("gelu_tanh" if approximate else "gelu", ()),
    "silu": lambda: ("silu", ()),
    "softplus": lambda: ("softplus", ()),
    "softsign": lambda: ("softsign", ()),
    "sigmoid": lambda: ("sigmoid", ()),
    "hard_sigmoid": lambda slope=1 / 6: ("hard_sigmoid", (slope,)),
    "hard_silu": lambda: ("hard_silu", ()),
    "tanh": lambda: ("tanh", ()),
    "exponential": lambda: ("exponential", ()),
    "mish": lambda: ("mish", ()),
}

#: Every elementwise function, by its name in :data:`convcore.reference.ACTIVATIONS`.
NAMES = tuple(_NATIVE)


def native(kind: str, parameters: Mapping[str, Any], where: str) -> Native:
    """Return the kernel and parameters that compute activation `kind`.

    Parameters
    ----------
    kind
        One of :data:`NAMES`.
    parameters
        Keyword arguments of the function of that name in :mod:`convcore.reference`.
    where
        Who asks, for the error message.

    Examples
    --------
    >>> native("relu", {"max_value": 6.0}, "example")
    ('relu_general', (0.0, 6.0, 0.0))
    """
    if kind not in _NATIVE:
        raise ArgumentError(where, "unknown activation", got=kind, expected=", ".join(NAMES))
    try:
        return _NATIVE[kind](**parameters)
    except TypeError:
        raise ArgumentError(where, f"activation {kind} does not take these", got=sorted(parameters)) from None
