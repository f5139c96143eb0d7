"""The numbers of the article's chapters on the layers of a network: those that are known from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import data, reference
from convcore.study.article import read_chapter, run_chapter
from convcore.study.article.chapter import select_chapters

pytest.importorskip("matplotlib", reason='pip install "convcore[app]"')

EPS = np.finfo(np.float32).eps


@cache
def ran(name: str, folder: Path | None = None) -> tuple[dict[str, Any], str]:
    """The names that a chapter made, and all that it printed; run once for all tests."""
    names: dict[str, Any] = {}
    results = run_chapter(read_chapter(select_chapters([name])[0]), folder, names)
    return names, "\n".join(f"{r.printed}{r.value}" for r in results)


# ---- convolution


def test_two_pulses_make_a_triangle() -> None:
    names, shown = ran("03_convolution")
    triangle = names["triangle"]
    t = 0.01 * (np.arange(199) + 1)
    assert np.abs(triangle - np.minimum(t, 2 - t)).max() < 100 * EPS
    assert "array([1., 2., 3., 2., 1.]" in shown
    assert "convolution       0.0 1.0 2.5 4.0 1.5\ncross-correlation 0.5 2.0 3.5 3.0 0.0" in shown
    assert "turned around 0.0 1.0 2.5 4.0 1.5" in shown


def test_the_window_on_the_letter() -> None:
    names, _ = ran("03_convolution")
    letter, kernel = names["letter"], names["kernel"]
    assert (
        letter.shape == (9, 9) and np.array_equal(letter, letter[:, ::-1]) and letter.sum() == 23
    )  # as drawn
    exact = reference.conv(
        letter[None, :, :, None], kernel[:, :, None, None], None, strides=(1, 1), padding=((0, 0), (0, 0)),
        dilation=(1, 1), groups=1,
    )  # fmt: skip
    # Nine products below 1, each sum rounded.
    assert np.abs(names["layer"] - exact[0, :, :, 0]).max() <= 9 * 9 * EPS
    assert names["products"].sum() == pytest.approx(exact[0, 3, 2, 0], abs=81 * EPS)
    assert np.abs(names["turned"] - names["layer"]).max() > 0.1


def test_gimps_example() -> None:
    _, shown = ran("03_convolution")
    assert "cross-correlation: 42.0" in shown and "convolution:       56.0" in shown


# ---- the spreadsheet


def test_cell_by_cell_is_what_float64_says() -> None:
    names, shown = ran("04_spreadsheet")
    model = cc.load_model(data.path("spreadsheet.keras"))
    values = reference.evaluate(model.graph, {model.graph.inputs[0]: names["picture"][None]})
    for name in ("conv1", "conv2", "pool"):
        # The file's scale, 1 / 255, is a float32 number in the graph.
        assert np.allclose(names[name], values[name][0], rtol=8 * EPS, atol=8 * EPS)
    assert np.allclose(names["p"], values["digit"][0], rtol=0, atol=1e-6)
    assert names["p"].argmax() == 7 and "the answer: 7" in shown


def test_howards_numbers(data_dir: Path) -> None:
    names, shown = ran("04_spreadsheet", data_dir)
    golden = np.load(data_dir / "golden" / "spreadsheet_cnn.npz")
    assert np.array_equal(names["seven"], golden["input"][0, :, :, 0])
    assert np.array_equal(names["first"], golden["conv1_kernel"])
    assert np.array_equal(names["second"], golden["conv2_kernel"])
    assert np.array_equal(names["dense"].ravel(), golden["dense_kernel"].ravel())
    for ours, key in (("maps1", "conv1"), ("maps2", "conv2"), ("pooled", "pool")):
        assert np.abs(names[ours] - golden[key][0]).max() < 1e-12
    assert "output 1814.9177220748, Excel's 1814.9177220748" in shown
    assert "would be 1810.5181005292" in shown


# ---- arithmetic


def test_sizes_are_those_of_the_paper() -> None:
    names, shown = ran("05_arithmetic")
    size = names["size"]
    cases = {
        (4, 3, 1, 0): 2, (5, 4, 1, 2): 6, (5, 3, 1, 1): 5, (5, 3, 1, 2): 7, (5, 3, 2, 0): 2, (5, 3, 2, 1): 3,
        (6, 3, 2, 1): 3, (7, 3, 1, 0, 2): 3,
    }  # fmt: skip
    assert {case: size(*case) for case in cases} == cases
    every = sum(
        i + 2 * p >= d * (k - 1) + 1
        for i in range(1, 13) for k in range(1, 7) for s in range(1, 6) for p in range(4) for d in range(1, 5)
    )  # fmt: skip
    assert names["checked"] == every and f"{every} cases" in shown


def test_keras_same_takes_other_samples() -> None:
    _, shown = ran("05_arithmetic")
    assert "half padding, 1  1.0 3.0 5.0\nKeras's same     2.0 4.0 6.0\nan input of 5    1.0 3.0 5.0" in shown


def test_scatter_gather_and_the_transpose() -> None:
    names, shown = ran("05_arithmetic")
    assert shown.count("the layer: True") == 3
    assert np.array_equal(names["gathered"], names["cropped"])
    # Sums of 243 products of normal numbers, twice, of which each factor is a rounded sum.
    scale = (np.abs(names["forward"]) * np.abs(names["y"])).sum() * 27 * EPS
    assert abs(names["there"] - names["again"]) <= scale
    assert "k 1, s 3: same 12, valid 12, formula s(i - 1) + k = 10" in shown


# ---- activations


def test_where_slopes_vanish() -> None:
    _names, shown = ran("06_activations")
    assert "sigmoid: steepest 0.25, to the tenth 9.5e-07" in shown
    # s(1 - s) = 0.005 / 4 is a quadratic in s; 1 - tanh^2 = 0.005 at atanh(sqrt(0.995)).
    s = (1 - np.sqrt(1 - 0.005)) / 2
    assert f"flat from {-np.log(s / (1 - s)):.2f}" in shown
    assert f"flat from {np.arctanh(np.sqrt(0.995)):.2f}" in shown
    assert "sigmoid(17) == 1: True\nsigmoid(16) == 1: False" in shown
    assert "ELU at -1e-8: -1e-08" in shown


def test_three_slopes_of_rrelu() -> None:
    _, shown = ran("06_activations")
    assert "1 / 5.5 = 0.1818" in shown and "ln(8 / 3) / 5 = 0.1962" in shown and "0.2292" in shown
    assert "1/12 = 0.08333" in shown and "difference 0.08333 at x = -2.50" in shown


def test_noise_of_variance_sigmoid() -> None:
    """E max(0, x + z) = x Phi(x / d) + d phi(x / d), d^2 = sigmoid(x): 0.2821 at 0."""
    names, _ = ran("06_activations")
    assert names["value"] == 2.0
    d = np.sqrt(1 / (1 + np.exp(-2)))
    # Ten standard errors of the mean of 400,000 draws.
    from math import erf, exp, pi, sqrt

    expected = 2 * (1 + erf(2 / d / sqrt(2))) / 2 + d * exp(-((2 / d) ** 2) / 2) / sqrt(2 * pi)
    assert abs(names["ours"] - expected) < 10 * d / np.sqrt(400_000)


# ---- pooling and norm


def test_pooling_discards_three_quarters_of_even_sizes_only() -> None:
    names, shown = ran("07_pooling_and_norm")
    for size, valid, same in zip(names["sizes"], names["gone"]["valid"], names["gone"]["same"], strict=True):
        assert valid == 1 - (size // 2) ** 2 / size**2 and same == 1 - ((size + 1) // 2) ** 2 / size**2
        assert (valid == 0.75) == (same == 0.75) == (size % 2 == 0)
    assert np.array_equal(names["largest"], [[6, 8], [3, 4]])
    assert "valid: 7 x 7 81.6%  8 x 8 75.0%" in shown


def test_theanos_means_and_side() -> None:
    names, shown = ran("07_pooling_and_norm")
    assert np.array_equal(names["inside"], [[3, 4.5], [7.5, 9]])
    assert np.array_equal(names["with_zeros"], [[3, 2.25], [3.75, 2.25]])
    assert np.array_equal(names["below"], [[-1, -3], [-7, -9]])
    assert "today: 2.0 4.0\nTheano:                  1.0 3.0" in shown


def test_batch_norm_is_a_line_and_folds() -> None:
    names, shown = ran("07_pooling_and_norm")
    assert "a = 0.749906, b = -2.499719" in shown
    assert abs(float(names["normal"].mean())) < 1e-6
    magnitude = np.abs(names["two"]).max() + np.abs(names["beta"]).max()
    assert np.abs(names["two"] - names["one"]).max() <= (27 + 4) * 4 * EPS * magnitude
    assert "0.302" in shown and "0.953" in shown


def test_softmax_of_large_numbers() -> None:
    _, shown = ran("07_pooling_and_norm")
    assert "as the formula says: nan nan nan" in shown
    assert shown.count("0.66524094 0.24472848 0.09003057") == 2


# ---- the Theano figure


def test_workloads_are_measured_here_and_a_missing_gpu_is_said(tmp_path: Path) -> None:
    record = {
        "machine": {"cpu": "a CPU of another machine", "threads": 2},
        "results": [
            {"case": "tanh:1000", "device": "cpu", "peers": {"convcore": {"median": 0.5}, "torch": {}}},
            {"case": "tanh:1000", "device": "cuda", "peers": {"convcore": {"status": "not measured"}}},
        ],
    }
    (tmp_path / "article.json").write_text(json.dumps(record))
    names, shown = ran("08_theano", tmp_path)
    speeds = names["speeds"]
    assert [*speeds] == [*names["titles"].values()]
    by_case = {(r.comparison.case, r.device): r for r in names["results"]}
    for name, title in names["titles"].items():
        median = by_case[name, "cpu"].mine.median
        many = {"mlp_784_500_10": 60, "convolve:ih256kh7": 1, "tanh:1000": 1e-3, "tanh:4096x4096": 16.777216}
        assert speeds[title]["cpu"]["convcore"] == pytest.approx(1000 * many[name] / median)
        measured = by_case[name, "cuda"].mine.median
        assert (speeds[title]["cuda"]["convcore"] is None) == (measured is None)
        assert "NumPy" in speeds[title]["cpu"] or "convolution" in title
    if any(r.device == "cuda" and r.mine.median is None for r in names["results"]):
        assert "GPU / CPU: not measured" in shown and "No GPU can be used" in shown
    assert "a CPU of another machine" in shown and "convcore 0.5" in shown
    assert "tanh:1000          cuda  not measured" in shown
