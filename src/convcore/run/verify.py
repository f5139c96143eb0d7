"""Is the model computed right? Every node against float64, and the whole against Keras.

Two questions, because they fail differently. *Locally*: each node's kernel is given the very inputs
that it had in the network, and the float64 reference too, so the error is this kernel's alone and its
bound is a theorem (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1): a sum of k
products is within 2 k u sum|a b|. *End to end*: the final outputs against Keras, which rounds too, so
the bound is a probable one (Higham and Mary, SIAM J. Sci. Comput. 41, 2019): rounding errors of n
operations in a row grow like sqrt(n) u.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore import reference
from convcore.loader.graph import Graph, Node
from convcore.tables import text_table

#: Unit roundoff of float32.
U = 2.0**-24
_SMALLEST_NORMAL = 2.0**-126
#: Higham and Mary's lambda: with 8, the probability of a larger error is below 1e-13 a sum.
_LAMBDA = 8.0

Array = NDArray[np.float64]

_EXACT = frozenset(
    {
        "max_pool",
        "global_max_pool",
        "maximum",
        "minimum",
        "concatenate",
        "reshape",
        "permute",
        "reverse",
        "pad",
        "crop",
        "upsample",
        "identity",
    }
)
_LINEAR = frozenset({"conv", "depthwise_conv", "conv_transpose", "dense", "batch_norm", "affine"})


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


def _absolute(node: Node, inputs: Sequence[Array]) -> Array:
    """The node on absolute values: sum|a b| + |bias| for every output."""
    weights = {k: np.abs(v.astype(np.float64)) for k, v in node.weights.items()}
    if node.operation == "batch_norm":
        weights["variance"] = node.weights["variance"].astype(np.float64)
        weights["mean"] = -weights["mean"]  # (|x| + |mean|) * |gamma| / sqrt(variance + epsilon) + |beta|
    stand_in = Node(node.name, node.operation, node.inputs, node.shape, node.attributes, weights)
    return reference.evaluate_node(stand_in, *(np.abs(x) for x in inputs))


def reduction_length(node: Node) -> int:
    """How many products and sums stand behind one output of `node`."""
    if node.operation in {"conv", "dense", "conv_transpose"}:
        kernel = node.weights["kernel"]
        outputs = kernel.shape[-2] if node.operation == "conv_transpose" else kernel.shape[-1]
        return int(kernel.size // outputs) + 1
    if node.operation == "depthwise_conv":
        return int(math.prod(node.weights["kernel"].shape[:-2])) + 1
    return 4


def _bound(node: Node, inputs: Sequence[Array], y: Array) -> Array:
    """Largest error that float32 arithmetic may make, for every output."""
    bound: Array
    op = node.operation
    if op in _EXACT:
        return np.zeros_like(y)
    if op in _LINEAR:
        return 2 * (reduction_length(node) + 2) * U * _absolute(node, inputs)
    if op in {"average_pool", "global_average_pool"}:
        count = math.prod(inputs[0].shape[1:-1]) if op[0] == "g" else math.prod(node.attributes["pool_size"])
        return 2 * (count + 2) * U * _absolute(node, inputs)
    if op == "softmax":
        axis = node.attributes["axis"]
        axis = axis if axis < 0 else axis + 1
        x = inputs[0]
        spread = x.max(axis=axis, keepdims=True) - x
        bound = U * (x.shape[axis] + 16 + 2 * spread) * y + _SMALLEST_NORMAL
        return bound
    if op in {"add", "subtract", "average"}:
        bound = 2 * len(inputs) * U * np.sum(np.broadcast_arrays(*(np.abs(x) for x in inputs)), axis=0)
        return bound
    if op == "resize":
        return np.full_like(y, 8 * U * np.abs(inputs[0]).max(initial=0.0))
    # Elementwise functions and products: a few units in the last place of the result.
    return 8 * U * np.abs(y) + _SMALLEST_NORMAL


def check_nodes(graph: Graph, trace: Mapping[str, np.ndarray]) -> tuple[NodeCheck, ...]:
    """Compare every node's traced output with the reference on the node's own traced inputs."""
    checks = []
    for node in graph.nodes:
        if node.operation == "input":
            continue
        inputs = [np.asarray(trace[i], np.float64) for i in node.inputs]
        y = reference.evaluate_node(node, *inputs)
        got = np.asarray(trace[node.name], np.float64)
        error = np.abs(got - y)
        error[(got == y) | (np.isnan(got) & np.isnan(y))] = 0.0  # equal infinities differ by NaN
        bound = _bound(node, inputs, y)
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
    return (
        2 * _LAMBDA * U * math.sqrt(sum(reduction_length(n) for n in graph.nodes if n.operation != "input"))
    )


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
        scale = max(float(np.abs(y).max(initial=0.0)), _SMALLEST_NORMAL)
        checks.append(EndCheck(name, float(np.abs(got - y).max(initial=0.0)) / scale, bound))
    return tuple(checks), f"Judge: Keras {keras.__version__}."
