"""What is measured: named workloads, as graphs with seeded weights that every peer can build for itself.

A case is its name: a process that is told ``vgg16`` makes the same network and the same images as any
other. Sizes are those of networks that people run: VGG16 and its nine distinct convolutions, ResNet-50's
convolutions that Winograd's algorithm does not serve, MobileNet's depthwise ones, a volume, the operations
that only move memory, a CT volume's way to Hounsfield units, and the three workloads of the figure by which
Theano's authors showed what a GPU is good for (Bergstra et al., SciPy 2010). Beside these, a single
operation and a problem string are a name: :mod:`.operations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from convcore.bench.building import Builder, Case
from convcore.bench.operations import operation_case
from convcore.errors import ArgumentError
from convcore.loader.graph import Graph

__all__ = ["ARTICLE", "CASES", "GROUPS", "MEMORY_BOUND", "Case", "case", "sonar_mlp", "vgg16"]

#: Groups whose cases take the time that their bytes take, where those fit no cache.
MEMORY_BOUND = ("depthwise conv", "dense", "memory", "hounsfield")

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_DENSE = (4096, 4096, 1000)


def vgg16(seed: int = 0) -> Graph:
    """VGG16 on 224 x 224 x 3 with seeded weights, without its final softmax: outputs are logits.

    Examples
    --------
    >>> graph = vgg16() # doctest: +SKIP
    >>> sum(n.operation == "conv" for n in graph.nodes) # doctest: +SKIP
    13
    """
    network = Builder("vgg16", (224, 224, 3), seed)
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
    network = Builder("sonar_mlp", (60,), seed)
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
    network = Builder(f"hu_rescale_{'_'.join(map(str, shape))}", shape)
    return network.add("hu_rescale", shape, slope=1.0, intercept=-1024.0).graph()


def _single(name: str, shape: tuple[int, ...], add: Callable[[Builder], Builder]) -> Callable[[], Graph]:
    return lambda: add(Builder(name, shape)).graph()


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


#: Group of the three workloads of the Theano figure.
ARTICLE = "article"
#: Those that are one operation: 7x7 convolution of an image, element-wise where the call is all, and large.
_ARTICLE_CALLS = (("convolve", "ih256kh7"), ("tanh", "1000"), ("tanh", "4096x4096"))


def _digits_mlp() -> Graph:
    """The figure's perceptron: 784 inputs, 500 tanh, 10 classes; it was fed 60 images at a time."""
    return Builder("mlp_784_500_10", (784,)).dense(500).activation("tanh").dense(10).softmax().graph()


def _cases() -> dict[str, Case]:
    found = [Case("vgg16", "network", (224, 224, 3), vgg16), Case("sonar_mlp", "network", (60,), sonar_mlp)]

    def add(name: str, group: str, shape: tuple[int, ...], what: Callable[[Builder], Builder]) -> None:
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
    found.append(
        Case("hu_rescale_300_512_512", "hounsfield", volume, lambda: _hounsfield(volume), False, "int16")
    )
    found.append(Case("mlp_784_500_10", ARTICLE, (784,), _digits_mlp, batch=60))
    found += [operation_case(name, text, ARTICLE) for name, text in _ARTICLE_CALLS]
    return {c.name: c for c in found}


#: Every case by name, in the order in which they are shown.
CASES: Mapping[str, Case] = MappingProxyType(_cases())
#: Families of cases, in order.
GROUPS = tuple(dict.fromkeys(c.group for c in CASES.values()))


def case(name: str) -> Case:
    """Return the case called `name`: one of :data:`~convcore.bench.CASES`, or an operation and its problem.

    Raises
    ------
    ArgumentError
        There is none of that name.

    Examples
    --------
    >>> case("conv3x3_14_512_512").group
    'vgg16 conv'
    >>> case("softmax:64x1000").shape
    (64, 1000)
    """
    if name not in CASES and ":" in name:
        return operation_case(*name.split(":", 1))
    if name not in CASES:
        raise ArgumentError("bench.case", "no such case", got=name, expected=", ".join(CASES))
    return CASES[name]
