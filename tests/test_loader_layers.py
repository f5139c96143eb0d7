"""Every layer, saved by Keras 3 in both of its formats and loaded, against Keras in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.errors import ConvcoreWarning
from convcore.loader import Graph, load_graph, specialise

from .judges import import_keras
from .loader_judge import assert_agrees, inputs_for, predict, round_trip, seeded_weights

Shape = tuple[int, ...]
Make = Callable[[Any], Any]

ACTIVATIONS = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "hard_silu", "mish",
    "sigmoid", "hard_sigmoid", "tanh", "softplus", "softsign", "exponential", "softmax",
)  # fmt: skip

CASES: list[tuple[str, Shape, Make]] = [
    ("dense", (5,), lambda k: k.Dense(4, activation="relu")),
    ("dense-on-3-axes", (3, 5), lambda k: k.Dense(4, use_bias=False)),
    ("conv1d-causal", (9, 3), lambda k: k.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    ("conv1d-same-stride", (10, 3), lambda k: k.Conv1D(4, 4, padding="same", strides=3)),
    ("conv2d-same-even-stride", (9, 8, 3), lambda k: k.Conv2D(4, (4, 3), padding="same", strides=(2, 3))),
    ("conv2d-dilated", (9, 8, 3), lambda k: k.Conv2D(4, 3, dilation_rate=(2, 1), activation="tanh")),
    ("conv2d-no-bias", (6, 7, 2), lambda k: k.Conv2D(3, 2, use_bias=False)),
    ("conv3d-same", (5, 6, 4, 2), lambda k: k.Conv3D(3, (3, 2, 1), padding="same", strides=(1, 2, 1))),
    ("depthwise1d", (9, 3), lambda k: k.DepthwiseConv1D(3, depth_multiplier=2)),
    ("depthwise2d", (9, 8, 3), lambda k: k.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same")),
    ("separable1d", (9, 3), lambda k: k.SeparableConv1D(5, 3, depth_multiplier=2, padding="same")),
    ("separable2d", (9, 8, 3), lambda k: k.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu")),
    ("transpose1d", (5, 3), lambda k: k.Conv1DTranspose(4, 3, strides=2, padding="same")),
    ("transpose2d-valid", (5, 4, 3), lambda k: k.Conv2DTranspose(4, 3, strides=2)),
    ("transpose2d-small-kernel", (5, 4, 3), lambda k: k.Conv2DTranspose(4, 2, strides=3)),
    (
        "transpose2d-output-padding",
        (5, 4, 3),
        lambda k: k.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1),
    ),
    ("transpose3d", (3, 4, 2, 2), lambda k: k.Conv3DTranspose(3, 3, strides=2, padding="same")),
    ("max1d", (9, 3), lambda k: k.MaxPooling1D(3, strides=2, padding="same")),
    ("max2d", (9, 8, 3), lambda k: k.MaxPooling2D((2, 3), padding="same")),
    ("average1d", (9, 3), lambda k: k.AveragePooling1D(2)),
    ("average2d-same", (9, 8, 3), lambda k: k.AveragePooling2D(3, strides=2, padding="same")),
    ("global-max1d", (9, 3), lambda k: k.GlobalMaxPooling1D()),
    ("global-max2d", (5, 4, 3), lambda k: k.GlobalMaxPooling2D(keepdims=True)),
    ("global-max3d", (5, 4, 3, 2), lambda k: k.GlobalMaxPooling3D()),
    ("global-average1d", (9, 3), lambda k: k.GlobalAveragePooling1D()),
    ("global-average2d", (5, 4, 3), lambda k: k.GlobalAveragePooling2D(keepdims=True)),
    ("global-average3d", (5, 4, 3, 2), lambda k: k.GlobalAveragePooling3D()),
    ("pad1d", (5, 2), lambda k: k.ZeroPadding1D((1, 2))),
    ("pad2d", (5, 4, 2), lambda k: k.ZeroPadding2D(((1, 2), (0, 3)))),
    ("pad2d-number", (5, 4, 2), lambda k: k.ZeroPadding2D(2)),
    ("pad3d", (3, 4, 2, 2), lambda k: k.ZeroPadding3D((1, 0, 2))),
    ("crop1d", (5, 2), lambda k: k.Cropping1D((1, 2))),
    ("crop2d", (6, 7, 2), lambda k: k.Cropping2D(((1, 2), (0, 3)))),
    ("crop3d", (5, 4, 6, 2), lambda k: k.Cropping3D(1)),
    ("up1d", (5, 2), lambda k: k.UpSampling1D(3)),
    ("up2d", (5, 4, 2), lambda k: k.UpSampling2D((2, 3))),
    ("up3d", (2, 3, 4, 2), lambda k: k.UpSampling3D((1, 2, 3))),
    ("batch-norm", (5, 4, 3), lambda k: k.BatchNormalization()),
    ("batch-norm-axis", (5, 4, 3), lambda k: k.BatchNormalization(axis=1, scale=False, epsilon=1e-5)),
    ("batch-norm-bare", (6,), lambda k: k.BatchNormalization(scale=False, center=False)),
    ("relu-layer", (7, 5), lambda k: k.ReLU(max_value=1.0, negative_slope=0.25, threshold=0.5)),
    ("relu6", (7, 5), lambda k: k.ReLU(6.0)),
    ("leaky-relu", (7, 5), lambda k: k.LeakyReLU(negative_slope=0.125)),
    ("prelu", (4, 5, 3), lambda k: k.PReLU()),
    ("prelu-shared", (4, 5, 3), lambda k: k.PReLU(shared_axes=[1, 2])),
    ("elu", (7, 5), lambda k: k.ELU(alpha=0.5)),
    ("softmax", (4, 5), lambda k: k.Softmax(axis=1)),
    ("softmax-string", (4, 5), lambda k: k.Dense(3, activation="softmax")),
    ("layer-as-activation", (5, 5, 2), lambda k: k.Conv2D(3, 3, activation=k.LeakyReLU(0.25))),
    ("flatten", (3, 4, 2), lambda k: k.Flatten()),
    ("reshape", (3, 4, 2), lambda k: k.Reshape((2, -1))),
    ("permute", (3, 4, 2), lambda k: k.Permute((3, 1, 2))),
    ("rescaling", (4, 5, 3), lambda k: k.Rescaling(1.0 / 127.5, offset=-1.0)),
    ("rescaling-list", (4, 5, 3), lambda k: k.Rescaling([0.5, 2.0, 4.0], offset=[0.0, 1.0, 2.0])),
    ("normalization", (4, 3), lambda k: k.Normalization()),
    (
        "normalization-fixed",
        (4, 3),
        lambda k: k.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 1.0, 0.25]),
    ),
    ("normalization-invert", (4, 3), lambda k: k.Normalization(mean=2.0, variance=4.0, invert=True)),
    ("dropout", (4, 5), lambda k: k.Dropout(0.5)),
    ("spatial-dropout", (4, 5, 3), lambda k: k.SpatialDropout2D(0.5)),
    ("gaussian-noise", (4, 5), lambda k: k.GaussianNoise(0.5)),
    ("random-flip", (4, 5, 3), lambda k: k.RandomFlip()),
    *[
        (f"activation-{name}", (4, 5), lambda k, name=name: k.Activation(name))
        for name in ACTIVATIONS
    ],
]  # fmt: skip


def _model(keras: Any, layer: Any, shape: Shape) -> Any:
    model = keras.Sequential([keras.Input(shape, dtype="float64"), layer])
    seeded_weights(model)
    return model


@pytest.fixture
def float64() -> Any:
    """Keras computing in float64, for the time of one test."""
    keras = import_keras()
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(("shape", "make"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_layer_is_keras(float64: Any, tmp_path: Path, shape: Shape, make: Make, suffix: str) -> None:
    model = _model(float64, make(float64.layers), shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras calls its own .h5 format old
        graph = round_trip(model, tmp_path, suffix)
    inputs = inputs_for([shape])
    assert_agrees(graph, inputs, predict(model, inputs))
    assert graph.parameters == model.count_params()
    assert graph.node(graph.outputs[0]).shape == model.output_shape[1:]


@pytest.mark.parametrize(
    ("shape", "make"),
    [
        ((5, 4, 6, 2), lambda k: k.MaxPooling3D((2, 3, 2), padding="same")),
        ((5, 4, 6, 2), lambda k: k.AveragePooling3D(2, padding="same")),
        ((5, 4, 2), lambda k: k.UpSampling2D((2, 3), interpolation="bilinear")),
        ((5, 7, 2), lambda k: k.Resizing(8, 3)),
        ((5, 7, 2), lambda k: k.Resizing(8, 4, interpolation="nearest")),
    ],
    ids=["max3d", "average3d", "up2d-bilinear", "resizing", "resizing-nearest"],
)
def test_layer_that_tensorflow_has_in_float32_only(tmp_path: Path, shape: Shape, make: Make) -> None:
    keras = import_keras()
    model = keras.Sequential([keras.Input(shape), make(keras.layers)])
    graph = round_trip(model, tmp_path)
    inputs = inputs_for([shape])
    values = predict(model, [x.astype(np.float32) for x in inputs])[0]
    node = graph.node(graph.outputs[0])
    from convcore.reference import evaluate

    # Sums of at most 16 products of numbers up to 2, with weights up to 1, rounded to float32.
    bound = 2 * 16 * 2.0**-24 * 2
    assert np.abs(evaluate(graph, {graph.inputs[0]: inputs[0]})[node.name] - values).max() <= bound


FIRST: list[tuple[str, Shape, Callable[[Any, str], Any]]] = [
    ("conv2d", (9, 8, 3), lambda k, f: k.Conv2D(4, 3, strides=2, padding="same", data_format=f)),
    ("conv3d", (5, 4, 6, 2), lambda k, f: k.Conv3D(3, 2, data_format=f, activation="relu")),
    ("depthwise2d", (9, 8, 3), lambda k, f: k.DepthwiseConv2D(3, depth_multiplier=2, data_format=f)),
    ("separable2d", (9, 8, 3), lambda k, f: k.SeparableConv2D(4, 3, data_format=f)),
    ("transpose2d", (5, 4, 3), lambda k, f: k.Conv2DTranspose(4, 3, strides=2, data_format=f)),
    ("max2d", (9, 8, 3), lambda k, f: k.MaxPooling2D(2, data_format=f)),
    ("average2d", (9, 8, 3), lambda k, f: k.AveragePooling2D(2, padding="same", data_format=f)),
    ("global-average2d", (9, 8, 3), lambda k, f: k.GlobalAveragePooling2D(data_format=f)),
    ("global-max2d-keepdims", (9, 8, 3), lambda k, f: k.GlobalMaxPooling2D(data_format=f, keepdims=True)),
    ("pad2d", (5, 4, 3), lambda k, f: k.ZeroPadding2D(((1, 2), (3, 0)), data_format=f)),
    ("crop2d", (6, 7, 3), lambda k, f: k.Cropping2D(((1, 2), (3, 0)), data_format=f)),
    ("up2d", (5, 4, 3), lambda k, f: k.UpSampling2D((2, 3), data_format=f)),
    ("up3d", (2, 3, 4, 2), lambda k, f: k.UpSampling3D((1, 2, 3), data_format=f)),
    ("flatten", (5, 4, 3), lambda k, f: k.Flatten(data_format=f)),
]


@pytest.mark.parametrize(("shape", "make"), [c[1:] for c in FIRST], ids=[c[0] for c in FIRST])
def test_channels_first_is_channels_last_moved(
    float64: Any, tmp_path: Path, shape: Shape, make: Callable[[Any, str], Any]
) -> None:
    """TensorFlow has few channels-first layers on a CPU: the judge is the same layer, channels last."""
    last = _model(float64, make(float64.layers, "channels_last"), shape)
    moved = (shape[-1], *shape[:-1])
    first = _model(float64, make(float64.layers, "channels_first"), moved)
    first.set_weights(last.get_weights())
    inputs = inputs_for([shape])
    expected = predict(last, inputs)[0]
    if expected.ndim > 2:
        expected = np.moveaxis(expected, -1, 1)
    graph = round_trip(first, tmp_path)
    assert_agrees(graph, [np.moveaxis(inputs[0], -1, 1)], [expected])
    assert graph.node(graph.outputs[0]).shape == expected.shape[1:]


@pytest.mark.parametrize(
    "name", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"]
)
def test_merging_layers(float64: Any, tmp_path: Path, name: str) -> None:
    shapes = (
        [(4, 5, 3), (4, 5, 3)] if name in ("Subtract", "Concatenate") else [(4, 5, 3), (4, 5, 3), (4, 5, 3)]
    )
    ends = [float64.Input(s, dtype="float64") for s in shapes]
    options = {"axis": 2} if name == "Concatenate" else {}
    model = float64.Model(ends, getattr(float64.layers, name)(**options)(ends))
    inputs = inputs_for(shapes)
    assert_agrees(round_trip(model, tmp_path), inputs, predict(model, inputs))


def test_merging_of_different_ranks(float64: Any, tmp_path: Path) -> None:
    ends = [float64.Input((4, 5, 3), dtype="float64"), float64.Input((3,), dtype="float64")]
    model = float64.Model(ends, float64.layers.Multiply()(ends))
    inputs = inputs_for([(4, 5, 3), (3,)])
    assert_agrees(round_trip(model, tmp_path), inputs, predict(model, inputs))


def _unet(keras: Any, shape: tuple[int | None, ...]) -> Any:
    layers = keras.layers
    start = keras.Input(shape, dtype="float64")
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(start)
    b = layers.MaxPooling2D()(a)
    b = layers.Conv2D(6, 3, strides=2, padding="same")(b)
    b = layers.Conv2DTranspose(6, 3, strides=2, padding="same")(b)
    b = layers.UpSampling2D()(b)
    return keras.Model(start, layers.Conv2D(1, 1, activation="sigmoid")(layers.Concatenate()([a, b])))


def test_open_sizes_are_kept_open_and_then_specialised(float64: Any, tmp_path: Path) -> None:
    model = _unet(float64, (None, None, 2))
    seeded_weights(model)
    graph = round_trip(model, tmp_path)
    assert graph.node(graph.outputs[0]).shape == (None, None, 1)
    concrete = specialise(graph, [(12, 8, 2)])
    assert concrete.node(concrete.outputs[0]).shape == (12, 8, 1)
    assert all(None not in node.shape for node in concrete.nodes)
    inputs = inputs_for([(12, 8, 2)])
    assert_agrees(concrete, inputs, predict(model, inputs))


def test_specialise_refuses_a_shape_that_does_not_fit(float64: Any, tmp_path: Path) -> None:
    graph = round_trip(_unet(float64, (None, None, 2)), tmp_path)
    with pytest.raises(ValueError, match="shape of input"):
        specialise(graph, [(12, 8, 3)])
    with pytest.raises(ValueError, match="inputs differ on axis"):
        specialise(graph, [(13, 8, 2)])


def test_branches_shared_layers_nested_models_and_several_ends(float64: Any, tmp_path: Path) -> None:
    layers = float64.layers
    encoder = float64.Sequential(
        [
            float64.Input((6, 6, 4), dtype="float64"),
            layers.Conv2D(3, 3, name="inner_conv"),
            layers.BatchNormalization(name="inner_norm"),
        ],
        name="encoder",
    )
    inner_in = float64.Input((4, 4, 3), dtype="float64")
    head = float64.Model(
        inner_in, [layers.Flatten()(inner_in), layers.GlobalMaxPooling2D()(inner_in)], name="head"
    )
    a, b = (float64.Input((8, 8, 2), dtype="float64", name=n) for n in "ab")
    shared = layers.Conv2D(4, 3, name="shared")
    ea, eb = encoder(shared(a)), encoder(shared(b))
    flat, top = head(layers.Add()([ea, eb]))
    model = float64.Model([a, b], [layers.Dense(2)(flat), layers.Dense(3)(top), ea])
    seeded_weights(model)
    inputs = inputs_for([(8, 8, 2), (8, 8, 2)])
    for suffix in (".keras", ".h5"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = round_trip(model, tmp_path, suffix)
        assert_agrees(graph, inputs, predict(model, inputs))
        assert graph.parameters == model.count_params()
        assert graph.inputs == ("a", "b")
        names = [layer.name for layer in graph.layers]
        assert {"shared", "shared:1", "encoder/inner_conv", "encoder:1/inner_conv"} <= set(names)
        first, second = (graph.node(n).weights["kernel"] for n in ("shared", "shared:1"))
        assert first is second


def test_weights_beside_a_configuration(float64: Any, tmp_path: Path) -> None:
    model = _unet(float64, (12, 8, 2))
    seeded_weights(model)
    model.save_weights(tmp_path / "net.weights.h5")
    (tmp_path / "net.json").write_text(model.to_json())
    inputs = inputs_for([(12, 8, 2)])
    for path in ("net.weights.h5", "net.json"):
        assert_agrees(load_graph(tmp_path / path), inputs, predict(model, inputs))


def test_unzipped_folder(float64: Any, tmp_path: Path) -> None:
    import zipfile

    model = _unet(float64, (12, 8, 2))
    seeded_weights(model)
    model.save(tmp_path / "m.keras")
    zipfile.ZipFile(tmp_path / "m.keras").extractall(tmp_path / "folder")
    inputs = inputs_for([(12, 8, 2)])
    assert_agrees(load_graph(tmp_path / "folder"), inputs, predict(model, inputs))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_half_precision_weights_become_float32(tmp_path: Path, dtype: str) -> None:
    keras = import_keras()
    layer = keras.layers.Dense(4, dtype=dtype)
    model = keras.Sequential([keras.Input((5,)), layer])
    with pytest.warns(ConvcoreWarning, match=f"{dtype}; convcore computes it in float32"):
        graph = round_trip(model, tmp_path)
    kernel = graph.node(graph.outputs[0]).weights["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, np.asarray(keras.ops.cast(layer.kernel, "float32")))


def test_every_weight_is_read_only(float64: Any, tmp_path: Path) -> None:
    graph: Graph = round_trip(_unet(float64, (12, 8, 2)), tmp_path)
    kernel = graph.node(graph.outputs[0].rsplit(".")[0])
    assert kernel.name in graph.outputs
    for node in graph.nodes:
        for array in node.weights.values():
            assert not array.flags.writeable
