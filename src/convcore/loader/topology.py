"""A model's configuration (Keras 1, 2 or 3) as plain records: layers, their calls, the ends.

Nothing is built here, and no class of the file is looked up: names stay names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from convcore.errors import ModelFormatError, UnsafeModelError, UnsupportedLayerError, printable
from convcore.loader import limits
from convcore.loader.keras1 import modernise
from convcore.loader.precision import refuse_quantized
from convcore.loader.settings import Settings

#: Class names of models. "Container" is what Keras 1 and 2 called a nested one.
MODELS = frozenset({"Sequential", "Functional", "Model", "Container", "Network"})
#: Stands for the input of a Sequential model that has no InputLayer.
MODEL_INPUT = ""
#: What would have to run code: from the file, or from another framework's saved form.
_UNSAFE = frozenset(
    {"Lambda", "TFOpLambda", "SlicingOpLambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}
)
#: Operations of keras.ops that are the layers of the same name. Average and Reshape are not.
_OPERATIONS = frozenset({"Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "Softmax"})
_OPS_MODULES = ("keras.ops", "keras.src.ops")
_MODULES = ("keras", "tensorflow.keras", "tensorflow.python.keras", "tf_keras")


class Reference(NamedTuple):
    """One tensor: output `tensor` of call `call` of the layer `layer`, in the same model."""

    layer: str
    call: int
    tensor: int


@dataclass
class LayerRecord:
    """One layer of a model.

    `calls` has one tuple of inputs per use of the layer. `model` is set if the layer is itself a
    model. `weights` is filled in later: parameter name -> array in the file.
    """

    name: str
    class_name: str
    settings: Settings
    calls: list[tuple[Reference, ...]] = field(default_factory=list)
    model: ModelRecord | None = None
    #: Shape with batch axis that the file says the layer was built for, if it says.
    built: Any = None
    trainable: bool = True
    weights: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """File, layer and class, for errors."""
        return self.settings.where


@dataclass
class ModelRecord:
    """A model: its layers in the file's order, and the tensors that are its ends.

    `input_keys` and `output_keys` name the ends one by one where they are a dictionary. Both are
    sorted by key, as Keras flattens them: a nested model's ends are counted in that order.
    """

    name: str
    class_name: str
    layers: list[LayerRecord]
    inputs: list[Reference]
    outputs: list[Reference]
    trainable: bool = True
    input_keys: tuple[str, ...] | None = None
    output_keys: tuple[str, ...] | None = None

    def walk(self) -> Iterator[LayerRecord]:
        """Every layer that is no model, those of nested models in their place."""
        for layer in self.layers:
            if layer.model is None:
                yield layer
            else:
                yield from layer.model.walk()


def read_model(config: Any, where: str) -> ModelRecord:
    """Read the configuration of a whole model.

    Raises
    ------
    ModelFormatError
        It is no model's configuration, or contradicts itself.
    UnsupportedLayerError
        It is of a class that only the author's own Python code defines.
    """
    record = _model(_mapping(config, where, "configuration"), where, "", [0])
    if not record.layers:
        raise ModelFormatError(where, "a model without layers")
    _complete_ordering(record)
    _order_outputs(record, config)
    return record


def _order_outputs(model: ModelRecord, config: Mapping[str, Any]) -> None:
    """Put the keyed outputs of the whole model into the file's order, in which Keras returns them."""
    if model.output_keys is not None:
        by_key = dict(zip(model.output_keys, model.outputs, strict=True))
        model.output_keys = tuple(config["config"]["output_layers"])
        model.outputs = [by_key[key] for key in model.output_keys]


def _complete_ordering(model: ModelRecord) -> None:
    """Give layers that do not say their data format the one that all others say.

    Keras 1.0 forgot to save it for UpSampling2D; it was a global setting, so one holds for all.
    """
    layers = [layer for layer in model.walk() if layer.class_name[-2:] in ("2D", "3D")]
    said = {str(layer.settings.values["data_format"]) for layer in layers if "data_format" in layer.settings}
    if said == {"channels_first"}:
        for layer in layers:
            layer.settings.values = {"data_format": "channels_first", **_given(layer.settings.values)}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _model(config: Mapping[str, Any], where: str, prefix: str, count: list[int]) -> ModelRecord:
    class_name = config.get("class_name")
    if class_name is None or "config" not in config:
        raise ModelFormatError(where, "not a model's configuration", expected="class_name and config")
    if class_name not in MODELS:
        raise UnsupportedLayerError(
            where,
            "the model is of a class of its own",
            got=class_name,
            expected="Sequential or a functional model",
            remedy="Rebuild it with keras.Model(inputs, outputs) and save that.",
        )
    inner = config.get("config")
    items = inner if isinstance(inner, list) else _mapping(inner, where, "model config").get("layers")
    if not isinstance(items, list):
        raise ModelFormatError(where, "the model's layers", got=type(items).__name__, expected="a list")
    settings: Mapping[str, Any] = {} if isinstance(inner, list) else inner  # type: ignore[assignment]
    name = str(settings.get("name") or "model")
    layers = []
    for item in items:
        count[0] += 1
        if count[0] > limits.NODES:
            raise ModelFormatError(where, "too many layers", expected=f"at most {limits.NODES}")
        layers.append(_layer(_mapping(item, where, "layer"), where, prefix, count))
    names = [layer.name for layer in layers]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ModelFormatError(where, "two layers have the same name", got=twice)
    trainable = settings.get("trainable", True) is not False
    if class_name == "Sequential":
        return _sequential(name, layers, settings, trainable)
    inputs, outputs = (_references(settings.get(key), where) for key in ("input_layers", "output_layers"))
    if not inputs or not outputs:
        raise ModelFormatError(where, f"model {printable(name)!r} has no inputs or no outputs")
    keys = (_keys(settings.get(key)) for key in ("input_layers", "output_layers"))
    return ModelRecord(name, str(class_name), layers, inputs, outputs, trainable, *keys)


def _keys(ends: Any) -> tuple[str, ...] | None:
    """The sorted keys of a flat dictionary of tensors; None for a list or for deeper nesting."""
    if isinstance(ends, Mapping) and all(_is_tensor(end) for end in ends.values()):
        return tuple(sorted(ends))
    return None


def _sequential(
    name: str, layers: list[LayerRecord], settings: Mapping[str, Any], trainable: bool
) -> ModelRecord:
    """A chain: every layer is called once, on the one before it, the first on the model's input."""
    first = layers[0].name if layers and layers[0].class_name == "InputLayer" else MODEL_INPUT
    previous = first
    for layer in layers:
        if layer.name != first:
            layer.calls = [(Reference(previous, 0, 0),)]
        previous = layer.name
    if layers and layers[0].built is None:
        layers[0].built = settings.get("build_input_shape")
    ends = [Reference(first, 0, 0)], [Reference(previous, 0, 0)]
    return ModelRecord(name, "Sequential", layers, *ends, trainable)


def _layer(item: Mapping[str, Any], where: str, prefix: str, count: list[int]) -> LayerRecord:
    class_name = item.get("class_name")
    config = item.get("config")
    if not isinstance(class_name, str):
        raise ModelFormatError(where, "a layer without a class name", got=class_name)
    plain = config if isinstance(config, Mapping) else {}
    name = item.get("name") or plain.get("name") or f"{class_name.lower()}_{count[0]}"
    if not isinstance(name, str):
        raise ModelFormatError(where, "a layer's name", got=name, expected="text")
    at = f"{where}: layer {printable(prefix + name)!r} ({printable(class_name)})"
    _refuse_custom(item, class_name, at)
    refuse_quantized(plain, at)
    record = LayerRecord(name, class_name, Settings(plain, at))
    if class_name in MODELS:
        record.model = _model(item, where, f"{prefix}{name}/", count)
    else:
        class_name, settings = modernise(class_name, plain, at)
        record.class_name, record.settings = class_name, Settings(settings, at)
        built = item.get("build_config")
        record.built = built.get("input_shape") if isinstance(built, Mapping) else None
    record.trainable = plain.get("trainable", True) is not False
    nodes = item.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise ModelFormatError(at, "inbound_nodes", got=type(nodes).__name__, expected="a list")
    record.calls = [inputs for node in nodes if (inputs := _call(node, at))]
    return record


def _refuse_custom(item: Mapping[str, Any], class_name: str, at: str) -> None:
    """Refuse what could only run as somebody's Python code: nothing of a file is ever imported."""
    if class_name in _UNSAFE and class_name != "Lambda":
        raise UnsafeModelError(
            at,
            "would have to run code from outside the model",
            remedy="Replace it with Keras layers that do the same, and save the model again.",
        )
    module, registered = item.get("module"), item.get("registered_name")
    keras = module is None or _is_within(module, _MODULES)
    if _is_within(module, _OPS_MODULES) and class_name not in _OPERATIONS:
        raise UnsupportedLayerError(
            at, "an operation of keras.ops", got=class_name, expected=", ".join(sorted(_OPERATIONS))
        )
    if not keras or (registered is not None and registered != class_name):
        raise UnsupportedLayerError(
            at,
            "a custom layer",
            got=registered or f"{module}.{class_name}",
            expected="a layer of Keras",
            remedy="Replace it with Keras layers that do the same, and save the model again.",
        )


def _is_within(module: Any, packages: tuple[str, ...]) -> bool:
    return isinstance(module, str) and any(module == p or module.startswith(f"{p}.") for p in packages)


def _call(node: Any, where: str) -> tuple[Reference, ...]:
    """The inputs of one call: Keras 3's {"args", "kwargs"}, or the nested lists of 1 and 2."""
    if isinstance(node, Mapping):
        inputs: list[Reference] = []
        _tensors(node.get("args"), inputs, where, 0)
        _arguments(node.get("kwargs"), where, overruled=("training",))
        return tuple(inputs)
    if isinstance(node, list) and node and isinstance(node[0], str):
        node = [node]  # Keras 2 writes one input without the outer list
    if not isinstance(node, list):
        raise ModelFormatError(where, "inbound_nodes", got=node, expected="a list")
    inputs = []
    for entry in node:
        inputs.extend(_references(entry, where))
        if isinstance(entry, list) and len(entry) > 3:
            _arguments(entry[3], where)
    return tuple(inputs)


def _tensors(value: Any, found: list[Reference], where: str, depth: int) -> None:
    """Collect the tensors among Keras 3's positional arguments. Anything else there is an operand."""
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        history = _mapping(value.get("config"), where, "tensor").get("keras_history")
        found.extend(_references(history, where))
    elif isinstance(value, list | tuple) and depth < limits.DEPTH:
        for item in value:
            _tensors(item, found, where, depth + 1)
    elif isinstance(value, Mapping) and value.get("class_name") is None and depth < limits.DEPTH:
        for key in sorted(value):
            _tensors(value[key], found, where, depth + 1)
    elif value is not None:
        raise UnsupportedLayerError(
            where,
            "called with a constant",
            got=value,
            expected="tensors only",
            remedy="Use a layer that holds the constant, such as Rescaling.",
        )


def _arguments(value: Any, where: str, overruled: tuple[str, ...] = ()) -> None:
    """Accept the keyword arguments that change nothing at inference; refuse every other one.

    Keras 3 saves training=True with every preprocessing layer, and its predict() overrules that;
    Keras 2 saved it only where somebody had asked for it, and did as asked.
    """
    for key, argument in _mapping(value or {}, where, "call arguments").items():
        if _is_nothing(argument) or key in overruled or (key == "training" and not argument):
            continue
        raise UnsupportedLayerError(where, f"called with {printable(key)}", got=argument, expected="none")


def _is_nothing(value: Any) -> bool:
    """None, or a flat structure of it: a nested model's mask has one for each of its inputs."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else (value,)
    return all(item is None for item in items)


def _references(value: Any, where: str) -> list[Reference]:
    """Tensors named as [layer, call, tensor], in any nesting of lists and dictionaries."""
    found: list[Reference] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if _is_tensor(item):
            if not all(isinstance(i, int) and 0 <= i < limits.NODES for i in item[1:3]):
                raise ModelFormatError(where, "a tensor", got=item, expected="[layer, call, output]")
            found.append(Reference(item[0], item[1], item[2]))
        elif isinstance(item, Mapping):
            stack.extend(item[key] for key in sorted(item, reverse=True))
        elif isinstance(item, list):
            stack.extend(reversed(item))
        else:
            raise ModelFormatError(where, "a tensor", got=item, expected="[layer, call, output]")
    return found


def _is_tensor(item: Any) -> bool:
    return isinstance(item, list) and len(item) >= 3 and isinstance(item[0], str)


def _mapping(value: Any, where: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ModelFormatError(where, what, got=type(value).__name__, expected="a JSON object")
    return value
