"""The plan as printable data. It decides everything; whoever runs it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from convcore.tables import text_table


@dataclass(frozen=True)
class Device:
    """What a plan is made for. `isa` is None for the process's own choice."""

    name: str = "cpu"
    isa: str | None = None
    accuracy: str = "standard"
    precision: str = "float32"


@dataclass(frozen=True)
class View:
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


@dataclass(frozen=True, eq=False)
class PlanStep:
    """One kernel call. Figures are for one image.

    `options` are keyword arguments of ``_native.Step``; `weights` is packed as the kernel reads it.
    """

    operation: str
    inputs: tuple[View, ...]
    output: View
    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: np.ndarray | None = None
    algorithm: str = ""
    flops: float = 0.0
    bytes: float = 0.0
    workspace_bytes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in order, and every value's size.

    Attributes
    ----------
    sizes
        Floats per image of every value that is neither an input nor an output nor a constant.
    inputs, outputs
        (name, shape without batch) of what goes in and comes out.
    constants
        Small arrays that steps read beside their packed weights, such as PReLU's slopes.
    """

    name: str
    device: Device
    isa: str
    steps: tuple[PlanStep, ...]
    sizes: Mapping[str, int]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    constants: Mapping[str, np.ndarray]

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights."""
        return sum(s.weights.nbytes for s in self.steps if s.weights is not None)

    @property
    def algorithms(self) -> dict[str, str]:
        """The algorithm that computes each node."""
        return {node: s.algorithm for s in self.steps for node in s.nodes}

    @property
    def flops(self) -> float:
        """Arithmetic for one image: a multiply-add counts as two."""
        return sum(s.flops for s in self.steps)

    def __str__(self) -> str:
        head = ("step", "operation", "algorithm", "output", "MFLOP", "KB moved", "weights KB", "layers")
        rows = []
        for i, s in enumerate(self.steps):
            activation = s.options.get("activation", ("linear", ()))[0]
            operation = s.operation if activation == "linear" else f"{s.operation} + {activation}"
            weights = 0 if s.weights is None else s.weights.nbytes
            rows.append(
                (
                    str(i),
                    operation,
                    s.algorithm,
                    "x".join(map(str, s.output.shape[1:] or s.output.shape)),
                    f"{s.flops / 1e6:.2f}",
                    f"{s.bytes / 1024:.0f}",
                    f"{weights / 1024:.0f}",
                    ", ".join(s.layers),
                )
            )
        table = text_table(head, rows, left=(1, 2, 3, 7))
        total = (
            f"{len(self.steps)} steps on {self.device.name} ({self.isa}, accuracy {self.device.accuracy}, "
            f"{self.device.precision}): {self.flops / 1e9:.3f} GFLOP per image, "
            f"{self.weight_bytes / 1e6:.1f} MB of packed weights"
        )
        return "\n".join([f"Plan of {self.name}", table, total])
