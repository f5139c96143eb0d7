"""One call of a Sonar-sized network (60 - 60 - 30 - 1): what a call costs beside its arithmetic.

    python benchmarks/sonar_call.py [--rounds 30] [-o RESULT.json]

``model(x)`` beside ONNX Runtime's ``session.run`` and the same by hand in NumPy, 1 row and 208, 1 thread and
all, each in a process of its own.
"""

from __future__ import annotations

import argparse
from typing import Any

from convcore import _native
from convcore.bench import compare, installed, machine, median_ratio
from convcore.cli.terminal import note, print_json
from convcore.writers import write_json

OURS = "convcore_call"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    peers = [OURS, "convcore", "numpy", *(["onnxruntime"] if "onnxruntime" in installed() else [])]
    runs: list[dict[str, Any]] = []
    for threads in sorted({1, _native.get_num_threads()}):
        for rows in (1, 208):
            found = compare("sonar_mlp", peers=peers, batch=rows, threads=threads, rounds=options.rounds)
            timed = {name: m for name, m in found.peers.items() if m.ms}
            runs.append(
                {
                    "rows": rows,
                    "threads": threads,
                    "microseconds": {name: 1e3 * (m.median or 0.0) for name, m in timed.items()},
                    "ratio_of_model_call_to": {
                        name: median_ratio(timed[OURS].ms, m.ms) for name, m in timed.items() if name != OURS
                    },
                }
            )
    result = {"benchmark": "sonar_call", "runs": runs, "machine": machine("onnxruntime")}
    print_json(result)
    if options.output:
        note(f"written: {write_json(options.output, result)}")


if __name__ == "__main__":
    main()
