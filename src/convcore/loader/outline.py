"""A model file's layers by name and class, and which of them convcore cannot run, all at once.

:func:`~convcore.loader.load_graph` stops at the first layer that it does not know. Somebody who has to
rebuild a model wants the whole list, so here every layer is judged by itself, without its weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convcore.errors import ModelError, ModelFormatError, printable
from convcore.loader import limits
from convcore.loader.keras_file import _open, _Opened
from convcore.loader.layers import kind_of
from convcore.loader.topology import MODELS, read_model

__all__ = ["Outline", "OutlineLayer", "read_outline"]


@dataclass(frozen=True)
class OutlineLayer:
    """One layer: its name (a nested model's layers are ``outer/inner``), class, and why it cannot run.

    `problem` is empty if convcore has this layer; its options may still be refused when it is built.
    """

    name: str
    layer_class: str
    problem: str


@dataclass(frozen=True)
class Outline:
    """What a model file says that it holds."""

    path: str
    format: str
    keras_version: str
    name: str
    layers: tuple[OutlineLayer, ...]


def read_outline(path: str | os.PathLike[str]) -> Outline:
    """List the layers of a model file, whether or not convcore can run them.

    Raises
    ------
    ModelFormatError
        The file is damaged, is no Keras file, or holds weights without a configuration.

    Examples
    --------
    >>> from convcore import data
    >>> [layer.name for layer in read_outline(data.path("sonar.keras")).layers if layer.problem]
    []
    """
    with _Opened() as stack:
        found = _open(Path(path), stack)
    config = found.config
    if not isinstance(config, Mapping):
        raise ModelFormatError(
            found.where, "holds no model configuration", remedy="Look at the model's .json file instead."
        )
    inner = config.get("config")
    name = inner.get("name") if isinstance(inner, Mapping) else None
    layers = tuple(_layers(config, "", found.where, 0))
    return Outline(found.where, found.format, found.version or "", printable(str(name or "model")), layers)


def _layers(model: Mapping[str, Any], prefix: str, where: str, depth: int) -> Iterator[OutlineLayer]:
    inner = model.get("config")
    items = inner.get("layers") if isinstance(inner, Mapping) else inner
    if not isinstance(items, list) or len(items) > limits.NODES or depth > limits.DEPTH:
        raise ModelFormatError(where, "the model's layers", got=type(items).__name__, expected="a list")
    for item in items:
        if not isinstance(item, Mapping):
            raise ModelFormatError(where, "a layer", got=type(item).__name__, expected="a JSON object")
        config = item.get("config")
        name = item.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
        label, class_name = prefix + printable(str(name)), printable(str(item.get("class_name")))
        if class_name in MODELS:
            yield from _layers(item, f"{label}/", where, depth + 1)
        else:
            yield OutlineLayer(label, class_name, _problem(item))


def _problem(item: Mapping[str, Any]) -> str:
    """Say what the loader has against a layer, asked about a model that consists of it alone."""
    alone = {key: value for key, value in item.items() if key != "inbound_nodes"}
    try:
        for record in read_model({"class_name": "Sequential", "config": {"layers": [alone]}}, "").walk():
            if record.class_name != "InputLayer":
                kind_of(record)
    except ModelError as error:
        got = f": {printable(str(error.got))}" if error.got is not None else ""
        return f"{error.problem}{got}"
    return ""
