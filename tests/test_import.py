"""``import convcore`` is cheap, loads nothing of others, and says what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import convcore as cc
from convcore import ops
from convcore.errors import ArgumentError

FOREIGN = ("h5py", "pyfive", "cv2", "matplotlib", "pydicom", "keras", "tensorflow", "numba", "scipy", "torch")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_loads_nothing_of_others() -> None:
    code = f"import sys, convcore; print([m for m in {FOREIGN} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_the_operations_need_numpy_alone() -> None:
    code = f"import sys, convcore; convcore.conv2d; print([m for m in {FOREIGN} if m in sys.modules])"
    assert run(code).strip() == "[]"


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ("import convcore", 0.040),
        # The first operation loads the native library and the functions on arrays.
        ("import convcore; convcore.conv2d", 0.060),
    ],
)
def test_importing_costs_little_beyond_numpy(what: str, seconds: float) -> None:
    # Seconds of this process's CPU, and the least of several runs: what other programs do does not count.
    code = f"import numpy, time; t = time.process_time(); {what}; print(time.process_time() - t)"
    run(code)  # writes the byte code
    assert min(float(run(code)) for _ in range(7)) < seconds


def test_names() -> None:
    assert set(ops.__all__) <= set(dir(cc))
    assert {"Model", "load_model", "set_num_threads", "get_num_threads", "show_config", "get_include"} <= set(
        dir(cc)
    )
    for name in ops.__all__:
        assert getattr(cc, name) is getattr(ops, name)
        assert getattr(cc, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'conv4d'"):
        cc.conv4d  # noqa: B018


def test_every_operation_has_an_example() -> None:
    for name in ops.__all__:
        assert ">>> " in getattr(ops, name).__doc__, name


def test_version_is_the_project_s() -> None:
    project = Path(cc.__file__).resolve().parents[2] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("installed without the source tree")
    assert cc.__version__ == tomllib.loads(project.read_text())["project"]["version"]


def test_get_include_holds_the_header() -> None:
    assert re.search(r"#define CC_ABI_VERSION \d+", Path(cc.get_include(), "convcore.h").read_text())


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    facts = cc.show_config("dicts")
    assert facts["instruction_set"] in facts["instruction_sets"]
    assert facts["instruction_set_reason"].startswith(("the best", "CONVCORE_ISA="))
    assert facts["threads"] == cc.get_num_threads()
    assert re.fullmatch(r"\w+ \d+\.\d+(\.\d+)*|unknown", facts["build"]["compiler"])
    assert "-ffp-contract=off" in facts["build"]["flags of kernels"]
    assert {f"flags of {isa}" for isa in facts["instruction_sets"]} <= set(facts["build"])
    assert all(size > 0 for size in facts["cpu_caches"].values())
    cc.show_config()
    printed = capsys.readouterr().out
    assert all(name.replace("_", " ") in printed for name in facts if name not in ("packages", "build"))
    assert facts["build"]["compiler"] in printed
    assert "numpy" in facts["packages"] and "numpy" in printed
    with pytest.raises(ArgumentError, match="mode"):
        cc.show_config("yaml")  # type: ignore[call-overload]


def test_show_config_says_why() -> None:
    code = (
        "import convcore as cc; c = cc.show_config('dicts');"
        "print(c['instruction_set_reason'], c['threads_origin'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CONVCORE_", "OMP_"))}

    def said(**variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment | variables,
        )
        return done.stdout.strip()

    assert said(CONVCORE_ISA="scalar", CONVCORE_NUM_THREADS="3").startswith(
        "CONVCORE_ISA=scalar; the best here is "
    )
    assert said(CONVCORE_NUM_THREADS="3", OMP_NUM_THREADS="2").endswith(" CONVCORE_NUM_THREADS")
    assert said(OMP_NUM_THREADS="2").endswith(" OMP_NUM_THREADS")
    assert said().split()[-1] in ("cpus", "affinity", "container")
    with cc.num_threads(2):
        assert cc.show_config("dicts")["threads_origin"] == "num_threads"
