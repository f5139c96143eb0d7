"""What a layer's converter is given: one call of one layer, its inputs, its weights, and a way to emit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from convcore.errors import ModelFormatError, WeightsError
from convcore.loader.graph import Shape
from convcore.loader.infer import resolve
from convcore.loader.lazy import Weight
from convcore.loader.settings import Settings
from convcore.loader.topology import LayerRecord


class Value(NamedTuple):
    """A tensor while the graph is built: the node that makes it, and its shape without the batch."""

    node: str
    shape: Shape


class Era(NamedTuple):
    """What the versions of Keras differ in, as the file's own version and backend decide it.

    Attributes
    ----------
    version
        Keras version as numbers; empty if the file does not say.
    theano
        Trained with Theano: "same" is symmetric there, and kernels are stored flipped.
    flip
        Turn convolution kernels round on every spatial axis.
    old_kernels
        Kernels are stored in Keras 1's layouts.
    """

    version: tuple[int, ...] = ()
    theano: bool = False
    flip: bool = False
    old_kernels: bool = False

    def before(self, *version: int) -> bool:
        """Whether the file is older than `version`; a file that does not say counts as old."""
        return self.version < version


@dataclass
class Draft:
    """A node that has no final name yet."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    shape: Shape
    attributes: dict[str, Any]
    weights: dict[str, Weight]


@dataclass
class LayerCall:
    """One call of one layer. Converters read it, and call :meth:`emit` for every node they need."""

    record: LayerRecord
    inputs: tuple[Value, ...]
    era: Era
    scope: str
    arrays: dict[str, Weight]
    drafts: list[Draft] = field(default_factory=list)

    @property
    def where(self) -> str:
        """File, layer and class, for errors."""
        return self.record.where

    @property
    def settings(self) -> Settings:
        """The layer's configuration."""
        return self.record.settings

    @property
    def input(self) -> Value:
        """The one input; it is an error to have more."""
        if len(self.inputs) != 1:
            raise ModelFormatError(self.where, "number of inputs", got=len(self.inputs), expected=1)
        return self.inputs[0]

    def size(self, value: Value, axis: int) -> int:
        """The size of an axis that must be known, such as the channels."""
        size = value.shape[axis] if -len(value.shape) <= axis < len(value.shape) else None
        if size is None:
            raise ModelFormatError(
                self.where, f"needs to know axis {axis} of its input", got=value.shape, expected="a size"
            )
        return size

    def weight(
        self,
        name: str,
        *layouts: tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray] | None],
    ) -> Weight:
        """The weight `name`, as float32, read when first asked for; lazy if it is large and stored as wanted.

        Each layout is a shape that the stored array may have, and what makes it the shape that the
        graph wants. The first that fits is taken. Every call of a shared layer gets the same array.
        """
        if name in self.arrays:
            return self.arrays[name]
        stored = self.record.weights.get(name)
        if stored is None:
            raise WeightsError(
                self.where, f"weight {name!r} is missing", remedy="Give the file that has it as weights=."
            )
        for shape, change in layouts:
            if stored.shape == shape:
                array = stored.read()
                if change is not None or isinstance(array, np.ndarray):
                    array = np.asarray(array)
                    array = np.ascontiguousarray(change(array) if change else array, np.float32)
                    array.flags.writeable = False
                self.arrays[name] = array
                return self.arrays[name]
        raise WeightsError(self.where, f"shape of weight {name!r}", got=stored.shape, expected=layouts[0][0])

    def vector(self, name: str, length: int) -> np.ndarray:
        """A weight of shape (length,)."""
        return np.asarray(self.weight(name, ((length,), None)))

    def emit(
        self,
        operation: str,
        *inputs: Value,
        weights: Mapping[str, Weight] | None = None,
        **attributes: Any,
    ) -> Value:
        """Add a node and return its output. The last node of a call carries the layer's output."""
        held = dict(weights or {})
        resolved, shape = resolve(operation, attributes, held, [v.shape for v in inputs], self.where)
        name = f"{self.scope}.{operation}"
        same = sum(draft.operation == operation for draft in self.drafts)
        name = f"{name}_{same}" if same else name
        self.drafts.append(Draft(name, operation, tuple(v.node for v in inputs), shape, resolved, held))
        return Value(name, shape)

    def to_channels_last(self, value: Value) -> Value:
        """Move axis 0 to the end."""
        rank = len(value.shape)
        return self.emit("permute", value, axes=(*range(1, rank), 0)) if rank > 1 else value

    def to_channels_first(self, value: Value) -> Value:
        """Move the last axis to the front."""
        rank = len(value.shape)
        return self.emit("permute", value, axes=(rank - 1, *range(rank - 1))) if rank > 1 else value

    def spatial(self, rank: int, work: Callable[[Value], Value], *, restore: bool = True) -> Value:
        """Do `work` on the input with its channels last, and give back the file's own layout."""
        value = self.input
        if len(value.shape) != rank + 1:
            raise ModelFormatError(
                self.where, "number of axes", got=value.shape, expected=f"{rank + 1}, without the batch"
            )
        if not self.settings.channels_first:
            return work(value)
        result = work(self.to_channels_last(value))
        return self.to_channels_first(result) if restore else result


Convert = Callable[[LayerCall], Value]
Parameters = Callable[[Settings], tuple[str, ...]]


def no_parameters(settings: Settings) -> tuple[str, ...]:
    """Most layers have no weights."""
    return ()


class LayerKind(NamedTuple):
    """How a class of layers becomes nodes, and what its weights are called, in Keras's order."""

    convert: Convert
    parameters: Parameters = no_parameters


def axis_of(call: LayerCall, axis: int, rank: int) -> int:
    """Keras's axis, which counts the batch, as the graph's, which does not."""
    result = axis - 1 if axis > 0 else axis + rank
    if axis == 0 or not 0 <= result < rank:
        raise ModelFormatError(call.where, "axis", got=axis, expected=f"1 to {rank}, or -{rank} to -1")
    return result
