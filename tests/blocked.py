"""Maps with blocked channels in test memory: how a plan lays them out, NaN wherever nothing was written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore import _native
from convcore.ops import arrays as ops_arrays

Array = NDArray[Any]
Halo = tuple[tuple[int, int], ...]
BLOCK = 16


class BlockedMap:
    """A map (n, d, h, w, c) in blocks of 16 channels, with `halo` cells around d, h and w."""

    def __init__(self, shape: tuple[int, ...], halo: Halo = ((0, 0),) * 3) -> None:
        self.shape, self.halo = shape, halo
        n, *spatial, c = shape
        self.sides = [low + size + high for size, (low, high) in zip(spatial, halo, strict=True)]
        full = (n, -(-c // BLOCK), *self.sides, BLOCK)
        # As the kernels' own working memory, so that tests may put it between forbidden pages.
        self.buffer = ops_arrays.aligned_floats(int(np.prod(full)))
        self.buffer[:] = np.nan
        self.memory = self.buffer.reshape(full)

    def view(self, buffer: int) -> _native.View:
        """What a step is given."""
        ld = [s // 4 for s in self.memory.strides]
        inside = [ld[0], *ld[2:]]
        offset = sum(low * step for (low, _), step in zip(self.halo, inside[1:4], strict=True))
        low, high = zip(*self.halo, strict=True)
        return buffer, offset, "float32", self.shape, (*inside[:4], 1), ld[1], low, high

    @property
    def cells(self) -> Array:
        """The map without its halo: (n, blocks, d, h, w, 16), a view."""
        inner = tuple(
            slice(low, low + size) for size, (low, _) in zip(self.shape[1:4], self.halo, strict=True)
        )
        return self.memory[(slice(None), slice(None), *inner)]

    def fill(self, x: Array) -> None:
        """Write `x`, in its own order, and zeros behind its last channel."""
        blocks = self.memory.shape[1]
        padded = np.zeros((*self.shape[:-1], blocks * BLOCK), np.float32)
        padded[..., : self.shape[-1]] = x
        self.cells[...] = np.moveaxis(padded.reshape(*self.shape[:-1], blocks, BLOCK), -2, 1)

    def read(self) -> Array:
        """The map in plain order."""
        plain = np.moveaxis(self.cells, 1, -2).reshape(*self.shape[:-1], -1)
        return np.ascontiguousarray(plain[..., : self.shape[-1]])


def run_convolution(
    x: Array,
    weights: Array,
    bias: Array,
    /,
    *,
    isa: str | None,
    output: tuple[int, int, int],
    operation: str = "conv",
    blocked: tuple[bool, bool] = (True, True),
    enough_halo: bool = True,
    out: Array | None = None,
    **fields: Any,
) -> tuple[Array, str]:
    """Run one convolution step on maps laid out as `blocked` says (input, output).

    x is (n, d, h, w, ic), `output` the sizes that it writes. Returns the result in plain order, and the
    algorithm. The halo of the input is written by a border step; without `enough_halo` there is none.
    """
    channels = weights.shape[-2] if operation == "conv_transpose" else weights.shape[-1]
    result = (len(x), *output, channels)
    buffers: list[Array] = []

    def plain(array: Array) -> _native.View:
        buffers.append(array)
        return len(buffers) - 1, 0, "float32", array.shape, [s // 4 for s in array.strides]

    def in_blocks(a_map: BlockedMap) -> _native.View:
        buffers.append(a_map.buffer)
        return a_map.view(len(buffers) - 1)

    x, weights, bias = (np.ascontiguousarray(a, np.float32) for a in (x, weights, bias))
    target = BlockedMap(result, ((0, 1), (1, 0), (2, 1))) if blocked[1] else None
    in_place = out is not None and out.strides[-1] == 4  # the kernels want neighbouring channels
    y = out if out is not None and in_place else np.full(result, np.nan, np.float32)
    steps = []
    fields |= {"isa": isa, "out": in_blocks(target) if target else plain(y)}
    if blocked[0]:
        bare = BlockedMap(x.shape)
        needed = _native.Step(operation, x=bare.view(0), **fields).need
        halo = tuple(zip(*needed, strict=True)) if enough_halo else bare.halo
        source = BlockedMap(x.shape, halo)
        source.fill(x)
        view = in_blocks(source)
        steps.append(_native.Step("border", out=view, isa=isa))
    else:
        view = plain(x)
    step = _native.Step(operation, x=view, **fields)
    packed = ops_arrays.aligned_floats(step.packed_floats)
    step.pack(weights, bias, packed)
    step.set_weights(packed)
    if step.workspace_bytes:
        buffers.append(ops_arrays.aligned_floats(-(-step.workspace_bytes // 4)))
        step.set_workspace(len(buffers) - 1, 0)
    _native.Program([*steps, step]).run(buffers)
    if target:
        y = target.read()
        target.cells[...] = np.nan
        assert np.isnan(target.memory).all(), "a convolution wrote into the halo of its output"
    if out is not None and y is not out:
        out[...] = y
        y = out
    return y, step.algorithm
