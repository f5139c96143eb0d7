"""What the environment says about the instruction set."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from convcore import _native

#: Of each kind of machine, worst first.
_KINDS = {
    "x86_64": ("scalar", "sse2", "avx2", "avx512"),
    "amd64": ("scalar", "sse2", "avx2", "avx512"),
    "aarch64": ("scalar", "neon"),
    "arm64": ("scalar", "neon"),
}


def test_the_instruction_sets_are_those_of_this_kind_of_machine() -> None:
    kind = _KINDS.get(platform.machine().lower(), ("scalar",))
    assert _native.isas() == kind[: len(_native.isas())]
    assert kind[:2] == _native.isas()[:2]


def test_an_unknown_instruction_set_is_named() -> None:
    code = "import numpy as np, convcore as cc\ncc.relu(np.ones(3, np.float32))\n"
    environment = {**os.environ, "CONVCORE_ISA": "foo"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "CONVCORE_ISA: names no instruction set that this CPU has, got foo, expected " in done.stderr
