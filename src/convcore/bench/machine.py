"""The context without which a measured number means nothing."""

from __future__ import annotations

import os
import platform
from typing import Any

import convcore
from convcore import _native
from convcore.config import version


def machine(*packages: str) -> dict[str, Any]:
    """Return CPU, instruction set, threads, load, and the versions of convcore, Python and `packages`.

    Nothing in it names the machine or its user.

    Examples
    --------
    >>> sorted(machine("numpy"))[:3]
    ['convcore', 'cores', 'cpu']
    """
    return {
        "convcore": convcore.__version__,
        "cpu": _native.cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": _native.default_isa(),
        "threads": _native.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) or "not installed" for name in ("numpy", *packages)},
    }
