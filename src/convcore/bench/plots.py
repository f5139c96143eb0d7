"""Pictures of operations: time by size, the roofline with a point for each kernel, and CPU beside GPU."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convcore.bench.cases import case
from convcore.bench.chart import colour, label
from convcore.bench.kernels import Result
from convcore.bench.operations import OPERATIONS
from convcore.extras import import_matplotlib
from convcore.run.roofline import Peaks
from convcore.writers import write_bytes

__all__ = ["write_plots"]

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}
_FAMILIES = {
    "convolution": "#b3261e", "dense": "#4f7cac", "pooling": "#6f9f5f", "elementwise": "#e0a030",
    "moving samples": "#8a6fb0", "network": "#444444",
}  # fmt: skip
#: Panels of a row.
_ACROSS = 3
#: Inches of the roof.
_ROOF_HEIGHT = 6.0


def write_plots(path: str | os.PathLike[str], results: Sequence[Result], title: str) -> list[Path]:
    """Draw what the results allow as PNG files beside each other, and return their paths.

    ``NAME-sizes.png`` where an operation was measured at several sizes, ``NAME-roofline.png`` where a CPU was
    measured, ``NAME-devices.png`` with a group of bars for the CPU and one for the GPU for each workload;
    NAME is `path` without its ending.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    InputError
        A file cannot be written.
    """
    import_matplotlib()
    base = Path(path)
    drawn: list[Path] = []
    pictures: dict[str, Callable[[Sequence[Result], str], Any]] = {
        "sizes": _sizes, "roofline": _roofline, "devices": _devices,
    }  # fmt: skip
    for name, draw in pictures.items():
        figure = draw(results, title)
        if figure is not None:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            drawn.append(write_bytes(base.with_name(f"{base.stem}-{name}.png"), buffer.getvalue()))
    return drawn


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _grid(panels: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure with so many panels, of so many inches each."""
    across = 2 if panels == 4 else min(_ACROSS, panels)
    down = math.ceil(panels / across)
    figure = _figure(width * across, height * down + 0.9)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for extra in axes[panels:]:
        extra.set_visible(False)
    return figure, axes[:panels]


def _bare(axes: Any, *sides: str) -> None:
    for side in sides or ("top", "right"):
        axes.spines[side].set_visible(False)


def _named(name: str, device: str) -> str:
    return label(name) if device == "cpu" else f"{label(name)}, GPU"


# ---- time by size


def _template(result: Result) -> tuple[str, ...]:
    """What cases that differ in the size of their input alone have in common."""
    name, _, text = result.comparison.case.partition(":")
    problem = OPERATIONS[name].read(text)
    if isinstance(problem, tuple):
        return (name, *map(str, problem[1:]))
    kept = {k: v for k, v in problem.along.items() if k in "ksd"}
    return name, str(problem.rank), str(sorted(problem.numbers.items())), str(sorted(kept.items()))


def _sizes(results: Sequence[Result], title: str) -> Any:
    """Time over the numbers in the output, log-log, a panel for each operation."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for r in results:
        if ":" in r.comparison.case:
            groups.setdefault((*_template(r), str(r.comparison.threads)), []).append(r)
    groups = {k: rs for k, rs in groups.items() if len({r.comparison.case for r in rs}) > 1}
    if not groups:
        return None
    figure, panels = _grid(len(groups), 4.6, 3.5)
    shown: dict[str, Any] = {}
    for axes, group in zip(panels, groups.values(), strict=True):
        lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for r in group:
            for name, one in r.comparison.peers.items():
                if one.median is not None:
                    lines.setdefault((name, r.device), []).append((r.work.written / 4, one.median))
        for (name, device), points in lines.items():
            points.sort()
            ours = name.startswith("convcore")
            (line,) = axes.plot(
                *zip(*points, strict=True), marker="o", markersize=5 if ours else 4,
                linewidth=2.2 if ours else 1.3, color=colour(name), zorder=3 if ours else 2,
                linestyle="-" if device == "cpu" else "--",
            )  # fmt: skip
            shown.setdefault(_named(name, device), line)
        axes.set_xscale("log")
        axes.set_yscale("log")
        counts = sorted({r.work.written / 4 for r in group})
        axes.set_xticks(counts, [_count(n) for n in counts])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
        _bare(axes)
        first = group[0].comparison
        threads = "1 thread" if first.threads == 1 else f"{first.threads} threads"
        axes.set_title(f"{_sized(group)}, {threads}", fontsize=9, loc="left")
        axes.set_xlabel("numbers in the output", fontsize=8)
        axes.set_ylabel("ms", fontsize=8)
        axes.tick_params(labelsize=8)
    return _finished(figure, shown, f"Time by size, lower is better. {title}")


def _count(n: float) -> str:
    """A number of numbers: 4.1k, 262k, 16.8M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:g}"


def _sized(group: Sequence[Result]) -> str:
    """The operation and what its sizes have in common: its kernel."""
    name, _, text = group[0].comparison.case.partition(":")
    problem = OPERATIONS[name].read(text)
    if isinstance(problem, tuple):
        return f"{name}, rows of {'x'.join(map(str, problem[1:]))}" if len(problem) > 1 else name
    kernel = "x".join(map(str, problem.along.get("k", ())))
    channels = " to ".join(str(problem[c]) for c in ("ic", "oc") if c in problem.numbers)
    parts = [name, kernel, f"{channels} channels" if channels else ""]
    return " ".join(part for part in parts if part)


def _finished(figure: Any, shown: dict[str, Any], title: str) -> Any:
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    figure.legend(
        handles=list(shown.values()), labels=list(shown), loc="outside lower center",
        ncols=min(6, max(1, len(shown))), frameon=False, fontsize=9,
    )  # fmt: skip
    return figure


# ---- roofline


def _family(result: Result) -> str:
    name = result.comparison.case.partition(":")[0]
    return OPERATIONS[name].family if name in OPERATIONS else "network"


def _short(result: Result) -> str:
    """A case's name without what is as usual."""
    return result.comparison.case.replace(":mb1", " ").replace(":", " ")


def _roofline(results: Sequence[Result], title: str) -> Any:
    """GFLOP/s over FLOP per byte below the measured roof, and beside it everyone's share of it."""
    timed = [r for r in results if r.device == "cpu" and r.mine.median and r.peaks is not None]
    if not timed:
        return None
    threads = max(r.comparison.threads for r in timed)
    timed = [r for r in timed if r.comparison.threads == threads]
    peaks = timed[0].peaks
    assert peaks is not None
    rows = len(timed)
    height = max(_ROOF_HEIGHT, 1.6 + 0.19 * rows)
    figure = _figure(13, height)
    ratios = (_ROOF_HEIGHT, max(height - _ROOF_HEIGHT, 1e-3))  # the roof keeps its height beside a long list
    grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1), height_ratios=ratios)
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    points = []
    for number, r in enumerate(timed, 1):
        rate = r.rates(r.mine)["gflops"]
        if rate:
            points.append((r.work.flops / (r.work.read + r.work.written), rate, number, r))
    _draw_roof(left, peaks, points)
    handles = {}
    shares = [100 * (r.rates(r.mine)["fraction_of_roofline"] or 0.0) for r in timed]
    at = np.arange(rows)[::-1]
    for y, share, r in zip(at, shares, timed, strict=True):
        handles[_family(r)] = shown = _FAMILIES[_family(r)]
        right.barh(y, share, height=0.72, color=shown)
        right.text(share + 1, y, f"{share:.0f}" if share >= 1 else f"{share:.1g}", va="center", fontsize=7)
    right.axvline(100, color="#444444", linewidth=1)
    right.set_yticks(at, [f"{_short(r)}  {number}" for number, r in enumerate(timed, 1)], fontsize=7)
    right.set_ylim(min(-0.8, rows - 8.0), rows - 0.2)  # few bars are no thicker
    right.set_xlim(0, max(110.0, 1.12 * max(shares)))
    right.set_xlabel("% of the roofline: the least time of arithmetic or bytes over the time taken\n"
                     "(above 100: arrays in a cache, or read and written at once)", fontsize=8)  # fmt: skip
    right.tick_params(axis="x", labelsize=8)
    _bare(right)
    from matplotlib.patches import Patch

    patches = {name: Patch(color=value) for name, value in handles.items()}
    on = "1 thread" if threads == 1 else f"{threads} threads"
    return _finished(figure, patches, f"Roofline of {peaks.isa}, {on}. {title}")


def _draw_roof(axes: Any, peaks: Peaks, points: Sequence[tuple[float, float, int, Result]]) -> None:
    """The roof, and a numbered point for each kernel that multiplies and adds."""
    top, slope = peaks.flops / 1e9, peaks.read / 1e9
    least = min([0.1, *(x / 2 for x, *_ in points)])
    most = max([1000.0, *(2 * x for x, *_ in points)])
    xs = np.geomspace(least, most, 200)
    axes.plot(xs, np.minimum(top, slope * xs), color="#444444", linewidth=1.6)
    axes.text(most, top * 1.06, f"{top:.0f} GFLOP/s", ha="right", va="bottom", fontsize=8)
    at = least * 1.6
    axes.text(at, slope * at * 0.72, f"{slope:.0f} GB/s read", fontsize=8, va="top")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, most)
    rates = [rate for _, rate, *_ in points]
    axes.set_ylim(min([slope * least, *rates]) / 1.6, max([top, *rates]) * 2)
    for x, y, number, r in points:
        axes.plot(x, y, "o", color=_FAMILIES[_family(r)], markersize=5, zorder=3)
        axes.annotate(str(number), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6.5)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_xlabel("FLOP per byte, every array once", fontsize=8)
    axes.set_ylabel("GFLOP/s of the definition; numbers are those of the list", fontsize=8)
    axes.tick_params(labelsize=8)
    _bare(axes)
    if not points:
        axes.text(0.5, 0.5, "no operation here multiplies and adds", transform=axes.transAxes, ha="center")


# ---- CPU beside GPU


def _examples(name: str) -> tuple[float, str]:
    """How many of what a call does: images of a batch; of a single array, its numbers."""
    one = case(name)
    if one.batch and one.batch > 1:
        return one.batch, "examples/s"
    if name.partition(":")[0] in ("convolve", "correlate"):
        return 1, "images/s"
    return (
        (1, "calls/s")
        if one.planned or math.prod(one.shape) < 1 << 14
        else (1e-6 * math.prod(one.shape), "M numbers/s")
    )


def _devices(results: Sequence[Result], title: str) -> Any:
    """Bars of speed, a panel for each workload: those on the CPU, and those on the GPU."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for r in results:
        groups.setdefault((r.comparison.case, r.comparison.threads), []).append(r)
    if not any(r.device == "cuda" for r in results) or not groups:
        return None
    figure, panels = _grid(len(groups), 4.4, 3.9)
    for axes, ((name, threads), group) in zip(panels, groups.items(), strict=True):
        many, unit = _examples(name)
        bars: list[tuple[float, float | None, str, str]] = []
        x, spans = 0.0, []
        for r in sorted(group, key=lambda r: r.device):
            start = x
            timed = {n: m.median for n, m in r.comparison.peers.items() if m.median is not None}
            # The others first and ours last, next to the other device's.
            order = sorted(timed, key=lambda n: (n.startswith("convcore"), -(timed[n] or 0.0)))
            for peer in order or ["convcore"]:
                ms = timed.get(peer)
                bars.append((x, many / ms * 1e3 if ms else None, peer, r.device))
                x += 1
            spans.append((start - 0.75, x - 0.25, r.device))
            x += 0.5
        _draw_bars(axes, bars)
        for left, right, device in spans:
            axes.axvspan(left, right, color="#f3f3f3" if device == "cuda" else "white", zorder=0)
            axes.text((left + right) / 2, 0.985, _DEVICES[device], ha="center", va="top", fontsize=10,
                      fontweight="bold", transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_xlim(spans[0][0], spans[-1][1])
        axes.set_ylabel(unit, fontsize=8)
        on = "1 thread" if threads == 1 else f"{threads} threads"
        axes.set_title(f"{_workload(name)}\n{on}", fontsize=9, loc="left")
    figure.suptitle(f"CPU and GPU, higher is better. {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


def _draw_bars(axes: Any, bars: Sequence[tuple[float, float | None, str, str]]) -> None:
    highest = max((v for _, v, _, _ in bars if v), default=1.0)
    for at, value, peer, device in bars:
        if value is None:
            axes.bar(
                at, highest * 0.9, width=0.8, fill=False, edgecolor="#999999", linestyle=":", linewidth=1.2
            )
            axes.text(at, highest * 0.45, "not measured", rotation=90, ha="center", va="center", fontsize=9,
                      color="#666666")  # fmt: skip
            continue
        hatch = "//" if device == "cuda" else None
        axes.bar(at, value, width=0.8, color=colour(peer), hatch=hatch, edgecolor="white" if hatch else None)
        axes.text(at, value + 0.02 * highest, _three(value), ha="center", va="bottom", fontsize=8,
                  fontweight="bold" if peer.startswith("convcore") else "normal")  # fmt: skip
    names = [label(peer) for _, _, peer, _ in bars]
    axes.set_xticks([at for at, *_ in bars], names, rotation=35, ha="right", fontsize=8)
    axes.set_ylim(0, 1.28 * highest)  # above the bars the device's name
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if highest > 10 else f"{value:g}")
    axes.tick_params(axis="y", labelsize=8)
    axes.tick_params(axis="x", length=0)
    _bare(axes)


def _three(value: float) -> str:
    """Three digits, with thousands apart."""
    if value >= 1000:
        digits = 10 ** (len(str(int(value))) - 3)
        return f"{round(value / digits) * digits:,.0f}"
    return f"{value:.3g}"


_WORKLOADS = {
    "mlp_784_500_10": "perceptron, 60 x 784 to 500 tanh to 10 softmax",
    "convolve:ih256kh7": "7x7 convolution of a 256x256 image",
    "tanh:1000": "tanh of 1000 numbers",
    "tanh:4096x4096": "tanh of 16.8 million numbers",
}


def _workload(name: str) -> str:
    return _WORKLOADS.get(name, name.replace(":mb1", " ").replace(":", " "))
