"""Is the model computed right? Every node against float64, and the whole against Keras.

Two questions, because they fail differently. *Locally*: each node's kernel is given the very inputs
that it had in the network, and the float64 reference too, so the error is this kernel's alone and its
bound is a theorem, or for Winograd's algorithm nearly one (see :mod:`convcore.run.bounds`). *End to
end*: the final outputs against Keras, which rounds too, so the bound is a probable one (Higham and Mary,
SIAM J. Sci. Comput. 41, 2019): rounding errors of n operations in a row grow like sqrt(n) u.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore import reference
from convcore.loader.graph import Graph
from convcore.run.bounds import LAMBDA, SMALLEST_NORMAL, U, node_bound, reduction_length
from convcore.tables import text_table

#: Unit roundoff of the types that Keras and a device compute in.
_ROUNDOFF = {"float32": U, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}


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
    """What :meth:`convcore.Model.verify` found. `keras` is empty if Keras cannot judge; `note` says why."""

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
    graph: Graph, trace: Mapping[str, np.ndarray], algorithms: Mapping[str, str], lost: float = 0.0
) -> tuple[NodeCheck, ...]:
    """Compare every node's traced output with the reference on the node's own traced inputs.

    `algorithms` says which algorithm computed a node, where that matters to the bound, and `lost` what the
    operands of products lose (see :func:`.bounds.operand_loss`).
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
        bound = node_bound(node, inputs, y, algorithms.get(node.name, ""), lost)
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


def draw_inputs(graph: Graph) -> list[NDArray[np.float32]]:
    """One seeded image for every input: normal numbers, or whole ones where its type is an integer.

    Whole numbers are drawn from 0 to 255, or to the largest that the type has; open sizes become 64.
    """
    random = np.random.default_rng(0)
    drawn = []
    for node in map(graph.node, graph.inputs):
        shape = (1, *(64 if n is None else n for n in node.shape))
        dtype = np.dtype(node.attributes.get("dtype", np.float32))
        if dtype.kind == "f":
            drawn.append(random.standard_normal(shape, np.float32))
        else:
            largest = 1 if dtype.kind == "b" else min(255, np.iinfo(dtype).max)
            drawn.append(random.integers(0, largest, shape, endpoint=True).astype(np.float32))
    return drawn


def end_bound(graph: Graph, precision: str = "float32") -> float:
    """Probable difference of a run of `graph` in `precision` and Keras's, relative to the largest output.

    Keras's unit roundoff is that of the file's own precision, if that is less than float32.
    """
    terms = sum(reduction_length(n) for n in graph.nodes if n.operation != "input")
    return LAMBDA * (_ROUNDOFF[precision] + _ROUNDOFF[graph.source.precision]) * math.sqrt(terms)


def check_against_keras(
    graph: Graph,
    path: str,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    computed_in: str = "float32",
) -> tuple[tuple[EndCheck, ...], str]:
    """Load the file with Keras, if it is installed and can, and compare the final outputs.

    Where the model takes or returns a dictionary, its ends are told apart by their keys. `computed_in` is
    the precision of `outputs`.
    """
    try:
        import keras
    except ImportError:
        return (), "Keras is not installed."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Keras thinks of old settings, or of a dictionary's keys
            model = keras.models.load_model(path, compile=False)
            expected = _flat(model.predict(_fed(graph, inputs), verbose=0), graph.output_keys)
    except Exception as error:  # whatever Keras raises on a file that it cannot read
        return (), f"Keras {keras.__version__} cannot judge this file ({type(error).__name__})."
    precision = graph.source.precision
    if precision != "float32" and not all(np.isfinite(y).all() for y in expected):
        return (), f"Keras {keras.__version__} overflows: it computes this file in {precision}."
    bound = end_bound(graph, computed_in)
    checks = []
    for name, got, y in zip(graph.output_keys or graph.outputs, outputs, expected, strict=True):
        scale = max(float(np.abs(y).max(initial=0.0)), SMALLEST_NORMAL)
        checks.append(EndCheck(name, float(np.abs(got - y).max(initial=0.0)) / scale, bound))
    half = "" if precision == "float32" else f", which computes this file in {precision} itself"
    return tuple(checks), f"Judge: Keras {keras.__version__}{half}."


def _fed(graph: Graph, inputs: Sequence[np.ndarray]) -> Any:
    """The inputs in the form that Keras's model takes."""
    if graph.input_keys is not None:
        return dict(zip(graph.input_keys, inputs, strict=True))
    return list(inputs) if len(inputs) > 1 else inputs[0]


def _flat(outputs: Any, keys: Sequence[str] | None) -> list[NDArray[np.float64]]:
    """Keras's outputs in the order of the graph's: by `keys`, else with sorted keys at every level."""
    if isinstance(outputs, Mapping):
        outputs = [outputs[key] for key in (sorted(outputs) if keys is None else keys)]
    elif not isinstance(outputs, list | tuple):
        return [np.asarray(outputs, np.float64)]
    return [array for item in outputs for array in _flat(item, None)]
