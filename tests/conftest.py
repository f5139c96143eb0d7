"""Fixtures that every test file may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Kernels for the GPU run in Numba's simulator, unless the tests are asked to use a real one. Numba reads this
# when it is imported.
if os.environ.get("CONVCORE_TEST_GPU") != "1":
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
# It would warn of every small grid on a GPU, and warnings are errors here; small arrays are what is tested.
os.environ["NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS"] = "0"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real inputs and trained models named by CONVCORE_TEST_DATA."""
    value = os.environ.get("CONVCORE_TEST_DATA")
    if not value:
        pytest.skip("CONVCORE_TEST_DATA is not set: no real inputs and models to test with")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"CONVCORE_TEST_DATA names {path}, which is no folder")
    return path


@pytest.fixture(scope="session")
def cuda_compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A :class:`cuda_compile.Compiler`: compiles kernels without a GPU."""
    from .cuda_compile import Compiler, NotAvailable

    try:
        compiler = Compiler(tmp_path_factory.mktemp("cuda"))
    except NotAvailable as reason:
        pytest.skip(f"kernels cannot be compiled here: {reason}")
    yield compiler
    compiler.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A :class:`browser.Browser`: opens pages from the file system, without a network.

    Not for the whole session: while Playwright is started, no test can start an event loop of its own.
    """
    from .browser import Browser, NotAvailable

    try:
        opened = Browser()
    except NotAvailable as reason:
        pytest.skip(f"no page can be opened here: {reason}")
    yield opened
    opened.close()
