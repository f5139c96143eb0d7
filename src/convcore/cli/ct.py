"""``convcore ct``: a DICOM series and a model with its card -> a mask of every slice, or scores at places."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcore import data
from convcore.cli import UsageError
from convcore.cli.folders import check_folder, whole_folder
from convcore.cli.models import add_device_options, add_model_options, open_model
from convcore.cli.terminal import note, print_json, print_table, progress
from convcore.errors import ArgumentError, InputError, ModelError
from convcore.medical import (
    Card,
    Mark,
    Series,
    Volume,
    choose_slices,
    hu_volume,
    load_card,
    mask_result,
    montage,
    overlay_slice,
    parse_place,
    read_series,
    score,
    score_result,
    segment,
    write_json,
    write_npy,
    write_png,
)
from convcore.medical.volume import check_inside, place_numbers

if TYPE_CHECKING:
    from convcore.engine import Model

__all__ = ["add_arguments", "run"]

#: Diameter in mm of the circle drawn around a place that was scored: the size of a large nodule.
CIRCLE_MM = 30.0
OVERWRITE = "say --overwrite to replace it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", metavar="SERIES", help="the folder with the DICOM files of a CT series")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        required=True,
        help="a model file, or the name of one that ships: lung_segmentation, nodule_classifier",
    )
    parser.add_argument(
        "--card",
        metavar="CARD.toml",
        help="says what the model expects and gives (default: beside the model, with its name)",
    )
    parser.add_argument(
        "--at",
        metavar="X,Y,Z",
        action="append",
        type=_place_text,
        help="a place to score: voxel indices, or mm as in 317,364,-116mm or -60.5mm,39mm,-116mm; may be "
        "given several times",
    )
    parser.add_argument(
        "--series", metavar="UID", dest="uid", help="which series, if the folder holds several"
    )
    parser.add_argument("--allow-gaps", action="store_true", help="interpolate missing slices and name them")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    add_model_options(parser)
    add_device_options(parser)
    parser.add_argument("--json", action="store_true", help="print result.json to stdout as well")


def run(args: argparse.Namespace) -> int:
    """Read, convert, run, and write the results; all of them or none."""
    out = Path(args.output)
    check_folder(out, overwrite=args.overwrite, remedy=OVERWRITE)
    args.model, card_path = _model_and_card(args)
    card = load_card(card_path)
    if card.kind == "score3d" and not args.at:
        raise UsageError(f"{card.name} scores places: name one or more with --at X,Y,Z")
    if card.kind == "mask2d" and args.at:
        raise UsageError(f"{card.name} marks whole slices: --at is for models that score places")
    clock = _Clock()
    series = read_series(args.folder, series_uid=args.uid, allow_gaps=args.allow_gaps)
    clock.lap("read headers")
    volume = hu_volume(series)
    clock.lap("read pixels, convert to HU")
    places = [_place(text, volume) for text in args.at or ()]
    model = open_model(args)
    _check_model(model, card)
    clock.lap("load model")
    with whole_folder(out) as folder:
        if card.kind == "mask2d":
            result = _mask(series, volume, model, card, folder, clock)
        else:
            result = _scores(series, volume, model, card, places, folder, clock)
        result["seconds"] = clock.laps
        write_json(folder / "result.json", result)
        # Somebody else may have put something there meanwhile.
        check_folder(out, overwrite=args.overwrite, remedy=OVERWRITE)
    for concern in result["series"]["concerns"]:
        note(f"convcore ct: {concern}")
    if args.json:
        print_json(result)
    else:
        _print(result, out)
    return 0


def _model_and_card(args: argparse.Namespace) -> tuple[str, str]:
    model = Path(args.model)
    if not model.exists():
        model = _shipped(args.model)
    card = Path(args.card) if args.card else model.with_suffix(".toml")
    if not args.card and not card.is_file():
        raise UsageError(
            f"{model} has no model card {card.name} beside it: say --card CARD.toml (see docs/medical.md)"
        )
    return str(model), str(card)


def _shipped(name: str) -> Path:
    names = [Path(file).stem for file in data.names() if file.endswith(".toml")]
    if name not in names:
        expected = f"a file, or a model that ships: {', '.join(names)}"
        raise InputError(f"--model {name}", "no such file or model", expected=expected)
    return data.path(f"{name}.keras")


def _place_text(text: str) -> str:
    """Check a place's form, which needs no series: a slip should not cost the reading of one."""
    try:
        place_numbers(text)
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no place, which is {error.expected}") from None
    return text


def _place(text: str, volume: Volume) -> list[float]:
    place: list[float] = parse_place(text, volume).tolist()
    check_inside(volume, place, f"--at {text}")
    return place


def _check_model(model: Model, card: Card) -> None:
    if len(model.input_shapes) != 1:
        raise ModelError(model.name, "inputs", got=len(model.input_shapes), expected="one, for a model card")
    shape = model.input_shapes[0]
    fits = len(shape) == len(card.input_shape) and all(
        n is None or n == wanted for n, wanted in zip(shape, card.input_shape, strict=True)
    )
    if not fits:
        raise ModelError(
            model.name,
            "the card does not fit the model",
            got=f"input {card.input_shape}",
            expected=f"{shape}",
        )


# ---------------------------------------------------------------------------------- the two kinds


def _mask(
    series: Series, volume: Volume, model: Model, card: Card, folder: Path, clock: _Clock
) -> dict[str, Any]:
    mask = segment(volume, model, card)
    clock.lap("segment")
    write_npy(folder / "mask.npy", mask.astype(np.uint8))
    _write_overlays(volume, folder, range(volume.shape[0]), mask, [])
    write_png(folder / "overview.png", montage(volume, mask, title=card.name))
    clock.lap("write")
    return mask_result(series, volume, card, mask)


def _scores(
    series: Series,
    volume: Volume,
    model: Model,
    card: Card,
    places: list[list[float]],
    folder: Path,
    clock: _Clock,
) -> dict[str, Any]:
    scores = score(volume, model, card, places)
    clock.lap("resample, score")
    result = score_result(series, volume, card, places, scores)
    marks = [_mark(place, found["outputs"]) for place, found in zip(places, result["places"], strict=True)]
    planes = {round(float(volume.to_voxel(place)[0])) for place in places}
    shown = choose_slices(volume, len(planes), None, marks)
    _write_overlays(volume, folder, shown, None, marks)
    write_png(
        folder / "overview.png",
        montage(volume, None, marks, title=card.name, count=len(shown), columns=min(3, len(shown))),
    )
    clock.lap("write")
    return result


def _mark(place: list[float], outputs: Mapping[str, Mapping[str, Any]]) -> Mark:
    """A circle with the output that the card decides by; without a threshold, with the first output."""
    name, shown = next(
        ((n, o) for n, o in outputs.items() if o["threshold"] is not None), next(iter(outputs.items()))
    )
    x, y, z = place
    return Mark((x, y, z), CIRCLE_MM, f"{name} {shown['value']:.3f}", bool(shown["positive"]))


def _write_overlays(
    volume: Volume,
    folder: Path,
    indices: range | list[int],
    mask: NDArray[np.bool_] | None,
    marks: list[Mark],
) -> None:
    for index in progress(indices, len(indices), "overlays"):
        write_png(folder / "overlays" / f"slice_{index:04d}.png", overlay_slice(volume, index, mask, marks))


# ---------------------------------------------------------------------------------- results


class _Clock:
    """Seconds of each stage, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _print(result: dict[str, Any], out: Path) -> None:
    series = result["series"]
    shape = " x ".join(str(n) for n in series["shape_zyx"])
    spacing = " x ".join(f"{s:.4g}" for s in series["spacing_mm_zyx"])
    print(f"series   {series['slices']} slices, {shape} voxels of {spacing} mm (z, y, x)")
    print(f"HU       {series['hu_range'][0]:.0f} to {series['hu_range'][1]:.0f}")
    print(f"model    {result['model']['name']}")
    if "mask" in result:
        mask = result["mask"]
        print(f"{mask['name']:<8} {mask['volume_ml']:,.0f} ml in view, mean {_hu(mask['mean_hu'])}\n")
        rows = [
            [
                s["index"],
                f"{s['position_mm'][2]:.1f}",
                f"{s['area_mm2'] / 100:.1f}",
                f"{100 * s['fraction']:.1f}",
            ]
            for s in mask["slices"]
        ]
        print_table(["slice", "z mm", f"{mask['name']} cm2", "% of slice"], rows, left=())
    else:
        print()
        rows = []
        for place in result["places"]:
            at = ", ".join(f"{v:.1f}" for v in place["place_mm"])
            voxel = ", ".join(f"{v:.0f}" for v in place["voxel_xyz"])
            for i, (name, o) in enumerate(place["outputs"].items()):
                verdict = {True: "yes", False: "no", None: ""}[o["positive"]]
                rows.append(
                    ["" if i else at, "" if i else voxel, name, f"{o['value']:.4f}", verdict, o["meaning"]]
                )
        print_table(["x, y, z mm", "voxel", "output", "value", "", "meaning"], rows, left=(0, 1, 2, 4, 5))
    print()
    for name, seconds in result["seconds"].items():
        print(f"{seconds:8.3f} s  {name}")
    print(f"\n{out / 'overview.png'} shows it; all numbers are in {out / 'result.json'}.")
    print(result["note"])


def _hu(value: float | None) -> str:
    return "HU unknown" if value is None else f"{value:.0f} HU"
