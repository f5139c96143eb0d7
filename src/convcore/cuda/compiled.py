"""Compiles the fast kernels for the GPU at hand and launches them.

Numba makes PTX of a kernel, NVIDIA's linker machine code, and cuda.core launches it with bare addresses and
numbers: no array headers to unpack, and shared memory beyond the 48 KiB that Numba's own launch allows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from convcore.cuda.device import stream
from convcore.cuda.fast import Kernel, Launch, Work
from convcore.cuda.toolkit import cuda, types
from convcore.errors import DeviceError

__all__ = ["machine_code", "ptx_of", "run"]

#: Numbers as the driver takes them, by the type that a signature names.
_NUMBERS = {types.int32: np.int32, types.float32: np.float32}


def ptx_of(kernel: Kernel, capability: tuple[int, int]) -> str:
    """Return the PTX of `kernel` for GPUs of compute capability `capability`; needs no GPU."""
    bounds = kernel.threads, kernel.blocks_per_processor
    ptx, _ = cuda.compile_ptx(kernel.make(), kernel.signature, cc=capability, launch_bounds=bounds)
    return str(ptx)


def machine_code(ptx: str, capability: tuple[int, int]) -> bytes:
    """Return the machine code (a cubin) of `ptx`; needs no GPU."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}")
    return bytes(Linker(ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin").code)


@functools.cache
def _loaded(kernel: Kernel) -> Any:
    """The kernel on the current GPU, compiled on first use."""
    from cuda.bindings import driver
    from cuda.core import ObjectCode

    device = cuda.get_current_device()
    ptx = ptx_of(kernel, device.compute_capability)
    entry = re.search(r"\.entry\s+([\w$]+)", ptx)
    assert entry is not None, "PTX without a kernel"
    code = ObjectCode.from_cubin(machine_code(ptx, device.compute_capability))
    loaded = code.get_kernel(entry.group(1))
    if kernel.shared_bytes:
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (error,) = driver.cuKernelSetAttribute(attribute, kernel.shared_bytes, loaded.handle, device.id)
        if error != driver.CUresult.CUDA_SUCCESS:
            raise DeviceError(
                kernel.name, f"the GPU does not give a block {kernel.shared_bytes:,} bytes of shared memory"
            )
    return loaded


def run(work: Work, arrays: Mapping[str, int]) -> None:
    """Launch `work` on the context's stream; `arrays` has the address of every array that it names."""
    for one in work.launches:
        _launch(one, arrays)


def _launch(one: Launch, arrays: Mapping[str, int]) -> None:
    from cuda.core import LaunchConfig, Stream, launch

    kernel = one.kernel
    arguments = [
        np.uint64(arrays[value]) if isinstance(value, str) else _NUMBERS[kind](value)
        for value, kind in zip(one.arguments, kernel.signature, strict=True)
    ]
    handle = getattr(stream.get(), "handle", None)
    on = Stream.from_handle(int(getattr(handle, "value", handle) or 0))
    config = LaunchConfig(grid=one.grid, block=kernel.threads, shmem_size=kernel.shared_bytes)
    launch(on, config, _loaded(kernel), *arguments)
