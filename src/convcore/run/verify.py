"""Is the model computed right? Every node against float64, and the whole against Keras.

Two questions, because they fail differently. *Locally*: each node's kernel is given the very inputs
that it had in the network, and the float64 reference too, so the error is this kernel's alone and its
bound is a theorem, or for Winograd's algorithm nearly one (see :mod:`convcore.run.bounds`). *End to
end*: the final outputs against Keras, which rounds too, so the bound is a probable one (Higham and Mary,
SIAM J. Sci. Comput. 41, 2019): rounding errors of n operations in a row grow like sqrt(n) u.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convcore import reference
from convcore.loader.graph import Graph
from convcore.run.bounds import LAMBDA, SMALLEST_NORMAL, U, node_bound, reduction_length
from convcore.tables import text_table


@dataclass(frozen=True)
class NodeCheck:
    """Largest error of one node, the bound at that place, and their ratio at the worst place."""

    node: str
    layer: str
    operation: str
    error: float
    magnitude: float
    worst: float


@dataclass(frozen=True)
class EndCheck:
    """An output against Keras: largest difference, over the largest magnitude, and the bound for it."""

    output: str
    error: float
    bound: float


@dataclass(frozen=True)
class Verification:
    """What :meth:`Model.verify` found. `keras` is empty when Keras could not judge; `note` says why."""

    nodes: tuple[NodeCheck, ...]
    keras: tuple[EndCheck, ...]
    note: str

    @property
    def ok(self) -> bool:
        """Every error is within its bound."""
        return all(n.worst <= 1.0 for n in self.nodes) and all(e.error <= e.bound for e in self.keras)

    @property
    def judge(self) -> str:
        """Who judged: Keras and the reference, or the reference alone."""
        return "Keras and the float64 reference" if self.keras else "the float64 reference"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {**asdict(self), "ok": self.ok, "judge": self.judge}

    def __str__(self) -> str:
        head = ("layer", "operation", "max error", "of max|y|", "of its bound")
        rows = []
        for n in self.nodes:
            rows.append(
                (
                    n.layer or n.node,
                    n.operation,
                    f"{n.error:.2e}",
                    f"{n.error / max(n.magnitude, 1e-300):.1e}",
                    f"{n.worst:.3f}",
                )
            )
        lines = [text_table(head, rows, left=(0, 1))]
        for e in self.keras:
            lines.append(f"{e.output}: differs from Keras by {e.error:.2e} of max|y|; bound {e.bound:.1e}")
        verdict = "right" if self.ok else "WRONG: an error exceeds its bound"
        return "\n".join([*lines, self.note, f"Judged by {self.judge}: {verdict}."])


def check_nodes(
    graph: Graph, trace: Mapping[str, np.ndarray], algorithms: Mapping[str, str]
) -> tuple[NodeCheck, ...]:
    """Compare every node's traced output with the reference on the node's own traced inputs.

    `algorithms` says which algorithm computed a node, where that matters to the bound.
    """
    checks = []
    for node in graph.nodes:
        if node.operation == "input":
            continue
        inputs = [np.asarray(trace[i], np.float64) for i in node.inputs]
        y = reference.evaluate_node(node, *inputs)
        got = np.asarray(trace[node.name], np.float64)
        error = np.abs(got - y)
        error[(got == y) | (np.isnan(got) & np.isnan(y))] = 0.0  # equal infinities differ by NaN
        bound = node_bound(node, inputs, y, algorithms.get(node.name, ""))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(error > 0, error / bound, 0.0)
        checks.append(
            NodeCheck(
                node.name,
                node.layer,
                node.operation,
                float(error.max(initial=0.0)),
                float(np.abs(y).max(initial=0.0)),
                float(ratio.max(initial=0.0)),
            )
        )
    return tuple(checks)


def end_bound(graph: Graph) -> float:
    """Probable difference of two float32 runs of `graph`, relative to the largest output."""
    return 2 * LAMBDA * U * math.sqrt(sum(reduction_length(n) for n in graph.nodes if n.operation != "input"))


def check_against_keras(
    graph: Graph, path: str, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
) -> tuple[tuple[EndCheck, ...], str]:
    """Load the file with Keras, if it is installed and can, and compare the final outputs."""
    try:
        import keras
    except ImportError:
        return (), "Keras is not installed."
    try:
        model = keras.models.load_model(path, compile=False)
        expected = model.predict(list(inputs) if len(inputs) > 1 else inputs[0], verbose=0)
    except Exception as error:  # whatever Keras raises on a file that it cannot read
        return (), f"Keras {keras.__version__} cannot judge this file ({type(error).__name__})."
    if isinstance(expected, Mapping):
        expected = list(expected.values())
    expected = list(expected) if isinstance(expected, list | tuple) else [expected]
    bound = end_bound(graph)
    checks = []
    for name, got, y in zip(graph.outputs, outputs, expected, strict=True):
        scale = max(float(np.abs(y).max(initial=0.0)), SMALLEST_NORMAL)
        checks.append(EndCheck(name, float(np.abs(got - y).max(initial=0.0)) / scale, bound))
    return tuple(checks), f"Judge: Keras {keras.__version__}."
