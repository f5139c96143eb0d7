"""``convcore demo``: the main job on generated input whose truth is known, with the models that ship."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from convcore import data
from convcore.cli.answers import class_indices
from convcore.cli.folders import check_folder, whole_folder
from convcore.cli.terminal import print_json, print_table
from convcore.engine import Model, load_model
from convcore.inputs import Table, read_table
from convcore.medical import (
    Mark,
    Phantom,
    bundled_card,
    dice,
    hu_volume,
    make_phantom,
    montage,
    read_series,
    score,
    segment,
    write_json,
    write_png,
    write_series,
)

__all__ = ["add_arguments", "run"]

T = TypeVar("T")

#: A phantom that the shipped networks were not trained on: examples/train_lung.py uses other seeds. Its
#: nodules lie far apart along z, so that the picture shows different slices.
SEED = 20_170_601
SHAPE = (56, 256, 256)
#: Classes of the sonar network, in the order of its output: P(R) is the output itself.
SONAR_CLASSES = ("M", "R")


@dataclass(slots=True)
class _Demo:
    """What was asked, answered and true, and how long each stage took."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        value = work()
        self.seconds[name] = round(time.perf_counter() - start, 4)
        return value

    def tell(self, question: str, answer: str, truth: str, right: bool | None = None) -> None:
        self.rows.append({"question": question, "answer": answer, "truth": truth, "right": right})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="where to write (default: a new temporary folder)"
    )
    parser.add_argument("--sonar", metavar="CSV", help="classify the rows of this Sonar data file as well")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Make a CT, read it back, segment, score, show. Code 0 says that it ran, not that it was right."""
    if args.output:
        check_folder(Path(args.output), remedy="name another one")
    # A slip in the table should cost neither the demo nor half a folder.
    sonar = _Sonar.read(args.sonar) if args.sonar else None
    demo = _Demo()
    start = time.perf_counter()
    with _destination(args.output) as (folder, out):
        _lungs(demo, folder)
        if sonar:
            _sonar(demo, sonar)
        total = round(time.perf_counter() - start, 3)
        record = {
            "answers": demo.rows,
            "seconds": demo.seconds,
            "total_seconds": total,
            "picture": str(out / "demo.png"),
            "dicom": str(out / "dicom"),
        }
        write_json(folder / "demo.json", record)
    if args.json:
        print_json(record)
    else:
        _print(demo, record, sonar is not None)
    return 0


@contextmanager
def _destination(output: str | None) -> Iterator[tuple[Path, Path]]:
    """Give the folder to write into and the one that it becomes: whole, or gone."""
    if output:
        with whole_folder(Path(output)) as folder:
            yield folder, Path(output)
        return
    folder = Path(tempfile.mkdtemp(prefix="convcore-demo-"))
    try:
        yield folder, folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _print(demo: _Demo, record: dict[str, Any], with_sonar: bool) -> None:
    verdicts = {True: "right", False: "WRONG", None: ""}
    print_table(
        ["question", "answer", "truth", ""],
        [[r["question"], r["answer"], r["truth"], verdicts[r["right"]]] for r in demo.rows],
        left=(0, 1, 2, 3),
    )
    print()
    print_table(["stage", "seconds"], [[name, f"{s:.3f}"] for name, s in demo.seconds.items()])
    print(f"\n{record['total_seconds']:.1f} s in all. Look at {record['picture']}")
    print("The CT is a phantom, the networks were trained on phantoms: not a medical device.")
    if with_sonar:
        print(
            "The sonar network has learnt 124 of the UCI file's 208 rows; on others expect about 84 % right."
        )
    else:
        print("For the sonar network name a data file: convcore demo --sonar sonar.csv")


def _lungs(demo: _Demo, out: Path) -> None:
    """The CT half: DICOM files, HU, lung mask, nodule scores, picture."""
    folder = out / "dicom"
    phantom = demo.timed("make a CT phantom", lambda: make_phantom(SEED, shape=SHAPE))
    files = demo.timed("write it as DICOM", lambda: write_series(phantom, folder))
    series = demo.timed("read the series, put it in order", lambda: read_series(folder))
    volume = demo.timed("read pixels, convert to HU", lambda: hu_volume(series))
    demo.tell(
        "slices read",
        f"{len(series.slices)}",
        f"{len(files)} files, names shuffled",
        len(files) == len(series.slices),
    )
    worst = float(np.abs(volume.array - phantom.hu).max())
    demo.tell("largest error in HU", f"{worst:g}", "0", worst == 0)
    spacing = " x ".join(f"{s:.3g}" for s in series.spacing)
    wanted = " x ".join(f"{s:.3g}" for s in phantom.spacing)
    demo.tell("voxel, mm (z, y, x)", spacing, wanted, spacing == wanted)

    network = demo.timed("load two networks", lambda: load_model(data.path("lung_segmentation.keras")))
    mask = demo.timed(
        f"segment {SHAPE[0]} slices", lambda: segment(volume, network, bundled_card("lung_segmentation"))
    )
    millilitres = float(np.prod(volume.spacing)) / 1000
    found, true = (np.count_nonzero(m) * millilitres for m in (mask, phantom.lungs))
    demo.tell("lung volume", f"{found:,.0f} ml", f"{true:,.0f} ml")
    demo.tell("agreement of the lung masks (Dice)", f"{dice(mask, phantom.lungs):.4f}", "1")

    marks = _nodules(demo, phantom, volume)
    picture = demo.timed("draw", lambda: montage(volume, mask, marks, title="convcore demo: CT phantom"))
    write_png(out / "demo.png", picture)


def _nodules(demo: _Demo, phantom: Phantom, volume: Any) -> list[Mark]:
    """Score every nodule, and as many places without one."""
    card = bundled_card("nodule_classifier")
    output = card.outputs[0]
    threshold = 0.5 if output.threshold is None else output.threshold
    load = time.perf_counter()
    network = load_model(data.path("nodule_classifier.keras"))
    demo.seconds["load two networks"] += round(time.perf_counter() - load, 4)
    places = [n.centre_mm for n in phantom.nodules] + list(phantom.nodule_free)
    scores = demo.timed(f"score {len(places)} places", lambda: score(volume, network, card, places))
    marks = []
    for index, (place, found) in enumerate(zip(places, scores, strict=True)):
        nodule = phantom.nodules[index] if index < len(phantom.nodules) else None
        p = found[output.name]
        truth = f"nodule of {nodule.diameter_mm:.0f} mm" if nodule else "no nodule"
        at = ", ".join(f"{v:.0f}" for v in place)
        demo.tell(
            f"nodule at {at} mm?", f"probability {p:.4f}", truth, (p >= threshold) == (nodule is not None)
        )
        marks.append(Mark(place, nodule.diameter_mm if nodule else 12.0, f"{p:.3f}", p >= threshold))
    return marks


@dataclass(frozen=True, slots=True)
class _Sonar:
    """The sonar network, and a table that fits it with the class index of each row, if it has labels."""

    network: Model
    table: Table
    truths: list[int] | None

    @classmethod
    def read(cls, path: str) -> _Sonar:
        network = load_model(data.path("sonar.keras"))
        table = read_table(path, network.input_shapes[0][0])
        labels = table.labels
        return cls(network, table, None if labels is None else class_indices(labels, SONAR_CLASSES, path))


def _sonar(demo: _Demo, sonar: _Sonar) -> None:
    values = sonar.table.values
    p = demo.timed(f"classify {len(values)} sonar rows", lambda: sonar.network.predict(values))
    rocks = p.reshape(-1) > 0.5
    answer = f"{np.count_nonzero(rocks)} rocks, {np.count_nonzero(~rocks)} mines"
    if sonar.truths is None:
        demo.tell("sonar echoes", answer, "the file has no labels")
        return
    truths = np.array(sonar.truths, np.bool_)
    right = int(np.count_nonzero(truths == rocks))
    demo.tell("sonar echoes", answer, f"{np.count_nonzero(truths)} rocks, {np.count_nonzero(~truths)} mines")
    demo.tell("sonar echoes named right", f"{right} ({right / len(rocks):.1%})", f"{len(rocks)}")
