"""Model cards: what a network for CT expects as its input, and what its outputs mean, in TOML.

A Keras file says neither whether its input is HU or scaled, nor at what spacing, nor what a number that
comes out of it stands for. The card does. `docs/medical.md` describes every key.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from convcore import data
from convcore.errors import InputError
from convcore.inputs.files import read_bytes
from convcore.medical.volume import AIR

__all__ = ["Card", "Output", "bundled_card", "load_card", "parse_card"]

MAX_CARD_BYTES = 1 << 20
MAX_SIDE = 4096


@dataclass(frozen=True, slots=True)
class Output:
    """One number (or one mask) that a model gives.

    Attributes
    ----------
    name
        What the result calls it.
    index
        Which of the model's outputs it is, from 0.
    element
        Which element (channel, class) of that output.
    meaning
        One sentence for people.
    threshold
        At or above it the answer is yes; None if the number is no yes-or-no answer.
    """

    name: str
    index: int
    element: int
    meaning: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """A checked model card.

    Attributes
    ----------
    name, description, model, source
        What the model is, for people; the model's file name; where it comes from.
    kind
        ``"mask2d"``: one slice in, one mask out. ``"score3d"``: one cube in, numbers out.
    size
        Voxels of the model's input: (rows, columns) or (z, y, x).
    spacing_mm
        For score3d, spacing along z, y, x; None for mask2d, whose slices are resized to `size`.
    clip_hu
        HU are clipped to this range.
    scale
        ``"unit"``: the clipped range becomes 0..1. ``"none"``: HU go in as they are.
    axes
        Order of the spatial axes in the input, "yx" or "xy", or for a cube "zyx", "xyz" and so on.
    channel
        Where the channel axis stands, ``"last"`` or ``"first"``.
    padding_hu
        What pixels outside the scan field, and voxels outside the volume, become.
    outputs
        What comes out.
    """

    name: str
    description: str
    model: str
    source: str
    kind: Literal["mask2d", "score3d"]
    size: tuple[int, ...]
    spacing_mm: tuple[float, float, float] | None
    clip_hu: tuple[float, float]
    scale: Literal["unit", "none"]
    axes: str
    channel: Literal["first", "last"]
    padding_hu: float
    outputs: tuple[Output, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of the model, without the batch axis."""
        order = "zyx"[-len(self.size) :]
        spatial = tuple(self.size[order.index(a)] for a in self.axes)
        return (*spatial, 1) if self.channel == "last" else (1, *spatial)


def load_card(path: str | os.PathLike[str]) -> Card:
    """Read and check a model card.

    Raises
    ------
    InputError
        The file is missing, no TOML, or not a card: the message names the key.

    Examples
    --------
    >>> from convcore.medical import bundled_card
    >>> bundled_card("lung_segmentation").input_shape
    (128, 128, 1)
    """
    try:
        text = read_bytes(path, MAX_CARD_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(str(path), "is not UTF-8 text, so it is no model card") from None
    return parse_card(text, str(path))


def bundled_card(name: str) -> Card:
    """Return the card of a model that ships with convcore: ``lung_segmentation`` or ``nodule_classifier``.

    Examples
    --------
    >>> bundled_card("nodule_classifier").kind
    'score3d'
    """
    return load_card(data.path(f"{name}.toml"))


def parse_card(text: str, where: str) -> Card:
    """Check the text of a model card; `where` names it in errors (see :func:`load_card`).

    Examples
    --------
    >>> text = (data.path("lung_segmentation.toml")).read_text()
    >>> parse_card(text, "lung_segmentation.toml") == bundled_card("lung_segmentation")
    True
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(where, f"is no TOML: {error}") from None
    top = _Table(table, where, "")
    kind = top.choice("kind", ("mask2d", "score3d"))
    spatial = "yx" if kind == "mask2d" else "zyx"
    entry = top.table("input")
    size = entry.numbers("size", len(spatial), whole=True, low=1, high=MAX_SIDE)
    spacing = entry.numbers("spacing_mm", 3, low=1e-3, high=1e3) if kind == "score3d" else None
    clip = entry.numbers("clip_hu", 2, low=-1e5, high=1e5)
    if clip[0] >= clip[1]:
        raise InputError(where, "input.clip_hu", got=list(clip), expected="[low, high] with low < high")
    axes = entry.text("axes", spatial)
    if sorted(axes) != sorted(spatial):
        raise InputError(
            where, "input.axes", got=axes, expected=f"the letters {spatial} in the input's order"
        )
    card = Card(
        name=top.text("name"),
        description=top.text("description", ""),
        model=top.text("model", ""),
        source=top.text("source", ""),
        kind="mask2d" if kind == "mask2d" else "score3d",
        size=tuple(int(n) for n in size),
        spacing_mm=(spacing[0], spacing[1], spacing[2]) if spacing else None,
        clip_hu=(clip[0], clip[1]),
        scale="unit" if entry.choice("scale", ("unit", "none")) == "unit" else "none",
        axes=axes,
        channel="last" if entry.choice("channel", ("last", "first")) == "last" else "first",
        padding_hu=entry.number("padding_hu", AIR),
        outputs=_outputs(top, kind),
    )
    entry.finish()
    top.finish()
    return card


def _outputs(top: _Table, kind: str) -> tuple[Output, ...]:
    outputs = []
    for entry in top.tables("outputs"):
        threshold = entry.number("threshold", None)
        if kind == "mask2d" and threshold is None:
            raise InputError(top.where, f"{entry.prefix}threshold is missing: a mask needs one")
        index, element = (
            int(entry.numbers(key, 1, whole=True, low=0, high=10_000, default=0)[0])
            for key in ("index", "element")
        )
        outputs.append(Output(entry.text("name"), index, element, entry.text("meaning", ""), threshold))
        entry.finish()
    names = [o.name for o in outputs]
    if len(set(names)) != len(names):
        raise InputError(top.where, "outputs: two have the same name", got=names)
    if kind == "mask2d" and len(outputs) != 1:
        raise InputError(
            top.where, "outputs", got=f"{len(outputs)} outputs", expected="one, for a mask2d card"
        )
    return tuple(outputs)


class _Table:
    """A TOML table whose keys are taken one by one; errors name the key, and a key left over is an error."""

    def __init__(self, values: Mapping[str, Any], where: str, prefix: str) -> None:
        self.where = where
        self.prefix = prefix
        self._left = dict(values)

    def finish(self) -> None:
        if self._left:
            raise InputError(self.where, f"unknown key {self.prefix}{sorted(self._left)[0]}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in allowed:
            raise self._wrong(key, value, " or ".join(allowed))
        return value

    def number(self, key: str, default: float | None) -> Any:
        """Return a finite number, or `default` (which may be None) if the key is not there."""
        if key not in self._left:
            return default
        return self.numbers(key, 1, low=-1e9, high=1e9)[0]

    def numbers(
        self,
        key: str,
        count: int,
        *,
        whole: bool = False,
        low: float,
        high: float,
        default: float | None = None,
    ) -> tuple[float, ...]:
        value = self._take(key, default)
        values = value if count > 1 else [value]
        good = isinstance(values, list) and len(values) == count
        for v in values if good else ():
            number = isinstance(v, int | float) and not isinstance(v, bool)
            good = good and number and isfinite(v) and low <= v <= high and (not whole or isinstance(v, int))
        if not good:
            kind = "whole number" if whole else "number"
            plural = "s" if count > 1 else ""
            raise self._wrong(key, value, f"{count} {kind}{plural} from {low:g} to {high:g}")
        return tuple(values)

    def table(self, key: str) -> _Table:
        value = self._take(key, None)
        if not isinstance(value, dict):
            raise self._wrong(key, value, f"a table [{key}]")
        return _Table(value, self.where, f"{self.prefix}{key}.")

    def tables(self, key: str) -> list[_Table]:
        value = self._take(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
            raise self._wrong(key, value, f"at least one [[{key}]]")
        return [_Table(v, self.where, f"{key}[{i}].") for i, v in enumerate(value)]

    def _take(self, key: str, default: Any) -> Any:
        if key not in self._left and default is None:
            raise InputError(self.where, f"the key {self.prefix}{key} is missing from the model card")
        return self._left.pop(key, default)

    def _wrong(self, key: str, got: object, expected: str) -> InputError:
        return InputError(self.where, f"{self.prefix}{key}", got=got, expected=expected)
