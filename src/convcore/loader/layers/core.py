"""Dense, the layers that do nothing at inference, and the one Lambda that is known."""

from __future__ import annotations

import numpy as np

from convcore.errors import UnsafeModelError
from convcore.loader.call import LayerCall, LayerKind, Value
from convcore.loader.layers.activation import activate
from convcore.loader.settings import Settings

#: Mean of ImageNet's red, green and blue, as VGG's authors subtracted it.
_VGG_MEAN = (123.68, 116.779, 103.939)


def _dense_parameters(settings: Settings) -> tuple[str, ...]:
    return ("kernel", "bias") if settings.flag("use_bias", True) else ("kernel",)


def _dense(call: LayerCall) -> Value:
    value, units = call.input, call.settings.integer("units")
    weights = {"kernel": call.weight("kernel", ((call.size(value, -1), units), None))}
    if call.settings.flag("use_bias", True):
        weights["bias"] = call.vector("bias", units)
    return activate(call, call.emit("dense", value, weights=weights), call.settings.raw("activation", None))


def _identity(call: LayerCall) -> Value:
    return call.emit("identity", call.input)


def _lambda(call: LayerCall) -> Value:
    """Refuse, but for fast.ai's VGG: it is known by its function's name, which nobody looks up.

    A named function is stored as its name alone. One that is stored as bytecode is refused whatever
    it may do: to tell, one would have to load it.
    """
    settings, value = call.settings, call.input
    named = settings.raw("function", None) == "vgg_preprocess"
    plain = settings.raw("function_type", None) == "function" and not settings.raw("arguments", None)
    shape = value.shape
    if not (named and plain and len(shape) == 3 and (shape[0] == 3) != (shape[2] == 3)):
        raise UnsafeModelError(
            call.where,
            "holds Python code, which convcore never runs",
            remedy="Replace it with layers such as Rescaling, Reshape or Concatenate, or do its work on"
            " the inputs, and save the model again.",
        )
    axis = 0 if shape[0] == 3 else 2
    mean = np.array(_VGG_MEAN, np.float32).reshape((3, 1, 1) if axis == 0 else (3,))
    weights = {"scale": np.ones_like(mean), "offset": -mean}
    return call.emit("reverse", call.emit("affine", value, weights=weights), axis=axis)


_NOTHING_AT_INFERENCE = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout",
    "GaussianDropout", "GaussianNoise", "ActivityRegularization", "Identity", "RandomFlip",
    "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
)  # fmt: skip

LAYERS: dict[str, LayerKind] = {
    "Dense": LayerKind(_dense, _dense_parameters),
    "Lambda": LayerKind(_lambda),
    **{name: LayerKind(_identity) for name in _NOTHING_AT_INFERENCE},
}
