"""Runs a chapter in this process: each cell's text, last value and figures, in a namespace of its own."""

from __future__ import annotations

import ast
import contextlib
import dis
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from convcore.extras import import_matplotlib
from convcore.study.article.chapter import Cell, Chapter
from convcore.study.article.figures import STYLE, Drawing, draw
from convcore.study.article.files import MissingDataError, find, reading_from

__all__ = ["Result", "may_lack", "run_chapter"]


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
    """A chapter while it runs.

    `names` are its own, `missing` those that a missing file kept from being made, with the files; `not_ours`
    are the numbers of figures that were open before, `drawn` counts the chapter's own.
    """

    chapter: Chapter
    names: dict[str, Any]
    not_ours: frozenset[int]
    drawn: int = 0
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
    run = _Run(chapter, names, frozenset(pyplot.get_fignums()))
    backend = pyplot.get_backend()
    try:
        with pyplot.style.context(["default", STYLE]), reading_from(data), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
            pyplot.switch_backend("Agg")
            return [_run_cell(cell, run) for cell in chapter.cells]
    finally:
        for number in set(pyplot.get_fignums()) - run.not_ours:
            pyplot.close(number)
        pyplot.switch_backend(backend)


def may_lack(chapter: Chapter) -> list[bool]:
    """Say of each cell whether a file could be wanting: for it, or for a name that it uses."""
    answers = []
    lacking: set[str] = set()
    for cell in chapter.cells:
        if cell.kind == "markdown":
            answers.append(False)
            continue
        made, used = _names(compile(cell.tree, str(chapter.path), "exec"))
        answers.append(bool(used & lacking) or any(True for _ in _questions(cell.tree)))
        lacking = lacking | made if answers[-1] else lacking - made
    return answers


def _run_cell(cell: Cell, run: _Run) -> Result:
    if cell.kind == "markdown":
        return Result(cell)
    tree = cell.tree
    made, used = _names(compile(tree, str(run.chapter.path), "exec"))
    lacking = sorted({file for name in used if name in run.missing for file in run.missing[name]})
    printed = io.StringIO()
    value = None
    if not lacking:
        try:
            with contextlib.redirect_stdout(printed):
                value = _execute(tree, run.chapter.path, run.names)
        except MissingDataError as error:
            lacking = [error.where]
    if lacking:
        lacking = sorted({*lacking, *_asked_for(tree)})
    run.missing = {name: files for name, files in run.missing.items() if name not in made}
    if lacking:
        run.missing |= dict.fromkeys(made, tuple(lacking))
    return Result(cell, printed.getvalue(), _shown(value), tuple(_figures(run, value)), tuple(lacking))


def _asked_for(tree: ast.Module) -> Iterator[str]:
    """Files that a cell asks for in plain words and that are not there: told at once, not one by one."""
    for call in _questions(tree):
        words = [str(word.value) for word in call.args if isinstance(word, ast.Constant)]
        if words and find(*words, default=None) is None:
            yield words[0]


def _questions(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of `find` that have no other answer."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not node.keywords and ast.unparse(node.func) == find.__name__:
            yield node


def _execute(tree: ast.Module, path: Path, names: dict[str, Any]) -> Any:
    """Run all statements; return the last one's value if it is an expression."""
    last = tree.body[-1] if tree.body else None
    body = tree.body[:-1] if isinstance(last, ast.Expr) else tree.body
    exec(compile(ast.Module(body, []), str(path), "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), str(path), "eval"), names)
    return None


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """Names that a cell makes in the chapter, and names that it uses and that earlier cells must have made.

    Read from the instructions, which know whose a name is (those of a comprehension or a function are not the
    chapter's) and in which order: what a cell stores before it first loads it is its own.
    """
    made: set[str] = set()
    used: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_NAME", "STORE_GLOBAL"):
            made.add(instruction.argval)
        elif instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL") and instruction.argval not in made:
            used.add(instruction.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            used |= _names(inner)[1] - made
    return made, used


def _shown(value: Any) -> str:
    from matplotlib.artist import Artist

    parts = value if isinstance(value, list | tuple) else [value]
    if value is None or (len(parts) and any(isinstance(part, Artist) for part in parts)):
        return ""
    return repr(value)


def _figures(run: _Run, value: Any) -> Iterator[Drawing]:
    """Draw the figures that the cell has opened, and close them; a last value that is one, opened or not."""
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    opened = [pyplot.figure(number) for number in sorted(set(pyplot.get_fignums()) - run.not_ours)]
    for figure in opened + [value] * (isinstance(value, Figure) and value not in opened):
        run.drawn += 1
        yield draw(figure, f"figure-{run.drawn}")
        pyplot.close(figure)
