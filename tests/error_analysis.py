"""How far a network's values may be off: from what each operation rounds, node by node.

Every value has an exact part, from the reference, and a bound of its error. A node passes on the errors of
its inputs and adds its own. Errors of many layers in a row add up to bounds that say nothing, so the values
that a run has really computed are taken as exact where they are known: one step is bounded at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convcore import reference
from convcore.loader.graph import Graph, Node

from .memory import Array
from .tolerance import assert_within, dot_bound

__all__ = ["PRECISIONS", "Rounding", "check_values", "output_bounds", "probable_bound"]

#: Unit roundoff of float32.
_U = 2.0**-24
#: Nothing else errs by more units in the last place: activations, softmax's sums, an exponential.
_FUNCTIONS = 16


@dataclass(frozen=True)
class Rounding:
    """What is rounded: the `operands` of a product, and every `value` between steps."""

    operands: float
    values: float = _U


#: 3xTF32 loses what fits into neither part of an operand, and a fourth product.
PRECISIONS = {
    "float32": Rounding(1.5 * 2.0**-22),
    "tf32": Rounding(2.0**-11),
    "bfloat16": Rounding(2.0**-8, 2.0**-8),
}

#: No steeper than 1 anywhere.
_NOT_STEEP = ("relu", "tanh", "sigmoid", "elu")
#: Sums, maxima and choices of their inputs: |f(a) - f(b)| <= f(|a - b|).
_PASSED_ON = (
    "add", "max_pool", "average_pool", "global_average_pool", "concatenate", "upsample", "reshape",
)  # fmt: skip


def output_bounds(graph: Graph, known: Mapping[str, Array], rounding: Rounding) -> dict[str, Array]:
    """Return for every node of `graph` what it should give and a bound of the error, stacked.

    `known` has the inputs, and any nodes' values that nodes which read them are to start from.
    """
    expected: dict[str, Array] = {}
    read: dict[str, Array] = {}
    for node in graph.nodes:
        if node.operation != "input":
            values, errors = ([read[name][part] for name in node.inputs] for part in (0, 1))
            y = reference.evaluate_node(node, *values)
            error = _error(node, values, errors, y, rounding)
            error = error + (rounding.values + 2 * _FUNCTIONS * _U) * (np.abs(y) + error)
            expected[node.name] = read[node.name] = np.stack([y, error])
        if node.name in known:
            x = np.asarray(known[node.name], np.float64)
            read[node.name] = np.stack([x, np.zeros_like(x)])
    return expected


def check_values(graph: Graph, known: Mapping[str, Array], rounding: Rounding) -> None:
    """Raise AssertionError if a known value is not what the known ones before it give.

    Every output of the graph must be known.
    """
    bounds = output_bounds(graph, known, rounding)
    assert set(graph.outputs) <= set(known)
    for name, value in known.items():
        if name in bounds:
            exact, bound = bounds[name]
            assert_within(value, exact, bound)


def probable_bound(graph: Graph, rounding: Rounding) -> float:
    """What a network's outputs are hardly ever off by, as a share of the largest.

    Roundings have random signs and those of a sum cancel, so that every layer adds about one for each kind.
    """
    layers = sum(node.operation != "input" for node in graph.nodes)
    return layers * (2 * rounding.operands + rounding.values)


def _error(node: Node, values: list[Array], errors: list[Array], y: Array, rounding: Rounding) -> Array:
    if node.operation in ("conv", "dense"):
        absolute: dict[str, Any] = {name: np.abs(w) for name, w in node.weights.items()}
        no_bias = {**absolute, "bias": np.zeros_like(absolute["bias"])} if "bias" in absolute else absolute
        passed = reference.evaluate_node(replace(node, weights=no_bias), *errors)
        read = np.abs(values[0]) + errors[0]
        sums = reference.evaluate_node(replace(node, weights=absolute), read)
        length = absolute["kernel"][..., 0].size + 1
        lost = 2 * rounding.operands + rounding.operands**2
        return passed + lost * sums + dot_bound(length, (1 + lost) * sums)
    if node.operation == "batch_norm":
        x, e = values[0], errors[0]
        return np.abs(reference.evaluate_node(node, x + e) - y)
    if node.operation == "softmax":
        return y * np.expm1(2 * errors[0].max(axis=node.attributes["axis"] % y[0].ndim + 1, keepdims=True))
    if node.operation == "activation" and node.attributes["kind"] in _NOT_STEEP:
        return errors[0]
    assert node.operation in _PASSED_ON, f"no bound is known for {node.operation}"
    return reference.evaluate_node(node, *errors)
