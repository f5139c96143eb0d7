"""Compiles all kernels that the parts need to a folder, on all cores; needs Numba, and no GPU.

    python -m convcore.bench.gpu.making FOLDER --arch sm_90 [--parts ceilings,memory] [--jobs 8]

``--probe`` instead compiles one small kernel, to see whether that works at all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from convcore import machine_code
from convcore.bench.gpu.parts import MEASURED, made
from convcore.config import version
from convcore.errors import ConvcoreError, DeviceError, printable
from convcore.gpu import OLDEST

__all__ = ["PACKAGES", "capability_of", "environment", "make", "make_apart", "probe_apart", "toolkit"]

#: Packages that compile.
PACKAGES = ("numba", "numba-cuda", "llvmlite", "numpy", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink")
_SECONDS_TO_PROBE = 180.0
#: Where CUDA's toolkit lies if it was installed without packages of Python; nobody else looks there.
_TOOLKIT = Path("/usr/local/cuda")


def capability_of(name: str) -> tuple[int, int]:
    """Return an architecture's compute capability.

    Raises
    ------
    DeviceError
        It has no such name, or is older than the kernels need.

    Examples
    --------
    >>> capability_of("sm_90")
    (9, 0)
    """
    found = re.fullmatch(r"sm_(\d{1,2})(\d)", name)
    capability = (int(found[1]), int(found[2])) if found else (0, 0)
    if capability < OLDEST:
        oldest = machine_code.architecture(OLDEST)
        raise DeviceError("--arch", "no architecture", got=name, expected=f"{oldest} or later, such as sm_90")
    return capability


def environment() -> dict[str, str]:
    """Variables for a process that compiles: no simulator, and no GPU that it would take memory of."""
    return {**os.environ, **toolkit(), "NUMBA_ENABLE_CUDASIM": "0", "CUDA_VISIBLE_DEVICES": ""}


def toolkit() -> dict[str, str]:
    """The variable that lets Numba find the compiler of CUDA's toolkit where its usual place has one.

    NVIDIA's packages come first all the same. The folder is looked for only where no variable names another.
    """
    named = any(os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    return {} if named or not (_TOOLKIT / "nvvm").is_dir() else {"CUDA_HOME": str(_TOOLKIT)}


def _code(kernel: Any, capability: tuple[int, int]) -> machine_code.Code | str:
    from convcore.cuda.compiled import code_of

    try:
        return code_of(kernel, capability)
    except ConvcoreError as error:
        return str(error)


def make(
    folder: str | os.PathLike[str],
    capability: tuple[int, int],
    kernels: Sequence[Any],
    schedules: Mapping[str, Any],
    jobs: int | None = None,
) -> dict[str, str]:
    """Compile kernels to a folder and return those that cannot be, with the reasons.

    Raises
    ------
    DeviceError
        None can be compiled: with the first reason.
    """
    jobs = max(1, min(jobs or os.cpu_count() or 1, len(kernels)))
    found: dict[str, machine_code.Code | str] = {}
    names = [kernel.name for kernel in kernels]
    if jobs == 1:
        found = {kernel.name: _code(kernel, capability) for kernel in kernels}
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            results = pool.map(_code, kernels, [capability] * len(kernels))
            found = dict(zip(names, results, strict=True))
    codes = {name: code for name, code in found.items() if isinstance(code, machine_code.Code)}
    failed = {name: reason for name, reason in found.items() if isinstance(reason, str)}
    if failed and not codes:
        raise DeviceError("kernels", f"none can be compiled; {next(iter(failed.values()))}")
    versions = {name: version(name) or "not installed" for name in PACKAGES}
    machine_code.write(folder, capability, codes, schedules, versions)
    return failed


# ------------------------------------------------------------------------------- in a process of its own


def make_apart(
    folder: str | os.PathLike[str],
    architecture: str,
    parts: Sequence[str] = MEASURED,
    jobs: int | None = None,
    seconds: float | None = None,
) -> list[str]:
    """Run :func:`make` for all that `parts` need, in another process; return a line for all that failed.

    Raises
    ------
    DeviceError
        Nothing was made, with the reason.
    """
    words = [os.fspath(folder), "--arch", architecture, "--parts", ",".join(parts)]
    words += ["--jobs", str(jobs)] if jobs else []
    code, said = _apart(words, seconds)
    if code == 0:
        return said
    raise DeviceError("kernels", f"cannot be compiled: {said[-1] if said else f'exit code {code}'}")


def probe_apart(architecture: str) -> str:
    """Return why kernels cannot be compiled here; empty if they can."""
    code, said = _apart(["--probe", "--arch", architecture], _SECONDS_TO_PROBE)
    return "" if code == 0 else (said[-1] if said else f"the compiling process ended with {code}")


def _apart(words: Sequence[str], seconds: float | None) -> tuple[int, list[str]]:
    """Run this module: the exit code, and the lines on its stderr. A crash ends that process alone."""
    command = [sys.executable, "-m", "convcore.bench.gpu.making", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(),
        start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=seconds)
    except BaseException as error:
        end(process)
        if isinstance(error, subprocess.TimeoutExpired):
            return 124, [f"compiling took more than {seconds:.0f} s"]
        raise
    return process.returncode, [line for line in said.splitlines() if line.strip()]


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that was started with a session of its own, and all that it has started."""
    import signal

    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--parts", default=",".join(MEASURED))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--probe", action="store_true")
    options = parser.parse_args(argv)
    try:
        capability = capability_of(options.arch)
        if options.probe:
            from convcore.cuda.fast import Kernel

            answer = _code(Kernel("activation", (1,)), capability)
            if isinstance(answer, str):
                raise DeviceError("probe", answer)
            return 0
        kernels, schedules = made(options.parts.split(","))
        ordered = sorted(kernels, key=lambda kernel: str(kernel.name))
        failed = make(options.folder, capability, ordered, schedules, options.jobs)
    except Exception as error:
        print(printable(f"{type(error).__name__}: {error}", 800), file=sys.stderr)
        return 1
    for name, reason in failed.items():
        print(f"{name}: {printable(reason, 400)}", file=sys.stderr)
    for name, data in schedules.items():
        if "reason" in data:
            print(f"{name}: {data['reason']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
