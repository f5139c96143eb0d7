"""What a CT run found, as plain data for a JSON file: no patient data, no paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.errors import ArgumentError
from convcore.medical.card import Card
from convcore.medical.series import Series
from convcore.medical.volume import Volume, hu_concerns

__all__ = ["dice", "mask_result", "score_result"]

SCHEMA = "convcore.ct/1"
NOTE = "Not a medical device: for teaching and research only."


def mask_result(series: Series, volume: Volume, card: Card, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Describe a mask: volume in ml, and for each slice its position and how much of it is masked.

    Parameters
    ----------
    mask
        bool, the shape of `volume`.

    Examples
    --------
    >>> import tempfile
    >>> from convcore.medical import bundled_card, hu_volume, make_phantom, read_series, write_series
    >>> phantom = make_phantom(seed=7, shape=(4, 64, 64), n_nodules=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     series = read_series([*write_series(phantom, folder)])
    ...     volume = hu_volume(series)
    >>> result = mask_result(series, volume, bundled_card("lung_segmentation"), phantom.lungs)
    >>> len(result["mask"]["slices"]), result["mask"]["volume_ml"] > 0
    (4, True)
    """
    if mask.shape != volume.shape:
        raise ArgumentError("mask_result", "mask", got=mask.shape, expected=volume.shape)
    counts = np.count_nonzero(mask, axis=(1, 2))
    voxel_ml = float(np.prod(volume.spacing)) / 1000
    output = card.outputs[0]
    inside = volume.array[mask]
    return {
        **_common(series, volume, card),
        "mask": {
            "name": output.name,
            "meaning": output.meaning,
            "threshold": output.threshold,
            "volume_ml": round(float(counts.sum()) * voxel_ml, 3),
            "mean_hu": round(float(inside.mean()), 2) if inside.size else None,
            "slices": [
                {
                    "index": k,
                    "file": name,
                    "position_mm": _rounded(volume.to_mm((k, 0, 0))),
                    "area_mm2": round(float(count) * volume.spacing[1] * volume.spacing[2], 2),
                    "fraction": round(float(count) / (volume.shape[1] * volume.shape[2]), 6),
                }
                for k, (name, count) in enumerate(zip(_names(series), counts, strict=True))
            ],
        },
    }


def score_result(
    series: Series,
    volume: Volume,
    card: Card,
    places_mm: Sequence[Sequence[float]],
    scores: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """Describe scores at places: each place in mm and as a voxel index, each output with its meaning.

    Examples
    --------
    >>> import tempfile
    >>> from convcore.medical import bundled_card, hu_volume, make_phantom, read_series, write_series
    >>> phantom = make_phantom(seed=7, shape=(16, 64, 64), n_nodules=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     series = read_series([*write_series(phantom, folder)])
    ...     volume = hu_volume(series)
    >>> place = phantom.nodules[0].centre_mm
    >>> result = score_result(series, volume, bundled_card("nodule_classifier"), [place], [{"nodule": 0.9}])
    >>> result["places"][0]["outputs"]["nodule"]["positive"]
    True
    """
    return {
        **_common(series, volume, card),
        "places": [
            {
                "place_mm": _rounded(place),
                "voxel_xyz": _rounded(volume.to_voxel(place)[::-1]),
                "outputs": {
                    o.name: {
                        "value": values[o.name],
                        "meaning": o.meaning,
                        "threshold": o.threshold,
                        "positive": None if o.threshold is None else values[o.name] >= o.threshold,
                    }
                    for o in card.outputs
                },
            }
            for place, values in zip(places_mm, scores, strict=True)
        ],
    }


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return Dice's coefficient of two masks, ``2 |a and b| / (|a| + |b|)``; 1 if both are empty.

    Definition: docs/operations/preprocessing.md#dice-coefficient

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    if a.shape != b.shape:
        raise ArgumentError("dice", "two masks of one shape", got=(a.shape, b.shape))
    total = int(np.count_nonzero(a) + np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 1.0


def _common(series: Series, volume: Volume, card: Card) -> dict[str, Any]:
    names = _names(series)
    return {
        "schema": SCHEMA,
        "note": NOTE,
        "series": {
            "uid": series.uid,
            "slices": len(series.slices),
            "shape_zyx": list(volume.shape),
            "spacing_mm_zyx": _rounded(volume.spacing, 6),
            "origin_mm_xyz": _rounded(volume.origin, 6),
            "first_file": names[0],
            "last_file": names[-1],
            "interpolated_slices": list(series.missing),
            "ignored_files": len(series.ignored),
            "warnings": series.n_warnings,
            "hu_range": [float(volume.array.min()), float(volume.array.max())],
            "concerns": list(hu_concerns(volume)),
        },
        "model": {"name": card.name, "file": card.model, "kind": card.kind},
    }


def _names(series: Series) -> list[str | None]:
    """File name of every grid plane, None where a slice was interpolated."""
    names: list[str | None] = [None] * series.shape[0]
    for index, header in zip(series.grid, series.slices, strict=True):
        names[index] = header.name
    return names


def _rounded(values: Any, digits: int = 3) -> list[float]:
    return [round(float(v), digits) for v in values]
