"""``convcore bench``: what it prints, what it writes, and wrong calls."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore import _native, bench, data
from convcore.bench import comparison as comparing
from convcore.bench.comparison import Comparison, Measured
from convcore.cli import main
from convcore.run import roofline

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def small_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_FLOATS", 1 << 20)
    monkeypatch.setattr(roofline, "last_cache_bytes", lambda: 0)


def sonar() -> str:
    return str(Path(data.__path__[0]) / "sonar.keras")


def test_a_model_file_step_by_step(capsys: Capture, tmp_path: Path) -> None:
    before = _native.get_num_threads()
    path = tmp_path / "result.json"
    words = ["bench", "model", sonar(), "--threads", "1,2", "--batch", "1,3", "--rounds", "2"]
    assert main([*words, "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "Roofline of 1 thread(s)" in out and "Roofline of 2 thread(s)" in out and err == ""
    assert out.count("floor") == 4 and "dense" in out
    record = json.loads(path.read_text())
    assert [(p["threads"], p["batch"]) for p in record["profiles"]] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert record["machine"]["cpu"] and [r["threads"] for r in record["rooflines"]] == [1, 2]
    assert all(s["fraction"] > 0 for p in record["profiles"] for s in p["steps"])
    assert _native.get_num_threads() == before


def test_kernels_beside_a_peer(capsys: Capture, tmp_path: Path) -> None:
    words = ["bench", "kernels", "--only", "sonar_*", "--peers", "numpy", "--rounds", "2", "--json", "-"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    (comparison,) = record["peers"]
    assert comparison["fastest_peer"] == "numpy" and comparison["ratio_to_fastest_peer"] > 0
    assert record["machine"]["versions"]["numpy"] == np.__version__
    assert main([w for w in words if w not in ("--json", "-")]) == 0
    out = capsys.readouterr().out
    assert "of the fastest" in out and "sonar_mlp" in out


def test_a_forced_instruction_set_is_the_one_measured(capsys: Capture) -> None:
    assert main(["bench", "kernels", "--only", "sonar_*", "--isa", "scalar", "--rounds", "1"]) == 0
    assert "scalar" in capsys.readouterr().out
    assert main(["bench", "kernels", "--only", "sonar_*", "--isa", "mmx", "--rounds", "1"]) == 1
    assert "mmx" in capsys.readouterr().err


def test_instruction_sets_side_by_side(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "isa.json"
    words = ["bench", "kernels", "--only", "sonar_*,sonar_mlp", "--isa", "sse2,scalar", "--peers", "numpy"]
    assert main([*words, "--rounds", "2", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "convcore scalar takes" in out and "of the time of convcore sse2" in out and "of numpy's" in out
    record = json.loads(path.read_text())
    assert [r["isa"] for r in record["rooflines"]] == ["sse2", "scalar"]
    assert [p["peaks"]["isa"] for p in record["profiles"]] == ["sse2", "scalar"]
    assert set(record["peers"][0]["instruction_sets"]) == {"convcore sse2", "convcore scalar"}


def test_what_is_no_network_is_timed_all_the_same(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def compare(name: str, **options: Any) -> Comparison:
        asked.append(options)
        return Comparison(name, 1, 1, {"convcore": Measured("timed", ms=[1.0])})

    monkeypatch.setattr(bench, "compare", compare)
    assert main(["bench", "kernels", "--only", "hounsfield", "--threads", "1"]) == 0
    assert asked[0]["peers"] == ["convcore", "roofline"]
    out = capsys.readouterr().out
    assert "hu_rescale_300_512_512" in out and "algorithm" not in out


def test_a_peer_that_was_asked_for_and_is_missing_is_named_and_1(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "installed", lambda device: ("convcore", "numpy"))
    assert main(["bench", "kernels", "--only", "sonar_*", "--peers", "torch", "--rounds", "1"]) == 1
    out, err = capsys.readouterr()
    assert "torch not installed" in err and "sonar_mlp" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model"], "needs a FILE"),
        (["kernels", "x.keras"], "needs a FILE"),
        (["model", "x.keras", "--peers", "all"], "measured alone"),
        (["--plot", "x.png"], "--peers all"),
        (["--only", "conv*"], "kernels"),
        (["kernels", "--only", "memory,nonsense"], "nonsense matches none"),
        (["--peers", "nonsense"], "it knows .*tensorflow"),
        (["--threads", "0"], "no list of numbers"),
        (["--batch", "one"], "no list of numbers"),
        (["--rounds", "0"], "no number from 1"),
    ],
)
def test_wrong_calls(words: list[str], message: str, capsys: Capture) -> None:
    assert main(["bench", *words]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_every_group_of_cases_has_kernels() -> None:
    assert bench.GROUPS[0] == "network" and len(bench.GROUPS) >= 6
