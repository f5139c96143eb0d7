"""Train the spreadsheet network: two convolutions, a pooling, a dense layer, on digits that this file draws.

    python examples/train_spreadsheet.py -o spreadsheet.keras --picture spreadsheet_seven.png

Jeremy Howard's spreadsheet of a convolutional network shows every number of one: a handwritten digit of 28 x
28 pixels, two filters of 3 x 3, two more over both maps, max pooling, and a dense layer. His weights are
random numbers, so that what comes out says nothing. This is a network of the same form that has learnt its
weights: with biases, ReLU, ten classes and softmax, 2,948 parameters in all, few enough to look at each.

No data is needed: digits are drawn here, as the strokes of a pen. Every digit has a few ways to be written;
each stroke is bent a little at random, the whole turned, sheared and stretched, then scaled into a box of
20 x 20 pixels and put with its centre of mass in the middle, as the digits of MNIST are.

How it measures. Digits to train on, to choose the epoch by and to hold out come from different seeds. The
held-out digits are looked at once, at the end, through convcore. Good numbers on drawn digits do not say how
good the network is on people's handwriting.

Needs Keras 3 with a backend, and convcore[app]. Takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Networks this small only lose time to a thread pool. Has to be said before the backend is imported.
for _variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import convcore as cc  # noqa: E402
from convcore.bench import machine  # noqa: E402
from convcore.writers import write_json, write_png  # noqa: E402

CLASSES = 10
SIDE = 28
#: Pixels that the longer side of a digit fills, and those that the rest is padded to.
BOX = 20
#: First seeds of the three sets.
TRAIN, VALIDATION, HELD_OUT = 1, 2, 3
#: The digit, its class and its seed, that ships as an example: from none of the three sets.
EXAMPLE = (7, 4)

Array = np.ndarray[Any, np.dtype[Any]]
Stroke = Array


# ---- digits


def line(*points: tuple[float, float]) -> Stroke:
    """A polyline through points (x, y), x to the right and y down, resampled so that it can be bent."""
    corners = np.array(points)
    lengths = np.hypot(*np.diff(corners, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    along = np.union1d(np.linspace(0, at[-1], 1 + max(1, round(at[-1] / 0.12))), at)
    return np.stack([np.interp(along, at, corners[:, axis]) for axis in (0, 1)], axis=1)


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Stroke:
    """A part of an ellipse about (x, y); angles in degrees, 0 to the right, 90 down."""
    angle = np.radians(np.linspace(start, end, 1 + max(2, round(abs(end - start) / 18))))
    return np.stack([x + width / 2 * np.cos(angle), y + height / 2 * np.sin(angle)], axis=1)


def joined(*strokes: Stroke) -> Stroke:
    """One stroke of several, without lifting the pen."""
    return np.concatenate(strokes)


#: The ways to write each digit, in a box of about 0.6 x 1.
DIGITS: tuple[tuple[tuple[Stroke, ...], ...], ...] = (
    ((arc(0.3, 0.5, 0.6, 1.0, -90, 270),), (arc(0.3, 0.5, 0.45, 1.0, -60, 310),)),
    ((line((0.3, 0.0), (0.3, 1.0)),), (line((0.12, 0.22), (0.32, 0.0), (0.32, 1.0)),)),
    (
        (joined(arc(0.3, 0.28, 0.56, 0.56, 190, 395), line((0.53, 0.42), (0.0, 1.0), (0.6, 1.0))),),
        (joined(arc(0.3, 0.28, 0.52, 0.56, 200, 400), line((0.45, 0.5), (0.1, 0.95)),
                arc(0.14, 0.9, 0.18, 0.2, 90, 330), line((0.25, 0.9), (0.6, 1.0))),),
    ),
    (
        (joined(arc(0.28, 0.26, 0.54, 0.52, 200, 450), arc(0.28, 0.74, 0.62, 0.52, -90, 160)),),
        (joined(line((0.04, 0.0), (0.54, 0.0), (0.26, 0.42)), arc(0.26, 0.71, 0.62, 0.58, -90, 160)),),
    ),
    (
        (line((0.42, 1.0), (0.42, 0.0), (0.0, 0.66), (0.62, 0.66)),),
        (line((0.06, 0.0), (0.02, 0.5), (0.56, 0.5)), line((0.5, 0.05), (0.46, 1.0))),
    ),
    (
        (joined(line((0.54, 0.0), (0.1, 0.0), (0.06, 0.42)), arc(0.27, 0.69, 0.6, 0.6, -130, 150)),),
        (joined(line((0.1, 0.02), (0.08, 0.44)), arc(0.27, 0.69, 0.58, 0.6, -120, 150)),
         line((0.1, 0.02), (0.56, 0.0))),
    ),
    (
        (joined(line((0.46, 0.0), (0.12, 0.42)), arc(0.3, 0.7, 0.56, 0.6, 200, -160)),),
        (joined(arc(0.5, 0.55, 0.9, 1.1, 280, 180), arc(0.31, 0.72, 0.52, 0.54, 180, -180)),),
    ),
    (
        (line((0.0, 0.0), (0.6, 0.0), (0.2, 1.0)),),
        (line((0.0, 0.0), (0.6, 0.0), (0.22, 1.0)), line((0.16, 0.52), (0.58, 0.5))),
        (line((0.02, 0.16), (0.0, 0.02), (0.58, 0.0), (0.3, 0.5), (0.24, 1.0)),),
    ),
    (
        (arc(0.3, 0.25, 0.48, 0.5, -90, 270), arc(0.3, 0.75, 0.6, 0.5, -90, 270)),
        (joined(arc(0.3, 0.25, 0.46, 0.5, -40, -270), arc(0.3, 0.75, 0.56, 0.5, -90, 200),
                line((0.04, 0.65), (0.48, 0.12))),),
    ),
    (
        (joined(arc(0.3, 0.28, 0.56, 0.56, 0, -360), line((0.58, 0.28), (0.54, 1.0))),),
        (joined(arc(0.3, 0.28, 0.54, 0.54, -20, -360), arc(0.1, 0.4, 0.95, 1.2, -10, 80)),),
    ),
)  # fmt: skip


def draw_digit(digit: int, rng: np.random.Generator) -> Array:
    """Write one digit at random: uint8 (28, 28), ink 255 on 0."""
    ways = DIGITS[digit]
    strokes = ways[rng.integers(len(ways))]
    # A smooth bend, the same for all strokes: three waves down the page, each with sizes and phases for x and y.
    waves = rng.normal(0, 1, (3, 2, 2))
    turn, shear = np.radians(rng.normal(0, 10)), rng.normal(0.12, 0.2)
    stretch = rng.uniform(0.75, 1.2)
    across = stretch * np.array([[1.0, -shear], [0.0, 1.0]])
    across[1] /= stretch
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    bent = []
    for points in strokes:
        bend = sum(
            size * np.sin((k + 1) * 2.9 * points[:, 1:] + phase) / (k + 1)
            for k, (size, phase) in enumerate(waves)
        )
        bent.append((points + 0.04 * bend + rng.normal(0, 0.012, (1, 2))) @ (rotation @ across).T)
    everything = np.concatenate(bent)
    low, high = everything.min(axis=0), everything.max(axis=0)
    half = rng.uniform(0.9, 1.7)  # of the pen's width, in pixels
    scale = (BOX - 2 * half) / max(high - low)
    segments = np.concatenate([np.stack([s[:-1], s[1:]], axis=1) for s in bent]) * scale
    segments += (SIDE - 1) / 2 - scale * (low + high) / 2
    ink = _ink(segments, half)
    rows, columns = np.indices(ink.shape)
    middle = np.array([(columns * ink).sum(), (rows * ink).sum()]) / ink.sum()
    shift = np.rint((SIDE - 1) / 2 - middle)
    return np.asarray(np.rint(255 * _ink(segments + shift, half)), np.uint8)


def _ink(segments: Array, half: float) -> Array:
    """How much of each pixel a pen of that width covers that goes along `segments`, (count, 2 ends, xy)."""
    rows, columns = np.indices((SIDE, SIDE))
    pixel = np.stack([columns.ravel(), rows.ravel()], axis=1)[:, None]  # (784, 1, 2)
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    t = ((pixel - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
    nearest = start + np.clip(t, 0, 1)[..., None] * along
    distance = np.sqrt(((pixel - nearest) ** 2).sum(-1)).min(axis=1).reshape(SIDE, SIDE)
    return np.asarray(np.clip(half + 0.5 - distance, 0, 1))


def draw_digits(count: int, seed: int) -> tuple[Array, Array]:
    """Draw `count` digits, all ten equally often: float32 (count, 28, 28, 1) in 0..255, and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % CLASSES)
    x = np.stack([draw_digit(int(label), rng) for label in labels])
    return x[..., None].astype(np.float32), labels


# ---- network


def build() -> keras.Model:
    """The network of the spreadsheet, with what it leaves out: biases, ReLU, ten classes and softmax."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="digit"),
            layers.Rescaling(1 / 255, name="scale"),
            layers.Conv2D(2, 3, activation="relu", name="conv1"),
            layers.Conv2D(2, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(CLASSES, activation="softmax", name="dense"),
        ],
        name="spreadsheet",
    )


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the least loss on the validation digits."""

    def __init__(self) -> None:
        super().__init__()
        self.loss, self.epoch = float("inf"), -1
        self.weights: list[Array] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs and logs["val_loss"] < self.loss:
            self.loss, self.epoch, self.weights = logs["val_loss"], epoch + 1, self.model.get_weights()


def train(model: keras.Model, count: int, epochs: int, seed: int) -> dict[str, Any]:
    """Train and keep the best epoch; return what was done."""
    x, y = draw_digits(count, 10 * seed + TRAIN)
    validation = draw_digits(max(CLASSES, count // 10), 10 * seed + VALIDATION)
    # Compiled as a copy that shares the weights: the file of the other one holds no optimiser state.
    trained = keras.Model(model.inputs, model.outputs)
    trained.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, epochs * (count // 64))),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=max(1, count // 64),
    )
    best = KeepBest()
    log = trained.fit(
        x, y, batch_size=64, epochs=epochs, validation_data=validation, callbacks=[best], verbose=0
    )
    model.set_weights(best.weights)
    return {
        "digits": count,
        "epochs": epochs,
        "kept_epoch": best.epoch,
        "validation_loss": best.loss,
        "validation_accuracy": log.history["val_accuracy"][best.epoch - 1],
    }


def held_out_scores(network: cc.Model, count: int, seed: int) -> dict[str, Any]:
    """Accuracy on digits that were never looked at, over all and for each digit, and what was taken for what."""
    x, y = draw_digits(count, 10 * seed + HELD_OUT)
    answers = network.predict(x).argmax(axis=1)
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (y, answers), 1)
    return {
        "digits": count,
        "accuracy": float(np.mean(answers == y)),
        "each": [float(v) for v in confusion.diagonal() / confusion.sum(axis=1)],
        "confusion": confusion.tolist(),
    }


def example() -> Array:
    """The digit that ships beside the network: uint8 (28, 28)."""
    digit, seed = EXAMPLE
    return draw_digit(digit, np.random.default_rng(seed))


# ---- command


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the spreadsheet network on digits drawn here.")
    parser.add_argument("-o", "--output", type=Path, default=Path("spreadsheet.keras"), help="the network")
    parser.add_argument("--picture", type=Path, help="write the example digit, a PNG file")
    parser.add_argument("--report", type=Path, help="write scores and the machine's context, as JSON")
    parser.add_argument("--digits", type=int, default=20_000, help="digits to train on (default 20000)")
    parser.add_argument("--held-out", type=int, default=5_000, help="digits to measure on (default 5000)")
    parser.add_argument("--epochs", type=int, default=40, help="default 40")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    args = parser.parse_args(argv)
    if args.digits < 64 or args.held_out < CLASSES or args.epochs < 1 or args.seed < 0:
        parser.error("expected --digits from 64, --held-out from 10, --epochs from 1, --seed from 0")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    start = time.perf_counter()
    keras.utils.set_random_seed(args.seed)
    model = build()
    report: dict[str, Any] = {
        "seed": args.seed,
        "training": train(model, args.digits, args.epochs, args.seed),
    }
    model.save(args.output)
    network = cc.load_model(args.output)
    report["held_out"] = held_out_scores(network, args.held_out, args.seed)
    x, _ = draw_digits(64, 10 * args.seed + VALIDATION)
    difference = np.abs(network.predict(x) - keras.models.load_model(args.output).predict_on_batch(x)).max()
    report["difference_from_keras"] = float(difference)
    report["seconds"] = round(time.perf_counter() - start, 1)
    report["machine"] = machine("keras", keras.backend.backend())
    if args.picture:
        write_png(args.picture, example())
    if args.report:
        write_json(args.report, report)
    found = report["held_out"]
    print(
        f"{args.output}: right on {100 * found['accuracy']:.2f} % of {found['digits']} digits that it has never "
        f"seen (worst: {int(np.argmin(found['each']))}, {100 * min(found['each']):.1f} %). All are drawn digits."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
