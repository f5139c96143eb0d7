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
from convcore.drawing import Bar, bare, draw_device_bars, draw_roof, grid_of_axes, new_figure
from convcore.extras import import_matplotlib
from convcore.writers import write_bytes

__all__ = ["write_plots"]

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


def _grid(panels: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure with so many panels, of so many inches each."""
    across = 2 if panels == 4 else min(_ACROSS, panels)
    figure = new_figure(width * across, height * math.ceil(panels / across) + 0.9)
    return figure, grid_of_axes(figure, panels, across)


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
        bare(axes)
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
    figure = new_figure(13, height)
    ratios = (_ROOF_HEIGHT, max(height - _ROOF_HEIGHT, 1e-3))  # the roof keeps its height beside a long list
    grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1), height_ratios=ratios)
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    points = []
    for number, r in enumerate(timed, 1):
        rate = r.rates(r.mine)["gflops"]
        if rate:
            intensity = r.work.flops / (r.work.read + r.work.written)
            points.append((intensity, rate, str(number), _FAMILIES[_family(r)]))
    draw_roof(left, peaks.flops / 1e9, peaks.read / 1e9, points)
    left.set_xlabel("FLOP per byte, every array once", fontsize=8)
    left.set_ylabel("GFLOP/s of the definition; numbers are those of the list", fontsize=8)
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
    bare(right)
    from matplotlib.patches import Patch

    patches = {name: Patch(color=value) for name, value in handles.items()}
    on = "1 thread" if threads == 1 else f"{threads} threads"
    return _finished(figure, patches, f"Roofline of {peaks.isa}, {on}. {title}")


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
        ordered = sorted(group, key=lambda r: r.device)
        draw_device_bars(axes, {r.device: _bars(r, many) for r in ordered}, unit)
        on = "1 thread" if threads == 1 else f"{threads} threads"
        axes.set_title(f"{_workload(name)}\n{on}", fontsize=9, loc="left")
    figure.suptitle(f"CPU and GPU, higher is better. {title}", fontsize=10.5, x=0.01, ha="left")
    return figure


def _bars(result: Result, many: float) -> list[Bar]:
    """The others first and ours last, next to the other device's."""
    timed = {n: m.median for n, m in result.comparison.peers.items() if m.median is not None}
    order = sorted(timed, key=lambda n: (n.startswith("convcore"), -timed[n]))
    return [
        Bar(
            label(name),
            many / timed[name] * 1e3 if name in timed else None,
            colour(name),
            ours=name.startswith("convcore"),
        )
        for name in order or ["convcore"]
    ]


_WORKLOADS = {
    "mlp_784_500_10": "perceptron, 60 x 784 to 500 tanh to 10 softmax",
    "convolve:ih256kh7": "7x7 convolution of a 256x256 image",
    "tanh:1000": "tanh of 1000 numbers",
    "tanh:4096x4096": "tanh of 16.8 million numbers",
}


def _workload(name: str) -> str:
    return _WORKLOADS.get(name, name.replace(":mb1", " ").replace(":", " "))
