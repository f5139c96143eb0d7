"""All that is to be measured on an NVIDIA GPU in one command: the tests there, then numbers beside PyTorch.

    python benchmarks/gpu.py                                    # everything, to benchmarks/results/gpu.json
    python benchmarks/gpu.py --budget 580                       # what fits into so many seconds
    python benchmarks/gpu.py --only layers_tf32,memory --keep   # more parts for the same file
    python benchmarks/gpu.py --only memcheck,racecheck --keep   # the tests under compute-sanitizer
    python benchmarks/gpu.py --make-cubins FOLDER --arch sm_90  # kernels for where none can be compiled
    CONVCORE_CUBINS=FOLDER python benchmarks/gpu.py             # ... and how they are used there

Versions, driver and GPU are looked at first; what is missing is said in a sentence. Where nothing can be
measured the exit code is 1, and `--record-unmeasured` writes a file that says so. ``docs/gpu.md`` says what
is measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from convcore.bench.gpu import making
from convcore.bench.gpu.record import NOT_YET, PARTS, SANITIZERS, Run, UnmeasuredError, run, unmeasured
from convcore.bench.gpu.table import printed
from convcore.errors import ConvcoreError
from convcore.writers import write_json

ROOT = Path(__file__).resolve().parents[1]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default=",".join(PARTS), metavar="PART[,PART]", help=", ".join((*PARTS, *SANITIZERS))
    )
    parser.add_argument("--skip-tests", action="store_true")
    parser.add_argument("--no-peers", action="store_true", help="do not measure PyTorch beside")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="for everything; by default no limit")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.json")
    parser.add_argument(
        "--keep", action="store_true", help="keep what the file has of parts not measured now"
    )
    parser.add_argument("--record-unmeasured", action="store_true", help="where there is no GPU, write that")
    parser.add_argument("--make-cubins", type=Path, metavar="FOLDER", help="compile all kernels, and no more")
    parser.add_argument("--arch", default="sm_90", help="with --make-cubins: for which GPUs")
    parser.add_argument("--jobs", type=int, help="with --make-cubins: processes")
    options = parser.parse_args(argv)
    parts = [name for name in options.only.split(",") if name]
    unknown = sorted({*parts} - {*PARTS, *SANITIZERS})
    if unknown:
        parser.error(f"{', '.join(unknown)} is not among {', '.join((*PARTS, *SANITIZERS))}")
    if options.skip_tests:
        parts = [name for name in parts if name != "tests"]
    try:
        if options.make_cubins:
            making.capability_of(options.arch)
            for line in making.make_apart(options.make_cubins, options.arch, parts, options.jobs):
                say(line)
            return 0
        what = Run(
            parts,
            options.rounds,
            options.budget,
            not options.no_peers,
            ROOT / "tests",
            options.json,
            options.keep,
        )
        record = run(what, say)
    except UnmeasuredError as error:
        say(f"{NOT_YET}: {' '.join(error.sentences)}")
        if options.record_unmeasured:
            write_json(options.json, unmeasured(error.found, error.sentences))
        return 1
    except ConvcoreError as error:
        say(str(error))
        return 1
    print(printed(record))
    return int(any(record["parts"][name]["status"] not in ("measured", "passed") for name in parts))


if __name__ == "__main__":
    sys.exit(main())
