"""``convcore study``: every layer of a network on one input, as a page; or the article's chapters."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convcore import data
from convcore.cli import UsageError
from convcore.cli.folders import check_folder, whole_folder
from convcore.cli.models import add_device_options, add_model_options, open_model
from convcore.cli.preprocessing import add_picture_options, known_preprocessing
from convcore.cli.sources import Options, PictureFiles, open_source
from convcore.cli.terminal import note
from convcore.errors import InputError
from convcore.inputs import PICTURE_SUFFIXES, PREPROCESSING, Interpolation, read_labels, read_picture

if TYPE_CHECKING:
    from convcore.engine import Model
    from convcore.medical import Card, Volume
    from convcore.study import InputFacts

__all__ = ["add_arguments", "run"]

#: Level and width in HU that lungs are looked at with.
_LUNG_WINDOW = (-600.0, 1500.0)
#: What goes with --article.
_FOR_ARTICLE = ("article", "data", "output", "overwrite", "model", "input", "verb", "run", "defaults")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="a model file, or the name of one that ships, as sonar"
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        nargs="*",
        help="a picture (JPEG, PNG), a .npy array, a .csv of rows, or the folder of a CT series for a model "
        "with a card; spreadsheet.png is a digit that ships; for several inputs a .npy file for each",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the page, .html; with --article a folder"
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        action="append",
        default=[],
        help="keep exact numbers of this layer only; may be given several times (default: all layers)",
    )
    parser.add_argument(
        "--channels",
        metavar="C,C,...",
        type=_numbers,
        default=(),
        help="output channels to keep exactly (default: the first 4, and the 4 strongest)",
    )
    parser.add_argument(
        "--at",
        metavar="ROW,COLUMN",
        action="append",
        type=_numbers,
        default=[],
        help="an output position to keep with its surroundings, beside a corner and the strongest; may be "
        "given several times",
    )
    parser.add_argument(
        "--row", metavar="N", type=_whole, default=0, help="which row of a .csv or .npy file (default 0)"
    )
    add_picture_options(parser)
    ct = parser.add_argument_group("CT series")
    ct.add_argument("--card", metavar="CARD.toml", help="what the model expects (default: beside the model)")
    ct.add_argument("--slice", metavar="N", type=_whole, help="which slice (default: the middle one)")
    ct.add_argument("--place", metavar="X,Y,Z", help="which place, for models that score places: see ct --at")
    ct.add_argument("--series", metavar="UID", help="which series, if the folder holds several")
    article = parser.add_argument_group("the article")
    article.add_argument(
        "--article", action="store_true", help="write the chapters of the article, run on this machine"
    )
    article.add_argument("--data", metavar="DIR", help="a folder with the files that chapters can use")
    article.add_argument("--overwrite", action="store_true", help="replace the folder OUT if it is there")
    add_model_options(parser)
    add_device_options(parser)
    parser.set_defaults(defaults={a.dest: a.default for a in parser._actions})


def run(args: argparse.Namespace) -> int:
    """Write the page, or the article's folder."""
    if args.article:
        return _article(args)
    if not args.model or not args.input:
        raise UsageError("say MODEL and INPUT, or --article")
    for name in ("data", "overwrite"):
        if getattr(args, name):
            raise UsageError(f"--{name} is for --article")
    target = Path(args.output)
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {target}: the name must end in .html")
    if not target.parent.is_dir():
        raise UsageError(f"-o {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise UsageError(f"-o {target}: is a folder; the page needs a file")
    args.model = _model_file(args.model)
    model = open_model(args)
    arrays, facts = _input(args, model)
    if args.labels:
        facts = replace(facts, labels=read_labels(args.labels))
    report = model.study(
        arrays if len(arrays) > 1 else arrays[0],
        layers=args.layer,
        channels=args.channels,
        at=args.at,
        facts=facts,
    )
    report.save(target)
    size = target.stat().st_size / 1e6
    print(f"{target}: {len(model.layers)} layers, {size:.1f} MB; open it in a browser")
    return 0


def _article(args: argparse.Namespace) -> int:
    if args.model or args.input:
        raise UsageError("--article takes no MODEL and no INPUT; its files come from --data DIR")
    for name, value in vars(args).items():
        if name not in _FOR_ARTICLE and value != args.defaults.get(name):
            raise UsageError(f"--{name.replace('_', '-')} is for a report on a model, not for --article")
    if args.data and not Path(args.data).is_dir():
        raise InputError(f"--data {args.data}", "no such folder")
    out = Path(args.output)
    check_folder(out, overwrite=args.overwrite, remedy="say --overwrite to replace it")
    from convcore.study.article import write_article

    with whole_folder(out) as folder:
        pages = write_article(folder, data=args.data, tell=note)
    print(f"{out / 'index.html'}: {len(pages)} pages; open it in a browser")
    return 0


def _model_file(name: str) -> str:
    """A file, or the name of a model that ships."""
    shipped = [Path(file).stem for file in data.names() if file.endswith(".keras")]
    if Path(name).exists():
        return name
    if name in shipped:
        return str(data.path(f"{name}.keras"))
    expected = f"a file, or a model that ships: {', '.join(shipped)}"
    raise InputError(name, "no such file or model", expected=expected)


def _numbers(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers, such as 0,3,5")
    return tuple(map(int, text.split(",")))


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


# ---- inputs ---------------------------------------------------------------------------------------


def _input(args: argparse.Namespace, model: Model) -> tuple[list[NDArray[np.float32]], InputFacts]:
    """One example, and what is known about it."""
    paths = [data.path(w) if w in data.names() and not Path(w).exists() else Path(w) for w in args.input]
    path = paths[0]
    several = len(model.input_shapes) > 1
    if len(paths) > 1 and not several:
        raise UsageError(f"a report is about one example, not {len(paths)}")
    if not several and _is_series(path):
        return _ct(args, model, path)
    for option in ("card", "slice", "place", "series"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} is for a CT series, and {path} is none")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder without DICOM files; a report is about one picture")
    return _file(args, model, paths)


def _file(
    args: argparse.Namespace, model: Model, paths: Sequence[Path]
) -> tuple[list[NDArray[np.float32]], InputFacts]:
    from convcore.study import InputFacts

    path = paths[0]
    mode = args.preprocess or known_preprocessing(model.graph) or ""
    picture = path.suffix.lower() in PICTURE_SUFFIXES
    if picture and not mode:
        raise UsageError(
            "the model file does not say what its pictures were scaled to: say --preprocess "
            + ", ".join(PREPROCESSING)
        )
    interpolation: Interpolation = args.interpolation or "nearest"
    source = open_source([str(p) for p in paths], model.input_shapes, Options(mode, interpolation, args.size))
    if args.row >= len(source.names):
        raise UsageError(f"--row {args.row}: {path} has {len(source.names)}, counted from 0")
    batch = next(islice(source.batches(1), args.row, None))
    if batch.failed:
        raise batch.failed[0][1]
    if not isinstance(source, PictureFiles):
        for option in ("preprocess", "interpolation", "size"):
            if getattr(args, option) is not None:
                raise UsageError(f"--{option} is for pictures only: rows and arrays are taken as they are")
        name = f"{path.name}, row {args.row}" if len(source.names) > 1 else path.name
        return batch.arrays, InputFacts(name, "taken as it is")
    height, width, channels = source.size
    pixels = read_picture(path, (height, width), channels=channels, interpolation=interpolation)
    shown = np.rint(pixels).astype(np.uint8)
    words = f"resized to {height} x {width} ({interpolation}), scaled as {mode}"
    return batch.arrays, InputFacts(path.name, words, shown[..., 0] if channels == 1 else shown)


def _is_series(path: Path) -> bool:
    """Whether it is a DICOM file, or a folder with one anywhere in it."""
    if not path.is_dir():
        return path.suffix.lower() not in (*PICTURE_SUFFIXES, ".npy", ".csv") and _is_dicom(path)
    return any(_is_dicom(file) for file in path.rglob("*"))


def _is_dicom(path: Path) -> bool:
    from convcore.medical.dicom_file import reads_as_dicom

    return path.is_file() and reads_as_dicom(path)


def _ct(args: argparse.Namespace, model: Model, path: Path) -> tuple[list[NDArray[np.float32]], InputFacts]:
    """A slice, or the surroundings of a place, as the model's card wants it."""
    from convcore.medical import hu_volume, load_card, read_series
    from convcore.study import InputFacts

    card_file = Path(args.card) if args.card else Path(args.model).with_suffix(".toml")
    if not args.card and not card_file.is_file():
        raise UsageError(f"{args.model} has no model card beside it: say --card CARD.toml (docs/medical.md)")
    card = load_card(card_file)
    volume = hu_volume(read_series(path, series_uid=args.series))
    index, x = _slice(args, volume, card) if card.kind == "mask2d" else _place(args, volume, card)
    low, high = card.clip_hu
    words = f"slice {index}, HU clipped to {low:g} to {high:g}"
    if card.scale == "unit":
        words += " and scaled to 0 to 1"
    note(f"convcore study: slice {index} of {volume.shape[0]}")
    return [x], InputFacts(
        name=path.name,
        preprocess=words,
        hu=volume.array[index],
        spacing=(volume.spacing[1], volume.spacing[2]),
        window=_LUNG_WINDOW,
    )


def _slice(args: argparse.Namespace, volume: Volume, card: Card) -> tuple[int, NDArray[np.float32]]:
    from convcore.medical import slice_inputs

    if args.place is not None:
        raise UsageError(f"{card.name} marks whole slices: --place is for models that score places")
    count = volume.shape[0]
    index = count // 2 if args.slice is None else args.slice
    if index >= count:
        raise UsageError(f"--slice {index}: the series has {count} slices, counted from 0")
    return index, slice_inputs(volume.array[index : index + 1], card)


def _place(args: argparse.Namespace, volume: Volume, card: Card) -> tuple[int, NDArray[np.float32]]:
    from convcore.medical import cube_inputs, parse_place, resample

    if args.place is None:
        raise UsageError(f"{card.name} scores places: name one with --place X,Y,Z")
    if args.slice is not None:
        raise UsageError(f"{card.name} scores places: --slice is for models that mark slices")
    place = parse_place(args.place, volume)
    assert card.spacing_mm is not None  # cards of this kind have one
    x = cube_inputs(resample(volume, card.spacing_mm), card, [place.tolist()])
    return round(float(volume.to_voxel(place.tolist())[0])), x
