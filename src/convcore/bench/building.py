"""What a case is, and how its graph is made: a chain of operations with seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.loader.graph import Graph, Node, Source

__all__ = ["Builder", "Case"]


@dataclass(frozen=True)
class Case:
    """A workload: `build()` makes its graph, for images of `shape`; `group` is its family.

    Images are float32, or what `dtype` says: int16, as a scanner stores them. `planned` says whether the
    graph is a network, for which there is a plan; otherwise it is one function on arrays. `batch` is how
    many images a call has, where the name says it.
    """

    name: str
    group: str
    shape: tuple[int, ...]
    build: Callable[[], Graph]
    planned: bool = True
    dtype: str = "float32"
    batch: int | None = None

    def inputs(self, batch: int = 1, seed: int = 1) -> NDArray[Any]:
        """Return seeded numbers (normal if float32) for `batch` images; image i is alike in every batch."""
        random = np.random.default_rng(seed)
        if self.dtype == "int16":
            # None is -2000, "outside the scan", of which pydicom knows nothing: all compute the same.
            return random.integers(-1999, 4096, (batch, *self.shape), np.int16)
        return random.standard_normal((batch, *self.shape), np.float32)


class Builder:
    """A chain of nodes on one input; weights are He-scaled and come from one seed."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int = 0) -> None:
        self._name = name
        self._random = np.random.default_rng(seed)
        self._nodes = [Node("input", "input", (), shape, {"shape": shape})]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(n for n in self._nodes[-1].shape if n is not None)

    def add(self, operation: str, out: tuple[int, ...], weights: Any = None, /, **attributes: Any) -> Builder:
        """Append a node with an output of shape `out`."""
        name = f"{operation}_{len(self._nodes)}"
        before = (self._nodes[-1].name,)
        self._nodes.append(Node(name, operation, before, out, attributes, weights or {}, name, operation))
        return self

    def weights(self, *shape: int, biases: int) -> dict[str, NDArray[np.float32]]:
        """Return a kernel of `shape`, whose last axis is not summed over, and so many biases."""
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        return {
            "kernel": self._random.standard_normal(shape, np.float32) * scale,
            "bias": self._random.standard_normal(biases, np.float32) * np.float32(0.1),
        }

    def conv(self, channels: int, size: int, stride: int = 1, dilation: int = 1) -> Builder:
        """A "same" convolution of `size` along every axis, as PyTorch pads it: alike on both sides."""
        rank, before = len(self.shape) - 1, self.shape[-1]
        pad = dilation * (size - 1) // 2
        out = [(n + 2 * pad - dilation * (size - 1) - 1) // stride + 1 for n in self.shape[:-1]]
        return self.add(
            "conv",
            (*out, channels),
            self.weights(*(size,) * rank, before, channels, biases=channels),
            strides=(stride,) * rank,
            dilation=(dilation,) * rank,
            groups=1,
            padding=((pad, pad),) * rank,
        )

    def depthwise(self, size: int = 3, stride: int = 1) -> Builder:
        *sizes, channels = self.shape
        out = [(n - 1) // stride + 1 for n in sizes]
        return self.add(
            "depthwise_conv",
            (*out, channels),
            self.weights(size, size, channels, 1, biases=channels),
            strides=(stride, stride),
            dilation=(1, 1),
            padding=((size // 2, size // 2),) * 2,
        )

    def dense(self, width: int) -> Builder:
        return self.add("dense", (width,), self.weights(self.shape[-1], width, biases=width))

    def activation(self, kind: str) -> Builder:
        return self.add("activation", self.shape, kind=kind, parameters={})

    def softmax(self) -> Builder:
        return self.add("softmax", self.shape, axis=len(self.shape) - 1)

    def max_pool(self) -> Builder:
        *sizes, channels = self.shape
        rank = len(sizes)
        return self.add(
            "max_pool",
            (*(n // 2 for n in sizes), channels),
            pool_size=(2,) * rank,
            strides=(2,) * rank,
            padding=((0, 0),) * rank,
        )

    def batch_norm(self) -> Builder:
        channels = self.shape[-1]
        weights = {
            name: self._random.uniform(0.5, 1.5, channels).astype(np.float32)
            for name in ("mean", "variance", "gamma", "beta")
        }
        return self.add("batch_norm", self.shape, weights, axis=len(self.shape) - 1, epsilon=1e-3)

    def flatten(self) -> Builder:
        count = int(np.prod(self.shape))
        return self.add("reshape", (count,), shape=(count,))

    def graph(self, form: str = "seeded") -> Graph:
        """Return the chain; `form` is what its source says that it is."""
        ends = (self._nodes[0].name,), (self._nodes[-1].name,)
        return Graph(self._name, tuple(self._nodes), *ends, (), Source("", form, ""))
