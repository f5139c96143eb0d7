"""A model's ends as Keras has them: keys, types of inputs, and the precision that it computes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.engine import Model, load_model
from convcore.errors import ArgumentError, ConvcoreWarning, UnsupportedLayerError

from .judges import import_keras
from .loader_files import functional, node, write_model

#: Keras dislikes keys that are not the names of the layers; models with such keys are what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:keras")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keras's model of two keyed inputs and two keyed outputs; neither is sorted by key."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    first = keras.Input((4,), name="first")
    second = keras.Input((4,), name="second")
    joined = keras.layers.Concatenate()([first, second])
    network = keras.Model(
        {"wide": first, "narrow": second},
        {"zeta": keras.layers.Dense(3)(joined), "alpha": keras.layers.Dense(2)(first)},
    )
    folder = tmp_path_factory.mktemp("keyed")
    for suffix in (".keras", ".h5"):
        network.save(folder / f"m{suffix}")
    return network, folder


@pytest.fixture(params=[".keras", ".h5"])
def pair(keyed: Any, request: pytest.FixtureRequest) -> tuple[Any, Model]:
    network, folder = keyed
    return network, load_model(folder / f"m{request.param}")


def _rows() -> dict[str, np.ndarray]:
    random = np.random.default_rng(2)
    return {key: random.standard_normal((5, 4), np.float32) for key in ("wide", "narrow")}


def test_keyed_outputs_keep_keys_and_order(pair: tuple[Any, Model]) -> None:
    network, model = pair
    x = _rows()
    expected = network.predict(x, verbose=0)
    assert set(model.input_names) == {"wide", "narrow"}
    for got in (model.predict(x), model(x), model.predict([x[n] for n in model.input_names])):
        assert list(got) == list(expected) == ["zeta", "alpha"]
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, atol=1e-5)
    assert model.output_names == ("zeta", "alpha")
    assert model.output_shapes == ((3,), (2,))


def test_keyed_inputs_are_taken_by_key_alone(pair: tuple[Any, Model]) -> None:
    rows = np.zeros((1, 4), np.float32)
    with pytest.raises(ArgumentError, match="by name"):
        pair[1].predict({"first": rows, "second": rows})


def test_verify_compares_by_key(pair: tuple[Any, Model]) -> None:
    _, model = pair
    result = model.verify()
    assert result.ok, str(result)
    assert [end.output for end in result.keras] == ["zeta", "alpha"]


def test_an_only_keyed_output_is_a_dict(tmp_path: Path) -> None:
    keras = import_keras()
    x = keras.Input((4,), name="x")
    network = keras.Model({"rows": x}, {"score": keras.layers.Dense(2)(x)})
    network.save(tmp_path / "m.keras")
    model = load_model(tmp_path / "m.keras")
    rows = np.ones((2, 4), np.float32)
    expected = network.predict({"rows": rows}, verbose=0)["score"]
    np.testing.assert_allclose(model.predict({"rows": rows})["score"], expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(rows)["score"], expected, atol=1e-5)
    assert model.verify().ok


def test_a_keyed_model_inside_another_is_called_as_in_keras(tmp_path: Path) -> None:
    keras = import_keras()
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    ends = {"zeta": keras.layers.Dense(3)(a), "alpha": keras.layers.Dense(3)(b)}
    inner = keras.Model({"wide": a, "narrow": b}, ends, name="inner")
    c, d = keras.Input((4,), name="c"), keras.Input((4,), name="d")
    made = inner({"wide": c, "narrow": d})
    network = keras.Model([c, d], keras.layers.Subtract()([made["zeta"], made["alpha"]]))
    network.save(tmp_path / "m.keras")
    result = load_model(tmp_path / "m.keras").verify()
    assert result.keras
    assert result.ok, str(result)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "bool"])
def test_verify_draws_whole_numbers_for_an_integer_input(tmp_path: Path, dtype: str) -> None:
    keras = import_keras()
    layers = keras.layers
    x = keras.Input((6, 6, 3), dtype=dtype)
    y = layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(x))
    keras.Model(x, layers.Flatten()(y)).save(tmp_path / "m.keras")
    result = load_model(tmp_path / "m.keras").verify()
    assert result.keras
    assert result.ok, str(result)
    assert result.keras[0].error < 1e-5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_said_and_judged_as_such(tmp_path: Path, policy: str) -> None:
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(3, dtype="float32"),
        ]
    )
    network.save(tmp_path / "m.keras")
    with pytest.warns(ConvcoreWarning, match=policy):
        model = load_model(tmp_path / "m.keras")
    assert model.graph.source.precision == policy.removeprefix("mixed_")
    result = model.verify()
    assert result.ok, str(result)
    assert result.keras[0].error > 2**-24  # the difference is Keras's own rounding
    assert policy.removeprefix("mixed_") in result.note


def test_quantized_models_are_refused(tmp_path: Path) -> None:
    keras = import_keras()
    network = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(3)])
    network.quantize("int8")
    for suffix in (".keras", ".h5"):
        network.save(tmp_path / f"m{suffix}")
        with pytest.raises(UnsupportedLayerError, match="quantized"):
            load_model(tmp_path / f"m{suffix}")


def test_what_keras_saves_as_training_is_inference(tmp_path: Path) -> None:
    """Keras 3 saves training=True for its preprocessing layers, and predict() overrules it."""
    keras = import_keras()
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    y = layers.RandomFlip()(layers.Resizing(5, 6)(x))
    y = layers.Dropout(0.5)(layers.Conv2D(4, 3)(y), training=True)
    keras.Model(x, layers.Flatten()(y)).save(tmp_path / "m.keras")
    result = load_model(tmp_path / "m.keras").verify()
    assert result.keras
    assert result.ok, str(result)


def test_keras_2_dropout_that_stays_on_is_refused(tmp_path: Path) -> None:
    layers = [
        node("InputLayer", "x", [], batch_input_shape=[None, 3]),
        node("Dropout", "drop", [[["x", 0, 0, {"training": True}]]], rate=0.5),
    ]
    path = write_model(tmp_path / "m.h5", functional(layers, ["x"], ["drop"]), [], keras_version="2.2.4")
    with pytest.raises(UnsupportedLayerError, match="called with training"):
        load_model(path)


def test_an_operation_is_not_the_layer_of_the_same_name(tmp_path: Path) -> None:
    """keras.ops.average is a mean along an axis; keras.layers.Average is one of several tensors."""
    keras = import_keras()
    ops = keras.ops
    x = keras.Input((4, 3))
    for operation in (lambda x: ops.average(x, axis=1), lambda x: ops.reshape(x, (-1, 12))):
        keras.Model(x, operation(x)).save(tmp_path / "m.keras")
        with pytest.raises(UnsupportedLayerError, match="an operation of keras"):
            load_model(tmp_path / "m.keras")
    y = ops.softmax(ops.concatenate([x + x, ops.maximum(x, x * x)], axis=1), axis=1)
    keras.Model(x, y).save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").verify().ok
