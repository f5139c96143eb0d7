"""Activations in other people's kernels: `convcore.cuda.activations`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.activations import native

from .cuda_compile import FLOAT64, LOCAL_MEMORY, Compiler, Gate, Kernel

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from convcore import cuda as on_gpu
from convcore.cuda import activations
from convcore.cuda.kernels.activation import KINDS
from convcore.cuda.toolkit import cuda

#: The operation's name and keywords, where they are not the function's name and none.
_OPERATION: dict[str, tuple[str, dict[str, Any]]] = {
    "gelu_tanh": ("gelu", {"approximate": True}),
    "leaky_relu": ("leaky_relu", {"negative_slope": 0.25}),
    "leaky_divide": ("leaky_divide", {"a": 5.5}),
    "elu": ("elu", {"alpha": 0.5}),
    "celu": ("celu", {"alpha": 2.0}),
    "hard_sigmoid": ("hard_sigmoid", {"slope": 0.25}),
    "relu_general": ("relu", {"negative_slope": 0.25, "max_value": 6.0, "threshold": 1.0}),
}


def values() -> np.ndarray[Any, np.dtype[np.float32]]:
    special = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 30.0, -30.0]
    return np.concatenate([np.linspace(-9, 9, 241), special]).astype(np.float32)


def test_every_kind_is_there() -> None:
    assert {*activations.__all__, "linear"} == set(KINDS)


@pytest.mark.parametrize("name", activations.__all__)
def test_a_kernel_of_somebody_else_s_can_call_it(name: str) -> None:
    called, keywords = _OPERATION.get(name, (name, {}))
    _, parameters = native(called, keywords, "test")
    function = getattr(activations, name)
    a, b, c = (*map(np.float32, parameters), *np.zeros(3, np.float32))[:3]
    count = len(parameters)

    @cuda.jit
    def kernel(x: Any, y: Any) -> None:
        i = cuda.grid(1)
        if i < x.size:
            if count == 0:
                y[i] = function(x[i])
            elif count == 1:
                y[i] = function(x[i], a)
            else:
                y[i] = function(x[i], a, b, c)

    x = values()
    y = cuda.to_device(np.zeros_like(x))
    with np.errstate(all="ignore"):  # the simulator computes infinities with NumPy, which warns
        kernel[(x.size + 31) // 32, 32](cuda.to_device(x), y)
    # The operation of that name, whose accuracy is tested elsewhere, calls the same formula by its number.
    expected = getattr(on_gpu, called)(on_gpu.to_device(x), **keywords).copy_to_host()
    np.testing.assert_array_equal(y.copy_to_host(), expected)


def test_machine_code_is_that_of_the_one_function(cuda_compiler: Compiler) -> None:
    # Which function it is, is known when the kernel is compiled: of the nineteen one is left, in float32.
    compiled = cuda_compiler.compile(
        Kernel(
            f"{Path(__file__).with_name('cuda_activation_user.py')}:gelu_kernel",
            "(float32[::1], float32[::1])",
        )
    )
    Gate(has_not=(*LOCAL_MEMORY, *FLOAT64), most_registers=40).check(compiled)
