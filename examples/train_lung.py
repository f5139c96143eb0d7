"""Train the two small lung networks that ship with convcore, on CT phantoms, and say how good they are.

    python examples/train_lung.py -o lung

No data is needed: convcore makes CT phantoms of the chest (thorax, lungs, vessels, airways, nodules,
noise, -2000 outside the scan circle) whose truth is known, and writes them as DICOM files. Everything
after that is the package's own way with a real series: files -> slices in order -> Hounsfield units ->
model input, as the model card says. So the networks see in training what they will see in use.

Two networks. `lung_segmentation.keras` is a small U-Net: one axial slice, 128 x 128, to the probability
that each pixel lies in a lung. `nodule_classifier.keras` says whether a nodule lies in the middle of a
cube of 32 x 32 x 32 voxels of 1.5 mm. Its convolutions are "valid", that is, they shrink the cube
towards its middle, so that a nodule at the cube's rim is not one in its middle. It learns from nodules,
and from four kinds of places without one: lung, vessels, the lungs' wall, and beside a nodule.

How it measures. Training, validation and held-out phantoms come from different seeds. Validation picks
the epoch that is kept; the held-out phantoms are only looked at once, at the end, through convcore's
engine and pipeline, as `convcore ct` would. Good numbers on phantoms say that the chain works, not that
the networks read patients' scans: they have never seen one. Not a medical device.

Needs Keras 3 with TensorFlow and convcore[app].
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import convcore as cc
from convcore import data
from convcore.bench import machine
from convcore.medical import (
    Card,
    Mark,
    Phantom,
    Volume,
    bundled_card,
    cube_inputs,
    dice,
    hu_volume,
    make_phantom,
    montage,
    read_series,
    resample,
    score,
    segment,
    slice_inputs,
    write_json,
    write_png,
    write_series,
)
from convcore.writers import write_bytes

SEGMENTATION, CLASSIFIER = "lung_segmentation", "nodule_classifier"
NEGATIVES = ("lung", "vessel", "wall", "beside")
AIR_HU = -1000.0
DIAMETERS_MM = (7.0, 24.0)
#: Small nodules are the hard ones: the report tells them apart from the larger.
SIZE_CLASSES_MM = ((7.0, 9.0), (9.0, 12.0), (12.0, 24.0))
#: First seeds of the three sets. `convcore demo` and the tests use others.
TRAIN, VALIDATION, HELD_OUT = 1_000_000, 2_000_000, 3_000_000
MAX_SEED = 999

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Plan:
    """How many phantoms of which size, and how long to train."""

    phantoms: int
    held_out: int
    sides: tuple[int, ...] = (128, 192, 256, 160)
    slice_steps: tuple[float, ...] = (2.0, 2.5, 3.0)
    length_mm: float = 165.0
    nodules: int = 6
    slices_each: int = 24
    copies: int = 3
    segmentation_epochs: int = 10
    classifier_epochs: int = 16

    @property
    def validation(self) -> int:
        return max(1, self.phantoms // 5)


QUICK = Plan(2, 2, (64,), (5.0,), 120.0, 3, 4, 1, 1, 1)


@dataclass(frozen=True)
class Case:
    """A phantom, and what reading its DICOM files gave."""

    phantom: Phantom
    volume: Volume


def make_cases(plan: Plan, first_seed: int, count: int) -> Iterator[Case]:
    """Make phantoms of different pixel sizes and slice steps; yield them after the way through DICOM."""
    for index in range(count):
        side = plan.sides[index % len(plan.sides)]
        step = plan.slice_steps[index % len(plan.slice_steps)]
        phantom = make_phantom(
            first_seed + index,
            shape=(round(plan.length_mm / step), side, side),
            slice_step=step,
            n_nodules=plan.nodules,
            diameters=DIAMETERS_MM,
        )
        with tempfile.TemporaryDirectory(prefix="train_lung-") as folder:
            write_series(phantom, folder)
            volume = hu_volume(read_series(folder))
        if not np.array_equal(volume.array, phantom.hu):
            raise RuntimeError(f"phantom {phantom.seed}: the series read back differs from the one written")
        yield Case(phantom, volume)


# ---- what the networks learn from -------------------------------------------------------------------


def slice_examples(case: Case, card: Card, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return `count` slices as the model's input, and the share of lung in every pixel.

    Every slice is seen through its own square window, larger or smaller than the field of view and off
    its centre, half of them mirrored: patients are not all of one size in the middle of the picture.
    """
    n, side, _ = case.volume.shape
    x, y = [], []
    for k in rng.choice(n, min(count, n), replace=False):
        wide = int(side * rng.uniform(0.75, 1.3))
        top, left = ((side - wide) / 2 + rng.uniform(-0.1, 0.1, 2) * side).astype(int)
        hu = _window(case.volume.array[k] + np.float32(rng.normal(0, 15)), top, left, wide, AIR_HU)
        lungs = _window(case.phantom.lungs[k].astype(np.float32), top, left, wide, 0.0)
        share = cc.resample(lungs[None], (1, *card.size))
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        x.append(slice_inputs(hu[None], card)[0][:, mirror])
        y.append(share[0, :, mirror, None])
    return np.stack(x), np.stack(y)


def _window(picture: Array, top: int, left: int, wide: int, outside: float) -> Array:
    """Cut a square out of a picture; what lies beyond its rim is `outside`."""
    result = np.full((wide, wide), outside, np.float32)
    rows, columns = picture.shape
    source = picture[max(top, 0) : min(top + wide, rows), max(left, 0) : min(left + wide, columns)]
    down, right = max(-top, 0), max(-left, 0)
    result[down : down + source.shape[0], right : right + source.shape[1]] = source
    return result


def negative_places(case: Case, count: int, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Draw `count` places x, y, z in mm of each kind that holds no nodule in its middle.

    "lung": anywhere in the lungs. "vessel": in the lungs and as bright as blood. "wall": on the
    lungs' outline. All three at least 10 mm outside the nearest nodule's surface. "beside": 8 to 16 mm
    outside a nodule's surface, so that the nodule shows in the cube but not in its middle.
    """
    lungs = case.phantom.lungs
    outline = np.zeros_like(lungs)
    for axis in range(3):
        np.moveaxis(outline, axis, 0)[1:] |= np.moveaxis(np.diff(lungs, axis=axis), axis, 0)
    bright = lungs & ~outline & (case.volume.array > -250)
    nodules = case.phantom.nodules
    places: dict[str, list[np.ndarray]] = {}
    for kind, where in (("lung", lungs), ("vessel", bright), ("wall", outline)):
        voxels = np.argwhere(where)
        # More than are needed: some lie too close to a nodule.
        drawn = voxels[rng.integers(0, len(voxels), 20 * count)] if len(voxels) else voxels
        far = [p for p in map(case.volume.to_mm, drawn) if _gap(p, nodules) > 10]
        places[kind] = far[:count]
    places["beside"] = []
    for index in range(20 * count):
        if not nodules or len(places["beside"]) == count:
            break
        nodule = nodules[index % len(nodules)]
        way = rng.standard_normal(3)
        reach = nodule.diameter_mm / 2 + rng.uniform(8, 16)
        place = np.array(nodule.centre_mm) + way * (reach / np.linalg.norm(way))
        if case.volume.contains(case.volume.to_voxel(place)) and _gap(place, nodules) >= 8:
            places["beside"].append(place)
    return places


def _gap(place: np.ndarray, nodules: Sequence[Any]) -> float:
    """Distance from a place to the nearest nodule's surface in mm, negative inside."""
    gaps = [np.linalg.norm(place - n.centre_mm) - n.diameter_mm / 2 for n in nodules]
    return float(min(gaps, default=np.inf))


def cube_examples(case: Case, card: Card, copies: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return cubes as the model's input, and 1 for a nodule in the middle, else 0.

    Each nodule comes `copies` times, every time up to 3 mm off the middle; then as many cubes of
    each kind of negative as there are nodules. All are turned and mirrored at random.
    """
    positives = [
        np.array(n.centre_mm) + rng.uniform(-3, 3, 3) for n in case.phantom.nodules for _ in range(copies)
    ]
    negatives = [p for kind in negative_places(case, len(case.phantom.nodules), rng).values() for p in kind]
    assert card.spacing_mm is not None, "a score3d card has a spacing"
    x = cube_inputs(resample(case.volume, card.spacing_mm), card, [*positives, *negatives])
    for i in range(len(x)):
        flips = [axis for axis in range(3) if rng.random() < 0.5]
        x[i] = np.flip(x[i], flips)
        if rng.random() < 0.5:
            x[i] = x[i].swapaxes(1, 2)
    return x, np.repeat(np.float32([1, 0]), [len(positives), len(negatives)])


# ---- the networks -----------------------------------------------------------------------------------


def build_segmentation(card: Card) -> keras.Model:
    """A U-Net of four levels: 128 x 128 x 1 -> 128 x 128 x 1."""
    layers = keras.layers

    def block(x: Any, filters: int, name: str) -> Any:
        for part in ("a", "b"):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}{part}_conv")(x)
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}{part}_norm")(x)
            x = layers.ReLU(name=f"{name}{part}_relu")(x)
        return x

    inputs = x = layers.Input(card.input_shape, name="slice")
    widths, skips = (8, 12, 16, 24), []
    for level, filters in enumerate(widths[:-1], start=1):
        x = block(x, filters, f"down{level}")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"down{level}_pool")(x)
    x = block(x, widths[-1], "bottom")
    for level in (3, 2, 1):
        x = layers.Conv2DTranspose(widths[level - 1], 2, strides=2, name=f"up{level}_enlarge")(x)
        x = layers.Concatenate(name=f"up{level}_join")([x, skips[level - 1]])
        x = block(x, widths[level - 1], f"up{level}")
    outputs = layers.Conv2D(1, 1, activation="sigmoid", name="lungs")(x)
    return keras.Model(inputs, outputs, name=SEGMENTATION)


def build_classifier(card: Card) -> keras.Model:
    """Four 3-D convolutions without padding, 32 x 32 x 32 x 1 -> 1."""
    layers = keras.layers
    inputs = x = layers.Input(card.input_shape, name="cube")
    for level, filters in enumerate((8, 16, 32, 48), start=1):
        x = layers.Conv3D(filters, 3, use_bias=False, name=f"conv{level}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{level}")(x)
        x = layers.LeakyReLU(negative_slope=0.1, name=f"relu{level}")(x)
        if level <= 2:
            x = layers.MaxPooling3D(name=f"pool{level}")(x)
    x = layers.GlobalAveragePooling3D(name="mean")(x)
    outputs = layers.Dense(1, activation="sigmoid", name="nodule")(x)
    return keras.Model(inputs, outputs, name=CLASSIFIER)


Examples = tuple[Array, Array]


def fit(
    model: keras.Model, train: Examples, validation: Examples, *, epochs: int, batch: int, rate: float
) -> dict[str, Any]:
    """Train with Adam on binary cross-entropy; keep the epoch with the least validation loss."""
    steps = epochs * -(-len(train[0]) // batch)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.02)
    # Compiling for so short a training costs more than it saves, and TensorFlow's own kernels are faster.
    model.compile(keras.optimizers.Adam(schedule), "binary_crossentropy", jit_compile=False)
    best = keras.callbacks.EarlyStopping(patience=epochs, restore_best_weights=True)
    start = time.perf_counter()
    history = model.fit(
        *train, batch, epochs, validation_data=validation, callbacks=[best], shuffle=True, verbose=0
    ).history
    return {
        "parameters": model.count_params(),
        "examples": len(train[0]),
        "validation_examples": len(validation[0]),
        "epochs": epochs,
        "best_epoch": int(np.argmin(history["val_loss"])) + 1,
        "loss": [round(v, 5) for v in history["loss"]],
        "validation_loss": [round(v, 5) for v in history["val_loss"]],
        "train_seconds": round(time.perf_counter() - start, 1),
    }


def save(model: keras.Model, path: Path) -> None:
    """Save without the optimiser's state, which is twice as large as the weights and no use here."""
    bare = keras.Model.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    bare.save(path)


# ---- how good they are ------------------------------------------------------------------------------


def held_out_scores(
    case: Case, networks: dict[str, Any], cards: dict[str, Card], seed: int
) -> dict[str, Any]:
    """Run both networks on a held-out phantom, as `convcore ct` does."""
    mask = segment(case.volume, networks[SEGMENTATION], cards[SEGMENTATION])
    nodules = case.phantom.nodules
    rng = np.random.default_rng([seed, case.phantom.seed])
    places = {"nodule": [np.array(n.centre_mm) for n in nodules]}
    places |= negative_places(case, -(-len(nodules) // len(NEGATIVES)), rng)
    result: dict[str, Any] = {
        "seed": case.phantom.seed,
        "shape": list(case.volume.shape),
        "spacing_mm": [round(s, 4) for s in case.volume.spacing],
        "dice": dice(mask, case.phantom.lungs),
        "diameters_mm": [round(n.diameter_mm, 2) for n in nodules],
        "scores": {},
    }
    for kind, points in places.items():
        found = score(case.volume, networks[CLASSIFIER], cards[CLASSIFIER], points)
        result["scores"][kind] = [round(f["nodule"], 6) for f in found]
    return result


def summarise(cases: Sequence[dict[str, Any]], threshold: float) -> dict[str, Any]:
    """Put the held-out phantoms' numbers together."""
    dices = np.array([c["dice"] for c in cases])
    scores = {
        kind: np.array([s for c in cases for s in c["scores"][kind]], np.float64)
        for kind in ("nodule", *NEGATIVES)
    }
    positive, negative = scores["nodule"], np.concatenate([scores[k] for k in NEGATIVES])
    right = np.count_nonzero(positive >= threshold) + np.count_nonzero(negative < threshold)
    diameters = np.array([d for c in cases for d in c["diameters_mm"]])
    by_size = {}
    for low, high in SIZE_CLASSES_MM:
        found = positive[(diameters >= low) & (diameters < high)] >= threshold
        by_size[f"{low:g}-{high:g} mm"] = {"nodules": len(found), "found": int(np.count_nonzero(found))}
    return {
        "phantoms": len(cases),
        "dice_mean": float(dices.mean()),
        "dice_sd": float(dices.std(ddof=1)) if len(dices) > 1 else 0.0,
        "dice_min": float(dices.min()),
        "nodules": len(positive),
        "nodule_free_places": len(negative),
        "accuracy": right / (len(positive) + len(negative)),
        "auc": auc(positive, negative),
        "sensitivity": float(np.mean(positive >= threshold)),
        "nodules_by_diameter": by_size,
        "specificity": {k: float(np.mean(scores[k] < threshold)) for k in NEGATIVES},
    }


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve: how often a nodule scores above a place without one; a tie is half."""
    above = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    return float(above)


def largest_difference(model: keras.Model, network: Any, x: Array) -> float:
    """Largest difference between Keras's and convcore's outputs for `x`."""
    return float(np.abs(model.predict(x, verbose=0) - network.predict(x)).max())


def picture(case: Case, networks: dict[str, Any], cards: dict[str, Card]) -> np.ndarray:
    """Draw a held-out phantom with the mask and the scores that the networks give."""
    mask = segment(case.volume, networks[SEGMENTATION], cards[SEGMENTATION])
    places = [n.centre_mm for n in case.phantom.nodules] + list(case.phantom.nodule_free)
    widths = [n.diameter_mm for n in case.phantom.nodules] + [12.0] * len(case.phantom.nodule_free)
    threshold = cards[CLASSIFIER].outputs[0].threshold or 0.5
    marks = []
    for place, wide, found in zip(
        places, widths, score(case.volume, networks[CLASSIFIER], cards[CLASSIFIER], places), strict=True
    ):
        marks.append(Mark(place, wide, f"{found['nodule']:.2f}", found["nodule"] >= threshold))
    return montage(case.volume, mask, marks, title="held-out phantom")


# ---- the command ------------------------------------------------------------------------------------


def note(text: str, start: float) -> None:
    print(f"{time.perf_counter() - start:6.0f} s  {text}", file=sys.stderr, flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train convcore's two lung networks on CT phantoms.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for networks and report")
    parser.add_argument("--phantoms", type=int, default=32, help="phantoms to train on (default 32)")
    parser.add_argument("--seed", type=int, default=1, help=f"0 to {MAX_SEED} (default 1)")
    parser.add_argument("--quick", action="store_true", help="a few tiny phantoms: does it run at all?")
    args = parser.parse_args(argv)
    if not 1 <= args.phantoms <= 999 or not 0 <= args.seed <= MAX_SEED:
        parser.error(f"--phantoms must be 1 to 999, --seed 0 to {MAX_SEED}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    start = time.perf_counter()
    plan = QUICK if args.quick else Plan(args.phantoms, held_out=24)
    keras.utils.set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    cards = {name: bundled_card(name) for name in (SEGMENTATION, CLASSIFIER)}

    sets = {}
    for first, count in ((TRAIN, plan.phantoms), (VALIDATION, plan.validation)):
        slices, cubes = [], []
        for case in make_cases(plan, first + 1000 * args.seed, count):
            slices.append(slice_examples(case, cards[SEGMENTATION], plan.slices_each, rng))
            cubes.append(cube_examples(case, cards[CLASSIFIER], plan.copies, rng))
        sets[first] = [tuple(map(np.concatenate, zip(*part, strict=True))) for part in (slices, cubes)]
        note(f"{count} phantoms: {len(sets[first][0][0])} slices, {len(sets[first][1][0])} cubes", start)

    models = {SEGMENTATION: build_segmentation(cards[SEGMENTATION])}
    models[CLASSIFIER] = build_classifier(cards[CLASSIFIER])
    settings = (
        {"epochs": plan.segmentation_epochs, "batch": 16, "rate": 4e-3},
        {"epochs": plan.classifier_epochs, "batch": 32, "rate": 3e-3},
    )
    report: dict[str, Any] = {"seed": args.seed, "training": {}, "difference_from_keras": {}}
    args.output.mkdir(parents=True, exist_ok=True)
    networks = {}
    for index, (name, model) in enumerate(models.items()):
        train, validation = sets[TRAIN][index], sets[VALIDATION][index]
        report["training"][name] = fit(model, train, validation, **settings[index])
        path = args.output / f"{name}.keras"
        save(model, path)
        write_bytes(path.with_suffix(".toml"), data.path(f"{name}.toml").read_bytes())
        networks[name] = cc.load_model(path)
        report["difference_from_keras"][name] = largest_difference(model, networks[name], validation[0][:64])
        report["training"][name]["file_bytes"] = path.stat().st_size
        note(f"{name}: trained, saved", start)

    found = []
    for case in make_cases(plan, HELD_OUT + 1000 * args.seed, plan.held_out):
        found.append(held_out_scores(case, networks, cards, args.seed))
        if len(found) == 1:
            write_png(args.output / "held_out.png", picture(case, networks, cards))
    report["held_out"] = summarise(found, cards[CLASSIFIER].outputs[0].threshold or 0.5)
    report["held_out_phantoms"] = found
    report["phantoms"] = {"train": plan.phantoms, "validation": plan.validation, "held_out": plan.held_out}
    report["total_seconds"] = round(time.perf_counter() - start, 1)
    report["cpu_seconds"] = round(time.process_time(), 1)
    report["machine"] = machine("keras", keras.backend.backend())
    write_json(args.output / "lung_training.json", report)
    note(f"{len(found)} held-out phantoms", start)

    numbers = report["held_out"]
    print(
        f"Lungs: Dice {numbers['dice_mean']:.4f}, at least {numbers['dice_min']:.4f}, on {len(found)} "
        f"phantoms.\nNodules: accuracy {numbers['accuracy']:.4f}, AUC {numbers['auc']:.4f} on "
        f"{numbers['nodules']} nodules and {numbers['nodule_free_places']} places without one.\n"
        "None of these phantoms was trained on; all are phantoms. Not a medical device."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
