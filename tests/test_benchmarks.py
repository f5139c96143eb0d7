"""What stands in `benchmarks/`: every pytest-benchmark suite runs, and the gate bites."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convcore import _native, bench
from convcore.bench.comparison import Comparison, Measured

FOLDER = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="benchmarks/ belongs to the source tree")


def run_suite(name: str, *words: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-disable", *words]
    done = subprocess.run(
        [*command, str(FOLDER / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=FOLDER.parent,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


def test_the_suite_of_operations_runs_and_skips_a_gpu_that_is_not_there() -> None:
    pytest.importorskip("pytest_benchmark", reason='pip install "convcore[test]"')
    from convcore.bench.kernels import no_gpu
    from convcore.bench.operations import OPERATION_CASES

    said = run_suite("bench_operations.py")
    count = len(OPERATION_CASES)
    if no_gpu():
        assert f"{count} passed, {count} skipped" in said and "No GPU can be used" in said
    else:
        assert f"{2 * count} passed" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bench_kernels.py", "bench_networks.py"])
def test_the_suites_of_plans_run(name: str) -> None:
    pytest.importorskip("pytest_benchmark", reason='pip install "convcore[test]"')
    assert " passed" in run_suite(name)


# ---- the gate


@pytest.fixture
def gate() -> Any:
    spec = importlib.util.spec_from_file_location("gate", FOLDER / "gate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def measured(*ratios: float | None) -> Any:
    """A measurement that gives one ratio to the peer after the other."""
    left = list(ratios)

    def compare(name: str, *, peers: list[str], **_: Any) -> Comparison:
        ratio = left.pop(0)
        ours = Measured("failed", "broken") if ratio is None else Measured("timed", ms=[ratio])
        return Comparison(name, 1, 1, {"convcore": ours, peers[1]: Measured("timed", ms=[1.0])})

    return compare


def test_the_gate_forgives_a_noisy_minute_and_not_a_regression(gate: Any) -> None:
    one = gate.Gate("x", "numpy", {"avx2": 0.5})
    assert gate.check(one, "avx2", measured(0.6)).ratios == (0.6,)
    assert gate.check(one, "avx2", measured(2.0, 0.9, 0.7)).passed
    assert not gate.check(one, "avx2", measured(1.0, 0.8, 0.9)).passed
    broken = gate.check(one, "avx2", measured(None))
    assert not broken.passed and "broken" in broken.reason


def test_twice_the_usual_time_is_found_with_the_noise_that_the_limit_is_made_for(gate: Any) -> None:
    for g in gate.GATES:
        for isa, usual in g.usual.items():
            assert not gate.check(g, isa, measured(*(2 * usual * noise for noise in (1.0, 0.8, 1.3)))).passed
            assert gate.check(g, isa, measured(usual * 1.3)).passed


def test_every_gate_is_a_case_beside_a_peer_that_there_is(gate: Any) -> None:
    for g in gate.GATES:
        assert bench.case(g.case) and g.peer in bench.PEERS and g.usual
        assert set(g.usual) <= {"scalar", "sse2", "avx2", "avx512", "neon"}


def test_a_planted_slow_down_fails_the_gate(
    gate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured: a kernel against the ratio that it has just had, and then with four times its time."""
    isa = _native.default_isa()
    one = gate.Gate("sigmoid:1000x1000", "numpy", {isa: 1.0})
    found = bench.compare(one.case, peers=["convcore", "numpy"], rounds=4, isas=["scalar"])
    assert found.ratio is not None
    monkeypatch.setattr(gate, "GATES", (gate.Gate(one.case, one.peer, {isa: found.ratio}),))
    monkeypatch.setattr(gate, "ROUNDS", 4)
    assert gate.main(["--isa", "scalar"]) == 0

    def slow(*args: Any, **options: Any) -> Comparison:
        found = bench.compare(*args, **options)
        ours = found.peers["convcore"]
        ours.ms[:] = [4 * ms for ms in ours.ms]
        return found

    assert gate.main(["--isa", "scalar"], slow) == 1
    assert "FAILED" in capsys.readouterr().out
