"""A volume, a model and its card -> a mask on the volume's own grid, or scores at places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convcore import ops
from convcore.errors import ArgumentError, ModelError
from convcore.medical.card import Card, Output
from convcore.medical.volume import Volume, check_inside, cube, resample

__all__ = ["Predictor", "cube_inputs", "probabilities", "score", "segment", "slice_inputs", "to_input"]


class Predictor(Protocol):
    """Anything that turns a batch of inputs into an output array, or a list or dict of them."""

    def predict(self, x: NDArray[np.float32]) -> Any: ...


def to_input(hu: NDArray[np.float32], card: Card) -> NDArray[np.float32]:
    """Turn HU into what the card's model expects: clipped, scaled, axes and channel in order.

    Parameters
    ----------
    hu
        float32, shape (n, rows, columns) for a mask2d card, (n, z, y, x) for a score3d card.

    Returns
    -------
    numpy.ndarray
        float32, C-contiguous, shape ``(n, *card.input_shape)`` if the size fits.
    """
    low, high = np.float32(card.clip_hu[0]), np.float32(card.clip_hu[1])
    x = np.clip(hu, low, high)
    if card.scale == "unit":
        x = (x - low) / (high - low)
    order = "zyx"[-len(card.size) :]
    x = x.transpose(0, *(1 + order.index(a) for a in card.axes))
    return np.ascontiguousarray(np.expand_dims(x, -1 if card.channel == "last" else 1))


def slice_inputs(slices: NDArray[np.float32], card: Card) -> NDArray[np.float32]:
    """Turn slices in HU, shape (n, rows, columns), into a mask2d model's input: resized, clipped, scaled.

    Definition: docs/operations/preprocessing.md#clipping-and-scaling

    Examples
    --------
    >>> from convcore.medical import bundled_card
    >>> slice_inputs(np.full((2, 512, 512), -1000, np.float32), bundled_card("lung_segmentation")).shape
    (2, 128, 128, 1)
    """
    return to_input(_resized(np.ascontiguousarray(slices, np.float32), card.size), card)


def cube_inputs(volume: Volume, card: Card, places_mm: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """Cut a score3d model's inputs out of a volume that already has the card's spacing.

    Bring it there with ``resample(volume, card.spacing_mm)``, once for any number of places; the exact
    spacing that results may differ from the card's by the rounding of the number of voxels. Places are
    patient coordinates x, y, z in mm.

    Definition: docs/operations/preprocessing.md#clipping-and-scaling

    Examples
    --------
    >>> from convcore.medical import Volume, bundled_card
    >>> volume = Volume(np.full((40, 40, 40), -1000, np.float32), (1.5, 1.5, 1.5))
    >>> cube_inputs(volume, bundled_card("nodule_classifier"), [(30.0, 30.0, 30.0)]).shape
    (1, 32, 32, 32, 1)
    """
    wanted = _spacing(card)
    for spacing, right, n in zip(volume.spacing, wanted, volume.shape, strict=True):
        # resample() rounds to whole voxels: half a voxel over the whole volume, and no more.
        if n == 1 or abs(spacing / right - 1) * (n - 1) <= 0.5 + 1e-6:
            continue
        raise ArgumentError("cube_inputs", "spacing", got=volume.spacing, expected=f"{wanted}, from the card")
    return to_input(np.stack([cube(volume, p, card.size, padding=card.padding_hu) for p in places_mm]), card)


def probabilities(volume: Volume, model: Predictor, card: Card, *, batch: int = 8) -> Volume:
    """Run a mask2d model on every slice; return its output on the volume's own grid.

    Each slice is resized linearly to the card's size and the output back again.

    Returns
    -------
    Volume
        float32, the shape of `volume`.

    Raises
    ------
    ArgumentError
        The card is no mask2d card.
    ModelError
        The model's output does not have the shape or the outputs that the card promises.

    Examples
    --------
    >>> from convcore import data, load_model
    >>> from convcore.medical import bundled_card, make_phantom
    >>> volume = make_phantom(seed=7, shape=(2, 64, 64), n_nodules=0).volume()
    >>> model = load_model(data.path("lung_segmentation.keras"))
    >>> probabilities(volume, model, bundled_card("lung_segmentation")).shape
    (2, 64, 64)
    """
    _check_kind(card, "mask2d")
    output = card.outputs[0]
    result = np.empty(volume.shape, np.float32)
    for start in range(0, volume.shape[0], batch):
        part = volume.array[start : start + batch]
        y = _pick(model.predict(slice_inputs(part, card)), output, card)
        if y.ndim == 4:
            y = _element(y, output, card)
        expected = (len(part), *(card.size["yx".index(a)] for a in card.axes))
        if y.shape != expected:
            where = card.model or card.name
            raise ModelError(
                where, f"the output {output.name!r}", got=y.shape, expected=f"{expected}, from the card"
            )
        if card.axes == "xy":
            y = y.transpose(0, 2, 1)
        result[start : start + len(part)] = _resized(np.ascontiguousarray(y, np.float32), volume.shape[1:])
    return Volume(result, volume.spacing, volume.origin, volume.direction)


def segment(volume: Volume, model: Predictor, card: Card, *, batch: int = 8) -> NDArray[np.bool_]:
    """Return a mask2d model's mask of every slice: bool, the shape of `volume`.

    The model's output is brought back to the volume's own grid first and compared with the card's
    threshold there, so that the mask's edge is not a staircase of the model's coarser pixels.
    Errors as in :func:`probabilities`.

    Examples
    --------
    >>> from convcore import data, load_model
    >>> from convcore.medical import bundled_card, make_phantom
    >>> volume = make_phantom(seed=7, shape=(4, 128, 128), n_nodules=0).volume()
    >>> model = load_model(data.path("lung_segmentation.keras"))
    >>> mask = segment(volume, model, bundled_card("lung_segmentation"))
    >>> mask.shape, mask.dtype
    ((4, 128, 128), dtype('bool'))
    """
    threshold = card.outputs[0].threshold
    if threshold is None:
        raise ArgumentError("model card", "names no threshold for its mask")
    return np.asarray(
        probabilities(volume, model, card, batch=batch).array >= np.float32(threshold), np.bool_
    )


def score(
    volume: Volume, model: Predictor, card: Card, places_mm: Sequence[Sequence[float]], *, batch: int = 8
) -> list[dict[str, float]]:
    """Run a score3d model on a cube around each place.

    Parameters
    ----------
    volume
        float32 HU.
    places_mm
        Patient coordinates x, y, z in mm of each place; :func:`convcore.medical.parse_place` makes them
        from voxel indices.

    Returns
    -------
    list of dict
        For each place the card's outputs by name.

    Raises
    ------
    ArgumentError
        The card is no score3d card, or a place lies outside the volume.
    ModelError
        The model's output does not have the outputs that the card promises.

    Examples
    --------
    >>> from convcore import data, load_model
    >>> from convcore.medical import bundled_card, make_phantom
    >>> phantom = make_phantom(seed=7, shape=(16, 64, 64), n_nodules=1)
    >>> model, card = load_model(data.path("nodule_classifier.keras")), bundled_card("nodule_classifier")
    >>> [found] = score(phantom.volume(), model, card, [phantom.nodules[0].centre_mm])
    >>> list(found), 0 <= found["nodule"] <= 1
    (['nodule'], True)
    """
    _check_kind(card, "score3d")
    if not len(places_mm):
        return []
    even = resample(volume, _spacing(card))
    for place in places_mm:
        check_inside(volume, place, "score", resampled=even)
    scores: list[dict[str, float]] = []
    for start in range(0, len(places_mm), batch):
        part = places_mm[start : start + batch]
        outputs = model.predict(cube_inputs(even, card, part))
        columns = {o.name: _numbers(_pick(outputs, o, card), o, card, len(part)) for o in card.outputs}
        scores += [{name: float(values[i]) for name, values in columns.items()} for i in range(len(part))]
    return scores


def _spacing(card: Card) -> tuple[float, float, float]:
    _check_kind(card, "score3d")
    if card.spacing_mm is None:
        raise ArgumentError("model card", "names no spacing_mm", expected="the spacing of the cube in mm")
    return card.spacing_mm


def _resized(slices: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    target = (len(slices), *shape)
    return slices if slices.shape == target else np.asarray(ops.resample(slices, target), np.float32)


def _check_kind(card: Card, kind: str) -> None:
    if card.kind != kind:
        raise ArgumentError("model card", "kind", got=card.kind, expected=kind)


def _pick(outputs: Any, output: Output, card: Card) -> NDArray[Any]:
    """Return the model output that the card means: by name from a dict, else by its index."""
    if isinstance(outputs, dict):
        if output.name in outputs:
            return np.asarray(outputs[output.name])
        outputs = list(outputs.values())
    elif not isinstance(outputs, list | tuple):
        outputs = [outputs]
    if output.index >= len(outputs):
        raise ModelError(
            card.model or card.name,
            f"the card's output {output.name!r} is number {output.index}",
            got=f"a model with {len(outputs)} outputs",
        )
    return np.asarray(outputs[output.index])


def _numbers(values: NDArray[Any], output: Output, card: Card, count: int) -> NDArray[Any]:
    """Return one number for each of `count` inputs."""
    chosen = _element(values, output, card)
    if chosen.size != count:
        where = card.model or card.name
        raise ModelError(
            where, f"the output {output.name!r}", got=values.shape, expected=f"one number for {count} inputs"
        )
    return chosen.reshape(count)


def _element(values: NDArray[Any], output: Output, card: Card) -> NDArray[Any]:
    """Return one channel of an output of shape (n, ..., channels), or (n, channels, ...)."""
    axis = 1 if card.channel == "first" and values.ndim > 2 else -1
    if values.ndim == 1:
        values = values[:, None]
    if output.element >= values.shape[axis]:
        raise ModelError(
            card.model or card.name,
            f"the card's output {output.name!r} is element {output.element}",
            got=f"an output of shape {values.shape}",
        )
    return np.asarray(np.take(values, output.element, axis))
