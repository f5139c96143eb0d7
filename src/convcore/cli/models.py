"""The arguments that say how every command reads a model file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convcore.engine import Model

__all__ = ["add_device_options", "add_model_options", "kernel_flip", "open_model"]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say how a model file is to be read."""
    parser.add_argument(
        "--weights", metavar="FILE", help="weights, where the model file holds the architecture alone"
    )
    parser.add_argument(
        "--kernel-flip",
        choices=["yes", "no"],
        help="for files of the Theano era that do not name their backend: turn convolution kernels, or not",
    )
    parser.add_argument(
        "--cache", metavar="DIR", help="keep packed weights there: the next start is several times faster"
    )
    parser.add_argument(
        "--verify-cache",
        action="store_true",
        help="check every number of packed weights, not the header only",
    )


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say what computes."""
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="what computes: the CPU (default), or an NVIDIA GPU",
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "tf32", "bfloat16"],
        default="float32",
        help="what products are computed in (default float32; the others on a GPU, faster and less exact)",
    )


def open_model(args: argparse.Namespace) -> Model:
    """Load ``args.model`` with the options of :func:`add_model_options` and :func:`add_device_options`."""
    from convcore.engine import load_model

    return load_model(
        args.model,
        device=args.device,
        precision=args.precision,
        weights=args.weights,
        kernel_flip=kernel_flip(args),
        cache=args.cache,
        verify_cache=args.verify_cache,
    )


def kernel_flip(args: argparse.Namespace) -> bool | None:
    """Return what ``--kernel-flip`` said: True, False, or None for nothing."""
    return None if args.kernel_flip is None else bool(args.kernel_flip == "yes")
