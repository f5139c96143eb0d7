"""What this installation is: versions, the CPU, the instruction set in use."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
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
#: Beginnings of the names that Linux gives to instruction sets with vectors.
_FEATURES = ("sse", "ssse3", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "neon")
#: The same modules under another distribution's name.
_ALSO_CALLED = {"tensorflow": ("tensorflow-cpu",), "opencv-python-headless": ("opencv-python",)}


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print the CPU, the GPU, instruction sets, threads and versions; with mode "dicts" return them.

    "instruction_set_reason" says why that one is in use, "threads_origin" where the number of threads comes
    from (``convcore.threads`` has the order), and "build" how the library was compiled.

    Examples
    --------
    >>> show_config("dicts")["threads"] >= 1
    True
    """
    from convcore import _native

    if mode not in ("stdout", "dicts"):
        raise ArgumentError("show_config", "mode", got=mode, expected="stdout or dicts")
    best, forced = _native.isas()[-1], os.environ.get("CONVCORE_ISA")
    facts: dict[str, Any] = {
        "convcore": convcore.__version__,
        "cpu": _native.cpu_name(),
        "cpu_features": _cpu_features(),
        "cpu_caches": _cpu_caches(),
        "instruction_set": _native.default_isa(),
        "instruction_set_forced": bool(forced),
        "instruction_set_reason": f"CONVCORE_ISA={forced}; the best here is {best}"
        if forced
        else "the best here",
        "instruction_sets": list(_native.isas()),
        "threads": _native.get_num_threads(),
        "threads_origin": _native.num_threads_origin(),
        "logical_cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": gpu.describe(),
        "build": _native.build(),
        "packages": {name: version(name) for name in PACKAGES},
    }
    if mode == "dicts":
        return facts
    rows = {
        name.replace("_", " "): value for name, value in facts.items() if name not in ("packages", "build")
    }
    rows["gpu"] = gpu.sentence(facts["gpu"])
    rows["cpu caches"] = (
        ", ".join(f"{n} {b >> 10} KiB" for n, b in facts["cpu_caches"].items()) or "not known"
    )
    rows |= facts["build"]
    rows |= {name: found or "not installed" for name, found in facts["packages"].items()}
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {', '.join(value) or 'not known' if isinstance(value, list) else value}")
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cpu_features() -> list[str]:
    """What the operating system says of the CPU's instruction sets, as far as it matters to kernels."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return [f for f in values.split() if f.startswith(_FEATURES)]
    return []


def _cpu_caches() -> dict[str, int]:
    """Bytes of the first CPU's caches, by name: L1d, L1i, L2, ..."""
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, size = _read(folder / "level").strip(), _read(folder / "size").strip()
        kind = {"Data": "d", "Instruction": "i"}.get(_read(folder / "type").strip(), "")
        if level and size[-1:] in "KM" and size[:-1].isdigit():
            caches[f"L{level}{kind}"] = int(size[:-1]) << (10 if size[-1] == "K" else 20)
    return caches


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
