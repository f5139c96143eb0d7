"""What is measured: named workloads, as graphs with seeded weights that every peer can build for itself.

A case is its name: a process that is told ``vgg16`` makes the same network and the same images as any
other. Sizes are those of networks that people run: VGG16 and its nine distinct convolutions, ResNet-50's
convolutions that Winograd's algorithm does not serve, MobileNet's depthwise ones, a volume, the operations
that only move memory, and a CT volume's way to Hounsfield units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.errors import ArgumentError
from convcore.loader.graph import Graph, Node, Source

__all__ = ["CASES", "GROUPS", "MEMORY_BOUND", "Case", "case", "sonar_mlp", "vgg16"]

#: Groups whose cases take the time that their bytes take, where those fit no cache.
MEMORY_BOUND = ("depthwise conv", "dense", "memory", "hounsfield")

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_DENSE = (4096, 4096, 1000)


@dataclass(frozen=True)
class Case:
    """A workload: `build()` makes its graph, for images of `shape`; `group` is its family.

    Images are float32, those of ``hounsfield`` the int16 that a scanner stores. `planned` says whether the
    graph is a network, for which there is a plan; otherwise it is one function on arrays.
    """

    name: str
    group: str
    shape: tuple[int, ...]
    build: Callable[[], Graph]
    planned: bool = True

    def inputs(self, batch: int = 1, seed: int = 1) -> NDArray[Any]:
        """Return seeded numbers (normal if float32) for `batch` images; image i is alike in every batch."""
        random = np.random.default_rng(seed)
        if self.group == "hounsfield":
            # None is -2000, "outside the scan", of which pydicom knows nothing: all compute the same.
            return random.integers(-1999, 4096, (batch, *self.shape), np.int16)
        return random.standard_normal((batch, *self.shape), np.float32)


class _Builder:
    """A chain of nodes on one input; weights are He-scaled and come from one seed."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int = 0) -> None:
        self._name = name
        self._random = np.random.default_rng(seed)
        self._nodes = [Node("input", "input", (), shape, {"shape": shape})]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(n for n in self._nodes[-1].shape if n is not None)

    def add(
        self, operation: str, out: tuple[int, ...], weights: Any = None, /, **attributes: Any
    ) -> _Builder:
        name = f"{operation}_{len(self._nodes)}"
        before = (self._nodes[-1].name,)
        self._nodes.append(Node(name, operation, before, out, attributes, weights or {}, name, operation))
        return self

    def _weights(self, *shape: int, biases: int) -> dict[str, NDArray[np.float32]]:
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        return {
            "kernel": self._random.standard_normal(shape, np.float32) * scale,
            "bias": self._random.standard_normal(biases, np.float32) * np.float32(0.1),
        }

    def conv(self, channels: int, size: int, stride: int = 1, dilation: int = 1) -> _Builder:
        """A "same" convolution of `size` along every axis, as PyTorch pads it: alike on both sides."""
        rank, before = len(self.shape) - 1, self.shape[-1]
        pad = dilation * (size - 1) // 2
        out = [(n + 2 * pad - dilation * (size - 1) - 1) // stride + 1 for n in self.shape[:-1]]
        return self.add(
            "conv",
            (*out, channels),
            self._weights(*(size,) * rank, before, channels, biases=channels),
            strides=(stride,) * rank,
            dilation=(dilation,) * rank,
            groups=1,
            padding=((pad, pad),) * rank,
        )

    def depthwise(self, size: int = 3, stride: int = 1) -> _Builder:
        *sizes, channels = self.shape
        out = [(n - 1) // stride + 1 for n in sizes]
        return self.add(
            "depthwise_conv",
            (*out, channels),
            self._weights(size, size, channels, 1, biases=channels),
            strides=(stride, stride),
            dilation=(1, 1),
            padding=((size // 2, size // 2),) * 2,
        )

    def dense(self, width: int) -> _Builder:
        return self.add("dense", (width,), self._weights(self.shape[-1], width, biases=width))

    def activation(self, kind: str) -> _Builder:
        return self.add("activation", self.shape, kind=kind, parameters={})

    def softmax(self) -> _Builder:
        return self.add("softmax", self.shape, axis=len(self.shape) - 1)

    def max_pool(self) -> _Builder:
        *sizes, channels = self.shape
        rank = len(sizes)
        return self.add(
            "max_pool",
            (*(n // 2 for n in sizes), channels),
            pool_size=(2,) * rank,
            strides=(2,) * rank,
            padding=((0, 0),) * rank,
        )

    def batch_norm(self) -> _Builder:
        channels = self.shape[-1]
        weights = {
            name: self._random.uniform(0.5, 1.5, channels).astype(np.float32)
            for name in ("mean", "variance", "gamma", "beta")
        }
        return self.add("batch_norm", self.shape, weights, axis=len(self.shape) - 1, epsilon=1e-3)

    def flatten(self) -> _Builder:
        count = int(np.prod(self.shape))
        return self.add("reshape", (count,), shape=(count,))

    def graph(self) -> Graph:
        ends = (self._nodes[0].name,), (self._nodes[-1].name,)
        return Graph(self._name, tuple(self._nodes), *ends, (), Source("", "seeded", ""))


def vgg16(seed: int = 0) -> Graph:
    """VGG16 on 224 x 224 x 3 with seeded weights, without its final softmax: outputs are logits.

    Examples
    --------
    >>> graph = vgg16() # doctest: +SKIP
    >>> sum(n.operation == "conv" for n in graph.nodes) # doctest: +SKIP
    13
    """
    network = _Builder("vgg16", (224, 224, 3), seed)
    for width, repeats in _BLOCKS:
        for _ in range(repeats):
            network.conv(width, 3).activation("relu")
        network.max_pool()
    network.flatten()
    for width in _DENSE[:-1]:
        network.dense(width).activation("relu")
    return network.dense(_DENSE[-1]).graph()


def sonar_mlp(seed: int = 0) -> Graph:
    """A network of the Sonar example's size: 60 - 60 - 30 - 1, with a sigmoid at its end.

    Examples
    --------
    >>> [n.operation for n in sonar_mlp().nodes]
    ['input', 'dense', 'activation', 'dense', 'activation', 'dense', 'activation']
    """
    network = _Builder("sonar_mlp", (60,), seed)
    return (
        network.dense(60)
        .activation("relu")
        .dense(30)
        .activation("relu")
        .dense(1)
        .activation("sigmoid")
        .graph()
    )


def _hounsfield(shape: tuple[int, ...]) -> Graph:
    """A CT volume's stored values to float32 Hounsfield units: no network's operation, but a graph here."""
    network = _Builder(f"hu_rescale_{'_'.join(map(str, shape))}", shape)
    return network.add("hu_rescale", shape, slope=1.0, intercept=-1024.0).graph()


def _single(name: str, shape: tuple[int, ...], add: Callable[[_Builder], _Builder]) -> Callable[[], Graph]:
    return lambda: add(_Builder(name, shape)).graph()


#: VGG16's nine: size of the map, channels, filters.
_VGG_CONVOLUTIONS = (
    (224, 3, 64), (224, 64, 64), (112, 64, 128), (112, 128, 128), (56, 128, 256), (56, 256, 256),
    (28, 256, 512), (28, 512, 512), (14, 512, 512),
)  # fmt: skip
#: What Winograd's algorithm does not serve: map, channels, filters, kernel, stride, dilation.
_DIRECT_CONVOLUTIONS = (
    (224, 3, 64, 7, 2, 1),
    (56, 64, 256, 1, 1, 1), (56, 256, 64, 1, 1, 1), (28, 512, 128, 1, 1, 1), (14, 1024, 256, 1, 1, 1),
    (7, 512, 2048, 1, 1, 1),
    (56, 128, 128, 3, 2, 1), (28, 256, 256, 3, 2, 1), (14, 512, 512, 3, 2, 1),
    (28, 64, 96, 5, 1, 1), (28, 256, 256, 3, 1, 2),
)  # fmt: skip
#: MobileNet's, and two of EfficientNet's: map, channels, kernel, stride.
_DEPTHWISE = (
    (112, 32, 3, 1), (112, 64, 3, 2), (56, 128, 3, 1), (56, 128, 3, 2), (28, 256, 3, 1), (28, 256, 3, 2),
    (14, 512, 3, 1), (14, 512, 3, 2), (7, 1024, 3, 1),
    (28, 240, 5, 1), (14, 480, 5, 2),
)  # fmt: skip
#: VGG16's, whose kernels are streams of weights.
_DENSE_LAYERS = ((25088, 4096), (4096, 4096), (4096, 1000))
#: 64 MiB of float32: larger than most last caches.
_LARGE = (4096, 4096)


def _cases() -> dict[str, Case]:
    found = [Case("vgg16", "network", (224, 224, 3), vgg16), Case("sonar_mlp", "network", (60,), sonar_mlp)]

    def add(name: str, group: str, shape: tuple[int, ...], what: Callable[[_Builder], _Builder]) -> None:
        found.append(Case(name, group, shape, _single(name, shape, what)))

    for n, c, k in _VGG_CONVOLUTIONS:
        add(f"conv3x3_{n}_{c}_{k}", "vgg16 conv", (n, n, c), lambda b, k=k: b.conv(k, 3))  # type: ignore[misc]
    for n, c, k, size, stride, dilation in _DIRECT_CONVOLUTIONS:
        name = f"conv{size}x{size}_{n}_{c}_{k}"
        name += f"_stride{stride}" * (stride > 1) + f"_dilation{dilation}" * (dilation > 1)
        settings = (k, size, stride, dilation)
        add(name, "direct conv", (n, n, c), lambda b, s=settings: b.conv(*s))  # type: ignore[misc]
    add("conv3x3x3_64_32_64", "volume conv", (64, 64, 64, 32), lambda b: b.conv(64, 3))
    for n, c, size, stride in _DEPTHWISE:
        name = f"depthwise{size}x{size}_{n}_{c}" + f"_stride{stride}" * (stride > 1)
        add(name, "depthwise conv", (n, n, c), lambda b, k=size, s=stride: b.depthwise(k, s))  # type: ignore[misc]
    for n, k in _DENSE_LAYERS:
        add(f"dense_{n}_{k}", "dense", (n,), lambda b, k=k: b.dense(k))  # type: ignore[misc]
    add("max_pool_224_64", "memory", (224, 224, 64), lambda b: b.max_pool())
    add("max_pool_64_64_64_64", "memory", (64, 64, 64, 64), lambda b: b.max_pool())
    for kind in ("relu", "sigmoid", "tanh", "elu", "exponential", "silu", "gelu"):
        add(f"{kind}_64MiB", "memory", _LARGE, lambda b, k=kind: b.activation(k))  # type: ignore[misc]
    for rows, columns in (_LARGE, (16384, 1000), (64, 1000), (100_000, 10)):
        add(f"softmax_{rows}_{columns}", "memory", (rows, columns), lambda b: b.softmax())
    add("batch_norm_512_512_64", "memory", (512, 512, 64), lambda b: b.batch_norm())
    volume = (300, 512, 512)
    found.append(Case("hu_rescale_300_512_512", "hounsfield", volume, lambda: _hounsfield(volume), False))
    return {c.name: c for c in found}


#: Every case by name, in the order in which they are shown.
CASES: Mapping[str, Case] = MappingProxyType(_cases())
#: Families of cases, in order.
GROUPS = tuple(dict.fromkeys(c.group for c in CASES.values()))


def case(name: str) -> Case:
    """Return the case called `name`.

    Raises
    ------
    ArgumentError
        There is none of that name.

    Examples
    --------
    >>> case("conv3x3_14_512_512").group
    'vgg16 conv'
    """
    if name not in CASES:
        raise ArgumentError("bench.case", "no such case", got=name, expected=", ".join(CASES))
    return CASES[name]
