"""Activations: by name, as a function or layer inside another layer, and as layers of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convcore.errors import UnsupportedLayerError
from convcore.loader.call import LayerCall, LayerKind, Value, axis_of
from convcore.loader.settings import Settings, plain

#: Names in a file -> kind and parameters of the graph's activation.
_NAMED: Mapping[str, tuple[str, dict[str, float | bool]]] = {
    "linear": ("linear", {}),
    "relu": ("relu", {}),
    "relu6": ("relu", {"max_value": 6.0}),
    "leaky_relu": ("leaky_relu", {"negative_slope": 0.2}),
    "elu": ("elu", {"alpha": 1.0}),
    "celu": ("celu", {"alpha": 1.0}),
    "selu": ("selu", {}),
    "gelu": ("gelu", {"approximate": False}),
    "silu": ("silu", {}),
    "swish": ("silu", {}),
    "hard_silu": ("hard_silu", {}),
    "hard_swish": ("hard_silu", {}),
    "mish": ("mish", {}),
    "sigmoid": ("sigmoid", {}),
    "tanh": ("tanh", {}),
    "softplus": ("softplus", {}),
    "softsign": ("softsign", {}),
    "exponential": ("exponential", {}),
}


def activate(call: LayerCall, value: Value, activation: Any) -> Value:
    """Emit `activation`: nothing, a name, a serialised function, or a serialised layer."""
    activation = _function_name(activation)
    if activation is None or activation == "linear":
        return value
    if isinstance(activation, Mapping):
        return _as_layer(call, value, activation)
    if activation == "softmax":
        return call.emit("softmax", value, axis=len(value.shape) - 1)
    if activation == "hard_sigmoid":
        # Keras 3.3 changed the slope from 0.2 to 1/6.
        return _emit(call, value, "hard_sigmoid", slope=0.2 if call.era.before(3, 3) else 1 / 6)
    if not isinstance(activation, str) or activation not in _NAMED:
        raise UnsupportedLayerError(
            call.where, "activation", got=activation, expected=", ".join([*_NAMED, "softmax, hard_sigmoid"])
        )
    kind, parameters = _NAMED[activation]
    return _emit(call, value, kind, **parameters)


def _function_name(activation: Any) -> Any:
    """Keras 3 wraps a function's name: {"class_name": "function", "config": name}."""
    if isinstance(activation, Mapping) and activation.get("class_name") == "function":
        return activation.get("config")
    return activation


def _as_layer(call: LayerCall, value: Value, activation: Mapping[str, Any]) -> Value:
    """An activation layer given as another layer's `activation`."""
    class_name, config = activation.get("class_name"), activation.get("config")
    work = _LAYERS.get(class_name) if isinstance(class_name, str) else None
    if work is None or not isinstance(config, Mapping):
        raise UnsupportedLayerError(
            call.where, "activation", got=class_name, expected=f"a name, or one of {', '.join(_LAYERS)}"
        )
    return work(call, value, Settings(config, call.where))


def _emit(call: LayerCall, value: Value, kind: str, **parameters: float | bool | None) -> Value:
    return call.emit("activation", value, kind=kind, parameters=parameters)


def _activation(call: LayerCall, value: Value, settings: Settings) -> Value:
    return activate(call, value, settings.raw("activation", "linear"))


def _relu(call: LayerCall, value: Value, settings: Settings) -> Value:
    parameters: dict[str, float] = {}
    for name in ("negative_slope", "threshold"):
        if settings.number(name, 0.0):
            parameters[name] = settings.number(name)
    if plain(settings.raw("max_value", None)) is not None:
        parameters["max_value"] = settings.number("max_value")
    return _emit(call, value, "relu", **parameters)


def _leaky_relu(call: LayerCall, value: Value, settings: Settings) -> Value:
    name = "negative_slope" if "negative_slope" in settings else "alpha"
    return _emit(call, value, "leaky_relu", negative_slope=settings.number(name, 0.3))


def _elu(call: LayerCall, value: Value, settings: Settings) -> Value:
    return _emit(call, value, "elu", alpha=settings.number("alpha", 1.0))


def _thresholded_relu(call: LayerCall, value: Value, settings: Settings) -> Value:
    return _emit(call, value, "relu", threshold=settings.number("theta", 1.0))


def _softmax(call: LayerCall, value: Value, settings: Settings) -> Value:
    axis = settings.raw("axis", -1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise UnsupportedLayerError(call.where, "axis", got=axis, expected="one number")
    return call.emit("softmax", value, axis=axis_of(call, axis, len(value.shape)))


_LAYERS = {
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "ThresholdedReLU": _thresholded_relu,
    "Softmax": _softmax,
}


def _prelu(call: LayerCall) -> Value:
    value = call.input
    axes = call.settings.integers("shared_axes", least=-8) if "shared_axes" in call.settings else ()
    shared = {axis_of(call, axis, len(value.shape)) for axis in axes}
    shape = tuple(1 if axis in shared else call.size(value, axis) for axis in range(len(value.shape)))
    return call.emit("prelu", value, weights={"alpha": call.weight("alpha", (shape, None))})


def _kind(name: str) -> LayerKind:
    return LayerKind(lambda call: _LAYERS[name](call, call.input, call.settings))


LAYERS: dict[str, LayerKind] = {
    **{name: _kind(name) for name in _LAYERS},
    "PReLU": LayerKind(_prelu, lambda settings: ("alpha",)),
}
