"""What a case must give, in float64, and what computing it takes: multiply-adds and bytes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcore import reference
from convcore.loader.graph import Graph, Node

__all__ = ["Work", "error", "expected", "work"]

Array = NDArray[np.float64]


class Work(NamedTuple):
    """Arithmetic of the definition in FLOP (a multiply-add is two), and bytes, each array once.

    Operations without multiply-adds have no FLOP: what a maximum or an exponential counts is a matter of
    taste.
    """

    flops: float
    read: float
    written: float


def expected(graph: Graph, x: NDArray[Any]) -> Array:
    """Return the output of a graph on `x` (n, ...) by the reference, in float64.

    Examples
    --------
    >>> from convcore.bench import case
    >>> found = case("relu:4")
    >>> bool((expected(found.build(), found.inputs()) >= 0).all())
    True
    """
    node = graph.nodes[-1]
    match node.operation:
        case "correlate" | "convolve":
            return _filtered(node, x)
        case "resample":
            return reference.resample_linear(x[0], [n or 0 for n in node.shape])[np.newaxis]
        case "hu_rescale":
            hu = reference.hu_rescale(x, node.attributes["slope"], node.attributes["intercept"])
            return hu.astype(np.float64)
    return reference.evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]


def _filtered(node: Node, x: NDArray[Any]) -> Array:
    """A filter with zeros beyond the edge; its centre is entry k // 2, of the kernel as it was given."""
    kernel = np.asarray(node.weights["kernel"])
    flip = node.operation == "convolve"
    rank, low = kernel.ndim, [k // 2 - (flip and k % 2 == 0) for k in kernel.shape]
    padding = tuple((lo, k - 1 - lo) for lo, k in zip(low, kernel.shape, strict=True))
    ones = (1,) * rank
    image, filters = x[..., np.newaxis], kernel[..., np.newaxis, np.newaxis]
    return reference.conv(image, filters, strides=ones, dilation=ones, padding=padding, flip=flip)[..., 0]


def error(y: NDArray[Any], exact: Array) -> float:
    """Return the largest error over the largest exact number; infinite for NaN or another shape.

    Examples
    --------
    >>> error(np.float32([1, 2]), np.float64([1, 4]))
    0.5
    """
    if y.shape != exact.shape:
        return math.inf
    found = float(np.abs(y.astype(np.float64) - exact).max(initial=0.0))
    found /= max(float(np.abs(exact).max(initial=0.0)), 1e-30)
    return found if found == found else math.inf


def work(graph: Graph, batch: int, itemsize: int = 4) -> Work:
    """Return what a graph takes for `batch` images of `itemsize` bytes for each input number.

    Every operation's input, weights and output are counted once, at four bytes but for the input of the
    first.

    Examples
    --------
    >>> from convcore.bench import case
    >>> work(case("conv2d:ic64ih56oc128oh56kh3").build(), 1).flops == 2 * 56 * 56 * 9 * 64 * 128
    True
    """
    flops, read, written = 0.0, 0.0, 0.0
    first = graph.nodes[1].name
    for node in graph.nodes[1:]:
        if node.operation == "reshape":
            continue
        inputs = [_count(graph.node(name)) for name in node.inputs]
        size = itemsize if node.name == first else 4
        flops += 2 * batch * _multiply_adds(node, inputs)
        inside = _count(node) if node.operation == "crop" else sum(inputs)  # what is cut off is not read
        read += batch * size * inside + 4 * sum(math.prod(w.shape) for w in node.weights.values())
        written += batch * 4 * _count(node)
    return Work(flops, read, written)


def _count(node: Node) -> int:
    return math.prod(n or 0 for n in node.shape)


def _multiply_adds(node: Node, inputs: list[int]) -> int:
    """Multiply-adds for one image; padding is counted like the rest."""
    kernel = node.weights["kernel"].shape if "kernel" in node.weights else ()
    match node.operation:
        case "conv":
            return _count(node) * math.prod(kernel[:-1])
        case "depthwise_conv":
            return _count(node) * math.prod(kernel[:-2])
        case "conv_transpose":
            return inputs[0] * math.prod(kernel[:-1])
        case "dense":
            return math.prod(kernel) * (inputs[0] // kernel[0])
        case "correlate" | "convolve":
            return _count(node) * math.prod(kernel)
    return 0
