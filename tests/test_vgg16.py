"""VGG16 end to end: three file layouts, photographs, Keras as the judge.

ImageNet-trained weights are not among the test data, so the weights are seeded: He's normal numbers, and
a last layer scaled and shifted so that over a few photographs the logits have mean 0 and standard
deviation 3. Photographs then differ in their answers, as they do in a trained network.

The judge of the logits is Keras in float64: in float32 Keras is itself 8e-6 of max|logit| away from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore.inputs import preprocess, read_picture

from .judges import import_keras
from .loader_files import write_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PHOTOGRAPHS = (
    "chelsea.png",
    "astronaut.png",
    "tfjs_cat.jpg",
    "darknet_dog.jpg",
    "jetson_dog_2.jpg",
    "caffe_cat.jpg",
)
#: Design's goal for the whole network: error of the logits over their largest magnitude.
LOGIT_GOAL = 1e-5


@dataclass(frozen=True)
class Judge:
    """Keras's own VGG16 with seeded weights; its logits for the photographs."""

    model: Any
    photographs: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray


def load_photographs(folder: Path) -> np.ndarray:
    pictures = [read_picture(folder / "images" / name, size=(224, 224)) for name in PHOTOGRAPHS]
    return preprocess(np.stack(pictures), "caffe")


def seed_weights(keras: Any, model: Any, photographs: np.ndarray) -> None:
    random = np.random.default_rng(16)
    for layer in model.layers:
        if layer.weights:
            kernel = random.standard_normal(layer.kernel.shape, np.float32)
            fan_in = np.prod(layer.kernel.shape[:-1])
            layer.set_weights(
                [kernel * np.float32(np.sqrt(2 / fan_in)), np.zeros(kernel.shape[-1], np.float32)]
            )
    features = keras.Model(model.input, model.layers[-2].output).predict(photographs, verbose=0, batch_size=2)
    kernel = model.layers[-1].get_weights()[0]
    logits = features @ kernel
    centre = logits.mean(axis=0)
    scale = np.float32(3.0 / (logits - centre).std())
    model.layers[-1].set_weights([kernel * scale, -centre * scale])


def logits_in_float64(keras: Any, model: Any, photographs: np.ndarray) -> np.ndarray:
    keras.config.set_dtype_policy("float64")
    try:
        exact = keras.applications.VGG16(weights=None, classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")
    exact.set_weights(model.get_weights())
    return exact.predict(photographs.astype(np.float64), verbose=0, batch_size=2)


@pytest.fixture(scope="module")
def judge(data_dir: Path) -> Judge:
    keras = import_keras()
    model = keras.applications.VGG16(weights=None)
    photographs = load_photographs(data_dir)
    seed_weights(keras, model, photographs)
    logits = logits_in_float64(keras, model, photographs)
    assert 2.0 < logits.std() < 4.0
    assert len(set(logits.argmax(axis=1))) > 3, "the photographs must differ in top-1"
    return Judge(model, photographs, logits, model.predict(photographs, verbose=0, batch_size=2))


def assert_equals_keras(judge: Judge, model: cc.Model) -> None:
    probabilities = model.predict(judge.photographs, batch_size=4)
    logits = np.log(probabilities.astype(np.float64))
    # softmax forgets a constant per row: compare logits with their mean removed
    expected = judge.logits - judge.logits.mean(axis=1, keepdims=True)
    got = logits - logits.mean(axis=1, keepdims=True)
    assert np.abs(got - expected).max() <= LOGIT_GOAL * np.abs(expected).max()
    assert np.array_equal(got.argmax(axis=1), expected.argmax(axis=1))
    top = np.argsort(-probabilities, axis=1)[:, :5]
    assert np.array_equal(top, np.argsort(-judge.probabilities, axis=1)[:, :5])


def test_keras_3_file(judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "vgg16.keras"
    judge.model.save(path)
    model = cc.load_model(path)
    assert model.graph.parameters == 138_357_544
    assert_equals_keras(judge, model)
    check_bits_and_trace(judge, model)


def check_bits_and_trace(judge: Judge, model: cc.Model) -> None:
    one = judge.photographs[:1]
    assert np.array_equal(model.predict(judge.photographs)[0], model(one)[0])
    trace = model.trace(one)
    assert trace["block5_pool"].shape == (1, 7, 7, 512)
    assert np.abs(trace["predictions"] - model(one)).max() < LOGIT_GOAL


def test_keras_2_file(judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "vgg16.h5"
    judge.model.save(path)  # Keras 3 writes the layout of Keras 2 under this name
    assert_equals_keras(judge, cc.load_model(path))


def test_weights_file_of_keras_applications(judge: Judge, tmp_path: Path) -> None:
    """Weights alone, in Keras 1's names, as vgg16_weights_tf_dim_ordering_tf_kernels.h5 has them."""
    h5py = pytest.importorskip("h5py")
    weights = []
    for layer in judge.model.layers:
        names = [f"{layer.name}_W_1:0", f"{layer.name}_b_1:0"]
        weights.append((layer.name, list(zip(names, layer.get_weights(), strict=False))))
    path = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    with h5py.File(path, "w") as f:
        write_weights(f, weights)
    architecture = tmp_path / "vgg16.json"
    architecture.write_text(judge.model.to_json())
    assert_equals_keras(judge, cc.load_model(path, architecture=architecture))


def test_fine_tuned_head(judge: Judge, tmp_path: Path) -> None:
    """The article's cats and dogs: the last layer replaced by two classes."""
    keras = import_keras()
    keras.utils.set_random_seed(2)
    tail = keras.layers.Dense(2, activation="softmax", name="cats_dogs")(judge.model.layers[-2].output)
    network = keras.Model(judge.model.input, tail)
    path = tmp_path / "cats_dogs.keras"
    network.save(path)
    model = cc.load_model(path)
    assert model.graph.parameters == 134_268_738
    expected = network.predict(judge.photographs, verbose=0, batch_size=2)
    np.testing.assert_allclose(model.predict(judge.photographs), expected, atol=LOGIT_GOAL * 10, rtol=0)
