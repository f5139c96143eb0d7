"""Dense, batch normalisation, scale and offset, softmax and PReLU against Keras and known numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convcore import reference
from convcore.errors import ArgumentError

from .judges import import_keras
from .tolerance import assert_within, dot_bound, relative_bound


def test_dense_is_keras() -> None:
    keras = import_keras()
    rng = np.random.default_rng(0)
    layer = keras.layers.Dense(5, dtype="float64", bias_initializer="random_normal")
    x = rng.standard_normal((2, 3, 7))
    judge = layer(x)
    kernel, bias = (np.asarray(w) for w in layer.get_weights())
    bound = dot_bound(8, reference.dense(abs(x), abs(kernel), abs(bias)), np.float64)
    assert_within(reference.dense(x, kernel, bias), judge, bound)


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize(("scale", "center"), [(True, True), (True, False), (False, True), (False, False)])
def test_batch_norm_is_keras(axis: int, scale: bool, center: bool) -> None:
    keras = import_keras()
    rng = np.random.default_rng(axis + 5)
    x = rng.standard_normal((2, 4, 5, 3))
    layer = keras.layers.BatchNormalization(axis=axis, scale=scale, center=center, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([rng.random(w.shape) for w in layer.get_weights()])
    names = ["gamma"] * scale + ["beta"] * center + ["mean", "variance"]
    weights: dict[str, Any] = dict(zip(names, map(np.asarray, layer.get_weights()), strict=True))
    got = reference.batch_norm(x, axis=axis, epsilon=layer.epsilon, **weights)
    # Keras multiplies out gamma / sqrt(v + e) first: some six roundings on values of this size.
    largest = (abs(x).max() + 1) / np.sqrt(layer.epsilon) + 1
    assert_within(got, layer(x, training=False), relative_bound(6, largest, np.float64))


def test_batch_norm_with_no_variance_divides_by_the_root_of_epsilon() -> None:
    y = reference.batch_norm([[1.0]], [0.0], [0.0], epsilon=1e-3)
    assert_within(y, [[1e-3**-0.5]], relative_bound(2, y, np.float64))
    with pytest.raises(ArgumentError, match="mean"):
        reference.batch_norm([[1.0, 2.0]], [0.0], [0.0, 0.0])


def test_batch_norm_folds_into_the_convolution_before_it() -> None:
    rng = np.random.default_rng(1)
    x, kernel, bias = rng.standard_normal((2, 6, 3)), rng.standard_normal((3, 3, 4)), rng.standard_normal(4)
    mean, variance, gamma, beta = rng.random((4, 4)) + 0.5
    options: dict[str, Any] = {"strides": (1,), "dilation": (1,), "padding": ((1, 1),)}
    plain = reference.batch_norm(reference.conv(x, kernel, bias, **options), mean, variance, gamma, beta)
    scale = gamma / np.sqrt(variance + 1e-3)
    folded = reference.conv(x, kernel * scale, (bias - mean) * scale + beta, **options)
    absolute = reference.conv(abs(x), abs(kernel) * scale, (abs(bias) + mean) * scale + beta, **options)
    assert_within(folded, plain, dot_bound(9 + 8, absolute, np.float64))


def test_window_and_centre_of_the_lung_tutorial() -> None:
    hu = np.array([-1024.0, -1000, -300, 0, 400, 3000])
    window = reference.ACTIVATIONS["relu"](reference.affine(hu, 1 / 1400, 1000 / 1400), max_value=1.0)
    expected = np.array([0, 0, 0.5, 1000 / 1400, 1, 1])
    assert_within(window, expected, relative_bound(4, 1.0, np.float64))
    centred = reference.affine(window, 1.0, -0.25)
    assert_within(centred[[1, 3, 4]], [-0.25, 1000 / 1400 - 0.25, 0.75], relative_bound(5, 1.0, np.float64))


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax_is_keras(axis: int) -> None:
    keras = import_keras()
    x = np.random.default_rng(2).standard_normal((3, 4, 5)) * 10
    judge = np.asarray(keras.ops.softmax(x, axis))
    # exp turns the absolute error of x - max into a relative one.
    roundings = np.abs(x).max() * 2 + x.shape[axis] + 4
    assert_within(reference.softmax(x, axis), judge, relative_bound(int(roundings) + 1, judge, np.float64))


def test_softmax_properties() -> None:
    x = np.random.default_rng(3).standard_normal((6, 9))
    u = relative_bound(12, 1.0, np.float64)
    assert_within(reference.softmax(x).sum(-1), np.ones(6), u)
    assert_within(reference.softmax(x + 64), reference.softmax(x), relative_bound(64 + 12, 1.0, np.float64))
    pair = reference.softmax(np.stack([x, np.zeros_like(x)], -1))[..., 0]
    assert_within(pair, reference.ACTIVATIONS["sigmoid"](x), u)
    assert reference.softmax([1e30, 0.0, -np.inf]).tolist() == [1, 0, 0]
    for row in ([-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]):
        assert np.isnan(reference.softmax(row)).all()


@pytest.mark.parametrize("shared", [None, [1, 2], [1, 2, 3]])
def test_prelu_is_keras(shared: list[int] | None) -> None:
    keras = import_keras()
    x = np.random.default_rng(4).standard_normal((2, 3, 4, 5))
    layer = keras.layers.PReLU(alpha_initializer="random_normal", shared_axes=shared, dtype="float64")
    judge = layer(x)
    alpha = np.asarray(layer.get_weights()[0])
    assert_within(reference.prelu(x, alpha), judge, relative_bound(1, judge, np.float64))


def test_prelu_at_the_ends() -> None:
    x = [-np.inf, -4.0, -0.0, 0.0, 4.0, np.inf, np.nan]
    assert reference.prelu(x, 0.25).tolist()[:6] == [-np.inf, -1, 0, 0, 4, np.inf]
    y = reference.prelu(x, 0.0)
    assert y[1:6].tolist() == [0, 0, 0, 4, np.inf] and np.isnan(y[[0, 6]]).all()
