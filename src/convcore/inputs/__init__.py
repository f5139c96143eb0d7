"""Files that people have -> arrays that a model takes: pictures, class folders, .npy, .csv, label files."""

from __future__ import annotations

from convcore.inputs.pictures import (
    PICTURE_SUFFIXES,
    PREPROCESSING,
    Interpolation,
    Pictures,
    find_pictures,
    preprocess,
    read_picture,
    resize_picture,
)
from convcore.inputs.tables import Table, fit_shape, read_array, read_labels, read_table

__all__ = [
    "PICTURE_SUFFIXES",
    "PREPROCESSING",
    "Interpolation",
    "Pictures",
    "Table",
    "find_pictures",
    "fit_shape",
    "preprocess",
    "read_array",
    "read_labels",
    "read_picture",
    "read_table",
    "resize_picture",
]
