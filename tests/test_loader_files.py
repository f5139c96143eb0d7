"""Files that are unusual but right, and what is said of files that are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convcore.engine import load_model
from convcore.errors import ModelFormatError, WeightsError
from convcore.loader import load_graph
from convcore.loader.outline import read_outline

from .judges import import_keras
from .loader_files import layer, write_model


def test_a_folder_that_is_no_model_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("", ".", tmp_path):
        with pytest.raises(ModelFormatError, match="is a folder, not a model"):
            load_model(path)
        with pytest.raises(ModelFormatError, match="is a folder, not a model"):
            read_outline(path)


def test_an_empty_weights_file_fits_a_model_without_weights(tmp_path: Path) -> None:
    keras = import_keras()
    network = keras.Sequential([keras.layers.Input((8,)), keras.layers.LeakyReLU(negative_slope=0.25)])
    network.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "m.json").write_text(network.to_json(), encoding="utf-8")
    for path, options in (
        ("m.json", {"weights": tmp_path / "m.weights.h5"}),
        ("m.json", {}),
        ("m.weights.h5", {"architecture": tmp_path / "m.json"}),
        ("m.weights.h5", {}),
    ):
        model = load_model(tmp_path / path, **options)
        assert np.array_equal(model(np.full((1, 8), -4, np.float32)), np.full((1, 8), -1, np.float32))


def test_an_empty_weights_file_does_not_fit_others(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py, which writes the test's files, is not installed")
    h5py.File(tmp_path / "m.h5", "w").close()
    inner = [layer("Dense", "dense", units=2, batch_input_shape=[None, 3])]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": inner}}
    (tmp_path / "m.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match="holds no weights of Keras"):
        load_graph(tmp_path / "m.json")


@pytest.mark.parametrize("name", ["..", "."])
def test_a_layer_named_like_a_folder(tmp_path: Path, name: str) -> None:
    keras = import_keras()
    network = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(2, name=name)])
    network.save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").verify().ok
    if name == "..":  # h5py itself cannot write a group called "."
        network.save(tmp_path / "m.h5")
        with pytest.raises(WeightsError, match=r"layer named '\.\.'"):
            load_model(tmp_path / "m.h5")


def test_a_slope_in_a_list_of_one(tmp_path: Path) -> None:
    inner = [layer("LeakyReLU", "leaky", alpha=[0.25], batch_input_shape=[None, 3])]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": inner}}
    model = load_model(write_model(tmp_path / "m.h5", config, [], keras_version="2.2.4"))
    assert np.array_equal(model(np.full((1, 3), -4, np.float32)), np.full((1, 3), -1, np.float32))
