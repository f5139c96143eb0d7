"""pytest-benchmark over whole networks: VGG16 and the Sonar network, alone and in batches, 1 thread and all.

pip install ".[bench]"
python -m pytest benchmarks/bench_networks.py
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from convcore import _native
from convcore.bench import case
from convcore.plan import Device, Plan, build
from convcore.run.cpu import CpuRunner

pytest.importorskip("pytest_benchmark")


@pytest.fixture(scope="module", params=["sonar_mlp", "vgg16"])
def plan(request: pytest.FixtureRequest) -> Plan:
    return build(case(request.param).build(), Device())


@pytest.fixture(params=sorted({1, _native.get_num_threads()}), ids=lambda n: f"{n} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = _native.get_num_threads()
    _native.set_num_threads(request.param)
    yield request.param
    _native.set_num_threads(before)


@pytest.mark.parametrize("batch", [1, 8])
def test_network(benchmark, plan: Plan, batch: int, threads: int) -> None:  # type: ignore[no-untyped-def]
    x = case(plan.name).inputs(batch)
    y = np.empty((batch, *plan.outputs[0][1]), np.float32)
    program = CpuRunner(plan).program(batch)
    benchmark.group = f"{plan.name}, {threads} thread(s)"
    benchmark(program.run, [x], [y])
    assert np.isfinite(y).all()
