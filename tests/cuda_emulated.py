"""Launches of the fast kernels in the emulator: compiled here, run on arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convcore.cuda import fast

from .cuda_compile import Compiled, Compiler
from .cuda_compile import Kernel as ToCompile
from .memory import Array
from .ptx import Pointer, launch

__all__ = ["compiled", "execute"]


def compiled(compiler: Compiler, kernel: fast.Kernel, capability: tuple[int, int] = (9, 0)) -> Compiled:
    """A fast kernel, compiled as the package does."""
    bounds = kernel.threads, kernel.blocks_per_processor
    module = "convcore.cuda.fast:"
    return compiler.compile(
        ToCompile(f"{module}{kernel!r}.make()", f"{kernel!r}.signature", capability, bounds)
    )


def execute(ptx: str, one: fast.Launch, arrays: Mapping[str, Array], **options: Any) -> None:
    """Run one launch of a kernel, given as PTX; `options` are the emulator's."""
    kernel = one.kernel
    arguments = [
        Pointer(arrays[v]) if isinstance(v, str) else (np.float32 if "float" in str(kind) else np.int32)(v)
        for v, kind in zip(one.arguments, kernel.signature, strict=True)
    ]
    launch(ptx, one.grid, (kernel.threads, 1, 1), arguments, shared_bytes=kernel.shared_bytes, **options)
