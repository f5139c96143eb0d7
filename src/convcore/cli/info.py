"""``convcore info``: the machine as convcore sees it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from typing import Any

from convcore.cli.terminal import print_json

__all__ = ["add_arguments", "run"]

#: Packages whose version matters to what the commands do, and what for.
PACKAGES = {
    "numpy": "arrays",
    "pyfive": "model files",
    "pydicom": "ct, demo",
    "opencv-python-headless": "pictures",
    "tqdm": "progress bars",
    "rich": "tables",
    "matplotlib": "plots",
    "keras": "judge of verify",
    "tensorflow": "Keras's backend",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    found = _collect()
    if args.json:
        print_json(found)
        return 0
    forced = " (forced by CONVCORE_ISA)" if found["isa_forced"] else ""
    rows = [
        ("convcore", found["convcore"]),
        ("CPU", found["cpu"]),
        ("instruction set", found["isa"] + forced),
        ("available", ", ".join(found["isas"])),
        ("threads", found["threads"]),
        ("logical CPUs", found["logical_cpus"]),
        ("Python", found["python"]),
        ("system", found["system"]),
    ]
    rows += [(name, f"{version or 'not installed'}") for name, version in found["packages"].items()]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


def _collect() -> dict[str, Any]:
    import convcore
    from convcore import _native

    return {
        "convcore": convcore.__version__,
        "cpu": _native.cpu_name(),
        "isa": _native.default_isa(),
        "isas": list(_native.isas()),
        "isa_forced": bool(os.environ.get("CONVCORE_ISA")),
        "threads": _native.get_num_threads(),
        "logical_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    # tensorflow-cpu and opencv-python are the same modules under another distribution's name.
    for candidate in (
        name,
        {"tensorflow": "tensorflow-cpu", "opencv-python-headless": "opencv-python"}.get(name),
    ):
        if candidate:
            try:
                return importlib.metadata.version(candidate)
            except importlib.metadata.PackageNotFoundError:
                continue
    return None
