"""`convcore.bench`'s operations: problem strings, what cases compute, rates, earlier results, pictures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import _native, bench, ops
from convcore.bench import kernels, regression
from convcore.bench.comparison import Comparison, Measured
from convcore.bench.exact import Work, error, expected, work
from convcore.bench.formats import UnsupportedError
from convcore.bench.gpu import calls, driver
from convcore.bench.kernels import Result, as_record, chosen_cases
from convcore.bench.operations import (
    OPERATION_CASES,
    OPERATIONS,
    operation_case,
    prepared_call,
    public_call,
    sweep,
)
from convcore.bench.peers import adapters
from convcore.cli import main
from convcore.errors import ArgumentError, InputError
from convcore.loader.graph import Graph
from convcore.run import roofline
from convcore.run.bounds import U
from convcore.run.roofline import Peaks

from .fake_gpu import FakeDriver

Capture = pytest.CaptureFixture[str]
PEAKS = Peaks("avx2", 2, 100e9, 10e9, 5e9, 6e9, (1.0, 1.0, 1.0, 1.0))

# ---- problem strings


@pytest.mark.parametrize(
    ("name", "text", "full"),
    [
        ("conv2d", "ic64ih56oc128oh56kh3", "mb1ic64ih56oc128oh56kh3ph1"),
        ("conv2d", "mb2_g4ic64ih56oc128kh3ph1", "mb2g4ic64ih56oc128oh56kh3ph1"),
        ("conv2d", "ic3ih5iw6oc4kh3kw2sh2dh1", "mb1ic3ih5iw6oc4oh1ow2kh3kw2sh2dh1"),
        (
            "conv2d",
            "ic3ih56oc8oh28kh3sh2",
            "mb1ic3ih56oc8oh28kh3sh2ph0",
        ),  # Keras's "same": one on the high side
        ("conv1d", "ic1iw9oc1kw3", "mb1ic1iw9oc1ow7kw3"),
        ("conv3d", "ic1id4oc1kd1", "mb1ic1id4oc1od4kd1"),
        ("conv2d_transpose", "ic4ih5oc2oh10kh4sh2", "mb1ic4ih5oc2oh10kh4sh2ph1"),
        ("max_pool", "ic8ih7kh3sh2ph1", "mb1ic8ih7oh4kh3sh2ph1"),
        ("dense", "mb60ic784oc500", "mb60ic784oc500"),
        ("correlate", "id9kd3", "id9kd3"),
        ("softmax", "64x1000", "64x1000"),
    ],
)
def test_problems_have_one_full_form(name: str, text: str, full: str) -> None:
    found = operation_case(name, text)
    assert found.name == f"{name}:{full}"
    again = operation_case(name, full)
    assert again.name == found.name and again.shape == found.shape
    assert found.build().nodes[-1].shape == again.build().nodes[-1].shape


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nonsense", "ih4", "no such operation.*conv2d"),
        ("conv2d", "", "names and numbers"),
        ("conv2d", "ic64ih56oc128kh3!", "names and numbers"),
        ("conv2d", "ic64ih56oc128", "no kh"),
        ("conv2d", "ih56oc128kh3", "no ic"),
        ("conv2d", "ic64id56oc128kd3", "2 spatial axes"),
        ("conv2d", "ic64ih56oc128kh3kh3", "twice"),
        ("conv2d", "ic64ih56oc128kh3xh3", "xh"),
        ("conv2d", "ic64ih56oc128kh0", "numbers from 1"),
        ("conv2d", "ic64ih3oc128kh5", "output"),
        ("conv2d", "ic64ih8oc8oh20kh3ph1sh2", "output|padding"),
        ("conv2d", "ic64ih8oc8oh2kh3ph1", "output 2"),
        ("conv2d", "g3ic64ih8oc8kh3", "channels"),
        ("conv2d_transpose", "ic4ih5oc2oh99kh2sh2", "output 99"),
        ("softmax", "ih64", "lengths"),
        ("softmax", "64x0", "lengths from 1"),
        ("upsample", "ic1ih4oh6", "multiples"),
        ("crop", "ic1ih4ph2", "at least 1"),
        ("max_pool", "ic4kh2", "no i|axes"),
    ],
)
def test_what_is_no_problem_is_said(name: str, text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        operation_case(name, text)


def test_every_public_operation_has_cases() -> None:
    assert set(OPERATIONS) == set(ops.__all__)
    assert {name for name, _ in OPERATION_CASES} == set(OPERATIONS)
    names = [operation_case(*pair).name for pair in OPERATION_CASES]
    assert len(set(names)) == len(names)


# ---- what is computed

#: Few enough numbers to be computed in float64 beside the others.
SMALL = [pair for pair in OPERATION_CASES if math.prod(operation_case(*pair).shape) <= 1 << 20]


def in_magnitudes(graph: Graph) -> Graph:
    """The graph with the magnitudes of its weights: on |x| it gives the sums of |a b|."""
    nodes = tuple(
        replace(n, weights={k: np.abs(np.asarray(a)) for k, a in n.weights.items()}) for n in graph.nodes
    )
    return replace(graph, nodes=nodes)


def terms(graph: Graph) -> int:
    """Most numbers that a sum of the graph has, or that a value passes through."""
    found = 16  # an activation's polynomial, an interpolation's eight corners
    for before, node in zip(graph.nodes, graph.nodes[1:], strict=False):
        found += math.prod(node.attributes.get("pool_size", ()))
        found += sum(math.prod(w.shape[:-1]) for k, w in node.weights.items() if k == "kernel")
        if node.operation.startswith("global"):
            found += math.prod(n or 0 for n in before.shape[:-1])
        if node.operation in ("correlate", "convolve"):
            found += math.prod(node.weights["kernel"].shape)
        if node.operation == "softmax":
            found += node.shape[-1] or 0
    return found


@pytest.mark.parametrize("pair", SMALL, ids=":".join)
def test_the_public_function_computes_the_case(pair: tuple[str, str]) -> None:
    one = operation_case(*pair)
    graph, x = one.build(), one.inputs(one.batch or 1)
    y = np.full((len(x), *graph.nodes[-1].shape), np.nan, np.float32)  # type: ignore[arg-type]
    public_call(graph, cc, x, y, lambda array: array)()
    exact = expected(graph, x)
    largest = expected(in_magnitudes(graph), np.abs(x)) if x.dtype == np.float32 else exact
    # A sum of k terms is within 2 k u sum|a b| of the exact one; an image's scale and mean add to
    # batch_norm's.
    bound = 2 * terms(graph) * U * max(np.abs(largest).max(), np.abs(exact).max(), 1.0)
    assert np.abs(y - exact).max() <= bound


def test_prepared_kernels_get_the_arguments_of_the_function() -> None:
    def prepare_conv2d(w: Any, bias: Any, **options: Any) -> Any:
        return lambda x, out: cc.conv2d(x, w, bias, **options, out=out)

    one = bench.case("conv2d:g2ic4ih9oc6kh3sh2ph1")
    graph, x = one.build(), one.inputs()
    y = np.empty((1, *graph.nodes[-1].shape), np.float32)  # type: ignore[arg-type]
    prepared_call(graph, SimpleNamespace(prepare_conv2d=prepare_conv2d), x, y)()
    assert error(y, expected(graph, x)) < 1e-5  # another operation is off by 1
    with pytest.raises(UnsupportedError, match="prepare_conv2d"):
        prepared_call(graph, SimpleNamespace(), x, y)


@pytest.mark.parametrize("name", ["numpy", "scipy_ndimage", "scipy_signal", "opencv"])
def test_array_libraries_compute_the_cases_that_they_have(name: str) -> None:
    if name not in bench.installed():
        pytest.skip(f"{name} is not installed")
    served = 0
    for pair in SMALL:
        one = operation_case(*pair)
        graph, x = one.build(), one.inputs(one.batch or 1)
        peer = adapters()[name](1)
        try:
            peer.build(graph, x)
        except UnsupportedError:
            continue
        peer.run()
        assert error(peer.output(), expected(graph, x)) < 1e-4, one.name  # another operation is off by 1
        served += 1
    assert served >= 5


def test_keras_computes_the_cases_that_it_has() -> None:
    if "keras" not in bench.installed():
        pytest.skip("keras is not installed")
    for text in ("conv2d:ic3ih9oc4oh9kh3", "tanh:1000", "average_pool:ic8ih8oh4kh2sh2", "hard_silu:50"):
        found = bench.compare(text, peers=["convcore", "keras"], rounds=1, exact=True)
        mine = found.peers["keras"]
        assert mine.status == "timed" and mine.error is not None and mine.error < 1e-5


def test_the_error_sees_a_wrong_number_and_a_wrong_shape() -> None:
    exact = np.array([[1.0, -2.0]])
    assert error(exact.astype(np.float32), exact) == 0
    assert error(np.float32([[1.5, -2]]), exact) == 0.25
    assert error(np.float32([[np.nan, -2]]), exact) == math.inf == error(exact.T.astype(np.float32), exact)


def test_work_counts_every_array_once() -> None:
    def of(name: str) -> Work:
        one = bench.case(name)
        return work(one.build(), one.batch or 1, one.inputs(1).itemsize)

    weights = 3 * 3 * 4 * 8 + 8
    assert of("conv2d:mb2ic4ih5oc8oh5kh3") == (
        2 * 2 * 25 * 8 * 36, 4 * (2 * 25 * 4 + weights), 4 * 2 * 25 * 8
    )  # fmt: skip
    assert of("hu_rescale:2x4x4") == (0, 2 * 32, 4 * 32)
    assert of("correlate:ih8kh3").flops == 2 * 64 * 9
    assert of("dense:mb3ic4oc5") == (2 * 3 * 20, 4 * (3 * 4 + 25), 4 * 15)
    assert of("crop:ic1ih8ph2").read == of("crop:ic1ih8ph2").written == 4 * 16


def test_a_sweep_changes_sizes_alone() -> None:
    names = [c.name for c in sweep(operation_case("conv2d", "ic64ih56oc128oh28kh3sh2ph1"))]
    assert names == [f"conv2d:mb1ic64ih{n}oc128oh{n // 2}kh3sh2ph1" for n in (14, 28, 56, 112)]
    assert [c.name for c in sweep(operation_case("tanh", "1000"))] == [
        f"tanh:{n}" for n in (250, 500, 1000, 2000)
    ]
    assert len(sweep(operation_case("conv2d", "ic1ih4oc1kh3"), (0.25, 1))) == 1  # a window needs its input


# ---- results


def result(
    device: str = "cpu", ms: float = 2.0, case: str = "dense:mb1ic1000oc1000", **peers: float
) -> Result:
    measured = {"convcore": Measured("timed", ms=[ms], calls=[ms, 2 * ms], error=1e-7)}
    measured |= {name: Measured("timed", ms=[t]) for name, t in peers.items()}
    on = PEAKS if device == "cpu" else None
    return Result(Comparison(case, 1, 2, measured), device, "avx2", Work(2e6, 4e6, 4e3), on)


def test_rates_are_work_over_time() -> None:
    one = result(torch=1.0)
    rates = one.rates(one.mine)
    assert rates["gflops"] == pytest.approx(1.0) and rates["gbytes"] == pytest.approx(2.002)
    assert rates["fraction_of_roofline"] == pytest.approx((4e6 / 10e9 + 4e3 / 5e9) / 2e-3)
    record = one.as_dict()
    assert record["operation"] == "dense" and record["problem"] == "mb1ic1000oc1000"
    assert record["peers"]["torch"]["gflops"] == pytest.approx(2.0)
    assert record["peers"]["convcore"]["error"] == 1e-7 and record["ratio_to_fastest_peer"] == 2.0
    assert record["peers"]["convcore"]["p90"] == pytest.approx(3.8)
    on_gpu = result("cuda")
    assert on_gpu.rates(on_gpu.mine)["fraction_of_roofline"] is None
    on_gpu.mine.facts = {"copy_bytes_per_s": 4.004e9}
    assert on_gpu.rates(on_gpu.mine)["fraction_of_roofline"] == pytest.approx(0.5)


def test_cases_are_chosen_by_operation() -> None:
    assert chosen_cases(["all"]) == [operation_case(*pair).name for pair in OPERATION_CASES]
    assert chosen_cases(["article"]) == ["mlp_784_500_10", "convolve:ih256kh7", "tanh:1000", "tanh:4096x4096"]
    assert chosen_cases(["relu"], ["8", "9"]) == ["relu:8", "relu:9"]
    with pytest.raises(ArgumentError, match="no such operation"):
        chosen_cases(["nonsense"])


# ---- beside an earlier result


def record(*results: Result, **machine: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(as_record(results, ["torch"])))
    found["machine"] |= {"cpu": "a", "cores": 2, "isa": "avx2", **machine}
    return dict(found)


def test_ratios_to_a_peer_are_compared_and_times_only_without_one() -> None:
    slower_machine = regression.changes(record(result(ms=2.0, torch=1.0)), record(result(ms=4.0, torch=2.0)))
    assert [(r.ratio, r.by) for r in slower_machine.rows] == [(1.0, "torch")]
    alone = regression.changes(record(result(ms=2.0)), record(result(ms=4.0)))
    assert (
        [(r.ratio, r.by) for r in alone.rows] == [(2.0, "time")] and alone.slower(1.9) and not alone.slower(2)
    )
    new = record(result(ms=4.0, torch=2.0))
    new["machine"]["versions"]["torch"] = "another"
    assert regression.changes(record(result(ms=2.0, torch=1.0)), new).rows[0].by == "time"


def test_times_of_another_machine_are_not_compared() -> None:
    for other in ({"cpu": "b"}, {"cores": 4}, {"isa": "avx512"}):
        found = regression.changes(record(result(ms=2.0)), record(result(ms=9.0), **other))
        assert found.differ and found.compared == 0 and "not comparable" in found.rows[0].reason
        beside = regression.changes(record(result(torch=1.0)), record(result(ms=3.0, torch=1.0), **other))
        assert beside.rows[0].ratio == 1.5 and beside.differ


def test_other_threads_and_instruction_sets_are_other_results() -> None:
    one = result()
    for changed, word in (
        (replace(one, isa="sse2"), "instruction set: avx2 before, sse2 now"),
        (replace(one, comparison=replace(one.comparison, threads=1)), "threads: 2 before, 1 now"),
        (replace(one, comparison=replace(one.comparison, case="relu:1")), "not in the old result"),
    ):
        found = regression.changes(record(one), record(changed))
        assert found.compared == 0 and word in found.rows[0].reason and found.missing
    with pytest.raises(InputError, match="no result"):
        regression.changes({"machine": {}}, record(one))


# ---- the command


@pytest.fixture
def small_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_FLOATS", 1 << 20)
    monkeypatch.setattr(roofline, "last_cache_bytes", lambda: 0)


@pytest.mark.usefixtures("small_roofline")
def test_an_operation_of_any_shape_beside_peers(capsys: Capture, tmp_path: Path) -> None:
    path, words = tmp_path / "now.json", ["bench", "kernels", "--op", "softmax", "--shape", "8x16,9x32"]
    words += ["--peers", "numpy", "--rounds", "2", "--threads", "1"]
    assert main([*words, "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "softmax:8x16" in out and "of roofline" in out and "max error" in out and err == ""
    found = json.loads(path.read_text())
    assert found["machine"]["versions"]["numpy"] == np.__version__ and found["rooflines"][0]["threads"] == 1
    first = found["results"][0]
    assert (first["operation"], first["problem"], first["device"]) == ("softmax", "8x16", "cpu")
    ours = first["peers"]["convcore"]
    assert (
        ours["median"] > 0 and ours["p90"] > 0 and ours["error"] < 1e-6 and ours["fraction_of_roofline"] > 0
    )
    # Beside a result that was twice as fast, and one that was as slow: ratios to NumPy.
    found["results"] = [r | {"peers": r["peers"] | {"convcore": {"median": 1e-9}}} for r in found["results"]]
    path.write_text(json.dumps(found))
    assert main([*words, "--compare", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "now / before" in out and "slower" in out and "by numpy" in err
    path.write_text(path.read_text().replace("1e-09", "1e9"))
    assert main([*words, "--compare", str(path)]) == 0


@pytest.mark.usefixtures("small_roofline")
def test_without_a_gpu_the_cpu_goes_on_and_the_code_is_1(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason='pip install "convcore[app]"')
    monkeypatch.setattr(kernels, "no_gpu", lambda: "No GPU can be used: a test.")
    words = ["bench", "kernels", "--op", "tanh", "--shape", "100", "--rounds", "1", "--device", "cpu,cuda"]
    path = tmp_path / "now.json"
    assert main([*words, "--json", str(path), "--plot", str(tmp_path / "p.png")]) == 1
    out, err = capsys.readouterr()
    assert "a test. What runs on the CPU is measured." in err
    rows = [line.split() for line in out.splitlines() if line.startswith("tanh:100")]
    assert [row[1] for row in rows] == ["cpu", "cuda"] and "not measured" in out
    on_cpu, on_gpu = json.loads(path.read_text())["results"]
    assert on_cpu["peers"]["convcore"]["median"] > 0
    assert on_gpu["peers"]["convcore"] == {
        "status": "not measured", "reason": "No GPU can be used: a test.", "difference": None
    }  # fmt: skip
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["p-devices.png", "p-roofline.png"]
    assert main([w if w != "cpu,cuda" else "cuda" for w in words]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "a test." in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--op", "conv2d"], "for `kernels`"),
        (["kernels", "--shape", "8"], "--op conv2d"),
        (["kernels", "--op", "nonsense"], "no such operation"),
        (["kernels", "--op", "relu,tanh", "--shape", "8"], "one operation"),
        (["kernels", "--op", "relu", "--shape", "ih8"], "lengths"),
        (["kernels", "--op", "relu", "--only", "memory"], "one of them"),
        (["kernels", "--op", "relu", "--batch", "8"], "mb8"),
        (["kernels", "--op", "relu", "--device", "tpu"], "cpu,cuda"),
        (["kernels", "--threshold", "0.5"], "above 1"),
    ],
)
def test_wrong_calls(words: list[str], message: str, capsys: Capture) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


def test_an_earlier_result_that_is_none_is_said_first(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "x.json").write_text("[]")
    for path in (tmp_path / "x.json", tmp_path / "absent.json"):
        assert main(["bench", "kernels", "--op", "relu", "--compare", str(path)]) == 1
        assert path.name in capsys.readouterr().err


# ---- pictures


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_pictures_say_what_was_not_measured() -> None:
    pytest.importorskip("matplotlib", reason='pip install "convcore[app]"')
    from convcore.bench import plots

    there = result(torch=1.0)
    absent = Result(
        Comparison(there.comparison.case, 1, 2, {"convcore": Measured("not measured", "why")}),
        "cuda",
        "",
        there.work,
    )
    said = texts(plots._devices([there, absent], "t"))
    assert "not measured" in said and "GPU" in said and "PyTorch" in said
    assert "not measured" not in texts(plots._devices([there, result("cuda")], "t"))
    assert plots._devices([there], "t") is None
    assert "100 GFLOP/s" in texts(plots._roofline([there], "t")) and plots._roofline([absent], "t") is None
    assert plots._sizes([there], "t") is None
    sizes = [result(ms=n, case=f"dense:mb{n}ic4oc5") for n in (1, 2)]
    assert plots._sizes(sizes, "t") is None  # other batches are other problems
    drawn = plots._sizes([result(ms=n, case=f"correlate:ih{8 * n}kh3") for n in (1, 2)], "t")
    assert "correlate 3x3" in texts(drawn)


# ---- on a GPU, without one


def test_a_call_on_a_gpu_is_built_and_timed_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions run in Numba's simulator; the driver, with its clock of 2 ms, is a fake."""
    pytest.importorskip("numba_cuda", reason='pip install "convcore[cuda]"')
    fake = FakeDriver()
    monkeypatch.setattr(driver, "_driver", lambda: fake)
    monkeypatch.setattr(calls, "_COPIED", 1 << 10)
    for name in ("relu:4x8", "conv2d:ic2ih4oc3oh4kh3", "convolve:ih5kh3", "max_pool:ic2ih4kh2sh2"):
        one = bench.case(name)
        graph, x = one.build(), one.inputs()
        peer = calls.ConvcoreCuda(1)
        peer.build(graph, x)
        peer.run_and_wait()
        assert error(peer.output(), expected(graph, x)) < 1e-5  # another operation is off by 1
        assert peer.time(0.0, 3) and peer.facts()["copy_bytes_per_s"] > 0
        assert {"copy_in_s", "first_call_s", "copy_out_s"} <= peer.facts().keys()


def test_who_has_no_form_on_a_gpu_says_so() -> None:
    assert list(adapters("cuda")) == ["convcore", "torch"]
    found = bench.compare("relu:8", peers=["numpy"], rounds=1, device="cuda")
    assert found.peers["numpy"].status == "unsupported" and "GPU" in found.peers["numpy"].reason
    assert _native.get_num_threads() >= 1
