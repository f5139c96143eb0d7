"""``convcore verify``: every layer of a model against the reference, its outputs against Keras."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

from convcore.cli import UsageError
from convcore.cli.models import add_device_options, add_model_options, open_model
from convcore.cli.terminal import print_json
from convcore.inputs import fit_shape, read_array

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a .keras, .h5 or .hdf5 file, or a model's .json")
    add_model_options(parser)
    add_device_options(parser)
    parser.add_argument(
        "--input",
        metavar="FILE.npy",
        action="append",
        help="what to run it on, one file for each input; by default seeded random numbers",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the comparison; 1 if an error is larger than its bound."""
    model = open_model(args)
    x = None
    if args.input:
        if len(args.input) != len(model.input_shapes):
            raise UsageError(
                f"the model has {len(model.input_shapes)} inputs: name one --input for each, in order"
            )
        x = [fit_shape(read_array(p), s, p) for p, s in zip(args.input, model.input_shapes, strict=True)]
    with _without_tensorflows_log():
        verification = model.verify(x)
    if args.json:
        print_json({"model": args.model, **verification.as_dict()})
    else:
        print(verification)
    return 0 if verification.ok else 1


@contextlib.contextmanager
def _without_tensorflows_log() -> Iterator[None]:
    """Keep what TensorFlow's C++ greets with off stderr, unless ``TF_CPP_MIN_LOG_LEVEL`` asks for it.

    Up to 2.21 at least it heeds that level only once it is set up, after the greeting: so descriptor 2
    goes nowhere meanwhile. Python's exceptions are told later, by the command.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
