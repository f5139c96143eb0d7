"""What this installation is: versions, the CPU, the instruction set in use, the header for C code."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, Literal, overload

import convcore
from convcore.errors import ArgumentError, ConvcoreError

__all__ = ["get_include", "show_config"]


def get_include() -> str:
    """Return the directory of ``convcore.h``, for a C compiler's ``-I``.

    Raises
    ------
    ConvcoreError
        The header was not installed with the package.

    Examples
    --------
    >>> Path(get_include(), "convcore.h").is_file()
    True
    """
    candidates = [Path(folder, "include") for folder in convcore.__path__]
    candidates.append(Path(__file__).resolve().parents[2] / "csrc")  # a source tree, built in place
    for folder in candidates:
        if (folder / "convcore.h").is_file():
            return str(folder)
    raise ConvcoreError("get_include", "convcore.h is not installed", remedy="Install convcore again.")


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print versions, the CPU, instruction sets and threads; with mode "dicts" return them.

    Examples
    --------
    >>> show_config("dicts")["threads"] >= 1
    True
    """
    import numpy as np

    from convcore import _native

    if mode not in ("stdout", "dicts"):
        raise ArgumentError("show_config", "mode", got=mode, expected="stdout or dicts")
    facts = {
        "convcore": convcore.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _native.cpu_name(),
        "instruction_sets": list(_native.isas()),
        "instruction_set": _native.default_isa(),
        "threads": _native.get_num_threads(),
    }
    if mode == "dicts":
        return facts
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return None
