"""Type checkers know every public name, and what comes out of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import convcore as cc

USER_CODE = Path(__file__).parent / "typing" / "user_code.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("typing")


def check(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy as a user does: strict, with settings of its own, on the installed package."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    options = ["--strict", "--config-file", "", "--cache-dir", "cache"]
    command = [sys.executable, "-m", "mypy", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(cc.__file__).parent / "py.typed").is_file()


def test_user_code_has_every_public_name() -> None:
    used = set(re.findall(r"\bcc\.(\w+)", USER_CODE.read_text()))
    assert used == set(dir(cc))


def test_user_code_passes(folder: Path) -> None:
    done = check(USER_CODE, folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_are_found(folder: Path) -> None:
    """A check that accepts anything would have passed the user's code, too."""
    wrong = {
        "cc.relu()": "Missing positional argument",
        "cc.conv2d(1, 2, 3, 4)": "Too many positional arguments",
        "cc.relu(1, nope=2)": "Unexpected keyword argument",
        "cc.relu(1, num_threads='2')": "incompatible type",
        "cc.conv2d(1, 2, padding=1.5)": "incompatible type",
        "cc.prepare_conv2d(1)(2, 3, 4)": "Too many positional arguments",
        "cc.relu(1).no_such_method": "no attribute",
        "cc.no_such_name": "Module has no attribute",
    }
    path = folder / "wrong.py"
    path.write_text("import convcore as cc\n" + "".join(f"{line}\n" for line in wrong))
    done = check(path, folder)
    found = {int(line): text for line, text in re.findall(r"wrong\.py:(\d+): error: (.*)", done.stdout)}
    for number, (line, message) in enumerate(wrong.items(), start=2):
        assert message in found.get(number, ""), f"{line}\n{done.stdout}"
