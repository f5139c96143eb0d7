"""The figures of convcore.study hold the numbers that they were given, and refuse what they cannot draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convcore import data, load_model, study
from convcore.errors import ArgumentError, DTypeError
from convcore.run.profile import CudaProfile, Profile, StepProfile
from convcore.run.roofline import Peaks

matplotlib = pytest.importorskip("matplotlib", reason='pip install "convcore[app]"')


def pictures(figure: Any) -> list[np.ndarray]:
    return [np.asarray(a.images[0].get_array()) for a in figure.axes if a.get_visible() and a.images]


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


STEPS = (
    StepProfile(
        ("conv1", "relu1", "pool1"), "conv", ("conv", "relu"), "direct", 2.0, 4e6, 4e6, 3e4, 1e4, 1.0
    ),
    StepProfile(("flat",), "copy", ("copy",), "", 0.5, 0.0, 0.0, 1e4, 1e4, 0.25),
    StepProfile(("fc",), "dense", ("dense",), "", 1.5, 3e6, 3e6, 2e6, 1e3, 0.75),
)
PROFILE = Profile(STEPS, 3, 5, 2, Peaks("avx2", 2, 100e9, 20e9, 25e9, 30e9, (1, 1, 1, 1)))
CUDA = CudaProfile(tuple(replace(s, least_ms=float("nan")) for s in STEPS), 3, 5, 3.0, "events")


def test_plots_are_offered_by_name_and_belong_to_nobody() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    for name in ("kernels", "feature_maps", "curves", "roofline", "times", "devices"):
        assert f"plot_{name}" in study.__all__
    figure = study.plot_kernels(np.eye(3))
    assert isinstance(figure, matplotlib.figure.Figure) and pyplot.get_fignums() == before


# ---- kernels and maps


def test_each_kernel_is_where_its_channels_say() -> None:
    kernel = np.arange(3 * 2 * 2 * 4, dtype=np.float32).reshape(3, 2, 2, 4) - 20
    figure = study.plot_kernels(kernel)
    drawn = pictures(figure)
    assert len(drawn) == 8
    for number, picture in enumerate(drawn):
        assert np.array_equal(picture, kernel[:, :, number // 4, number % 4])
    image = figure.axes[0].images[0]
    assert image.get_clim() == (-27, 27)  # alike on both sides, so that white is 0
    some = pictures(study.plot_kernels(kernel, inputs=[1], outputs=[3, 0]))
    assert np.array_equal(some, [kernel[:, :, 1, 3], kernel[:, :, 1, 0]])


def test_small_kernels_have_their_numbers() -> None:
    assert {"0.5", "-2", "3"} <= set(texts(study.plot_kernels([[0.5, -2.0], [3.0, 1.0]])))
    large = np.full((7, 7), 0.123)
    assert "0.12" not in texts(study.plot_kernels(large))


def test_many_kernels_are_cut_unless_asked_for() -> None:
    kernel = np.ones((3, 3, 3, 64))
    assert len(pictures(study.plot_kernels(kernel))) == 3 * 16
    with pytest.raises(ArgumentError, match=r"pictures, got 300"):
        study.plot_kernels(np.ones((1, 1, 3, 100)), outputs=range(100))


def test_maps_have_one_scale() -> None:
    maps = np.arange(4 * 5 * 3, dtype=np.float32).reshape(4, 5, 3)
    figure = study.plot_feature_maps(maps, channels=[2, 0])
    assert np.array_equal(pictures(figure), [maps[:, :, 2], maps[:, :, 0]])
    assert {a.images[0].get_clim() for a in figure.axes[:2]} == {(0, 59)}
    with_nan = np.array([[np.nan, 1.0], [np.inf, 3.0]])
    assert study.plot_feature_maps(with_nan).axes[0].images[0].get_clim() == (1, 3)


def test_maps_of_a_trace_are_drawn() -> None:
    model = load_model(data.path("lung_segmentation.keras"))
    x = np.random.default_rng(1).uniform(0, 1, (1, 128, 128, 1)).astype(np.float32)
    name = next(layer.name for layer in model.layers if layer.layer_class == "Conv2D")
    maps = model.trace(x)[name][0]
    drawn = pictures(study.plot_feature_maps(maps, columns=3))
    assert np.array_equal(np.stack(drawn, axis=-1), maps.astype(np.float64))


# ---- curves


def test_curves_and_their_derivatives() -> None:
    figure = study.plot_curves({"square": np.square, "three": lambda x: 0 * x + 3}, low=-2, high=4)
    left, right = figure.axes[:2]
    x, y = left.lines[0].get_data()
    assert (x[0], x[-1]) == (-2, 4) and np.array_equal(y, x**2)
    # Central differences of a square are exact but for rounding, the ends have a neighbour on one side only.
    slope = right.lines[0].get_ydata()
    assert np.abs(slope - 2 * x)[1:-1].max() < 1e-10
    assert not right.lines[1].get_ydata().any()


def test_where_a_slope_vanishes_is_marked() -> None:
    figure = study.plot_curves({"ReLU": lambda x: np.maximum(x, 0)}, low=-4, high=4)
    bars = figure.axes[1].collections[0]
    places = np.concatenate([path.vertices[:, 0] for path in bars.get_paths()])
    assert places.min() == -4 and -0.01 < places.max() <= 0


def test_a_slope_vanishes_below_a_hundredth() -> None:
    """However steep the function is elsewhere; the slope of tanh is 0.01 at 2.993."""
    functions = {"tanh": np.tanh, "10 tanh": lambda x: 10 * np.tanh(x), "leak": lambda x: 0.01 * x}
    bars = study.plot_curves(functions, low=-6, high=6).axes[1].collections
    ends = [
        [np.abs(path.vertices[:, 0]).min() for path in bar.get_paths() if len(path.vertices)] for bar in bars
    ]
    assert ends[0] == pytest.approx([2.993] * 2, abs=0.01)
    assert ends[1] == pytest.approx([np.arccosh(1000**0.5)] * 2, abs=0.01)
    assert ends[2] == []


def test_values_that_went_through_are_counted() -> None:
    figure = study.plot_curves({"tanh": np.tanh}, low=-1, high=1, values=[0.5, 0.5, -0.5, 7.0, np.nan])
    counts = sorted(p.get_height() for p in figure.axes[2].patches if p.get_height())
    assert counts == [1, 2]  # 7 is outside


# ---- speed


def test_points_lie_where_work_over_bytes_and_time_says() -> None:
    figure = study.plot_roofline(PROFILE)
    axes = figure.axes[0]
    roof, *points = axes.lines
    x, y = roof.get_data()
    assert y.max() == 100 and x[np.argmax(y)] == 100 / 20  # the ridge: peak over bandwidth
    assert [tuple(p.get_data()[0]) + tuple(p.get_data()[1]) for p in points] == [
        (4e6 / 4e4, 2.0),
        (3e6 / 2.001e6, 2.0),
    ]
    said = texts(figure)
    assert {"1", "3", "100 GFLOP/s", "20 GB/s read"} <= set(said)
    assert "avx2" in "".join(said) and "2 threads" in "".join(said)


def test_bars_are_as_long_as_the_times() -> None:
    figure = study.plot_times(PROFILE)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 0.5, 1.5]
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0, 0.25, 0.75]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["conv1 .. pool1  1", "flat  2", "fc  3"]
    assert "2 ms, 50 %" in texts(figure) and axes.get_xlabel() == "ms for a batch of 3"
    gpu = study.plot_times(CUDA)
    assert [bar.get_width() for bar in gpu.axes[0].patches] == [2.0, 0.5, 1.5] and not gpu.axes[0].lines


def test_devices_are_beside_each_other_and_a_gap_is_said() -> None:
    speeds: dict[str, dict[str, dict[str, float | None]]] = {
        "mlp": {"cpu": {"NumPy": 200.0, "convcore": 600.0}, "cuda": {"convcore": None}},
        "conv": {"cpu": {"convcore": 3.0}},
    }
    figure = study.plot_devices(speeds, units={"mlp": "examples/s", "conv": "images/s"})
    first, second = figure.axes
    # The last is the dotted frame of what was not measured.
    assert [b.get_height() for b in first.patches if b.get_fill() and b.get_width() == 0.8] == [200, 600]
    assert [t.get_text() for t in first.get_xticklabels()] == ["NumPy", "convcore", "convcore"]
    assert "not measured" in texts(first) and "not measured" not in texts(second)
    assert {"CPU", "GPU"} <= set(texts(first)) and "GPU" not in texts(second)
    assert (first.get_ylabel(), second.get_ylabel()) == ("examples/s", "images/s")


# ---- refusals


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: study.plot_kernels(np.ones(3)), r"shape of the kernel, got \(3,\)"),
        (lambda: study.plot_kernels(np.ones((0, 3))), r"shape of the kernel"),
        (lambda: study.plot_kernels([[np.nan]]), "not finite"),
        (lambda: study.plot_kernels(np.ones((3, 3, 1, 2)), outputs=[2]), r"output channels, got \[2\]"),
        (lambda: study.plot_feature_maps(np.ones((1, 4, 4, 3))), "without the batch"),
        (lambda: study.plot_feature_maps(np.ones((4, 4, 3)), channels=[]), "channels, got none"),
        (lambda: study.plot_feature_maps(np.ones((4, 4, 3)), columns=0), "columns, got 0"),
        (lambda: study.plot_feature_maps([[np.nan]]), "no finite number"),
        (lambda: study.plot_curves({}), "functions, got none"),
        (lambda: study.plot_curves({"f": np.tanh}, low=1, high=1), "interval"),
        (lambda: study.plot_curves({"f": lambda x: x[:3]}), r"what f gives, got \(3,\)"),
        (lambda: study.plot_roofline(CUDA), "got 'CudaProfile'|got CudaProfile"),  # type: ignore[arg-type]
        (lambda: study.plot_roofline(replace(PROFILE, steps=())), "without steps"),
        (lambda: study.plot_times([1.0]), "got 'list'|got list"),  # type: ignore[arg-type]
        (lambda: study.plot_times(replace(PROFILE, steps=STEPS * 41)), "steps, got 123"),
        (lambda: study.plot_devices({}), "workloads, got none"),
        (lambda: study.plot_devices({"w": {"tpu": {"a": 1.0}}}), "devices of w"),
        (lambda: study.plot_devices({"w": {"cpu": {}}}), "w on cpu"),
        (lambda: study.plot_devices({"w": {"cpu": {"a": 0.0}}}), "speed of a, got 0.0"),
        (lambda: study.plot_devices({"w": {"cpu": {"a": 1.0}}}, units={}), "without a unit"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        draw()


def test_words_are_no_numbers() -> None:
    for draw in (study.plot_kernels, study.plot_feature_maps):
        with pytest.raises(DTypeError, match="expected real numbers"):
            draw([["a", "b"]])
