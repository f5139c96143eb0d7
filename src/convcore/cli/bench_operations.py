"""``convcore bench kernels --op ...``: single operations by problem strings, CPU and GPU in one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convcore import _native
from convcore.cli import UsageError
from convcore.cli.bench_compare import compared
from convcore.cli.terminal import note, plain, print_json, print_table, progress
from convcore.errors import ArgumentError

if TYPE_CHECKING:
    from convcore.bench.kernels import Result

__all__ = ["run"]


def run(args: argparse.Namespace, peers: Sequence[str], packages: Sequence[str]) -> int:
    """Measure; 1 if something that was asked for could not be, or has become slower."""
    from convcore.bench.kernels import as_record, chosen_cases, measured, no_gpu
    from convcore.writers import write_json

    _check(args)
    try:
        names = chosen_cases(args.op or ("all",), args.shape, args.sweep)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    missing = no_gpu() if "cuda" in args.device else ""
    if missing:
        goes_on = "cpu" in args.device
        note(f"convcore bench: {missing}{' What runs on the CPU is measured.' if goes_on else ''}")
        if not goes_on:
            return 1
    quiet = args.json == "-"
    results: list[Result] = []
    for threads in args.threads or (_native.get_num_threads(),):
        for name in progress(names, len(names), f"operations, {threads} thread(s)"):
            results += measured(
                [name], devices=args.device, peers=peers, threads=threads, rounds=args.rounds, isas=args.isa
            )
    record = as_record(results, packages)
    if quiet:
        print_json(record)
    else:
        _print(results)
        if args.json:
            write_json(args.json, plain(record))
    if args.plot:
        from convcore.bench.plots import write_plots

        for path in write_plots(args.plot, results, f"float32 on {record['machine']['cpu']}"):
            note(f"convcore bench: drew {path}")
    code = _told(args, results) or int(bool(missing))
    return compared(args, record) or code if args.compare else code


def _check(args: argparse.Namespace) -> None:
    if args.only:
        raise UsageError("--only chooses among named layers, --op among operations: say one of them")
    if args.batch != (1,):
        raise UsageError("--batch is for networks: a problem string says its own, mb8")
    if args.shape and (len(args.op) != 1 or args.op[0] in ("all", "article")):
        raise UsageError("--shape is for one operation: --op conv2d --shape mb1ic64ih56oc128oh56kh3ph1")


def _print(results: Sequence[Result]) -> None:
    """One row for a case on a device: ours and everyone else's milliseconds, and what ours mean."""
    others = list(
        dict.fromkeys(n for r in results for n, m in r.comparison.peers.items() if n != r.ours and m.ms)
    )
    head = ("operation", "device", "threads", "convcore", "p90", *others, "of the fastest", "GFLOP/s", "GB/s",
            "of roofline", "max error")  # fmt: skip
    rows: list[list[str | None]] = []
    for r in results:
        c, mine = r.comparison, r.mine
        rates, ratio = r.rates(mine), c.ratio
        peers = [c.peers[name].median if name in c.peers else None for name in others]
        threads = str(c.threads) if r.device == "cpu" else ""
        rows.append([
            c.case, r.device, threads, _ms(mine.median) or "not measured", _ms(mine.p90), *map(_ms, peers),
            None if ratio is None else f"{ratio:.2f}",
            _number(rates["gflops"], ".1f"), _number(rates["gbytes"], ".1f"),
            None if (share := rates["fraction_of_roofline"]) is None else f"{100 * share:.0f} %",
            _number(mine.error, ".1e"),
        ])  # fmt: skip
    print_table(head, rows, title="Milliseconds in turn, medians of rounds", left=(0, 1))


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else f"{value:{form}}"


def _ms(value: float | None) -> str | None:
    """Three digits or more: microseconds count where a call is all there is."""
    return None if value is None else f"{value:.4f}" if value < 1 else f"{value:.3f}"


def _told(args: argparse.Namespace, results: Sequence[Result]) -> int:
    """Name on stderr everyone that was not timed; 1 if one of them was asked for by name, or is ours.

    A peer that lacks an operation is no failure, unless it lacks all that were asked for.
    """
    from convcore.bench.kernels import NOT_MEASURED

    lines, ours = set(), False
    seen: set[str] = set()
    served: set[str] = set()
    for r in results:
        for name, m in r.comparison.peers.items():
            seen.add(name)
            if m.status == "timed":
                served.add(name)
            elif m.status != NOT_MEASURED:
                mine = name.partition(" ")[0] == "convcore"
                ours |= mine
                if mine or m.status != "unsupported":
                    where = f"{r.comparison.case}: {name} on {r.device}"
                    lines.add(f"convcore bench: {where} {m.status}: {m.reason}")
    named = args.peers not in ("all", "none")
    if named:
        without = {name for name in seen - served if name.partition(" ")[0] != "convcore"}
        lines |= {f"convcore bench: {name} was not timed at all" for name in without}
    for line in sorted(lines):
        note(line)
    return int(ours or (named and bool(lines)))
