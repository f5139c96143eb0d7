"""Train a network that is small enough to be computed by hand, cell by cell: digits of 8 x 8 pixels.

    python examples/train_spreadsheet.py -o spreadsheet.keras

Two convolutions, pooling, a dense layer and a softmax, like the network that Jeremy Howard laid out in a
spreadsheet; but with biases and activations, and trained. The 1,797 handwritten digits are those that
scikit-learn carries: the test part of UCI's "Optical Recognition of Handwritten Digits", by 13 people. They
are not shuffled, neither there nor here: neighbours are mostly of one hand, so the last fifth, which is the
test, comes from hands that the network has seen little of. The pixels, 0 to 16 there, become 0 to 255, as
they are in pictures.

Of a few runs that differ in their seed alone, the file is the one that is best on the validation part, which
is the fifth before the last; the test part is looked at once, for that one.

Needs Keras 3 with a backend, scikit-learn, and OpenCV for the picture. Takes a minute on one
idle core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A network this small only loses time to a thread pool. Has to be said before the backend is imported.
for _variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from convcore.bench import machine  # noqa: E402

SIZE = 8
CLASSES = 10
#: Parts of the data, in its own order: to learn from, to choose by, to test.
VALIDATION, TEST = 0.2, 0.2

#: Our own drawing, in sixteenths of black ink, since no training data ships.
SEVEN = (
    (0, 0, 0, 0, 0, 0, 0, 0),
    (0, 0, 12, 15, 15, 16, 6, 0),
    (0, 0, 6, 8, 9, 16, 5, 0),
    (0, 0, 0, 0, 9, 13, 0, 0),
    (0, 0, 6, 13, 16, 13, 6, 0),
    (0, 0, 5, 15, 12, 5, 1, 0),
    (0, 0, 3, 16, 3, 0, 0, 0),
    (0, 0, 8, 13, 0, 0, 0, 0),
)


def as_pixels(sixteenths: Any) -> np.ndarray:
    """Return 0..16 as the whole numbers 0..255 of a picture, float32."""
    return np.rint(np.asarray(sixteenths) * (255 / 16)).astype(np.float32)


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (n, 8, 8, 1), float32 in 0..255, and digits (n,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return as_pixels(digits.images)[..., None], digits.target


def split(n: int) -> tuple[slice, slice, slice]:
    """Return the parts to learn from, to choose by and to test, in the order of the data.

    Nothing is shuffled: neighbours are mostly of one hand.
    """
    test = n - round(TEST * n)
    validation = test - round(VALIDATION * n)
    return slice(0, validation), slice(validation, test), slice(test, n)


def build() -> keras.Model:
    """Return the network: 558 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1), name="pixels"),
            layers.Rescaling(1 / 255, name="scale"),
            layers.Conv2D(4, 3, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(4, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(CLASSES, activation="softmax", name="digit"),
        ],
        name="spreadsheet",
    )


def train(x: np.ndarray, y: np.ndarray, seed: int, epochs: int) -> keras.Model:
    """Train one network on all of `x`."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = build()
    steps = -(-len(x) // 32)
    rate = keras.optimizers.schedules.CosineDecay(0.01, epochs * steps)
    model.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy",
        steps_per_execution=steps,
        jit_compile=False,
    )
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Return the fraction of pictures that the network names rightly."""
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))


def save(model: keras.Model, path: Path) -> None:
    """Save without the optimiser's state."""
    kept = build()
    kept.set_weights(model.get_weights())
    kept.save(path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the network that can be computed cell by cell.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to save, .keras")
    parser.add_argument("--picture", type=Path, help="write the example's picture there, .png")
    parser.add_argument("--report", type=Path, help="write every score there, as JSON")
    parser.add_argument("--runs", type=int, default=5, help="networks to choose from (default 5)")
    parser.add_argument("--seed", type=int, default=2017, help="the first network's (default 2017)")
    parser.add_argument("--epochs", type=int, default=150)
    args = parser.parse_args(argv)
    if min(args.runs, args.epochs) < 1:
        parser.error("--runs and --epochs must be 1 or more")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Train, choose, test once, save."""
    args = parse(argv)
    x, y = read_digits()
    learn, choose, test = split(len(x))
    scores: list[dict[str, Any]] = []
    best = None
    for seed in range(args.seed, args.seed + args.runs):
        model = train(x[learn], y[learn], seed, args.epochs)
        score = {name: accuracy(model, x[p], y[p]) for name, p in (("train", learn), ("validation", choose))}
        print(f"seed {seed}: train {score['train']:.2%}, validation {score['validation']:.2%}")
        if best is None or score["validation"] > max(s["validation"] for s in scores):
            best, kept = model, seed
        scores.append({"seed": seed, **score})
    assert best is not None, "argparse lets no empty list of runs through"
    tested = accuracy(best, x[test], y[test])
    save(best, args.output)
    print(f"Saved {args.output.name}: seed {kept}, test {tested:.2%} of {len(y[test])} digits.")
    if args.picture:
        import cv2

        cv2.imwrite(str(args.picture), as_pixels(SEVEN).astype(np.uint8))
        p = best.predict(as_pixels(SEVEN)[None, :, :, None], verbose=0)[0]
        print(f"The picture is a {p.argmax()} with probability {p.max():.4f}.")
    if args.report:
        report = {
            "rows": {n: len(y[p]) for n, p in (("train", learn), ("validation", choose), ("test", test))},
            "parameters": best.count_params(),
            "epochs": args.epochs,
            "scores": scores,
            "saved": {"seed": kept, "test": tested},
            "machine": machine("keras", keras.backend.backend(), "scikit-learn"),
        }
        args.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
