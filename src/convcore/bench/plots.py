"""Pictures of operations: time by size, the roofline with a point for each kernel, and CPU beside GPU."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convcore.bench.cases import case
from convcore.bench.chart import colour, label
from convcore.bench.kernels import Result, as_record
from convcore.bench.operations import OPERATIONS
from convcore.extras import import_matplotlib
from convcore.writers import write_bytes

__all__ = ["RooflinePoint", "record_devices", "record_roofline", "roofline_figure", "write_plots"]

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
    record = as_record(results)
    pictures = {
        "sizes": _sizes(results, title),
        "roofline": record_roofline(record, title),
        "devices": record_devices(record, title),
    }
    for name, figure in pictures.items():
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


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """What was measured, for a roofline: GFLOP/s over FLOP per byte, and percent of the roof.

    `intensity` and `gflops` are None for what does no arithmetic; `family` says which share a colour.
    """

    label: str
    family: str
    intensity: float | None
    gflops: float | None
    percent: float


def record_roofline(record: Mapping[str, Any], title: str = "") -> Any:
    """Draw the roofline of a record of ``convcore bench``; None if nothing in it was timed on a CPU."""
    roofs = {(roof["isa"], roof["threads"]): roof for roof in record["rooflines"]}
    timed = [r for r in record["results"] if _our_median(r) and (r["isa"], r["threads"]) in roofs]
    if not timed:
        return None
    threads = max(r["threads"] for r in timed)
    timed = [r for r in timed if r["threads"] == threads]
    points = []
    for r in timed:
        mine = r["peers"][_ours(r)]
        rate, percent = mine["gflops"] or None, 100 * (mine["fraction_of_roofline"] or 0.0)
        intensity = r["flops"] / r["bytes"] if rate else None
        points.append(RooflinePoint(_short(r["case"]), _family(r["case"]), intensity, rate, percent))
    return roofline_figure(roofs[timed[0]["isa"], threads], points, title)


def _ours(result: Mapping[str, Any]) -> str:
    """Ours among a result's peers; with several instruction sets the first."""
    return next((name for name in result["peers"] if name.partition(" ")[0] == "convcore"), "convcore")


def _our_median(result: Mapping[str, Any]) -> float | None:
    median: float | None = result["peers"].get(_ours(result), {}).get("median")
    return median


def _family(name: str) -> str:
    operation = name.partition(":")[0]
    return OPERATIONS[operation].family if operation in OPERATIONS else "network"


def _short(name: str) -> str:
    """A case's name without what is as usual."""
    return name.replace(":mb1", " ").replace(":", " ")


def roofline_figure(roof: Mapping[str, Any], points: Sequence[RooflinePoint], title: str = "") -> Any:
    """Draw GFLOP/s over FLOP per byte below the measured roof, and beside it everyone's share of it.

    `roof` is :meth:`~convcore.run.roofline.Peaks.as_dict` of the peaks.
    """
    families = list(dict.fromkeys(p.family for p in points))
    others = iter(f"C{i}" for i in range(len(families)))
    colours = {name: _FAMILIES.get(name) or next(others) for name in families}
    rows = len(points)
    height = max(_ROOF_HEIGHT, 1.6 + 0.19 * rows)
    figure = _figure(13, height)
    ratios = (_ROOF_HEIGHT, max(height - _ROOF_HEIGHT, 1e-3))  # the roof keeps its height beside a long list
    grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1), height_ratios=ratios)
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    _draw_roof(left, roof, points, colours)
    at = np.arange(rows)[::-1]
    for y, point in zip(at, points, strict=True):
        share = point.percent
        right.barh(y, share, height=0.72, color=colours[point.family])
        right.text(share + 1, y, f"{share:.0f}" if share >= 1 else f"{share:.1g}", va="center", fontsize=7)
    right.axvline(100, color="#777777", linewidth=1)
    right.set_yticks(at, [f"{point.label}  {number}" for number, point in enumerate(points, 1)], fontsize=7)
    right.set_ylim(min(-0.8, rows - 8.0), rows - 0.2)  # few bars are no thicker
    right.set_xlim(0, max(110.0, 1.12 * max(point.percent for point in points)))
    right.set_xlabel("% of the roofline: the least time of arithmetic or bytes over the time taken\n"
                     "(above 100: arrays in a cache, or read and written at once)", fontsize=8)  # fmt: skip
    right.tick_params(axis="x", labelsize=8)
    _bare(right)
    from matplotlib.patches import Patch

    patches = {name: Patch(color=value) for name, value in colours.items()}
    on = "1 thread" if roof["threads"] == 1 else f"{roof['threads']} threads"
    return _finished(figure, patches, f"Roofline of {roof['isa']}, {on}. {title}".strip())


def _draw_roof(
    axes: Any, roof: Mapping[str, Any], points: Sequence[RooflinePoint], colours: Mapping[str, str]
) -> None:
    """The roof, and a numbered point for each that multiplies and adds."""
    top, slope = roof["gflops"], roof["read_gbytes"]
    placed = [
        (point.intensity, point.gflops, number, colours[point.family])
        for number, point in enumerate(points, 1)
        if point.intensity and point.gflops
    ]
    least = min([0.1, *(x / 2 for x, *_ in placed)])
    most = max([1000.0, *(2 * x for x, *_ in placed)])
    xs = np.geomspace(least, most, 200)
    axes.plot(xs, np.minimum(top, slope * xs), color="#777777", linewidth=1.6)
    axes.text(most, top * 1.06, f"{top:.0f} GFLOP/s", ha="right", va="bottom", fontsize=8)
    at = least * 1.6
    axes.text(at, slope * at * 0.72, f"{slope:.0f} GB/s read", fontsize=8, va="top")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, most)
    rates = [rate for _, rate, *_ in placed]
    axes.set_ylim(min([slope * least, *rates]) / 1.6, max([top, *rates]) * 2)
    for x, y, number, colour_ in placed:
        axes.plot(x, y, "o", color=colour_, markersize=5, zorder=3)
        axes.annotate(str(number), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6.5)
    axes.grid(True, which="major", color="#88888844", linewidth=0.7)
    axes.set_xlabel("FLOP per byte, every array once", fontsize=8)
    axes.set_ylabel("GFLOP/s of the definition; numbers are those of the list", fontsize=8)
    axes.tick_params(labelsize=8)
    _bare(axes)
    if not placed:
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


def record_devices(record: Mapping[str, Any], title: str = "") -> Any:
    """Draw bars of speed, a panel for each workload of a record of ``convcore bench``: on CPU, and on GPU.

    None if the record has no GPU's results.
    """
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for r in record["results"]:
        groups.setdefault((r["case"], r["threads"]), []).append(r)
    if not any(r["device"] == "cuda" for r in record["results"]):
        return None
    figure, panels = _grid(len(groups), 4.4, 3.9)
    for axes, ((name, threads), group) in zip(panels, groups.items(), strict=True):
        many, unit = _examples(name)
        bars: list[tuple[float, float | None, str, str]] = []
        x, spans = 0.0, []
        for r in sorted(group, key=lambda r: str(r["device"])):
            start = x
            timed = {n: m["median"] for n, m in r["peers"].items() if m.get("median") is not None}
            # The others first and ours last, next to the other device's.
            order = sorted(timed, key=lambda n: (n.startswith("convcore"), -timed[n]))
            for peer in order or ["convcore"]:
                ms = timed.get(peer)
                bars.append((x, many / ms * 1e3 if ms else None, peer, r["device"]))
                x += 1
            spans.append((start - 0.75, x - 0.25, r["device"]))
            x += 0.5
        _draw_bars(axes, bars)
        for left, right, device in spans:
            shade = "#88888822" if device == "cuda" else "none"
            axes.axvspan(left, right, facecolor=shade, edgecolor="none", zorder=0)
            axes.text((left + right) / 2, 0.985, _DEVICES[device], ha="center", va="top", fontsize=10,
                      fontweight="bold", transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_xlim(spans[0][0], spans[-1][1])
        axes.set_ylabel(unit, fontsize=8)
        on = "1 thread" if threads == 1 else f"{threads} threads"
        axes.set_title(f"{_workload(name)}\n{on}", fontsize=9, loc="left")
    figure.suptitle(f"CPU and GPU, higher is better. {title}".strip(), fontsize=10.5, x=0.01, ha="left")
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
