"""Models that other people trained: all load and agree with Keras, or are refused for the right reason."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convcore.errors import ConvcoreWarning, ModelFormatError, UnsafeModelError, UnsupportedLayerError
from convcore.loader import Graph, load_graph, specialise
from convcore.reference import evaluate

from .judges import import_keras
from .tolerance import unit_roundoff

h5py = pytest.importorskip("h5py", reason="h5py, which reads the files for the judge, is not installed")
Array = NDArray[Any]

#: File -> parameters, as Keras counts them.
WHOLE = {
    "sonar/sonar_model_keras231.h5": 1_725,
    "models/dogscats/JeanXL_cats_vs_dogs.h5": 44_466,
    "models/dogscats/engineer0940_cats_vs_dogs.keras": 325_690,
    "models/lung/ct2d_vigneshannaraj_lungs.h5": 331_137,
    "models/lung/cxr_auriml_gan_generator_only_lung.hdf5": 272_237,
    "models/misc/cifar_autoencoder_harshit.keras": 76_035,
    "models/misc/fer2013_mini_XCEPTION.110-0.65.hdf5": 58_423,
    "models/misc/mlperftiny_resnet8_cifar10.h5": 78_666,
    "models/misc/unet_afiliot.h5": 116_753,
}
SLOW_SIZES = {(400, 400, 1), (256, 256, 1), (150, 150, 3)}


def _load(path: Path, **options: Any) -> Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvcoreWarning)
        return load_graph(path, **options)


def _float64(model: Any) -> Any:
    """The Keras model rebuilt to compute in float64, with the same weights."""
    config = json.loads(json.dumps(model.get_config()).replace('"float32"', '"float64"'))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras says about its own older settings
        double = type(model).from_config(config)
    if not double.built:
        double.build(model.input_shape)
    double.set_weights(model.get_weights())
    return double


def _assert_close(got: Array, expected: Array, nodes: int) -> None:
    """Both computed in float64: 2**-53 per operation, sums of up to 2**16 terms, one per node.

    The errors of successive layers add up where weights neither grow nor shrink what they are given,
    as in trained networks.
    """
    bound = 2 * nodes * 2**16 * unit_roundoff(np.float64) * max(1.0, float(np.abs(expected).max()))
    assert got.shape == expected.shape
    assert float(np.abs(got - expected).max()) <= bound < 1e-7 * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("name", WHOLE)
def test_whole_model_is_keras(data_dir: Path, tmp_path: Path, name: str) -> None:
    keras = import_keras()
    source = data_dir / name
    path = tmp_path / "judge.h5"
    if source.read_bytes()[:4] == b"PK\x03\x04":
        path = tmp_path / "judge.keras"
    path.write_bytes(source.read_bytes())  # Keras goes by the name, not by what is inside
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras says about old files
        model = _float64(keras.models.load_model(path, compile=False))
    graph = _load(source)
    assert graph.parameters == model.count_params() == WHOLE[name]
    shape = graph.node(graph.inputs[0]).shape
    # What a fully convolutional net does to a smaller picture it does to a larger one.
    small = shape
    if shape in SLOW_SIZES and "lung" in name:
        small = (64, 64, 1)
        graph = _resized(graph, small)
        model = _float64(_rebuilt(model, small))
    x = np.random.default_rng(0).uniform(0, 1, (1, *[n or 8 for n in small])).astype(np.float32)
    given = x.astype(np.float64)
    # Keras 3 takes Keras 2's batch_input_shape [null, 60] for a shape without batch: one axis too many.
    extra = len(_shape(model)) - given.ndim
    given = given[:, None] if extra else given
    expected = np.asarray(model([given] if _takes_list(model) else given, training=False))
    expected = expected[:, 0] if extra else expected
    got = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    _assert_close(got, expected, len(graph.nodes))


def _shape(model: Any) -> tuple[int | None, ...]:
    shape: Any = model.inputs[0].shape
    return tuple(shape)


def _takes_list(model: Any) -> bool:
    return type(model).__name__ == "Functional" and isinstance(model.input, list)


def _resized(graph: Graph, shape: tuple[int, ...]) -> Graph:
    """The same graph for another input size: its input opened, then specialised."""
    nodes = [
        replace(n, shape=(None, None, n.shape[-1])) if n.operation == "input" else n for n in graph.nodes
    ]
    return specialise(replace(graph, nodes=tuple(nodes)), [shape])


def _rebuilt(model: Any, shape: tuple[int, ...]) -> Any:
    config = model.get_config()
    for item in config["layers"]:
        if item["class_name"] == "InputLayer":
            item["config"]["batch_shape"] = (None, *shape)
    rebuilt = type(model).from_config(config)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def test_custom_layer_is_refused_by_name(data_dir: Path) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"'dense_spatial' \(Dense2DSpatialTransformer\)"):
        load_graph(data_dir / "models/lung/cxr_tthanh_full_model.h5")


def test_bytecode_is_refused(data_dir: Path) -> None:
    with pytest.raises(UnsafeModelError, match=r"'lambda_1' \(Lambda\)"):
        load_graph(data_dir / "models/misc/car_naokishibuya_model.h5")


@pytest.mark.parametrize(
    "name",
    [
        "imagenet/mobilenet_0.25_224_weights_from_tfjs.h5",
        "imagenet/squeezenet_v1.1_notop_tf.h5",
        "misc/mtcnn_12net.h5",
        "misc/retina-unet_best_weights.h5",
        "misc/sr_titu1994_SR_Weights_2X.h5",
    ],
)
def test_weights_alone_ask_for_the_configuration(data_dir: Path, name: str) -> None:
    with pytest.raises(ModelFormatError, match="architecture="):
        load_graph(data_dir / "models" / name)


def test_a_json_that_is_no_model(data_dir: Path) -> None:
    with pytest.raises(ModelFormatError, match="not a model's configuration"):
        load_graph(data_dir / "models/imagenet/imagenet_class_index.json")


@pytest.mark.parametrize(
    ("json_name", "weights_name"),
    [
        ("misc/hls4ml_KERAS_conv1d.json", "misc/hls4ml_KERAS_conv1d_weights.h5"),
        ("dogscats/sReNcAt_cat_dog.json", "dogscats/sReNcAt_cat_dog.h5"),
    ],
)
def test_configuration_and_weights_find_each_other(data_dir: Path, json_name: str, weights_name: str) -> None:
    one, other = (_load(data_dir / "models" / name) for name in (json_name, weights_name))
    assert one.parameters == other.parameters
    assert [n.name for n in one.nodes] == [n.name for n in other.nodes]


def test_mobilenet_is_keras(data_dir: Path) -> None:
    keras = import_keras()
    model = keras.applications.MobileNet(alpha=0.25, weights=None)
    path = data_dir / "models/imagenet/mobilenet_0.25_224_weights_from_tfjs.h5"
    model.load_weights(path)
    graph = _load(path, architecture=json.loads(model.to_json()))
    assert graph.parameters == model.count_params() == 475_544
    x = np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    expected = np.asarray(_float64(model)(x.astype(np.float64), training=False))
    got = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    _assert_close(got, expected, len(graph.nodes))


def _squeezenet(keras: Any, data_format: str) -> Any:
    """SqueezeNet 1.1 without its top; its file names weights by layers such as fire2/squeeze1x1."""
    k = keras.layers
    axis = 1 if data_format == "channels_first" else -1
    shape = (3, 227, 227) if axis == 1 else (227, 227, 3)
    f = {"data_format": data_format}
    start = value = keras.Input(shape)
    value = k.Conv2D(64, 3, strides=2, activation="relu", name="conv1", **f)(value)
    value = k.MaxPooling2D(3, 2, **f)(value)
    for number, squeeze, expand in [
        (2, 16, 64), (3, 16, 64), (4, 32, 128), (5, 32, 128), (6, 48, 192), (7, 48, 192),
        (8, 64, 256), (9, 64, 256),
    ]:  # fmt: skip
        value = k.Conv2D(squeeze, 1, activation="relu", name=f"s{number}", **f)(value)
        left = k.Conv2D(expand, 1, activation="relu", name=f"l{number}", **f)(value)
        right = k.Conv2D(expand, 3, padding="same", activation="relu", name=f"r{number}", **f)(value)
        value = k.Concatenate(axis=axis)([left, right])
        if number in (3, 5):
            value = k.MaxPooling2D(3, 2, **f)(value)
    return keras.Model(start, value)


def test_squeezenet_in_both_orders(data_dir: Path) -> None:
    """The Theano file holds the same weights, transposed and turned: loaded, they are equal."""
    keras = import_keras()
    folder = data_dir / "models/imagenet"
    graphs = []
    for name, data_format, flip in (("tf", "channels_last", False), ("th", "channels_first", True)):
        architecture = json.loads(_squeezenet(keras, data_format).to_json())
        path = folder / f"squeezenet_v1.1_notop_{name}.h5"
        graphs.append(_load(path, architecture=architecture, kernel_flip=flip))
    kernels = [
        {n.layer: n.weights["kernel"] for n in graph.nodes if "kernel" in n.weights} for graph in graphs
    ]
    assert len(kernels[0]) == 25
    for layer, kernel in kernels[0].items():
        np.testing.assert_array_equal(kernels[1][layer], kernel)


def _keras1_in_keras3(keras: Any, config: dict[str, Any], arrays: dict[str, list[Array]]) -> Any:
    """Rebuild a Keras 1 functional model with Theano-ordered 3-D layers, channels last, in float64."""
    k = keras.layers
    made: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for item in config["config"]["layers"]:
        name, c = item["name"], item["config"]
        if item["class_name"] == "InputLayer":
            _, channels, *sizes = c["batch_input_shape"]
            values[name] = keras.Input((*sizes, channels), dtype="float64")
            continue
        inputs = [values[ref[0]] for ref in item["inbound_nodes"][0]]
        made[name] = {
            "Convolution3D": lambda c=c: k.Conv3D(c["nb_filter"], c["kernel_dim1"], padding=c["border_mode"]),
            "BatchNormalization": lambda c=c: k.BatchNormalization(epsilon=c["epsilon"]),
            "LeakyReLU": lambda c=c: k.LeakyReLU(negative_slope=c["alpha"]),
            "MaxPooling3D": lambda c=c: k.MaxPooling3D(c["pool_size"], dtype="float32"),
            "AveragePooling3D": lambda c=c: k.AveragePooling3D(c["pool_size"]),
            "GlobalMaxPooling3D": lambda: k.GlobalMaxPooling3D(),
            "Merge": lambda: k.Concatenate(),
            "Dense": lambda c=c: k.Dense(c["output_dim"], activation=c["activation"]),
        }[item["class_name"]]()
        values[name] = made[name](inputs[0] if len(inputs) == 1 else inputs)
        if arrays.get(name):
            first, *rest = arrays[name]
            made[name].set_weights([first.transpose(2, 3, 4, 1, 0) if first.ndim == 5 else first, *rest])
    ends = [values[ref[0]] for ref in config["config"]["output_layers"]]
    return keras.Model(values[config["config"]["input_layers"][0][0]], ends)


def test_nodule_network_of_keras_1(data_dir: Path) -> None:
    """Keras 3 cannot read it: the same network rebuilt, with kernels transposed. In float32: TensorFlow
    has no 3-D pooling in float64."""
    keras = import_keras()
    path = data_dir / "models/lung/dsb2017_dhammack_model_LUNA_64_v29_14.h5"
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
        groups = file["model_weights"]
        arrays = {name: [groups[name][w][()] for w in groups[name].attrs["weight_names"]] for name in groups}
    model = _keras1_in_keras3(keras, config, arrays)
    with pytest.warns(ConvcoreWarning, match="kernel_flip"):
        graph = load_graph(path)
    assert graph.parameters == model.count_params() == 331_559
    assert [graph.node(n).layer for n in graph.outputs] == ["o_d", "o_lob", "o_spic", "o_mal", "o_fp"]
    x = np.random.default_rng(0).uniform(0, 1, (1, 1, 64, 64, 64)).astype(np.float32)
    expected = model(np.moveaxis(x, 1, -1), training=False)
    values = evaluate(graph, {graph.inputs[0]: x})
    for name, value in zip(graph.outputs, expected, strict=True):
        want = np.asarray(value)
        # Rounding in float32: one per operation, the longest sum has 64 * 27 terms, 30 layers deep.
        bound = 2 * 30 * np.sqrt(64 * 27) * unit_roundoff(np.float32) * max(1.0, float(np.abs(want).max()))
        assert float(np.abs(values[name] - want).max()) <= bound


def test_retina_unet_of_keras_1(data_dir: Path) -> None:
    folder = data_dir / "models/misc"
    graph = _load(folder / "retina-unet_architecture.json", weights=folder / "retina-unet_best_weights.h5")
    assert graph.node(graph.inputs[0]).shape == (1, 48, 48)
    with h5py.File(folder / "retina-unet_best_weights.h5") as file:
        kernel = file["convolution2d_1/convolution2d_1_W"][()]
        total = sum(file[name][w].size for name in file for w in file[name].attrs["weight_names"])
    assert graph.parameters == total
    first = next(n for n in graph.nodes if n.operation == "conv")
    np.testing.assert_array_equal(first.weights["kernel"], kernel.transpose(2, 3, 1, 0))
    x = np.random.default_rng(0).uniform(0, 1, (1, 1, 48, 48))
    out = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    np.testing.assert_allclose(out.sum(-1), 1.0, rtol=1e-12)
