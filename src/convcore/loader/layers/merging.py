"""Layers of several inputs."""

from __future__ import annotations

from functools import partial

from convcore.errors import ModelFormatError
from convcore.loader.call import LayerCall, LayerKind, Value, axis_of


def _elementwise(call: LayerCall, operation: str) -> Value:
    inputs = call.inputs
    if not inputs or (operation == "subtract" and len(inputs) != 2):
        raise ModelFormatError(call.where, "number of inputs", got=len(inputs))
    # Keras lines the batch axes up, then puts axes of size 1 behind them where an input has too few.
    rank = max(len(value.shape) for value in inputs)
    levelled = []
    for value in inputs:
        missing = rank - len(value.shape)
        levelled.append(call.emit("reshape", value, shape=(1,) * missing + value.shape) if missing else value)
    return call.emit(operation, *levelled)


def _concatenate(call: LayerCall) -> Value:
    if not call.inputs:
        raise ModelFormatError(call.where, "number of inputs", got=0, expected="at least 1")
    axis = call.settings.integer("axis", -1, least=-8)
    return call.emit("concatenate", *call.inputs, axis=axis_of(call, axis, len(call.inputs[0].shape)))


LAYERS: dict[str, LayerKind] = {
    "Concatenate": LayerKind(_concatenate),
    **{
        class_name: LayerKind(partial(_elementwise, operation=class_name.lower()))
        for class_name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
    },
}
