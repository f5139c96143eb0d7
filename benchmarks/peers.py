"""The results that the documents quote: VGG16 and the named layers beside every peer that is installed.

    pip install ".[bench-peers]"
    python benchmarks/peers.py [NAME...] [--rounds 20] [--isa avx2] [--results benchmarks/results]

Writes NAME_peers.json and NAME_peers.png for each, 1 thread and all (VGG16: batch 1 and 8). It is
``convcore bench`` with the right words; use that for anything else. Making VGG16 in every library takes
minutes, and up to 15 GB of memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from convcore import _native
from convcore.bench import GROUPS
from convcore.cli import main as convcore

#: What is measured, by the name of its files.
CALLS = {
    "vgg16": ["vgg16", "--batch", "1,8"],
    **{group.replace(" ", "_"): ["kernels", "--only", group] for group in GROUPS if group != "network"},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=[*CALLS], metavar="NAME", help=", ".join(CALLS))
    parser.add_argument("--rounds", default="20")
    parser.add_argument("--isa")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    unknown = sorted({*options.names} - {*CALLS})
    if unknown:
        parser.error(f"{unknown} is not among {', '.join(CALLS)}")
    threads = ",".join(map(str, sorted({1, _native.get_num_threads()})))
    shared = ["--threads", threads, "--peers", "all", "--rounds", options.rounds]
    shared += ["--isa", options.isa] if options.isa else []
    code = 0
    for name in options.names:
        target = options.results / f"{name}_peers{f'_{options.isa}' if options.isa else ''}"
        files = ["--json", f"{target}.json", "--plot", f"{target}.png"]
        code |= convcore(["bench", *CALLS[name], *shared, *files])
    return code


if __name__ == "__main__":
    sys.exit(main())
