"""Train the article's Sonar network, and a better one, and say honestly how good each is.

    python examples/train_sonar.py sonar.csv -o sonar.keras

The data file is the "Connectionist Bench (Sonar, Mines vs. Rocks)" set of the UCI repository: 208
rows without a header, 60 numbers in 0..1 and a label, R (rock) or M (mine). R becomes 1 and M
becomes 0, so the sigmoid output is the probability of a rock.

How it measures. The file is sorted by label, and within a label by aspect angle, so every split is
shuffled and stratified: 124 rows to train, 84 to test (60:40). One split of so few rows says little,
so both networks are trained on the same 20 or more seeded splits, and mean, standard deviation,
minimum and maximum are reported. Nothing was tuned on those splits: the better network was picked in a
first look at some twenty networks on the splits of other seeds (CHOICE_SEEDS), and ``--choose`` compares
a ladder of candidates on ten of those. The steps that pay there are standardising and noise; what comes
after differs by less than the spread. All splits draw from the same 208 rows, so they are not
independent samples, and the spread over them is no standard error.

The saved file is the better network trained on the 124 training rows of the first reported split; its
accuracy on the 84 rows that it never saw is printed.

Needs Keras 3 with a backend. Takes about five minutes on one idle core with TensorFlow.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Networks this small only lose time to a thread pool. Has to be said before the backend is imported.
for _variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from convcore.bench import machine  # noqa: E402

# TensorFlow warns of every new graph; a new model for every split is what is wanted here.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

FEATURES = 60
TEST_FRACTION = 0.4
CLASSES = ("M", "R")  # the index is the number that the network learns

#: Splits that decisions may look at. A first look at some twenty networks used all of them,
#: ``--choose`` uses the first ten. Reported splits must not be among them.
CHOICE_SEEDS = range(1000, 1030)
CHOICE_SPLITS = 10

ARTICLE_ACCURACY = 0.8164
ARTICLE_NOTE = (
    "The article gives 81.64 % beside a 60:40 split, but no accuracy on 84 (or 83) test rows rounds to "
    "81.64 %: up to 208 rows only 169/207 does. 207 is the row count when the headerless file loses its "
    "first row to a header; otherwise the figure may be a mean over folds. It is quoted here as a mark "
    "to pass, not as a 60:40 result to compare with."
)


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    `members` equal networks are trained side by side, each on its own noise and from its own start,
    and their probabilities are averaged inside the model. `standardise` puts a Normalization layer
    with the training rows' mean and variance first, so that the model takes rows as they are in the
    file. `noise` is the standard deviation of the Gaussian noise added to the inputs in training.
    """

    name: str
    hidden: tuple[int, ...]
    members: int = 1
    activation: str = "relu"
    standardise: bool = False
    noise: float = 0.0
    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 0.001


SIMPLE = Recipe("simple", hidden=(60,), batch_size=5)
BETTER = Recipe("better", hidden=(64, 32), members=5, standardise=True, noise=0.5)

#: What ``--choose`` compares, from the simple network to the better one, a step at a time.
CANDIDATES = (
    SIMPLE,
    Recipe("standardised", hidden=(60,), standardise=True),
    Recipe("standardised-noise", hidden=(60,), standardise=True, noise=0.5),
    Recipe("64-32-noise", hidden=(64, 32), standardise=True, noise=0.5),
    Recipe("5x64-32-noise", hidden=(64, 32), members=5, standardise=True, noise=0.5),
    Recipe("5x64-32-noise-silu", hidden=(64, 32), members=5, activation="silu", standardise=True, noise=0.5),
)


@dataclass(frozen=True)
class Score:
    """Fractions of rows classified rightly by one trained network."""

    seed: int
    train: float
    test: float


def read_rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers (rows, 60) and the labels (rows,), both float32, of a Sonar file.

    Raises ``ValueError`` that names the row if it is not 60 finite numbers and R or M.
    """
    values, labels = [], []
    with path.open(newline="", encoding="utf-8") as file:
        for number, fields in enumerate(csv.reader(file), start=1):
            if not fields:
                continue
            *numbers, label = fields
            if len(numbers) != FEATURES or label.strip() not in CLASSES:
                raise ValueError(
                    f"{path.name}, row {number}: got {len(numbers)} values and the label {label[:20]!r}, "
                    f"expected {FEATURES} values and R or M. The file has no header."
                )
            try:
                row = [float(value) for value in numbers]
            except ValueError as error:
                raise ValueError(f"{path.name}, row {number}: {error}") from None
            values.append(row)
            labels.append(CLASSES.index(label.strip()))
    x, y = np.array(values, np.float32), np.array(labels, np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"{path.name}: got a value that is not finite")
    if min(np.count_nonzero(y == 0), np.count_nonzero(y == 1)) < 3:
        raise ValueError(f"{path.name}: got {len(y)} rows, expected at least 3 of each class")
    return x, y


def split_rows(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers to train on and to test on: 60:40, shuffled, stratified by class.

    The test part has ceil(0.4 n) rows, as scikit-learn counts them, and the classes share it in
    proportion: of 111 M and 97 R, 45 and 39.
    """
    rng = np.random.default_rng(seed)
    test_size = int(np.ceil(TEST_FRACTION * len(y)))
    mines = round(test_size * np.count_nonzero(y == 0) / len(y))
    train, test = [], []
    for label, count in ((0, mines), (1, test_size - mines)):
        rows = rng.permutation(np.flatnonzero(y == label))
        test.append(rows[:count])
        train.append(rows[count:])
    return rng.permutation(np.concatenate(train)), np.concatenate(test)


def build(recipe: Recipe, x_train: np.ndarray) -> tuple[keras.Model, keras.Model]:
    """Return two models that share their weights: one to train, (n, members), and one to keep, (n, 1).

    The one to keep is never compiled, so its file holds no optimiser state.
    The members are trained on a loss that is the mean of theirs. Adam does not care for the scale of
    a gradient (but for its epsilon), so each learns as it would alone; trained through their average
    they would learn to lean on each other.
    """
    layers = keras.layers
    inputs = keras.Input((FEATURES,), name="bands")
    x = inputs
    if recipe.standardise:
        standardise = layers.Normalization(name="standardise")
        standardise.adapt(x_train)
        x = standardise(x)
    outputs = []
    for member in range(recipe.members):
        suffix = f"_{member}" if recipe.members > 1 else ""
        h = layers.GaussianNoise(recipe.noise, name=f"noise{suffix}")(x) if recipe.noise else x
        for depth, units in enumerate(recipe.hidden):
            h = layers.Dense(units, activation=recipe.activation, name=f"hidden_{depth}{suffix}")(h)
        outputs.append(layers.Dense(1, activation="sigmoid", name=f"rock{suffix}")(h))
    if recipe.members == 1:
        return keras.Model(inputs, outputs[0]), keras.Model(inputs, outputs[0], name=recipe.name)
    together = keras.Model(inputs, layers.Concatenate(name="members")(outputs))
    return together, keras.Model(inputs, layers.Average(name="rock")(outputs), name=recipe.name)


def train(recipe: Recipe, x: np.ndarray, y: np.ndarray, seed: int) -> tuple[keras.Model, Score]:
    """Train `recipe` on the 60 % of the split `seed`; return the model and its score."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    train_rows, test_rows = split_rows(y, seed)
    together, model = build(recipe, x[train_rows])
    together.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss="binary_crossentropy",
        steps_per_execution=int(np.ceil(len(train_rows) / recipe.batch_size)),
        jit_compile=False,
    )
    target = np.repeat(y[train_rows, None], recipe.members, axis=1)
    together.fit(x[train_rows], target, batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0)

    right = (model.predict_on_batch(x)[:, 0] > 0.5) == (y > 0.5)
    return model, Score(seed, float(right[train_rows].mean()), float(right[test_rows].mean()))


def measure(
    recipe: Recipe, x: np.ndarray, y: np.ndarray, seeds: Sequence[int]
) -> tuple[keras.Model, list[Score]]:
    """Train `recipe` on every split; return the first split's model and all scores."""
    first = None
    scores = []
    for count, seed in enumerate(seeds, start=1):
        model, score = train(recipe, x, y, seed)
        first = first or model
        scores.append(score)
        if sys.stderr.isatty():
            print(f"\r{recipe.name}: {count} of {len(seeds)} splits ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    assert first is not None, "argparse lets no empty list of splits through"
    return first, scores


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """Mean, sample standard deviation, minimum and maximum of the test accuracies."""
    test = np.array([score.test for score in scores])
    return {
        "mean": float(test.mean()),
        "sd": float(test.std(ddof=1)) if len(test) > 1 else 0.0,
        "min": float(test.min()),
        "max": float(test.max()),
        "train_mean": float(np.mean([score.train for score in scores])),
    }


def print_table(results: Sequence[tuple[str, dict[str, float]]]) -> None:
    """Print one line per network: name and the five numbers of `summary`, in per cent."""
    print(f"  {'network':<24}{'test mean':>10}{'sd':>7}{'min':>8}{'max':>8}{'train':>8}")
    for name, s in results:
        numbers = (s["mean"], s["sd"], s["min"], s["max"], s["train_mean"])
        widths = (10, 7, 8, 8, 8)
        print(f"  {name:<24}" + "".join(f"{100 * n:>{w}.2f}" for n, w in zip(numbers, widths, strict=True)))


def save(model: keras.Model, path: Path, x: np.ndarray) -> None:
    """Save as `.keras`, and make sure that the file gives the same probabilities when read back."""
    model.save(path)
    again = keras.models.load_model(path).predict_on_batch(x)
    if not np.array_equal(again, model.predict_on_batch(x)):
        raise RuntimeError(f"{path.name}: the saved model answers differently from the trained one")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the article's Sonar network and a better one at 60:40 over seeded splits."
    )
    parser.add_argument("data", type=Path, help="the UCI Sonar file: 60 numbers and R or M, no header")
    parser.add_argument("-o", "--output", type=Path, default=Path("sonar.keras"), help="the better network")
    parser.add_argument("--baseline-output", type=Path, help="save the simple network of the first split too")
    parser.add_argument("--report", type=Path, help="write every score, and the machine's context, as JSON")
    parser.add_argument("--splits", type=int, default=20, help="number of seeded splits (default 20)")
    parser.add_argument("--seed", type=int, default=2017, help="seed of the first split (default 2017)")
    parser.add_argument("--epochs", type=int, default=100, help="for both networks (default 100)")
    parser.add_argument(
        "--choose",
        action="store_true",
        help=f"first compare the candidates on {CHOICE_SPLITS} splits that are not reported on",
    )
    args = parser.parse_args(argv)
    if args.splits < 1 or args.epochs < 1 or args.seed < 0:
        parser.error("--splits and --epochs must be at least 1, --seed at least 0")
    if set(CHOICE_SEEDS) & set(range(args.seed, args.seed + args.splits)):
        parser.error(f"splits {CHOICE_SEEDS[0]} to {CHOICE_SEEDS[-1]} were used to choose the network")
    for path in (args.output, args.baseline_output):
        if path is not None and path.suffix != ".keras":
            parser.error(f"{path.name}: a saved network's name must end in .keras")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    try:
        x, y = read_rows(args.data)
    except (OSError, ValueError) as error:
        print(f"train_sonar: {error}", file=sys.stderr)
        return 1

    seeds = range(args.seed, args.seed + args.splits)
    train_rows, test_rows = split_rows(y, seeds[0])
    report: dict[str, Any] = {
        "data": {
            "sha256": hashlib.sha256(args.data.read_bytes()).hexdigest(),
            "rows": len(y),
            "M": int(np.count_nonzero(y == 0)),
            "R": int(np.count_nonzero(y == 1)),
        },
        "split": {"train_rows": len(train_rows), "test_rows": len(test_rows), "seeds": list(seeds)},
        "article": {"accuracy": ARTICLE_ACCURACY, "note": ARTICLE_NOTE},
    }

    if args.choose:
        choice_seeds = CHOICE_SEEDS[:CHOICE_SPLITS]
        chosen = [(r, summary(measure(r, x, y, choice_seeds)[1])) for r in CANDIDATES]
        print(f"Choosing, on the splits {choice_seeds[0]} to {choice_seeds[-1]}:")
        print_table([(recipe.name, numbers) for recipe, numbers in chosen])
        report["choice"] = {
            "seeds": list(choice_seeds),
            "candidates": [{"recipe": asdict(recipe), **numbers} for recipe, numbers in chosen],
        }

    models, results = {}, {}
    for recipe in (SIMPLE, BETTER):
        recipe = Recipe(**{**asdict(recipe), "epochs": args.epochs})
        model, scores = measure(recipe, x, y, seeds)
        models[recipe.name], results[recipe.name] = model, scores
        report[recipe.name] = {
            "recipe": asdict(recipe),
            "parameters": model.count_params(),
            **summary(scores),
            "scores": [asdict(score) for score in scores],
        }

    print(f"{len(seeds)} splits, {len(train_rows)} rows to train, {len(test_rows)} to test, accuracy in %:")
    print_table([(name, summary(scores)) for name, scores in results.items()])
    gain = np.array([b.test - s.test for s, b in zip(results["simple"], results["better"], strict=True)])
    report["gain"] = {
        "mean": float(gain.mean()),
        "better": int((gain > 0).sum()),
        "equal": int((gain == 0).sum()),
    }
    print(
        f"  better - simple: {100 * gain.mean():+.2f} on average; better in {report['gain']['better']} of "
        f"{len(gain)} splits, equal in {report['gain']['equal']}"
    )
    print(f"  article: {100 * ARTICLE_ACCURACY:.2f}")
    print(textwrap.fill(ARTICLE_NOTE, 96, initial_indent="    ", subsequent_indent="    "))

    save(models["better"], args.output, x)
    if args.baseline_output is not None:
        save(models["simple"], args.baseline_output, x)
    kept = results["better"][0]
    report["saved"] = {"better": asdict(kept), "simple": asdict(results["simple"][0])}
    backend = keras.backend.backend()
    threads = int(os.environ["TF_NUM_INTRAOP_THREADS"])
    report["machine"] = {**machine("keras", backend), "backend_threads": threads}
    if args.report is not None:
        args.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(
        f"Saved {args.output.name}: trained on split {kept.seed}, right on {100 * kept.test:.2f} % of its "
        f"{len(test_rows)} test rows and {100 * kept.train:.2f} % of its {len(train_rows)} training rows."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
