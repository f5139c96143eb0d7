"""The results that the documents quote: VGG16 and the named layers beside the peers that are installed.

    pip install ".[bench-peers]"
    python benchmarks/peers.py [NAME...] [--rounds 20] [--results benchmarks/results]

Writes NAME.json and NAME.png for each (of operations NAME-roofline.png and its like), 1 thread and all. It is
``convcore bench`` with the right words; use that for anything else. Making VGG16 in every library takes
minutes, and up to 15 GB of memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from convcore import _native
from convcore.bench import GROUPS, MEMORY_BOUND, installed
from convcore.bench.cases import ARTICLE
from convcore.cli import main as convcore

#: Whom operations are measured beside that every library has; the others take minutes to build them.
OPERATIONS = ("tensorflow", "torch", "onnxruntime", "numpy", "pydicom")
#: Whom single operations are measured beside: libraries of arrays, and ours with weights packed beforehand.
ARRAYS = ",".join(
    name
    for name in ("convcore_prepared", "numpy", "scipy_ndimage", "scipy_signal", "opencv", "torch")
    if name in installed()
)
#: All instruction sets that are worth it, the widest first, and the fastest peer beside them.
ISAS = [isa for isa in reversed(_native.isas()) if isa != "scalar"]
NCNN = "ncnn" if "ncnn" in installed() else "none"
ALL = str(_native.get_num_threads())
EACH = ",".join(map(str, sorted({1, _native.get_num_threads()})))
ONE_EACH = ",".join(name for name in OPERATIONS if name in installed())
#: What is measured, by the name of its files.
CALLS = {
    "vgg16_peers": ["vgg16", "--batch", "1,8", "--threads", EACH, "--peers", "all"],
    "vgg16_isa": ["vgg16", "--isa", ",".join(ISAS), "--threads", ALL, "--peers", NCNN],
    **{
        f"{group.replace(' ', '_')}_peers": ["kernels", "--only", group, "--threads", EACH, "--peers", "all"]
        for group in GROUPS
        if group not in ("network", ARTICLE, *MEMORY_BOUND)
    },
    "article": [
        "kernels", "--op", ARTICLE, "--device", "cpu,cuda", "--threads", ALL, "--peers", ARRAYS,
    ],
    "operations": ["kernels", "--op", "all", "--threads", ALL, "--peers", ARRAYS],
    "memory_bound_peers": [
        "kernels", "--only", ",".join(MEMORY_BOUND), "--threads", EACH, "--peers", ONE_EACH,
    ],
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=[*CALLS], metavar="NAME", help=", ".join(CALLS))
    parser.add_argument("--rounds", default="20")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    unknown = sorted({*options.names} - {*CALLS})
    if unknown:
        parser.error(f"{unknown} is not among {', '.join(CALLS)}")
    code = 0
    for name in options.names:
        target = options.results / name
        files = ["--json", f"{target}.json"]
        files += [] if "none" in CALLS[name] else ["--plot", f"{target}.png"]
        code |= convcore(["bench", *CALLS[name], "--rounds", options.rounds, *files])
    return code


if __name__ == "__main__":
    sys.exit(main())
