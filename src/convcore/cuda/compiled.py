"""Compiles the fast kernels for the GPU at hand and launches them.

Numba makes PTX of a kernel, NVIDIA's linker machine code, and cuda.core launches it with bare addresses and
numbers: no array headers to unpack, and shared memory beyond the 48 KiB that Numba's own launch allows. A
kernel that lies ready in the folder of :data:`.machine_code.VARIABLE` is taken from there instead.
"""

from __future__ import annotations

import functools
import importlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from convcore import machine_code as ready
from convcore.cuda.device import current, handle_of, stream
from convcore.cuda.fast import Kernel, Launch, Work
from convcore.cuda.toolkit import cuda, types
from convcore.errors import DeviceError
from convcore.machine_code import Code

__all__ = ["code_of", "machine_code", "ptx_of", "run"]

#: Letters of :attr:`.machine_code.Code.signature`; all that is no number is an address.
_LETTERS = {types.int32: "i", types.float32: "f"}


def ptx_of(kernel: Kernel, capability: tuple[int, int]) -> str:
    """Return the PTX of `kernel` for GPUs of compute capability `capability`; needs no GPU."""
    bounds = kernel.threads, kernel.blocks_per_processor
    with _device_functions_for(capability):
        ptx, _ = cuda.compile_ptx(kernel.make(), kernel.signature, cc=capability, launch_bounds=bounds)
    return str(ptx)


@contextmanager
def _device_functions_for(capability: tuple[int, int]) -> Iterator[None]:
    """Let Numba compile the functions that kernels call although there is no GPU: it asks which it is."""
    if cuda.is_available():
        yield
        return
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


def machine_code(ptx: str, capability: tuple[int, int]) -> bytes:
    """Return the machine code (a cubin) of `ptx`; needs no GPU."""
    core = ready.core()
    options = core.LinkerOptions(arch=ready.architecture(capability))
    return bytes(core.Linker(core.ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin").code)


def code_of(kernel: Kernel, capability: tuple[int, int]) -> Code:
    """Return `kernel` as machine code with all that a launch needs; needs no GPU.

    Raises
    ------
    DeviceError
        A part of the compiler is missing, or does not fit the others.
    """
    start = time.perf_counter()
    try:
        ptx = ptx_of(kernel, capability)
        cubin = machine_code(ptx, capability)
    except Exception as error:
        raise DeviceError(
            kernel.name,
            f"cannot be compiled: {type(error).__name__}: {error}",
            remedy=f"{ready.VARIABLE} may name a folder of kernels that were compiled elsewhere.",
        ) from error
    entry = re.search(r"\.entry\s+([\w$]+)", ptx)
    assert entry is not None, "PTX without a kernel"
    signature = "".join(_LETTERS.get(kind, "p") for kind in kernel.signature)
    seconds = time.perf_counter() - start
    return Code(cubin, entry.group(1), signature, kernel.threads, kernel.shared_bytes, seconds)


@functools.cache
def _loaded(kernel: Kernel, number: int) -> tuple[Any, Code]:
    """The kernel on GPU `number`, this thread's, from the folder or else compiled, and what it was made of.

    Every GPU allows a kernel its shared memory by itself, and may be of another architecture.
    """
    capability, code = cuda.get_current_device().compute_capability, None
    folder = ready.named()
    if folder is not None:
        folder.require(capability)
        code = folder.code(kernel.name)
    code = code or code_of(kernel, capability)
    return ready.load(code, kernel.name, number), code


def run(work: Work, arrays: Mapping[str, int]) -> None:
    """Launch `work` on the context's stream; `arrays` has the address of every array that it names."""
    for one in work.launches:
        _launch(one, arrays)


def _launch(one: Launch, arrays: Mapping[str, int]) -> None:
    arguments = [arrays[value] if isinstance(value, str) else value for value in one.arguments]
    loaded, code = _loaded(one.kernel, current())
    ready.launch(loaded, code, handle_of(stream.get()), one.grid, arguments)
