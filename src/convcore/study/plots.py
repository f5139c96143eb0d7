"""Single things drawn as matplotlib figures, for a notebook, a page or a file: ``figure.savefig("x.png")``.

The figures belong to nobody but the caller: pyplot does not know them. Colours are matplotlib's current
settings, so that ``matplotlib.style`` is obeyed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcore.drawing import DEVICES, Bar, bare, draw_device_bars, draw_roof, grid_of_axes, ink, new_figure
from convcore.errors import ArgumentError, DTypeError
from convcore.run.profile import CudaProfile, Profile, StepProfile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "plot_curves",
    "plot_devices",
    "plot_feature_maps",
    "plot_kernels",
    "plot_roofline",
    "plot_times",
]

#: Kernels up to this size, and this many of them, have their numbers written in.
_WRITTEN_SIZE, _WRITTEN_COUNT = 5, 40
#: Most small pictures of one figure, and of a row of kernels unless more are asked for.
_MOST_PICTURES, _MOST_ACROSS = 256, 16
#: Points of a curve.
_POINTS = 2001
#: A slope below this lets less than a hundredth of a gradient through; the slightest leak has 0.01.
_VANISHED = 0.01
_MOST_BARS = 120


# ---- weights and maps -----------------------------------------------------------------------------


def plot_kernels(
    kernel: ArrayLike,
    *,
    inputs: Sequence[int] | None = None,
    outputs: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """Draw the kernels of a 2-D convolution: a row for each input channel, a column for each output channel.

    All share one scale with white in its middle, so that the sign of a weight is seen. Kernels up to 5 x 5
    have their numbers written in, where there are not too many.

    Parameters
    ----------
    kernel
        Weights as Keras lays them out: shape (height, width), or (height, width, inputs, outputs).
    inputs, outputs
        Channels to draw, 256 pictures at most; by default the first 16 of either.
    title
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError, DTypeError
        No such array, no such channel, or weights that are not finite.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_kernels([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], title="Sobel's horizontal edges")
    >>> figure.axes[0].images[0].get_array().shape
    (3, 3)
    """
    where = "plot_kernels"
    weights = _numbers(kernel, where, "kernel")
    if weights.ndim == 2:
        weights = weights[:, :, None, None]
    if weights.ndim != 4 or not weights.size:
        expected = "(height, width) or (height, width, inputs, outputs)"
        raise ArgumentError(where, "shape of the kernel", got=np.shape(kernel), expected=expected)
    if not np.isfinite(weights).all():
        raise ArgumentError(where, "weights that are not finite", got=int(np.sum(~np.isfinite(weights))))
    height, width, count_in, count_out = weights.shape
    rows = _chosen(inputs, count_in, min(count_in, _MOST_ACROSS), where, "input channel")
    columns = _chosen(outputs, count_out, min(count_out, _MOST_ACROSS), where, "output channel")
    if len(rows) * len(columns) > _MOST_PICTURES:
        raise ArgumentError(where, "pictures", got=len(rows) * len(columns), expected=f"<= {_MOST_PICTURES}")
    written = max(height, width) <= _WRITTEN_SIZE and len(rows) * len(columns) <= _WRITTEN_COUNT
    side = max(0.9, 0.38 * max(height, width)) if written else 0.7
    figure = new_figure(1.5 + side * len(columns), 0.7 + side * len(rows), title or "Kernels")
    most = float(np.abs(weights[:, :, rows][..., columns]).max()) or 1.0
    panels = grid_of_axes(figure, len(rows) * len(columns), len(columns))
    image = None
    for number, axes in enumerate(panels):
        i, o = rows[number // len(columns)], columns[number % len(columns)]
        picture = weights[:, :, i, o]
        image = axes.imshow(picture, cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        if number < len(columns) and count_out > 1:
            axes.set_title(f"out {o}", fontsize=8)
        if number % len(columns) == 0 and count_in > 1:
            axes.set_ylabel(f"in {i}", fontsize=8)
        if written:
            _write_numbers(axes, picture, most)
    figure.colorbar(image, ax=panels, label="weight", shrink=0.9)
    _titled(figure, title)
    return figure  # type: ignore[no-any-return]


def _write_numbers(axes: Any, picture: NDArray[np.float64], most: float) -> None:
    """Write each number on its square, in the ink that can be read there."""
    for (y, x), value in np.ndenumerate(picture):
        dark = abs(value) > 0.6 * most
        colour = "white" if dark else "black"  # the squares are no part of a theme
        axes.text(x, y, f"{value:.2g}", ha="center", va="center", fontsize=6.5, color=colour)


def plot_feature_maps(
    maps: ArrayLike, *, channels: Sequence[int] | None = None, columns: int | None = None, title: str = ""
) -> Figure:
    """Draw the channels of a feature map as grey pictures on one scale.

    Parameters
    ----------
    maps
        Shape (height, width, channels), as one example of a trace, or (height, width).
    channels
        Which channels; by default the first 64.
    columns
        Pictures of a row; by default as many as make the figure about twice as wide as high.
    title
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError, DTypeError
        No such array or channel, `columns` below 1, or no finite number.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_feature_maps(np.arange(24.0).reshape(2, 4, 3), channels=[0, 2])
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['0', '2']
    """
    where = "plot_feature_maps"
    values = _numbers(maps, where, "maps")
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or not values.size:
        expected = "(height, width, channels), without the batch"
        raise ArgumentError(where, "shape of the maps", got=np.shape(maps), expected=expected)
    chosen = _chosen(channels, values.shape[2], min(values.shape[2], 64), where, "channel")
    if len(chosen) > _MOST_PICTURES:
        raise ArgumentError(where, "channels", got=len(chosen), expected=f"{_MOST_PICTURES} at most")
    if columns is not None and columns < 1:
        raise ArgumentError(where, "columns", got=columns, expected="1 or more")
    across = min(columns or math.ceil(math.sqrt(2 * len(chosen))), len(chosen))
    shown = values[:, :, chosen]
    finite = shown[np.isfinite(shown)]
    if not finite.size:
        raise ArgumentError(where, "no finite number to draw")
    low, high = float(finite.min()), float(finite.max())
    down = math.ceil(len(chosen) / across)
    side = min(1.6, max(0.8, 9 / across))
    tall = side * min(2.0, max(0.5, values.shape[0] / values.shape[1]))
    figure = new_figure(1.3 + side * across, 0.6 + (tall + 0.15) * down, title or "Feature maps")
    panels = grid_of_axes(figure, len(chosen), across)
    image = None
    for axes, channel in zip(panels, chosen, strict=True):
        image = axes.imshow(values[:, :, channel], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(str(channel), fontsize=8, pad=2)
    figure.colorbar(image, ax=panels, label="value", shrink=0.9)
    _titled(figure, title)
    return figure  # type: ignore[no-any-return]


# ---- functions ------------------------------------------------------------------------------------


def plot_curves(
    functions: Mapping[str, Callable[[NDArray[np.float64]], ArrayLike]],
    *,
    low: float = -6.0,
    high: float = 6.0,
    values: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw functions of one number, their derivatives, and where these vanish.

    The derivative is the central difference between the points drawn, in float64. Below the derivatives a
    bar of a function's colour lies where its slope is below 0.01.

    Parameters
    ----------
    functions
        Name to function; each is called once, with a float64 array.
    low, high
        The interval.
    values
        Numbers that went through the functions: their histogram is drawn behind the curves.
    title
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError, DTypeError
        No function, an empty interval, or a function that does not give a number for each number.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_curves({"tanh": np.tanh}, low=-3, high=3)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['f(x)', "f'(x)"]
    """
    where = "plot_curves"
    if not functions:
        raise ArgumentError(where, "functions", got="none", expected="one at least")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(where, "interval", got=(low, high), expected="low < high, both finite")
    x = np.linspace(low, high, _POINTS)
    curves = {name: _numbers(function(x), where, name) for name, function in functions.items()}
    for name, y in curves.items():
        if y.shape != x.shape:
            raise ArgumentError(where, f"what {name} gives", got=y.shape, expected=x.shape)
    figure = new_figure(7.6, 3.6, title or f"{', '.join(functions)}, and the derivatives")
    left, right = grid_of_axes(figure, 2, 2, sharex=True)
    if values is not None:
        _draw_histogram(left, _numbers(values, where, "values"), low, high)
    for number, (name, y) in enumerate(curves.items()):
        slope, colour = _slope(x, y), f"C{number}"
        left.plot(x, y, label=name, color=colour)
        right.plot(x, slope, label=name, color=colour)
        # What a difference of two points rounds is no slope below the bound.
        gone = np.abs(slope) < _VANISHED * (1 - 1e-6)
        # Bars side by side below the axis, in units of its height.
        right.fill_between(
            x, -0.035 * number - 0.03, -0.035 * number, where=gone, color=colour, linewidth=0, clip_on=False,
            transform=right.get_xaxis_transform(),
        )  # fmt: skip
    right.tick_params(axis="x", pad=4 + 7 * len(curves))
    left.tick_params(axis="x", pad=4)
    for axes, label in ((left, "f(x)"), (right, "f'(x)")):
        axes.set(xlabel="x", ylabel=label, xlim=(low, high))
        axes.grid(True, linewidth=0.7, alpha=0.5)
        bare(axes)
    right.set_xlabel(f"x\nbars: slope below {_VANISHED}")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)
    _titled(figure, title)
    return figure  # type: ignore[no-any-return]


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Central differences, one-sided at the ends; of equal numbers exactly 0, which np.gradient's are not."""
    before, after = np.maximum(np.arange(len(x)) - 1, 0), np.minimum(np.arange(len(x)) + 1, len(x) - 1)
    return (y[after] - y[before]) / (x[after] - x[before])


def _draw_histogram(axes: Any, values: NDArray[np.float64], low: float, high: float) -> None:
    inside = values[np.isfinite(values) & (values >= low) & (values <= high)]
    behind = axes.twinx()
    behind.set_zorder(axes.get_zorder() - 1)
    axes.patch.set_visible(False)
    behind.hist(inside, bins=np.linspace(low, high, 61), color=ink(), alpha=0.25)
    behind.set_ylabel("how many values")
    bare(behind, "top")


# ---- speed ----------------------------------------------------------------------------------------


def plot_roofline(profile: Profile, *, title: str = "") -> Figure:
    """Draw the machine's measured roofline with a point for every step of a network that computes.

    Parameters
    ----------
    profile
        What :meth:`convcore.Model.profile` measured on the CPU.
    title
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure
        Points are numbered as :func:`plot_times` numbers the bars.

    Raises
    ------
    ArgumentError
        A profile of a GPU, of which no peaks are measured, or of no step.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> from convcore import data, load_model
    >>> model = load_model(data.path("sonar_baseline.keras"))
    >>> figure = plot_roofline(model.profile(np.zeros((8, 60), np.float32), repeats=2))
    >>> figure.axes[0].get_ylabel()
    'GFLOP/s'
    """
    if not isinstance(profile, Profile):
        raise ArgumentError(
            "plot_roofline", got=type(profile).__name__, expected="a profile of the CPU, which has peaks"
        )
    _some_steps(profile, "plot_roofline")
    colours = _colours(profile.steps)
    points = [
        (s.flops / (s.bytes_read + s.bytes_written), s.gflops, str(n), colours[s.operation])
        for n, s in enumerate(profile.steps, 1)
        if s.flops and s.bytes_read + s.bytes_written
    ]
    figure = new_figure(7, 4.6, title or "Roofline")
    axes = figure.subplots()
    peaks = profile.peaks
    draw_roof(axes, peaks.flops / 1e9, peaks.read / 1e9, points, size=9)
    axes.set_xlabel("FLOP per byte, every array once")
    axes.set_ylabel("GFLOP/s")
    _operations_legend(axes, colours)
    _titled(figure, title or f"Roofline of {peaks.isa}, {_threads(profile.threads)}")
    return figure  # type: ignore[no-any-return]


def plot_times(profile: Profile | CudaProfile, *, title: str = "") -> Figure:
    """Draw the milliseconds of every step as bars, in order; a mark shows the least that it could take.

    Parameters
    ----------
    profile
        What :meth:`convcore.Model.profile` measured. Of a GPU no least time is known, and none is drawn.
    title
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError
        No profile, or one of no step or of more than 120.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> from convcore import data, load_model
    >>> model = load_model(data.path("sonar_baseline.keras"))
    >>> figure = plot_times(model.profile(np.zeros((8, 60), np.float32), repeats=2))
    >>> figure.axes[0].get_xlabel()
    'ms for a batch of 8'
    """
    if not isinstance(profile, Profile | CudaProfile):
        raise ArgumentError("plot_times", got=type(profile).__name__, expected="what Model.profile returns")
    _some_steps(profile, "plot_times")
    if len(profile.steps) > _MOST_BARS:
        raise ArgumentError("plot_times", "steps", got=len(profile.steps), expected=f"{_MOST_BARS} at most")
    steps, colours = profile.steps, _colours(profile.steps)
    figure = new_figure(8, 1.5 + 0.24 * len(steps), title or "Time of every step")
    axes = figure.subplots()
    longest = max(max(s.ms, s.least_ms) if math.isfinite(s.least_ms) else s.ms for s in steps)
    for y, step in enumerate(steps):
        axes.barh(y, step.ms, height=0.72, color=colours[step.operation])
        share = 100 * step.ms / max(profile.ms, 1e-12)
        end = max(step.ms, step.least_ms if math.isfinite(step.least_ms) else 0.0)
        axes.text(end + 0.01 * longest, y, f"{step.ms:.3g} ms, {share:.0f} %", va="center", fontsize=8)
        if math.isfinite(step.least_ms):
            axes.plot([step.least_ms] * 2, [y - 0.42, y + 0.42], color=ink(), linewidth=1.5, zorder=3)
    axes.set_yticks(range(len(steps)), [f"{_layers(s)}  {n}" for n, s in enumerate(steps, 1)], fontsize=8)
    axes.set_ylim(len(steps) - 0.3, -0.7)  # the first step on top
    axes.set_xlim(0, 1.25 * longest)
    axes.set_xlabel(f"ms for a batch of {profile.batch}")
    bare(axes)
    mark = "least time at the measured peaks" if isinstance(profile, Profile) else ""
    _operations_legend(axes, colours, mark)
    on = _threads(profile.threads) if isinstance(profile, Profile) else "GPU"
    _titled(figure, title or f"{profile.ms:.3g} ms in {len(steps)} steps, {on}")
    return figure  # type: ignore[no-any-return]


def plot_devices(
    speeds: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    *,
    units: str | Mapping[str, str] = "per second",
    title: str = "",
) -> Figure:
    """Draw speeds on CPU and GPU as bars, a panel for each workload, higher is better.

    Parameters
    ----------
    speeds
        Workload, then device ("cpu" or "cuda"), then who computed, to how much a second; None was not
        measured, and the figure says so. Bars whose name begins with "convcore" are in the first colour.
    units
        What is counted, as "images/s": for all workloads, or for each by name.
    title
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError
        Nothing to draw, an unknown device, a speed that is no positive number, or a workload without a unit.
    MissingExtraError
        matplotlib is not installed.

    Examples
    --------
    >>> speeds = {"a perceptron": {"cpu": {"NumPy": 2e5, "convcore": 6e5}, "cuda": {"convcore": None}}}
    >>> figure = plot_devices(speeds, units="examples/s")
    >>> figure.axes[0].get_title(loc="left"), figure.axes[0].get_ylabel()
    ('a perceptron', 'examples/s')
    """
    where = "plot_devices"
    names = _check_speeds(speeds, where)
    if not isinstance(units, str) and set(speeds) - set(units):
        raise ArgumentError(where, "workloads without a unit", got=sorted(set(speeds) - set(units)))
    others = [name for name in names if not name.startswith("convcore")]
    colours = {name: f"C{number}" for number, name in enumerate(others, 1)}
    across = min(2, len(speeds))
    down = math.ceil(len(speeds) / across)
    figure = new_figure(4.6 * across, 3.5 * down + 0.3, title or "CPU and GPU")
    panels = grid_of_axes(figure, len(speeds), across)
    for axes, (workload, devices) in zip(panels, speeds.items(), strict=True):
        bars = {
            device: [Bar(n, v, colours.get(n, "C0"), n not in colours) for n, v in who.items()]
            for device, who in devices.items()
        }
        draw_device_bars(axes, bars, units if isinstance(units, str) else units[workload], size=8.5)
        axes.set_title(workload, fontsize=10, loc="left")
    _titled(figure, title or "CPU and GPU, higher is better")
    return figure  # type: ignore[no-any-return]


def _check_speeds(speeds: Mapping[str, Mapping[str, Mapping[str, float | None]]], where: str) -> list[str]:
    """Return everybody's name, in order."""
    names: dict[str, None] = {}
    if not speeds:
        raise ArgumentError(where, "workloads", got="none", expected="one at least")
    for workload, devices in speeds.items():
        if not devices or set(devices) - set(DEVICES):
            raise ArgumentError(
                where, f"devices of {workload}", got=list(devices), expected=" or ".join(DEVICES)
            )
        for device, who in devices.items():
            if not who:
                raise ArgumentError(where, f"{workload} on {device}", got="no one", expected="one at least")
            for name, value in who.items():
                if value is not None and not (math.isfinite(value) and value > 0):
                    raise ArgumentError(
                        where, f"speed of {name}", got=value, expected="a positive number, or None"
                    )
                names[name] = None
    return list(names)


# ---- small things ---------------------------------------------------------------------------------


def _numbers(values: ArrayLike, where: str, what: str) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{where}, {what}", got=str(array.dtype), expected="real numbers")
    return array.astype(np.float64)


def _chosen(asked: Sequence[int] | None, count: int, usual: int, where: str, what: str) -> list[int]:
    if asked is None:
        return list(range(usual))
    wrong = [n for n in asked if not 0 <= n < count]
    if wrong or not len(asked):
        raise ArgumentError(where, f"{what}s", got=wrong or "none", expected=f"numbers from 0 to {count - 1}")
    return list(asked)


def _titled(figure: Any, title: str) -> None:
    if title:
        figure.suptitle(title, fontsize=11)


def _some_steps(profile: Profile | CudaProfile, where: str) -> None:
    if not profile.steps:
        raise ArgumentError(where, "a profile without steps")


def _colours(steps: Sequence[StepProfile]) -> dict[str, str]:
    """A colour of matplotlib's cycle for each operation, in the order in which they come."""
    return {name: f"C{number}" for number, name in enumerate(dict.fromkeys(s.operation for s in steps))}


def _operations_legend(axes: Any, colours: Mapping[str, str], mark: str = "") -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(color=colour, label=name.replace("_", " ")) for name, colour in colours.items()
    ]
    if mark:
        handles.append(Line2D([], [], color=ink(), linewidth=1.5, label=mark))
    axes.figure.legend(
        handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False, fontsize=8.5
    )


def _layers(step: StepProfile) -> str:
    names = step.layers
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} .. {names[-1]}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
