"""Whole graphs through the reference: every operation, and a network against Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from convcore import reference, shapes
from convcore.errors import ArgumentError
from convcore.loader.graph import OPERATIONS, Graph, Node, Source
from convcore.reference.network import _OPERATIONS

from .judges import import_keras
from .tolerance import assert_within, relative_bound

X = np.random.default_rng(0).standard_normal((2, 4, 6, 3))


def graph(*nodes: Node) -> Graph:
    inputs = tuple(n.name for n in nodes if n.operation == "input")
    return Graph("test", nodes, inputs, (nodes[-1].name,), (), Source("", "", ""))


def run(
    operation: str, attributes: Mapping[str, Any] | None = None, *others: np.ndarray, **weights: Any
) -> Any:
    """Return what a single node makes of X (and of `others`)."""
    values = {f"x{j}": x for j, x in enumerate((X, *others))}
    starts = [Node(name, "input", (), x.shape[1:]) for name, x in values.items()]
    stored = {name: np.asarray(w) for name, w in weights.items()}
    node = Node("y", operation, tuple(values), (), attributes or {}, stored)
    return reference.evaluate(graph(*starts, node), values)["y"]


def test_every_operation_of_the_graph_is_there() -> None:
    assert {"input", *_OPERATIONS} == set(OPERATIONS)


def test_axes_do_not_count_the_batch() -> None:
    assert (run("concatenate", {"axis": 0}, X) == np.concatenate([X, X], 1)).all()
    assert (run("concatenate", {"axis": -1}, X) == np.concatenate([X, X], -1)).all()
    assert (run("permute", {"axes": (2, 0, 1)}) == X.transpose(0, 3, 1, 2)).all()
    assert (run("reverse", {"axis": 2}) == X[..., ::-1]).all()
    assert (run("softmax", {"axis": 1}) == reference.softmax(X, 2)).all()
    mean, variance = np.arange(6.0), np.arange(1.0, 7)
    got = run("batch_norm", {"axis": 1, "epsilon": 0.1}, mean=mean, variance=variance, beta=mean)
    assert (got == reference.batch_norm(X, mean, variance, None, mean, axis=2, epsilon=0.1)).all()


def test_shape_operations() -> None:
    assert (run("reshape", {"shape": (24, 3)}) == X.reshape(2, 24, 3)).all()
    assert (run("reshape", {"shape": (None,)}) == X.reshape(2, -1)).all()
    assert (run("pad", {"padding": ((1, 0), (0, 2), (0, 0))})[:, 1:, :-2] == X).all()
    assert (run("crop", {"cropping": ((1, 0), (0, 2), (0, 0))}) == X[:, 1:, :-2]).all()
    assert (run("upsample", {"size": (2, 3)}) == reference.upsample(X, (2, 3))).all()
    resized = run("resize", {"size": (3, 5), "interpolation": "nearest"})
    assert (resized == reference.resize(X, (3, 5), "nearest")).all()
    assert (run("identity") == X).all()


def test_nary_operations() -> None:
    a, b = X * 2 - 1, X[:, :1] ** 2
    assert (run("add", {}, a, b) == X + a + b).all()
    assert (run("subtract", {}, a) == X - a).all()
    assert (run("multiply", {}, a, b) == X * a * b).all()
    assert (run("average", {}, a, b) == (X + a + b) / 3).all()
    assert (run("maximum", {}, a, b) == np.maximum(np.maximum(X, a), b)).all()
    assert (run("minimum", {}, a, b) == np.minimum(np.minimum(X, a), b)).all()


def test_elementwise_operations() -> None:
    activated = run("activation", {"kind": "elu", "parameters": {"alpha": 0.5}})
    assert (activated == reference.ACTIVATIONS["elu"](X, alpha=0.5)).all()
    alpha = np.full((4, 6, 3), 0.1)
    assert (run("prelu", alpha=alpha) == reference.prelu(X, alpha)).all()
    assert (run("affine", scale=2.0, offset=[1.0, 2, 3]) == X * 2 + [1, 2, 3]).all()


def test_convolutions_and_pools() -> None:
    step: dict[str, Any] = {"strides": (1, 2), "dilation": (1, 1), "padding": ((1, 1), (0, 1))}
    rng = np.random.default_rng(1)
    kernel, bias = rng.standard_normal((3, 2, 3, 4)), rng.standard_normal(4)
    got = run("conv", {**step, "groups": 1}, kernel=kernel, bias=bias)
    assert (got == reference.conv(X, kernel, bias, groups=1, **step)).all()
    got = run("depthwise_conv", step, kernel=kernel)
    assert (got == reference.depthwise_conv(X, kernel, **step)).all()
    crop, size = shapes.conv_transpose_geometry((4, 6), (3, 2), (1, 2), (1, 1), "same", None, "test")
    transposed = {**step, "padding": crop, "output_size": size}
    kernel = kernel.transpose(0, 1, 3, 2)
    got = run("conv_transpose", transposed, kernel=kernel)
    assert (got == reference.conv_transpose(X, kernel, **transposed)).all()
    pool: dict[str, Any] = {"pool_size": (2, 2), "strides": (2, 2), "padding": ((0, 1), (0, 0))}
    assert (run("max_pool", pool) == reference.max_pool(X, **pool)).all()
    pool["include_padding"] = True
    assert (run("average_pool", pool) == reference.average_pool(X, **pool)).all()
    assert (run("global_max_pool", {"keepdims": True}) == X.max((1, 2), keepdims=True)).all()
    assert (run("global_average_pool", {"keepdims": False}) == X.mean((1, 2))).all()


def test_a_network_with_a_branch_is_keras() -> None:
    keras = import_keras()
    x = keras.Input((4, 6, 3), dtype="float64")
    conv = keras.layers.Conv2D(5, 3, padding="same", dtype="float64")
    dense = keras.layers.Dense(2, dtype="float64")
    branch = keras.layers.ReLU(dtype="float64")(conv(x))
    joined = keras.layers.Concatenate(dtype="float64")([branch, x])
    model = keras.Model(x, dense(keras.layers.GlobalAveragePooling2D(dtype="float64")(joined)))
    kernels = [
        dict(zip(("kernel", "bias"), map(np.asarray, la.get_weights()), strict=True)) for la in (conv, dense)
    ]
    step = {"strides": (1, 1), "dilation": (1, 1), "groups": 1, "padding": ((1, 1), (1, 1))}
    values = reference.evaluate(
        graph(
            Node("x", "input", (), (4, 6, 3)),
            Node("conv", "conv", ("x",), (4, 6, 5), step, kernels[0]),
            Node("relu", "activation", ("conv",), (4, 6, 5), {"kind": "relu", "parameters": {}}),
            Node("join", "concatenate", ("relu", "x"), (4, 6, 8), {"axis": -1}),
            Node("mean", "global_average_pool", ("join",), (8,), {"keepdims": False}),
            Node("dense", "dense", ("mean",), (2,), {}, kernels[1]),
        ),
        {"x": X},
    )
    assert list(values) == ["x", "conv", "relu", "join", "mean", "dense"]
    # Sums of 27, 24 and 8 products, each below the product of the largest magnitudes.
    largest = [abs(w["kernel"]).max() for w in kernels]
    magnitude = 8 * max(27 * abs(X).max() * largest[0], abs(X).max()) * largest[1]
    assert_within(values["dense"], model(X), relative_bound(27 + 24 + 8 + 3, magnitude, np.float64))


def test_bad_inputs() -> None:
    one = graph(Node("x", "input", (), (4, None, 3)), Node("y", "identity", ("x",), (4, None, 3)))
    assert (reference.evaluate(one, {"x": X})["y"] == X).all()
    with pytest.raises(ArgumentError, match="no value for input x"):
        reference.evaluate(one, {"z": X})
    with pytest.raises(ArgumentError, match=r"\(2, 4, 6, 2\)"):
        reference.evaluate(one, {"x": X[..., :2]})
    with pytest.raises(ArgumentError, match="unknown operation in node y"):
        reference.evaluate(
            graph(Node("x", "input", (), (4, 6, 3)), Node("y", "attention", ("x",), ())), {"x": X}
        )
