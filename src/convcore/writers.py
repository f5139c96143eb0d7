"""Result files, written whole or not at all: a temporary name beside the target, fsync, rename."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from convcore.errors import ArgumentError, InputError
from convcore.extras import import_cv2

__all__ = ["replacing", "write_bytes", "write_json", "write_npy", "write_png"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the place of `path` when the block ends; makes the folder.

    Raises
    ------
    InputError
        The file cannot be written. Nothing is left behind, and an older file of that name stays as it was.

    Examples
    --------
    >>> with replacing("some.bin") as file:
    ...     _ = file.write(b"all of it")
    >>> Path("some.bin").read_bytes()
    b'all of it'
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
        # Exclusive: a name that somebody else planted is never written through.
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
        )
    except OSError as error:
        raise InputError(str(target), f"cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(str(target), f"cannot be written: {error.strerror}") from None
        raise
    _sync_folder(target.parent)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to a file so that no reader ever sees half of it; make the folder if need be.

    Raises
    ------
    InputError
        The file cannot be written. Nothing is left behind, and an older file of that name stays as it was.
    """
    with replacing(path) as file:
        file.write(data)
    return Path(path)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | os.PathLike[str], result: Any) -> Path:
    """Write a result as indented UTF-8 JSON; NumPy numbers and arrays become plain ones.

    Raises
    ------
    ArgumentError
        `result` holds something that JSON has no form for, NaN and infinity among it.
    InputError
        The file cannot be written.

    Examples
    --------
    >>> write_json("result.json", {"dice": np.float32(0.5)}).read_text()
    '{\\n  "dice": 0.5\\n}\\n'
    """
    try:
        text = json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise ArgumentError("write_json", f"the result has no JSON form: {error}") from None
    return write_bytes(path, (text + "\n").encode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no number, text, list or table")


def write_npy(path: str | os.PathLike[str], array: NDArray[Any]) -> Path:
    """Write an array as .npy (no pickles). Raises InputError if the file cannot be written.

    Examples
    --------
    >>> np.load(write_npy("mask.npy", np.zeros((2, 3), np.uint8))).shape
    (2, 3)
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return write_bytes(path, buffer.getvalue())


def write_png(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> Path:
    """Write a picture, uint8, shape (rows, columns) grey or (rows, columns, 3) RGB.

    Raises
    ------
    ArgumentError
        The array is no such picture.
    MissingExtraError
        OpenCV is not installed.
    InputError
        The file cannot be written.

    Examples
    --------
    >>> write_png("grey.png", np.full((30, 40), 128, np.uint8)).name
    'grey.png'
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ArgumentError(
            "write_png",
            got=f"{image.dtype} {image.shape}",
            expected="uint8 (rows, columns) or (rows, columns, 3)",
        )
    ordered = image if image.ndim == 2 else image[:, :, ::-1]
    done, encoded = import_cv2().imencode(".png", np.ascontiguousarray(ordered))
    if not done:
        raise ArgumentError("write_png", "OpenCV cannot encode the picture", got=image.shape)
    return write_bytes(path, encoded.tobytes())
