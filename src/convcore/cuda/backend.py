"""What the operations of :mod:`convcore.ops` need in order to run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convcore.cuda.arrays import as_device_array, empty
from convcore.cuda.device import stream
from convcore.cuda.kernels import resampling, rows
from convcore.cuda.launch import launch
from convcore.cuda.step import Program, Step

__all__ = ["DeviceMemory"]


class DeviceMemory:
    """Arrays on the GPU and its kernels; see :class:`convcore.ops.arrays.Backend`."""

    step: Any = Step
    program: Any = Program

    def array(self, x: Any, name: str, where: str) -> Any:
        return as_device_array(x, name, where)

    def target(self, out: Any, where: str) -> Any:
        target = as_device_array(out, "out", where)
        target.written_on(stream.get())
        return target

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        return empty(shape, dtype)

    def floats(self, count: int) -> Any:
        return empty((count,), np.float32)

    def pad(self, a: Any, pairs: Sequence[tuple[int, int]], mode: str, value: float) -> Any:
        padded = empty([lo + n + hi for n, (lo, hi) in zip(a.shape, pairs, strict=True)])
        low = (*(0,) * (3 - a.ndim), *(lo for lo, _ in pairs))
        border = resampling.BORDERS.index(mode)
        wide = (None, *(None,) * (3 - a.ndim), ..., None)
        launch(resampling.pad_kernel, padded.size, padded[wide], a[wide], low, border, np.float32(value))
        return padded

    def batch_norm_affine(
        self,
        mean: Any,
        variance: Any,
        gamma: Any,
        beta: Any,
        epsilon: float,
    ) -> Any:
        # Whether variance + epsilon is positive is known on the device alone; where it is not, NaN says so.
        scale, offset, none = empty(mean.shape), empty(mean.shape), empty((0,))
        gamma, beta = none if gamma is None else gamma, none if beta is None else beta
        kernel = rows.batch_norm_affine_kernel
        launch(kernel, scale.size, scale, offset, mean, variance, gamma, beta, epsilon)
        return scale, offset
