"""The numbers of the chapters on convolution and the spreadsheet: those that are known from elsewhere."""

from __future__ import annotations

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
    assert names["products"].sum() == pytest.approx(exact[0, 3, 2, 0], abs=float(81 * EPS))
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
