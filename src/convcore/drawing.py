"""What all of convcore's charts share: figures without pyplot, a roofline, bars of devices.

Ink and grid are matplotlib's current settings, so that a style, or a page with a dark theme, has its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from convcore.extras import import_matplotlib

__all__ = [
    "DEVICES",
    "Bar",
    "bare",
    "draw_device_bars",
    "draw_roof",
    "grid_of_axes",
    "ink",
    "new_figure",
    "three_digits",
]

#: What a reader calls the devices.
DEVICES = {"cpu": "CPU", "cuda": "GPU"}


class Bar(NamedTuple):
    """One bar: who, how much (None: not measured), in which colour, and whether it is ours."""

    name: str
    value: float | None
    colour: str
    ours: bool = False


def new_figure(width: float, height: float, label: str = "") -> Any:
    """Return a figure of so many inches that no pyplot knows of; `label` says in words what it shows.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_label(label)
    return figure


def grid_of_axes(figure: Any, panels: int, across: int, **settings: Any) -> list[Any]:
    """Return so many axes of `figure`, `across` to a row; what is left of the last row is not seen."""
    axes = list(figure.subplots(math.ceil(panels / across), across, squeeze=False, **settings).flat)
    for extra in axes[panels:]:
        extra.set_visible(False)
    return axes[:panels]


def ink() -> str:
    """Return the colour of lines that are no data."""
    import_matplotlib()
    from matplotlib import rcParams

    return str(rcParams["axes.edgecolor"])


def bare(axes: Any, *sides: str) -> None:
    """Take the frame away, by default above and on the right."""
    for side in sides or ("top", "right"):
        axes.spines[side].set_visible(False)


def three_digits(value: float) -> str:
    """Write three digits, with thousands apart.

    Examples
    --------
    >>> three_digits(1234567.0), three_digits(999.7), three_digits(0.012345)
    ('1,230,000', '1,000', '0.0123')
    """
    if value >= 999.5:
        digits = 10 ** (len(str(int(value))) - 3)
        return f"{round(value / digits) * digits:,.0f}"
    return f"{value:.3g}"


def draw_roof(
    axes: Any, gflops: float, gbytes: float, points: Sequence[tuple[float, float, str, str]], size: float = 8
) -> None:
    """Draw a roof, and a point for everything that multiplies and adds.

    Parameters
    ----------
    gflops, gbytes
        The machine's peaks: GFLOP/s, and GB/s read.
    points
        FLOP per byte, GFLOP/s, what is written beside the point, and its colour.
    size
        Of the letters.
    """
    least = min([0.1, *(x / 2 for x, *_ in points)])
    most = max([1000.0, *(2 * x for x, *_ in points)])
    ridge = gflops / gbytes
    corners = sorted({least, min(max(ridge, least), most), most})
    axes.plot(corners, [min(gflops, gbytes * x) for x in corners], color=ink(), linewidth=1.6)
    axes.text(most, gflops * 1.06, f"{gflops:.0f} GFLOP/s", ha="right", va="bottom", fontsize=size)
    at = least * 1.6
    axes.text(at, gbytes * at * 0.72, f"{gbytes:.0f} GB/s read", fontsize=size, va="top")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, most)
    rates = [rate for _, rate, *_ in points]
    axes.set_ylim(min([gbytes * least, *rates]) / 1.6, max([gflops, *rates]) * 2)
    for x, y, text, colour in points:
        axes.plot(x, y, "o", color=colour, markersize=5, zorder=3)
        axes.annotate(text, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=size - 1.5)
    axes.grid(True, which="major", linewidth=0.7, alpha=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=size)
    bare(axes)
    if not points:
        axes.text(0.5, 0.5, "no operation here multiplies and adds", transform=axes.transAxes, ha="center")


def draw_device_bars(axes: Any, devices: Mapping[str, Sequence[Bar]], unit: str, size: float = 8) -> None:
    """Draw a group of bars for each device, "cpu" or "cuda"; what was not measured says so."""
    values = [bar.value for bars in devices.values() for bar in bars if bar.value is not None]
    highest = max(values, default=1.0)
    x, spans = 0.0, []
    places, names = [], []
    for device, bars in devices.items():
        start = x
        for bar in bars:
            _draw_bar(axes, x, bar, device, highest, size)
            places.append(x)
            names.append(bar.name)
            x += 1
        spans.append((start - 0.75, x - 0.25, device))
        x += 0.5
    for left, right, device in spans:
        if device == "cuda":
            axes.axvspan(left, right, color=ink(), alpha=0.07, linewidth=0, zorder=0)
        axes.text((left + right) / 2, 0.985, DEVICES[device], ha="center", va="top", fontsize=size + 2,
                  fontweight="bold", transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_xlim(spans[0][0], spans[-1][1])
    axes.set_xticks(places, names, rotation=35, ha="right", fontsize=size)
    axes.set_ylim(0, 1.28 * highest)  # above the bars the device's name
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if highest > 10 else f"{value:g}")
    axes.tick_params(axis="y", labelsize=size)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(unit, fontsize=size)
    bare(axes)


def _draw_bar(axes: Any, x: float, bar: Bar, device: str, highest: float, size: float) -> None:
    if bar.value is None:
        axes.bar(x, highest * 0.9, width=0.8, fill=False, edgecolor=ink(), linestyle=":", linewidth=1.2)
        axes.text(x, highest * 0.45, "not measured", rotation=90, ha="center", va="center", fontsize=size + 1)
        return
    hatch = "//" if device == "cuda" else None
    axes.bar(x, bar.value, width=0.8, color=bar.colour, hatch=hatch, edgecolor="white" if hatch else None)
    axes.text(x, bar.value + 0.02 * highest, three_digits(bar.value), ha="center", va="bottom", fontsize=size,
              fontweight="bold" if bar.ours else "normal")  # fmt: skip
