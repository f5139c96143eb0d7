"""A graph that is a chain, as layers: what the kernels' schedules and the peers are built from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from convcore.errors import ArgumentError
from convcore.loader.graph import Graph

__all__ = ["Layer", "chain", "moved_bytes", "multiply_adds"]


@dataclass(frozen=True)
class Layer:
    """One operation and what is fused to it; shapes are without the batch.

    `relu` and `pool` say that the result goes through ReLU, and then through 2x2 max-pooling.
    """

    operation: str
    shape: tuple[int, ...]
    out: tuple[int, ...]
    weights: Mapping[str, Any]
    attributes: Mapping[str, Any]
    relu: bool = False
    pool: bool = False


def _sizes(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n is not None)


def chain(graph: Graph) -> tuple[Layer, ...]:
    """Return a graph's nodes as layers, with ReLU and pooling fused to the convolution or dense layer before.

    Raises
    ------
    ArgumentError
        The graph branches.

    Examples
    --------
    >>> from convcore.bench import case
    >>> [(layer.operation, layer.relu) for layer in chain(case("relu_64MiB").build())]
    [('activation', False)]
    """
    layers: list[Layer] = []
    shape = _sizes(graph.nodes[0].shape)
    for before, node in zip(graph.nodes, graph.nodes[1:], strict=False):
        if node.inputs != (before.name,):
            raise ArgumentError("bench", f"{node.name} branches", expected="a chain of layers")
        last, out = layers[-1] if layers else None, _sizes(node.shape)
        if node.operation == "reshape":
            shape = out
            continue
        weighted = last is not None and last.operation in ("conv", "dense") and not last.pool
        relu = node.operation == "activation" and node.attributes["kind"] == "relu"
        halves = node.operation == "max_pool" and tuple(node.attributes["pool_size"]) == (2, 2)
        even = halves and all(n % 2 == 0 for n in shape[:-1])
        if last is not None and weighted and relu and not last.relu:
            layers[-1] = replace(last, relu=True)
        elif last is not None and weighted and last.operation == "conv" and even:
            layers[-1] = replace(last, pool=True, out=out)
        else:
            layers.append(Layer(node.operation, shape, out, node.weights, node.attributes))
        shape = out
    return tuple(layers)


def multiply_adds(layers: tuple[Layer, ...], batch: int) -> int:
    """Return the multiply-adds of the definition.

    Examples
    --------
    >>> from convcore.bench import case
    >>> multiply_adds(chain(case("conv3x3_14_512_512").build()), 1) == 14 * 14 * 9 * 512 * 512
    True
    """
    total = 0
    for layer in layers:
        if layer.operation == "conv":
            *sizes, columns = layer.out
            positions = math.prod(n * (2 if layer.pool else 1) for n in sizes)
            total += positions * columns * math.prod(layer.weights["kernel"].shape[:-1])
        elif layer.operation == "dense":
            total += layer.weights["kernel"].size
    return batch * total


def moved_bytes(layers: tuple[Layer, ...], batch: int, itemsize: int = 4) -> int:
    """Return the bytes of every layer's input, weights and output, each touched once.

    Pixels of ``hu_rescale`` have two bytes, everything else `itemsize`.

    Examples
    --------
    >>> from convcore.bench import case
    >>> moved_bytes(chain(case("relu_64MiB").build()), 1)
    134217728
    """
    total = 0
    for layer in layers:
        read = 2 if layer.operation == "hu_rescale" else itemsize
        total += batch * (read * math.prod(layer.shape) + itemsize * math.prod(layer.out))
        total += itemsize * sum(w.size for w in layer.weights.values())
    return total
