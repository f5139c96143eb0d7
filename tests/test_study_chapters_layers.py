"""What the chapters on layers and on Theano's figure say: their numbers, and what they say of Keras."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore.bench.kernels import NOT_MEASURED, no_gpu
from convcore.study.article import read_chapter, run_chapter
from convcore.study.article.chapter import select_chapters

from .judges import import_keras

for needed in ("matplotlib", "cv2"):
    pytest.importorskip(needed, reason=f"{needed} (the app extra) is not installed")

#: Unit roundoff of float32.
ROUNDOFF = 2.0**-24


@cache
def names(chapter: str) -> dict[str, Any]:
    """All that a chapter has made, and under "shown" what it printed."""
    found: dict[str, Any] = {}
    results = run_chapter(read_chapter(select_chapters([chapter])[0]), namespace=found)
    return {**found, "shown": "\n".join(f"{r.printed}{r.value}" for r in results)}


# ---- padding, stride, dilation, transposed --------------------------------------------------------


def test_every_size_is_the_formulas() -> None:
    n = names("05_arithmetic")
    assert len(n["cases"]) == 954
    assert "954 combinations of i, k, s, p, d; 0 have another size" in n["shown"]
    assert "315 convolutions sent there and back; 0 do not return" in n["shown"]
    # The sizes that the drawings show, from the guide to the arithmetic of convolutions.
    for i, k, s, p, d, o in (
        (4, 3, 1, 0, 1, 2), (5, 4, 1, 2, 1, 6), (5, 3, 1, 1, 1, 5), (5, 3, 1, 2, 1, 7), (5, 3, 2, 0, 1, 2),
        (5, 3, 2, 1, 1, 3), (6, 3, 2, 1, 1, 3), (7, 3, 1, 0, 2, 3),
    ):  # fmt: skip
        assert n["size_after"](i, k, s, p, d) == o


def test_what_is_drawn_has_the_size_in_its_title() -> None:
    """Squares of a drawing: padded input, input, kernel, output."""
    from matplotlib.figure import Figure

    n = names("05_arithmetic")
    for (i, k, s, p, d), o in (((5, 3, 2, 1, 1), 3), ((7, 3, 1, 0, 2), 3), ((5, 4, 1, 2, 1), 6)):
        axes = Figure().subplots()
        n["draw"](axes, i, k, s=s, pads=(p, p), d=d)
        assert len(axes.patches) == (i + 2 * p) ** 2 + i**2 + k**2 + o**2
        assert axes.get_title().endswith(f"o={o}")
        assert len(axes.lines[0].get_xdata()) == o**2


def test_the_transposed_convolution_is_the_transposed_matrix() -> None:
    n = names("05_arithmetic")
    assert n["matrix"].tolist() == [[1, 2, 3, 0, 0], [0, 0, 1, 2, 3]]
    assert n["scattered"].tolist() == (n["matrix"].T @ n["small"]).tolist() == [10, 20, 31, 2, 3]
    assert "array([10., 20., 31.,  2.,  3.], dtype=float32)" in n["shown"]  # over the stretched input
    assert "layers: 4   plain: 9 pixels   dilated: 31 pixels" in n["shown"]


def test_what_the_arithmetic_says_of_keras() -> None:
    keras = import_keras()
    n = names("05_arithmetic")
    same = keras.ops.conv(n["row"], n["middle"], strides=2, padding="same")
    assert np.ravel(same).tolist() == [1, 3, 5]
    assert "p = 1:   [0. 2. 4.]" in n["shown"] and '"same":  [1. 3. 5.]' in n["shown"]
    with pytest.raises(ValueError, match="dilation"):
        keras.layers.Conv2D(1, 3, strides=2, dilation_rate=2)(np.ones((1, 9, 9, 1), np.float32))
    for padding in ("valid", "same"):
        for k in (2, 3):
            layer = keras.layers.Conv1DTranspose(1, k, strides=3, padding=padding, kernel_initializer="ones")
            values = np.ravel(layer(np.ones((1, 3, 1), np.float32)))
            assert f"{padding}, 3 numbers, stride 3, kernel {k}: {values}" in n["shown"]
    layer = keras.layers.Conv2DTranspose(5, 3)
    layer.build((None, 4, 4, 2))
    assert layer.kernel.shape == (3, 3, 5, 2)


# ---- activations ----------------------------------------------------------------------------------


def test_the_derivatives_are() -> None:
    n = names("06_activations")
    h = float(n["step"])
    assert set(n["functions"]) == set(n["derivatives"]) and len(n["functions"]) == 8
    for name, function in n["functions"].items():
        slopes = (function(n["at"] + n["step"]) - function(n["at"] - n["step"])) / (2 * h)
        # A third derivative is at most 2 (tanh's at 0); values up to 4 are rounded, and x + h is not.
        bound = 2 * h**2 / 6 + 4 * 4 * ROUNDOFF / h
        assert np.abs(slopes - n["derivatives"][name](n["at"])).max() < bound, name


def test_where_the_derivatives_vanish() -> None:
    """The list's ends are those of the formulas, on its grid of hundredths."""
    shown = names("06_activations")["shown"]
    sigmoid = math.log((1 + math.sqrt(0.96)) / (1 - math.sqrt(0.96)))  # s (1 - s) = 0.01
    tanh = math.acosh(10)  # 1 / cosh^2 = 0.01
    for name, share, ends in (
        ("sigmoid", 1 - sigmoid / 8, f"x <= {-math.ceil(100 * sigmoid) / 100:.2f}"),
        ("tanh", 1 - tanh / 8, f"x >= {math.ceil(100 * tanh) / 100:.2f}"),
        ("ELU", (8 + math.log(0.01)) / 16, f"x <= {math.floor(100 * math.log(0.01)) / 100:.2f}"),
        ("ReLU", 0.5, "x <= 0.00"),
        ("leaky, a = 5.5", 0, "nowhere"),
        ("RReLU", 0, "nowhere"),
    ):
        line = next(x for x in shown.splitlines() if x.startswith(f"{name:15} ") and "%" in x)
        assert f"{share:.0%}" in line and ends in line


def test_numbers_of_activations() -> None:
    n = names("06_activations")
    assert "sigmoid is exactly 1 from x = 16.63" in n["shown"]
    assert "2 sigmoid(2x) - 1  is off by 7" in n["shown"]  # seven percent
    error = np.abs(cc.tanh(n["small"]) - n["exact"]) / n["exact"]
    assert error.max() < 4 * ROUNDOFF
    # Means of a million numbers, within five times the deviation of such a mean (1 / 1000 at most).
    phi = 1 / math.sqrt(2 * math.pi)
    elu = phi + math.exp(0.5) * math.erfc(2**-0.5) / 2 - 0.5
    for name, mean in (("ReLU", phi), ("leaky, a = 5.5", phi * (1 - 1 / 5.5)), ("ELU", elu)):
        assert abs(n["functions"][name](n["normal"]).mean() - mean) < 0.005
    # U(3, 8): 1/a is between 1/8 and 1/3, so its deviation is below 0.11.
    assert abs(-n["draws"].mean() - math.log(8 / 3) / 5) < 5 * 0.11 / 1000
    noisy = re.findall(r"x = ([ -]\d): mean ([\d.]+), by formula ([\d.]+)", n["shown"])
    assert [int(x) for x, _, _ in noisy] == [-1, 0, 2]
    # Means of 200,000 numbers of deviation below 1, and the last digit.
    assert all(abs(float(m) - float(f)) < 5 / math.sqrt(200_000) + 0.001 for _, m, f in noisy)


def test_gradients_through_twenty_layers() -> None:
    n = names("06_activations")
    function, derivative = n["functions"]["ReLU"], n["derivatives"]["ReLU"]
    right, small, large = (n["gradient_sizes"](function, derivative, gain) for gain in (2, 1, 4))
    assert 0.1 < right[-1] < 10
    # ReLU is positively homogeneous: half the variance is a factor sqrt(1/2) a layer, exactly.
    assert np.allclose(small, right * 0.5 ** (np.arange(21) / 2), rtol=1e-3)
    assert np.allclose(large, right * 2.0 ** (np.arange(21) / 2), rtol=1e-3)
    sigmoid = n["gradient_sizes"](n["functions"]["sigmoid"], n["derivatives"]["sigmoid"], 1)
    assert sigmoid[-1] < 1e-10 and np.all(np.diff(sigmoid) < 0)


def test_what_activations_say_of_keras() -> None:
    keras = import_keras()
    layers = keras.layers
    assert abs(layers.LeakyReLU().negative_slope - 0.3) < 1e-9
    minus = np.array([-1], np.float32)
    assert abs(float(keras.activations.leaky_relu(minus)[0]) + 0.2) < 1e-7
    per_position, per_channel = layers.PReLU(), layers.PReLU(shared_axes=[1, 2])
    for layer, shape in ((per_position, (4, 5, 3)), (per_channel, (1, 1, 3))):
        layer.build((None, 4, 5, 3))
        assert layer.alpha.shape == shape and not np.any(layer.alpha)
    assert not hasattr(layers, "RReLU")
    x = np.array([-1, 0.5, 1, 1.5, 9], np.float32)
    assert np.array_equal(layers.ReLU(threshold=1, max_value=6)(x), cc.relu(x, threshold=1, max_value=6))
    leaky = layers.ReLU(threshold=1, negative_slope=0.1)(x)
    assert np.allclose(leaky, cc.relu(x, threshold=1, negative_slope=0.1), rtol=4 * ROUNDOFF, atol=0)
    assert np.array_equal(layers.GaussianNoise(0.5)(x), x)
    assert abs(float(keras.activations.elu(np.array([-50], np.float32), alpha=3)[0]) + 3) < 1e-6


# ---- pooling, batch normalisation, softmax --------------------------------------------------------


def test_what_pooling_discards() -> None:
    n = names("07_pooling_and_norm")
    assert n["pooled"].tolist() == [[6, 8], [3, 4]]
    for size, valid, same in zip(n["sizes"], n["discarded"]["valid"], n["discarded"]["same"], strict=True):
        assert valid == 1 - (size // 2) ** 2 / size**2 and same == 1 - (-(-size // 2)) ** 2 / size**2
        assert (valid == 0.75 == same) == (size % 2 == 0)
    assert n["seen"].max() == 11 and n["seen"].shape == (1, 6, 1)
    assert "pool2 (6, 6, 6, 16)" in n["shown"]
    assert "zeros do not: [3.0, 4.5] [7.5, 9.0]" in n["shown"]
    assert "zeros count: [3.0, 2.25] [3.75, 2.25]" in n["shown"]
    assert "Keras today:      [2. 4.]" in n["shown"] and "Keras on Theano:  [1. 3.]" in n["shown"]


def test_batch_normalisation_is_a_line_and_folds() -> None:
    n = names("07_pooling_and_norm")
    # A few roundings of a x, b and their sum.
    size = np.abs(n["a"] * n["before"]) + np.abs(n["b"])
    assert np.all(np.abs(n["after"] - (n["a"] * n["before"] + n["b"])) <= 8 * ROUNDOFF * size.max())
    # Ten terms of a convolution each way.
    weight = np.abs(n["conv"].weights["kernel"] * n["a"]).sum(axis=(0, 1, 2)).max()
    bound = 2 * 12 * ROUNDOFF * (weight + np.abs(n["b"]).max())
    assert np.abs(n["folded"] - n["after"]).max() < bound


def test_softmax_of_the_chapter() -> None:
    shown = names("07_pooling_and_norm")["shown"]
    assert "as written: [nan nan nan]" in shown
    shares = np.exp([2, 1, 0.1]) / np.exp([2, 1, 0.1]).sum()
    assert np.allclose(cc.softmax(np.array([2, 1, 0.1], np.float32)), shares, rtol=1e-6)
    assert f"softmax of 2, 1 and 0.1: [{shares[0]:.5f}" in shown
    assert "axis 1:  [1. 1. 1. 1.]" in shown


def test_what_pooling_and_normalisation_say_of_keras() -> None:
    keras = import_keras()
    n = names("07_pooling_and_norm")
    mean = keras.layers.AveragePooling2D(2, padding="same")(n["nine"])
    assert np.array_equal(mean, cc.average_pool(n["nine"], padding="same"))
    assert np.ravel(keras.layers.MaxPooling1D(2, padding="same")(n["four"])).tolist() == [2, 4]
    layer = keras.layers.BatchNormalization(momentum=0.0)
    assert layer.epsilon == 1e-3
    layer(np.array([[1.0], [3.0]], np.float32), training=True)
    assert np.ravel(layer.moving_variance).tolist() == [1]  # not 2, which m / (m - 1) would make of it
    row = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    assert np.allclose(keras.layers.Softmax()(row), cc.softmax(row), rtol=1e-6)


# ---- Theano's figure ------------------------------------------------------------------------------


def test_the_bars_are_what_was_measured_here() -> None:
    n = names("08_theano")
    assert set(n["bars"]) == {"perceptron", "7x7 filter, 256x256 pixels"}
    for result in n["results"]:
        title, examples = n["workloads"][result.comparison.case]
        bars = dict(n["bars"][title])
        if result.device == "cuda" and no_gpu():
            assert result.mine.status == NOT_MEASURED and bars["convcore, GPU"] is None
            assert f"{title}: convcore on the GPU: not measured" in n["shown"]
            continue
        device = {"cpu": "CPU", "cuda": "GPU"}[result.device]
        median = result.mine.median
        assert median is not None
        assert bars[f"convcore, {device}"] == examples / (1e-3 * median)
        # Who was timed has given the same answer as we.
        assert all(one.difference < 1e-5 for one in result.comparison.peers.values() if one.median)
    assert dict(n["bars"]["perceptron"])["NumPy, CPU"] > 0
    assert all(len(ns) == len(n["sizes"]) and min(ns) > 0 for ns in n["per_number"].values())
    # A call costs more than a number: both are dearer per number in an array of ten.
    assert all(ns[0] > 3 * ns[-1] for ns in n["per_number"].values())


def test_float32_is_faster() -> None:
    """By two, as twice as many fit a register; the bound is far from it, for machines that are busy."""
    gains = names("08_theano")["gains"]
    assert len(gains) == 2 and all(gain > 1.2 for gain in gains.values())
