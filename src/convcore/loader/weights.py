"""Which array of a weights file belongs to which layer.

Two layouts. The older one (Keras 1, 2, and ``.h5`` files of 3) lists its layers and, per layer, its
arrays, in order. Keras 3's own has one path per variable, made from class names and counters.
Nothing is read here: layers get :class:`~convcore.loader.hdf5.StoredArray`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from convcore.errors import ModelFormatError, WeightsError, printable
from convcore.loader import limits
from convcore.loader.hdf5 import Hdf5File, StoredArray
from convcore.loader.layers import parameters_of
from convcore.loader.topology import LayerRecord, ModelRecord

#: Weights that training does not change: Keras stores a nested model's after all the others.
_FIXED = frozenset({"mean", "variance", "count"})
#: What files call a parameter where it is not its own name.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "mean": ("moving_mean", "running_mean"),
    "variance": ("moving_variance", "running_std"),
    "kernel": ("W",),
    "bias": ("b",),
}
_REMEDY = "The weights and the configuration must come from the same model."


def attach_listed(file: Hdf5File, root: str, model: ModelRecord) -> None:
    """Give each layer its arrays from the group `root`, laid out as a list of layers.

    Layers are paired by name if all names agree, else by order, as Keras does.

    Raises
    ------
    WeightsError
        Layers or arrays are missing or surplus.
    """
    names = file.names(root, "layer_names")
    if names is None:
        raise WeightsError(file.where, "holds no list of layers", expected="an attribute layer_names")
    limits.check_size(len(names), limits.NODES, file.where, "number of layers")
    folders = [layer for layer in model.layers if {".", ".."} & set(layer.name.split("/")) and _slots(layer)]
    if folders:
        raise WeightsError(
            folders[0].where,
            f"weights of a layer named {folders[0].name!r}, a path that leads out of its group",
            remedy="Save the model as .keras, or give the layer another name.",
        )
    stored = {name: arrays for name in names if (arrays := _listed_arrays(file, root, name))}
    expected = [layer for layer in model.layers if _slots(layer)]
    wanted = {layer.name for layer in expected}
    if set(stored) != wanted and len(stored) != len(expected):
        missing, surplus = sorted(wanted - set(stored)), sorted(set(stored) - wanted)
        problem = f"{len(stored)} layers have weights, the configuration has {len(expected)}"
        detail = f"missing: {_some(missing)}; surplus: {_some(surplus)}"
        raise WeightsError(file.where, f"{problem} ({detail})", remedy=_REMEDY)
    order = [layer.name for layer in expected] if set(stored) == wanted else list(stored)
    for layer, name in zip(expected, order, strict=True):
        _assign(layer, stored[name])
    top = _listed_arrays(file, root, "top_level_model_weights")
    if top:
        raise WeightsError(file.where, f"surplus weight {top[0][0]!r} of the model itself")


def _listed_arrays(file: Hdf5File, root: str, name: str) -> list[tuple[str, StoredArray]]:
    group = f"{root}/{name}".strip("/")
    result = []
    for weight in file.names(group, "weight_names") or ():
        array = file.array(f"{group}/{weight}")
        if array is None:
            raise WeightsError(file.where, f"layer {printable(name)!r}: no array {printable(weight)!r}")
        result.append((weight, array))
    return result


def _slots(layer: LayerRecord) -> list[tuple[LayerRecord, str]]:
    """Every weight that `layer` needs, in the order in which Keras lists them."""
    if layer.model is None:
        return [(layer, name) for name in parameters_of(layer)]
    trained: list[tuple[LayerRecord, str]] = []
    fixed: list[tuple[LayerRecord, str]] = []

    def collect(model: ModelRecord, trainable: bool) -> None:
        for inner in model.layers:
            free = trainable and inner.trainable
            if inner.model is not None:
                collect(inner.model, free and inner.model.trainable)
                continue
            for name in parameters_of(inner):
                (trained if free and name not in _FIXED else fixed).append((inner, name))

    collect(layer.model, layer.trainable and layer.model.trainable)
    return trained + fixed


def _assign(layer: LayerRecord, arrays: Sequence[tuple[str, StoredArray]]) -> None:
    slots = _slots(layer)
    if len(slots) != len(arrays):
        raise WeightsError(
            layer.where,
            "number of weights",
            got=f"{len(arrays)} ({_some(name for name, _ in arrays)})",
            expected=f"{len(slots)} ({_some(name for _, name in slots)})",
            remedy=_REMEDY,
        )
    # In a nested model the order depends on what was frozen when; names, where they tell, are surer.
    by_name = _named(slots, arrays) if layer.model is not None else None
    for index, (owner, name) in enumerate(slots):
        owner.weights[name] = by_name[index] if by_name else arrays[index][1]


def _named(
    slots: Sequence[tuple[LayerRecord, str]], arrays: Sequence[tuple[str, StoredArray]]
) -> list[StoredArray] | None:
    """The array of each slot by its name, or None if not every slot has exactly one of its own."""
    known = {re.sub(r":\d+$", "", name): array for name, array in arrays}
    result = []
    for owner, name in slots:
        endings = [
            f"{owner.name}{mark}{alias}" for alias in (name, *_ALIASES.get(name, ())) for mark in ("/", "_")
        ]
        found = [known[k] for k in known if any(k == e or k.endswith("/" + e) for e in endings)]
        if len(found) != 1:
            return None
        result.append(found[0])
    return result if len({id(array) for array in result}) == len(arrays) else None


def variables(file: Hdf5File) -> dict[str, list[StoredArray]]:
    """Every variable of a Keras 3 weights file: path of its owner -> its arrays, in order."""
    found: dict[str, list[StoredArray]] = {}
    stack = [""]
    seen = 0
    while stack:
        path = stack.pop()
        for name in file.children(path):
            seen += 1
            if seen > 8 * limits.NODES:
                raise ModelFormatError(file.where, "too many groups")
            child = f"{path}/{name}".strip("/")
            if name == "vars":
                arrays = _numbered(file, child)
                if arrays:
                    found[path] = arrays
            elif file.is_group(child):
                stack.append(child)
    return found


def _numbered(file: Hdf5File, path: str) -> list[StoredArray]:
    names = file.children(path)
    if sorted(names) != sorted(str(i) for i in range(len(names))):
        raise ModelFormatError(file.where, f"{path}: names of variables", got=names, expected="0, 1, ...")
    arrays = [file.array(f"{path}/{i}") for i in range(len(names))]
    if None in arrays:
        raise ModelFormatError(file.where, f"{path}: a variable is no array")
    return [array for array in arrays if array is not None]


def attach_pathed(found: Mapping[str, list[StoredArray]], model: ModelRecord, where: str) -> None:
    """Give each layer its arrays from the paths of Keras 3's format.

    Raises
    ------
    WeightsError
        Weights are missing, surplus, or not as many as the layer has.
    """
    # Keras 2.13 called the list of layers by another name.
    left = {path.replace("_layer_checkpoint_dependencies", "layers"): a for path, a in found.items()}
    _attach_model(left, model, "")
    for path in left:
        # Dropout's random state, the optimizer and the metrics are no weights of the network.
        if path.startswith("layers/") and "seed_generator" not in path:
            raise WeightsError(where, f"surplus weights at {printable(path)!r}", remedy=_REMEDY)


def _attach_model(left: dict[str, list[StoredArray]], model: ModelRecord, base: str) -> None:
    layers = model.layers
    if model.class_name == "Sequential" and layers and layers[0].class_name == "InputLayer":
        layers = layers[1:]  # Sequential.layers never lists it
    root = f"{base}/layers".strip("/")
    counted = _counted(layers)
    # Some versions used the layers' own names.
    own = [layer.name for layer in layers]
    keys = (
        own if _complete(left, root, layers, own) and not _complete(left, root, layers, counted) else counted
    )
    for layer, key in zip(layers, keys, strict=True):
        path = f"{root}/{key}"
        if layer.model is not None:
            _attach_model(left, layer.model, path)
            continue
        names = parameters_of(layer)
        arrays = left.pop(path, [])
        if len(arrays) != len(names):
            raise WeightsError(
                layer.where,
                f"number of weights at {printable(path)!r}",
                got=len(arrays),
                expected=f"{len(names)} ({_some(names)})",
                remedy=_REMEDY,
            )
        layer.weights.update(zip(names, arrays, strict=True))


def _counted(layers: Iterable[LayerRecord]) -> list[str]:
    """Keras 3's keys: the class name in snake case, then with _1, _2, ... for the next of its kind."""
    used: dict[str, int] = {}
    keys = []
    for layer in layers:
        name = _snake_case(layer.class_name)
        used[name] = used.get(name, -1) + 1
        keys.append(f"{name}_{used[name]}" if used[name] else name)
    return keys


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _complete(
    left: Mapping[str, object], root: str, layers: Sequence[LayerRecord], keys: Sequence[str]
) -> bool:
    for layer, key in zip(layers, keys, strict=True):
        path = f"{root}/{key}"
        if layer.model is not None:
            if _slots(layer) and not any(p.startswith(path + "/") for p in left):
                return False
        elif parameters_of(layer) and path not in left:
            return False
    return True


def _some(names: Iterable[str], most: int = 8) -> str:
    items = list(names)
    text = ", ".join(map(str, items[:most])) + (", ..." if len(items) > most else "")
    return text or "none"
