"""The outside judges, imported so that a test skips with a reason where one is not installed."""

from __future__ import annotations

import os
from types import ModuleType

import pytest


def import_keras() -> ModuleType:
    """Return Keras on its TensorFlow backend, or skip."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    pytest.importorskip("tensorflow", reason="TensorFlow, the backend of the judge, is not installed")
    keras: ModuleType = pytest.importorskip("keras", reason="Keras, the judge, is not installed")
    if keras.backend.backend() != "tensorflow":
        pytest.skip(f"Keras runs on {keras.backend.backend()}; TensorFlow is the judge")
    return keras
