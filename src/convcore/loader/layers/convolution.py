"""Convolutions: plain, grouped, dilated, depthwise, separable and transposed, in 1, 2 and 3 dimensions."""

from __future__ import annotations

from functools import partial
from typing import Any

from convcore.errors import ModelFormatError
from convcore.loader.call import LayerCall, LayerKind, Value
from convcore.loader.kernels import conv_kernel, depthwise_kernel, transposed_kernel
from convcore.loader.layers.activation import activate
from convcore.loader.lazy import Weight
from convcore.loader.settings import Settings


def _bias(call: LayerCall, filters: int) -> dict[str, Weight]:
    return {"bias": call.vector("bias", filters)} if call.settings.flag("use_bias", True) else {}


def _padding(call: LayerCall, rank: int) -> str:
    words = ("valid", "same", "causal") if rank == 1 else ("valid", "same")
    word = call.settings.word("padding", words, "valid")
    return "theano_same" if word == "same" and call.era.theano else word


def _window(call: LayerCall, rank: int) -> dict[str, Any]:
    return {
        "strides": call.settings.sizes("strides", rank, 1),
        "dilation": call.settings.sizes("dilation_rate", rank, 1),
        "padding": _padding(call, rank),
    }


def _conv(call: LayerCall, rank: int) -> Value:
    settings = call.settings
    filters, groups = settings.integer("filters"), settings.integer("groups", 1)
    kernel_size = settings.sizes("kernel_size", rank)

    def work(value: Value) -> Value:
        channels = call.size(value, -1)
        if channels % groups or filters % groups:
            raise ModelFormatError(
                call.where, "groups do not divide channels", got=(channels, filters), expected=groups
            )
        kernel = conv_kernel(call, kernel_size, channels // groups, filters)
        weights = {"kernel": kernel, **_bias(call, filters)}
        return call.emit("conv", value, weights=weights, groups=groups, **_window(call, rank))

    return activate(call, call.spatial(rank, work), settings.raw("activation", None))


def _depthwise(call: LayerCall, rank: int) -> Value:
    settings = call.settings
    kernel_size, multiplier = settings.sizes("kernel_size", rank), settings.integer("depth_multiplier", 1)

    def work(value: Value) -> Value:
        channels = call.size(value, -1)
        kernel = depthwise_kernel(call, "kernel", kernel_size, channels, multiplier)
        weights = {"kernel": kernel, **_bias(call, channels * multiplier)}
        return call.emit("depthwise_conv", value, weights=weights, **_window(call, rank))

    return activate(call, call.spatial(rank, work), settings.raw("activation", None))


def _separable(call: LayerCall, rank: int) -> Value:
    """A depthwise convolution, then one with a kernel of size 1."""
    settings = call.settings
    filters, multiplier = settings.integer("filters"), settings.integer("depth_multiplier", 1)
    kernel_size = settings.sizes("kernel_size", rank)

    def work(value: Value) -> Value:
        channels = call.size(value, -1)
        depthwise = depthwise_kernel(call, "depthwise_kernel", kernel_size, channels, multiplier)
        middle = call.emit("depthwise_conv", value, weights={"kernel": depthwise}, **_window(call, rank))
        ones = (1,) * rank
        pointwise = call.weight("pointwise_kernel", ((*ones, channels * multiplier, filters), None))
        weights = {"kernel": pointwise, **_bias(call, filters)}
        return call.emit(
            "conv", middle, weights=weights, strides=ones, dilation=ones, groups=1, padding="valid"
        )

    return activate(call, call.spatial(rank, work), settings.raw("activation", None))


def _transpose(call: LayerCall, rank: int) -> Value:
    settings = call.settings
    filters, kernel_size = settings.integer("filters"), settings.sizes("kernel_size", rank)
    extra = settings.sizes("output_padding", rank, least=0) if "output_padding" in settings else None

    def work(value: Value) -> Value:
        weights = {
            "kernel": transposed_kernel(call, kernel_size, call.size(value, -1), filters),
            **_bias(call, filters),
        }
        return call.emit(
            "conv_transpose",
            value,
            weights=weights,
            strides=settings.sizes("strides", rank, 1),
            dilation=settings.sizes("dilation_rate", rank, 1),
            padding=settings.word("padding", ("valid", "same"), "valid"),
            output_padding=extra,
        )

    return activate(call, call.spatial(rank, work), settings.raw("activation", None))


def _with_bias(*names: str) -> Any:
    def parameters(settings: Settings) -> tuple[str, ...]:
        return (*names, "bias") if settings.flag("use_bias", True) else names

    return parameters


LAYERS: dict[str, LayerKind] = {
    "DepthwiseConv1D": LayerKind(partial(_depthwise, rank=1), _with_bias("kernel")),
    "DepthwiseConv2D": LayerKind(partial(_depthwise, rank=2), _with_bias("kernel")),
    **{
        f"Conv{rank}D{suffix}": LayerKind(partial(convert, rank=rank), _with_bias("kernel"))
        for rank in (1, 2, 3)
        for suffix, convert in (("", _conv), ("Transpose", _transpose))
    },
    **{
        f"SeparableConv{rank}D": LayerKind(
            partial(_separable, rank=rank), _with_bias("depthwise_kernel", "pointwise_kernel")
        )
        for rank in (1, 2)
    },
}
