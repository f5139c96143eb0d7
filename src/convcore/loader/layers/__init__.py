"""How each of Keras's layers becomes nodes of the graph: one file per family, one table for all."""

from __future__ import annotations

from convcore.errors import UnsupportedLayerError
from convcore.loader.call import LayerKind
from convcore.loader.layers import activation, convolution, core, merging, normalisation, pooling, reshaping
from convcore.loader.topology import LayerRecord

__all__ = ["LAYERS", "kind_of", "parameters_of"]

#: Class name -> how to convert it. An InputLayer is no conversion: it is an end of the graph.
LAYERS: dict[str, LayerKind] = {
    name: kind
    for family in (core, convolution, pooling, activation, normalisation, merging, reshaping)
    for name, kind in family.LAYERS.items()
}


def kind_of(layer: LayerRecord) -> LayerKind:
    """How to convert `layer`; an error that names it if nobody knows."""
    kind = LAYERS.get(layer.class_name)
    if kind is None:
        raise UnsupportedLayerError(
            layer.where,
            "convcore has no such layer",
            got=layer.class_name,
            remedy="docs/loader.md lists those it has. A layer of your own must be replaced with them.",
        )
    return kind


def parameters_of(layer: LayerRecord) -> tuple[str, ...]:
    """Names of the weights of `layer`, in the order in which Keras stores them."""
    return () if layer.class_name == "InputLayer" else kind_of(layer).parameters(layer.settings)
