"""Arrays (.npy), tables (.csv) and labels (.txt, .json) -> what a model takes, or an error that says why."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from convcore.errors import InputError
from convcore.inputs.files import read_bytes

__all__ = ["Table", "fit_shape", "read_array", "read_labels", "read_table"]

MAX_TEXT_BYTES = 1 << 30
MAX_LABELS_BYTES = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A headerless table of numbers.

    Attributes
    ----------
    values
        float32, shape (rows, columns), without the label column.
    labels
        The last column as text, one a row; None if the table has no label column.
    """

    values: NDArray[np.float32]
    labels: tuple[str, ...] | None


def read_array(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a ``.npy`` file of real numbers as float32.

    Integers, booleans and other floating types are converted. Pickled objects are never loaded.

    Raises
    ------
    InputError
        The file is missing, empty, cut short, no ``.npy`` file, or holds no real numbers, or one that is
        not finite in float32. The message names its index, counted from 0 as NumPy does.

    Examples
    --------
    >>> np.save("x.npy", np.arange(3))
    >>> read_array("x.npy")
    array([0., 1., 2.], dtype=float32)
    """
    where = str(path)
    file = Path(path)
    try:
        with file.open("rb") as stream:
            array = _array(stream, file.stat().st_size, where)
    except OSError as error:
        raise InputError(where, f"cannot be read: {error.strerror or error}") from None
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        at = np.unravel_index(int(np.argmin(finite)), values.shape)
        place = ", ".join(str(i) for i in at)
        raise InputError(
            f"{where}, index [{place}]", got=float(array[at]), expected="a finite number in float32"
        )
    return values


def _array(stream: BinaryIO, size: int, where: str) -> NDArray[Any]:
    """Read an array after its header has been checked: a header can claim more than any memory holds."""
    if not size:
        raise InputError(where, "is empty")
    start = stream.read(6)
    if start != b"\x93NUMPY":
        raise InputError(where, "is no .npy file", got=f"a file that starts with {start!r}")
    stream.seek(0)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise InputError(where, "does not hold real numbers", got=f".npy version {version}")
        shape, _, dtype = readers[version](stream)
    except (ValueError, EOFError) as error:
        raise InputError(where, f"the .npy file is damaged or cut short: {error}") from None
    if dtype.kind not in "biuf":
        raise InputError(where, "does not hold real numbers", got=f"dtype {dtype}")
    if 0 in shape:
        raise InputError(where, "holds no numbers", got=f"shape {shape}")
    missing = math.prod(shape) * dtype.itemsize - (size - stream.tell())
    if missing > 0:
        raise InputError(where, f"the .npy file is cut short: {missing} bytes are missing")
    stream.seek(0)
    return np.asarray(np.load(stream, allow_pickle=False))


def read_table(path: str | os.PathLike[str], columns: int | None = None) -> Table:
    """Read a headerless ``.csv`` file of numbers, whose last column may be a label.

    Parameters
    ----------
    columns
        How many numbers a row must hold. One column more is then the label; where `columns` is None
        the last column is a label if its first entry is no number.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        The file is missing, empty or no text, or a row has too few or too many columns, or an entry that
        is no finite number. The message names the row and the column, both counted from 1.

    Examples
    --------
    >>> _ = Path("rows.csv").write_text("0.5,0.25,R\\n1,0,M\\n")
    >>> table = read_table("rows.csv")
    >>> table.values.tolist(), table.labels
    ([[0.5, 0.25], [1.0, 0.0]], ('R', 'M'))
    """
    where = str(path)
    rows: list[list[float]] = []
    labels: list[str] = []
    width: int | None = None
    labelled = False
    reader = csv.reader(io.StringIO(_read_text(path, MAX_TEXT_BYTES), newline=""))
    try:
        for entries in reader:
            if not any(entry.strip() for entry in entries):
                continue
            if width is None:
                width = len(entries)
                labelled = width == columns + 1 if columns is not None else _number(entries[-1]) is None
                _check_width(width, columns, f"{where}, row {reader.line_num}")
            elif len(entries) != width:
                raise InputError(
                    f"{where}, row {reader.line_num}",
                    "wrong number of columns",
                    got=len(entries),
                    expected=width,
                )
            numbers = entries[:-1] if labelled else entries
            rows.append([_entry(text, where, reader.line_num, i + 1) for i, text in enumerate(numbers)])
            if labelled:
                labels.append(entries[-1].strip())
    except csv.Error as error:
        raise InputError(f"{where}, row {reader.line_num}", f"is no CSV: {error}") from None
    if not rows:
        raise InputError(where, "holds no rows")
    if not rows[0]:
        raise InputError(where, "holds no numbers: its only column is text")
    values = np.array(rows, np.float64)
    with np.errstate(over="ignore"):
        table = values.astype(np.float32)
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise InputError(where, "a number is too large for float32", got=values[row, column])
    return Table(table, tuple(labels) if labelled else None)


def _check_width(width: int, columns: int | None, where: str) -> None:
    if columns is not None and width not in (columns, columns + 1):
        raise InputError(
            where,
            "wrong number of columns",
            got=width,
            expected=f"{columns} numbers, or {columns} and a label",
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _entry(text: str, where: str, row: int, column: int) -> float:
    value = _number(text)
    if value is None or not np.isfinite(value):
        raise InputError(
            f"{where}, row {row}, column {column}",
            got=text,
            expected="a finite number",
            remedy="A line of column names must be removed first." if row == 1 else "",
        )
    return value


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of a model's classes, in the order of its outputs.

    Either text with one name a line, or JSON: a list of names, or an object with the keys "0", "1", ...
    whose values are names or, as in Keras's ``imagenet_class_index.json``, [identifier, name].

    Raises
    ------
    InputError
        The file is missing, empty, damaged, skips an index, or names a class twice (except in ImageNet's
        index, whose identifiers tell its two cranes apart).

    Examples
    --------
    >>> _ = Path("names.txt").write_text("cat\\ndog\\n")
    >>> read_labels("names.txt")
    ('cat', 'dog')
    """
    where = str(path)
    text = _read_text(path, MAX_LABELS_BYTES)
    if Path(path).suffix.lower() == ".json":
        names = _json_labels(text, where)
    else:
        names = [line.strip() for line in text.strip().splitlines()]
        if len(set(names)) != len(names):
            raise InputError(where, "names a class twice", got=next(n for n in names if names.count(n) > 1))
    if not names or not all(names):
        raise InputError(where, "has an empty name" if names else "holds no names")
    return tuple(names)


def _json_labels(text: str, where: str) -> list[str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"is no JSON: {error}") from None
    if isinstance(content, dict):
        keys = [str(i) for i in range(len(content))]
        if set(content) != set(keys):
            raise InputError(
                where, "the keys of the classes", expected='"0", "1", "2" and so on, none left out'
            )
        content = [content[key] for key in keys]
    if not isinstance(content, list):
        raise InputError(where, "no list of class names", got=type(content).__name__)
    return [_json_name(entry, where, index) for index, entry in enumerate(content)]


def _json_name(entry: Any, where: str, index: int) -> str:
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
    if not isinstance(name, str):
        raise InputError(where, f"class {index}", got=entry, expected="a name, or [identifier, name]")
    return name


def fit_shape(array: NDArray[np.float32], shape: Sequence[int | None], where: str) -> NDArray[np.float32]:
    """Return `array` as a batch for an input of `shape` (None is any size; no batch axis).

    One example without a batch axis gets one. Raises :class:`InputError` if neither fits.

    >>> import numpy as np
    >>> fit_shape(np.zeros((8, 8, 3), np.float32), (None, None, 3), "x.npy").shape
    (1, 8, 8, 3)
    """

    def fits(got: tuple[int, ...]) -> bool:
        return len(got) == len(shape) and all(w is None or g == w for g, w in zip(got, shape, strict=True))

    if fits(array.shape[1:]):
        return array
    if fits(array.shape):
        return array[None]
    wanted = ", ".join("any" if n is None else str(n) for n in shape)
    raise InputError(
        where, "does not fit the model's input", got=f"shape {array.shape}", expected=f"(n, {wanted})"
    )


def _read_text(path: str | os.PathLike[str], limit: int) -> str:
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(str(path), "is not UTF-8 text") from None
