"""Files that chapters ask for: looked up by name in the reader's data folder, and where to get them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from convcore.errors import InputError

__all__ = ["WHERE", "MissingDataError", "data_folder", "find", "reading_from"]

#: What chapters may ask for, and where a reader gets it. Nothing is downloaded by convcore itself.
WHERE: dict[str, str] = {
    "astronaut.png": "scikit-image's `data` folder (a portrait by NASA, public domain)",
    "chelsea.png": "scikit-image's `data` folder (a cat, CC0)",
    "sonar.csv": "UCI's Machine Learning Repository, *Connectionist Bench (Sonar, Mines vs. Rocks)*, where it"
    " is called `sonar.all-data`: 208 rows, no header",
}

_folder: ContextVar[Path | None] = ContextVar("article_data", default=None)
_REQUIRED: Any = object()


class MissingDataError(InputError):
    """A chapter asked for a file that is not in the data folder."""

    code = "missing-data"


def data_folder() -> Path | None:
    """Return the folder that :func:`find` looks in: the article's, else what ``CONVCORE_DATA`` names."""
    named = os.environ.get("CONVCORE_DATA")
    return _folder.get() or (Path(named) if named else None)


@contextlib.contextmanager
def reading_from(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Let :func:`find` look in `folder` within the block.

    Raises
    ------
    InputError
        There is no such folder.
    """
    path = None if folder is None else Path(folder)
    if path is not None and not path.is_dir():
        raise InputError(str(path), "is no folder", remedy="Name the folder that holds your files.")
    token = _folder.set(path)
    try:
        yield
    finally:
        _folder.reset(token)


def find(*names: str, default: Any = _REQUIRED) -> Any:
    """Return the path of the first of `names` that lies anywhere below the data folder.

    Parameters
    ----------
    names
        Names of a file or folder, the best first: several are for what goes by several names.
    default
        What to return if there is none; without it that is an error.

    Returns
    -------
    pathlib.Path
        Of files of the same name, the first in alphabetical order of their paths.

    Raises
    ------
    MissingDataError
        There is none, and no `default`. On a page of the article this and all that needs it is left out,
        and the page says where to get the file.

    Examples
    --------
    >>> find("no such file", default=None) is None
    True
    """
    root = data_folder()
    if root is not None:
        for name in names:
            for path in _below(root):
                if path.name == name:
                    return path
    if default is not _REQUIRED:
        return default
    raise MissingDataError(
        names[0],
        "is not in the data folder" if root else "no data folder is given",
        got=None if root is None else str(root),
        remedy=f"Get it from {WHERE[names[0]]}." if names[0] in WHERE else "",
    )


def _below(root: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(root):
        folders.sort()
        yield from (Path(parent, name) for name in sorted([*folders, *files]))
