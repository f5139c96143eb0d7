"""The gate of continuous integration: a handful of kernels beside another library, in the same run.

    python benchmarks/gate.py

A time says nothing on a machine that one does not know and shares with others; a ratio to a peer that is
measured in turn says a lot, since whatever slows the machine down slows both. Every kernel has the ratio
that it usually has, and fails if it is LIMIT times that, three times in a row: twice the time must be found,
and a noisy minute must not be. One thread each, so that neighbours take turns with both alike. Exit code 1
on a regression, or if a peer or a kernel could not be measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from convcore import _native
from convcore.bench import Comparison, compare
from convcore.tables import text_table

#: Medians of single runs on a shared virtual machine with two cores were within 0.8 and 1.3 of the usual
#: ratio. A kernel of twice the time is then at 1.6 times its usual ratio or above, in each of the attempts.
LIMIT = 1.5
ATTEMPTS = 3
#: Between kinds of CPU ratios differ, though less than times; on another, `--measure` says what is usual
#: there.
MEASURED_ON = "AMD EPYC (Zen 4)"
ROUNDS = 10


@dataclass(frozen=True)
class Gate:
    """A case of :mod:`convcore.bench`, whom it is measured beside, and our usual time over theirs by set."""

    case: str
    peer: str
    usual: dict[str, float]


#: Usual ratios, by `--measure`: Winograd's algorithm, direct convolutions as a step and as a function that
#: packs, depthwise, streams of weights and of numbers, windows, int16, filters, and what a call costs. Those
#: of AVX2 are of the same machine, with AVX-512 forbidden to everyone.
GATES: tuple[Gate, ...] = (
    Gate("conv3x3_28_256_512", "tensorflow", {"avx512": 0.28, "avx2": 0.26}),
    Gate("conv1x1_28_512_128", "tensorflow", {"avx512": 0.84, "avx2": 0.8}),
    Gate("conv2d:ic64ih56oc64oh56kh3", "tensorflow", {"avx512": 0.95, "avx2": 0.64}),
    Gate("depthwise3x3_56_128", "tensorflow", {"avx512": 0.4, "avx2": 0.44}),
    Gate("dense_4096_1000", "numpy", {"avx512": 0.84, "avx2": 0.69}),
    Gate("softmax:4096x1000", "numpy", {"avx512": 0.23, "avx2": 0.4}),
    Gate("max_pool_224_64", "numpy", {"avx512": 0.11, "avx2": 0.11}),
    Gate("sigmoid:4096x4096", "numpy", {"avx512": 0.29, "avx2": 0.5}),
    Gate("hu_rescale:16x512x512", "numpy", {"avx512": 0.37, "avx2": 0.35}),
    Gate("correlate:ih256kh7", "scipy_ndimage", {"avx512": 0.041, "avx2": 0.041}),
    Gate("tanh:1000", "numpy", {"avx512": 0.99, "avx2": 1.13}),
)


@dataclass(frozen=True)
class Verdict:
    """What one gate has said: the `ratios` of all attempts, or the reason why there are none."""

    gate: Gate
    usual: float
    ratios: tuple[float, ...]
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether one attempt was within the limit."""
        return bool(self.ratios) and min(self.ratios) <= LIMIT * self.usual


def check(gate: Gate, isa: str, measure: Callable[..., Comparison] = compare, forced: str = "") -> Verdict:
    """Measure until one attempt is within the limit, at most ATTEMPTS times."""
    usual, ratios = gate.usual[isa], []
    for _ in range(ATTEMPTS):
        found = measure(
            gate.case,
            peers=["convcore", gate.peer],
            rounds=ROUNDS,
            threads=1,
            isas=[forced] if forced else [],
        )
        if found.ratio is None:
            reasons = (f"{name} {m.status}: {m.reason}" for name, m in found.peers.items() if not m.ms)
            return Verdict(gate, usual, (), "; ".join(reasons))
        ratios.append(found.ratio)
        if ratios[-1] <= LIMIT * usual:
            break
    return Verdict(gate, usual, tuple(ratios))


def main(argv: Sequence[str] | None = None, measure: Callable[..., Comparison] = compare) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose name has it")
    parser.add_argument("--isa", default="", help="hold another instruction set of ours to the same limits")
    parser.add_argument("--measure", action="store_true", help="print the ratios, and judge nothing")
    options = parser.parse_args(argv)
    isa = _native.default_isa()
    gates = [gate for gate in GATES if options.only in gate.case]
    if not gates:
        parser.error(f"--only {options.only}: no such case")
    if options.measure:
        for gate in gates:
            found = measure(gate.case, peers=["convcore", gate.peer], rounds=ROUNDS, threads=1)
            print(f"{gate.case} {gate.peer} {isa} {found.ratio}", flush=True)
        return 0
    known = [gate for gate in gates if isa in gate.usual]
    if not known:
        print(f"gate: no usual ratios are known for {isa}: nothing is judged")
        return 0
    verdicts = [check(gate, isa, measure, options.isa) for gate in known]
    rows = [
        (v.gate.case, v.gate.peer, f"{v.usual:.2f}", f"{LIMIT * v.usual:.2f}",
         ", ".join(f"{r:.2f}" for r in v.ratios) or v.reason, "passed" if v.passed else "FAILED")
        for v in verdicts
    ]  # fmt: skip
    head = ("kernel", "beside", "usual", "limit", f"ratio, {isa}", "")
    print(text_table(head, rows, left=(0, 1, 4, 5)))
    failed = not all(v.passed for v in verdicts)
    if failed:
        print(
            f"The usual ratios are those of an {MEASURED_ON}; this is an {_native.cpu_name()}.",
            file=sys.stderr,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
