"""``convcore predict``: pictures, class folders, arrays and tables -> classes, probabilities, accuracy."""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcore.cli import UsageError
from convcore.cli.answers import Answer, Head, answer, as_json, class_indices, confusion, head_of
from convcore.cli.models import add_device_options, add_model_options, open_model
from convcore.cli.preprocessing import add_picture_options, known_preprocessing
from convcore.cli.sources import Options, PictureFiles, Source, open_source
from convcore.cli.terminal import note, plain, print_json, print_table, progress
from convcore.errors import InputError
from convcore.inputs import PREPROCESSING, read_labels
from convcore.writers import write_bytes, write_json, write_npy

if TYPE_CHECKING:
    from convcore.engine import Model

__all__ = ["add_arguments", "run"]

OUTPUT_SUFFIXES = (".csv", ".json", ".npy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a .keras, .h5 or .hdf5 file, or a model's .json")
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="pictures (JPEG, PNG), a folder of pictures or of class folders, .npy arrays, or .csv rows "
        "without a header, whose last column may be a label",
    )
    add_model_options(parser)
    add_device_options(parser)
    parser.add_argument(
        "--top", type=_positive, default=1, metavar="K", help="how many classes to show (default 1)"
    )
    add_picture_options(parser)
    parser.add_argument(
        "--batch-size", type=_positive, default=32, metavar="N", help="examples at a time (default 32)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write to .csv, .json, or .npy (the raw outputs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Predict, print or write the results; 1 if any input failed."""
    target = Path(args.output) if args.output else None
    if target and target.suffix.lower() not in OUTPUT_SUFFIXES:
        raise UsageError(f"-o {target}: the name must end in {', '.join(OUTPUT_SUFFIXES)}")
    # Before the work, and not made by itself: a slip in the path would hide the results.
    if target and not target.parent.is_dir():
        raise UsageError(f"-o {target}: there is no folder {target.parent}")
    if target and target.is_dir():
        raise UsageError(f"-o {target}: is a folder; the results need a file")
    model = open_model(args)
    if target and target.suffix.lower() == ".npy" and len(model.output_shapes) > 1:
        raise UsageError("a .npy file holds one array, and the model has several outputs: use .json")
    head = head_of(model.graph)
    names = read_labels(args.labels) if args.labels else ()
    if names and head.classes and len(names) != head.classes:
        raise InputError(
            args.labels, "names of classes", got=len(names), expected=f"{head.classes}, as the model has"
        )
    mode = args.preprocess or known_preprocessing(model.graph) or ""
    options = Options(mode, args.interpolation or "nearest", args.size)
    source = open_source(args.inputs, model.input_shapes, options)
    if not isinstance(source, PictureFiles):
        for option in ("preprocess", "interpolation", "size"):
            if getattr(args, option) is not None:
                raise UsageError(f"--{option} is for pictures only: rows and arrays are taken as they are")
    if isinstance(source, PictureFiles) and not options.preprocess:
        raise UsageError(
            "the model file does not say what its pictures were scaled to: say --preprocess "
            + ", ".join(PREPROCESSING)
        )
    names = names or _names_from(source, head)
    truths = _truths(source, names, head)
    result = _predict(model, source, args.batch_size)
    report = _Report(source, head, names, truths, result, args.top)
    _deliver(report, args, target, options.preprocess if isinstance(source, PictureFiles) else None)
    for number, error in result.failed:
        note(f"convcore predict: {source.names[number]} was left out: {error}")
    return 1 if result.failed else 0


@dataclass(frozen=True, slots=True)
class _Result:
    """Which examples were run, every output of the model for them, and which failed."""

    numbers: list[int]
    outputs: list[NDArray[np.float32]]
    output_names: tuple[str, ...]
    failed: list[tuple[int, InputError]]


def _predict(model: Model, source: Source, batch_size: int) -> _Result:
    numbers: list[int] = []
    parts: list[list[NDArray[np.float32]]] = []
    failed: list[tuple[int, InputError]] = []
    total = -(-len(source.names) // batch_size)
    for batch in progress(source.batches(batch_size), total, "predict"):
        failed += batch.failed
        if batch.numbers:
            found = model.predict(
                batch.arrays if len(batch.arrays) > 1 else batch.arrays[0], batch_size=batch_size
            )
            found = list(found.values()) if isinstance(found, dict) else found
            parts.append(found if isinstance(found, list) else [found])
            numbers += batch.numbers
    outputs = [np.concatenate(p) for p in zip(*parts, strict=True)]
    return _Result(numbers, outputs, tuple(model.output_names), failed)


@dataclass(frozen=True, slots=True)
class _Report:
    """Everything that is printed or written, in one place."""

    source: Source
    head: Head
    names: Sequence[str]
    truths: list[int] | None
    result: _Result
    top: int

    def answers(self) -> list[list[Answer]]:
        """The best classes of each example; empty where the model gives no classes."""
        if not self.head.classes or not self.result.outputs:
            return []
        top = min(self.top, self.head.classes)
        return [answer(self.head, row, top) for row in self.result.outputs[0]]

    def label(self, index: int) -> str:
        return self.names[index] if self.names else str(index)

    def accuracy(self) -> tuple[int, int, NDArray[np.int64]] | None:
        """Right answers, examples, confusion matrix; None without truths."""
        if self.truths is None or not self.result.numbers:
            return None
        found = [a[0].index for a in self.answers()]
        table = confusion([self.truths[n] for n in self.result.numbers], found, self.head.classes)
        return int(np.trace(table)), int(table.sum()), table


def _deliver(report: _Report, args: argparse.Namespace, target: Path | None, mode: str | None) -> None:
    if target:
        suffix = target.suffix.lower()
        if suffix == ".npy":
            if report.result.outputs:
                write_npy(target, report.result.outputs[0])
        elif suffix == ".json":
            write_json(target, plain(_as_record(report, args, mode)))
        else:
            write_bytes(target, _as_csv(report).encode())
    if args.json:
        print_json(_as_record(report, args, mode))
        return
    if not target:
        _print_rows(report)
    _print_accuracy(report)


# ---------------------------------------------------------------------------------- what it knows


def _names_from(source: Source, head: Head) -> tuple[str, ...]:
    """Class names from class folders or a label column, sorted; empty if they do not add up."""
    if source.classes and head.classes and len(source.classes) != head.classes:
        raise InputError(
            "INPUT",
            "the class folders do not fit the model",
            got=f"{len(source.classes)} folders",
            expected=f"{head.classes} classes",
            remedy="Name the model's classes with --labels.",
        )
    if source.classes:
        return source.classes
    texts = tuple(sorted(set(source.labels or ())))
    numbers = tuple(map(str, range(head.classes)))
    if texts and set(texts) <= set(numbers):
        # Class numbers stand for themselves, also where the file lacks some of them.
        return numbers
    if texts and len(texts) != head.classes and head.classes:
        note(
            f"convcore predict: the labels {', '.join(texts[:5])} are not the model's {head.classes} "
            "classes, so they cannot be numbered; name the classes with --labels to get an accuracy"
        )
    return texts if len(texts) == head.classes else ()


def _truths(source: Source, names: Sequence[str], head: Head) -> list[int] | None:
    if source.labels is None or not names or not head.classes:
        return None
    return class_indices(source.labels, names, "INPUT")


# ---------------------------------------------------------------------------------- printing


def _print_rows(report: _Report) -> None:
    result, answers, truths = report.result, report.answers(), report.truths
    names = [report.source.names[n] for n in result.numbers]
    if answers:
        number = "probability" if report.head.gives_probabilities else "score"
        rows = []
        for row, found in enumerate(answers):
            for rank, a in enumerate(found):
                cells: list[object] = [
                    names[row] if rank == 0 else None,
                    report.label(a.index),
                    f"{a.value:.4f}",
                ]
                if truths is not None:
                    truth = truths[result.numbers[row]]
                    wrong = rank == 0 and truth != found[0].index
                    cells += [report.label(truth) if rank == 0 else None, "wrong" if wrong else None]
                rows.append(cells)
        print_table(
            ["input", "class", number, *(["truth", ""] if truths is not None else [])],
            rows,
            left=(0, 1, 3, 4),
        )
    elif report.head.kind == "value" and result.outputs:
        values = result.outputs[0].reshape(len(names), -1)[:, 0]
        print_table(["input", "value"], [[n, f"{v:.6g}"] for n, v in zip(names, values, strict=True)])
    elif result.outputs:
        rows = [
            [name, output if len(result.outputs) > 1 else None, "x".join(map(str, o.shape[1:])) or "1",
             f"{o[row].min():.6g}", f"{o[row].max():.6g}", f"{o[row].mean():.6g}"]
            for row, name in enumerate(names)
            for output, o in zip(result.output_names, result.outputs, strict=True)
        ]  # fmt: skip
        print_table(["input", "output", "shape", "min", "max", "mean"], rows)


def _print_accuracy(report: _Report) -> None:
    measured = report.accuracy()
    if measured is None:
        return
    right, total, table = measured
    print(f"\naccuracy {right / total:.4f} ({right} of {total})")
    # A matrix of a thousand classes is for the JSON, not for reading.
    if len(table) <= 20:
        header = ["true \\ answered", *(report.label(i) for i in range(len(table)))]
        print_table(header, [[report.label(i), *row] for i, row in enumerate(table.tolist())])


def _as_record(report: _Report, args: argparse.Namespace, mode: str | None) -> dict[str, Any]:
    result, answers = report.result, report.answers()
    rows = []
    for row, number in enumerate(result.numbers):
        entry: dict[str, Any] = {"input": report.source.names[number]}
        if answers:
            entry |= as_json(answers[row][:1], report.names, report.head)[0]
            if len(answers[row]) > 1:
                entry["top"] = as_json(answers[row], report.names, report.head)
        if report.truths is not None:
            entry["truth"] = report.truths[number]
        entry["outputs"] = [o[row] for o in result.outputs]
        rows.append(entry)
    record: dict[str, Any] = {"model": str(args.model), "preprocess": mode, "results": rows}
    record["output_names"] = list(result.output_names)
    measured = report.accuracy()
    if measured:
        right, total, table = measured
        record |= {"accuracy": right / total, "right": right, "total": total, "classes": list(report.names)}
        record["confusion"] = table
    record["failed"] = [{"input": report.source.names[n], "error": str(e)} for n, e in result.failed]
    return record


def _as_csv(report: _Report) -> str:
    result, answers = report.result, report.answers()
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    number = "probability" if report.head.gives_probabilities else "score"
    if answers:
        top = len(answers[0])
        suffixes = ["", *(f"_{k + 1}" for k in range(1, top))]
        truth = ["truth"] if report.truths is not None else []
        writer.writerow(["input", *truth, *(f"{word}{s}" for s in suffixes for word in ("class", number))])
        for row, n in enumerate(result.numbers):
            true = [report.label(report.truths[n])] if report.truths is not None else []
            found = [cell for a in answers[row] for cell in (report.label(a.index), repr(a.value))]
            writer.writerow([report.source.names[n], *true, *found])
        return stream.getvalue()
    if sum(o[0].size for o in result.outputs) > 10_000:
        raise UsageError("the model's output is too large for a .csv file: write a .npy or .json file")
    writer.writerow(
        [
            "input",
            *(
                f"{k}_{i}"
                for k, o in zip(result.output_names, result.outputs, strict=True)
                for i in range(o[0].size)
            ),
        ]
    )
    for row, n in enumerate(result.numbers):
        writer.writerow(
            [report.source.names[n], *(repr(float(v)) for o in result.outputs for v in o[row].ravel())]
        )
    return stream.getvalue()


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
