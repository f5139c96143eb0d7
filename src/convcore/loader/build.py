"""From the records of a model's configuration to the graph: order, names, and every layer's nodes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from convcore.errors import ModelFormatError, printable
from convcore.loader import limits
from convcore.loader.call import Draft, Era, LayerCall, Value
from convcore.loader.graph import Graph, Layer, Node, Shape, Source
from convcore.loader.layers import kind_of
from convcore.loader.lazy import Weight
from convcore.loader.precision import integer_type
from convcore.loader.settings import open_shape
from convcore.loader.topology import MODEL_INPUT, LayerRecord, ModelRecord, Reference

#: Layer and number of its call: what a tensor comes from.
_Call = tuple[str, int]


def build(model: ModelRecord, era: Era, source: Source) -> Graph:
    """Return the graph of `model`, whose layers have been given their stored arrays.

    Raises
    ------
    ModelFormatError, UnsupportedLayerError, UnsafeModelError, WeightsError
        Each names the layer.
    """
    builder = _Builder(era, source.path)
    inputs = builder.inputs(model)
    outputs = builder.model(model, inputs, "")
    return Graph(
        name=model.name,
        nodes=tuple(builder.nodes),
        inputs=tuple(value.node for value in inputs),
        outputs=tuple(value.node for value in outputs),
        layers=tuple(builder.layers),
        source=source,
        input_keys=model.input_keys,
        output_keys=model.output_keys,
    )


class _Builder:
    def __init__(self, era: Era, where: str) -> None:
        self.era = era
        self.where = where
        self.nodes: list[Node] = []
        self.layers: list[Layer] = []
        self._names: set[str] = set()
        self._arrays: dict[int, dict[str, Weight]] = {}
        self._counted: set[int] = set()

    # Ends

    def inputs(self, model: ModelRecord) -> list[Value]:
        """Emit the input nodes of the outermost model."""
        layers = {layer.name: layer for layer in model.layers}
        values = []
        for reference in model.inputs:
            layer = layers.get(reference.layer) or model.layers[0]
            shape = _input_shape(layer)
            if reference.layer == MODEL_INPUT:
                name = f"{layer.name}_input"
            elif layer.class_name == "InputLayer" and layer.name == reference.layer:
                name = layer.name
            else:
                raise ModelFormatError(self.where, "an input is no InputLayer", got=reference.layer)
            attributes: dict[str, Any] = {"shape": shape}
            dtype = integer_type(layer.settings.values) if layer.class_name == "InputLayer" else None
            if dtype is not None:
                attributes["dtype"] = dtype
            node = Node(self._unique(name), "input", (), shape, attributes, {}, name, "InputLayer")
            self._append(node)
            if reference.layer != MODEL_INPUT:
                self.layers.append(Layer(name, "InputLayer", node.name, shape, 0))
            values.append(Value(node.name, shape))
        return values

    # Models

    def model(self, model: ModelRecord, inputs: Sequence[Value], scope: str) -> list[Value]:
        """Build every layer of `model` on `inputs`; return its outputs."""
        if len(inputs) != len(model.inputs):
            raise ModelFormatError(
                self.where,
                f"model {printable(scope + model.name)!r}: number of inputs",
                got=len(inputs),
                expected=len(model.inputs),
            )
        shifts = _shifts(model)
        values: dict[_Call, list[Value]] = {
            (reference.layer, 0): [value] for reference, value in zip(model.inputs, inputs, strict=True)
        }

        def find(reference: Reference) -> Value:
            made = values[reference.layer, reference.call - shifts.get(reference.layer, 0)]
            if reference.tensor >= len(made):
                raise ModelFormatError(
                    self.where, f"layer {printable(reference.layer)!r} has no output {reference.tensor}"
                )
            return made[reference.tensor]

        for layer, number in self._order(model, shifts):
            call_inputs = tuple(find(reference) for reference in layer.calls[number])
            path = f"{scope}{layer.name}" + (f":{number}" if number else "")
            if layer.model is not None:
                values[layer.name, number] = self.model(layer.model, call_inputs, f"{path}/")
            else:
                values[layer.name, number] = [self._layer(layer, call_inputs, path)]
        try:
            return [find(reference) for reference in model.outputs]
        except KeyError as error:
            raise ModelFormatError(self.where, "an output that no layer makes", got=error.args[0]) from None

    def _order(self, model: ModelRecord, shifts: dict[str, int]) -> list[tuple[LayerRecord, int]]:
        """Every call after those that it takes its inputs from; otherwise in the file's order."""
        done = {(reference.layer, 0) for reference in model.inputs}
        waiting: dict[_Call, list[tuple[int, int]]] = {}
        missing: dict[tuple[int, int], int] = {}
        ready: list[tuple[int, int]] = []
        for position, layer in enumerate(model.layers):
            for number, references in enumerate(layer.calls):
                needs = {(r.layer, r.call - shifts.get(r.layer, 0)) for r in references} - done
                missing[position, number] = len(needs)
                for need in needs:
                    waiting.setdefault(need, []).append((position, number))
                if not needs:
                    ready.append((position, number))
        heapq.heapify(ready)
        order = []
        while ready:
            position, number = heapq.heappop(ready)
            layer = model.layers[position]
            order.append((layer, number))
            for other in waiting.get((layer.name, number), ()):
                missing[other] -= 1
                if not missing[other]:
                    heapq.heappush(ready, other)
        if len(order) < len(missing):
            stuck = next(model.layers[p] for (p, n), count in missing.items() if count)
            raise ModelFormatError(
                stuck.where, "its inputs come from no layer before it", expected="a graph without cycles"
            )
        return order

    # Layers

    def _layer(self, layer: LayerRecord, inputs: tuple[Value, ...], path: str) -> Value:
        if layer.class_name == "InputLayer":
            raise ModelFormatError(layer.where, "an InputLayer that is called")
        arrays = self._arrays.setdefault(id(layer), {})
        call = LayerCall(layer, inputs, self.era, path, arrays)
        result = kind_of(layer).convert(call)
        if not call.drafts or call.drafts[-1].name != result.node:
            result = call.emit("identity", result)
        for draft in call.drafts[:-1]:
            self._node(draft, draft.name, path, layer)
        node = self._node(call.drafts[-1], path, path, layer)
        first = id(layer) not in self._counted
        self._counted.add(id(layer))
        count = sum(array.size for array in layer.weights.values()) if first else 0
        self.layers.append(Layer(path, layer.class_name, node.name, node.shape, count))
        return Value(node.name, node.shape)

    def _node(self, draft: Draft, name: str, path: str, layer: LayerRecord) -> Node:
        if name in self._names:
            raise ModelFormatError(layer.where, "two layers would have the same name", got=name)
        node = Node(
            self._unique(name),
            draft.operation,
            draft.inputs,
            draft.shape,
            draft.attributes,
            draft.weights,
            path,
            layer.class_name,
        )
        self._append(node)
        return node

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        if len(self.nodes) > limits.NODES:
            raise ModelFormatError(self.where, "too many nodes", expected=f"at most {limits.NODES}")

    def _unique(self, name: str) -> str:
        if name in self._names:
            raise ModelFormatError(self.where, "two layers would have the same name", got=name)
        self._names.add(name)
        return name


def _shifts(model: ModelRecord) -> dict[str, int]:
    """By how much the file's call numbers of nested models are too high.

    Keras 1 and 2 counted the making of a nested model as its call 0.
    """
    highest: dict[str, int] = {}
    references = [r for layer in model.layers for call in layer.calls for r in call]
    for reference in [*references, *model.outputs]:
        highest[reference.layer] = max(reference.call, highest.get(reference.layer, 0))
    return {
        layer.name: 1
        for layer in model.layers
        if layer.model is not None and layer.calls and highest.get(layer.name, 0) == len(layer.calls)
    }


def _input_shape(layer: LayerRecord) -> Shape:
    """The shape, without the batch, that a layer at a model's start says it takes."""
    values: Any = layer.settings.values
    for name in ("batch_shape", "batch_input_shape"):
        if values.get(name) is not None:
            return open_shape(values[name], layer.where)
    if values.get("input_shape") is not None:
        return open_shape([None, *_list(values["input_shape"])], layer.where)
    if values.get("input_dim") is not None:
        length = [values["input_length"]] if "input_length" in values else []
        return open_shape([None, *length, values["input_dim"]], layer.where)
    if layer.model is not None and layer.model.layers and layer.class_name == "Sequential":
        return _input_shape(layer.model.layers[0])
    if layer.built is not None:
        return open_shape(layer.built, layer.where)
    raise ModelFormatError(
        layer.where,
        "the model's input shape is unknown",
        remedy="Build the model in Keras (give it an Input, or call it once) and save it again.",
    )


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
