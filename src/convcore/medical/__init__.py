"""CT: DICOM series -> volume in Hounsfield units -> model input -> mask or score; phantoms; pictures."""

from __future__ import annotations

from convcore.medical.card import Card, Output, bundled_card, load_card, parse_card
from convcore.medical.overlay import Mark, choose_slices, montage, overlay_slice
from convcore.medical.phantom import Nodule, Phantom, make_phantom
from convcore.medical.phantom_dicom import write_series
from convcore.medical.pipeline import cube_inputs, probabilities, score, segment, slice_inputs
from convcore.medical.results import dice, mask_result, score_result
from convcore.medical.series import Series, read_series
from convcore.medical.volume import Volume, cube, hu_concerns, hu_volume, parse_place, resample
from convcore.writers import write_json, write_npy, write_png

__all__ = [
    "Card",
    "Mark",
    "Nodule",
    "Output",
    "Phantom",
    "Series",
    "Volume",
    "bundled_card",
    "choose_slices",
    "cube",
    "cube_inputs",
    "dice",
    "hu_concerns",
    "hu_volume",
    "load_card",
    "make_phantom",
    "mask_result",
    "montage",
    "overlay_slice",
    "parse_card",
    "parse_place",
    "probabilities",
    "read_series",
    "resample",
    "score",
    "score_result",
    "segment",
    "slice_inputs",
    "write_json",
    "write_npy",
    "write_png",
    "write_series",
]
