"""Keras 1's class names and settings, translated to Keras 2's.

What is stored differently in Keras 1 weights (kernels in Theano's order, 1-D kernels with an axis
too many) is handled where the weights are, in :mod:`convcore.loader.kernels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convcore.errors import UnsupportedLayerError

_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "AtrousConv2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
}
#: (Keras 1's name, Keras 2's). The first that is there wins.
_NAMES = (
    ("nb_filter", "filters"),
    ("border_mode", "padding"),
    ("subsample", "strides"),
    ("subsample_length", "strides"),
    ("stride", "strides"),
    ("dim_ordering", "data_format"),
    ("bias", "use_bias"),
    ("output_dim", "units"),
    ("p", "rate"),
    ("atrous_rate", "dilation_rate"),
    ("filter_length", "kernel_size"),
    ("pool_length", "pool_size"),
    ("length", "size"),
    ("concat_axis", "axis"),
    ("sigma", "stddev"),
)
_SIDES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_ORDERINGS = {"th": "channels_first", "tf": "channels_last", "default": "channels_last"}
_MERGES = {
    "concat": "Concatenate",
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
}


def modernise(class_name: str, config: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Class name and settings in Keras 2's words; those already so come back unchanged."""
    settings = dict(config)
    for old, new in _NAMES:
        if old in settings and new not in settings and not isinstance(settings[old], Mapping):
            settings[new] = settings.pop(old)
    for sides in _SIDES:
        if all(side in settings for side in sides) and "kernel_size" not in settings:
            settings["kernel_size"] = [settings.pop(side) for side in sides]
    ordering = settings.get("data_format")
    if isinstance(ordering, str):
        settings["data_format"] = _ORDERINGS.get(ordering, ordering)
    if class_name == "Merge":
        class_name = _merge(settings, where)
    if class_name == "BatchNormalization" and settings.get("mode", 0) not in (0, 2):
        # Modes 0 and 2 differ only while training.
        raise UnsupportedLayerError(
            where,
            "mode",
            got=settings["mode"],
            expected="0 or 2",
            remedy="Mode 1 normalises every sample by its own statistics.",
        )
    return _CLASSES.get(class_name, class_name), settings


def _merge(settings: Mapping[str, Any], where: str) -> str:
    mode = settings.get("mode")
    if not isinstance(mode, str) or mode not in _MERGES or settings.get("layers"):
        raise UnsupportedLayerError(
            where,
            "merge of whole models" if settings.get("layers") else "mode",
            got=mode,
            expected=", ".join(_MERGES),
        )
    return _MERGES[mode]
