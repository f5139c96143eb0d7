"""What this installation is: versions, the CPU, the instruction set in use."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any, Literal, overload

import convcore
from convcore import gpu
from convcore.errors import ArgumentError

__all__ = ["PACKAGES", "show_config", "version"]

#: Packages whose version matters: what the base needs, what the commands use, and who judges.
PACKAGES = (
    "numpy",
    "pyfive",
    "pydicom",
    "opencv-python-headless",
    "tqdm",
    "rich",
    "keras",
    "tensorflow",
)
#: The same modules under another distribution's name.
_ALSO_CALLED = {"tensorflow": ("tensorflow-cpu",), "opencv-python-headless": ("opencv-python",)}


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print the CPU, the GPU, instruction sets, threads and versions; with mode "dicts" return them.

    Examples
    --------
    >>> show_config("dicts")["threads"] >= 1
    True
    """
    from convcore import _native

    if mode not in ("stdout", "dicts"):
        raise ArgumentError("show_config", "mode", got=mode, expected="stdout or dicts")
    facts: dict[str, Any] = {
        "convcore": convcore.__version__,
        "cpu": _native.cpu_name(),
        "instruction_set": _native.default_isa(),
        "instruction_set_forced": bool(os.environ.get("CONVCORE_ISA")),
        "instruction_sets": list(_native.isas()),
        "threads": _native.get_num_threads(),
        "logical_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": gpu.describe(),
        "packages": {name: version(name) for name in PACKAGES},
    }
    if mode == "dicts":
        return facts
    rows = {name.replace("_", " "): value for name, value in facts.items() if name != "packages"}
    rows["gpu"] = gpu.sentence(facts["gpu"])
    rows |= {name: found or "not installed" for name, found in facts["packages"].items()}
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return None


def version(name: str) -> str | None:
    """Return the version of the installed distribution `name`, or None.

    Examples
    --------
    >>> version("no-such-distribution") is None
    True
    """
    for candidate in (name, *_ALSO_CALLED.get(name, ())):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None
