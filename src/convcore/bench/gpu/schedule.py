"""A chain of layers as launches of the fast kernels: plain data, which lies beside the kernels in a folder.

What launches a schedule needs neither Numba nor the code that made it: it has the kernels by name, their
grids and arguments, and how large every array is and how weights are packed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcore.bench.gpu.network import Layer
from convcore.bfloat16 import from_bfloat16, to_bfloat16
from convcore.errors import DeviceError

__all__ = ["Launch", "Packing", "Schedule", "kernels_of", "schedule"]

#: Bytes of an element, by the types of arrays.
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "int16": 2, "byte": 1}
#: Channels are padded with zeros to whole chunks of 16 bytes.
_CHUNK_BYTES = 16


class Launch(NamedTuple):
    """One launch: a kernel's name, its grid, and arguments that are names of arrays or numbers."""

    kernel: str
    grid: tuple[int, int, int]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Packing:
    """How the weights of a layer lie in memory: ``convcore.cuda.fast.Packing`` as plain data.

    The layer's weights are the array `name` of `floats` units of 4 bytes: `rows` x `pitch` elements of type
    `dtype`, and the bias, in float32, from byte `bias` on.
    """

    name: str
    columns: int
    depth: int
    rows: int
    pitch: int
    floats: int
    bias: int
    dtype: str = "float32"

    def pack(self, kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[np.float32]:
        """Return weights (k..., ic, oc) and bias as the kernels read them; missing channels are zeros."""
        spatial = math.prod(kernel.shape[:-2])
        channels = self.depth // spatial
        whole = np.zeros((spatial, channels, self.columns), np.float32)
        whole[:, : kernel.shape[-2]] = kernel.reshape(spatial, -1, self.columns)
        packed = np.zeros(self.floats, np.float32)
        rows: NDArray[Any] = whole.reshape(self.depth, self.columns).T
        elements: NDArray[Any] = packed
        if self.dtype == "bfloat16":
            elements, rows = packed.view(np.uint16), to_bfloat16(rows)
        matrix = elements[: self.rows * self.pitch].reshape(self.rows, self.pitch)
        matrix[: self.columns, : self.depth] = rows
        packed[self.bias // 4 : self.bias // 4 + self.columns] = bias
        return packed


@dataclass(frozen=True)
class Schedule:
    """Launches in order on arrays by name; "x" and "y" are the input and the output.

    Parameters
    ----------
    arrays
        Type and number of elements of every array that is neither weights nor constant.
    packings
        One for each layer with weights, in their order.
    constants
        Small float32 arrays.
    channels
        Channels of "x" where they are more than the input has: the rest are zeros. None: as many.
    """

    launches: tuple[Launch, ...]
    arrays: Mapping[str, tuple[str, int]]
    packings: tuple[Packing, ...] = ()
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    channels: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "launches": [[one.kernel, list(one.grid), list(one.arguments)] for one in self.launches],
            "arrays": {name: list(array) for name, array in self.arrays.items()},
            "packings": [vars(packing) for packing in self.packings],
            "constants": {name: list(values) for name, values in self.constants.items()},
            "channels": self.channels,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """Return what :meth:`as_dict` has made plain data."""
        return cls(
            tuple(Launch(kernel, (g[0], g[1], g[2]), tuple(args)) for kernel, g, args in data["launches"]),
            {name: (str(kind), int(count)) for name, (kind, count) in data["arrays"].items()},
            tuple(Packing(**packing) for packing in data["packings"]),
            {name: tuple(values) for name, values in data["constants"].items()},
            data["channels"],
        )

    def input(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return an input (n, ..., c) as array "x" holds it."""
        if self.channels is not None and self.channels != x.shape[-1]:
            whole = np.zeros((*x.shape[:-1], self.channels), x.dtype)
            whole[..., : x.shape[-1]] = x
            x = whole
        return to_bfloat16(x) if self.arrays["x"][0] == "bfloat16" else np.ascontiguousarray(x)

    def output(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """Return what array "y" holds as float32."""
        return from_bfloat16(y) if self.arrays["y"][0] == "bfloat16" else y.astype(np.float32, copy=False)


def schedule(layers: Sequence[Layer], batch: int, precision: str = "float32") -> Schedule:
    """Return how the fast kernels compute a chain of layers; needs Numba, and no GPU.

    Arrays between layers take turns in two buffers.

    Raises
    ------
    DeviceError
        A layer has no fast kernel in this precision, or its weights are packed in a way not known here.
    """
    from convcore.cuda import fast

    if precision not in fast.ARITHMETICS:
        raise DeviceError("bench", "precision", got=precision, expected=", ".join(fast.ARITHMETICS))
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    chunk = _CHUNK_BYTES // ITEM_BYTES[dtype]
    launches: list[Launch] = []
    packings: list[Packing] = []
    constants: dict[str, tuple[float, ...]] = {}
    arrays: dict[str, tuple[str, int]] = {}

    def room(name: str, kind: str, count: int) -> None:
        arrays[name] = kind, max(count, arrays.get(name, (kind, 0))[1])

    channels: int | None = None
    for i, layer in enumerate(layers):
        kinds = ("int16" if layer.operation == "hu_rescale" else dtype), dtype

        def chosen(shape: tuple[int, ...], layer: Layer = layer, kinds: tuple[str, str] = kinds) -> Any:
            operation, x_sizes, y_sizes, options = _described(layer, shape, batch)
            x, y = _view(x_sizes, kinds[0]), _view(y_sizes, kinds[1])
            return fast.choose(operation, x, y, options, precision, layer.pool), x_sizes, y_sizes

        choice, x_sizes, y_sizes = chosen(layer.shape)
        if choice is None and i == 0 and layer.operation == "conv":
            channels = -(-layer.shape[-1] // chunk) * chunk
            choice, x_sizes, y_sizes = chosen((*layer.shape[:-1], channels))
        if choice is None:
            raise DeviceError("bench", f"layer {i}, {layer.operation}, has no fast kernel in {precision}")
        source = "x" if i == 0 else f"between {i % 2}"
        target = "y" if i == len(layers) - 1 else f"between {(i + 1) % 2}"
        room(source, kinds[0], math.prod(x_sizes))
        room(target, kinds[1], math.prod(y_sizes))
        names = {"x": source, "y": target}
        if choice.work.sums:
            room("sums", "float32", choice.work.sums)
        if getattr(choice.work, "padded", 0):
            room("padded", "byte", choice.work.padded)
        if choice.packing is not None:
            packing = _packing(f"weights {i}", choice.packing, layer, precision)
            packings.append(packing)
            names |= {"w": packing.name, "bias": f"bias of {packing.name}"}
        for name, values in choice.constants.items():
            names[name] = f"{name} {i}"
            constants[names[name]] = tuple(float(v) for v in values)
        for one in choice.work.launches:
            arguments = tuple(names.get(a, a) if isinstance(a, str) else _plain(a) for a in one.arguments)
            launches.append(Launch(one.kernel.name, _three(one.grid), arguments))
    return Schedule(tuple(launches), arrays, tuple(packings), constants, channels)


def kernels_of(layers: Sequence[Layer], batch: int, precision: str = "float32") -> set[Any]:
    """Return the kernels that :func:`schedule` names, as ``convcore.cuda.fast`` has them."""
    from convcore.cuda import fast

    found: set[Any] = set()
    for one in schedule(layers, batch, precision).launches:
        family, *options = one.kernel.split(" ")
        found.add(fast.Kernel(family, tuple(_option(word) for word in options)))
    return found


def _option(word: str) -> Any:
    """What a word of a kernel's name was: a truth value, an integer, or a name."""
    if word in ("True", "False"):
        return word == "True"
    return int(word) if word.isdecimal() else word


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _three(grid: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in grid)
    return x, y, z


def _view(sizes: Sequence[int], kind: str) -> tuple[int, int, str, tuple[int, ...], tuple[int, ...]]:
    """A contiguous array as the library's steps see it."""
    steps = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    return 0, 0, kind, tuple(sizes), tuple(steps)


def _three_axes(values: Iterable[int], fill: int) -> tuple[int, ...]:
    found = tuple(values)
    return (*(fill,) * (3 - len(found)), *found)


def _described(
    layer: Layer, shape: tuple[int, ...], batch: int
) -> tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """A layer as the library's steps have it: operation, sizes of input and output, fields."""
    at = layer.attributes
    activation = ("relu", ()) if layer.relu else ("linear", ())
    if layer.operation in ("conv", "max_pool"):
        sizes, out = ((batch, *_three_axes(s[:-1], 1), s[-1]) for s in (shape, layer.out))
        strides = _three_axes(at["strides"], 1)
        low = _three_axes((pair[0] for pair in at["padding"]), 0)
        if layer.operation == "max_pool":
            pooled = {"kernel": _three_axes(at["pool_size"], 1), "stride": strides, "pad_low": low}
            return "max_pool", sizes, out, pooled
        window: dict[str, Any] = {
            "kernel": _three_axes(layer.weights["kernel"].shape[:-2], 1),
            "stride": strides,
            "dilation": _three_axes(at["dilation"], 1),
            "pad_low": low,
            "activation": activation,
        }
        return "conv", sizes, out, window
    if layer.operation == "dense":
        return "dense", (batch, math.prod(shape)), (batch, *layer.out), {"activation": activation}
    if layer.operation == "softmax":
        rows = batch * math.prod(shape[:-1])
        return "softmax", (rows, shape[-1]), (rows, shape[-1]), {}
    if layer.operation == "activation":
        count = (batch * math.prod(shape),)
        return "activation", count, count, {"activation": (at["kind"], ())}
    if layer.operation == "hu_rescale":
        slices, pixels = batch * shape[0], math.prod(shape[1:])
        values = {name: np.full(slices, at[name], np.float64) for name in ("slope", "intercept")}
        return "hu_rescale", (slices, pixels), (slices, pixels), {
            **values, "padding_value": None, "padding_to": None,
        }  # fmt: skip
    raise DeviceError("bench", f"no schedule of {layer.operation} is written")


def _packing(name: str, theirs: Any, layer: Layer, precision: str) -> Packing:
    """The plain form of a packing, after a proof on a small one that it packs alike."""

    def plain(packing: Any) -> Packing:
        bias = packing.placed(0)["bias"]
        sizes = (packing.columns, packing.depth, packing.rows, packing.pitch, packing.floats)
        return Packing(name, *sizes, bias, getattr(packing, "dtype", "float32"))

    kernel, channels, columns = layer.weights["kernel"].shape[:-2], 8, 5
    depth = math.prod(kernel) * channels
    sizes = {"columns": columns, "depth": depth, "rows": 8, "pitch": depth + 64}
    sizes |= {f.name: channels for f in fields(theirs) if f.name in ("channels", "padded")}
    small = replace(theirs, **sizes)
    random = np.random.default_rng(0)
    weights = random.standard_normal((*kernel, channels, columns), np.float32)
    bias = random.standard_normal(columns, np.float32)
    packed = np.full(small.floats, np.nan, np.float32)
    small.pack(weights, bias, packed)
    if packed.tobytes() != plain(small).pack(weights, bias).tobytes():
        raise DeviceError("bench", f"the packing of {name} in {precision} is not known without Numba")
    return plain(theirs)
