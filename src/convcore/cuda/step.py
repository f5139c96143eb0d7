"""One operation on views of device arrays, and programs of them: what ``_native`` is for the C library.

A :class:`Step` is made from the same operation names and fields as ``_native.Step`` (``csrc/convcore.h`` has
the equations), so what describes work for the CPU describes it for the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convcore import _native
from convcore.cuda import compiled, fast
from convcore.cuda.arrays import DeviceArray, empty, to_device
from convcore.cuda.kernels import (
    activation,
    convolution,
    copy,
    elementwise,
    hounsfield,
    pooling,
    resampling,
    rows,
)
from convcore.cuda.launch import all_axes, launch
from convcore.errors import ArgumentError

__all__ = ["PRECISIONS", "Program", "Step"]

#: What the products may be computed in.
PRECISIONS = tuple(fast.ARITHMETICS)

#: Operations that have weights.
_WEIGHTED = ("conv", "depthwise_conv", "conv_transpose", "dense", "affine")
#: The window, and the stride, of the pooling that a convolution can do on the way out.
_POOL = 2
#: Bytes of the widest access.
_ALIGNMENT = 16


class Step:
    """One operation. The views name buffers that :meth:`Program.run` is given; see ``_native.Step``."""

    def __init__(
        self,
        operation: str,
        *,
        out: Any,
        x: Any = None,
        x2: Any = None,
        isa: str | None = None,
        precision: str = "float32",
        pool: int = 1,
        **fields: Any,
    ) -> None:
        if operation not in _RUN:
            raise ArgumentError("convcore.cuda", "operation", got=operation, expected=", ".join(_RUN))
        self.operation = operation
        self.fields = fields
        self._views = (out, x, x2)
        self._packed: DeviceArray | None = None
        self._workspace = (0, 0)
        self._fast = fast.choose(operation, x, out, fields, precision, pool == _POOL)
        if self._fast is None and pool != 1:
            raise ArgumentError(operation, "no kernel for the GPU pools what it has computed")

    # ---- what the plan and the operations ask ----------------------------------------------------

    @property
    def isa(self) -> str:
        """What computes."""
        return "cuda"

    @property
    def algorithm(self) -> str:
        """The kernel, as a plan prints it."""
        return "simple" if self._fast is None else self._fast.algorithm

    @property
    def packed_floats(self) -> int:
        """Size of the packed weights and bias, in units of four bytes."""
        if self.operation not in _WEIGHTED:
            return 0
        if self._fast is not None and self._fast.packing is not None:
            return self._fast.packing.floats
        return sum(math.prod(shape) for shape in self._weight_shapes())

    @property
    def workspace_bytes(self) -> int:
        """Size of the memory that the step works in."""
        return 0 if self._fast is None else 4 * self._fast.work.sums

    @property
    def flops(self) -> float:
        """Arithmetic of the definition; a multiply-add counts as two."""
        return self._counted().flops

    @property
    def bytes(self) -> float:
        """Bytes that are read and written if each is touched once."""
        return self._counted().bytes

    def _counted(self) -> _native.Step:
        """The C library's step for the same work: it knows how much that is."""
        out, x, x2 = self._views
        return _native.Step(self.operation, out=out, x=x, x2=x2, **self.fields)

    def _weight_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the weights, with all axes, and of the bias."""
        out, x, _ = self._views
        kernel, ic, oc = tuple(self.fields.get("kernel", (1, 1, 1))), x[3][-1], out[3][-1]
        shapes: dict[str, tuple[int, ...]] = {
            "conv": (*kernel, ic // int(self.fields.get("groups", 1)), oc),
            "depthwise_conv": (*kernel, ic, oc // ic),
            "conv_transpose": (*kernel, oc, ic),
            "dense": (ic, oc),
            "affine": (oc,),
        }
        return shapes[self.operation], (oc,)

    def pack(self, weights: Any, bias: Any, packed: Any) -> None:
        """Write weights and bias to `packed` as the kernel reads them: all on the host, or all on the GPU."""
        if self._fast is not None and self._fast.packing is not None:
            self._fast.packing.pack(weights, bias, packed)
            return
        shape, length = self._weight_shapes()
        size = math.prod(shape)
        packed[:size].reshape(shape)[...] = weights.reshape(shape)
        if bias is None:
            packed[size:] = 0.0
        else:
            packed[size:] = bias.reshape(length)

    def set_weights(self, packed: DeviceArray) -> None:
        """Take the packed weights, on the GPU."""
        self._packed = packed

    def set_workspace(self, buffer: int, offset: int) -> None:
        """Say which buffer, from which byte on, the step may work in."""
        self._workspace = (buffer, offset)

    def run(self, buffers: Sequence[DeviceArray]) -> None:
        """Launch the kernels on the context's stream."""
        out, x, x2 = (None if v is None else buffers[v[0]].strided(v[1], v[3], v[4]) for v in self._views)
        if self._fast is None:
            _RUN[self.operation](self, out, x, x2)
            return
        assert x is not None and out is not None
        # The fast kernels read and write 16 bytes at a time; arrays of other packages may begin anywhere.
        source = x if x.pointer % _ALIGNMENT == 0 else x.copy()
        target = out if out.pointer % _ALIGNMENT == 0 else empty(out.shape, out.dtype)
        constants = {name: to_device(value) for name, value in self._fast.constants.items()}
        arrays = {name: value.pointer for name, value in constants.items()}
        arrays |= {"x": source.pointer, "y": target.pointer}
        if self._fast.packing is not None:
            assert self._packed is not None, "weights were not set"
            arrays |= self._fast.packing.placed(self._packed.pointer)
        if self._fast.work.sums:
            buffer, offset = self._workspace
            arrays["sums"] = buffers[buffer].pointer + offset
        compiled.run(self._fast.work, arrays)
        if target is not out:
            out[...] = target

    # ---- arguments of kernels -------------------------------------------------------------------

    @property
    def activation(self) -> tuple[Any, ...]:
        """Number and parameters of the activation, as the kernels take them."""
        name, parameters = self.fields.get("activation", ("linear", ()))
        padded = (*parameters, *(0.0,) * (activation.PARAMETERS - len(parameters)))
        return (activation.KINDS.index(name), *(np.float32(p) for p in padded))

    def triple(self, name: str, default: int) -> tuple[int, int, int]:
        """Three integers, along d, h and w."""
        d, h, w = self.fields.get(name, (default,) * 3)
        return int(d), int(h), int(w)

    def weights_and_bias(self) -> tuple[DeviceArray, DeviceArray]:
        """The weights with all axes, and the bias."""
        assert self._packed is not None, "weights were not set"
        shape, length = self._weight_shapes()
        size = math.prod(shape)
        return self._packed[:size].reshape(shape), self._packed[size : size + length[0]]


class Program:
    """Steps in order, run on the stream of the context that calls."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)

    def run(self, buffers: Sequence[DeviceArray]) -> None:
        """Launch every step; the device works on them after this has returned."""
        for step in self.steps:
            step.run(buffers)


def _window(kernel: Any) -> Callable[..., None]:
    """Run one of the three convolutions."""

    def run(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
        launch(
            kernel, y.size, y, x, *step.weights_and_bias(),
            step.triple("stride", 1), step.triple("dilation", 1), step.triple("pad_low", 0),
            bool(step.fields.get("flip", False)), *step.activation,
        )  # fmt: skip

    return run


def _max_pool(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    sizes = step.triple("kernel", 1), step.triple("stride", 1), step.triple("pad_low", 0)
    launch(pooling.max_pool_kernel, y.size, y, x, *sizes)


def _average_pool(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    sizes = step.triple("kernel", 1), step.triple("stride", 1), step.triple("pad_low", 0)
    whole = bool(step.fields.get("include_padding", False))
    launch(pooling.average_pool_kernel, y.size, y, x, *sizes, whole)


def _global_pool(kernel: Any) -> Callable[..., None]:
    return lambda step, y, x, _: launch(kernel, y.size, y, x)


def _dense(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    launch(rows.dense_kernel, y.size, y, x, *step.weights_and_bias(), *step.activation)


def _affine(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    launch(elementwise.affine_kernel, y.size, y, x, *step.weights_and_bias(), *step.activation)


def _softmax(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    launch(rows.softmax_kernel, x.shape[0], y, x)


def _activation(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    launch(elementwise.activation_kernel, y.size, all_axes(y), all_axes(x), *step.activation)


def _binary(step: Step, y: DeviceArray, x: DeviceArray, x2: DeviceArray) -> None:
    number = elementwise.BINARIES.index(step.fields.get("binary", "add"))
    launch(
        elementwise.binary_kernel, y.size, all_axes(y), all_axes(x), all_axes(x2), number, *step.activation
    )


def _sample(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    distribution = elementwise.SAMPLES.index(step.fields["sample"])
    _, low, high, _ = step.activation
    seed = np.uint64(step.fields["seed"])
    launch(elementwise.sample_kernel, y.size, all_axes(y), all_axes(x), distribution, seed, low, high)


def _copy(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    copy.launch(y, x)


def _fill(step: Step, y: DeviceArray, x: None, _: None) -> None:
    copy.launch_fill(y, step.fields.get("value", 0.0))


def _resize(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    kernel = resampling.linear_kernel if step.fields.get("linear", True) else resampling.nearest_kernel
    scale, offset = (
        tuple(float(v) for v in step.fields.get(name, (default,) * 3))
        for name, default in (("resize_scale", 1.0), ("resize_offset", 0.0))
    )
    launch(kernel, y.size, y, x, scale, offset)


def _hu_rescale(step: Step, y: DeviceArray, x: DeviceArray, _: None) -> None:
    padding, air = step.fields["padding_value"], step.fields["padding_to"]
    launch(
        hounsfield.hu_kernel if y.dtype == np.float32 else hounsfield.hu_int16_kernel,
        y.size, y, x, to_device(step.fields["slope"]), to_device(step.fields["intercept"]),
        padding is not None, 0 if padding is None else padding, air is not None, 0.0 if air is None else air,
    )  # fmt: skip


_RUN: dict[str, Callable[..., None]] = {
    "conv": _window(convolution.conv_kernel),
    "depthwise_conv": _window(convolution.depthwise_kernel),
    "conv_transpose": _window(convolution.conv_transpose_kernel),
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_max_pool": _global_pool(pooling.global_max_pool_kernel),
    "global_average_pool": _global_pool(pooling.global_average_pool_kernel),
    "dense": _dense,
    "affine": _affine,
    "softmax": _softmax,
    "activation": _activation,
    "binary": _binary,
    "sample": _sample,
    "copy": _copy,
    "fill": _fill,
    "resize": _resize,
    "hu_rescale": _hu_rescale,
}
