"""Single things as matplotlib figures: kernels, feature maps, activation curves, times, rooflines, devices.

No function here uses pyplot or its state: each returns a figure that shows itself in a notebook and saves
itself with ``savefig``. Colours and letters are those of the caller's ``matplotlib.rcParams``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcore.errors import ArgumentError, ShapeError
from convcore.extras import import_matplotlib
from convcore.plan.printed import layer_span
from convcore.reference import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from convcore.run.profile import CudaProfile, Profile, StepProfile

__all__ = [
    "plot_curves",
    "plot_devices",
    "plot_feature_maps",
    "plot_kernels",
    "plot_roofline",
    "plot_times",
]

Function: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

#: Activations whose curves are drawn if none are named.
_CURVES = ("sigmoid", "tanh", "relu", "elu", "leaky_divide")
#: Kernels up to so many values a side, and figures up to so many kernels, have their numbers written in.
_WRITTEN_SIDE, _WRITTEN_KERNELS = 7, 16
#: Panels of a row of feature maps.
_ACROSS = 8


def plot_kernels(
    kernel: ArrayLike,
    *,
    inputs: Sequence[int] | None = None,
    outputs: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """Draw a convolution's kernel: a row for each input channel, a column for each output channel.

    All panels share one scale, symmetric about 0: blue is negative, white is 0, red is positive. In small
    figures of small kernels the numbers are written in.

    Parameters
    ----------
    kernel
        Weights, (height, width, inputs, outputs) as Keras keeps them, or one kernel, (height, width).
        A node of a model has them as ``node.weights["kernel"]``.
    inputs, outputs
        Channels to draw; by default the first 8 of each.
    title
        A line above the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        The kernel has neither 2 nor 4 axes, or is empty.
    ArgumentError
        A channel that the kernel does not have, or no channel at all.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_kernels([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], title="Sobel")
    >>> figure.axes[0].images[0].get_clim()
    (-2.0, 2.0)
    """
    values = _array(
        kernel, "plot_kernels, kernel", (2, 4), "(height, width) or (height, width, inputs, outputs)"
    )
    values = values.reshape(*values.shape[:2], -1, values.shape[3] if values.ndim == 4 else 1)
    rows = _channels(inputs, values.shape[2], 8, "plot_kernels, inputs")
    columns = _channels(outputs, values.shape[3], 8, "plot_kernels, outputs")
    height, width = values.shape[:2]
    few = len(rows) * len(columns) <= _WRITTEN_KERNELS
    written = few and max(height, width) <= _WRITTEN_SIDE
    side = 0.42 * max(height, width, 3) if written else 1.1
    figure = _figure(side * len(columns) + 1.3, side * len(rows) * height / width + 0.9)
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    limit = float(np.nanmax(np.abs(values[:, :, rows][..., columns]))) or 1.0
    for row, channel in enumerate(rows):
        for column, output in enumerate(columns):
            axes, shown = panels[row, column], values[:, :, channel, output]
            image = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            _without_ticks(axes)
            if written:
                _write_numbers(axes, shown, limit)
            if row == 0 and values.shape[3] > 1:
                axes.set_title(f"output {output}", fontsize=9)
            if column == 0 and values.shape[2] > 1:
                axes.set_ylabel(f"input {channel}", fontsize=9)
    figure.colorbar(image, ax=panels.ravel().tolist(), label="weight", shrink=0.9)
    return _titled(figure, title)


def plot_feature_maps(
    maps: ArrayLike, *, channels: Sequence[int] | None = None, title: str = "", columns: int = _ACROSS
) -> Figure:
    """Draw feature maps, one panel a channel, all on the same scale of grey.

    Parameters
    ----------
    maps
        What came out of a layer for one image, (height, width, channels), as :meth:`convcore.Model.trace`
        has it also with a batch axis of 1 before; or one map, (height, width).
    channels
        Which to draw; by default the first 64.
    title
        A line above the figure.
    columns
        Panels in a row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        Another number of axes, more than one image, or no values.
    ArgumentError
        A channel that there is not, or fewer than 1 column.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> maps = np.arange(24.0).reshape(2, 4, 3)
    >>> figure = plot_feature_maps(maps, channels=[0, 2])
    >>> figure.axes[1].get_title(), np.array_equal(figure.axes[1].images[0].get_array(), maps[:, :, 2])
    ('2', True)
    """
    where = "plot_feature_maps, maps"
    values = _array(
        maps, where, (2, 3, 4), "(height, width), (height, width, channels), or with a batch axis"
    )
    if values.ndim == 4:
        if len(values) != 1:
            raise ShapeError(
                where, "more than one image", got=values.shape, expected="(1, height, width, channels)"
            )
        values = values[0]
    values = values.reshape(*values.shape[:2], -1)
    if columns < 1:
        raise ArgumentError("plot_feature_maps, columns", "no column", got=columns, expected="1 or more")
    chosen = _channels(channels, values.shape[2], 64, "plot_feature_maps, channels")
    across = min(columns, len(chosen))
    down = math.ceil(len(chosen) / across)
    side = 1.15 if len(chosen) > 4 else 2.6
    figure = _figure(side * across + 1.0, (side * values.shape[0] / values.shape[1] + 0.25) * down + 0.5)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    shown = values[..., chosen]
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    for axes, channel in zip(panels, chosen, strict=False):
        image = axes.imshow(values[..., channel], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(str(channel), fontsize=8, pad=2)
        _without_ticks(axes)
    for axes in panels[len(chosen) :]:
        axes.remove()
    left = values.shape[2] - len(chosen)
    figure.colorbar(image, ax=panels[: len(chosen)].tolist(), label="value", shrink=0.9)
    more = f"{len(chosen)} of {values.shape[2]} channels" if left else ""
    return _titled(figure, ", ".join(part for part in (title, more) if part))


def plot_curves(
    functions: str | Sequence[str] | Mapping[str, str | Function] = _CURVES,
    *,
    low: float = -5.0,
    high: float = 5.0,
    values: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw activation functions, and beside them their derivatives.

    Parameters
    ----------
    functions
        Names of activations (:data:`convcore.reference.ACTIVATIONS`), or labels with a name or with a
        function of an array each, for other parameters:
        ``{"leaky, a = 3": lambda x: ACTIVATIONS["leaky_divide"](x, a=3)}``.
    low, high
        The range of x.
    values
        What really went into the layer, of any shape: a histogram of it is drawn below the curves.
    title
        A line above the figure.

    Returns
    -------
    matplotlib.figure.Figure
        The first axes have the functions, the second the derivatives: central differences in float64, which
        at a kink are the mean of both sides.

    Raises
    ------
    ArgumentError
        No such activation, none at all, or `low` is not below `high`.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_curves(["relu", "tanh"], low=-2, high=2)
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['relu', 'tanh']
    """
    named = _functions(functions)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(
            "plot_curves, low and high", "no range", got=(low, high), expected="low below high"
        )
    x = np.linspace(low, high, 801)
    step = 1e-5
    figure = _figure(9.0, 3.8 if values is None else 5.0)
    below = (1,) if values is None else (3, 1)
    panels = figure.subplots(len(below), 2, squeeze=False, sharex=True, height_ratios=below)
    left, right = panels[0]
    for number, (label, function) in enumerate(named.items()):
        # Curves that lie on each other are told apart by their dashes.
        style = {"label": label, "linestyle": ("-", "--", "-.", ":")[number % 4], "linewidth": 1.8}
        left.plot(x, function(x), **style)
        right.plot(x, (function(x + step) - function(x - step)) / (2 * step), **style)
    left.set_ylabel("f(x)")
    right.set_ylabel("f\N{PRIME}(x)")
    for axes in (left, right):
        axes.axhline(0, color="#888888", linewidth=0.8, zorder=0)
        axes.axvline(0, color="#888888", linewidth=0.8, zorder=0)
        axes.grid(True, alpha=0.3)
        _bare(axes)
    left.set_title("the function", fontsize=10, loc="left")
    right.set_title("its derivative", fontsize=10, loc="left")
    left.legend(fontsize=9, frameon=False)
    if values is not None:
        flat = np.asarray(values, np.float64).ravel()
        inside = np.count_nonzero((flat >= low) & (flat <= high))
        for axes in panels[1]:
            axes.hist(flat, bins=80, range=(low, high), color="#888888")
            axes.set_ylabel("values")
            _bare(axes)
        panels[1, 0].set_title(f"what went in: {inside} of {flat.size} values are in this range",
                               fontsize=9, loc="left")  # fmt: skip
    for axes in panels[-1]:
        axes.set_xlabel("x")
    return _titled(figure, title)


def plot_times(profile: Profile | CudaProfile, *, most: int = 40, title: str = "") -> Figure:
    """Draw the time of each step of a network, and the least that it could take on this machine.

    Parameters
    ----------
    profile
        Of :meth:`convcore.Model.profile`. A step is what the engine runs at once: a convolution with its
        activation, say. On a GPU there is no least time, since its peaks are not measured.
    most
        Of more steps than that, the longest are drawn.
    title
        A line above the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Bars in milliseconds in the network's order, the first on top, each with its share of the whole.

    Raises
    ------
    ArgumentError
        A profile without steps, or no profile.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> model = cc.load_model(cc.data.path("sonar_baseline.keras"))
    >>> figure = plot_times(model.profile(np.zeros((1, 60), np.float32), repeats=2))
    >>> figure.axes[0].get_xlabel()
    'milliseconds for a batch of 1'
    """
    steps, more = _steps(profile, most, "plot_times")
    at = np.arange(len(steps))[::-1]
    figure = _figure(9.0, 1.6 + 0.26 * len(steps))
    axes = figure.subplots()
    axes.barh(at, [step.ms for step in steps], height=0.72, color="C0", label="measured")
    least = [(y, step.least_ms) for y, step in zip(at, steps, strict=True) if not math.isnan(step.least_ms)]
    if least:
        y, ms = zip(*least, strict=True)
        axes.plot(ms, y, "|", color="C1", markersize=11, markeredgewidth=2.4, label="least at the roofline")
        figure.legend(loc="outside lower right", ncols=2, fontsize=9, frameon=False)
    longest = max(step.ms for step in steps)
    for y, step in zip(at, steps, strict=True):
        share = 100 * step.ms / max(profile.ms, 1e-12)
        axes.text(max(step.ms, 0 if math.isnan(step.least_ms) else step.least_ms) + 0.012 * longest, y,
                  f"{step.ms:.3g} ms, {share:.0f} %", va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(at, [_step_name(step) for step in steps], fontsize=8)
    axes.set_ylim(-0.8, len(steps) - 0.2)
    axes.set_xlim(0, 1.2 * max(longest, *(ms for _, ms in least), 1e-9))
    axes.set_xlabel(f"milliseconds for a batch of {profile.batch}")
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    _bare(axes)
    where = f"{profile.ms:.3g} ms{_on(profile)}{more}"
    return _titled(figure, f"{title}: {where}" if title else where)


def plot_roofline(measured: Profile | Mapping[str, Any], *, most: int = 40, title: str = "") -> Figure:
    """Draw GFLOP/s over FLOP per byte below the roof of this machine, and everyone's share of it.

    Parameters
    ----------
    measured
        A profile of :meth:`convcore.Model.profile` on the CPU: a point for each step. Or what ``convcore bench
        kernels --json`` wrote, as ``json.load`` gives it: a point for each case.
    most
        Of a profile of more steps than that, the longest are drawn.
    title
        What follows the roofline's own words in the line above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError
        Nothing that was measured beside a roofline of a CPU.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> model = cc.load_model(cc.data.path("sonar_baseline.keras"))
    >>> figure = plot_roofline(model.profile(np.zeros((64, 60), np.float32), repeats=2))
    >>> figure.axes[0].get_xlabel()
    'FLOP per byte, every array once'
    """
    where = "plot_roofline"
    import_matplotlib()
    from convcore.bench.plots import RooflinePoint, record_roofline, roofline_figure

    if isinstance(measured, Mapping):
        figure = record_roofline(_record(measured, where), title)
        if figure is None:
            raise ArgumentError(where, "nothing in the record was timed on a CPU beside its roofline")
        return _own(figure)
    steps, more = _steps(measured, most, where)
    peaks = getattr(measured, "peaks", None)
    if peaks is None:
        raise ArgumentError(where, "no peaks", got="a profile of a GPU", expected="a profile of the CPU")
    points = []
    for step in steps:
        moved = step.bytes_read + step.bytes_written
        counts = step.flops > 0 and moved > 0
        points.append(
            RooflinePoint(
                label=_step_name(step),
                family=step.operation,
                intensity=step.flops / moved if counts else None,
                gflops=step.gflops if counts else None,
                percent=100 * step.fraction,
            )
        )
    return _own(roofline_figure(peaks.as_dict(), points, f"{title}{more}"))


def plot_devices(record: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draw the speed of each workload on the CPU and on the GPU, of all libraries that were measured.

    Parameters
    ----------
    record
        What ``convcore bench kernels --device cpu,cuda --json`` wrote, as ``json.load`` gives it.
    title
        What follows the figure's own words in the line above.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each workload; what was not measured is an empty bar that says so.

    Raises
    ------
    ArgumentError
        No such record, or one in which no GPU was asked for.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> def result(device, ms):
    ...     peers = {"convcore": {"status": "timed", "median": ms}}
    ...     return {"case": "tanh:1000", "device": device, "threads": 1, "peers": peers}
    >>> results = [result("cpu", 0.002), result("cuda", 0.001)]
    >>> figure = plot_devices({"kind": "operations", "rooflines": [], "results": results})
    >>> figure.axes[0].get_ylabel(), [round(bar.get_height()) for bar in figure.axes[0].patches[:2]]
    ('calls/s', [500000, 1000000])
    """
    import_matplotlib()
    from convcore.bench.plots import record_devices

    figure = record_devices(_record(record, "plot_devices"), title)
    if figure is None:
        raise ArgumentError(
            "plot_devices", "the record has no results of a GPU", expected="--device cpu,cuda"
        )
    return _own(figure)


# ---- what is given


def _array(value: ArrayLike, where: str, axes: tuple[int, ...], expected: str) -> NDArray[np.float64]:
    array = np.asarray(value, np.float64)
    if array.ndim not in axes or not array.size:
        raise ShapeError(where, "cannot be drawn", got=array.shape, expected=expected)
    return array


def _channels(chosen: Sequence[int] | None, count: int, most: int, where: str) -> list[int]:
    if chosen is None:
        return list(range(min(count, most)))
    wrong = [c for c in chosen if not 0 <= c < count]
    if wrong or not len(chosen):
        got = wrong or "none"
        raise ArgumentError(where, "no such channel", got=got, expected=f"0 to {count - 1}")
    return list(chosen)


def _functions(functions: str | Sequence[str] | Mapping[str, str | Function]) -> dict[str, Function]:
    if isinstance(functions, str):
        functions = [functions]
    pairs = functions if isinstance(functions, Mapping) else {name: name for name in functions}
    named: dict[str, Function] = {}
    for label, function in pairs.items():
        found = ACTIVATIONS.get(function) if isinstance(function, str) else function
        if found is None:
            raise ArgumentError(
                "plot_curves", "unknown activation", got=function, expected=", ".join(ACTIVATIONS)
            )
        named[label] = found
    if not named:
        raise ArgumentError("plot_curves, functions", "none", expected="one or more")
    return named


def _steps(profile: Any, most: int, where: str) -> tuple[list[StepProfile], str]:
    """The `most` longest steps in the network's order, and words if that is not all."""
    steps: Sequence[StepProfile] | None = getattr(profile, "steps", None)
    if not steps:
        got = "no steps" if steps is not None else type(profile).__name__
        raise ArgumentError(where, "nothing was measured", got=got, expected="what Model.profile returns")
    if most < 1:
        raise ArgumentError(f"{where}, most", "no step", got=most, expected="1 or more")
    longest = sorted(range(len(steps)), key=lambda i: -steps[i].ms)[:most]
    more = f" (the {most} longest of {len(steps)} steps)" if len(steps) > most else ""
    return [steps[i] for i in sorted(longest)], more


def _step_name(step: StepProfile) -> str:
    return f"{layer_span(step.layers)}  ({' + '.join(step.computes)})"


def _on(profile: Profile | CudaProfile) -> str:
    threads = getattr(profile, "threads", None)
    if threads is None:
        return " on the GPU"
    return " on 1 thread" if threads == 1 else f" on {threads} threads"


def _record(record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping) or not {"rooflines", "results"} <= record.keys():
        got = sorted(record) if isinstance(record, Mapping) else type(record).__name__
        raise ArgumentError(
            where, "no record of operations", got=got, expected="what convcore bench kernels --json wrote"
        )
    return record


# ---- how it is drawn


def _figure(width: float, height: float) -> Figure:
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _own(figure: Any) -> Figure:
    """A figure of the benchmark, at the caller's resolution."""
    from matplotlib import rcParams

    figure.set_dpi(rcParams["figure.dpi"])
    found: Figure = figure
    return found


def _titled(figure: Figure, title: str) -> Figure:
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _bare(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _without_ticks(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _write_numbers(axes: Any, values: NDArray[np.float64], limit: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
