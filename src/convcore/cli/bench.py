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
    from convcore.run.profile import Profile

__all__ = ["add_arguments", "run"]


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(word) for word in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 1,2")
    return counts


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(",")))


def _devices(text: str) -> tuple[str, ...]:
    devices = _names(text)
    if not set(devices) <= {"cpu", "cuda"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not cpu, cuda or cpu,cuda")
    return devices


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 1 < factor < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 1")
    return factor


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
    parser.add_argument(
        "--device",
        type=_devices,
        default=("cpu",),
        metavar="cpu|cuda|cpu,cuda",
        help="measure the CPU (the default), an NVIDIA GPU, or with `kernels` both in one table",
    )
    parser.add_argument(
        "--op",
        type=_names,
        default=(),
        metavar="NAME[,NAME]",
        help="with `kernels`: operations, such as conv2d or softmax; `all`; or `article`, the three "
        "workloads of the Theano figure",
    )
    parser.add_argument(
        "--shape",
        type=_names,
        default=(),
        metavar="PROBLEM[,PROBLEM]",
        help="with --op: problem strings, such as mb1ic64ih56oc128oh56kh3ph1 or 4096x1000",
    )
    parser.add_argument("--sweep", action="store_true", help="with --op: each problem at several sizes")
    add_model_options(parser)
    parser.add_argument("--threads", type=_counts, metavar="N[,N]", help="by default all")
    parser.add_argument("--batch", type=_counts, default=(1,), metavar="N[,N]", help="images in a call")
    parser.add_argument(
        "--isa",
        type=_names,
        default=(),
        metavar="NAME[,NAME]",
        help="instruction sets: scalar, sse2, avx2, avx512; several are measured in turn",
    )
    parser.add_argument(
        "--peers",
        default="none",
        metavar="A,B|all|none",
        help="other libraries to measure beside, if installed",
    )
    parser.add_argument(
        "--only",
        type=_names,
        default=(),
        metavar="PATTERN[,PATTERN]",
        help="with `kernels`: names or groups, such as 'conv3x3_*' or 'memory,dense'; with --device cuda "
        "parts, such as 'layers_*' or memory",
    )
    parser.add_argument("--rounds", type=_count, default=10, metavar="N", help="rounds of timing")
    parser.add_argument(
        "--json", metavar="FILE", help="write everything, with the machine's context; - is stdout"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="draw the peers as bars; with --op time by size, the roofline, and CPU beside GPU",
    )
    parser.add_argument(
        "--compare",
        metavar="OLD.json",
        help="compare with an earlier result; 1 if something has become slower",
    )
    parser.add_argument(
        "--threshold",
        type=_factor,
        default=1.25,
        metavar="X",
        help="with --compare: what takes more than X times as long is a regression (1.25)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure; 1 if a peer that was asked for by name could not be."""
    operations = bool(args.op) or len(args.device) > 1
    if operations and args.what != "kernels":
        raise UsageError("--op, and --device cpu,cuda, are for `kernels`")
    if (args.shape or args.sweep) and not args.op:
        raise UsageError("--shape and --sweep are for an operation: --op conv2d")
    if args.compare:
        from convcore.cli.bench_compare import earlier

        earlier(args.compare)  # what cannot be read is said before anything is measured
    if args.device == ("cuda",) and not operations:
        from convcore.cli import bench_gpu

        return bench_gpu.run(args)
    from convcore.bench import machine
    from convcore.writers import write_json

    peers = _peers(args)
    if operations:
        from convcore.cli import bench_operations

        return bench_operations.run(args, peers, _packages(peers))
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
            for isa in args.isa or (_native.default_isa(),):
                _roofline(isa, threads, record, quiet)
            for batch in args.batch:
                _workloads(args, threads, batch, peers, record, found, quiet)
    if args.json and not quiet:
        write_json(args.json, plain(record))
    if quiet:
        print_json(record)
    if args.plot:
        from convcore.bench.chart import write_chart

        write_chart(args.plot, found, f"float32 on {record['machine']['cpu']}")
    code = _told(args, found)
    if args.compare:
        from convcore.cli.bench_compare import compared

        code = compared(args, record) or code
    return code


# ------------------------------------------------------------------------------------------- the call


def _peers(args: argparse.Namespace) -> tuple[str, ...]:
    from convcore.bench import OWN, PEERS, installed
    from convcore.bench.peers import ALIASES

    if args.peers == "none":
        return ()
    if args.peers == "all":
        return tuple(name for name in installed() if name == "convcore" or name not in OWN)
    asked = [name for word in args.peers.split(",") for name in ALIASES.get(word, (word,))]
    names = tuple(dict.fromkeys(["convcore", *asked]))
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
    if args.what == "kernels":
        _chosen(args)


def _chosen(args: argparse.Namespace) -> list[str]:
    """The kernels that --only names, in the order of the cases."""
    from convcore.bench import CASES

    if not args.only:
        return [name for name, case in CASES.items() if case.group != "network"]
    chosen: set[str] = set()
    for pattern in args.only:
        found = {n for n, case in CASES.items() if any(fnmatch.fnmatch(s, pattern) for s in (n, case.group))}
        if not found:
            raise UsageError(f"--only {pattern} matches none of {', '.join(CASES)}")
        chosen |= found
    return [name for name in CASES if name in chosen]


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


def _roofline(isa: str, threads: int, record: dict[str, Any], quiet: bool) -> None:
    from convcore.bench import roofline

    peaks = roofline(isa, threads)
    record["rooflines"].append(peaks.as_dict())
    if quiet:
        return
    head = ("multiply-adds, GFLOP/s", "read, GB/s", "write, GB/s", "copy, GB/s")
    row = (f"{peaks.flops / 1e9:.1f}", *(f"{b / 1e9:.1f}" for b in (peaks.read, peaks.write, peaks.copy)))
    print_table(head, [row], title=f"Roofline of {threads} thread(s), {peaks.isa}", left=())


def _workloads(
    args: argparse.Namespace,
    threads: int,
    batch: int,
    peers: Sequence[str],
    record: dict[str, Any],
    found: list[Comparison],
    quiet: bool,
) -> None:
    """Profile every workload, compare it with the peers, and print both."""
    from convcore.bench import CASES, MEMORY_BOUND, compare

    kernels = args.what == "kernels"
    names = _chosen(args) if kernels else [args.model or "vgg16"]
    profiles: list[tuple[str, Profile]] = []
    comparisons: list[Comparison] = []
    for name in progress(names, len(names), f"{args.what}, batch {batch}, {threads} thread(s)"):
        planned = name not in CASES or CASES[name].planned
        for isa in args.isa or (None,) if planned else ():
            profile = _profile(args, name, batch, isa)
            profiles.append((name, profile))
            record["profiles"].append({"case" if kernels else "network": name, **profile.as_dict()})
        if peers or not planned:
            roofline = kernels and CASES[name].group in MEMORY_BOUND
            beside = [*(peers or ("convcore",)), *(["roofline"] if roofline else [])]
            comparisons.append(
                compare(name, peers=beside, batch=batch, threads=threads, rounds=args.rounds, isas=args.isa)
            )
            record["peers"].append(comparisons[-1].as_dict())
    found += comparisons
    if quiet:
        return
    if kernels and profiles:
        _print_kernels(profiles, f"\nKernels, batch {batch}, {threads} thread(s)")
    for name, profile in () if kernels else profiles:
        head, rows = profile.rows()
        title = f"\n{'VGG16' if name == 'vgg16' else name}, batch {batch}, {profile.peaks.isa}"
        print_table(head, rows, title=title, left=profile.LEFT)
        print(profile.summary())
    if comparisons:
        _print_comparisons(comparisons, f"\nMilliseconds in turn, batch {batch}, {threads} thread(s)")


def _profile(args: argparse.Namespace, name: str, batch: int, isa: str | None) -> Profile:
    from convcore.bench import profile_case, profile_graph
    from convcore.loader import load_graph

    if args.what != "model":
        return profile_case(name, batch=batch, isa=isa, repeats=args.rounds)
    graph = load_graph(args.model, weights=args.weights, kernel_flip=kernel_flip(args))
    return profile_graph(graph, batch=batch, isa=isa, repeats=args.rounds)


def _print_kernels(profiles: Sequence[tuple[str, Profile]], title: str) -> None:
    rows = [
        (
            name,
            " + ".join(s.algorithm for s in profile.steps),
            profile.peaks.isa,
            f"{profile.ms:.3f}",
            f"{sum(s.flops for s in profile.steps) / max(profile.ms, 1e-9) / 1e6:.1f}",
            f"{100 * profile.least_ms / max(profile.ms, 1e-9):.0f} %",
        )
        for name, profile in profiles
    ]
    head = ("kernel", "algorithm", "set", "ms", "GFLOP/s", "of roofline")
    print_table(head, rows, title=title, left=(0, 1, 2))


def _print_comparisons(comparisons: Sequence[Comparison], title: str) -> None:
    """One row a workload, one column a library, and how the first of ours stands to the fastest other."""
    names = list(dict.fromkeys(name for c in comparisons for name, m in c.peers.items() if m.ms))
    rows: list[list[str | None]] = []
    for c in comparisons:
        medians = [c.peers[name].median if name in c.peers else None for name in names]
        row = [None if ms is None else f"{ms:.3f}" for ms in medians]
        ratio, share = c.ratio, c.share_of_roofline
        row += [None if ratio is None else f"{ratio:.2f}", None if share is None else f"{100 * share:.0f} %"]
        rows.append([c.case, *row])
    print_table(["workload", *names, "of the fastest", "of bandwidth"], rows, title=title)
    for c in comparisons:
        for name in c.ours[1:]:
            ratio, beside = c.ratio_of(name, c.ours[0]), c.ratio_of(name, c.fastest)
            if ratio is not None:
                theirs = "" if beside is None else f", {beside:.2f} of {c.fastest}'s"
                print(f"{c.case}: {name} takes {ratio:.2f} of the time of {c.ours[0]}{theirs}")
