"""A layer's configuration, read with checks: every wrong value is an error that names the layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from convcore.errors import ModelFormatError, UnsupportedLayerError
from convcore.loader import limits

_MISSING: Any = object()


class Settings:
    """The ``config`` of one layer.

    Parameters
    ----------
    values
        The mapping as the file has it, with Keras 2's names.
    where
        File and layer, for errors.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def raw(self, name: str, default: Any = _MISSING) -> Any:
        """The value as it is; without `default`, it must be there."""
        value = self.values.get(name)
        if value is None:
            if default is _MISSING:
                raise ModelFormatError(self.where, f"has no setting {name!r}")
            return default
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number; a list of one, as NumPy arrays of one were saved, counts as the number."""
        value = plain(self.raw(name, _MISSING if default is None else default))
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise ModelFormatError(self.where, f"setting {name!r}", got=value, expected="a finite number")
        return float(value)

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least `least`, below 2**31."""
        return self._integer(name, self.raw(name, _MISSING if default is None else default), least)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise ModelFormatError(self.where, f"setting {name!r}", got=value, expected="true or false")
        return bool(value)

    def word(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of `choices`; another word is an option that convcore does not have."""
        value = self.raw(name, _MISSING if default is None else default)
        if value not in choices:
            raise UnsupportedLayerError(
                self.where, f"setting {name!r}", got=value, expected=" or ".join(map(repr, choices))
            )
        return str(value)

    def sizes(self, name: str, rank: int, default: Any = _MISSING, *, least: int = 1) -> tuple[int, ...]:
        """`rank` whole numbers; one number stands for all."""
        value = self.raw(name, default)
        values = list(value) if isinstance(value, list | tuple) else [value] * rank
        if len(values) != rank:
            raise ModelFormatError(self.where, f"setting {name!r}", got=value, expected=f"{rank} numbers")
        return tuple(self._integer(name, v, least) for v in values)

    def integers(self, name: str, *, least: int) -> tuple[int, ...]:
        """Any number of whole numbers."""
        value = self.raw(name)
        if not isinstance(value, list | tuple) or len(value) > limits.DEPTH:
            raise ModelFormatError(self.where, f"setting {name!r}", got=value, expected="a list of numbers")
        return tuple(self._integer(name, v, least) for v in value)

    def pairs(self, name: str, rank: int, default: Any) -> tuple[tuple[int, int], ...]:
        """`rank` pairs (low, high): from pairs, from one number per axis, or from one number."""
        value = self.raw(name, default)
        values = list(value) if isinstance(value, list | tuple) else [value] * rank
        if rank == 1 and len(values) == 2:
            values = [values]
        if len(values) != rank:
            raise ModelFormatError(self.where, f"setting {name!r}", got=value, expected=f"{rank} pairs")
        result = []
        for item in values:
            pair = list(item) if isinstance(item, list | tuple) else [item, item]
            if len(pair) != 2:
                raise ModelFormatError(self.where, f"setting {name!r}", got=value, expected="pairs")
            result.append((self._integer(name, pair[0], 0), self._integer(name, pair[1], 0)))
        return tuple(result)

    @property
    def channels_first(self) -> bool:
        """Whether the layer's arrays are (channels, spatial...). The default is channels last."""
        return self.word("data_format", ("channels_last", "channels_first"), "channels_last").endswith(
            "first"
        )

    def _integer(self, name: str, value: Any, least: int) -> int:
        value = plain(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < limits.DIMENSION:
            raise ModelFormatError(
                self.where, f"setting {name!r}", got=value, expected=f"a whole number from {least} up"
            )
        return value


def plain(value: Any) -> Any:
    """Undo the two wrappings that Keras gives NumPy values in JSON."""
    if isinstance(value, Mapping):
        if value.get("type") == "ndarray":
            return value.get("value")
        if value.get("class_name") == "__numpy__" and isinstance(value.get("config"), Mapping):
            return value["config"].get("value")
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def open_shape(value: Any, where: str) -> tuple[int | None, ...]:
    """A shape with its batch axis cut off: a list of whole numbers and nulls."""
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 8:
        raise ModelFormatError(where, "input shape", got=value, expected="a list of up to 8 sizes")
    sizes = tuple(value)
    if any(d is not None and (isinstance(d, bool) or not isinstance(d, int) or d < 1) for d in sizes[1:]):
        raise ModelFormatError(where, "input shape", got=value, expected="whole numbers or null")
    limits.check_shape(sizes[1:], where)
    return sizes[1:]
