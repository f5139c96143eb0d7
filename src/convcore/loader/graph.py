"""The graph: what a model file means, as frozen data.

A :class:`Graph` is what the loader hands to the plan, to the reference and to every tool that
shows a model. It knows no Keras (class names survive only as labels) and no kernels. Every spatial
operation in it is channels-last; the loader has put ``permute`` nodes where a file was not.

Shapes never include the batch axis. A dimension that the file leaves open is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from convcore.loader.lazy import Weight

Shape = tuple[int | None, ...]

#: Every operation a node may have, and its attributes (beside the shapes of its weights).
#: n-D means 1, 2 or 3 spatial axes; ``padding`` is one (low, high) pair per spatial axis.
#: Where a spatial size is open and a padding depends on it, it is "same" or "theano_same" until
#: :func:`convcore.loader.specialise` has been given the sizes; ``reshape``'s `shape` and ``resize``'s
#: `size` may hold None until then, and a `factor` then says what to multiply the input's sizes by.
OPERATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # dtype, too, where the file says an integer type: "uint8", "int32", "bool", ...
        "input": ("shape",),
        # kernel (k..., ic/groups, oc), bias (oc,) optional
        "conv": ("strides", "dilation", "groups", "padding"),
        # kernel (k..., ic, multiplier), bias (ic*multiplier,) optional
        "depthwise_conv": ("strides", "dilation", "padding"),
        # kernel (k..., oc, ic); the full output is cropped by `padding` to `output_size`
        "conv_transpose": ("strides", "dilation", "padding", "output_size"),
        # kernel (in, out), bias (out,) optional; acts on the last axis
        "dense": (),
        "max_pool": ("pool_size", "strides", "padding"),
        # include_padding: True divides by the whole window (Theano, Keras 2.0 to 2.1.4)
        "average_pool": ("pool_size", "strides", "padding", "include_padding"),
        "global_max_pool": ("keepdims",),
        "global_average_pool": ("keepdims",),
        # mean, variance, and gamma, beta where present: each (n,) along `axis`
        "batch_norm": ("axis", "epsilon"),
        # y = x * scale + offset; weights scale, offset broadcast from the last axis
        "affine": (),
        # kind: a name of convcore.reference.ACTIVATIONS; parameters: its keyword arguments
        "activation": ("kind", "parameters"),
        # weight alpha broadcasts against the input
        "prelu": (),
        "softmax": ("axis",),
        # n-ary, with NumPy's broadcasting
        "add": (),
        "subtract": (),
        "multiply": (),
        "average": (),
        "maximum": (),
        "minimum": (),
        "concatenate": ("axis",),
        "reshape": ("shape",),
        "permute": ("axes",),
        "reverse": ("axis",),
        # one (low, high) pair per axis
        "pad": ("padding",),
        "crop": ("cropping",),
        # repeats every pixel: one factor per spatial axis
        "upsample": ("size",),
        # 2-D, to (height, width); interpolation "nearest" or "bilinear", half-pixel centres
        "resize": ("size", "interpolation"),
        "identity": (),
    }
)


def _frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. `name` is unique in the graph; `inputs` are names of earlier nodes.

    All axes in `attributes` count without the batch axis: axis 0 is the first after the batch.
    `layer` and `layer_class` say which layer of the file it came from; one layer may become
    several nodes, and the last of them carries the layer's output. Large weights are lazy: they are
    read from the file each time that their numbers are asked for (``np.asarray``).
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    shape: Shape
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)
    layer: str = ""
    layer_class: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", _frozen(self.attributes))
        object.__setattr__(self, "weights", _frozen(self.weights))


class Layer(NamedTuple):
    """A layer as the file names it, for summaries and traces. `node` carries its output.

    A layer used more than once (a shared layer) is listed once per use, as ``name``, ``name:1``, ...
    A nested model's layers are listed as ``outer/inner``.
    """

    name: str
    layer_class: str
    node: str
    shape: Shape
    parameters: int


class Source(NamedTuple):
    """Where a graph came from: shown by ``inspect``, hashed into caches and pickles.

    `precision` is the least precise type in which Keras would compute any layer: ``"float32"``,
    ``"float16"`` or ``"bfloat16"``. The graph itself is always float32. `files` are those that were read:
    absolute path, size in bytes, time of the last change in ns, from before they were opened.
    """

    path: str
    format: str
    keras_version: str
    backend: str | None = None
    notes: tuple[str, ...] = ()
    precision: str = "float32"
    files: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in an order that can be executed, and the names of its ends.

    `input_keys` and `output_keys` are what Keras calls the ends, one for each, where the model takes
    or returns a dictionary; None where it does not.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    source: Source
    input_keys: tuple[str, ...] | None = None
    output_keys: tuple[str, ...] | None = None

    def node(self, name: str) -> Node:
        """Return the node called `name`; ``KeyError`` if there is none."""
        return self._by_name[name]

    @property
    def parameters(self) -> int:
        """Number of weights in the file, as Keras counts them; a shared layer's count once."""
        return sum(layer.parameters for layer in self.layers)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {n.name: n for n in self.nodes})

    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False)
