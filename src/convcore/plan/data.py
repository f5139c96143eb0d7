"""The plan as printable data. It decides everything; whoever runs it decides nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class Device(NamedTuple):
    """What a plan is made for. `isa` is None for the process's own choice."""

    name: str = "cpu"
    isa: str | None = None
    accuracy: str = "standard"
    precision: str = "float32"


#: Bytes of an element, by the types that values have.
ITEM_BYTES = {"float32": 4, "bfloat16": 2}


class View(NamedTuple):
    """Part of a value, as a kernel sees it. `value` names the value; the rest is in elements.

    The first axis is the batch's: for a batch of n, shape[0] becomes n * shape[0].

    With `ld_block` the channels of a spatial view lie in blocks of 16, `ld_block` apart, and `halo` cells
    (low, high) around its three spatial axes lie in memory too, holding zeros.
    """

    value: str
    shape: tuple[int, ...]
    ld: tuple[int, ...]
    offset: int = 0
    ld_block: int = 0
    halo: tuple[tuple[int, int], ...] = ((0, 0),) * 3
    dtype: str = "float32"

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ITEM_BYTES[self.dtype]


class Value(NamedTuple):
    """What a step writes, or an input: `shape` as the graph has it, without the batch axis.

    It takes `floats` elements of type `dtype` per image. With `blocked` its channels lie in blocks of 16,
    with `halo` cells of zeros around the three spatial axes; otherwise it is a plain C-ordered array.
    """

    shape: tuple[int, ...]
    floats: int
    blocked: bool = False
    halo: tuple[tuple[int, int], ...] = ((0, 0),) * 3
    dtype: str = "float32"

    @property
    def bytes(self) -> int:
        """Bytes per image."""
        return self.floats * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, eq=False)
class PlanStep:
    """One kernel call. Figures are for one image.

    `options` are keyword arguments of ``_native.Step``; `weights` is packed as the kernel reads it;
    `computes` says in words what it computes, one word for each node of the graph that became part of it.
    """

    operation: str
    inputs: tuple[View, ...]
    output: View
    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    computes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: np.ndarray | None = None
    algorithm: str = ""
    flops: float = 0.0
    bytes: float = 0.0
    workspace_bytes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    @property
    def weight_bytes(self) -> int:
        """Bytes of its packed weights."""
        return 0 if self.weights is None else self.weights.nbytes

    @property
    def bytes_read(self) -> float:
        """Bytes of its inputs, every number once; its weights come on top, once for a batch."""
        return sum(float(v.itemsize * _distinct(v)) for v in self.inputs)

    @property
    def bytes_written(self) -> float:
        """Bytes of its result; of a `border`, those around the map alone."""
        if self.operation == "border":
            return self.bytes
        return float(self.output.itemsize * math.prod(self.output.shape))


def _distinct(view: View) -> int:
    """Numbers that a view shows, those repeated by a memory step of 0 once."""
    return math.prod(n for n, step in zip(view.shape, view.ld, strict=True) if step != 0)


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in order, and every value that they read and write.

    Attributes
    ----------
    values
        By name: all that has memory of its own, inputs and outputs too, but not constants.
    inputs, outputs
        (name, shape without batch) of what goes in and comes out.
    constants
        Small arrays that steps read beside their packed weights, such as PReLU's slopes.
    weights_from, weights_kept
        The cache file that the packed weights were mapped from, or were written to; at most one is set.
    """

    name: str
    device: Device
    isa: str
    steps: tuple[PlanStep, ...]
    values: Mapping[str, Value]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    constants: Mapping[str, np.ndarray]
    weights_from: Path | None = None
    weights_kept: Path | None = None

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights."""
        return sum(s.weight_bytes for s in self.steps)

    @property
    def algorithms(self) -> dict[str, str]:
        """The algorithm that computes each node."""
        return {node: s.algorithm for s in self.steps for node in s.nodes}

    @property
    def flops(self) -> float:
        """Arithmetic for one image: a multiply-add counts as two."""
        return sum(s.flops for s in self.steps)

    @property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the steps that belong together: a `border` and the step that fills the map inside it.

        Every row ends with the step that it is named after.
        """
        rows: list[tuple[int, ...]] = []
        borders: dict[str, int] = {}
        for i, step in enumerate(self.steps):
            if step.operation == "border":
                borders[step.output.value] = i
                continue
            before = borders.pop(step.output.value, None)
            rows.append((i,) if before is None else (before, i))
        return tuple(rows)

    def __str__(self) -> str:
        from convcore.plan.printed import plan_text  # to run a plan needs none of it

        return plan_text(self)
