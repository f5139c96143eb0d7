"""Small model files in the layouts of Keras 1 and 2, written with h5py as those versions wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Sequence[tuple[str, Sequence[tuple[str, Array]]]]


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    """One layer's configuration."""
    return {"class_name": class_name, "config": {"name": name, **config}}


def node(class_name: str, name: str, inputs: Sequence[Any], **config: Any) -> dict[str, Any]:
    """One layer of a functional model, in Keras 1 and 2's form: `inputs` has one list per call."""
    return {**layer(class_name, name, **config), "name": name, "inbound_nodes": list(inputs)}


def functional(layers: Sequence[Any], inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    """A functional model's configuration."""
    ends = {"input_layers": [[n, 0, 0] for n in inputs], "output_layers": [[n, 0, 0] for n in outputs]}
    return {"class_name": "Model", "config": {"name": "model_1", "layers": list(layers), **ends}}


def write_weights(group: Any, weights: Weights, *, parts: int = 1) -> None:
    """Write layers and their arrays; the lists of names in `parts` attributes, as for long lists."""
    _names(group, "layer_names", [name for name, _ in weights], parts)
    for name, arrays in weights:
        inner = group.create_group(name)
        _names(inner, "weight_names", [weight for weight, _ in arrays], 1)
        for weight, array in arrays:
            inner.create_dataset(weight, data=array)


def _names(group: Any, name: str, values: Sequence[str], parts: int) -> None:
    encoded = np.array([v.encode() for v in values], "S64") if values else np.zeros(0)
    if parts == 1:
        group.attrs[name] = encoded
    else:
        for index, piece in enumerate(np.array_split(encoded, parts)):
            group.attrs[f"{name}{index}"] = piece


def write_model(
    path: Path,
    config: Mapping[str, Any],
    weights: Weights,
    *,
    keras_version: str | None = None,
    backend: str | None = None,
    parts: int = 1,
) -> Path:
    """Write a whole model. Keras 1 puts its version at the root, Keras 2 beside the weights too."""
    h5py = pytest.importorskip("h5py", reason="h5py, which writes the test's files, is not installed")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        write_weights(group, weights, parts=parts)
        if keras_version:
            file.attrs["keras_version"] = keras_version.encode()
            if not keras_version.startswith("1"):
                group.attrs["keras_version"] = keras_version.encode()
        if backend:
            file.attrs["backend"] = backend.encode()
            group.attrs["backend"] = backend.encode()
    return path


def small_model(path: Path, **changes: Any) -> Path:
    """A Keras 2.3 Sequential with a convolution, a normalisation and a Dense; `changes` replace parts.

    ``config`` and ``weights`` take a function from the right value to a wrong one.
    """
    random = np.random.default_rng(3)

    def values(*shape: int) -> Array:
        return random.uniform(0.5, 1.5, shape).astype(np.float32)

    config = {
        "class_name": "Sequential",
        "config": {
            "name": "sequential_1",
            "layers": [
                layer("Conv2D", "conv", filters=3, kernel_size=[3, 3], batch_input_shape=[None, 6, 6, 2]),
                layer("BatchNormalization", "norm", axis=-1),
                layer("Flatten", "flat"),
                layer("Dense", "dense", units=2, activation="softmax"),
            ],
        },
    }
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = [
        ("conv", [("conv/kernel:0", values(3, 3, 2, 3)), ("conv/bias:0", values(3))]),
        ("norm", [(f"norm/{name}:0", values(3)) for name in names]),
        ("flat", []),
        ("dense", [("dense/kernel:0", values(48, 2)), ("dense/bias:0", values(2))]),
    ]
    config = changes.get("config", lambda c: c)(config)
    weights = changes.get("weights", lambda w: w)(weights)
    return write_model(path, config, weights, keras_version="2.3.1", backend="tensorflow")
