"""The spreadsheet network's recipe runs on digits made up here; what it once made loads and answers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import convcore as cc
from convcore import data, reference

from .recipes import recipe

HAS_KERAS = importlib.util.find_spec("keras") is not None
needs_keras = pytest.mark.skipif(not HAS_KERAS, reason="Keras (the test extra) is not installed")


@pytest.fixture(scope="module")
def spreadsheet() -> Iterator[ModuleType]:
    with recipe("train_spreadsheet") as module:
        yield module


def picture() -> np.ndarray:
    from convcore.inputs import read_picture

    pytest.importorskip("cv2", reason='pip install "convcore[app]"')
    return read_picture(data.path("spreadsheet.png"), channels=1)[None]


def test_the_shipped_network_knows_the_shipped_picture() -> None:
    model = cc.load_model(data.path("spreadsheet.keras"))
    x = picture()
    assert x.shape == (1, 8, 8, 1) and x.max() == 255
    p = model.predict(x)
    assert p.shape == (1, 10) and p[0].argmax() == 7 and p[0, 7] > 0.99
    assert abs(p.sum() - 1) <= 10 * np.finfo(np.float32).eps
    kinds = [layer.layer_class for layer in model.layers]
    assert kinds[1:] == ["Rescaling", "Conv2D", "Conv2D", "MaxPooling2D", "Flatten", "Dense"]
    assert sum(layer.parameters for layer in model.layers) == 558


def test_the_shipped_network_is_what_float64_says() -> None:
    """No layer's kernels were permuted or flipped: the file, computed by the reference."""
    model = cc.load_model(data.path("spreadsheet.keras"))
    assert model.verify(picture()).ok
    values = reference.evaluate(model.graph, {model.graph.inputs[0]: picture()})
    assert values[model.graph.outputs[0]][0].argmax() == 7


def test_the_shipped_network_knows_real_digits() -> None:
    """The scores of the README: its test part, which neither training nor choosing has seen."""
    datasets = pytest.importorskip("sklearn.datasets", reason="pip install scikit-learn")
    with recipe("train_spreadsheet") as module:
        if not HAS_KERAS:
            pytest.skip("the recipe needs Keras")
        x, y = module.read_digits()
        learn, choose, test = module.split(len(x))
    assert datasets.load_digits().images.max() == 16
    answers = cc.load_model(data.path("spreadsheet.keras")).predict(x).argmax(axis=1)
    right = answers == y
    assert [right[part].sum() for part in (learn, choose, test)] == [1079, 353, 335]


@needs_keras
def test_parts_do_not_overlap_and_keep_the_order(spreadsheet: ModuleType) -> None:
    rows = np.arange(1797)
    parts = [rows[part] for part in spreadsheet.split(1797)]
    assert np.array_equal(np.concatenate(parts), rows)
    assert [len(p) for p in parts] == [1079, 359, 359]


@needs_keras
def test_the_shipped_picture_is_the_recipes(spreadsheet: ModuleType) -> None:
    assert np.array_equal(picture()[0, :, :, 0], spreadsheet.as_pixels(spreadsheet.SEVEN))


@needs_keras
def test_training_chooses_by_the_validation_part(
    spreadsheet: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 10, 100)
    x = rng.uniform(0, 20, (100, 8, 8, 1)).astype(np.float32)
    x[np.arange(100), y % 8, y // 8] = 255
    monkeypatch.setattr(spreadsheet, "read_digits", lambda: (x, y))
    output, report = tmp_path / "s.keras", tmp_path / "r.json"
    words = ["-o", output, "--report", report, "--runs", "2", "--epochs", "2"]
    assert spreadsheet.main([*map(str, words)]) == 0
    written = json.loads(report.read_text())
    best = max(written["scores"], key=lambda score: score["validation"])
    assert written["saved"]["seed"] == best["seed"]
    right = cc.load_model(output).predict(x).argmax(axis=1) == y
    assert written["saved"]["test"] == right[spreadsheet.split(100)[2]].mean()
    assert str(tmp_path) not in report.read_text()
