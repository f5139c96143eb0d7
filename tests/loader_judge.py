"""Keras as the judge of a loaded graph, in float64, and how far the two may be apart.

The weights are float32 numbers on both sides and everything is computed in float64, so a right graph
agrees to rounding, and a wrong padding, order or constant is far outside of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.loader import Graph, load_graph
from convcore.reference import evaluate

from .tolerance import assert_within, unit_roundoff

Array = NDArray[Any]
_U = unit_roundoff(np.float64)


def seeded_weights(model: Any, seed: int = 0) -> None:
    """Give a Keras model float32-representable weights; variances are positive."""
    random = np.random.default_rng(seed)
    values = []
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path else -1.0
        scale = 1.0 / np.sqrt(max(1, np.prod(variable.shape[:-1])))
        value = random.uniform(low, 1.5, variable.shape) * (1.0 if low > 0 else scale)
        values.append(value.astype(np.float32))
    model.set_weights(values)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization works with copies of its weights


def inputs_for(shapes: list[tuple[int, ...]], batch: int = 2, seed: int = 1) -> list[Array]:
    """Seeded float32-representable inputs, of both signs."""
    random = np.random.default_rng(seed)
    return [random.uniform(-2, 2, (batch, *s)).astype(np.float32).astype(np.float64) for s in shapes]


def error_bound(graph: Graph, values: dict[str, Array]) -> float:
    """How far float64 computations of the outputs may differ: local errors, carried forward.

    Each node adds ``2 k u`` times the largest sum of absolute products, k the length of its sums, and
    multiplies what it is given by the largest factor that it can: the largest sum of absolute
    weights, 2 for activations (above the steepest slope of all of them) and softmax, the number of
    inputs for products of tensors no larger than M by M.
    """
    errors: dict[str, float] = {}
    for node in graph.nodes:
        if node.operation == "input":
            errors[node.name] = 0.0
            continue
        given = max(errors[name] for name in node.inputs)
        largest = max(float(np.abs(values[name]).max()) for name in node.inputs)
        length, gain = 4, 2.0
        weights = node.weights
        if "kernel" in weights:
            kernel = weights["kernel"]
            outputs = {"conv_transpose": kernel.shape[-2], "depthwise_conv": 1}.get(
                node.operation, kernel.shape[-1]
            )
            length = kernel.size // outputs + 1
            gain = float(np.abs(kernel).max()) * length
        elif node.operation == "batch_norm":
            gamma = float(np.abs(weights["gamma"]).max()) if "gamma" in weights else 1.0
            gain = gamma / float(np.sqrt(weights["variance"].min() + node.attributes["epsilon"]))
            largest += float(np.abs(weights["mean"]).max())
        elif "scale" in weights:
            # x * scale + offset against (x - mean) / deviation: the offset was rounded to float32 twice.
            gain = float(np.abs(weights["scale"]).max())
            rounding = 4 * unit_roundoff(np.float32) / _U
            length = int(rounding) if not _exact(weights["scale"]) else length
        elif node.attributes.get("kind") in ("gelu", "leaky_relu"):
            # TensorFlow holds sqrt(2) and the slope in float32, whatever the type of the tensor.
            length = int(2 * unit_roundoff(np.float32) / _U)
        elif node.operation == "multiply":
            gain = len(node.inputs) * largest ** (len(node.inputs) - 1)
        elif node.operation in ("add", "subtract"):
            gain = float(len(node.inputs))
        elif "pool" in node.operation:
            length = int(np.prod(values[node.inputs[0]].shape[1:-1]))
            gain = 1.0
        offset = max((float(np.abs(w).max()) for k, w in weights.items() if k != "kernel"), default=1.0)
        errors[node.name] = gain * given + 2 * length * _U * (gain * largest + offset)
    return max(errors[name] for name in graph.outputs)


def _exact(scale: Array) -> bool:
    """Whether the scale is one that a configuration holds exactly in float32: a power of two."""
    return bool((np.frexp(scale)[0] == 0.5).all())


def assert_agrees(graph: Graph, inputs: list[Array], expected: list[Array]) -> None:
    """Fail unless the reference's outputs of `graph` are `expected`, within :func:`error_bound`."""
    values = evaluate(graph, dict(zip(graph.inputs, inputs, strict=True)))
    bound = error_bound(graph, values)
    assert len(graph.outputs) == len(expected)
    largest = max(float(np.abs(e).max()) for e in expected)
    assert bound < 1e-2 * max(1.0, largest), f"the bound {bound} would prove nothing"
    for name, value in zip(graph.outputs, expected, strict=True):
        assert_within(values[name], value, bound)


def predict(model: Any, inputs: list[Array]) -> list[Array]:
    """The outputs of a Keras model as a list."""
    result = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    outputs = result if isinstance(result, list | tuple) else [result]
    return [np.asarray(o) for o in outputs]


def round_trip(model: Any, folder: Path, suffix: str = ".keras") -> Graph:
    """Save a Keras model and load it."""
    path = folder / f"model{suffix}"
    model.save(path)
    return load_graph(path)
