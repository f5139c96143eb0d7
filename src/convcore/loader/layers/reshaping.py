"""Layers that move, add, drop or repeat numbers without changing them; and resizing."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from convcore.errors import ModelFormatError, UnsupportedLayerError
from convcore.loader.call import LayerCall, LayerKind, Value


def _flatten(call: LayerCall) -> Value:
    value = call.input
    # Since 2.2 a channels-first Flatten says so, and puts the channels last before it flattens. Before,
    # the setting did not exist, and memory order (channels, height, width) was kept.
    if call.settings.channels_first and len(value.shape) > 1:
        value = call.to_channels_last(value)
    size = None if None in value.shape else math.prod(n or 0 for n in value.shape)
    return call.emit("reshape", value, shape=(size,))


def _reshape(call: LayerCall) -> Value:
    target = tuple(None if n < 0 else n for n in call.settings.integers("target_shape", least=-1))
    return call.emit("reshape", call.input, shape=target)


def _permute(call: LayerCall) -> Value:
    return call.emit(
        "permute", call.input, axes=tuple(n - 1 for n in call.settings.integers("dims", least=1))
    )


def _borders(call: LayerCall, rank: int, operation: str, name: str) -> Value:
    """ZeroPadding and Cropping: no layout matters, the channels get (0, 0)."""
    value = call.input
    if len(value.shape) != rank + 1:
        raise ModelFormatError(call.where, "number of axes", got=value.shape, expected=rank + 1)
    pairs = call.settings.pairs(name, rank, 1)
    none = ((0, 0),)
    every = none + pairs if rank > 1 and call.settings.channels_first else pairs + none
    attributes: dict[str, Any] = {name: every}
    return call.emit(operation, value, **attributes)


def _upsample(call: LayerCall, rank: int) -> Value:
    settings = call.settings
    size = settings.sizes("size", rank, 2)
    words = ("nearest", "bilinear") if rank == 2 else ("nearest",)
    if settings.word("interpolation", words, "nearest") == "nearest":
        return call.spatial(rank, partial(call.emit, "upsample", size=size))
    if call.era.version and call.era.before(2, 4):
        raise UnsupportedLayerError(
            call.where,
            "bilinear interpolation of Keras before 2.4",
            remedy="It sampled at other positions; save the model again with a later Keras.",
        )
    work = partial(call.emit, "resize", size=(None, None), factor=size, interpolation="bilinear")
    return call.spatial(rank, work)


def _resizing(call: LayerCall) -> Value:
    settings = call.settings
    size = settings.integer("height"), settings.integer("width")
    interpolation = settings.word("interpolation", ("bilinear", "nearest"), "bilinear")
    for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if settings.flag(name, False):
            raise UnsupportedLayerError(call.where, f"setting {name!r}", got=True, expected=False)
    return call.spatial(2, partial(call.emit, "resize", size=size, interpolation=interpolation))


LAYERS: dict[str, LayerKind] = {
    "Flatten": LayerKind(_flatten),
    "Reshape": LayerKind(_reshape),
    "Permute": LayerKind(_permute),
    "Resizing": LayerKind(_resizing),
    **{
        f"{class_name}{rank}D": LayerKind(convert)
        for rank in (1, 2, 3)
        for class_name, convert in (
            ("ZeroPadding", partial(_borders, rank=rank, operation="pad", name="padding")),
            ("Cropping", partial(_borders, rank=rank, operation="crop", name="cropping")),
            ("UpSampling", partial(_upsample, rank=rank)),
        )
    },
}
