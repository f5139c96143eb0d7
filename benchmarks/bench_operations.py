"""pytest-benchmark over every public operation, on CPU and GPU: the cases of ``convcore bench kernels --op``.

    pip install ".[bench]"
    python -m pytest benchmarks/bench_operations.py -k "conv2d or softmax"
    python -m pytest benchmarks/bench_operations.py --benchmark-group-by=group --benchmark-compare

Rows of a group are one case on both devices. On a GPU a run is the call and the wait for its end. Beside
other libraries, and with the roofline: ``convcore bench kernels --op conv2d --peers all``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from convcore import _native
from convcore.bench import case
from convcore.bench.exact import work
from convcore.bench.kernels import no_gpu
from convcore.bench.operations import OPERATION_CASES, operation_case
from convcore.bench.peers import adapters

pytest.importorskip("pytest_benchmark", reason='pip install "convcore[bench]"')

NAMES = [operation_case(*pair).name for pair in OPERATION_CASES]


def on(device: str, name: str) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
    """The call of a case on a device, which returns when it is done, and what gives its output."""
    one = case(name)
    peer = adapters(device)["convcore"](_native.get_num_threads())
    peer.build(one.build(), one.inputs(one.batch or 1))
    return (peer.run if device == "cpu" else peer.run_and_wait), peer.output


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", NAMES)
def test_operation(benchmark, name: str, device: str) -> None:  # type: ignore[no-untyped-def]
    if device == "cuda" and (reason := no_gpu()):
        pytest.skip(reason)
    one = case(name)
    todo = work(one.build(), one.batch or 1, one.inputs(1).itemsize)
    run, output = on(device, name)
    benchmark.group = name
    benchmark.extra_info |= {
        "device": device,
        "gflop": todo.flops / 1e9,
        "mb": (todo.read + todo.written) / 1e6,
    }
    benchmark(run)
    assert np.isfinite(output()).all()
