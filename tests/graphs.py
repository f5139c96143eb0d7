"""Small graphs for tests, built without any model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convcore.loader.graph import Graph, Layer, Node, Source
from convcore.loader.infer import resolve


class GraphBuilder:
    """Adds nodes one by one; every method returns the new node's name."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self._nodes: list[Node] = []
        self._shapes: dict[str, tuple[int | None, ...]] = {}

    def input(self, *shape: int) -> str:
        return self._append(Node(f"input_{len(self._nodes)}", "input", (), shape, {"shape": shape}))

    def add(
        self,
        operation: str,
        inputs: str | Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> str:
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        shapes = [self._shapes[n] for n in names]
        resolved, shape = resolve(operation, attributes or {}, weights or {}, shapes, "test")
        name = f"{operation}_{len(self._nodes)}"
        return self._append(Node(name, operation, names, shape, resolved, weights or {}, name, operation))

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape, np.float32)

    def conv(
        self, x: str, out_channels: int, kernel: Sequence[int], *, bias: bool = True, **attributes: Any
    ) -> str:
        rank = len(kernel)
        groups = attributes.get("groups", 1)
        ic = self._shapes[x][-1]
        assert ic is not None
        given = {
            "strides": (1,) * rank,
            "dilation": (1,) * rank,
            "groups": 1,
            "padding": "same",
            **attributes,
        }
        weights = {"kernel": self.normal(*kernel, ic // groups, out_channels)}
        if bias:
            weights["bias"] = self.normal(out_channels)
        return self.add("conv", x, given, weights)

    def activation(self, x: str, kind: str, **parameters: Any) -> str:
        return self.add("activation", x, {"kind": kind, "parameters": parameters})

    def batch_norm(self, x: str, axis: int = -1) -> str:
        axis %= len(self._shapes[x])
        channels = self._shapes[x][axis]
        assert channels is not None
        weights = {n: self.normal(channels) for n in ("mean", "gamma", "beta")}
        weights["variance"] = np.abs(self.normal(channels)) + np.float32(0.5)
        return self.add("batch_norm", x, {"axis": axis, "epsilon": 1e-3}, weights)

    def graph(self, *outputs: str) -> Graph:
        layers = tuple(Layer(n.name, n.operation, n.name, n.shape, 0) for n in self._nodes)
        inputs = tuple(n.name for n in self._nodes if n.operation == "input")
        return Graph("test", tuple(self._nodes), inputs, outputs, layers, Source("", "test", ""))

    def _append(self, node: Node) -> str:
        self._nodes.append(node)
        self._shapes[node.name] = node.shape
        return node.name


def convnet(seed: int = 0) -> Graph:
    """Convolutions, normalisation, a branch, pooling, flattening, dense and softmax: 12x13x5 to 7."""
    b = GraphBuilder(seed)
    x = b.input(12, 13, 5)
    y = b.activation(b.batch_norm(b.conv(x, 19, (3, 3), bias=False)), "relu")
    left = b.activation(b.conv(y, 16, (1, 1)), "tanh")
    right = b.conv(y, 16, (3, 3), dilation=(2, 2))
    y = b.activation(b.add("add", [left, right]), "relu", max_value=6.0)
    y = b.add("concatenate", [y, left], {"axis": 2})
    y = b.add("max_pool", y, {"pool_size": (2, 2), "strides": (2, 2), "padding": "same"})
    y = b.add("reshape", y, {"shape": (6 * 7 * 32,)})
    y = b.activation(b.add("dense", y, {}, {"kernel": b.normal(6 * 7 * 32, 40), "bias": b.normal(40)}), "elu")
    y = b.add("dense", y, {}, {"kernel": b.normal(40, 7)})
    return b.graph(b.add("softmax", y, {"axis": 0}))
