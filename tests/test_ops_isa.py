"""What the environment says about the instruction set."""

from __future__ import annotations

import os
import subprocess
import sys


def test_an_unknown_instruction_set_is_named() -> None:
    code = "import numpy as np, convcore as cc\ncc.relu(np.ones(3, np.float32))\n"
    environment = {**os.environ, "CONVCORE_ISA": "foo"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "CONVCORE_ISA: names no instruction set that this CPU has, got foo, expected " in done.stderr
