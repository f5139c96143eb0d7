"""What docs/operations says of Keras and other libraries, asked of them, where no other test asks."""

from __future__ import annotations

import inspect
import os
import platform
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convcore as cc
from convcore import reference
from convcore.medical import bundled_card, dice
from convcore.medical.pipeline import to_input

from .judges import import_keras

Array = NDArray[Any]
INF = np.float32(np.inf)


#: TensorFlow uses oneDNN on x86 unless told not to.
onednn = pytest.mark.skipif(
    platform.machine() != "x86_64" or os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0",
    reason="TensorFlow does not use oneDNN here",
)


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    return import_keras()


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def noise(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def run(layer: Any, x: Array, *weights: Array) -> Array:
    layer.build(x.shape)
    layer.set_weights(weights)
    return np.asarray(layer(x))


def signal(*values: float) -> Array:
    return floats(*values).reshape(1, -1, 1)


def test_the_layers_that_the_pages_name_are_there(keras: ModuleType) -> None:
    pages = (Path(__file__).parents[1] / "docs" / "operations").glob("*.md")
    rows = re.findall(r"^\| Keras \| (.+) \|$", "".join(p.read_text() for p in pages), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([A-Z]\w+)\b", row)}
    assert len(rows) > 40 and len(named) > 60
    older, others = {"ThresholdedReLU"}, {"RReLU"}
    assert {name for name in named if not hasattr(keras.layers, name)} == older | others


# ---- convolution ----------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [1, "full", "causal"])
def test_conv2d_takes_no_other_padding(keras: ModuleType, padding: Any) -> None:
    with pytest.raises((AttributeError, ValueError)):
        keras.layers.Conv2D(2, 3, padding=padding)(noise(1, 8, 8, 4))


@pytest.mark.parametrize("layer", ["DepthwiseConv1D", "SeparableConv1D"])
def test_causal_is_conv1d_alone(keras: ModuleType, layer: str) -> None:
    filters = (4,) if layer == "SeparableConv1D" else ()
    with pytest.raises(ValueError, match="padding"):
        getattr(keras.layers, layer)(*filters, 3, padding="causal")(noise(1, 8, 4))
    x, w = noise(1, 8, 4), noise(3, 4, 1)
    assert cc.depthwise_conv1d(x, w, padding="causal").shape == x.shape
    assert cc.separable_conv1d(x, w, noise(1, 4, 2), padding="causal").shape == (1, 8, 2)


@pytest.mark.parametrize("layer", ["Conv2D", "Conv2DTranspose"])
def test_stride_and_dilation_together(keras: ModuleType, layer: str) -> None:
    with pytest.raises(ValueError, match="in conjunction with"):
        getattr(keras.layers, layer)(2, 3, strides=2, dilation_rate=2)(noise(1, 9, 9, 4))
    x = noise(1, 9, 9, 4)
    assert cc.conv2d(x, noise(3, 3, 4, 2), strides=2, dilation_rate=2).shape == (1, 3, 3, 2)
    assert cc.conv2d_transpose(x, noise(3, 3, 2, 4), strides=2, dilation_rate=2).shape == (1, 21, 21, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2, "dilation_rate": 2},
        pytest.param({"strides": (1, 2)}, marks=onednn),
        {"dilation_rate": 2, "padding": "same"},
    ],
)
def test_depthwise_and_separable_are_the_same(keras: ModuleType, options: dict[str, Any]) -> None:
    x, w, mixed = noise(1, 9, 9, 4), noise(3, 3, 4, 2), noise(1, 1, 8, 5)
    layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, **options)
    np.testing.assert_allclose(cc.depthwise_conv2d(x, w, **options), run(layer, x, w), atol=1e-5)
    layer = keras.layers.SeparableConv2D(5, 3, depth_multiplier=2, use_bias=False, **options)
    np.testing.assert_allclose(
        cc.separable_conv2d(x, w, mixed, **options), run(layer, x, w, mixed), atol=2e-5
    )


def test_there_is_no_depthwise_convolution_in_3d(keras: ModuleType) -> None:
    assert not hasattr(keras.layers, "DepthwiseConv3D") and not hasattr(keras.layers, "SeparableConv3D")


def test_output_padding_is_below_the_stride(keras: ModuleType) -> None:
    with pytest.raises(ValueError, match="strictly less than"):
        keras.layers.Conv2DTranspose(2, 3, strides=2, output_padding=2)(noise(1, 4, 4, 4))
    assert (
        cc.conv2d_transpose(noise(1, 4, 4, 4), noise(3, 3, 2, 4), strides=2, output_padding=2).shape[1] == 11
    )


def test_same_padding_of_an_even_kernel_has_another_centre_than_a_filter(keras: ModuleType) -> None:
    x, w = signal(0, 0, 1, 0, 0), floats(1, 2)
    layer = np.asarray(keras.ops.conv(x, w.reshape(2, 1, 1), 1, "same")).ravel()
    assert layer.tolist() == [0, 2, 1, 0, 0]
    assert cc.correlate(x.ravel(), w, mode="same").tolist() == [0, 0, 2, 1, 0]


# ---- pooling --------------------------------------------------------------------------------------


def test_max_pooling_of_nan_and_minus_infinity(keras: ModuleType) -> None:
    x = signal(np.nan, 1, np.nan, -INF, -INF, -INF)
    lowest = np.finfo(np.float32).min
    assert np.asarray(keras.layers.MaxPooling1D(2)(x)).ravel().tolist() == [1, lowest, lowest]
    ours = cc.max_pool(x, 2).ravel()
    assert np.isnan(ours[:2]).all() and ours[2] == -INF
    assert np.isnan(np.asarray(keras.layers.GlobalMaxPooling1D()(x))).all()


def test_an_average_over_a_window_larger_than_the_input(keras: ModuleType) -> None:
    assert keras.layers.AveragePooling2D(3)(noise(1, 2, 2, 1)).shape == (1, 0, 0, 1)


@onednn
def test_a_maximum_over_a_window_larger_than_the_input(keras: ModuleType) -> None:
    x = noise(1, 2, 2, 1)
    with pytest.raises(Exception, match="MaxPooling2D"):
        keras.layers.MaxPooling2D(3)(x)


# ---- activations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gelu", "silu", "hard_silu", "mish", "softsign"])
def test_at_minus_infinity_keras_has_nan(keras: ModuleType, name: str) -> None:
    assert np.isnan(np.asarray(getattr(keras.activations, name)(floats(-INF)))).all()
    assert not np.isnan(getattr(cc, name)(floats(-INF))).any()


@pytest.mark.parametrize(
    ("name", "ours"), [("sigmoid", 6.05e-39), ("exponential", 6.05e-39), ("silu", -5.3e-37)]
)
def test_tensorflow_flushes_small_results(keras: ModuleType, name: str, ours: float) -> None:
    assert np.asarray(getattr(keras.activations, name)(floats(-88)))[0] == 0
    assert getattr(cc, name)(floats(-88))[0] == pytest.approx(ours, rel=0.01)


def test_small_arguments(keras: ModuleType) -> None:
    x = floats(1e-8)
    assert np.asarray(keras.activations.elu(-x))[0] == 0 and cc.elu(-x)[0] == -x[0]
    assert cc.tanh(x)[0] == x[0] and 2 * cc.sigmoid(2 * x)[0] - 1 == 0
    assert cc.sigmoid(floats(16.63))[0] < 1 and cc.sigmoid(floats(16.64))[0] == 1


def test_defaults(keras: ModuleType) -> None:
    def default(function: Any, name: str) -> Any:
        return inspect.signature(function).parameters[name].default

    a, layers = keras.activations, keras.layers
    assert default(a.leaky_relu, "negative_slope") == 0.2 and layers.LeakyReLU().negative_slope == 0.3
    assert default(a.elu, "alpha") == 1 and default(a.celu, "alpha") == 1
    assert default(a.gelu, "approximate") is False and default(keras.ops.gelu, "approximate") is True
    assert np.asarray(a.hard_sigmoid(floats(2.5)))[0] == pytest.approx(1 - 1 / 12)
    assert layers.BatchNormalization().epsilon == 1e-3 and layers.BatchNormalization().axis == -1
    prelu = layers.PReLU()
    prelu.build((None, 4, 5, 6))
    assert prelu.weights[0].shape == (4, 5, 6) and not np.asarray(prelu.weights[0]).any()
    assert layers.ZeroPadding1D().padding == (1, 1) and layers.ZeroPadding2D().padding == ((1, 1),) * 2
    assert layers.Cropping1D().cropping == (1, 1) and layers.Cropping3D().cropping == ((1, 1),) * 3
    assert layers.Cropping2D().cropping == ((0, 0),) * 2
    assert layers.UpSampling1D().size == 2 and layers.UpSampling2D().size == (2, 2)
    assert not layers.Resizing(2, 2).antialias and layers.Concatenate().axis == -1


def test_the_two_forms_of_gelu() -> None:
    x, gelu = np.linspace(-8, 8, 160001), reference.ACTIVATIONS["gelu"]
    difference = np.abs(gelu(x) - gelu(x, approximate=True))
    assert 4.65e-4 < difference.max() < 4.75e-4
    assert abs(abs(x[difference.argmax()]) - 2.70) < 0.01


def test_a_slope_of_zero_at_minus_infinity(keras: ModuleType) -> None:
    assert np.isnan(np.asarray(keras.activations.leaky_relu(floats(-INF), negative_slope=0.0))).all()
    assert np.isnan(run(keras.layers.PReLU(), floats(-INF, 1).reshape(1, 2), floats(0, 0))[0, 0])


def test_what_keras_does_not_have(keras: ModuleType) -> None:
    names = " ".join([*dir(keras.activations), *dir(keras.layers)]).lower()
    assert "rrelu" not in names and "noisy" not in names and "thresholdedrelu" not in names
    x = floats(1, -2)
    assert (np.asarray(keras.layers.GaussianNoise(1.0)(x, training=False)) == x).all()


def test_rrelu_of_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert (torch.nn.RReLU().lower, torch.nn.RReLU().upper) == (1 / 8, 1 / 3)
    assert torch.nn.functional.rrelu(torch.tensor([-48.0])).item() == -11
    assert torch.nn.BatchNorm2d(3).eps == 1e-5
    assert cc.rrelu(floats(-55))[0] == -10


@onednn
@pytest.mark.parametrize("row", [(np.nan, 0), (INF, 0), (-INF, -INF)])
def test_softmax_of_rows_without_an_answer(keras: ModuleType, row: tuple[float, float]) -> None:
    x = floats(*row).reshape(1, 2)
    assert np.isnan(cc.softmax(x)).all()
    assert np.isnan(np.asarray(keras.activations.softmax(x.astype(np.float64)))).all()
    rest = 0 if row[1] == 0 else np.nan
    np.testing.assert_array_equal(np.asarray(keras.activations.softmax(x)), [[np.nan, rest]])


# ---- sums, scaling, shapes ------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["Maximum", "Minimum"])
def test_nan_wins(keras: ModuleType, layer: str) -> None:
    a, b = floats(np.nan, 1).reshape(1, 2), floats(1, np.nan).reshape(1, 2)
    assert np.isnan(np.asarray(getattr(keras.layers, layer)()([a, b]))).all()


def test_fewer_axes_and_too_many_operands(keras: ModuleType) -> None:
    a, b = noise(2, 3, 4), noise(2, 4)
    assert (np.asarray(keras.layers.Add()([a, b])) == a + b[:, None]).all()
    with pytest.raises(ValueError, match="exactly 2"):
        keras.layers.Subtract()([b, b, b])


def test_rescaling_and_normalization(keras: ModuleType) -> None:
    x = floats(2).reshape(1, 1)
    assert np.asarray(keras.layers.Rescaling(2.0, offset=1.0)(x)) == 5
    assert np.asarray(keras.layers.Normalization(mean=1.0, variance=0.0)(x)) == pytest.approx(1e7)


def test_flatten_channels_first_and_permute(keras: ModuleType) -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    flat = np.asarray(keras.layers.Flatten(data_format="channels_first")(x)).ravel()
    assert (flat == x.transpose(0, 2, 3, 1).ravel()).all()
    assert keras.layers.Permute((2, 1))(noise(1, 2, 3)).shape == (1, 3, 2)


def test_bilinear_upsampling_is_resizing(keras: ModuleType) -> None:
    x = noise(1, 5, 7, 3)
    judge = np.asarray(keras.layers.UpSampling2D((2, 3), interpolation="bilinear")(x))
    np.testing.assert_allclose(cc.resize(x, (10, 21)), judge, atol=1e-6)
    small = np.arange(8, dtype=np.float32).reshape(1, 1, 8, 1)
    # No antialiasing: the mean of two pixels out of every four.
    assert np.asarray(keras.layers.Resizing(1, 2)(small)).ravel().tolist() == [1.5, 5.5]


# ---- before the network ---------------------------------------------------------------------------


def test_dice_of_keras(keras: ModuleType) -> None:
    a, b = np.array([True, True, False]), np.array([True, False, False])
    loss = float(keras.losses.dice(a.astype(np.float32), b.astype(np.float32)))
    assert loss == pytest.approx(1 - dice(a, b), abs=1e-6)
    none = np.zeros(3, np.float32)
    assert float(keras.losses.dice(none, none)) == 1 and dice(none > 0, none > 0) == 1


def test_clipping_and_scaling_is_rescaling(keras: ModuleType) -> None:
    card = bundled_card("lung_segmentation")
    low, high = card.clip_hu
    hu = floats(-1024, -300, 0, 3000).reshape(1, 2, 2)
    layer = keras.layers.Rescaling(1 / (high - low), offset=-low / (high - low))
    judge = np.asarray(layer(keras.ops.clip(hu, low, high)))
    np.testing.assert_allclose(to_input(hu, card)[..., 0], judge, atol=1e-6)
