"""The elementwise functions as device functions, for kernels that other people write with numba-cuda::

    from convcore.cuda.activations import gelu

    @cuda.jit
    def kernel(x, y):
        i = cuda.grid(1)
        if i < x.size:
            y[i] = gelu(x[i])

Numbers are float32. The parameters stand in the order of convcore.h's ``cc_activation_kind``, and have no
default values: ``leaky_relu(x, 0.2)``, ``elu(x, 1)``. The formulas are those of the operations so named.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convcore.cuda.kernels import activation
from convcore.cuda.kernels.activation import activate
from convcore.cuda.toolkit import cuda

__all__ = [
    "celu", "elu", "exponential", "gelu", "gelu_tanh", "hard_sigmoid", "hard_silu", "leaky_divide",
    "leaky_relu", "mish", "relu", "relu_general", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
]  # fmt: skip

_NONE = np.float32(0)


def _of_x(kind: int) -> Any:
    """A device function of `x` alone."""

    @cuda.jit(device=True)
    def function(x: Any) -> Any:
        return activate(kind, np.float32(x), _NONE, _NONE, _NONE)

    return function


def _of_x_and_one(kind: int) -> Any:
    """A device function of `x` and one parameter."""

    @cuda.jit(device=True)
    def function(x: Any, parameter: Any) -> Any:
        return activate(kind, np.float32(x), np.float32(parameter), _NONE, _NONE)

    return function


relu = _of_x(activation.RELU)
leaky_relu = _of_x_and_one(activation.LEAKY_RELU)  #: ``x >= 0 ? x : slope * x``
leaky_divide = _of_x_and_one(activation.LEAKY_DIVIDE)  #: ``x >= 0 ? x : x / a``
elu = _of_x_and_one(activation.ELU)  #: ``x > 0 ? x : alpha * (e^x - 1)``
celu = _of_x_and_one(activation.CELU)  #: ``x > 0 ? x : alpha * (e^(x / alpha) - 1)``
selu = _of_x(activation.SELU)
gelu = _of_x(activation.GELU)
gelu_tanh = _of_x(activation.GELU_TANH)
silu = _of_x(activation.SILU)
softplus = _of_x(activation.SOFTPLUS)
softsign = _of_x(activation.SOFTSIGN)
sigmoid = _of_x(activation.SIGMOID)
hard_sigmoid = _of_x_and_one(activation.HARD_SIGMOID)  #: ``clip(slope * x + 1/2, 0, 1)``
hard_silu = _of_x(activation.HARD_SILU)
tanh = _of_x(activation.TANH)
exponential = _of_x(activation.EXPONENTIAL)
mish = _of_x(activation.MISH)


@cuda.jit(device=True)
def relu_general(x: Any, slope: Any, ceiling: Any, threshold: Any) -> Any:
    """Keras's ReLU: above the threshold kept and cut at the ceiling, below it sloped."""
    return activation.relu_general(
        np.float32(x), np.float32(slope), np.float32(ceiling), np.float32(threshold)
    )
