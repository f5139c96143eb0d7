"""Figures as SVG inside the page, in the page's own colours: one drawing serves light and dark."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["ACCENTS", "INK", "PAPER", "STYLE", "Drawing", "Formula", "draw", "formula"]

#: Colours that stand for the page's: what is drawn in one becomes the CSS variable of the same name.
INK, MUTED, GRID, PAPER = "#1d1f23", "#5b5f68", "#d9d5cd", "#fbfaf8"
ACCENTS = ("#1f6fc4", "#c05f00", "#24804a", "#b0326f", "#7a4bc2", "#0c7f86")
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--quiet)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(ACCENTS)},
}

#: Dots to the inch at which pictures inside a drawing are sampled.
DOTS = 130
#: Width of a page's column over the default figure's, in pixels to the point.
_ENLARGED = 1.7

#: What matplotlib draws with while a chapter runs.
STYLE: Any = {
    "figure.figsize": (6.6, 3.6),
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.facecolor": PAPER,
    "legend.edgecolor": GRID,
    "lines.color": ACCENTS[0],
    "patch.edgecolor": INK,
    "patch.facecolor": ACCENTS[0],
    "axes.prop_cycle": f"cycler(color={list(ACCENTS)!r})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "svg.fonttype": "path",
    "svg.hashsalt": "convcore",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure: its SVG, and what it shows in words (what the author called it)."""

    svg: str
    caption: str


def draw(figure: Any, prefix: str) -> Drawing:
    """Turn a matplotlib figure into SVG for a page, on which no other drawing has this `prefix` for its ids.

    The figure's label (``plt.figure("in words")``, ``plt.subplots(num="in words")``) is its caption; without
    one the titles of its axes are.
    """
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    caption = str(figure.get_label()) or "; ".join(titles)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", dpi=DOTS, metadata={"Date": None, "Creator": None})
    return Drawing(_own(stream.getvalue(), prefix), caption)


def _own(svg: str, prefix: str) -> str:
    """Cut the file's head off, give the ids a prefix of their own and the colours the page's variables."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # As wide as the column allows, but letters in a small figure are no larger than in a wide one.
    svg = re.sub(
        r' width="([\d.]+)pt" height="[\d.]+pt"',
        lambda size: f' style="max-width:{float(size[1]) * _ENLARGED:.0f}px"',
        svg,
        count=1,
    )
    # Most ids are there for nobody, and some twice.
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda own: f' id="{prefix}-{own[1]}"' if own[1] in wanted else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href=", "href=")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula as an SVG path, y downwards from the baseline; all lengths are in font sizes."""

    path: str
    width: float
    height: float
    depth: float


def formula(tex: str) -> Formula:
    """Set a formula that is written in TeX's way, as far as matplotlib knows it.

    Raises
    ------
    ValueError
        matplotlib cannot read it.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath, text_to_path

    size = 100.0
    font = FontProperties(size=size, math_fontfamily="cm")
    outline = TextPath((0, 0), f"${tex}$", prop=font)
    width, height, depth = text_to_path.get_text_width_height_descent(f"${tex}$", font, True)
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    pieces = []
    for points, code in outline.iter_segments(simplify=False):
        pairs: Any = [] if code == Path.CLOSEPOLY else points.reshape(-1, 2) / size
        pieces.append(letters[code] + " ".join(f"{x:.3f} {-y:.3f}" for x, y in pairs))
    return Formula("".join(pieces), width / size, height / size, depth / size)
