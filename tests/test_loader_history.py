"""What older versions of Keras did otherwise: layouts, orders, names and meanings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convcore.errors import ConvcoreWarning, UnsafeModelError, UnsupportedLayerError
from convcore.loader import load_graph
from convcore.reference import evaluate

from .judges import import_keras
from .loader_files import functional, layer, node, small_model, write_model
from .loader_judge import assert_agrees, inputs_for, predict, seeded_weights

Array = NDArray[Any]


@pytest.fixture
def judge() -> Any:
    """A small network in Keras 3, channels last, in float64, with seeded weights."""
    keras = import_keras()
    k = keras.layers
    start = keras.Input((7, 6, 2), dtype="float64")
    stack = [
        k.Conv2D(4, 3, padding="same", activation="relu", dtype="float64"),
        k.BatchNormalization(dtype="float64"),
        k.MaxPooling2D(2, dtype="float64"),
        k.Flatten(dtype="float64"),
        k.Dense(3, activation="softmax", dtype="float64"),
    ]
    value = start
    for item in stack:
        value = item(value)
    model = keras.Model(start, value)
    seeded_weights(model)
    return model


def _weights(judge: Any) -> list[Array]:
    return [np.asarray(w, np.float32) for w in judge.get_weights()]


def _channels_first_rows(dense: Array) -> Array:
    """Rows for features in the order (channel, row, column) in place of (row, column, channel)."""
    return dense.reshape(3, 3, 4, 3).transpose(2, 0, 1, 3).reshape(36, 3)


def _keras1(ordering: str, weights: list[Array]) -> tuple[dict[str, Any], list[Any]]:
    first = ordering == "th"
    shape = [None, 2, 7, 6] if first else [None, 7, 6, 2]
    config = {
        "class_name": "Sequential",
        "config": [
            layer(
                "Convolution2D", "convolution2d_1", nb_filter=4, nb_row=3, nb_col=3, border_mode="same",
                subsample=[1, 1], dim_ordering=ordering, activation="relu", bias=True,
                batch_input_shape=shape,
            ),
            layer("BatchNormalization", "batchnormalization_1", mode=0, axis=1 if first else -1),
            layer("MaxPooling2D", "maxpooling2d_1", pool_size=[2, 2], strides=[2, 2], border_mode="valid",
                  dim_ordering=ordering),
            layer("Dropout", "dropout_1", p=0.5),
            layer("Flatten", "flatten_1"),
            layer("Dense", "dense_1", output_dim=3, activation="softmax", bias=True, input_dim=36),
        ],
    }  # fmt: skip
    kernel, bias, gamma, beta, mean, variance, dense, dense_bias = weights
    if first:
        kernel, dense = kernel.transpose(3, 2, 0, 1), _channels_first_rows(dense)
    names = ("gamma", "beta", "running_mean", "running_std")
    norm = zip(names, (gamma, beta, mean, variance), strict=True)
    stored = [
        ("convolution2d_1", [("convolution2d_1_W", kernel), ("convolution2d_1_b", bias)]),
        ("batchnormalization_1", [(f"batchnormalization_1_{n}", w) for n, w in norm]),
        ("maxpooling2d_1", []),
        ("dropout_1", []),
        ("flatten_1", []),
        ("dense_1", [("dense_1_W", dense), ("dense_1_b", dense_bias)]),
    ]
    return config, stored


def test_keras_1_in_tensorflow_order(judge: Any, tmp_path: Path) -> None:
    config, stored = _keras1("tf", _weights(judge))
    graph = load_graph(write_model(tmp_path / "m.h5", config, stored, keras_version="1.2.1"))
    inputs = inputs_for([(7, 6, 2)])
    assert_agrees(graph, inputs, predict(judge, inputs))
    assert graph.parameters == judge.count_params()


def test_keras_1_in_theano_order(judge: Any, tmp_path: Path) -> None:
    config, stored = _keras1("th", _weights(judge))
    path = write_model(tmp_path / "m.h5", config, stored, keras_version="1.2.0")
    inputs = inputs_for([(7, 6, 2)])
    with pytest.warns(ConvcoreWarning, match="kernel_flip"):
        graph = load_graph(path)
    assert_agrees(graph, [np.moveaxis(inputs[0], -1, 1)], predict(judge, inputs))
    assert graph.source.notes


def test_theano_kernels_are_turned_where_the_file_says_so(judge: Any, tmp_path: Path) -> None:
    weights = _weights(judge)
    config, stored = _keras1("th", [weights[0][::-1, ::-1], *weights[1:]])
    path = write_model(tmp_path / "m.h5", config, stored, keras_version="1.2.0", backend="theano")
    inputs = inputs_for([(7, 6, 2)])
    moved = [np.moveaxis(inputs[0], -1, 1)]
    assert_agrees(load_graph(path), moved, predict(judge, inputs))
    unsaid = write_model(tmp_path / "unsaid.h5", config, stored, keras_version="1.2.0")
    assert_agrees(load_graph(unsaid, kernel_flip=True), moved, predict(judge, inputs))
    as_stored = load_graph(path, kernel_flip=False)
    np.testing.assert_array_equal(
        as_stored.node("convolution2d_1.conv").weights["kernel"], weights[0][::-1, ::-1]
    )


def test_channels_first_flatten_before_and_since_keras_2_2(tmp_path: Path) -> None:
    inputs = inputs_for([(2, 3, 4)])
    for version, setting, order in (("2.1.6", {}, inputs[0]), (
        "2.2.0", {"data_format": "channels_first"}, np.moveaxis(inputs[0], 1, -1)
    )):  # fmt: skip
        config = {
            "class_name": "Sequential",
            "config": [layer("Flatten", "flatten_1", batch_input_shape=[None, 2, 3, 4], **setting)],
        }
        graph = load_graph(
            write_model(tmp_path / f"{version}.h5", config, [("flatten_1", [])], keras_version=version)
        )
        values = evaluate(graph, {graph.inputs[0]: inputs[0]})
        np.testing.assert_array_equal(values[graph.outputs[0]], order.reshape(2, -1))


def _one_layer(path: Path, version: str, backend: str, item: dict[str, Any], shape: list[int]) -> Any:
    item["config"]["batch_input_shape"] = [None, *shape]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [item]}}
    return load_graph(
        write_model(path, config, [(item["config"]["name"], [])], keras_version=version, backend=backend)
    )


def _run(graph: Any, x: Array) -> Array:
    return evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]


def test_theano_same_max_pooling_is_padded_on_the_left(tmp_path: Path) -> None:
    x = np.array([1.0, 2, 3, 4]).reshape(1, 4, 1)
    item = layer("MaxPooling1D", "p", pool_size=2, strides=2, padding="same")
    for backend, expected in (("theano", [1, 3]), ("tensorflow", [2, 4])):
        graph = _one_layer(tmp_path / f"{backend}.h5", "2.0.4", backend, item, [4, 1])
        np.testing.assert_array_equal(_run(graph, x).ravel(), expected)


def test_theano_same_average_pooling_counted_its_zeros_until_2_1_5(tmp_path: Path) -> None:
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    item = layer("AveragePooling2D", "p", pool_size=[2, 2], strides=[2, 2], padding="same")
    # Theano pads on the left: windows hold 1; 2 3; 4 7; 5 6 8 9.
    whole, zeros = [1.0, 2.5, 5.5, 7.0], [0.25, 1.25, 2.75, 7.0]
    for version, expected in (("2.0.0", zeros), ("2.1.4", zeros), ("2.1.5", whole), ("1.2.2", whole)):
        graph = _one_layer(tmp_path / f"{version}.h5", version, "theano", item, [3, 3, 1])
        np.testing.assert_array_equal(_run(graph, x).ravel(), expected)


@pytest.mark.parametrize(
    ("version", "slope"), [("1.2.2", 0.2), ("2.4.0", 0.2), ("3.2.1", 0.2), ("3.3.0", 1 / 6)]
)
def test_hard_sigmoid_by_version(tmp_path: Path, version: str, slope: float) -> None:
    item = layer("Activation", "a", activation="hard_sigmoid")
    graph = _one_layer(tmp_path / "m.h5", version, "tensorflow", item, [2])
    x = np.array([[2.5, -1.0]])
    np.testing.assert_allclose(_run(graph, x), np.clip(slope * x + 0.5, 0, 1), rtol=2.0**-52)


@pytest.mark.parametrize("layout", ["k1io", "oik1"])
def test_keras_1_kernels_of_one_dimension(tmp_path: Path, layout: str) -> None:
    kernel = np.random.default_rng(0).random((3, 2, 4), np.float32)
    stored = kernel[:, None] if layout == "k1io" else kernel.transpose(2, 1, 0)[..., None]
    config = {
        "class_name": "Sequential",
        "config": [
            layer("Convolution1D", "c", nb_filter=4, filter_length=3, subsample_length=2, border_mode="valid",
                  bias=False, input_dim=2, input_length=9),
        ],
    }  # fmt: skip
    path = write_model(tmp_path / "m.h5", config, [("c", [("c_W", stored)])], keras_version="1.1.0")
    graph = load_graph(path)
    assert graph.node("c").shape == (4, 4)
    np.testing.assert_array_equal(graph.node("c").weights["kernel"], kernel)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("concat", [1, 2, 3, 5]), ("sum", [4, 7]), ("mul", [3, 10]), ("ave", [2, 3.5]), ("max", [3, 5])],
)
def test_keras_1_merge(tmp_path: Path, mode: str, expected: list[float]) -> None:
    layers = [
        node("InputLayer", "a", [], batch_input_shape=[None, 2], input_dtype="float32"),
        node("InputLayer", "b", [], batch_input_shape=[None, 2], input_dtype="float32"),
        node("Merge", "m", [[["a", 0, 0], ["b", 0, 0]]], mode=mode, concat_axis=-1, dot_axes=-1),
    ]
    config = functional(layers, ["a", "b"], ["m"])
    graph = load_graph(write_model(tmp_path / "m.h5", config, [], keras_version="1.0.5"))
    values = evaluate(graph, {"a": np.array([[1.0, 2]]), "b": np.array([[3.0, 5]])})
    np.testing.assert_array_equal(values["m"], [expected])


def test_keras_1_merge_of_a_mode_that_is_not_there(tmp_path: Path) -> None:
    layers = [
        node("InputLayer", "a", [], batch_input_shape=[None, 2]),
        node("Merge", "m", [[["a", 0, 0], ["a", 0, 0]]], mode="dot", dot_axes=-1),
    ]
    path = write_model(tmp_path / "m.h5", functional(layers, ["a"], ["m"]), [], keras_version="1.0.5")
    with pytest.raises(UnsupportedLayerError, match=r"'m'.*mode.*dot"):
        load_graph(path)


@pytest.mark.parametrize(("mode", "fine"), [(0, True), (2, True), (1, False)])
def test_keras_1_modes_of_batch_normalisation(tmp_path: Path, mode: int, fine: bool) -> None:
    config = {
        "class_name": "Sequential",
        "config": [layer("BatchNormalization", "n", mode=mode, axis=-1, batch_input_shape=[None, 2])],
    }
    names = ("gamma", "beta", "running_mean", "running_std")
    stored = [("n", [(f"n_{name}", np.ones(2, np.float32)) for name in names])]
    path = write_model(tmp_path / "m.h5", config, stored, keras_version="1.2.2")
    if fine:
        assert load_graph(path).parameters == 8
    else:
        with pytest.raises(UnsupportedLayerError, match=r"'n'.*mode"):
            load_graph(path)


def test_nested_model_whose_calls_keras_2_counted_from_one(tmp_path: Path) -> None:
    inner = functional(
        [
            node("InputLayer", "i", [], batch_input_shape=[None, 3]),
            node("Dense", "frozen", [[["i", 0, 0, {}]]], units=2, trainable=False),
            node("Dense", "free", [[["frozen", 0, 0, {}]]], units=2),
        ],
        ["i"],
        ["free"],
    )
    outer = functional(
        [
            node("InputLayer", "a", [], batch_input_shape=[None, 3]),
            {**inner, "name": "inner", "inbound_nodes": [[["a", 0, 0, {}]], [["a", 0, 0, {}]]]},
            node("Add", "add", [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]]),
        ],
        ["a"],
        ["add"],
    )
    outer["config"]["layers"][1]["config"]["name"] = "inner"
    random = np.random.default_rng(0)
    free, frozen = random.random((2, 2), np.float32), random.random((3, 2), np.float32)
    zeros = np.zeros(2, np.float32)
    # A nested model's weights are listed with the frozen ones last; the names here say nothing.
    stored = [("inner", [("w0:0", free), ("w1:0", zeros), ("w2:0", frozen), ("w3:0", zeros)])]
    graph = load_graph(
        write_model(tmp_path / "m.h5", outer, stored, keras_version="2.2.4", backend="tensorflow")
    )
    x = random.random((4, 3))
    np.testing.assert_allclose(
        evaluate(graph, {"a": x})["add"], 2 * x @ frozen.astype(float) @ free, rtol=1e-14
    )
    assert graph.parameters == 14


def test_names_of_layers_in_several_attributes(tmp_path: Path) -> None:
    whole = load_graph(small_model(tmp_path / "whole.h5"))
    import h5py

    with h5py.File(tmp_path / "whole.h5", "r+") as file:
        group = file["model_weights"]
        names = group.attrs["layer_names"]
        del group.attrs["layer_names"]
        group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:2], names[2:]
    split = load_graph(tmp_path / "whole.h5")
    for node_a, node_b in zip(whole.nodes, split.nodes, strict=True):
        for name in node_a.weights:
            np.testing.assert_array_equal(node_a.weights[name], node_b.weights[name])


def test_compressed_weights(tmp_path: Path) -> None:
    import h5py

    plain = load_graph(small_model(tmp_path / "plain.h5"))
    small_model(tmp_path / "packed.h5")
    with h5py.File(tmp_path / "packed.h5", "r+") as file:
        group = file["model_weights/dense/dense"]
        data = group["kernel:0"][()]
        del group["kernel:0"]
        group.create_dataset(
            "kernel:0", data=data, chunks=(20, 2), compression="gzip", shuffle=True, fletcher32=True
        )
    packed = load_graph(tmp_path / "packed.h5")
    np.testing.assert_array_equal(
        plain.node("dense.dense").weights["kernel"], packed.node("dense.dense").weights["kernel"]
    )


def _vgg_lambda(path: Path, shape: list[int], **config: Any) -> Path:
    item = layer("Lambda", "lambda_1", batch_input_shape=[None, *shape], **config)
    return write_model(
        path, {"class_name": "Sequential", "config": [item]}, [("lambda_1", [])], keras_version="1.2.2"
    )


def test_vgg_preprocessing_is_known_by_its_name(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 5, 4)).astype(np.float32).astype(np.float64)
    mean = np.array([123.68, 116.779, 103.939], np.float32).astype(np.float64)
    settings: dict[str, Any] = {"function": "vgg_preprocess", "function_type": "function", "arguments": {}}
    graph = load_graph(_vgg_lambda(tmp_path / "first.h5", [3, 5, 4], **settings))
    np.testing.assert_array_equal(_run(graph, x), (x - mean.reshape(3, 1, 1))[:, ::-1])
    graph = load_graph(_vgg_lambda(tmp_path / "last.h5", [5, 4, 3], **settings))
    last = np.moveaxis(x, 1, -1)
    np.testing.assert_array_equal(_run(graph, last), (last - mean)[..., ::-1])


@pytest.mark.parametrize(
    ("shape", "config"),
    [
        ([3, 5, 4], {"function": ["\u00e3\u0000", None, None], "function_type": "lambda"}),
        ([3, 5, 4], {"function": ["vgg_preprocess", None, None], "function_type": "lambda"}),
        ([3, 5, 4], {"function": "vgg_preprocess", "function_type": "lambda"}),
        ([3, 5, 4], {"function": "preprocess", "function_type": "function"}),
        ([3, 5, 4], {"function": "vgg_preprocess", "function_type": "function", "arguments": {"a": 1}}),
        ([4, 5, 4], {"function": "vgg_preprocess", "function_type": "function"}),
        ([3, 5, 3], {"function": "vgg_preprocess", "function_type": "function"}),
    ],
)
def test_every_other_lambda_is_refused(tmp_path: Path, shape: list[int], config: dict[str, Any]) -> None:
    with pytest.raises(UnsafeModelError, match=r"m\.h5: layer 'lambda_1' \(Lambda\).*Replace it"):
        load_graph(_vgg_lambda(tmp_path / "m.h5", shape, **config))
