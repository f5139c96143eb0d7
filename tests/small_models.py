"""Small models as Keras 2 writes them to HDF5, made with h5py alone: tests of the commands need no Keras."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

#: Class name, configuration, and weights by their names in the file.
LayerSpec = tuple[str, dict[str, Any], dict[str, NDArray[np.float32]]]


def write_sequential(
    path: Path, shape: Sequence[int | None], layers: Sequence[LayerSpec], name: str = "small"
) -> Path:
    """Write a Sequential model with an input of `shape` (no batch axis) and return `path`."""
    configs: list[dict[str, Any]] = [
        {
            "class_name": "InputLayer",
            "config": {"name": "x", "batch_input_shape": [None, *shape], "dtype": "float32"},
        }
    ]
    names = ["x"]
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.create_group("x").attrs["weight_names"] = np.array([], "S1")
        for index, (class_name, config, weights) in enumerate(layers):
            layer = f"{class_name.lower()}_{index}"
            configs.append({"class_name": class_name, "config": {"name": layer, **config}})
            names.append(layer)
            stored = group.create_group(layer)
            stored.attrs["weight_names"] = np.array([f"{layer}/{w}:0".encode() for w in weights])
            for weight, values in weights.items():
                stored.create_dataset(f"{layer}/{weight}:0", data=values)
        group.attrs["layer_names"] = np.array([n.encode() for n in names])
        group.attrs["keras_version"] = file.attrs["keras_version"] = b"2.4.0"
        group.attrs["backend"] = file.attrs["backend"] = b"tensorflow"
        config_text = json.dumps({"class_name": "Sequential", "config": {"name": name, "layers": configs}})
        file.attrs["model_config"] = config_text.encode()
    return path


def dense(kernel: Any, bias: Any, activation: str) -> LayerSpec:
    """A Dense layer; `kernel` is (inputs, units)."""
    kernel, bias = np.asarray(kernel, np.float32), np.asarray(bias, np.float32)
    config = {"units": len(bias), "activation": activation, "use_bias": True}
    return "Dense", config, {"kernel": kernel, "bias": bias}


def flatten() -> LayerSpec:
    """A Flatten layer."""
    return "Flatten", {"data_format": "channels_last"}, {}
