"""Chapter files: Python in the percent format, ``# %% [markdown]`` for prose and ``# %%`` for code."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convcore.errors import ArgumentError, InputError

__all__ = ["Cell", "Chapter", "chapter_files", "read_chapter", "select_chapters"]

_FOLDER = Path(__file__).parent / "chapters"
_HEAD = re.compile(r"# %%(?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: Markdown without its comment signs, or Python as it stands; `line` is its first, from 1."""

    kind: Literal["markdown", "code"]
    text: str
    line: int

    @property
    def tree(self) -> ast.Module:
        """The cell's code, parsed, with the file's line numbers."""
        tree = ast.parse(self.text)
        ast.increment_lineno(tree, self.line - 1)
        return tree


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter as its file has it.

    Attributes
    ----------
    name
        The file's name without ``.py``, such as ``01_images``: what pages and notebooks are called.
    title, summary
        The heading and the first paragraph of the first cell, as plain Markdown.
    """

    name: str
    path: Path
    cells: tuple[Cell, ...]
    title: str
    summary: str


def chapter_files() -> list[Path]:
    """Return the chapters that ship, in order."""
    return sorted(_FOLDER.glob("[0-9][0-9]_*.py"))


def select_chapters(names: Sequence[str] | None = None) -> list[Path]:
    """Return the files of some chapters, in the article's order; of all by default.

    Parameters
    ----------
    names
        Names, or numbers as text: ``"02_dicom"``, ``"dicom"``, ``"02"`` and ``"2"`` are the same chapter.

    Raises
    ------
    ArgumentError
        No such chapter.

    Examples
    --------
    >>> [path.stem for path in select_chapters(["1"])]
    ['01_images']
    """
    files = chapter_files()
    if names is None:
        return files
    chosen = set()
    for name in names:
        fits = [f for f in files if name in (f.stem, f.stem[3:], f.stem[:2], str(int(f.stem[:2])))]
        if not fits:
            raise ArgumentError(
                "chapters", "no such chapter", got=name, expected=", ".join(f.stem for f in files)
            )
        chosen.add(fits[0])
    return [f for f in files if f in chosen]


def read_chapter(path: str | Path) -> Chapter:
    """Read a chapter file.

    Raises
    ------
    InputError
        The file cannot be read, does not begin with a Markdown cell whose first line is a heading, or has
        a line in a Markdown cell that is no comment.

    Examples
    --------
    >>> _ = Path("01_sum.py").write_text("# %% [markdown]\\n# # Sums\\n# One sum.\\n\\n# %%\\n1 + 1\\n")
    >>> chapter = read_chapter("01_sum.py")
    >>> chapter.title, chapter.summary, [(cell.kind, cell.text) for cell in chapter.cells]
    ('Sums', 'One sum.', [('markdown', '# Sums\\nOne sum.'), ('code', '1 + 1')])
    """
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(str(file), f"cannot be read: {error.strerror}") from None
    cells = tuple(_cells(lines, str(file)))
    heading = re.match(r"# (.+)\n+((?:.+\n?)+)", cells[0].text) if cells else None
    if heading is None or cells[0].kind != "markdown":
        raise InputError(
            str(file), "does not begin as a chapter", expected="a Markdown cell: a heading, then a paragraph"
        )
    return Chapter(file.stem, file, cells, heading[1].strip(), " ".join(heading[2].split()))


def _cells(lines: list[str], where: str) -> list[Cell]:
    heads = [(i, m["rest"].strip()) for i, line in enumerate(lines) if (m := _HEAD.match(line))]
    cells = []
    for number, (head, rest) in enumerate(heads, 1):
        end = heads[number][0] if number < len(heads) else len(lines)
        body = lines[head + 1 : end]
        first = head + 2
        while body and not body[0].strip():
            body, first = body[1:], first + 1
        while body and not body[-1].strip():
            body = body[:-1]
        if rest == "[markdown]":
            cells.append(Cell("markdown", "\n".join(_prose(body, first, where)), first))
        elif rest:
            raise InputError(
                f"{where}, line {head + 1}", "unknown kind of cell", got=rest, expected="[markdown]"
            )
        elif body:
            cells.append(Cell("code", "\n".join(body), first))
    return cells


def _prose(body: list[str], first: int, where: str) -> list[str]:
    for offset, line in enumerate(body):
        if line.strip() and not re.match(r"#( |$)", line):
            raise InputError(
                f"{where}, line {first + offset}", "is no comment", got=line, expected="# and a space"
            )
    return [line[2:].rstrip() for line in body]
