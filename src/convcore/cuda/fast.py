"""Which fast kernels compute an operation, how many blocks of them, and with which arguments.

Everything here is arithmetic on shapes: it needs no GPU, and what it returns can be launched, captured in a
graph, or run by an emulator. Arguments that are arrays are named; who launches knows where they lie.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcore.cuda.kernels import dense_stream, implicit_gemm, split
from convcore.cuda.kernels.activation import KINDS, PARAMETERS
from convcore.cuda.toolkit import types

__all__ = ["ARITHMETICS", "Kernel", "Launch", "Work", "conv", "dense", "packed_conv_weights"]

#: By the engine's names of precisions: what the products are computed in.
ARITHMETICS = {"float32": "3xtf32", "tf32": "tf32", "bfloat16": "bfloat16"}

#: Blocks of the convolution kernel that an H100 or H200 runs at a time: two on each of 132 multiprocessors.
_SLOTS = 264
#: A part of a split product has at least so many steps, or its prologue would cost more than it brings.
_FEWEST_STEPS = 4
_MOST_PARTS = 32
_POINTER = types.CPointer(types.float32)
_NARROW = types.CPointer(types.uint16)
_I, _F = types.int32, types.float32


@dataclass(frozen=True)
class Kernel:
    """A kernel to be compiled: the Python function, the types of its arguments, and its launch bounds."""

    name: str
    make: Callable[[], Callable[..., None]]
    signature: tuple[Any, ...]
    threads: int
    blocks_per_processor: int = 1
    shared_bytes: int = 0


@dataclass(frozen=True)
class Launch:
    """One launch: `arguments` are names of arrays, or numbers as the signature has them."""

    kernel: Kernel
    grid: tuple[int, int, int]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Work:
    """Launches in order on the arrays "x", "w", "bias" and "y", and on "sums", which has so many float32."""

    launches: tuple[Launch, ...]
    sums: int = 0


@functools.cache
def _conv_kernel(arithmetic: str, activation: int, pool: bool, is_split: bool) -> Kernel:
    return Kernel(
        f"conv_{arithmetic}_{KINDS[activation]}{'_pool' * pool}{'_split' * is_split}",
        lambda: implicit_gemm.make(arithmetic, activation=activation, pool=pool, split=is_split),
        (_POINTER,) * 4 + (_I,) * 22 + (_F,) * PARAMETERS,
        implicit_gemm.THREADS,
        2,
        implicit_gemm.shared_bytes(),
    )


@functools.cache
def _split_kernel(activation: int, pool: bool, narrow: bool) -> Kernel:
    return Kernel(
        f"sum_{KINDS[activation]}{'_pool' * pool}{'_bfloat16' * narrow}",
        lambda: split.make(activation=activation, pool=pool, narrow=narrow),
        (_POINTER, _POINTER, _NARROW if narrow else _POINTER, _I, _I, _I) + (_F,) * PARAMETERS,
        256,
    )


@functools.cache
def _dense_kernel(rows: int, kind: str) -> Kernel:
    return Kernel(
        f"dense_{rows}_{kind}",
        lambda: dense_stream.make(rows, kind),
        (_POINTER, _POINTER, _POINTER, _I, _I),
        dense_stream.THREADS,
        4,
    )


def _run(arithmetic: str) -> int:
    """Channels that a step of the convolution kernel takes."""
    return implicit_gemm.STEP // (2 if arithmetic == "bfloat16" else 4)


def packed_conv_weights(w: np.ndarray[Any, Any], arithmetic: str) -> np.ndarray[Any, Any]:
    """Return the kernel (k..., ic, oc) as the convolution kernel reads it: a row for each output channel.

    Rows are padded with zeros to whole steps, and their number to whole blocks. ic must be a whole number of
    16-byte chunks. For "bfloat16" the result is that type's bits, as uint16.

    Examples
    --------
    >>> packed_conv_weights(np.ones((3, 3, 4, 2), np.float32), "tf32").shape
    (128, 64)
    """
    rows = np.ascontiguousarray(w.reshape(-1, w.shape[-1]).T, np.float32)
    run = _run(arithmetic)
    packed = np.zeros((_whole(rows.shape[0], implicit_gemm.COLUMNS), _whole(rows.shape[1], run)), np.float32)
    packed[: rows.shape[0], : rows.shape[1]] = rows
    return bfloat16_bits(packed) if arithmetic == "bfloat16" else packed


def bfloat16_bits(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float32 rounded to the nearest bfloat16, ties to even, as bits in uint16. NaN stays NaN.

    Examples
    --------
    >>> hex(bfloat16_bits(np.float32([1.0]))[0])
    '0x3f80'
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded)


def _whole(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def parts_of(tiles: int, steps: int) -> int:
    """Into how many parts the steps of a product with so many output tiles are split.

    Examples
    --------
    >>> parts_of(8, 144), parts_of(1568, 18)
    (32, 1)
    """
    return max(1, min(_SLOTS // tiles, steps // _FEWEST_STEPS, _MOST_PARTS))


def conv(
    x_shape: Sequence[int],
    kernel: Sequence[int],
    outputs: Sequence[int],
    columns: int,
    *,
    arithmetic: str,
    stride: Sequence[int] = (1, 1, 1),
    dilation: Sequence[int] = (1, 1, 1),
    low: Sequence[int] = (0, 0, 0),
    activation: tuple[str, Sequence[float]] = ("linear", ()),
    pool: bool = False,
    parts: int | None = None,
) -> Work:
    """Return the launches of a convolution of maps (n, d, h, w, c), c a whole number of 16-byte chunks.

    Parameters
    ----------
    x_shape, kernel, outputs, columns
        Sizes of the input, of the kernel along d, h and w, of the output (before pooling) along them, and the
        number of output channels. All contiguous; the weights packed by :func:`packed_conv_weights`; the bias
        has 3 more numbers than channels.
    arithmetic
        "float32", "tf32", "3xtf32" or "bfloat16" (input, weights and result).
    pool
        The result is the maximum of 2x2 windows along h and w, both even.
    parts
        Into how many parts the sum is split; None: as many as fill the GPU.
    """
    n, d, h, w, channels = x_shape
    rows = n * math.prod(outputs)
    steps = -(-math.prod(kernel) * channels // _run(arithmetic))
    tiles = -(-rows // implicit_gemm.ROWS), -(-columns // implicit_gemm.COLUMNS)
    parts = parts_of(math.prod(tiles), steps) if parts is None else parts
    number, numbers = KINDS.index(activation[0]), _parameters(activation[1])
    narrow = arithmetic == "bfloat16"
    geometry = (rows, channels, columns, steps, d, h, w, *outputs, *kernel, *stride, *dilation, *low)
    if parts == 1:
        whole = _conv_kernel(arithmetic, number, pool, False)
        return Work((Launch(whole, (*tiles, 1), ("x", "w", "bias", "y", *geometry, *numbers)),))
    part = _conv_kernel(arithmetic, 0, pool, True)
    first = Launch(part, (*tiles, parts), ("x", "w", "bias", "sums", *geometry, *_parameters(())))
    total = rows * columns
    return Work((first, _sum(total, rows, columns, parts, number, numbers, pool, narrow)), parts * total)


def _sum(
    total: int,
    rows: int,
    columns: int,
    parts: int,
    activation: int,
    numbers: Sequence[float],
    pool: bool,
    narrow: bool,
) -> Launch:
    kernel = _split_kernel(activation, pool, narrow)
    blocks = -(-(total // (4 if pool else 1)) // kernel.threads)
    return Launch(kernel, (blocks, 1, 1), ("sums", "bias", "y", rows, columns, parts, *numbers))


def _parameters(values: Sequence[float]) -> tuple[float, ...]:
    return (*values, *(0.0,) * (PARAMETERS - len(values)))


def dense(
    rows: int,
    inputs: int,
    outputs: int,
    *,
    kind: str = "float32",
    activation: tuple[str, Sequence[float]] = ("linear", ()),
    narrow: bool = False,
) -> Work:
    """Return the launches of a dense layer for at most 8 rows: x (rows, inputs), w (inputs, outputs).

    `outputs` is a multiple of 4 (8 with bfloat16 weights, which `kind` asks for); x is float32. With `narrow`
    the result is bfloat16.
    """
    kernel = _dense_kernel(rows, kind)
    columns = -(-outputs // dense_stream.columns_of(kind))
    # Enough blocks for every multiprocessor to have four, each with two runs of inputs or more for its warps.
    parts = max(1, min(2 * _SLOTS // columns, inputs // (8 * dense_stream.DEPTH), 4 * _MOST_PARTS))
    first = Launch(kernel, (columns, parts, 1), ("x", "w", "sums", inputs, outputs))
    number, numbers = KINDS.index(activation[0]), _parameters(activation[1])
    last = _sum(rows * outputs, rows, outputs, parts, number, numbers, False, narrow)
    return Work((first, last), parts * rows * outputs)
