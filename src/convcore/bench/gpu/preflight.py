"""What a run on a GPU needs, looked for before anything is run: a sentence for each thing that is missing."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convcore import machine_code
from convcore.bench.gpu import making
from convcore.bench.gpu.driver import described
from convcore.bench.gpu.torch_peer import why_not
from convcore.config import version
from convcore.errors import ConvcoreError
from convcore.gpu import OLDEST, too_old

__all__ = ["PACKAGES", "Facts", "Problem", "facts", "problems"]

#: Distributions whose versions are printed; the first four must be there.
PACKAGES = (
    "cuda-core", "cuda-bindings", "numba", "numba-cuda", "llvmlite", "numpy", "torch", "cuda-toolkit",
    "nvidia-nvvm", "nvidia-nvjitlink", "pytest", "hypothesis",
)  # fmt: skip
_INSTALL = 'pip install "convcore[cuda]"'
_ASKED_OF_NVIDIA_SMI = (
    "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit",
    "power.draw", "temperature.gpu", "utilization.gpu", "ecc.mode.current",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What was found. `missing` has packages that cannot be imported, with the reason.

    Empty reasons are good news: `driver` says why no GPU can be used, `compiler` why kernels cannot be
    compiled, `folder` why the ready-made ones cannot be taken (None: no folder is named), `torch` why there
    is no peer.
    """

    versions: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)
    driver: str = ""
    gpu: Mapping[str, Any] = field(default_factory=dict)
    smi: Mapping[str, str] = field(default_factory=dict)
    compiler: str = ""
    folder: str | None = None
    torch: str = ""
    simulator: bool = False
    numpy_shim: bool = False


@dataclass(frozen=True)
class Problem:
    """A sentence, and whether nothing can be measured because of it."""

    sentence: str
    fatal: bool = True


def facts() -> Facts:
    """Look for everything; Numba is tried in a process of its own, which may crash."""
    missing = {}
    for package, module in {"cuda-bindings": "cuda.bindings.driver", "cuda-core": "cuda.core"}.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            missing[package] = " ".join(str(error).split())
    driver, gpu, folder = "", {}, None
    if not missing:
        try:
            gpu = described()
        except Exception as error:
            driver = getattr(error, "problem", "") or str(error)
    capability = tuple(int(n) for n in str(gpu.get("compute_capability", "9.0")).split("."))
    if os.environ.get(machine_code.VARIABLE):
        try:
            found = machine_code.named()
            assert found is not None
            found.require(capability)
            folder = ""
        except ConvcoreError as error:
            folder = str(error)
    usable = gpu and capability >= OLDEST
    compiler = making.probe_apart(machine_code.architecture(capability)) if usable and folder != "" else ""
    return Facts(
        {
            "python": platform.python_version(),
            **{name: version(name) or "not installed" for name in PACKAGES},
        },
        missing,
        driver,
        gpu,
        _nvidia_smi(),
        compiler,
        folder,
        why_not(),
        os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"),
        not hasattr(np, "row_stack"),
    )


def _nvidia_smi() -> dict[str, str]:
    """What nvidia-smi says of the first GPU; nothing where it is not there or does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = f"--query-gpu={','.join(_ASKED_OF_NVIDIA_SMI)}"
    try:
        answer = subprocess.run(
            [program, query, "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    words = [word.strip() for word in answer.stdout.splitlines()[0].split(",")] if answer.stdout else []
    return dict(zip(_ASKED_OF_NVIDIA_SMI, words, strict=False))


def problems(found: Facts) -> Sequence[Problem]:
    """Return what stands in the way, the fatal first."""
    wrong = [
        Problem(f"{package} cannot be imported ({reason}): {_INSTALL} brings it.")
        for package, reason in found.missing.items()
    ]
    if found.simulator:
        wrong.append(Problem("NUMBA_ENABLE_CUDASIM is set, which simulates a GPU: unset it to measure one."))
    if found.driver:
        wrong.append(Problem(f"No GPU can be used: {found.driver}."))
    capability = tuple(int(n) for n in str(found.gpu.get("compute_capability", "0.0")).split("."))
    if found.gpu and capability < OLDEST:
        wrong.append(Problem(f"{too_old(str(found.gpu.get('name')), capability)}."))
    if found.folder:
        wrong.append(Problem(f"{machine_code.VARIABLE} names a folder that cannot be used: {found.folder}"))
    elif found.compiler:
        wrong.append(
            Problem(
                f"Kernels cannot be compiled here ({found.compiler}). Make a folder of them elsewhere with "
                f"benchmarks/gpu.py --make-cubins FOLDER, and name it in {machine_code.VARIABLE}."
            )
        )
    if found.torch:
        wrong.append(Problem(f"PyTorch is not measured beside: {found.torch}.", fatal=False))
    if found.numpy_shim:
        have, asks = (found.versions.get(name, "") for name in ("numpy", "numba-cuda"))
        wrong.append(
            Problem(
                f"NumPy {have} has no row_stack, which numba-cuda {asks} may ask for: it is lent to it while "
                "it is imported.",
                fatal=False,
            )
        )
    return sorted(wrong, key=lambda problem: not problem.fatal)
