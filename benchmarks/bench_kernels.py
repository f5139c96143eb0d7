"""pytest-benchmark over the named layers: one benchmark for each case and instruction set.

    pip install ".[bench]"
    python -m pytest benchmarks/bench_kernels.py -k "conv3x3 and avx512" --benchmark-compare

These are steps of a plan, as a network runs them; the public functions are in ``bench_operations.py``. For a
comparison with other libraries, and with the roofline: ``convcore bench kernels --peers all``.
"""

from __future__ import annotations

import numpy as np
import pytest

from convcore import _native
from convcore.bench import CASES
from convcore.plan import Device, build
from convcore.run.cpu import CpuRunner

pytest.importorskip("pytest_benchmark")


@pytest.mark.parametrize("isa", [isa for isa in _native.isas() if isa != "scalar"])
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.group != "network" and case.planned])
def test_kernel(benchmark, name: str, isa: str) -> None:  # type: ignore[no-untyped-def]
    workload = CASES[name]
    plan = build(workload.build(), Device(isa=isa))
    batch = workload.batch or 1
    x = workload.inputs(batch)
    y = np.empty((batch, *plan.outputs[0][1]), np.float32)
    program = CpuRunner(plan).program(batch)
    benchmark.group = workload.group
    benchmark.extra_info["gflop"] = plan.flops / 1e9
    benchmark.extra_info["algorithm"] = plan.steps[-1].algorithm
    benchmark(program.run, [x], [y])
    assert np.isfinite(y).all()
