"""The examples in the docstrings of the reference and of the shape arithmetic run as printed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from convcore import reference

NAMES = [f"convcore.reference.{m.name}" for m in pkgutil.iter_modules(reference.__path__)]


@pytest.mark.parametrize("name", ["convcore.shapes", *NAMES])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
