"""What a user without a GPU, or without numba-cuda, is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RELU = "import numpy as np, convcore.cuda as g; g.relu(np.ones(3, np.float32))"


def complaint(code: str, **environment: str) -> str:
    """The last line on stderr of a Python that runs `code`, without the simulator."""
    variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0", **environment}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False
    )
    assert run.returncode == 1, run.stderr
    return run.stderr.strip().splitlines()[-1]


def test_without_numba_cuda_the_extra_is_named() -> None:
    blocked = "import sys; sys.modules['numba_cuda'] = None; sys.modules['numba'] = None; "
    said = complaint(blocked + RELU)
    assert said.startswith("convcore.errors.MissingExtraError: convcore.cuda: needs numba-cuda")
    assert said.endswith('Install it with: pip install "convcore[cuda]"')


def test_without_a_gpu_the_reason_is_given() -> None:
    cuda = pytest.importorskip("convcore.cuda", reason="numba-cuda is not installed")
    code = "import convcore.cuda as g; print(g.is_available()); assert not g.is_available()"
    variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False
    )
    if run.returncode:
        pytest.skip("this machine has a GPU")
    assert run.stdout == "False\n"
    for call in (RELU, "import numpy as np, convcore.cuda as g; g.to_device(np.ones(3))"):
        said = complaint(call)
        assert said.startswith("convcore.errors.DeviceError: ")
        assert "driver" in said or "no GPU" in said
        assert said.endswith("expected an NVIDIA GPU of the Ampere generation or later")
    assert cuda.is_available()  # the simulator, in this process


def test_numpy_without_row_stack_is_no_obstacle() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    code = (
        "import numpy as np, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "if 'row_stack' in vars(np): del np.row_stack\n"
        "import convcore.cuda.toolkit as t\n"
        "print('row_stack' in vars(np), t.cuda.__name__)"
    )
    variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False
    )
    assert run.stdout == "False numba.cuda\n", run.stderr
