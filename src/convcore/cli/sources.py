"""What ``convcore predict`` is given -> batches of a model's input, read as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convcore.cli import UsageError
from convcore.errors import InputError
from convcore.inputs import (
    PICTURE_SUFFIXES,
    Interpolation,
    find_pictures,
    fit_shape,
    preprocess,
    read_array,
    read_picture,
    read_table,
)
from convcore.loader.graph import Shape

__all__ = ["Arrays", "Batch", "Options", "PictureFiles", "Source", "open_source", "picture_size"]


@dataclass(frozen=True, slots=True)
class Options:
    """How pictures become input: preprocessing mode, interpolation, size (height, width) or None."""

    preprocess: str
    interpolation: Interpolation
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples: their numbers in the source, one array for each input of the model, what failed."""

    numbers: list[int]
    arrays: list[NDArray[np.float32]]
    failed: list[tuple[int, InputError]]


class Source(Protocol):
    """Examples with names, and, where they come with labels, their truths.

    `classes` are the class names that the source itself knows (class folders); `labels` the truths as
    text, one an example, or None.
    """

    names: Sequence[str]
    classes: tuple[str, ...]
    labels: tuple[str, ...] | None

    def batches(self, size: int) -> Iterator[Batch]: ...


class PictureFiles:
    """Pictures, decoded batch by batch: a folder of 25,000 does not fit into memory at once."""

    def __init__(self, paths: Sequence[Path], shape: Shape, options: Options) -> None:
        found = [find_pictures(p) if p.is_dir() else None for p in paths]
        if len(paths) > 1 and any(f is not None and f.classes for f in found):
            raise UsageError("a folder of classes must be the only INPUT")
        files = [f.files if f else (p,) for p, f in zip(paths, found, strict=True)]
        self.files = [file for group in files for file in group]
        self.names: Sequence[str] = [str(f) for f in self.files]
        only = found[0]
        self.classes = only.classes if only else ()
        self.labels = tuple(only.classes[t] for t in only.truths) if only and only.classes else None
        self._first, self._channels, self._size = picture_size(shape, options.size)
        #: (height, width, channels) of a picture when it has been read.
        self.size = (*self._size, self._channels)
        self._options = options

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self.files), size):
            numbers: list[int] = []
            pictures: list[NDArray[np.float32]] = []
            failed: list[tuple[int, InputError]] = []
            for number in range(start, min(start + size, len(self.files))):
                try:
                    pictures.append(self._read(self.files[number]))
                    numbers.append(number)
                except InputError as error:
                    failed.append((number, error))
            yield Batch(numbers, [np.stack(pictures)] if pictures else [], failed)

    def _read(self, file: Path) -> NDArray[np.float32]:
        options = self._options
        pixels = read_picture(file, self._size, channels=self._channels, interpolation=options.interpolation)
        pixels = preprocess(pixels, options.preprocess)
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if self._first else pixels


class Arrays:
    """Arrays that are already in memory: rows of tables, .npy files."""

    def __init__(
        self, names: Sequence[str], arrays: list[NDArray[np.float32]], labels: tuple[str, ...] | None = None
    ) -> None:
        self.names = names
        self.classes: tuple[str, ...] = ()
        self.labels = labels
        self._arrays = arrays

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self.names), size):
            numbers = list(range(start, min(start + size, len(self.names))))
            yield Batch(numbers, [a[start : start + size] for a in self._arrays], [])


def open_source(words: Sequence[str], shapes: Sequence[Shape], options: Options) -> Source:
    """Return the examples that `words` name: picture files and folders, .npy files, or .csv files.

    Parameters
    ----------
    words
        The INPUT arguments; all of one kind.
    shapes
        Shapes of the model's inputs, without the batch axis.

    Raises
    ------
    UsageError
        Inputs of several kinds or of an unknown one, or of a kind that this model cannot take.
    InputError
        A file is missing or not as it should be.
    """
    paths = [Path(word) for word in words]
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise UsageError(f"INPUT must be of one kind, not {' and '.join(sorted(kinds))} together")
    kind = kinds.pop()
    if kind == ".npy files":
        return _arrays(paths, shapes)
    if len(shapes) != 1:
        raise UsageError(f"the model has {len(shapes)} inputs: name one .npy file for each, in order")
    return PictureFiles(paths, shapes[0], options) if kind == "pictures" else _tables(paths, shapes[0])


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in PICTURE_SUFFIXES:
        return "pictures"
    if not path.exists():
        raise InputError(str(path), "no such file or folder")
    if suffix in (".csv", ".npy"):
        return f"{suffix} files"
    raise UsageError(f"{path}: INPUT must be a JPEG or PNG picture, a folder of them, a .npy or a .csv file")


def _arrays(paths: Sequence[Path], shapes: Sequence[Shape]) -> Arrays:
    if len(shapes) == 1:
        arrays = [fit_shape(read_array(p), shapes[0], str(p)) for p in paths]
        sizes = {a.shape[1:] for a in arrays}
        if len(sizes) > 1:
            raise InputError("INPUT", "the files' arrays differ in shape", got=sorted(sizes))
        names = [f"{p}[{i}]" for p, a in zip(paths, arrays, strict=True) for i in range(len(a))]
        return Arrays(names, [np.concatenate(arrays) if len(arrays) > 1 else arrays[0]])
    if len(paths) != len(shapes):
        raise UsageError(f"the model has {len(shapes)} inputs: name one .npy file for each, in order")
    arrays = [fit_shape(read_array(p), s, str(p)) for p, s in zip(paths, shapes, strict=True)]
    if len({len(a) for a in arrays}) > 1:
        counts = ", ".join(f"{p}: {len(a)}" for p, a in zip(paths, arrays, strict=True))
        raise InputError("INPUT", "the files hold different numbers of examples", got=counts)
    return Arrays([f"[{i}]" for i in range(len(arrays[0]))], arrays)


def _tables(paths: Sequence[Path], shape: Shape) -> Arrays:
    # A Conv1D network over a row wants (columns, 1): the same numbers with an axis more.
    width = [n for n in shape if n != 1]
    if len(width) > 1 or width == [None]:
        raise UsageError(f"a .csv file is for a model with one row of numbers as its input, not {shape}")
    columns = width[0] if width else 1
    tables = [read_table(path, columns) for path in paths]
    if len({t.labels is None for t in tables}) > 1:
        raise InputError("INPUT", "some of the .csv files have a label column, others have none")
    names = [
        f"{p}:{i + 1}" if len(paths) > 1 else str(i + 1)
        for p, t in zip(paths, tables, strict=True)
        for i in range(len(t.values))
    ]
    labels = None if tables[0].labels is None else tuple(text for t in tables for text in t.labels or ())
    values = np.concatenate([t.values for t in tables])
    return Arrays(names, [values.reshape(len(values), *(n or 1 for n in shape))], labels)


def picture_size(shape: Shape, asked: tuple[int, int] | None) -> tuple[bool, int, tuple[int, int]]:
    """Return whether channels come first, how many there are, and (height, width), for pictures.

    Raises
    ------
    UsageError
        The input takes no picture, leaves its size open where `asked` is None, or contradicts `asked`.
    """
    if len(shape) == 3 and shape[-1] in (1, 3):
        first, channels, height, width = False, shape[2], shape[0], shape[1]
    elif len(shape) == 3 and shape[0] in (1, 3):
        first, channels, height, width = True, shape[0], shape[1], shape[2]
    else:
        raise UsageError(f"the model takes no pictures: its input has shape {shape}")
    if asked is None:
        if height is None or width is None:
            raise UsageError("the model leaves the picture's size open: say --size HEIGHTxWIDTH")
        asked = (height, width)
    if height not in (None, asked[0]) or width not in (None, asked[1]):
        raise UsageError(f"--size {asked[0]}x{asked[1]}: the model's input is {height}x{width}")
    return first, int(channels or 0), asked
