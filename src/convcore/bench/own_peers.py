"""This library beside the others, in the ways that people call it, and the bytes alone as a floor.

Adapters like those of :mod:`.peers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import convcore
from convcore import _native
from convcore.bench.formats import UnsupportedError
from convcore.bench.operations import is_call, prepared_call, public_call
from convcore.engine import Model
from convcore.loader.graph import Graph
from convcore.memory import aligned_floats
from convcore.ops import hu_rescale
from convcore.plan import Device, build
from convcore.run.cpu import CpuRunner
from convcore.run.roofline import last_cache_bytes, traffic

__all__ = ["Convcore", "ConvcoreCall", "ConvcorePrepared", "Roofline"]

Array = NDArray[np.float32]


class Convcore:
    """This library, with its output's memory given, as the others have theirs."""

    packages = ("convcore",)

    def __init__(self, threads: int) -> None:
        _native.set_num_threads(threads)

    def build(self, graph: Graph, x: Array) -> None:
        shape = [n or 0 for n in graph.node(graph.outputs[0]).shape]
        self._y = y = aligned_floats(len(x) * math.prod(shape)).reshape(len(x), *shape)
        if is_call(graph):
            self._run: Callable[[], object] = public_call(graph, convcore, x, y, lambda array: array)
        elif graph.nodes[-1].operation == "hu_rescale":
            given = graph.nodes[-1].attributes
            self._run = lambda: hu_rescale(x, **given, out=y)
        else:
            program = CpuRunner(build(graph, Device())).program(len(x))
            self._run = lambda: program.run([x], [y])

    def run(self) -> None:
        self._run()

    def output(self) -> Array:
        return self._y


class ConvcorePrepared:
    """This library's prepared kernels, whose weights are packed beforehand as the others' are."""

    packages = ("convcore",)

    def __init__(self, threads: int) -> None:
        _native.set_num_threads(threads)

    def build(self, graph: Graph, x: Array) -> None:
        if not is_call(graph):
            raise UnsupportedError("prepared kernels are single operations")
        shape = [n or 0 for n in graph.node(graph.outputs[0]).shape]
        self._y = aligned_floats(len(x) * math.prod(shape)).reshape(len(x), *shape)
        self._run = prepared_call(graph, convcore, x, self._y)

    def run(self) -> None:
        self._run()

    def output(self) -> Array:
        return self._y


class ConvcoreCall:
    """This library as people call it: ``model(x)``, with its checks, and a fresh output every time."""

    packages = ("convcore",)

    def __init__(self, threads: int) -> None:
        _native.set_num_threads(threads)

    def build(self, graph: Graph, x: Array) -> None:
        if is_call(graph):
            raise UnsupportedError("a call of a function is no model")
        self._model = Model(graph, Device())
        self._x = x

    def run(self) -> None:
        self._y = self._model(self._x)

    def output(self) -> Array:
        return np.asarray(self._y)


class Roofline:
    """No library: the bytes of the case read and written at this machine's best, so that others have a floor.

    Inputs, weights and output count once each; all of that must be larger than the last cache, twice, or
    the time would be a cache's.
    """

    packages = ("convcore",)

    def __init__(self, threads: int) -> None:
        _native.set_num_threads(threads)

    def build(self, graph: Graph, x: Array) -> None:
        weights = sum(4 * math.prod(a.shape) for node in graph.nodes for a in node.weights.values())
        read = x.nbytes + weights
        written = 4 * len(x) * math.prod(n or 0 for n in graph.node(graph.outputs[0]).shape)
        if read + written < 2 * last_cache_bytes():
            raise UnsupportedError("its bytes fit the caches")
        self._run = traffic(read, written)

    def run(self) -> None:
        self._run()

    def output(self) -> None:
        """Nothing is computed."""
