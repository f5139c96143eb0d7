"""What a model's output numbers say: classes with probabilities, scores, plain values, or arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convcore.errors import InputError
from convcore.loader.graph import Graph, Node

__all__ = ["Answer", "Head", "answer", "confusion", "head_of"]

#: Nodes that pass numbers on without changing them.
_TRANSPARENT = ("identity", "reshape", "permute")
_SIGMOIDS = ("sigmoid", "hard_sigmoid")


@dataclass(frozen=True, slots=True)
class Head:
    """What the end of a network is.

    Attributes
    ----------
    kind
        ``"softmax"``, ``"sigmoid"`` (one number is two classes, several are independent of each other),
        ``"scores"`` (class scores that are no probabilities), ``"value"`` (one number that is no
        probability) or ``"array"`` (anything else: a mask, a picture, several outputs).
    classes
        Number of classes; 0 for ``"value"`` and ``"array"``.
    """

    kind: Literal["softmax", "sigmoid", "scores", "value", "array"]
    classes: int

    @property
    def gives_probabilities(self) -> bool:
        """Whether the numbers that come with the classes are probabilities."""
        return self.kind in ("softmax", "sigmoid")


@dataclass(frozen=True, slots=True)
class Answer:
    """One class for one input: its index, and its probability (or score)."""

    index: int
    value: float


def head_of(graph: Graph) -> Head:
    """Say what the output of `graph` is, by the last operation that changes numbers."""
    if len(graph.outputs) != 1:
        return Head("array", 0)
    node = graph.node(graph.outputs[0])
    sizes = [n for n in node.shape if n != 1]
    if len(sizes) > 1 or None in sizes:
        return Head("array", 0)
    classes = prod(n or 0 for n in sizes)
    last = _last_operation(graph, node, {})
    if last == "softmax" and classes > 1:
        return Head("softmax", classes)
    if last == "sigmoid":
        return Head("sigmoid", max(classes, 2))
    return Head("scores", classes) if classes > 1 else Head("value", 0)


def _last_operation(graph: Graph, node: Node, known: dict[str, str]) -> str:
    """Return "softmax", "sigmoid", or "" for anything else: what made the numbers of `node`.

    An average of probabilities is one itself: networks that vote end like that.
    """
    while node.operation in _TRANSPARENT:
        node = graph.node(node.inputs[0])
    if node.name not in known:
        found = node.operation if node.operation == "softmax" else ""
        if node.operation == "activation" and node.attributes["kind"] in _SIGMOIDS:
            found = "sigmoid"
        if node.operation == "average":
            votes = {_last_operation(graph, graph.node(name), known) for name in node.inputs}
            found = votes.pop() if len(votes) == 1 else ""
        known[node.name] = found
    return known[node.name]


def answer(head: Head, output: NDArray[np.float32], top: int) -> list[Answer]:
    """Return the `top` classes of one output, best first; of equal ones the lower index first.

    A single sigmoid p is class 1 with probability p if p > 0.5, else class 0 with probability 1 - p.
    """
    numbers = output.reshape(-1).astype(np.float64)
    if head.kind == "sigmoid" and numbers.size == 1:
        numbers = np.array([1.0 - numbers[0], numbers[0]])
    order = np.argsort(-numbers, kind="stable")[:top]
    return [Answer(int(i), float(numbers[i])) for i in order]


def confusion(truths: Sequence[int], found: Sequence[int], classes: int) -> NDArray[np.int64]:
    """Count how often true class i (row) was answered with class j (column).

    >>> confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (np.asarray(truths, np.intp), np.asarray(found, np.intp)), 1)
    return table


def class_indices(texts: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """Return the class index of each label text.

    Raises
    ------
    InputError
        A text is no class name; the message names the row.
    """
    index: dict[str, int] = {name: i for i, name in enumerate(names)}
    found = []
    for row, text in enumerate(texts, 1):
        if text not in index:
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise InputError(where, f"the label of data row {row}", got=text, expected=shown)
        found.append(index[text])
    return found


def as_json(answers: Sequence[Answer], names: Sequence[str], head: Head) -> list[dict[str, Any]]:
    """Return answers as records with ``class``, ``label`` and ``probability`` (or ``score``)."""
    key = "probability" if head.gives_probabilities else "score"
    return [{"class": a.index, "label": names[a.index] if names else None, key: a.value} for a in answers]
