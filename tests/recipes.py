"""The scripts of examples/ as modules."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@contextmanager
def recipe(name: str) -> Iterator[ModuleType]:
    """The script `name` as a module. What it sets in the environment is taken back out."""
    path = EXAMPLES / f"{name}.py"
    if not path.exists():
        pytest.skip("the examples are not beside the tests (an installed copy)")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = dict(os.environ)
    sys.modules[name] = module  # dataclasses looks the module up by name
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[name]
        os.environ.clear()
        os.environ.update(before)
