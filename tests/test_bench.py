"""`convcore.bench`: rooflines, named cases, formats written for peers, comparisons that hide nothing."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore import _native, bench
from convcore.bench import comparison as comparing
from convcore.bench import own_peers
from convcore.bench.array_peers import NumPy, PyDicom
from convcore.bench.cases import _hounsfield
from convcore.bench.chart import write_chart
from convcore.bench.comparison import Comparison, Measured
from convcore.bench.formats import UnsupportedError, dense_kernel, write_ncnn
from convcore.bench.own_peers import Convcore, Roofline
from convcore.bench.peers import PEERS
from convcore.bench.worker import Worker, WorkerError
from convcore.errors import ArgumentError
from convcore.loader.check import check_graph
from convcore.loader.graph import Graph, Node, Source
from convcore.plan import Device, build
from convcore.plan.data import PlanStep, View
from convcore.reference import evaluate
from convcore.run import roofline
from convcore.run.bounds import U

# Small enough for a plain machine: 4 MiB.
FLOATS = 1 << 20

# ---- roofline


@pytest.mark.parametrize("isa", _native.isas())
def test_every_instruction_set_has_a_roofline(isa: str) -> None:
    peaks = bench.roofline(isa, 1, floats=FLOATS)
    assert min(peaks.flops, peaks.read, peaks.write, peaks.copy) > 0
    assert all(0 < share <= 1 for share in peaks.median_of_best)
    assert peaks.as_dict()["isa"] == isa


def test_the_roofline_is_kept_for_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {n: bench.roofline("scalar", n, floats=FLOATS) for n in (1, 2)}
    assert found[1] is not found[2] and found[2].threads == 2
    monkeypatch.setattr(_native, "get_num_threads", lambda: 2)
    assert bench.roofline("scalar", floats=FLOATS) is found[2]


def test_a_dense_layer_stays_below_the_peak_of_multiply_adds() -> None:
    """The peak is one: a GEMM in the caches comes near it and never passes it (by more than noise)."""
    isa = _native.default_isa()
    peaks = bench.roofline(isa, 1, floats=FLOATS)
    rows, n = 84 * 8, 256
    x, y = np.ones((rows, n), np.float32), np.empty((rows, 32), np.float32)
    views = {"x": (0, 0, "float32", (rows, n), (n, 1)), "out": (1, 0, "float32", (rows, 32), (32, 1))}
    step = _native.Step("dense", isa=isa, **views)  # type: ignore[arg-type]
    packed = np.ones(step.packed_floats, np.float32)
    step.set_weights(packed)
    program = _native.Program([step])
    best = min(bench.interleaved({"dense": lambda: program.run([x, y], threads=1)}, 20)["dense"])
    assert step.flops / best / 1e6 < 1.2 * peaks.flops / 1e9


def test_work_counts_winograds_products_and_repeated_rows_once() -> None:
    (step,) = build(bench.case("conv3x3_14_512_512").build(), Device(accuracy="standard")).steps
    work = roofline.work(step, 2)
    assert work.flops == 2 * step.flops
    if step.algorithm == "Winograd 4x4":  # 16 tiles of 36 products each way, for 14 x 14 x 9
        assert work.algorithm_flops == pytest.approx(work.flops * 16 * 36 / (9 * 14 * 14))
    assert work.written == 2 * 4 * 14 * 14 * 512
    assert step.weights is not None
    assert work.read == step.weights.nbytes + 2 * 4 * 14 * 14 * 512
    row = View("x", (8, 5, 3), (0, 3, 1))
    assert PlanStep("copy", (row,), row, (), ()).bytes_read == 4 * 15


def test_work_counts_maps_before_pooling_and_of_borders_the_halo_alone() -> None:
    conv = PlanStep(
        "conv",
        inputs=(),
        output=View("y", (1, 1, 14, 14, 64), (14 * 14 * 64, 14 * 14 * 64, 14 * 64, 64, 1)),
        layers=(),
        nodes=(),
        options={"pool": 2},
        algorithm="Winograd 4x4",
        flops=1e6,
    )
    # 7 x 7 tiles of 36 products, for 28 x 28 outputs of 9: nothing lies outside the map.
    assert roofline.work(conv, 1).algorithm_flops == pytest.approx(1e6 * 36 / (9 * 16))
    border = replace(conv, operation="border", options={}, algorithm="border", flops=0.0, bytes=4.0 * 60 * 64)
    assert roofline.work(border, 3).written == 3 * 4 * 60 * 64


def test_a_profile_has_a_floor() -> None:
    profile = bench.profile_case("sonar_mlp", batch=4, repeats=3)
    assert profile.batch == 4 and len(profile.steps) == 3
    assert profile.least_ms == sum(s.least_ms for s in profile.steps) > 0
    assert "floor" in str(profile) and profile.as_dict()["peaks"]["isa"] == _native.default_isa()


# ---- cases


def test_cases_are_sound_graphs_of_the_shape_they_name() -> None:
    for name, workload in bench.CASES.items():
        if name in ("vgg16", "dense_25088_4096"):
            continue  # half a gigabyte of weights each: tests/test_vgg16.py has the network
        graph = workload.build()
        if workload.planned:
            check_graph(graph)
        assert tuple(graph.nodes[0].shape) == workload.shape, name
        assert graph.name == name


def test_inputs_are_the_same_images_in_every_batch() -> None:
    workload = bench.case("depthwise3x3_7_1024")
    assert np.array_equal(workload.inputs(3)[:1], workload.inputs(1))
    with pytest.raises(ArgumentError, match="no such case"):
        bench.case("nonsense")


# ---- adapters

SMALL = ["sonar_mlp", "conv3x3_14_512_512", "conv1x1_7_512_2048", "depthwise3x3_14_512", "max_pool_224_64"]


def tiny_network() -> Graph:
    """Everything that depends on the order of axes: strides that differ, a flattened map, a dense layer."""
    from convcore.bench.building import Builder

    network = Builder("tiny", (9, 12, 3)).conv(5, 3, stride=2).activation("relu").depthwise().batch_norm()
    return network.conv(8, 1).max_pool().flatten().dense(7).activation("sigmoid").softmax().graph()


#: Those that have no networks, or nothing to compute.
SINGLE = (
    "convcore_prepared",
    "keras",
    "numpy",
    "opencv",
    "pydicom",
    "roofline",
    "scipy_ndimage",
    "scipy_signal",
)


@pytest.mark.parametrize("name", [n for n in PEERS if n not in SINGLE])
def test_an_adapter_computes_the_network(name: str) -> None:
    if name not in bench.installed():
        pytest.skip(f'{name} is not installed: pip install "convcore[bench-peers]"')
    graph = tiny_network()
    x = np.random.default_rng(3).standard_normal((2, 9, 12, 3), np.float32)
    expected = evaluate(graph, {"input": x})[graph.outputs[0]]
    with Process(name) as peer:
        y = peer(graph, x)
    # Probabilities of about 1/7 from sums of some tens of products; ours and theirs round differently.
    assert np.abs(y - expected).max() < 1000 * U


class Process:
    """An adapter in a child of its own: some of the libraries do not bear each other's company."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, graph: Graph, x: np.ndarray) -> np.ndarray:
        import pickle
        import subprocess
        import sys

        code = (
            "import os, pickle, sys; out = os.fdopen(os.dup(1), 'wb'); os.dup2(2, 1); "
            "from convcore.bench.peers import PEERS; from convcore.loader.graph import *; "
            "name, nodes, ends, x = pickle.load(sys.stdin.buffer); "
            "graph = Graph('tiny', tuple(Node(*n) for n in nodes), *ends, (), Source('', '', '')); "
            "peer = PEERS[name](1); peer.build(graph, x); peer.run(); pickle.dump(peer.output(), out)"
        )
        nodes = [
            (n.name, n.operation, n.inputs, n.shape, dict(n.attributes), dict(n.weights)) for n in graph.nodes
        ]
        message = pickle.dumps((self.name, nodes, (graph.inputs, graph.outputs), x))
        done = subprocess.run(
            [sys.executable, "-c", code], input=message, capture_output=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:].decode()
        answer: np.ndarray = pickle.loads(done.stdout)
        return answer


def test_numpy_refuses_what_it_has_no_call_for() -> None:
    workload = bench.case("conv3x3_14_512_512")
    with pytest.raises(UnsupportedError, match="conv"):
        NumPy(1).build(workload.build(), workload.inputs())


def test_hounsfield_units_agree_with_numpy_and_pydicom() -> None:
    graph = _hounsfield((3, 16, 20))
    raw = np.random.default_rng(0).integers(-1999, 4096, (2, 3, 16, 20), np.int16)
    adapters: list[type[Any]] = [Convcore, NumPy]
    if "pydicom" in bench.installed():
        adapters.append(PyDicom)
    for adapter in adapters:
        peer = adapter(_native.get_num_threads())
        peer.build(graph, raw)
        peer.run()
        assert np.array_equal(peer.output(), raw.astype(np.float32) - 1024), adapter  # exact in float32


def test_pydicom_refuses_a_network() -> None:
    pytest.importorskip("pydicom")
    with pytest.raises(UnsupportedError, match="softmax"):
        PyDicom(1).build(tiny_network(), np.empty((1, 9, 12, 3), np.float32))


def test_the_roofline_of_a_case_moves_its_bytes_unless_the_caches_hold_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[tuple[int, int]] = []
    monkeypatch.setattr(own_peers, "traffic", lambda *sizes: moved.append(sizes))
    monkeypatch.setattr(own_peers, "last_cache_bytes", lambda: 1000)
    graph, threads = bench.sonar_mlp(), _native.get_num_threads()
    Roofline(threads).build(graph, np.empty((4, 60), np.float32))
    weights = 60 * 60 + 60 + 60 * 30 + 30 + 30 + 1
    assert moved == [(4 * (weights + 4 * 60), 4 * 4)]
    monkeypatch.setattr(own_peers, "last_cache_bytes", lambda: 1 << 20)
    with pytest.raises(UnsupportedError, match="caches"):
        Roofline(threads).build(graph, np.empty((4, 60), np.float32))


def test_numpy_and_ours_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = _native.get_num_threads()
    for name in ("sonar_mlp", "max_pool_224_64"):
        workload = bench.case(name)
        outputs = []
        for adapter in (Convcore, NumPy):
            peer = adapter(threads)
            peer.build(workload.build(), workload.inputs(2))
            peer.run()
            outputs.append(np.array(peer.output()))
        assert np.abs(outputs[0] - outputs[1]).max() < 1e-5


def test_the_rows_of_a_flattened_map_are_put_in_its_other_order() -> None:
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(24, 5)
    nodes = (
        Node("x", "input", (), (2, 3, 4)),
        Node("f", "reshape", ("x",), (24,), {"shape": (24,)}),
        Node("d", "dense", ("f",), (5,), {}, {"kernel": kernel}),
    )
    graph = Graph("g", nodes, ("x",), ("d",), (), Source("", "", ""))
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    moved = np.moveaxis(x, -1, 0).reshape(-1) @ dense_kernel(graph, nodes[2])
    assert np.allclose(moved, x.reshape(-1) @ kernel)


def test_ncnn_files_name_every_layer_once(tmp_path: Path) -> None:
    parameters, weights = write_ncnn(tiny_network(), tmp_path)
    magic, counts, *lines = parameters.read_text().splitlines()
    assert (magic, counts) == ("7767517", f"{len(lines)} {len(lines)}")
    # The ReLU is the convolution's own; the sigmoid is not.
    kinds = [line.split()[0] for line in lines]
    assert kinds[:2] == ["Input", "Convolution"] and "ReLU" not in kinds and "Sigmoid" in kinds
    assert weights.stat().st_size > 4 * 24 * 7


# ---- comparisons


def test_comparisons_time_what_agrees_and_say_why_the_rest_is_not_there() -> None:
    found = bench.compare("conv1x1_7_512_2048", peers=["convcore", "numpy"], rounds=2)
    assert found.peers["convcore"].status == "timed" and len(found.peers["convcore"].ms) == 2
    assert found.peers["numpy"].status == "unsupported" and "conv" in found.peers["numpy"].reason
    assert found.fastest is None and found.ratio is None
    record = found.as_dict()["peers"]
    assert record["numpy"]["reason"] and record["convcore"]["median"] > 0


def test_a_missing_peer_is_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "installed", lambda device: ("convcore", "numpy"))
    found = bench.compare("sonar_mlp", peers=["convcore", "torch", "numpy"], rounds=2, batch=3)
    assert found.peers["torch"].status == "not installed" and "pip install" in found.peers["torch"].reason
    assert found.fastest == "numpy" and found.ratio is not None and found.ratio > 0


def test_instruction_sets_take_turns_beside_the_peers() -> None:
    found = bench.compare(
        "sonar_mlp", peers=["convcore", "numpy"], rounds=2, isas=["scalar", "sse2", "scalar"]
    )
    assert list(found.peers) == ["convcore scalar", "convcore sse2", "numpy"]
    assert found.ours == ("convcore scalar", "convcore sse2") and found.fastest == "numpy"
    assert found.ratio == found.ratio_of("convcore scalar", "numpy") and found.ratio is not None
    sets = found.as_dict()["instruction_sets"]
    assert sets["convcore scalar"]["ratio_to_convcore scalar"] == 1
    assert sets["convcore sse2"]["ratio_to_fastest_peer"] > 0
    unknown = bench.compare("sonar_mlp", peers=["convcore"], rounds=1, isas=["mmx"])
    assert unknown.peers["convcore"].status in ("died", "failed")


def test_the_roofline_is_no_peer() -> None:
    peers = {
        "convcore": Measured("timed", ms=[2.0, 4.0]),
        "numpy": Measured("timed", ms=[4.0, 4.0]),
        "roofline": Measured("timed", ms=[1.0, 3.0]),
    }
    found = Comparison("x", 1, 1, peers)
    assert found.fastest == "numpy" and found.ratio == 0.75
    assert found.share_of_roofline == 0.625 and found.as_dict()["share_of_roofline"] == 0.625


def test_a_wrong_answer_is_not_timed() -> None:
    right = np.array([[1.0, -2.0]], np.float32)
    assert comparing._compared(right, right).status == "timed"
    assert comparing._compared(right + np.float32(0.1), right).status == "disagrees"
    assert comparing._compared(np.full_like(right, np.nan), right).status == "disagrees"
    assert "shape" in comparing._compared(right.T, right).reason


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops processes")
def test_a_worker_waits_while_it_is_stopped_and_dies_with_a_reason() -> None:
    with Worker("convcore", 1) as worker:
        assert worker.build("sonar_mlp", 2).shape == (2, 1)
        worker.pause()
        status = Path(f"/proc/{worker._process.pid}/stat")
        if status.exists():
            os.waitid(os.P_PID, worker._process.pid, os.WSTOPPED | os.WNOWAIT)
            assert status.read_text().rpartition(") ")[2][0] == "T"
        worker.resume()
        assert min(worker.time(0.001)) > 0
        with pytest.raises(WorkerError, match="no such case") as failed:
            worker.build("nonsense", 1)
        assert failed.value.kind == "failed"
        worker._process.kill()
        with pytest.raises(WorkerError, match="-9") as died:
            worker.time(0.001)
        assert died.value.kind == "died"


def test_a_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='pip install "convcore[bench]"')
    cv2 = pytest.importorskip("cv2")
    peers = {
        "convcore": Measured("timed", ms=[1.0]),
        "numpy": Measured("timed", ms=[2.0]),
        "torch": Measured("not installed"),
    }
    path = write_chart(tmp_path / "bars.png", [Comparison("x", 1, 2, peers)], "title")
    picture = cv2.imread(str(path))
    # Two bars, ours red (BGR), half as long as the other; nothing for the third.
    red = (np.abs(picture.astype(int) - (0x1E, 0x26, 0xB3)).sum(axis=2) < 8).sum(axis=1).max()
    grey = (np.abs(picture.astype(int) - (0x9A, 0x9A, 0x9A)).sum(axis=2) < 8).sum(axis=1).max()
    assert abs(2 * red - grey) <= 4 and grey > 300
