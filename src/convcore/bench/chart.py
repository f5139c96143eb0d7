"""Bar charts of comparisons: a group of bars for each workload, a bar for each library, its value on it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convcore.bench.comparison import Comparison
from convcore.extras import import_matplotlib
from convcore.writers import write_bytes

__all__ = ["colour", "label", "write_chart"]

#: Ours in the one strong colour; the others keep theirs from chart to chart.
_COLOURS = {
    "convcore": "#b3261e", "tensorflow": "#e0a030", "torch": "#8a6fb0", "onnxruntime": "#4f7cac",
    "openvino": "#5aa9c0", "litert": "#6f9f5f", "ncnn": "#3f6f5f", "mnn": "#8f8f4f", "numpy": "#9a9a9a",
    "pydicom": "#c9a7a0", "roofline": "#444444", "scipy_ndimage": "#7d6b5d", "scipy_signal": "#b8a58f",
    "opencv": "#5b8c5a", "keras": "#d97f8a", "convcore_call": "#d9746c",
    "convcore_prepared": "#7d1a14",
    "convcore avx512": "#b3261e", "convcore avx2": "#d9746c", "convcore sse2": "#efb8b3",
}  # fmt: skip
_LABELS = {
    "tensorflow": "TensorFlow", "torch": "PyTorch", "onnxruntime": "ONNX Runtime",
    "litert": "LiteRT", "mnn": "MNN", "numpy": "NumPy", "scipy_ndimage": "scipy.ndimage",
    "scipy_signal": "scipy.signal", "opencv": "OpenCV", "keras": "Keras", "openvino": "OpenVINO",
}  # fmt: skip
#: Bars of a column: about a page.
_COLUMN_ROWS = 80


def colour(name: str) -> str:
    """Return a library's colour, the same in every picture.

    Examples
    --------
    >>> colour("nobody")
    '#777777'
    """
    return _COLOURS.get(name, "#777777")


def label(name: str) -> str:
    """Return a library's name as it writes it itself.

    Examples
    --------
    >>> label("numpy"), label("convcore avx2")
    ('NumPy', 'convcore avx2')
    """
    return _LABELS.get(name, name)


def write_chart(path: str | os.PathLike[str], comparisons: Sequence[Comparison], title: str) -> Path:
    """Draw milliseconds (lower is better) of all peers as a PNG file.

    Workloads lie on a scale of their own each, as their times are hundreds apart: in every group the
    longest bar is the slowest peer.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    InputError
        The file cannot be written.

    Examples
    --------
    >>> from convcore.bench.comparison import Measured
    >>> peers = {"convcore": Measured("timed", ms=[1.0]), "numpy": Measured("timed", ms=[2.0])}
    >>> write_chart("bars.png", [Comparison("softmax", 1, 2, peers)], "An example").name
    'bars.png'
    """
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(dict.fromkeys(name for c in comparisons for name, m in c.peers.items() if m.median))
    columns = _columns(comparisons)
    rows = max(sum(map(_rows, column)) for column in columns)
    figure = Figure(figsize=(9 * len(columns), 1.2 + 0.22 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        _draw(axes, column, names, rows)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    handles = [Patch(color=colour(name), label=label(name)) for name in names]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(5, len(names)), frameon=False, fontsize=9
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_bytes(path, buffer.getvalue())


def _rows(comparison: Comparison) -> int:
    """Bars of a group, and the gap after it."""
    return 1 + sum(m.median is not None for m in comparison.peers.values())


def _columns(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """The groups in order, in as many columns of about the same length as a page needs."""
    total = sum(map(_rows, comparisons))
    count = max(1, round(total / _COLUMN_ROWS))
    columns: list[list[Comparison]] = [[] for _ in range(count)]
    before = 0
    for comparison in comparisons:
        columns[min(count - 1, before * count // total)].append(comparison)
        before += _rows(comparison)
    return [column for column in columns if column] or [[]]


def _draw(axes: Any, comparisons: Sequence[Comparison], names: Sequence[str], rows: int) -> None:
    """Draw one column, on axes `rows` bars high."""
    y, ticks = 0.0, []
    for comparison in comparisons:
        medians = [(name, comparison.peers[name].median) for name in names if name in comparison.peers]
        shown = [(name, ms) for name, ms in medians if ms is not None]
        slowest = max((ms for _, ms in shown), default=1.0)
        ticks.append((y + (len(shown) - 1) / 2, _group(comparison)))
        for name, ms in shown:
            axes.barh(y, ms / slowest, height=0.86, color=colour(name))
            axes.text(
                ms / slowest + 0.008,
                y,
                f"{ms:.3g}" if ms < 1000 else f"{ms:.0f}",
                va="center",
                ha="left",
                fontsize=8,
                fontweight="bold" if name.startswith("convcore") else "normal",
            )
            y += 1
        y += 1
    axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=9)
    axes.set_ylim(rows - 1, -1)  # the first group on top
    axes.set_xlim(0, 1.1)
    axes.set_xticks([])
    axes.tick_params(left=False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("milliseconds, lower is better; each group to its own scale", fontsize=9)


def _group(comparison: Comparison) -> str:
    threads = "1 thread" if comparison.threads == 1 else f"{comparison.threads} threads"
    return f"{comparison.case}\nbatch {comparison.batch}, {threads}"
