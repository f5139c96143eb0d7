"""``convcore bench --compare OLD.json``: a ratio for every case, and 1 where one has become too slow."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convcore.cli.terminal import note, plain, print_table
from convcore.errors import InputError

__all__ = ["compared", "earlier"]


def earlier(path: str) -> dict[str, Any]:
    """Read an earlier result, before anything is measured.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError("bench --compare", f"{path} cannot be read", got=str(error)) from None
    if not isinstance(found, dict) or "machine" not in found:
        raise InputError("bench --compare", f"{path} is no result of convcore bench --json")
    return found


def compared(args: argparse.Namespace, record: Mapping[str, Any]) -> int:
    """Print how the result stands to the earlier one; 1 if something is slower or nothing comparable."""
    from convcore.bench.regression import changes

    found = changes(earlier(args.compare), plain(record))
    for line in found.differ:
        note(f"convcore bench: WARNING: not the same machine as in {args.compare}: {line}")
    if found.differ:
        note("convcore bench: WARNING: no times are compared, only our time over a peer's")
    if args.json != "-":
        rows = [
            (*_named(row.key), row.ours, "-" if row.ratio is None else f"{row.ratio:.2f}",
             row.by or row.reason, "slower" if row.ratio and row.ratio > args.threshold else "")
            for row in found.rows
        ]  # fmt: skip
        head = ("case", "device", "threads", "ours", "now / before", "compared by", "")
        title = f"\nBeside {args.compare}; above {args.threshold:g} is a regression"
        print_table(head, rows, title=title, left=(0, 1, 3, 5, 6))
    slower = found.slower(args.threshold)
    for row in slower:
        note(f"convcore bench: {' '.join(_named(row.key)[:2])}: {row.ratio:.2f} times as slow (by {row.by})")
    if not found.compared:
        note(f"convcore bench: nothing here can be compared with {args.compare}")
    return int(bool(slower) or not found.compared)


def _named(key: tuple[str, int, int, str, str]) -> tuple[str, str, str]:
    case, batch, threads, device, _ = key
    return (case if batch == 1 or ":" in case else f"{case}, batch {batch}"), device, str(threads)
