"""``convcore bench --device cuda``: the GPU's ceilings, VGG16 or kernels on it, and PyTorch beside them."""

from __future__ import annotations

import argparse
import fnmatch
from pathlib import Path

from convcore.cli import UsageError
from convcore.cli.terminal import note, plain, print_json

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Measure; 1 if a part could not be."""
    from convcore.bench.gpu import record as measuring
    from convcore.bench.gpu.table import printed

    parts = _parts(args)
    path = None if args.json in (None, "-") else Path(args.json)
    what = measuring.Run(parts, args.rounds, peers=_peers(args), path=path)
    record = measuring.run(what, note)
    if args.json == "-":
        print_json(plain(record))
    else:
        print(printed(record))
    return int(any(record["parts"][name]["status"] != "measured" for name in parts))


def _parts(args: argparse.Namespace) -> list[str]:
    """The parts that the call names; the ceilings are always among them."""
    from convcore.bench.gpu.parts import MEASURED

    if args.what == "model":
        raise UsageError("--device cuda measures VGG16 and the kernels; a model file is measured on the CPU")
    for name in ("threads", "isa", "plot", "compare"):
        if getattr(args, name):
            raise UsageError(f"--{name} is for the CPU: --device cuda knows it not")
    if args.batch != (1,):
        raise UsageError("--batch is for the CPU: --device cuda measures batches of 1 and 32")
    if args.only and args.what != "kernels":
        raise UsageError("--only chooses among `kernels`")
    network = args.what == "vgg16"
    there = [name for name in MEASURED if name != "ceilings" and name.startswith("vgg16") == network]
    for pattern in args.only:
        if not fnmatch.filter(there, pattern):
            raise UsageError(f"--only {pattern} matches none of {', '.join(there)}")
    chosen = [name for name in there if not args.only or any(fnmatch.fnmatch(name, p) for p in args.only)]
    return ["ceilings", *chosen]


def _peers(args: argparse.Namespace) -> bool:
    names = set(args.peers.split(","))
    if not names <= {"all", "none", "torch"}:
        raise UsageError("--peers on a GPU knows torch alone")
    return names != {"none"}
