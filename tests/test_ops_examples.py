"""The examples in the docstrings of the public operations are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

from convcore import ops

MODULES = ["convcore.config", *(f"convcore.ops.{m.name}" for m in pkgutil.iter_modules(ops.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"np": np})
    assert failed == 0
