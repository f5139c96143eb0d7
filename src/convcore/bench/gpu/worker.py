"""Measures one part in a process of its own, so that a crash, or a context that is lost, takes no other down.

    python -m convcore.bench.gpu.worker PART --out FILE --rounds 20 [--no-peers]

The folder of kernels is what ``CONVCORE_CUBINS`` names. FILE is written anew after every workload.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from convcore import machine_code
from convcore.bench.gpu.parts import MEASURED, Setting, measure
from convcore.errors import DeviceError, printable
from convcore.writers import write_json

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and return 0 if the part was measured whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=MEASURED)
    parser.add_argument("--out", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args(argv)
    last: dict[str, Any] = {}

    def say(record: dict[str, Any]) -> None:
        last.update(record)
        write_json(options.out, {**record, "status": "not finished"})

    try:
        folder = machine_code.named()
        if folder is None:
            raise DeviceError("worker", f"{machine_code.VARIABLE} names no folder of kernels")
        record = measure(options.part, Setting(options.rounds, folder, not options.no_peers), say)
    except Exception as error:
        reason = printable(f"{type(error).__name__}: {error}", 500)
        write_json(options.out, {**last, "status": "failed", "reason": reason})
        return 1
    bad = [w for w in record.get("workloads", ()) if w["status"] != "measured"]
    status = "measured" if not bad else "partly measured"
    reason = "" if not bad else f"{len(bad)} of {len(record['workloads'])} workloads failed"
    write_json(options.out, {**record, "status": status, "reason": reason})
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
