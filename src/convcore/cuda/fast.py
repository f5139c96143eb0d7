"""Which fast kernels compute an operation, how many blocks of them, and with which arguments.

Everything here is arithmetic on shapes: it needs no GPU, and what it returns can be launched, captured in a
graph, or run by an emulator. Arguments that are arrays are named; who launches knows where they lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convcore.bfloat16 import to_bfloat16
from convcore.cuda.kernels import dense_stream, implicit_gemm, split, streams
from convcore.cuda.kernels.activation import KINDS, LINEAR, PARAMETERS
from convcore.cuda.kernels.elementwise import BINARIES
from convcore.cuda.toolkit import simulated, types

__all__ = ["ARITHMETICS", "Choice", "Kernel", "Launch", "Packing", "Work", "choose", "conv", "dense"]

#: What the products of each of the engine's precisions are computed in.
ARITHMETICS = {"float32": "3xtf32", "tf32": "tf32", "bfloat16": "bfloat16"}

#: Sums of fewer products are multiply-adds in "float32": 3xTF32 loses up to 3 x 2^-22 of a product, which is
#: as much as the roundings of so many, 2^-24 each.
_FEWEST_IN_3XTF32 = 12

#: Bytes of an element of the types that the kernels read and write.
_SIZES = {"float32": 4, "bfloat16": 2}

#: Blocks of the convolution kernel that an H100 or H200 runs at a time: two on each of 132 multiprocessors.
_SLOTS = 264
#: A part of a split product has at least so many steps, or its prologue would cost more than it brings.
_FEWEST_STEPS = 4
_MOST_PARTS = 32
#: Bytes of the widest access, and of a step along the sum of a matrix product.
_CHUNK, _STEP = implicit_gemm.CHUNK, implicit_gemm.STEP
#: Elements that the kernels that move memory read at a time.
_FOUR = 4
#: Sizes of a map that its kernel's 16-bit positions hold, and elements that its 32-bit offsets reach.
_LONGEST_SIDE, _MOST_ELEMENTS = 1 << 14, 1 << 32
#: Weights have a multiple of so many rows, whichever kernel reads them.
_PACKED_ROWS = max(implicit_gemm.WIDTHS)
#: Beyond the last output the kernels read so many numbers of the bias, which they then do not use.
_BIAS_REST = 3
#: Outputs whose weights are rounded to bfloat16 together.
_ROUNDED_AT_A_TIME = 64

#: Threads of a block of the kernels that move memory.
_STREAM_THREADS = 256
_MOST_BLOCKS_ALONG_Y = (1 << 16) - 1

_LINEAR: tuple[str, tuple[float, ...]] = ("linear", ())

_POINTER = types.CPointer(types.float32)
_I, _F = types.int32, types.float32

#: Whether fast kernels are chosen at all. Numba's simulator cannot run them.
enabled = not simulated


@dataclass(frozen=True)
class Kernel:
    """A kernel to be compiled: a family and what its ``make`` is given."""

    family: str
    options: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The kernel in words."""
        return " ".join([self.family, *map(str, self.options)])

    @property
    def _family(self) -> _Family:
        return _FAMILIES[self.family]

    def make(self) -> Callable[..., None]:
        """Return the Python function."""
        return self._family.make(*self.options)

    @property
    def signature(self) -> tuple[Any, ...]:
        """Numba's types of the arguments."""
        family = self._family
        return (_POINTER,) * family.pointers + (_I,) * family.numbers + (_F,) * family.parameters

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self._family.threads

    @property
    def blocks_per_processor(self) -> int:
        """Blocks that a multiprocessor must have room for: it bounds the registers."""
        return self._family.blocks_per_processor

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return self._family.shared_bytes(*self.options)


@dataclass(frozen=True)
class Launch:
    """One launch: `arguments` are names of arrays, or numbers as the signature has them."""

    kernel: Kernel
    grid: tuple[int, int, int]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Work:
    """Launches in order on the arrays "x", "x2", "w", "bias" and "y".

    They may also work on "sums", which has so many float32, and on "padded", of so many bytes.
    """

    launches: tuple[Launch, ...]
    sums: int = 0
    padded: int = 0


@dataclass(frozen=True)
class Packing:
    """How weights are packed: a row of `depth` elements for each of `columns` outputs.

    The rows lie in memory of `rows` x `pitch` elements of type `dtype`, whose rest is zeros; the bias follows
    in float32. A row has the taps in order, and of each the input's `channels`, which zeros make `padded`.
    """

    columns: int
    depth: int
    rows: int
    pitch: int
    channels: int
    padded: int
    flip: bool = False
    dtype: str = "float32"

    @property
    def _weight_floats(self) -> int:
        """Size of the weights, in units of four bytes: rows are whole steps, so it is a whole number."""
        return self.rows * self.pitch * _SIZES[self.dtype] // 4

    @property
    def floats(self) -> int:
        """Size of weights and bias, in units of four bytes."""
        return self._weight_floats + self.columns + _BIAS_REST

    def pack(self, weights: Any, bias: Any, packed: Any) -> None:
        """Write weights (k..., ic, oc) and bias to `packed`, `floats` float32.

        All three are on the host, or all on the GPU; bfloat16 is packed on the host.
        """
        size, taps = self._weight_floats, self.depth // self.padded
        packed[...] = 0.0
        if self.flip:
            spatial = len(weights.shape) - 2
            weights = weights[(slice(None, None, -1),) * spatial]
        weights = weights.reshape(taps, self.channels, self.columns)
        narrow = self.dtype == "bfloat16"
        matrix = (packed[:size].view(np.uint16) if narrow else packed[:size]).reshape(self.rows, self.pitch)
        rows = matrix[: self.columns, : self.depth].reshape(self.columns, taps, self.padded)
        # Rounding makes copies of what it is given: not of all weights at a time.
        some = _ROUNDED_AT_A_TIME if narrow else self.columns
        for first in range(0, self.columns, some):
            part = weights[:, :, first : first + some]
            part = to_bfloat16(part) if narrow else part
            rows[first : first + some, :, : self.channels] = part.transpose(2, 0, 1)
        if bias is not None:
            packed[size : size + self.columns] = bias

    def placed(self, packed: int) -> Mapping[str, int]:
        """Addresses of weights and bias in packed memory that begins at `packed`."""
        return {"w": packed, "bias": packed + 4 * self._weight_floats}


@dataclass(frozen=True)
class Choice:
    """Fast kernels for a step, how its weights are packed, and arrays on the host that they read."""

    algorithm: str
    work: Work
    packing: Packing | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Family:
    """Kernels of one kind: how they are made and run, and how many arrays, integers and floats they take."""

    make: Callable[..., Callable[..., None]]
    pointers: int
    numbers: int
    threads: int
    blocks_per_processor: int
    shared_bytes: Callable[..., int] = lambda *options: 0
    parameters: int = PARAMETERS


# Types are "float32" or "bfloat16".
_FAMILIES = {
    # Options: arithmetic, columns of a block, number of the activation, pool, split, type of the result.
    "conv": _Family(
        implicit_gemm.make,
        4,
        22,
        implicit_gemm.THREADS,
        2,
        lambda _, width, *rest: implicit_gemm.shared_bytes(width),
    ),
    # Number of the activation, pool, type of the result.
    "sum": _Family(split.make, 3, 3, 256, 1),
    # Rows, number of the activation, types of the operands and the result.
    "dense": _Family(dense_stream.make, 4, 3, dense_stream.THREADS, 3),
    # Types of the input and the result; so it is where nothing else is said.
    "pad": _Family(streams.make_pad, 2, 2, _STREAM_THREADS, 1, parameters=0),
    # Number of the activation, types.
    "activation": _Family(streams.make_activation, 2, 1, _STREAM_THREADS, 1),
    # Numbers of the operation and the activation, types of both inputs and the result.
    "binary": _Family(streams.make_binary, 3, 1, _STREAM_THREADS, 1),
    # Whether the largest is wanted, types.
    "pool": _Family(streams.make_pool, 2, 13, _STREAM_THREADS, 1, parameters=0),
    "softmax": _Family(streams.make_softmax, 2, 2, _STREAM_THREADS, 1, parameters=0),
    # Whether pixels are signed.
    "hu": _Family(streams.make_hu, 4, 4, _STREAM_THREADS, 1, parameters=1),
}


def _whole(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _parameters(values: Sequence[float]) -> tuple[float, ...]:
    return (*values, *(0.0,) * (PARAMETERS - len(values)))


def parts_of(tiles: int, steps: int) -> int:
    """Into how many parts the steps of a product with so many output tiles are split.

    Examples
    --------
    >>> parts_of(8, 144), parts_of(1568, 18)
    (32, 1)
    """
    return max(1, min(_SLOTS // tiles, steps // _FEWEST_STEPS, _MOST_PARTS))


@dataclass(frozen=True)
class _Operand:
    """The left operand of a product, in the products' type and in rows of whole chunks.

    `name` is the array that it is, "x" or "padded"; `launches` are to run before, to make that of x.
    """

    dtype: str
    channels: int
    padded: int
    name: str
    launches: tuple[Launch, ...] = ()
    bytes: int = 0


def _operand(arithmetic: str, source: str, rows: int, channels: int) -> _Operand:
    """Return what the products read for `rows` of so many channels of type `source`."""
    dtype = "bfloat16" if arithmetic == "bfloat16" else "float32"
    run = _CHUNK // _SIZES[dtype]
    padded = _whole(channels, run)
    if source == dtype and channels == padded:
        return _Operand(dtype, channels, padded, "x")
    kernel = Kernel("pad", (source, dtype))
    count = rows * padded // run
    launch = Launch(kernel, (-(-count // kernel.threads), 1, 1), ("x", "padded", count, channels))
    return _Operand(dtype, channels, padded, "padded", (launch,), count * _CHUNK)


def conv(
    x_shape: Sequence[int],
    kernel: Sequence[int],
    outputs: Sequence[int],
    columns: int,
    *,
    arithmetic: str,
    source: str = "float32",
    result: str = "float32",
    stride: Sequence[int] = (1, 1, 1),
    dilation: Sequence[int] = (1, 1, 1),
    low: Sequence[int] = (0, 0, 0),
    activation: tuple[str, Sequence[float]] = ("linear", ()),
    pool: bool = False,
    flip: bool = False,
    parts: int | None = None,
) -> Choice:
    """Return how a convolution of contiguous maps (n, d, h, w, c) is computed.

    Parameters
    ----------
    x_shape, kernel, outputs, columns
        Sizes of the input, of the kernel along d, h and w, of the output (before pooling) along them, and the
        number of output channels.
    arithmetic
        "float32", "tf32", "3xtf32" or "bfloat16"; see :func:`.implicit_gemm.make`.
    source, result
        Types of the input and the output: "float32" or "bfloat16", which only its own arithmetic writes.
    pool
        The result is the maximum of 2x2 windows along h and w, both even.
    parts
        Into how many parts the sum is split; None: as many as fill the GPU.
    """
    n, d, h, w, channels = x_shape
    left = _operand(arithmetic, source, n * d * h * w, channels)
    run = _STEP // _SIZES[left.dtype]
    rows, depth = n * math.prod(outputs), math.prod(kernel) * left.padded
    steps = -(-depth // run)
    width = next(w for w in reversed(implicit_gemm.WIDTHS) if columns <= w or w == implicit_gemm.WIDTHS[0])
    tiles = -(-rows // implicit_gemm.ROWS), -(-columns // width)
    parts = parts_of(math.prod(tiles), steps) if parts is None else parts
    number, numbers = KINDS.index(activation[0]), _parameters(activation[1])
    geometry = (rows, left.padded, columns, steps, d, h, w, *outputs, *kernel, *stride, *dilation, *low)
    if parts == 1:
        whole = Kernel("conv", (arithmetic, width, number, pool, False, result))
        launches: tuple[Launch, ...] = (
            Launch(whole, (*tiles, 1), (left.name, "w", "bias", "y", *geometry, *numbers)),
        )
    else:
        part = Kernel("conv", (arithmetic, width, LINEAR, pool, True, "float32"))
        first = Launch(part, (*tiles, parts), (left.name, "w", "bias", "sums", *geometry, *_parameters(())))
        added = Kernel("sum", (number, pool, result))
        blocks = -(-(rows * columns // (4 if pool else 1)) // added.threads)
        last = Launch(added, (blocks, 1, 1), ("sums", "bias", "y", rows, columns, parts, *numbers))
        launches = (first, last)
    work = Work((*left.launches, *launches), parts * rows * columns if parts > 1 else 0, left.bytes)
    split_up = "" if parts == 1 else f", in {parts} parts"
    name = f"matrix product, {arithmetic}{split_up}"
    packed_rows = _whole(columns, _PACKED_ROWS)
    packing = Packing(columns, depth, packed_rows, steps * run, channels, left.padded, flip, left.dtype)
    return Choice(name, work, packing)


def dense(
    rows: int,
    inputs: int,
    outputs: int,
    *,
    arithmetic: str,
    source: str = "float32",
    result: str = "float32",
    activation: tuple[str, Sequence[float]] = ("linear", ()),
) -> Choice:
    """Return how a dense layer x (rows, inputs) times w (inputs, outputs) is computed.

    Few rows are one stream of the weights, in multiply-adds of float32. More are a matrix product: that of a
    convolution whose positions are the rows. Both read weights that are packed alike. Types as for
    :func:`conv`.
    """
    if rows > dense_stream.MOST_ROWS:
        # Images of one position: sides have limits that rows have not.
        once = (1, 1, 1)
        return conv(
            (rows, *once, inputs),
            once,
            once,
            outputs,
            arithmetic=arithmetic,
            source=source,
            result=result,
            activation=activation,
        )
    left = _operand(arithmetic, source, rows, inputs)
    number, numbers = KINDS.index(activation[0]), _parameters(activation[1])
    kernel = Kernel("dense", (rows, number, left.dtype, result))
    pitch, packed_rows = _whole(left.padded, _STEP // _SIZES[left.dtype]), _whole(outputs, _PACKED_ROWS)
    blocks = -(-outputs // (dense_stream.COLUMNS * kernel.threads // 32))
    arguments = (left.name, "w", "bias", "y", left.padded, outputs, pitch, *numbers)
    work = Work((*left.launches, Launch(kernel, (blocks, 1, 1), arguments)), padded=left.bytes)
    packing = Packing(outputs, left.padded, packed_rows, pitch, inputs, left.padded, dtype=left.dtype)
    name = "stream of weights" + (f", {left.dtype}" if left.dtype != "float32" else "")
    return Choice(name, work, packing)


def choose(
    operation: str,
    x: Any,
    out: Any,
    fields: Mapping[str, Any],
    precision: str,
    pool: bool,
    x2: Any = None,
) -> Choice | None:
    """Return the fast kernels for a step, or None: then a simple one has to do.

    `x`, `x2` and `out` are its views and `fields` its options, as ``_native.Step`` has them.
    """
    if not enabled or operation not in _CHOOSE:
        return None
    small = max(math.prod(x[3]), math.prod(out[3])) < _MOST_ELEMENTS and math.prod(out[3])
    aligned = _begins_chunk(x) and _begins_chunk(out)
    if not (small and aligned and _contiguous(x) and _contiguous(out)):
        return None
    return _CHOOSE[operation](x, out, {**fields, "precision": precision, "pool": pool, "x2": x2})


def _begins_chunk(view: Any) -> bool:
    """Whether a view begins at a multiple of 16 bytes from its buffer's beginning."""
    size = _SIZES.get(view[2]) or np.dtype(view[2]).itemsize
    return bool(view[1] * size % _CHUNK == 0)


def _types(x: Any, out: Any, fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The types of two views, if a step of this precision may have them."""
    known = _SIZES if fields["precision"] == "bfloat16" else ("float32",)
    return (x[2], out[2]) if x[2] in known and out[2] in known else None


def _arithmetic(precision: str, products: int) -> str:
    """What sums of so many products are computed in."""
    return "float32" if precision == "float32" and products < _FEWEST_IN_3XTF32 else ARITHMETICS[precision]


def _reached(rows: int, channels: int) -> bool:
    """Whether the kernels' offsets reach all of x when its rows are continued to whole chunks of any type."""
    return rows * _whole(channels, _CHUNK // 2) < _MOST_ELEMENTS


def _choose_dense(x: Any, out: Any, fields: Mapping[str, Any]) -> Choice | None:
    (rows, inputs), outputs = x[3], out[3][1]
    types_ = _types(x, out, fields)
    if types_ is None or not _reached(rows, inputs):
        return None
    return dense(
        rows,
        inputs,
        outputs,
        arithmetic=_arithmetic(fields["precision"], inputs),
        source=types_[0],
        result=types_[1],
        activation=fields.get("activation", _LINEAR),
    )


def _choose_conv(x: Any, out: Any, fields: Mapping[str, Any]) -> Choice | None:
    shape, outputs = tuple(x[3]), tuple(out[3])
    types_ = _types(x, out, fields)
    fits = max(*shape[1:4], *outputs[1:4]) < _LONGEST_SIDE and _reached(math.prod(shape[:4]), shape[4])
    if types_ is None or not fits or int(fields.get("groups", 1)) != 1:
        return None
    once, none = (1, 1, 1), (0, 0, 0)
    kernel = tuple(fields.get("kernel", once))
    return conv(
        shape,
        kernel,
        (outputs[1], *(n * (2 if fields["pool"] else 1) for n in outputs[2:4])),
        outputs[4],
        arithmetic=_arithmetic(fields["precision"], math.prod(kernel) * shape[4]),
        source=types_[0],
        result=types_[1],
        stride=tuple(fields.get("stride", once)),
        dilation=tuple(fields.get("dilation", once)),
        low=tuple(fields.get("pad_low", none)),
        activation=fields.get("activation", _LINEAR),
        pool=fields["pool"],
        flip=bool(fields.get("flip", False)),
    )


def _choose_activation(x: Any, out: Any, fields: Mapping[str, Any]) -> Choice | None:
    count, types_ = math.prod(x[3]), _types(x, out, fields)
    if types_ is None or count % _FOUR:
        return None
    name, values = fields.get("activation", _LINEAR)
    options = (KINDS.index(name), *types_)
    return _stream("activation", options, count // _FOUR, (), _parameters(values))


def _choose_binary(x: Any, out: Any, fields: Mapping[str, Any]) -> Choice | None:
    x2, count = fields["x2"], math.prod(x[3])
    types_, others = _types(x, out, fields), _types(x2, out, fields)
    alike = tuple(x[3]) == tuple(x2[3]) == tuple(out[3]) and _contiguous(x2) and _begins_chunk(x2)
    if types_ is None or others is None or not alike or count % _FOUR:
        return None
    name, values = fields.get("activation", _LINEAR)
    options = (BINARIES.index(fields.get("binary", "add")), KINDS.index(name), types_[0], *others)
    kernel = Kernel("binary", options)
    fours = count // _FOUR
    arguments = ("x", "x2", "y", fours, *_parameters(values))
    return Choice("stream", Work((Launch(kernel, (-(-fours // kernel.threads), 1, 1), arguments),)))


def _choose_pool(largest: bool) -> Callable[..., Choice | None]:
    def choose_pool(x: Any, out: Any, fields: Mapping[str, Any]) -> Choice | None:
        (_, d, h, w, c), (_, _, oh, ow, _) = x[3], out[3]
        (kd, *kernel), (_, *stride) = fields["kernel"], fields["stride"]
        (low_d, *low) = fields.get("pad_low", (0, 0, 0))
        types_ = _types(x, out, fields)
        if types_ is None or c % _FOUR or kd != 1 or low_d or out[3][1] != d:
            return None
        sizes = (h, w, c, oh, ow, *kernel, *stride, *low, int(fields.get("include_padding", False)))
        return _stream("pool", (largest, *types_), math.prod(out[3]) // _FOUR, sizes, ())

    return choose_pool


def _choose_softmax(x: Any, out: Any, fields: Mapping[str, Any]) -> Choice | None:
    (rows, columns), types_ = x[3], _types(x, out, fields)
    if types_ is None or columns % _FOUR:
        return None
    kernel = Kernel("softmax", types_)
    blocks = -(-rows // (kernel.threads // 32))
    return Choice("stream", Work((Launch(kernel, (blocks, 1, 1), ("x", "y", rows, columns)),)))


def _choose_hu(x: Any, out: Any, fields: Mapping[str, Any]) -> Choice | None:
    slices, pixels = x[3]
    constants = {name: fields[name].astype(np.float32) for name in ("slope", "intercept")}
    exact = all((constants[name] == fields[name]).all() for name in constants)
    if x[2] not in ("int16", "uint16") or out[2] != "float32" or not exact:
        return None
    if pixels % 8 or x[1] % 8 or slices > _MOST_BLOCKS_ALONG_Y:
        return None
    padding, air = fields["padding_value"], fields["padding_to"]
    kernel = Kernel("hu", (x[2] == "int16",))
    flags = (pixels // 8, int(padding is not None), padding or 0, int(air is not None))
    grid = (-(-pixels // 8 // kernel.threads), slices, 1)
    launch = Launch(kernel, grid, ("x", "y", "slope", "intercept", *flags, air or 0.0))
    return Choice("stream", Work((launch,)), constants=constants)


def _stream(
    family: str, options: tuple[Any, ...], threads: int, numbers: Sequence[int], parameters: Sequence[float]
) -> Choice:
    """A kernel with one thread for each four elements of its result, and how many those are."""
    kernel = Kernel(family, options)
    blocks = -(-threads // kernel.threads)
    return Choice(
        "stream", Work((Launch(kernel, (blocks, 1, 1), ("x", "y", threads, *numbers, *parameters)),))
    )


_CHOOSE: dict[str, Callable[..., Choice | None]] = {
    "conv": _choose_conv,
    "dense": _choose_dense,
    "activation": _choose_activation,
    "binary": _choose_binary,
    "max_pool": _choose_pool(True),
    "average_pool": _choose_pool(False),
    "softmax": _choose_softmax,
    "hu_rescale": _choose_hu,
}


def _contiguous(view: Any) -> bool:
    """Whether a view's elements follow each other in C order."""
    expected = 1
    for n, step in zip(reversed(view[3]), reversed(view[4]), strict=True):
        if n != 1 and step != expected:
            return False
        expected *= n
    return True
