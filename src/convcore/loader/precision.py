"""The numbers that a file's layers were saved to compute with: their policies, and the inputs' types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from convcore.errors import UnsupportedLayerError

#: Types less precise than float32, the least precise first.
_HALF = ("bfloat16", "float16")
_INTEGERS = frozenset({"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))})


def _policy(settings: Mapping[str, Any]) -> str:
    """The name of a layer's type or policy: a word, or the serialised policy of Keras 2 or 3."""
    value = settings.get("dtype")
    config = value.get("config") if isinstance(value, Mapping) else None
    name = config.get("name") if isinstance(config, Mapping) else value
    return name if isinstance(name, str) else ""


def refuse_quantized(settings: Mapping[str, Any], where: str) -> None:
    """Raise ``UnsupportedLayerError`` if the layer's weights are quantized."""
    policy = settings.get("dtype")
    config = policy.get("config") if isinstance(policy, Mapping) else None
    mode = config.get("mode") if isinstance(config, Mapping) else None
    if mode is None and "_from_" in (name := _policy(settings)):
        mode = name  # as text: "int8_from_float32"
    mode = mode or settings.get("quantization_mode")
    if mode:
        raise UnsupportedLayerError(
            where,
            "a quantized layer: quantized models are not read",
            got=mode,
            expected="floating-point weights",
            remedy="Save the model before quantize() is called.",
        )


def least_precise(layers: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """The least precise type that any of the layers' `settings` computes in, and its policy's name."""
    policies = {_policy(settings) for settings in layers}
    for half in _HALF:
        for policy in (f"mixed_{half}", half):
            if policy in policies:
                return half, policy
    return "float32", "float32"


def integer_type(settings: Mapping[str, Any]) -> str | None:
    """The type of an input that takes whole numbers, such as "uint8" or "bool"; None for any other."""
    name = settings.get("dtype")
    return name if isinstance(name, str) and name in _INTEGERS else None
