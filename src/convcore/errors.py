"""Every error that convcore raises on purpose: where it happened, what it got, what it expected.

All of them derive from :class:`ConvcoreError` and from the built-in exception that a Python
programmer would expect (``ValueError`` for a bad shape, ``TypeError`` for a bad type), so both
``except ConvcoreError`` and ``except ValueError`` work.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ConvcoreError",
    "ConvcoreWarning",
    "DTypeError",
    "DeviceError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "ModelFormatError",
    "OutOfMemoryError",
    "SeriesError",
    "UnsafeModelError",
    "UnsupportedLayerError",
    "WeightsError",
]


class ConvcoreWarning(UserWarning):
    """Something that convcore can go on with, but that the caller should know."""


def printable(value: object, limit: int = 200) -> str:
    """Return `value` as text on one line: control characters escaped, long text cut."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class ConvcoreError(Exception):
    """Base class. The message reads ``where: problem; got G, expected E. Remedy``.

    Parameters
    ----------
    where
        The function, file, layer or tag that found the problem.
    problem
        What is wrong, in a few words; may be empty if `got` and `expected` say it.
    got, expected
        What was found and what would have been right.
    remedy
        What the caller can do, as a sentence.
    """

    code = "error"

    def __init__(
        self,
        where: str,
        problem: str = "",
        *,
        got: object = None,
        expected: object = None,
        remedy: str = "",
    ) -> None:
        self.where = printable(where, 400)
        self.problem = printable(problem, 1000)
        self.got = got
        self.expected = expected
        self.remedy = remedy
        parts = [self.problem] if problem else []
        if got is not None:
            parts.append(f"got {printable(got, 400)}")
        if expected is not None:
            parts.append(f"expected {printable(expected, 400)}")
        message = f"{self.where}: " + ", ".join(parts)
        super().__init__(f"{message}. {remedy}" if remedy else message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.where, self.problem, self.got, self.expected, self.remedy)


def _rebuild(
    kind: type[ConvcoreError], where: str, problem: str, got: object, expected: object, remedy: str
) -> ConvcoreError:
    return kind(where, problem, got=got, expected=expected, remedy=remedy)


class ArgumentError(ConvcoreError, ValueError):
    """An argument has a value or a shape that the operation is not defined for."""

    code = "argument"


class DTypeError(ConvcoreError, TypeError):
    """An argument has the wrong type, or an array the wrong dtype."""

    code = "dtype"


class DeviceError(ConvcoreError, RuntimeError):
    """The device or instruction set asked for is not there, or failed."""

    code = "device"


class OutOfMemoryError(DeviceError, MemoryError):
    """The GPU has less memory free than was asked for."""

    code = "out-of-memory"


class MissingExtraError(ConvcoreError, ImportError):
    """An optional dependency is not installed."""

    code = "missing-extra"


class InputError(ConvcoreError, ValueError):
    """An input file (picture, table, array) is missing, damaged or of the wrong kind."""

    code = "input"


class SeriesError(InputError):
    """A DICOM series cannot be made into a volume (mixed, incomplete, tilted, damaged)."""

    code = "series"


class ModelError(ConvcoreError, ValueError):
    """A model file cannot be used. Base of the four below."""

    code = "model"


class ModelFormatError(ModelError):
    """The file is damaged, or is no Keras file that convcore knows."""

    code = "model-format"


class UnsupportedLayerError(ModelError):
    """The model holds a layer or an option that convcore does not implement."""

    code = "unsupported-layer"


class UnsafeModelError(ModelError):
    """The model would have to run code out of the file (a ``Lambda``); convcore never does."""

    code = "unsafe-model"


class WeightsError(ModelError):
    """Weights are missing, surplus, or of the wrong shape or type."""

    code = "weights"
