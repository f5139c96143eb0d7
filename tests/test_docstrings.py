"""The examples in the docstrings are true, and every public operation has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

import convcore as cc
from convcore import bench, inputs, loader, medical

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(cc.__path__, "convcore.") if m.name != "convcore.__main__"
)
#: Modules whose examples need more than the base installation.
NEEDS = {
    "convcore.bench.chart": "matplotlib",
    "convcore.cuda": "numba_cuda",
    "convcore.engine": "cv2",
    "convcore.inputs.pictures": "cv2",
    "convcore.medical.overlay": "cv2",
    "convcore.medical.phantom_dicom": "pydicom",
    "convcore.medical.results": "pydicom",
    "convcore.medical.series": "pydicom",
    "convcore.medical.volume": "pydicom",
    "convcore.numba_api": "numba",
    "convcore.scipy_api": "scipy",
    "convcore.run.cuda": "numba_cuda",
    "convcore.writers": "cv2",
}
#: Compiled functions, and classes that are plain data, need none; tests/test_threads.py has the former.
PUBLIC = [
    f"{room.__name__}.{name}"
    for room in (cc, bench, inputs, loader, medical)
    for name in (dir(cc) if room is cc else room.__all__)
    if isinstance(inspect.unwrap(getattr(room, name)), FunctionType)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)  # an example that writes a file writes it there
    failed, _ = doctest.testmod(importlib.import_module(name), extraglobs={"np": np, "cc": cc})
    assert failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_have_an_example(name: str) -> None:
    room, _, function = name.rpartition(".")
    tests = doctest.DocTestFinder(recurse=False).find(getattr(importlib.import_module(room), function), name)
    assert any(test.examples for test in tests)
