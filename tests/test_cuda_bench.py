"""Measuring on a GPU, tested without one: what it says, what it launches, what it counts, what it writes.

A driver on main memory and the emulator of the kernels stand in for the GPU; see :mod:`.fake_gpu`.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore import machine_code
from convcore.bench import CASES, Case
from convcore.bench.building import Builder
from convcore.bench.gpu import bars, driver, making, parts, preflight, record, timing, torch_peer
from convcore.bench.gpu.accuracy import Expected, difference, expected_of_layer, share_of_bound
from convcore.bench.gpu.bound import Bound, Kernels, sets_beyond
from convcore.bench.gpu.network import chain, moved_bytes, multiply_adds
from convcore.bench.gpu.preflight import Facts
from convcore.bench.gpu.schedule import Packing, Schedule, kernels_of, schedule
from convcore.bench.gpu.table import printed
from convcore.bench.gpu.timing import Candidate, interleaved
from convcore.bfloat16 import to_bfloat16
from convcore.cli import main
from convcore.errors import DeviceError

from .fake_gpu import Emulated, FakeDriver
from .memory import Array

ROOT = Path(__file__).parents[1]
GPU = {
    "name": "NVIDIA H200",
    "compute_capability": "9.0",
    "memory_bytes": 1 << 37,
    "driver_supports_cuda": "13.0",
}
FOUND = Facts({"numpy": "2.4", "numba-cuda": "0.30"}, gpu=GPU)


def small_network() -> Any:
    """VGG16's kinds of layers: 3 channels, ReLU, pooling, a dense layer on the map, another."""
    network = (
        Builder("vgg16", (4, 4, 3)).conv(8, 3).activation("relu").conv(8, 3).activation("relu").max_pool()
    )
    return network.flatten().dense(24).activation("relu").dense(12).graph()


SMALL = {
    "vgg16": Case("vgg16", "network", (4, 4, 3), small_network),
    "hu": Case("hu", "hounsfield", (2, 8, 8), lambda: Builder("hu", (2, 8, 8)).add(
        "hu_rescale", (2, 8, 8), slope=1.0, intercept=-1024.0).graph(), False, "int16"),
    "pool": Case("pool", "memory", (4, 6, 8), lambda: Builder("pool", (4, 6, 8)).max_pool().graph()),
    "softmax": Case("softmax", "memory", (5, 12), lambda: Builder("softmax", (5, 12)).softmax().graph()),
    "relu": Case("relu", "memory", (12, 8), lambda: Builder("relu", (12, 8)).activation("relu").graph()),
    "gelu": Case("gelu", "memory", (12, 40), lambda: Builder("gelu", (12, 40)).activation("gelu").graph()),
    "tanh": Case("tanh", "memory", (12, 40), lambda: Builder("tanh", (12, 40)).activation("tanh").graph()),
    "sigmoid": Case("sigmoid", "memory", (12, 40), lambda: Builder("sigmoid", (12, 40)).activation(
        "sigmoid").graph()),
    "dense": Case("dense", "dense", (40,), lambda: Builder("dense", (40,)).dense(12).graph()),
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is small enough for the emulator."""
    monkeypatch.setattr(parts, "case", lambda name: SMALL[name])
    monkeypatch.setattr(parts, "BATCHES", (2, 1))
    monkeypatch.setattr(parts, "CONVOLUTIONS", ())
    monkeypatch.setattr(
        parts, "MEMORY_BOUND", {name: 1 + (name == "pool") for name in SMALL if name != "vgg16"}
    )
    monkeypatch.setattr(parts, "_COPIES", 1)
    monkeypatch.setattr(timing, "_TURN", 1.0)
    monkeypatch.setattr(parts, "_COPIED", 1 << 12)
    monkeypatch.setattr(parts, "_COPIED_BY_HOST", 1 << 12)


@pytest.fixture
def fast_kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Numba is there, and fast kernels are chosen although the simulator cannot run them."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    from convcore.cuda import fast

    monkeypatch.setattr(fast, "enabled", True)
    return fast


# ---- what is missing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"missing": {"cuda-core": "no module"}}, "cuda-core cannot be imported (no module): pip install"),
        ({"simulator": True}, "NUMBA_ENABLE_CUDASIM is set"),
        ({"driver": "the driver sees no GPU", "gpu": {}}, "No GPU can be used: the driver sees no GPU."),
        ({"gpu": {**GPU, "compute_capability": "7.5"}}, "has compute capability 7.5; the kernels need 8.0"),
        ({"compiler": "no libnvvm"}, "cannot be compiled here (no libnvvm). Make a folder of them elsewhere"),
        (
            {"folder": "for another GPU"},
            "CONVCORE_CUBINS names a folder that cannot be used: for another GPU",
        ),
    ],
    ids=["package", "simulator", "driver", "old GPU", "compiler", "folder"],
)
def test_each_thing_that_is_missing_is_a_sentence(change: Mapping[str, Any], sentence: str) -> None:
    (problem,) = preflight.problems(replace(FOUND, **change))
    assert problem.fatal and sentence in problem.sentence and problem.sentence.endswith((".", "GPU"))


def test_what_is_only_a_pity_does_not_stop_the_run() -> None:
    wrong = preflight.problems(replace(FOUND, torch="not installed", numpy_shim=True))
    assert [p.fatal for p in wrong] == [False, False]
    assert wrong[0].sentence == "PyTorch is not measured beside: not installed."
    assert "NumPy 2.4 has no row_stack, which numba-cuda 0.30 may ask for" in wrong[1].sentence
    assert not preflight.problems(FOUND)


def test_a_toolkit_in_its_usual_place_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(making, "_TOOLKIT", tmp_path)
    assert making.toolkit() == {}
    (tmp_path / "nvvm").mkdir()
    assert making.toolkit() == {"CUDA_HOME": str(tmp_path)}
    assert making.environment()["CUDA_HOME"] == str(tmp_path)
    monkeypatch.setenv("CUDA_PATH", "/opt/cuda")
    assert making.toolkit() == {} and making.environment()["CUDA_PATH"] == "/opt/cuda"


def test_ready_made_kernels_take_the_compilers_place() -> None:
    assert not preflight.problems(replace(FOUND, folder=""))


def script(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def without_a_gpu() -> None:
    try:
        driver.described()
    except (DeviceError, ImportError):
        return
    pytest.skip("this machine has a GPU")


def test_without_a_gpu_the_command_says_so_and_records_it_if_told(tmp_path: Path) -> None:
    without_a_gpu()
    path = tmp_path / "gpu.json"
    run = script("--json", str(path))
    assert run.returncode == 1 and not path.exists()
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("not yet measured on hardware: ") and "convcore.errors" not in run.stderr
    assert script("--json", str(path), "--record-unmeasured").returncode == 1
    written = json.loads(path.read_text())
    assert written["status"] == "not yet measured on hardware" and written["reason"]
    assert [row["met"] for row in written["bars"]] == [None] * len(bars.BARS)
    assert set(written["parts"]) == set(record.PARTS)


def test_the_published_file_has_the_shape_that_the_code_writes() -> None:
    written = json.loads((ROOT / "benchmarks" / "results" / "gpu.json").read_text())
    assert written["status"] in ("measured", "partly measured", record.NOT_YET)
    assert set(written["parts"]) >= set(record.PARTS)
    assert [(b["case"], b["batch"], b["precision"]) for b in written["bars"]] == [b[:3] for b in bars.BARS]


def test_convcore_bench_fails_as_other_commands_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "facts", lambda: replace(FOUND, driver="the driver sees no GPU", gpu={}))
    assert main(["bench", "--device", "cuda"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "convcore bench: GPU: No GPU can be used: the driver sees no GPU"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads", "2"], "--threads is for the CPU"),
        (["--batch", "4"], "--batch is for the CPU"),
        (["--peers", "ncnn"], "knows torch alone"),
        (["model", "x.h5"], "a model file is measured on the CPU"),
        (["kernels", "--only", "nothing"], "--only nothing matches none of memory, layers_float32"),
        (["--only", "memory"], "--only chooses among `kernels`"),
    ],
)
def test_wrong_calls(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words, "--device", "cuda"]) == 2
    assert said in capsys.readouterr().err


# ---- kernels in a folder -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels of the memory-bound part, made by the command, in a process without the simulator."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels to compile")
    path = tmp_path_factory.mktemp("cubins")
    run = script("--make-cubins", str(path), "--only", "memory", "--jobs", "1")
    if "nvvm" in run.stderr.lower():
        pytest.skip(f"kernels cannot be compiled here: {run.stderr}")
    assert (run.returncode, run.stderr) == (0, "")
    return path


def test_a_folder_has_all_that_its_part_needs(folder: Path) -> None:
    found = machine_code.Folder(folder)
    found.require((9, 0))
    families = [name.split()[0] for name in found.names]
    assert sorted(families) == [*["activation"] * 4, "dense", "hu", "pool", "softmax"]
    assert set(found.schedules) == {parts.key(*one) for one in parts.wanted(["memory"])}
    for data in found.schedules.values():
        plan = Schedule.from_dict(data)
        assert plan.as_dict() == data
        for one in plan.launches:
            code = found.code(one.kernel)
            assert code is not None and code.cubin[:4] == b"\x7fELF" and code.entry
            kinds = "".join("p" if isinstance(a, str) else "if"[isinstance(a, float)] for a in one.arguments)
            assert code.signature == kinds and code.threads >= 32
    assert found.code("no such kernel") is None and found.made_with["numba-cuda"]


def test_a_folder_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    found = machine_code.Folder(folder)
    for capability in ((8, 0), (10, 0)):
        with pytest.raises(DeviceError, match="the kernels are for another GPU, got sm_90, expected"):
            found.require(capability)
    found.require((9, 1))  # a later minor of the same major runs it
    with pytest.raises(DeviceError, match="no folder of kernels"):
        machine_code.Folder(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "sources": "of yesterday"}))
    with pytest.raises(DeviceError, match="made from another version's sources"):
        machine_code.Folder(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (name,) = [name for name in found.names if name.startswith("softmax")]
    file = manifest["kernels"][name]["file"]
    with pytest.raises(DeviceError, match=f"{file} cannot be read: No such file"):
        machine_code.Folder(tmp_path).code(name)
    (tmp_path / file).write_bytes(b"\x7fELF and no more")
    with pytest.raises(DeviceError, match=f"{file} is damaged"):
        machine_code.Folder(tmp_path).code(name)


def test_the_engine_takes_kernels_from_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fast_kernels: Any
) -> None:
    from types import SimpleNamespace

    from convcore.cuda import compiled

    monkeypatch.setenv(machine_code.VARIABLE, str(folder))
    device = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr(compiled, "cuda", SimpleNamespace(get_current_device=lambda: device))
    monkeypatch.setattr(machine_code, "load", lambda code, name, device: (name, device))
    monkeypatch.setattr(compiled, "code_of", lambda *_: pytest.fail("compiled all the same"))
    (kernel,) = kernels_of(chain(CASES["softmax_4096_4096"].build()), 1)
    loaded = compiled._loaded.__wrapped__(kernel, 0)
    assert (
        loaded[0] == (kernel.name, 0)
        and loaded[1].cubin == machine_code.Folder(folder).code(kernel.name).cubin
    )
    monkeypatch.setattr(compiled, "code_of", lambda kernel, capability: f"compiled for {capability}")
    other = fast_kernels.Kernel("no", ("such", "kernel"))
    assert compiled._loaded.__wrapped__(other, 0)[1] == "compiled for (9, 0)"


def test_a_schedule_is_read_and_packed_without_numba(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('numba', 'numba_cuda', 'llvmlite'): sys.modules[name] = None\n"
        "import convcore.bench.gpu.worker\n"
        "from convcore import machine_code\n"
        "from convcore.bench import case\n"
        "from convcore.bench.gpu.bound import packed_weights\n"
        "from convcore.bench.gpu.network import chain\n"
        "from convcore.bench.gpu.schedule import Schedule\n"
        "found = machine_code.named()\n"
        "plan = Schedule.from_dict(found.schedules['dense_25088_4096, batch 1, float32'])\n"
        "weights = packed_weights(plan, chain(case('dense_25088_4096').build()))\n"
        "print(len(found.code(plan.launches[0].kernel).cubin) > 1000, len(weights), weights[0].size)\n"
    )
    environment = {**os.environ, machine_code.VARIABLE: str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert run.stdout.split() == ["True", "1", str(25088 * 4096 + 4096 + 3)], run.stderr


def test_architectures() -> None:
    assert [making.capability_of(name) for name in ("sm_80", "sm_90", "sm_120")] == [(8, 0), (9, 0), (12, 0)]
    for name in ("sm_75", "90", "sm_", "hopper"):
        with pytest.raises(DeviceError, match="no architecture"):
            making.capability_of(name)
    run = script("--make-cubins", "never", "--arch", "sm_75")
    assert run.returncode == 1 and "got sm_75, expected sm_80 or later" in run.stderr


# ---- schedules -----------------------------------------------------------------------------------------


def test_packing_without_numba_is_that_of_the_kernels(fast_kernels: Any) -> None:
    layers = chain(small_network())
    plan = schedule(layers, 2, "tf32")
    assert len(plan.packings) == 4 and plan.packings[0].depth == 9 * 4  # three channels and one of zeros
    for packing, layer in zip(plan.packings, [one for one in layers if one.weights], strict=True):
        kernel, bias = (np.asarray(layer.weights[name]) for name in ("kernel", "bias"))
        packed = packing.pack(kernel, bias)
        matrix = packed[: packing.rows * packing.pitch].reshape(packing.rows, packing.pitch)
        channels = packing.depth // int(np.prod(kernel.shape[:-2], dtype=int))
        for column in range(packing.columns):
            row = matrix[column, : packing.depth].reshape(*kernel.shape[:-2], channels)
            assert np.array_equal(row[..., : kernel.shape[-2]], kernel[..., column])
            assert not row[..., kernel.shape[-2] :].any()
        assert np.array_equal(packed[packing.bias // 4 :][: len(bias)], bias)


def test_a_packing_that_differs_is_refused(fast_kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packing, "pack", lambda self, kernel, bias: np.zeros(self.floats, np.float32))
    with pytest.raises(DeviceError, match="the packing of weights 0 in tf32 is not known without Numba"):
        schedule(chain(small_network()), 1, "tf32")


def test_a_precision_that_is_not_there_is_a_reason_and_no_crash(small: None, fast_kernels: Any) -> None:
    with pytest.raises(DeviceError, match="precision, got float8, expected"):
        schedule(chain(small_network()), 1, "float8")
    kernels, schedules = parts.made(["vgg16_float8", "vgg16_tf32"])
    assert "float8" in schedules["vgg16, batch 1, float8"]["reason"]
    assert "launches" in schedules["vgg16, batch 1, tf32"] and kernels


def test_work_is_counted_as_defined() -> None:
    vgg = chain(CASES["vgg16"].build())
    assert [one.operation for one in vgg] == ["conv"] * 13 + ["dense"] * 3
    assert [one.pool for one in vgg].count(True) == 5 and [one.relu for one in vgg] == [True] * 15 + [False]
    convolutions = sum(9 * n * n * c * k for n, c, k, times in (
        (224, 3, 64, 1), (224, 64, 64, 1), (112, 64, 128, 1), (112, 128, 128, 1), (56, 128, 256, 1),
        (56, 256, 256, 2), (28, 256, 512, 1), (28, 512, 512, 2), (14, 512, 512, 3),
    ) for _ in range(times))  # fmt: skip
    dense = 25088 * 4096 + 4096 * 4096 + 4096 * 1000
    assert multiply_adds(vgg, 32) == 32 * (convolutions + dense)
    assert multiply_adds(chain(CASES["max_pool_224_64"].build()), 3) == 0
    assert moved_bytes(chain(CASES["hu_rescale_300_512_512"].build()), 1) == 300 * 512 * 512 * (2 + 4)
    assert moved_bytes(chain(CASES["max_pool_224_64"].build()), 2) == 2 * 4 * 224 * 224 * 64 * 5 // 4
    assert moved_bytes(chain(CASES["dense_4096_1000"].build()), 1) == 4 * (4096 + 1000 + 4096 * 1000 + 1000)
    assert moved_bytes(chain(CASES["dense_4096_1000"].build()), 1, 2) == 2 * (
        4096 + 1000 + 4096 * 1000 + 1000
    )


def test_rotated_sets_are_larger_than_the_cache() -> None:
    cache = 50 << 20
    for nbytes in (1 << 20, 10 << 20, 99 << 20):
        sets = sets_beyond(cache, nbytes)
        assert sets * nbytes > 2 * cache or sets == 64
    assert sets_beyond(cache, 100 << 20) == 1 and sets_beyond(cache, 0) == 64


# ---- numbers -------------------------------------------------------------------------------------------


def emulated(
    monkeypatch: pytest.MonkeyPatch, compiler: Any, fast: Any, fake: FakeDriver, folder: Path, part: str
) -> machine_code.Folder:
    """Put the emulator where the GPU would be; return a folder of the kernels that the part needs."""
    from .test_cuda_fast import compiled

    kernels, schedules = parts.made([part])
    by_name = {kernel.name: kernel for kernel in kernels}
    letters = {"int32": "i", "float32": "f"}
    codes = {
        name: machine_code.Code(
            b"\x7fELF", "entry", "".join(letters.get(str(kind), "p") for kind in kernel.signature),
            kernel.threads, kernel.shared_bytes,
        )
        for name, kernel in by_name.items()
    }  # fmt: skip
    machine_code.write(folder, (9, 0), codes, schedules)
    stand_in = Emulated(fake, lambda name: compiled(compiler, by_name[name]).ptx)
    monkeypatch.setattr(machine_code, "load", stand_in.load)
    monkeypatch.setattr(machine_code, "launch", stand_in.launch)
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    return machine_code.Folder(folder)


@pytest.mark.parametrize("part", ["memory", "vgg16_float32", "vgg16_tf32", "vgg16_bfloat16"])
def test_a_part_computes_what_it_times(
    part: str,
    small: None,
    fast_kernels: Any,
    cuda_compiler: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fake = FakeDriver()
    ready = emulated(monkeypatch, cuda_compiler, fast_kernels, fake, tmp_path, part)
    monkeypatch.setattr(fast_kernels, "enabled", fast_kernels.simulated is False)  # for the engine
    said: list[int] = []
    measured = parts.measure(
        part, parts.Setting(2, ready, peers=False), lambda r: said.append(len(r["workloads"]))
    )
    assert said == list(range(1, len(measured["workloads"]) + 1))
    precision = part.partition("_")[2] or "float32"
    if precision not in fast_kernels.ARITHMETICS:
        assert all(w["status"] == "failed" and precision in w["reason"] for w in measured["workloads"])
        return
    for workload in measured["workloads"]:
        assert workload["status"] == "measured", workload
        name = "convcore_kernels" if part.startswith("vgg16") else "convcore"
        mine = workload["candidates"][name]
        assert mine["status"] == "timed", mine
        assert 0 <= mine["share_of_bound"] <= 1
        sets = workload["sets"]
        assert sets == (1 if part.startswith("vgg16") else sets_beyond(4096, workload["bytes"]))
        assert mine["median_ms"] == pytest.approx(2.0 / sets) and len(mine["ms"]) == 2
        assert workload["candidates"]["pytorch"] == {"status": "not installed", "reason": "not asked for"}
        assert workload["ratio_to_fastest_peer"] is None and workload["fastest_peer"] is None
        assert set(workload["copies"]) == {"copy_in_ms", "copy_out_ms"}
        seconds = 1e-3 * workload["candidates"][workload["ours"]]["median_ms"]
        assert workload["bytes_per_s"] == pytest.approx(workload["bytes"] / seconds)
    if part.startswith("vgg16") and fast_kernels.simulated:
        engine = [w["candidates"]["convcore"] for w in measured["workloads"]]
        assert [one["status"] for one in engine] == ["timed", "timed"], engine


def test_wrong_numbers_are_not_timed(
    small: None, fast_kernels: Any, cuda_compiler: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from convcore.cuda.kernels.activation import KINDS

    ready = emulated(monkeypatch, cuda_compiler, fast_kernels, FakeDriver(), tmp_path, "memory")
    right = machine_code.launch

    def wrong(loaded: Any, code: Any, stream: int, grid: Any, arguments: Any) -> None:
        if not loaded.startswith(f"activation {KINDS.index('relu')} "):
            right(loaded, code, stream, grid, arguments)

    monkeypatch.setattr(machine_code, "launch", wrong)
    measured = parts.measure("memory", parts.Setting(2, ready, peers=False), lambda record: None)
    status = {w["case"]: w["status"] for w in measured["workloads"]}
    assert status == {name: "failed" if name == "relu" else "measured" for name in parts.MEMORY_BOUND}
    (relu,) = [w for w in measured["workloads"] if w["case"] == "relu"]
    assert relu["reason"] == "the outputs are beyond the stated bound" and "flops_per_s" not in relu


def test_ceilings_without_a_peer(monkeypatch: pytest.MonkeyPatch, small: None, tmp_path: Path) -> None:
    fake = FakeDriver(milliseconds=4.0)
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    machine_code.write(tmp_path, (9, 0), {})
    setting = parts.Setting(3, machine_code.Folder(tmp_path), peers=False)
    found = parts.measure("ceilings", setting, lambda record: None)
    # One event pair around one copy of 4 KiB, read and written.
    assert found["copy"]["by"] == "cuMemcpyDtoD" and found["copy"]["bytes_per_s"] > 0
    assert found["host"] == {f"copy_{way}_bytes_per_s": (1 << 12) / 4e-3 for way in ("in", "out")}
    assert {found["matrix"][p]["status"] for p in parts.PRECISIONS} == {"not measured"}
    fake.fails["cuMemAlloc"] = 2
    with pytest.raises(DeviceError, match="cuMemAlloc: the driver failed: CUDA_ERROR_2"):
        parts.measure("ceilings", setting, lambda record: None)


def test_the_fake_driver_has_the_real_ones_functions() -> None:
    real = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    for name, function in vars(FakeDriver).items():
        if name.startswith("cu"):
            declared = getattr(real, name).__doc__.splitlines()[0]
            arguments = [a for a in declared.partition("(")[2].rstrip(")").split(",") if a.strip()]
            assert len(inspect.signature(function).parameters) - 1 == len(arguments), declared
    for attribute in ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "L2_CACHE_SIZE"):
        assert hasattr(real.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{attribute}")
    assert hasattr(real.CUstreamCaptureMode, "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL")
    assert hasattr(real.CUfunction_attribute, "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES")


def test_described_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_driver", FakeDriver)
    found = driver.described()
    assert found["name"] == "NVIDIA of the tests" and found["compute_capability"] == "9.0"
    assert found["driver_supports_cuda"] == "13.1" and found["l2_bytes"] == 4096


@pytest.mark.parametrize("name", list(SMALL))
def test_pytorch_computes_the_same_layers(name: str) -> None:
    """On its CPU; what is particular to a GPU is where the tensors lie."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    peer = torch_peer.TorchPeer("float32", device="cpu")
    case = SMALL[name]
    layers, x = chain(case.build()), case.inputs(2)
    with torch.inference_mode():
        y = peer.call(layers, x, False)()
    y = torch_peer.as_array(y, torch_peer.are_maps(layers[-1]))
    if name == "vgg16":
        for layer in layers:
            x = expected_of_layer(layer, x, "float32").y
        assert np.abs(y - x).max() <= 1e-5 * np.abs(x).max()
    else:
        expected = expected_of_layer(layers[0], x, "float32")
        y = y.reshape(expected.y.shape)
        # PyTorch's GELU adds 1 to an error function, which takes digits from what is far below 0.
        assert difference(y, expected.y) <= 2.0**-22 if name == "gelu" else share_of_bound(y, expected) <= 1


@pytest.mark.parametrize("precision", parts.PRECISIONS)
def test_bounds_let_rounding_through_and_no_more(precision: str) -> None:
    layer = chain(Builder("c", (6, 6, 8)).conv(4, 3).graph())[0]
    x = np.random.default_rng(1).standard_normal((1, 6, 6, 8), np.float32)
    expected = expected_of_layer(layer, x, precision)

    def rounded(a: Any) -> Array:
        bits = {"float32": 24, "tf32": 11, "bfloat16": 8}[precision]
        mantissa, exponent = np.frexp(np.asarray(a, np.float64))
        return np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent)

    exact = expected_of_layer(
        replace(layer, weights={"kernel": rounded(layer.weights["kernel"]).astype(np.float32),
                                "bias": layer.weights["bias"]}),
        rounded(x).astype(np.float32), "float32",
    ).y  # fmt: skip
    result = rounded(exact) if precision == "bfloat16" else exact
    assert share_of_bound(np.asarray(result, np.float32), expected) <= 1
    least = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 1e-2}[precision] * np.abs(expected.y).max()
    assert expected.bound.max() < least
    moved = expected.y.copy()
    moved[0, 2, 2, 1] += np.float32(least)
    assert share_of_bound(moved, expected) > 1
    moved[0, 2, 2, 1] = np.nan
    assert share_of_bound(moved, expected) == np.inf
    assert share_of_bound(expected.y[:, 1:], expected) == np.inf


def test_bfloat16_ties_to_even() -> None:
    x = np.float32([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -3.14159, 0.0, 1e-40])
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert np.array_equal(
        to_bfloat16(x).view(np.int16), torch.from_numpy(x).bfloat16().view(torch.int16).numpy()
    )


# ---- times ---------------------------------------------------------------------------------------------


def test_candidates_take_turns_and_a_turn_is_long_enough() -> None:
    ran: list[str] = []
    milliseconds = {"a": 0.5, "b": 40.0, "c": 0.001}

    def clock(work: Callable[[], object], n: int) -> float:
        for _ in range(n):
            work()
        turns.append((ran[-1], n))
        return milliseconds[ran[-1]] * n

    turns: list[tuple[str, int]] = []
    candidates = {name: Candidate(lambda name=name: ran.append(name), calls=2) for name in milliseconds}  # type: ignore[misc]
    times = interleaved(candidates, clock, rounds=4)
    assert times == {"a": [0.25] * 4, "b": [20.0] * 4, "c": pytest.approx([0.0005] * 4)}
    measured = turns[-5 * 3 :]
    assert [name for name, _ in measured] == [*"cba", *"abc", *"cba", *"abc", *"cba"]
    assert dict(measured) == {"a": 20, "b": 1, "c": 200}


def test_shares_and_bars_are_what_their_names_say() -> None:
    def workload(case: str, batch: int, precision: str, **more: Any) -> dict[str, Any]:
        return {"case": case, "batch": batch, "precision": precision, "ours": "convcore", **more}

    def network(batch: int, flops: float) -> dict[str, Any]:
        more = {"ratio_to_fastest_peer": 1.05, "multiply_adds": 5, "bytes_per_s": 1e12}
        return workload("vgg16", batch, "tf32", flops_per_s=flops, **more)

    found = {
        "ceilings": {"copy": {"bytes_per_s": 4e12}, "matrix": {"tf32": {"flops_per_s": 5e14}}},
        "vgg16_tf32": {"workloads": [
            network(32, 1e14), network(1, 1e13),
        ]},
        "memory": {"workloads": [
            workload("softmax_4096_4096", 1, "float32", multiply_adds=0, flops_per_s=0.0, bytes_per_s=3.5e12),
            workload("relu_64MiB", 1, "float32", status="failed", reason="lost"),
        ]},
    }  # fmt: skip
    bars.shares(found)
    first, _ = found["vgg16_tf32"]["workloads"]
    assert first["share_of_matrix_rate"] == 0.2 and first["share_of_copy_bandwidth"] == 0.25
    softmax = found["memory"]["workloads"][0]
    assert softmax["share_of_copy_bandwidth"] == 0.875 and softmax["share_of_matrix_rate"] is None
    rows = {(b["case"], b["batch"], b["precision"]): b for b in bars.against(found)}
    assert len(rows) == len(bars.BARS) == 15
    assert rows["vgg16", 32, "tf32"]["met"] is True and rows["vgg16", 1, "tf32"]["met"] is False
    assert rows["softmax_4096_4096", 1, "float32"]["met"] is True
    assert rows["relu_64MiB", 1, "float32"]["met"] is None
    assert rows["relu_64MiB", 1, "float32"]["reason"] == "lost"
    assert rows["vgg16", 32, "float32"]["reason"] == "not measured"


# ---- a whole run ---------------------------------------------------------------------------------------


@pytest.fixture
def run_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A run whose parts are made up: `answers` has their records, and each takes 100 s."""
    now = [0.0]
    monkeypatch.setattr(preflight, "facts", lambda: FOUND)
    monkeypatch.setattr(record, "_make", lambda *_: {"status": "compiled here"})
    limits: dict[str, float | None] = {}

    def run(
        what: record.Run, answers: Mapping[str, Any], seconds: float = 100.0
    ) -> tuple[dict[str, Any], list[str]]:
        def part(name: str, what: record.Run, folder: str, left: float | None) -> dict[str, Any]:
            limits[name] = left
            now[0] += seconds
            if isinstance(answers[name], Exception):
                raise answers[name]
            return dict(answers[name])

        monkeypatch.setattr(record, "_part", part)
        monkeypatch.setattr(record, "_tests", lambda folder, left: part("tests", what, "", left))
        said: list[str] = []
        return record.run(what, said.append, lambda: now[0]), said

    run.limits = limits  # type: ignore[attr-defined]
    return run


MEASURED = {"status": "measured", "workloads": []}


def test_parts_run_by_importance_within_the_budget(run_parts: Any, tmp_path: Path) -> None:
    answers = {name: MEASURED for name in record.PARTS} | {"tests": {"status": "passed", "passed": 9}}
    path = tmp_path / "gpu.json"
    found, said = run_parts(record.Run(budget=410.0, path=path), answers)
    done = [name for name, part in found["parts"].items() if part["status"] != "not reached"]
    assert done == ["tests", "ceilings", "vgg16_float32", "vgg16_tf32"]
    assert found["parts"]["memory"]["reason"] == "10 s of the budget were left"
    assert run_parts.limits["tests"] == pytest.approx(0.4 * 410) and run_parts.limits["ceilings"] == 310
    assert (
        found["status"] == "partly measured" and json.loads(path.read_text())["status"] == "partly measured"
    )
    assert any("not reached" in line for line in said) and "memory: not reached" in printed(found)


def test_a_part_that_fails_takes_no_other_down(run_parts: Any, tmp_path: Path) -> None:
    answers = {name: MEASURED for name in record.PARTS} | {"vgg16_tf32": OSError("the GPU fell off the bus")}
    answers["tests"] = {"status": "failed", "failed": 2, "passed": 7, "log": ["FAILED x"]}
    found, _ = run_parts(record.Run(path=tmp_path / "gpu.json"), answers)
    assert found["parts"]["vgg16_tf32"]["reason"] == "OSError: the GPU fell off the bus"
    others = set(record.PARTS) - {"vgg16_tf32", "tests"}
    assert {found["parts"][name]["status"] for name in others} == {"measured"}
    assert found["status"] == "partly measured" and found["parts"]["tests"]["failed"] == 2


def test_parts_are_kept_of_the_same_gpu_and_sources_alone(run_parts: Any, tmp_path: Path) -> None:
    def asked(found: Mapping[str, Any]) -> set[str]:
        return {name for name, part in found["parts"].items() if part["status"] != record.NOT_ASKED}

    path = tmp_path / "gpu.json"
    answers = {name: MEASURED for name in record.PARTS}
    run_parts(record.Run(["ceilings"], path=path), answers)
    both, _ = run_parts(record.Run(["memory"], path=path, keep=True), answers)
    assert asked(both) == {"ceilings", "memory"} and set(both["parts"]) == set(record.PARTS)
    older = json.loads(path.read_text())
    path.write_text(json.dumps({**older, "sources": "of yesterday"}))
    alone, _ = run_parts(record.Run(["memory"], path=path, keep=True), answers)
    assert asked(alone) == {"memory"}
    path.write_text("no JSON")
    alone, _ = run_parts(record.Run(["memory"], path=path, keep=True), answers)
    assert asked(alone) == {"memory"}


def test_a_process_that_dies_or_hangs_leaves_what_it_has_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def part(code: str, seconds: float | None = None) -> dict[str, Any]:
        worker = tmp_path / "worker.py"
        worker.write_text("import json, os, sys, time\nout = sys.argv[sys.argv.index('--out') + 1]\n" + code)
        ran = record._ran

        def instead(command: Any, *rest: Any) -> Any:
            return ran([sys.executable, str(worker), *command[3:]], *rest)

        monkeypatch.setattr(record, "_ran", instead)
        try:
            return record._part("memory", record.Run(), str(tmp_path), seconds)
        finally:
            monkeypatch.setattr(record, "_ran", ran)

    write = "json.dump({'status': 'not finished', 'workloads': [1]}, open(out, 'w'))\n"
    assert part(write.replace("not finished", "measured")) == {"status": "measured", "workloads": [1]}
    died = part(write + "print('illegal address'); os._exit(7)")
    assert died["status"] == "failed" and died["reason"] == "the process ended with 7"
    assert died["workloads"] == [1] and died["log"] == ["illegal address"]
    hung = part(write.replace("\n", "; ") + "time.sleep(60)", 2.0)
    assert hung["status"] == "partly measured" and "ended after 2 s" in hung["reason"]
    nothing = part("sys.exit(3)")
    assert nothing["status"] == "failed" and "before anything was measured" in nothing["reason"]


def test_tests_are_run_and_counted(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    code = "import os\ndef test_right(): assert os.environ['CONVCORE_TEST_GPU'] == '1'\n"
    code += "def test_wrong(): assert 0\n"
    (tmp_path / "tests" / "test_cuda_small.py").write_text(code)
    (tmp_path / "tests" / "test_other.py").write_text("import no_such_module")
    found = record._tests(tmp_path / "tests", 60.0)
    assert (found["status"], found["passed"], found["failed"], found["exit_code"]) == ("failed", 1, 1, 1)
    assert any("test_wrong" in line for line in found["log"])
    (tmp_path / "tests" / "test_cuda_small.py").write_text("import time\ndef test_slow(): time.sleep(60)\n")
    assert record._tests(tmp_path / "tests", 2.0)["status"] == "timed out"
    assert record._tests(None, None)["status"] == "not measured"


def test_what_stays_in_the_emulator_is_named_rightly() -> None:
    """What the package launches goes to the GPU where there is one, and runs under the sanitizers too."""
    sources = {path.stem: path.read_text() for path in (ROOT / "tests").glob("test_cuda*.py")}
    to_the_gpu = {name for name, text in sources.items() if re.search(r"^from .*watch_launches", text, re.M)}
    assert to_the_gpu and not to_the_gpu & {*record._EMULATED}
    assert all((ROOT / "tests" / f"{name}.py").is_file() for name in record._EMULATED)


def test_a_crash_takes_no_other_tests_down(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for name, code in {
        "a": "import os\ndef test_right(): pass\ndef test_lost(): os._exit(9)\n",
        "b": "import pytest\npytest.importorskip('no_such_module')\ndef test_never(): pass\n",
        "c": "def test_right(): pass\ndef test_too(): pass\n",
    }.items():
        (tmp_path / "tests" / f"test_cuda_{name}.py").write_text(code)
    found = record._tests(tmp_path / "tests", 60.0)
    assert (found["status"], found["exit_code"]) == ("failed", 9)
    assert (found["passed"], found["skipped"]) == (3, 1)  # one of them before the crash
    assert found["reason"] == "test_cuda_a ended with 9"


def test_tests_under_a_sanitizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("test_cuda_small", "test_cuda_samples"):
        (tmp_path / "tests" / f"{name}.py").write_text("def test_right(): pass\n")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert (
        record._tests(tmp_path / "tests", 60.0, "memcheck")["reason"] == "compute-sanitizer is not installed"
    )
    program = tmp_path / "compute-sanitizer"
    monkeypatch.setattr("shutil.which", lambda *_, **__: str(program))
    for exit_code, status in ((0, "passed"), (86, "failed")):
        program.write_text(f'#!/bin/sh\n[ "$2" = racecheck ] || exit 1\nshift 6\n"$@"\nexit {exit_code}\n')
        program.chmod(0o755)
        found = record._tests(tmp_path / "tests", 60.0, "racecheck")
        assert (found["status"], found["passed"]) == (status, 1)  # without those in the emulator
        assert found.get("reason") == ("racecheck has found errors" if exit_code else None)


def test_a_record_as_text() -> None:
    ours = {"status": "timed", "median_ms": 1.5}
    workload = {
        "case": "vgg16", "batch": 32, "precision": "tf32", "status": "measured", "ours": "convcore",
        "fastest_peer": "pytorch", "ratio_to_fastest_peer": 0.75, "flops_per_s": 2e14, "bytes_per_s": 1e12,
        "candidates": {"convcore": ours, "pytorch": {"status": "timed", "median_ms": 2.0},
                       "pytorch_fused": {"status": "failed", "reason": "no such function"}},
    }  # fmt: skip
    found = {"ceilings": {"status": "measured", "copy": {"bytes_per_s": 4e12, "by": "cuMemcpyDtoD"},
                          "matrix": {"tf32": {"reason": "no peer"}}},
             "vgg16_tf32": {"status": "measured", "workloads": [workload]}}  # fmt: skip
    bars.shares(found)
    text = printed({"status": "partly measured", "parts": found, "bars": bars.against(found)})
    assert "copy on the GPU: 4000 GB/s" in text and "matrix product, tf32: no peer" in text
    assert "0.750" in text and "200.0" in text and "pytorch_fused: failed: no such function" in text
    assert text.endswith("partly measured")


def test_expected_results_of_what_only_moves_memory_are_exact() -> None:
    for name in ("hu", "pool", "relu"):
        layer = chain(SMALL[name].build())[0]
        expected = expected_of_layer(layer, SMALL[name].inputs(2), "float32")
        assert not expected.bound.any() and share_of_bound(expected.y, expected) == 0
        other = Expected(expected.y, expected.bound)
        assert share_of_bound(np.nextafter(expected.y, np.float32(9e9)), other) == np.inf


def test_kernels_of_another_gpu_are_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = FakeDriver()
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    machine_code.write(tmp_path, (8, 0), {})
    with pytest.raises(DeviceError, match="the kernels are for another GPU"):
        Kernels(machine_code.Folder(tmp_path), driver.Device())
    machine_code.write(tmp_path, (9, 0), {})
    kernels = Kernels(machine_code.Folder(tmp_path), driver.Device())
    plan = Schedule.from_dict({"launches": [["none", [1, 1, 1], []]], "arrays": {}, "packings": [],
                               "constants": {}, "channels": None})  # fmt: skip
    with pytest.raises(DeviceError, match="has no kernel 'none'"):
        Bound(plan, [], np.zeros(1), kernels, driver.Device())
