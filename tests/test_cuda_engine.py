"""Models on the GPU: the same outputs as on the CPU, in Numba's simulator, or on a GPU if asked to."""

from __future__ import annotations

import pickle
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import convcore as cc
from convcore import data
from convcore.errors import ArgumentError, DeviceError, OutOfMemoryError
from convcore.plan import Device, build
from convcore.run.cpu import CpuRunner

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels for the GPU to test")

from convcore.cuda import transfer
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


def test_a_profile_times_every_step_and_the_graph() -> None:
    model = cc.load_model(data.path("sonar_baseline.keras"), device="cuda")
    profile = model.profile(np.zeros((2, 60), np.float32), repeats=2)
    assert [s.algorithm for s in profile.steps] == [s.algorithm for s in model.plan.steps]
    assert all(s.ms > 0 and s.flops > 0 for s in profile.steps)
    facts = profile.as_dict()
    assert facts["batch"] == 2 and facts["graph_ms"] > 0 and facts["steps"][0]["ms"] > 0
    text = str(profile)
    assert ("the host's clock, in Numba's simulator" if simulated else "events on the GPU") in text
    assert "the GPU's peaks are not measured" in text
    assert text.split()[0] == "ms"


def dense_runner() -> CudaRunner:
    to = GraphBuilder(5)
    x = to.input(4)
    graph = to.graph(to.add("dense", x, {}, {"kernel": to.normal(4, 3), "bias": to.normal(3)}))
    return CudaRunner(build(graph, Device("cuda")))


def test_batches_in_a_row_are_what_each_is_alone() -> None:
    x = np.random.default_rng(0).standard_normal((11, 4), np.float32)
    runner = dense_runner()
    alone = [runner.run([x[i : i + 3]])[0] for i in range(0, 11, 3)]
    for _ in range(3):  # compiled and run, recorded, replayed
        assert runner.run([x], batch_size=3)[0].tobytes() == np.concatenate(alone).tobytes()


def test_without_memory_for_more_batches_in_flight_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((7, 4), np.float32)
    expected = dense_runner().run([x], batch_size=2)[0].tobytes()
    runner = dense_runner()
    runner.program(2)
    runner.program(1)
    asked = []

    def nothing_left(shape: tuple[int, ...], *_: object) -> None:
        asked.append(shape)
        raise OutOfMemoryError("convcore.cuda", "no memory on the GPU")

    monkeypatch.setattr("convcore.run.cuda.empty", nothing_left)
    for _ in range(2):
        assert runner.run([x], batch_size=2)[0].tobytes() == expected
    assert asked == [(2, 4)]  # once, and never again
    with pytest.raises(MemoryError):
        runner.run([x], batch_size=5)  # for the first slot there must be some
    assert runner.run([x], batch_size=2)[0].tobytes() == expected


def test_host_memory_that_cannot_be_locked_serves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's refusal is no error of ours; anything else is."""

    class CudaAPIError(Exception):
        __module__ = "numba.cuda.cudadrv.driver"

    def refuse(*_: object) -> None:
        raise CudaAPIError("[2] Call to cuMemHostAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    def fail(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr(transfer, "simulated", False)
    monkeypatch.setattr(transfer, "cuda", SimpleNamespace(pinned_array=refuse))
    stage = transfer.pinned((2, 3))
    assert stage.shape == (2, 3) and stage.dtype == np.float32 and stage.flags.writeable
    monkeypatch.setattr(transfer, "cuda", SimpleNamespace(pinned_array=fail))
    with pytest.raises(ArithmeticError):
        transfer.pinned((2, 3))


def test_every_gpu_loads_its_own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What shared memory a kernel may have is said to one GPU at a time."""
    from convcore.cuda import compiled, fast

    kernel, loaded, launched = fast.Kernel("softmax", ("of", "this test")), [], []
    here = SimpleNamespace(compute_capability=(9, 0), id=0)
    fake = SimpleNamespace(get_current_device=lambda: here)
    monkeypatch.setattr("convcore.cuda.device.simulated", False)
    for module in ("compiled", "device"):
        monkeypatch.setattr(f"convcore.cuda.{module}.cuda", fake)
    monkeypatch.setattr(compiled.ready, "named", lambda: None)
    monkeypatch.setattr(compiled, "code_of", lambda kernel, capability: "code")
    monkeypatch.setattr(compiled.ready, "load", lambda code, name, device: loaded.append(device) or device)
    monkeypatch.setattr(compiled.ready, "launch", lambda handle, *_: launched.append(handle))
    work = fast.Work((fast.Launch(kernel, (1, 1, 1), ()),))
    for here.id in (0, 1, 0, 1):
        compiled.run(work, {})
    assert loaded == [0, 1] and launched == [0, 1, 0, 1]


def test_a_recording_ends_with_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing can be imported any more."""
    from convcore.cuda.graph import Recording

    def ended(*_: object) -> None:
        raise ImportError("sys.meta_path is None, Python is likely shutting down")

    destroyed: list[int] = []
    recording = Recording.__new__(Recording)
    recording._graph, recording._destroy = 7, destroyed.append
    with monkeypatch.context() as patch:
        patch.setattr("builtins.__import__", ended)
        recording.__del__()
    assert destroyed == [7]
    recording._graph = None
