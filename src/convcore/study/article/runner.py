"""Runs a chapter in this process: each cell's text, last value and figures, in a namespace of its own."""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from symtable import symtable
from typing import Any

from convcore.extras import import_matplotlib
from convcore.study.article.chapter import Cell, Chapter
from convcore.study.article.figures import STYLE, Drawing, draw
from convcore.study.article.files import MissingDataError, reading_from

__all__ = ["Result", "run_chapter"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a code cell gave.

    Attributes
    ----------
    cell
        The cell; a Markdown cell gives nothing.
    printed
        What it printed.
    value
        ``repr`` of its last expression; empty if that was None, or a part of a figure.
    figures
        The figures that it drew.
    missing
        Names of files that it needs, itself or through what an earlier cell made, and that are not there.
    """

    cell: Cell
    printed: str = ""
    value: str = ""
    figures: tuple[Drawing, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(slots=True)
class _Run:
    """A chapter while it runs: its names, and those that a missing file kept from being made."""

    names: dict[str, Any]
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)


def run_chapter(
    chapter: Chapter, data: str | os.PathLike[str] | None = None, namespace: dict[str, Any] | None = None
) -> list[Result]:
    """Run a chapter's cells in order.

    A cell that asks :func:`~convcore.study.article.files.find` for a file that is not there is left out, and
    so are later cells that use a name which it would have made. Any other error of a cell is raised as it is.

    Parameters
    ----------
    data
        The reader's folder, searched with its subfolders.
    namespace
        Where the chapter's names are put, for those who want to look at them afterwards.

    Returns
    -------
    list of Result
        One a cell.
    """
    import_matplotlib()
    from matplotlib import pyplot

    names = {} if namespace is None else namespace
    names["__name__"] = "__main__"
    run = _Run(names)
    backend = pyplot.get_backend()
    before = pyplot.get_fignums()
    # Numbers beside the file's own lines: a traceback shows what the author wrote.
    linecache.checkcache(str(chapter.path))
    try:
        with pyplot.rc_context(STYLE), reading_from(data), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
            pyplot.switch_backend("Agg")
            return [_run_cell(cell, chapter, run) for cell in chapter.cells]
    finally:
        for number in set(pyplot.get_fignums()) - set(before):
            pyplot.close(number)
        pyplot.switch_backend(backend)


def _run_cell(cell: Cell, chapter: Chapter, run: _Run) -> Result:
    if cell.kind == "markdown":
        return Result(cell)
    tree = cell.tree
    made, used = _names(cell)
    lacking = sorted({file for name in used if name in run.missing for file in run.missing[name]})
    printed = io.StringIO()
    value = None
    if not lacking:
        try:
            with contextlib.redirect_stdout(printed):
                value = _execute(tree, chapter.path, run.names)
        except MissingDataError as error:
            lacking = [error.where]
    run.missing.update(dict.fromkeys(made, tuple(lacking)) if lacking else {})
    if not lacking:
        for name in made:
            run.missing.pop(name, None)
    return Result(cell, printed.getvalue(), _shown(value), tuple(_figures(chapter)), tuple(lacking))


def _execute(tree: ast.Module, path: Path, names: dict[str, Any]) -> Any:
    """Run all statements; return the last one's value if it is an expression."""
    last = tree.body[-1] if tree.body else None
    body = tree.body[:-1] if isinstance(last, ast.Expr) else tree.body
    exec(compile(ast.Module(body, []), str(path), "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), str(path), "eval"), names)
    return None


def _names(cell: Cell) -> tuple[set[str], set[str]]:
    """Names that a cell makes in the chapter, and names of the chapter that it uses."""
    top = symtable(cell.text, "cell", "exec")
    made = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    used = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    inner = list(top.get_children())
    while inner:
        table = inner.pop()
        used |= {s.get_name() for s in table.get_symbols() if s.is_global()}
        inner += table.get_children()
    return made, used


def _shown(value: Any) -> str:
    from matplotlib.artist import Artist

    parts = value if isinstance(value, list | tuple) else [value]
    if value is None or (len(parts) and any(isinstance(part, Artist) for part in parts)):
        return ""
    return repr(value)


def _figures(chapter: Chapter) -> Iterator[Drawing]:
    """Draw the figures that are open, and close them."""
    from matplotlib import pyplot

    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        yield draw(figure, chapter.name)
        pyplot.close(figure)
