"""Models on the GPU: the same outputs as on the CPU, in Numba's simulator, or on a GPU if asked to."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

import convcore as cc
from convcore import data
from convcore.errors import ArgumentError, DeviceError
from convcore.plan import Device, build
from convcore.run.cpu import CpuRunner

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels for the GPU to test")

from convcore.cuda.toolkit import simulated
from convcore.run.cuda import CudaRunner

from .graphs import GraphBuilder

SONAR = data.path("sonar.keras")


def test_every_kind_of_step_computes_what_it_does_on_the_cpu() -> None:
    to = GraphBuilder(2)
    x = to.input(6, 5, 4)
    a = to.activation(to.batch_norm(to.conv(x, 8, (3, 3), bias=False)), "relu")
    a = to.activation(to.add("add", [a, to.activation(to.conv(x, 8, (1, 1)), "tanh")]), "elu")
    b = to.add("max_pool", a, {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"})
    b = to.add("concatenate", [b, b], {"axis": 2})
    up = to.add("upsample", b, {"size": (2, 2)})
    flat = to.add("reshape", b, {"shape": (3 * 2 * 16,)})
    graph = to.graph(
        to.add("softmax", up, {"axis": 1}),
        to.add("global_average_pool", a, {"keepdims": False}),
        to.add("dense", flat, {}, {"kernel": to.normal(96, 7), "bias": to.normal(7)}),
    )
    image = np.random.default_rng(3).standard_normal((3, 6, 5, 4), np.float32)
    expected = CpuRunner(build(graph)).run([image])
    runner = CudaRunner(build(graph, Device("cuda")))
    for batch_size in (None, 2):
        for g, e in zip(runner.run([image], batch_size=batch_size), expected, strict=True):
            assert np.abs(g - e).max() <= 1e-5 * np.abs(e).max()


def test_a_model_file_on_the_gpu() -> None:
    x = np.random.default_rng(0).uniform(0, 1, (2, 60)).astype(np.float32)
    on_cpu, on_gpu = cc.load_model(SONAR), cc.load_model(SONAR, device="cuda")
    expected = on_cpu.predict(x)
    assert np.abs(on_gpu.predict(x) - expected).max() <= 1e-6
    assert np.abs(on_gpu.predict(x, batch_size=1) - expected).max() <= 1e-6
    assert np.abs(on_gpu(x) - expected).max() <= 1e-6
    assert "on cuda" in str(on_gpu.plan)
    traced, reference = on_gpu.trace(x), on_cpu.trace(x)
    assert traced.keys() == reference.keys()
    for name, value in reference.items():
        assert np.abs(traced[name] - value).max() <= 1e-5 * max(1.0, np.abs(value).max()), name
    again = pickle.loads(pickle.dumps(on_gpu))
    assert again.device.name == "cuda" and again(x).tobytes() == on_gpu(x).tobytes()  # from run to run too


@pytest.mark.skipif(simulated, reason="the simulator runs one kernel at a time")
def test_calls_from_many_threads() -> None:
    x = np.random.default_rng(0).uniform(0, 1, (3, 60)).astype(np.float32)
    model = cc.load_model(SONAR, device="cuda")
    expected = model(x).tobytes()
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(model(x).tobytes())) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [expected] * 8


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(DeviceError, match=r"device.*rocm.*cpu or cuda"):
        cc.load_model(SONAR, device="rocm")
    with pytest.raises(ArgumentError, match=r"precision.*float16.*float32 or tf32"):
        cc.load_model(SONAR, device="cuda", precision="float16")
    with pytest.raises(ArgumentError, match=r"CPU computes in float32.*tf32"):
        cc.load_model(SONAR, precision="tf32")
    with pytest.raises(DeviceError, match="only steps on the CPU"):
        cc.load_model(SONAR, device="cuda").profile(np.zeros((1, 60), np.float32))
