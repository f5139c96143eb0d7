"""Compiles kernels without a GPU, in a process of its own: the one that runs tests has Numba's simulator.

Started by :mod:`cuda_compile`. Reads requests from standard input, a line of JSON each, and answers
likewise on standard output: the first line says what is missing, or that all is there.
"""

from __future__ import annotations

import collections
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def disassembler() -> str | None:
    """The path of nvdisasm: in NVIDIA's wheels, or anywhere."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(folder).glob("*/bin/nvdisasm")):
            return str(found)
    return shutil.which("nvdisasm")


def module_of(name: str) -> ModuleType:
    """A module by its name, or by the path of its file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    stem = Path(name).stem
    if stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(stem, name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[stem] = module
    return sys.modules[stem]


def compile_kernel(request: dict[str, Any]) -> dict[str, Any]:
    """Return the PTX of a kernel and what its machine code is made of."""
    from convcore.cuda.toolkit import cuda  # it makes numba-cuda work with a new NumPy

    import numba.cuda.dispatcher as dispatcher  # isort: skip

    module_name, _, expression = request["kernel"].partition(":")
    names = {**vars(cuda.types), **vars(module_of(module_name))}
    kernel = eval(expression, names)
    capability = tuple(request["capability"])
    # Functions that kernels call ask what GPU there is.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    ptx, _ = cuda.compile_ptx(
        getattr(kernel, "py_func", kernel),
        eval(request["signature"], names),
        cc=capability,
        launch_bounds=request["launch_bounds"],
        fastmath=request["fastmath"],
    )
    return {"ptx": ptx, **machine_code(ptx, "sm_" + "".join(map(str, capability)))}


def machine_code(ptx: str, architecture: str) -> dict[str, Any]:
    """Link PTX as Numba does, and count its instructions."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=architecture, verbose=True, ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = linker.link("cubin").code
    log = (linker.get_info_log() or "") + (linker.get_error_log() or "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        found = disassembler()
        assert found is not None
        sass = subprocess.run([found, "-c", str(path)], capture_output=True, text=True, check=True).stdout
    opcodes = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)", sass, re.M)
    return {
        # Functions that were linked in: NVIDIA's own, such as the division of 64-bit integers.
        "functions": [n for n in re.findall(r"^\.text\.(\S+):", sass, re.M) if n.startswith("__cuda")],
        "opcodes": dict(collections.Counter(opcodes)),
        "registers": max(map(int, re.findall(r"[Uu]sed (\d+) registers", log)), default=0),
        "spill_bytes": sum(map(int, re.findall(r"(\d+) bytes spill", log))),
        "shared_bytes": max(map(int, re.findall(r"(\d+) bytes smem", log)), default=0),
        "warnings": [line.strip() for line in log.splitlines() if "warning" in line.lower() or "C75" in line],
        "sass": sass,
    }


def missing() -> str:
    """What it lacks to do its work; empty if nothing."""
    try:
        from cuda.core import Linker  # noqa: F401

        import convcore.cuda.toolkit
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if convcore.cuda.toolkit.simulated:
        return "Numba's simulator is on"
    if disassembler() is None:
        return "nvdisasm (the package nvidia-cuda-nvdisasm) is not there"
    return ""


def main() -> None:
    """Answer requests until standard input ends."""
    # Nothing else may write where the answers go.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    reason = missing()
    if not reason:
        try:  # the libraries themselves may be missing
            from convcore.cuda.toolkit import cuda

            cuda.compile_ptx(lambda x: None, cuda.types.void(cuda.types.int32), cc=(8, 0))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
    print(json.dumps({"missing": reason}), file=answers)
    for line in sys.stdin:
        try:
            answer = compile_kernel(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
