"""The examples in the docstrings are true, and every public operation has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import convcore as cc

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(cc.__path__, "convcore.") if m.name != "convcore.__main__"
)
#: Modules whose examples need more than the base installation.
NEEDS = {"convcore.medical.overlay": "cv2", "convcore.medical.phantom_dicom": "pydicom"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)  # an example that writes a file writes it there
    failed, _ = doctest.testmod(importlib.import_module(name), extraglobs={"np": np, "cc": cc})
    assert failed == 0


@pytest.mark.parametrize("name", [name for name in dir(cc) if callable(getattr(cc, name))])
def test_public_functions_have_an_example(name: str) -> None:
    tests = doctest.DocTestFinder(recurse=False).find(getattr(cc, name), name)
    assert any(test.examples for test in tests)
