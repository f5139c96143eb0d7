"""CT: DICOM series -> volume in Hounsfield units -> model input -> mask or score; phantoms; pictures."""

from __future__ import annotations

from convcore.medical.phantom import Nodule, Phantom, make_phantom
from convcore.medical.phantom_dicom import write_series
from convcore.medical.series import Series, read_series
from convcore.medical.volume import Volume, cube, hu_concerns, hu_volume, parse_place, resample

__all__ = [
    "Nodule",
    "Phantom",
    "Series",
    "Volume",
    "cube",
    "hu_concerns",
    "hu_volume",
    "make_phantom",
    "parse_place",
    "read_series",
    "resample",
    "write_series",
]
