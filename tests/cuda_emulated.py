"""Launches of the fast kernels: in the emulator, compiled here, or on a GPU where the tests are asked to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from convcore.cuda import fast, step
from convcore.cuda.arrays import DeviceArray
from convcore.cuda.kernels import implicit_gemm
from convcore.cuda.toolkit import simulated

from .cuda_compile import FLOAT64, LOCAL_MEMORY, LONG_DIVISION, Compiled, Compiler, Gate
from .cuda_compile import Kernel as ToCompile
from .memory import Array
from .ptx import Pointer, launch

__all__ = ["MOST_PRODUCTS", "NEVER", "compiled", "execute", "products", "to_compile", "watch_launches"]

#: Instructions that no fast kernel has.
NEVER = (*LOCAL_MEMORY, *LONG_DIVISION, *FLOAT64)
_LEAST = Gate(has_not=NEVER)
#: Products that a launch may have here: the emulator makes some millions in a second.
MOST_PRODUCTS = 5_000_000


def to_compile(kernel: fast.Kernel, capability: tuple[int, int] = (9, 0)) -> ToCompile:
    """A fast kernel, to be compiled as the package does."""
    bounds = kernel.threads, kernel.blocks_per_processor
    module = "convcore.cuda.fast:"
    return ToCompile(f"{module}{kernel!r}.make()", f"{kernel!r}.signature", capability, bounds)


def compiled(compiler: Compiler, kernel: fast.Kernel, capability: tuple[int, int] = (9, 0)) -> Compiled:
    """A fast kernel, compiled to nothing that no fast kernel may have: whatever is launched is looked at."""
    made = compiler.compile(to_compile(kernel, capability))
    _LEAST.check(made)
    return made


def products(one: fast.Launch) -> int:
    """Products that a launch adds up, those with the zeros that continue its sums included."""
    numbers = [a for a in one.arguments if not isinstance(a, str)]
    if one.kernel.family == "conv":
        size = 2 if one.kernel.options[0] == "bfloat16" else 4
        rows, _, columns, steps = numbers[:4]
        return math.prod((rows, columns, steps * implicit_gemm.STEP // size))
    if one.kernel.family == "dense":
        inputs, outputs = numbers[:2]
        return math.prod((one.kernel.options[0], inputs, outputs))
    return 0


def execute(ptx: str, one: fast.Launch, arrays: Mapping[str, Array], **options: Any) -> None:
    """Run one launch of a kernel, given as PTX; `options` are the emulator's."""
    kernel = one.kernel
    assert products(one) <= MOST_PRODUCTS, f"{products(one):,} products of {kernel.name} take too long"
    arguments = [
        Pointer(arrays[v]) if isinstance(v, str) else (np.float32 if "float" in str(kind) else np.int32)(v)
        for v, kind in zip(one.arguments, kernel.signature, strict=True)
    ]
    launch(ptx, one.grid, (kernel.threads, 1, 1), arguments, shared_bytes=kernel.shared_bytes, **options)


def watch_launches(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let fast kernels be chosen; return a list that every kernel's name is added to when it is launched.

    Under Numba's simulator, whose device memory is main memory, the emulator runs them.
    """
    names: list[str] = []
    on_gpu = step.launch_work

    def launch_work(work: fast.Work, arrays: Mapping[str, DeviceArray]) -> None:
        if simulated:
            for one in work.launches:
                execute(compiled(compiler, one.kernel).ptx, one, {name: a._map for name, a in arrays.items()})
        else:
            on_gpu(work, arrays)
        names.extend(one.kernel.name for one in work.launches)

    monkeypatch.setattr(fast, "enabled", True)
    monkeypatch.setattr(step, "launch_work", launch_work)
    return names
