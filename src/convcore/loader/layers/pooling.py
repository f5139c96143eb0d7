"""Pooling over windows and over everything, in 1, 2 and 3 dimensions."""

from __future__ import annotations

from functools import partial
from typing import Any

from convcore.loader.call import LayerCall, LayerKind, Value


def _pool(call: LayerCall, rank: int, operation: str) -> Value:
    settings = call.settings
    pool_size = settings.sizes("pool_size", rank, 2)
    strides = settings.sizes("strides", rank, list(pool_size))
    padding = settings.word("padding", ("valid", "same"), "valid")
    if padding == "same" and call.era.theano:
        padding = "theano_same"
    attributes: dict[str, Any] = {"pool_size": pool_size, "strides": strides, "padding": padding}
    if operation == "average_pool":
        # From 2.0.0 to 2.1.4 Keras let Theano count the zeros of the padding.
        era = call.era
        attributes["include_padding"] = era.theano and not era.before(2, 0) and era.before(2, 1, 5)
    return call.spatial(rank, lambda value: call.emit(operation, value, **attributes))


def _global(call: LayerCall, rank: int, operation: str) -> Value:
    keepdims = call.settings.flag("keepdims", False)
    work = partial(call.emit, operation, keepdims=keepdims)
    return call.spatial(rank, work, restore=keepdims)


LAYERS: dict[str, LayerKind] = {
    f"{prefix}{name}{rank}D": LayerKind(partial(convert, rank=rank, operation=operation))
    for rank in (1, 2, 3)
    for prefix, name, convert, operation in (
        ("", "MaxPooling", _pool, "max_pool"),
        ("", "MaxPool", _pool, "max_pool"),
        ("", "AveragePooling", _pool, "average_pool"),
        ("", "AvgPool", _pool, "average_pool"),
        ("Global", "MaxPooling", _global, "global_max_pool"),
        ("Global", "MaxPool", _global, "global_max_pool"),
        ("Global", "AveragePooling", _global, "global_average_pool"),
        ("Global", "AvgPool", _global, "global_average_pool"),
    )
}
