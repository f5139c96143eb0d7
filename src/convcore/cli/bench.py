"""``convcore bench``: the machine's roofline, a network step by step, kernels, and peers beside them."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from convcore import _native
from convcore.cli import UsageError
from convcore.cli.models import add_model_options, kernel_flip
from convcore.cli.terminal import note, plain, print_json, print_table, progress

if TYPE_CHECKING:
    from convcore.bench import Comparison

__all__ = ["add_arguments", "run"]


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(word) for word in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 1,2")
    return counts


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=["vgg16", "model", "kernels"],
        default="vgg16",
        help="VGG16 with seeded weights (the default), a model file, or the named layers",
    )
    parser.add_argument("model", metavar="FILE", nargs="?", help="with `model`: a .keras, .h5 or .hdf5 file")
    add_model_options(parser)
    parser.add_argument("--threads", type=_counts, metavar="N[,N]", help="by default all")
    parser.add_argument("--batch", type=_counts, default=(1,), metavar="N[,N]", help="images in a call")
    parser.add_argument("--isa", metavar="NAME", help="an instruction set: scalar, sse2, avx2, avx512")
    parser.add_argument(
        "--peers",
        default="none",
        metavar="A,B|all|none",
        help="other libraries to measure beside, if installed",
    )
    parser.add_argument(
        "--only", metavar="PATTERN", help="with `kernels`: names or groups, such as 'conv3x3_*' or 'memory'"
    )
    parser.add_argument("--rounds", type=_count, default=10, metavar="N", help="rounds of timing")
    parser.add_argument(
        "--json", metavar="FILE", help="write everything, with the machine's context; - is stdout"
    )
    parser.add_argument("--plot", metavar="FILE.png", help="draw the peers as bars")


def run(args: argparse.Namespace) -> int:
    """Measure; 1 if a peer that was asked for by name could not be."""
    from convcore.bench import machine
    from convcore.writers import write_json

    peers = _peers(args)
    _check(args, peers)
    quiet = args.json == "-"
    record: dict[str, Any] = {
        "machine": machine(*_packages(peers)),
        "rooflines": [],
        "profiles": [],
        "peers": [],
    }
    found: list[Comparison] = []
    for threads in args.threads or (_native.get_num_threads(),):
        with _threads(threads):
            _roofline(args, threads, record, quiet)
            if args.what == "kernels":
                _kernels(args, threads, peers, record, found, quiet)
            else:
                _network(args, threads, peers, record, found, quiet)
    if args.json and not quiet:
        write_json(args.json, plain(record))
    if quiet:
        print_json(record)
    if args.plot:
        from convcore.bench.chart import write_chart

        write_chart(args.plot, found, f"float32 on {record['machine']['cpu']}")
    return _told(args, found)


# ------------------------------------------------------------------------------------------- the call


def _peers(args: argparse.Namespace) -> tuple[str, ...]:
    from convcore.bench import PEERS, installed

    if args.peers == "none":
        return ()
    if args.peers == "all":
        return tuple(name for name in installed() if name != "convcore_call")
    names = tuple(dict.fromkeys(["convcore", *args.peers.split(",")]))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise UsageError(f"--peers knows no {', '.join(unknown)}; it knows {', '.join(list(PEERS)[1:])}")
    return names


def _check(args: argparse.Namespace, peers: Sequence[str]) -> None:
    if (args.what == "model") != (args.model is not None):
        raise UsageError("`bench model` needs a FILE, and nothing else takes one")
    if args.what == "model" and peers:
        raise UsageError("--peers compares VGG16 and the kernels; a model file is measured alone")
    if args.plot and not peers:
        raise UsageError("--plot draws peers: say --peers all")
    if args.only and args.what != "kernels":
        raise UsageError("--only chooses among `kernels`")
    if args.what == "kernels" and not _chosen(args):
        from convcore.bench import CASES

        raise UsageError(f"--only {args.only} matches none of {', '.join(CASES)}")


def _chosen(args: argparse.Namespace) -> list[str]:
    from convcore.bench import CASES

    if not args.only:
        return [name for name, case in CASES.items() if case.group != "network"]
    return [
        name
        for name, case in CASES.items()
        if fnmatch.fnmatch(name, args.only) or fnmatch.fnmatch(case.group, args.only)
    ]


def _packages(peers: Sequence[str]) -> list[str]:
    from convcore.bench import PEERS

    return list(dict.fromkeys(p for name in peers for p in PEERS[name].packages if p != "convcore"))


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = _native.get_num_threads()
    _native.set_num_threads(threads)
    try:
        yield
    finally:
        _native.set_num_threads(before)


def _told(args: argparse.Namespace, found: Sequence[Comparison]) -> int:
    """Name on stderr every peer that was not timed; 1 if one of them was asked for by name."""
    missing = {
        f"convcore bench: {c.case}: {name} {m.status}: {m.reason}"
        for c in found
        for name, m in c.peers.items()
        if m.status not in ("timed", "unsupported")
    }
    for line in sorted(missing):
        note(line)
    return int(bool(missing) and args.peers != "all")


# ---------------------------------------------------------------------------------------- the measuring


def _roofline(args: argparse.Namespace, threads: int, record: dict[str, Any], quiet: bool) -> None:
    from convcore.bench import roofline

    peaks = roofline(args.isa or _native.default_isa(), threads)
    record["rooflines"].append(peaks.as_dict())
    if quiet:
        return
    head = ("multiply-adds, GFLOP/s", "read, GB/s", "write, GB/s", "copy, GB/s")
    row = (f"{peaks.flops / 1e9:.1f}", *(f"{b / 1e9:.1f}" for b in (peaks.read, peaks.write, peaks.copy)))
    print_table(head, [row], title=f"Roofline of {threads} thread(s), {peaks.isa}", left=())


def _network(
    args: argparse.Namespace,
    threads: int,
    peers: Sequence[str],
    record: dict[str, Any],
    found: list[Comparison],
    quiet: bool,
) -> None:
    from convcore.bench import compare, profile_graph, vgg16
    from convcore.loader import load_graph

    if args.what == "model":
        graph = load_graph(args.model, weights=args.weights, kernel_flip=kernel_flip(args))
    else:
        graph = vgg16()
    for batch in progress(args.batch, len(args.batch), f"{args.model or 'VGG16'}, {threads} thread(s)"):
        profile = profile_graph(graph, batch=batch, isa=args.isa, repeats=args.rounds)
        record["profiles"].append({"network": args.model or "vgg16", **profile.as_dict()})
        if not quiet:
            head, rows = profile.rows()
            print_table(head, rows, title=f"\n{args.model or 'VGG16'}, batch {batch}", left=profile.LEFT)
            print(profile.summary())
        if not peers:
            continue
        comparison = compare(
            "vgg16",
            peers=peers,
            batch=batch,
            threads=threads,
            rounds=args.rounds,
            environment={"CONVCORE_ISA": args.isa} if args.isa else None,
        )
        found.append(comparison)
        record["peers"].append(comparison.as_dict())
        if not quiet:
            _print_peers(comparison)


def _print_peers(comparison: Comparison) -> None:
    rows: list[tuple[str | None, ...]] = []
    for name, m in sorted(comparison.peers.items(), key=lambda item: item[1].median or float("inf")):
        if m.median is None:
            rows.append((name, None, None, None, m.status))
        else:
            rows.append(
                (name, f"{m.median:.3f}", f"{min(m.ms):.3f}", f"{max(m.ms):.3f}", f"{m.difference:.1e}")
            )
    title = f"\n{comparison.case}, batch {comparison.batch}, {comparison.threads} thread(s), in turn"
    print_table(("library", "median, ms", "least", "most", "difference"), rows, title=title)
    if comparison.ratio is not None:
        print(f"convcore takes {comparison.ratio:.2f} of the time of {comparison.fastest}")


def _kernels(
    args: argparse.Namespace,
    threads: int,
    peers: Sequence[str],
    record: dict[str, Any],
    found: list[Comparison],
    quiet: bool,
) -> None:
    from convcore.bench import compare, profile_case

    others = [name for name in peers if name != "convcore"]
    for batch in args.batch:
        rows = []
        names = _chosen(args)
        for name in progress(names, len(names), f"kernels, batch {batch}, {threads} thread(s)"):
            profile = profile_case(name, batch=batch, isa=args.isa, repeats=args.rounds)
            record["profiles"].append({"case": name, **profile.as_dict()})
            flops = sum(s.flops for s in profile.steps)
            row: list[str | None] = [
                name,
                " + ".join(s.algorithm for s in profile.steps),
                f"{profile.ms:.3f}",
                f"{flops / max(profile.ms, 1e-9) / 1e6:.1f}",
                f"{100 * profile.least_ms / max(profile.ms, 1e-9):.0f} %",
            ]
            if peers:
                comparison = compare(
                    name,
                    peers=peers,
                    batch=batch,
                    threads=threads,
                    rounds=args.rounds,
                    environment={"CONVCORE_ISA": args.isa} if args.isa else None,
                )
                found.append(comparison)
                record["peers"].append(comparison.as_dict())
                medians = [comparison.peers[peer].median for peer in ("convcore", *others)]
                row += [None if ms is None else f"{ms:.3f}" for ms in medians]
                row.append(None if comparison.ratio is None else f"{comparison.ratio:.2f}")
            rows.append(row)
        if quiet:
            continue
        head = ["kernel", "algorithm", "ms", "GFLOP/s", "of roofline"]
        if peers:
            head += ["in turn, ms", *others, "of the fastest"]
        print_table(head, rows, title=f"\nKernels, batch {batch}, {threads} thread(s)", left=(0, 1))
