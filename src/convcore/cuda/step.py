"""One operation on views of device arrays, and programs of them: what ``_native`` is for the C library.

A :class:`Step` is made from the same operation names and fields as ``_native.Step`` (``csrc/convcore.h`` has
the equations), so what describes work for the CPU describes it for the GPU. Views may also be of "bfloat16":
fast kernels read and write it as it is; around a simple one, copies convert what it reads and writes from and
to float32, in the step's workspace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convcore import _native
from convcore.bfloat16 import to_bfloat16
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

__all__ = ["PRECISIONS", "Program", "Step", "launch_work"]

#: What the products may be computed in.
PRECISIONS = tuple(fast.ARITHMETICS)

#: Operations that have weights.
_WEIGHTED = ("conv", "depthwise_conv", "conv_transpose", "dense", "affine")
#: The window, and the stride, of the pooling that a convolution can do on the way out.
_POOL = 2
#: Bytes of the widest access.
_ALIGNMENT = 16
_NARROW = "bfloat16"


def launch_work(work: fast.Work, arrays: Mapping[str, DeviceArray]) -> None:
    """Launch fast kernels on the context's stream; `arrays` has every array that they name."""
    compiled.run(work, {name: array.pointer for name, array in arrays.items()})


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
        if operation not in _RUN and operation not in _ON_BITS:
            known = ", ".join([*_RUN, *_ON_BITS])
            raise ArgumentError("convcore.cuda", "operation", got=operation, expected=known)
        self.operation = operation
        self.fields = fields
        self._views = (out, x, x2)
        self._packed: DeviceArray | None = None
        self._workspace = (0, 0)
        self._pools = pool == _POOL
        self._fast = fast.choose(operation, x, out, fields, precision, self._pools, x2)
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
        return sum(_whole(4 * floats) for floats in self._workspaces.values())

    @property
    def _workspaces(self) -> dict[str, int]:
        """Floats of each array in the workspace, by its name: of the fast kernels, or of converted views."""
        if self._fast is not None:
            work = self._fast.work
            sizes = {"padded": work.padded // 4, "sums": work.sums}
        elif self.operation in _ON_BITS:
            sizes = {}
        else:
            views = zip(("y", "x", "x2"), self._views, strict=True)
            sizes = {name: math.prod(v[3]) for name, v in views if v is not None and v[2] == _NARROW}
        return {name: floats for name, floats in sizes.items() if floats}

    @property
    def flops(self) -> float:
        """Arithmetic of the definition; a multiply-add counts as two."""
        out = self._views[0]
        return self._counted(_before_pooling(out) if self._pools else out).flops

    @property
    def bytes(self) -> float:
        """Bytes that are read and written if each is touched once."""
        halves = sum(_distinct(v) for v in self._views if v is not None and v[2] == _NARROW)
        if self._fast is not None and self._fast.packing is not None:
            halves += math.prod(self._weight_shapes()[0]) if self._fast.packing.dtype == _NARROW else 0
        return self._counted(self._views[0]).bytes - 2.0 * halves

    def _counted(self, result: Any) -> _native.Step:
        """The C library's step for the same work in float32, to `result`: it knows how much that is."""
        views = (result, *self._views[1:])
        out, x, x2 = (v if v is None or v[2] != _NARROW else (*v[:2], "float32", *v[3:]) for v in views)
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
        """Take the packed weights, on the GPU.

        Raises
        ------
        ArgumentError
            They were packed for other kernels: the batch has more elements than those reach.
        """
        if packed.size != self.packed_floats:
            _, x, _ = self._views
            raise ArgumentError(
                self.operation,
                "the batch is too large for the kernel that the weights are packed for",
                got=f"an input of shape {tuple(x[3])}",
                expected="fewer elements",
                remedy="Give predict a smaller batch_size.",
            )
        self._packed = packed

    def set_workspace(self, buffer: int, offset: int) -> None:
        """Say which buffer, from which byte on, the step may work in."""
        self._workspace = (buffer, offset)

    def run(self, buffers: Sequence[DeviceArray]) -> None:
        """Launch the kernels on the context's stream."""
        out, x, x2 = (None if v is None else _array(v, buffers) for v in self._views)
        if self._fast is not None:
            assert out is not None
            self._run_fast(self._fast, out, {"x": x, "x2": x2}, self._working(buffers))
        elif self.operation in _ON_BITS:
            _ON_BITS[self.operation](self, out, x)
        else:
            self._run_simple(out, x, x2, self._working(buffers))

    def _working(self, buffers: Sequence[DeviceArray]) -> dict[str, DeviceArray]:
        """The arrays in the workspace."""
        (buffer, at), arrays = self._workspace, {}
        for name, floats in self._workspaces.items():
            arrays[name] = buffers[buffer].strided(at // 4, (floats,), (1,))
            at += _whole(4 * floats)
        return arrays

    def _run_fast(
        self,
        choice: fast.Choice,
        out: DeviceArray,
        inputs: Mapping[str, DeviceArray | None],
        working: Mapping[str, DeviceArray],
    ) -> None:
        # The fast kernels read and write 16 bytes at a time; arrays of other packages may begin anywhere.
        target = out if out.pointer % _ALIGNMENT == 0 else empty(out.shape, out.dtype)
        arrays = {name: to_device(value) for name, value in choice.constants.items()}
        arrays |= {"y": target, **working}
        for name, x in inputs.items():
            if x is not None:
                arrays[name] = x if x.pointer % _ALIGNMENT == 0 else x.copy()
        if choice.packing is not None:
            assert self._packed is not None, "weights were not set"
            bias = choice.packing.placed(0)["bias"] // 4
            arrays |= {"w": self._packed[:bias], "bias": self._packed[bias:]}
        launch_work(choice.work, arrays)
        if target is not out:
            out[...] = target

    def _run_simple(self, out: Any, x: Any, x2: Any, working: dict[str, DeviceArray]) -> None:
        """The simple kernels compute in float32 alone."""
        given = {"y": out, "x": x, "x2": x2}
        floats = {name: working[name].reshape(a.shape) if name in working else a for name, a in given.items()}
        for name in ("x", "x2"):
            if name in working:
                copy.launch_from_bfloat16(floats[name], given[name])
        _RUN[self.operation](self, floats["y"], floats["x"], floats["x2"])
        if "y" in working:
            copy.launch_to_bfloat16(out, floats["y"])

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


def _whole(size: int) -> int:
    """A number of bytes, rounded up to a multiple of the widest access."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _distinct(view: Any) -> int:
    """Elements that a view shows, those repeated by a memory step of 0 once."""
    return math.prod(n for n, step in zip(view[3], view[4], strict=True) if step != 0)


def _before_pooling(view: Any) -> Any:
    """The view that windows of 2x2 were made one element of."""
    n, d, h, w, c = view[3]
    shape = (n, d, _POOL * h, _POOL * w, c)
    return (*view[:3], shape, tuple(math.prod(shape[i + 1 :]) for i in range(5)), *view[5:])


def _array(view: Any, buffers: Sequence[DeviceArray]) -> DeviceArray:
    """What a view shows; of bfloat16, its bits."""
    buffer: DeviceArray = buffers[view[0]]
    if view[2] == _NARROW:
        buffer = buffer.view(np.uint16)
    return buffer.strided(view[1], view[3], view[4])


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


def _copy(step: Step, y: DeviceArray, x: DeviceArray) -> None:
    out, source, _ = step._views
    if out[2] == source[2]:
        copy.launch(y, x)
    elif out[2] == _NARROW:
        copy.launch_to_bfloat16(y, x)
    else:
        copy.launch_from_bfloat16(y, x)


def _fill(step: Step, y: DeviceArray, x: None) -> None:
    value = float(step.fields.get("value", 0.0))
    narrow = step._views[0][2] == _NARROW
    copy.launch_fill(y, int(to_bfloat16(np.full(1, value, np.float32))[0]) if narrow else value)


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
    "resize": _resize,
    "hu_rescale": _hu_rescale,
}

#: What moves elements without computing, so that bfloat16 needs no float32.
_ON_BITS: dict[str, Callable[..., None]] = {"copy": _copy, "fill": _fill}
