"""Files that chapters ask for: looked up by name in the reader's data folder, and where to get them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from convcore.errors import ConvcoreError, InputError

__all__ = ["WHERE", "MissingDataError", "data_folder", "find", "find_series", "reading_from"]

#: What :func:`find_series` is said to miss.
CT_SERIES = "a CT series"
_LEAST_SLICES = 8

#: What chapters may ask for, and where a reader gets it. Nothing is downloaded by convcore itself.
WHERE: dict[str, str] = {
    CT_SERIES: "any scanner, as a folder of `.dcm` files, or a collection of The Cancer Imaging Archive"
    " such as *LIDC-IDRI* or *RIDER Pilot*",
    "vgg16_weights_tf_dim_ordering_tf_kernels.h5": "Keras, which keeps it in `~/.keras/models` once"
    " `keras.applications.VGG16()` has been called (553 MB)",
    "mobilenet_2_5_224_tf.h5": "Keras, which keeps it in `~/.keras/models` once"
    " `keras.applications.MobileNet(alpha=0.25)` has been called (2 MB)",
    "imagenet_class_index.json": "Keras, which keeps it in `~/.keras/models` once"
    " `keras.applications.vgg16.decode_predictions` has been called",
    "engineer0940_cats_vs_dogs.keras": "GitHub, engineer0940/Task-3_CatvsDog_Classifier, where it is called"
    " `cats_vs_dogs.keras`",
    "JeanXL_cats_vs_dogs.h5": "GitHub, JeanXL/CatsVSDogs, where it is called `cats_vs_dogs.h5`",
    "dogs-vs-cats": "Kaggle's competition of that name: a folder of photographs `cat.1.jpg`, `dog.1.jpg`",
    "ct2d_vigneshannaraj_lungs.h5": "GitHub, vigneshannaraj/lung-segmentation, where it is called `lungs.h5`",
    "lidc-idri-0001": "The Cancer Imaging Archive, collection *LIDC-IDRI*: the CT series of its"
    " first patient, in a folder of this name",
    "dsb2017_dhammack_model_LUNA_64_v29_14.h5": "GitHub, dhammack/DSB2017, where it is called"
    " `model_LUNA_64_v29_14.h5`",
    "astronaut.png": "scikit-image's `data` folder (a portrait by NASA, public domain)",
    "chelsea.png": "scikit-image's `data` folder (a cat, CC0)",
    "conv-example.xlsx": "GitHub, fastai/courses, where it lies in `deeplearning1/excel`",
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


def find_series(*names: str, default: Any = _REQUIRED) -> Any:
    """Return the folder of a CT series below the data folder: one of `names` if it is there, else the first.

    Parameters
    ----------
    names
        Names of folders to prefer.
    default
        What to return if there is none; without it that is an error.

    Returns
    -------
    pathlib.Path
        A folder whose ``.dcm`` files :func:`convcore.medical.read_series` reads as one series
        of 8 slices or more.

    Raises
    ------
    MissingDataError
        There is none, and no `default`.

    Examples
    --------
    >>> find_series(default=None) is None
    True
    """
    root = data_folder()
    preferred = [path for name in names if (path := find(name, default=None)) is not None]
    others = [] if root is None else [root, *(path for path in _below(root) if path.is_dir())]
    for folder in [*preferred, *others]:
        if _is_series(folder):
            return folder
    if default is not _REQUIRED:
        return default
    raise MissingDataError(CT_SERIES, "is not in the data folder" if root else "no data folder is given")


def _is_series(folder: Path) -> bool:
    from convcore.medical import read_series

    files = [path for path in folder.iterdir() if path.suffix.lower() == ".dcm" and path.is_file()]
    if len(files) < _LEAST_SLICES:
        return False
    try:
        return len(read_series(files).slices) >= _LEAST_SLICES
    except ConvcoreError:  # several series, no CT, slices that are missing
        return False


def _below(root: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(root):
        folders.sort()
        yield from (Path(parent, name) for name in sorted([*folders, *files]))
