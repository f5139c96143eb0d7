"""Batch normalisation at inference, and the scaling of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from convcore.errors import ModelFormatError, UnsupportedLayerError
from convcore.loader.call import LayerCall, LayerKind, Value, axis_of
from convcore.loader.settings import Settings, plain

#: keras.backend.epsilon(), the least standard deviation that Normalization divides by.
_LEAST = 1e-7


def _batch_norm_parameters(settings: Settings) -> tuple[str, ...]:
    scale = ("gamma",) if settings.flag("scale", True) else ()
    center = ("beta",) if settings.flag("center", True) else ()
    return (*scale, *center, "mean", "variance")


def _batch_norm(call: LayerCall) -> Value:
    value = call.input
    axis = axis_of(call, _one_axis(call), len(value.shape))
    size = call.size(value, axis)
    if call.settings.flag("renorm", False):
        raise UnsupportedLayerError(call.where, "batch renormalisation")
    weights = {name: call.vector(name, size) for name in _batch_norm_parameters(call.settings)}
    return call.emit(
        "batch_norm", value, weights=weights, axis=axis, epsilon=call.settings.number("epsilon", 1e-3)
    )


def _one_axis(call: LayerCall) -> int:
    axis = call.settings.raw("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise UnsupportedLayerError(call.where, "axis", got=axis, expected="one number")
    return axis


def _rescaling(call: LayerCall) -> Value:
    scale, offset = (_numbers(call, name, default) for name, default in (("scale", 1.0), ("offset", 0.0)))
    weights = {"scale": scale.astype(np.float32), "offset": offset.astype(np.float32)}
    return call.emit("affine", call.input, weights=weights)


def _normalization_parameters(settings: Settings) -> tuple[str, ...]:
    return () if "mean" in settings else ("mean", "variance", "count")


def _normalization(call: LayerCall) -> Value:
    """(x - mean) / max(sqrt(variance), 1e-7), as a scale and an offset worked out in float64."""
    value = call.input
    rank = len(value.shape)
    axes = call.settings.raw("axis", None)
    axes = [] if axes is None else list(axes) if isinstance(axes, list | tuple) else [axes]
    if any(isinstance(axis, bool) or not isinstance(axis, int) for axis in axes):
        raise ModelFormatError(call.where, "axis", got=axes, expected="numbers")
    kept = sorted(axis_of(call, axis, rank) for axis in axes)
    shape = tuple(call.size(value, axis) for axis in kept)
    spread = tuple(call.size(value, axis) if axis in kept else 1 for axis in range(rank))
    if "mean" in call.settings:
        mean, variance = (_fixed(call, name, kept, spread) for name in ("mean", "variance"))
    else:
        mean, variance = (
            call.weight(name, (shape, None)).astype(np.float64).reshape(spread)
            for name in ("mean", "variance")
        )
    deviation = np.maximum(np.sqrt(variance), _LEAST)
    invert = call.settings.flag("invert", False)
    scale, offset = (deviation, mean) if invert else (1 / deviation, -mean / deviation)
    weights = {"scale": scale.astype(np.float32), "offset": offset.astype(np.float32)}
    return call.emit("affine", value, weights=weights)


def _fixed(call: LayerCall, name: str, kept: list[int], spread: tuple[int, ...]) -> np.ndarray:
    """A mean or variance out of the configuration; its axes are the last of the kept ones."""
    array = _numbers(call, name, None)
    if array.ndim and array.shape != spread:
        lengths = dict(zip(kept[len(kept) - array.ndim :], array.shape, strict=False))
        array = array.reshape([lengths.get(axis, 1) for axis in range(len(spread))])
    try:
        return np.broadcast_to(array, spread)
    except ValueError:
        raise ModelFormatError(call.where, name, got=array.shape, expected=spread) from None


def _numbers(call: LayerCall, name: str, default: float | None) -> np.ndarray:
    value: Any = plain(call.settings.raw(name) if default is None else call.settings.raw(name, default))
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ModelFormatError(call.where, f"setting {name!r}", got=value, expected="numbers") from None
    return array


LAYERS: dict[str, LayerKind] = {
    "BatchNormalization": LayerKind(_batch_norm, _batch_norm_parameters),
    "SyncBatchNormalization": LayerKind(_batch_norm, _batch_norm_parameters),
    "Rescaling": LayerKind(_rescaling),
    "Normalization": LayerKind(_normalization, _normalization_parameters),
}
