"""Large networks of keras.applications, with seeded random weights, against Keras itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.engine import load_model
from convcore.run.verify import end_bound

from .judges import import_keras


def _randomise_normalisation(network: Any, random: np.random.Generator) -> None:
    """Give every BatchNormalization statistics: new ones are 0 and 1, which hide a mix-up of them."""
    for variable in network.weights:
        kind = variable.path.rsplit("/")[-1]
        if kind in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif kind in ("beta", "moving_mean"):
            variable.assign(random.normal(0, 0.1, variable.shape))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetB0"])
def test_application_is_keras(tmp_path: Path, name: str) -> None:
    """Compared before the classifier, too: its softmax may hide any difference.

    The bound is that of :func:`end_bound`, 2 * 8 * u * sqrt(n) for n products and sums in a row.
    """
    keras = import_keras()
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    network = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3))
    _randomise_normalisation(network, random)
    network.save(tmp_path / "m.keras")
    pooled = next(la.name for la in network.layers if isinstance(la, keras.layers.GlobalAveragePooling2D))
    both = keras.Model(network.input, [network.get_layer(pooled).output, network.output])

    model = load_model(tmp_path / "m.keras")
    x = random.uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    bound = end_bound(model.graph)
    assert model.graph.parameters == network.count_params()
    assert bound < 1e-3, "the bound would prove nothing"
    hidden, scores = both.predict(x, verbose=0)
    for got, expected in ((model.trace(x)[pooled], hidden), (model.predict(x), scores)):
        assert np.abs(got - expected).max() <= bound * np.abs(expected).max()
