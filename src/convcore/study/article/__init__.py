"""The article as something you can run: chapters that are programs, and the pages that they make.

:func:`write_article` runs chapters and writes a page for each; the notebooks in ``examples/notebooks`` are
made from the same files.

A chapter is a Python file in the percent format, ``chapters/NN_name.py``:

- ``# %% [markdown]`` begins a cell of prose, ``# %%`` one of code. The first cell is prose: ``# # Title`` and
  a paragraph that says what the chapter is about, which the index shows too. Formulas are TeX between ``$``
  signs, as far as matplotlib knows it. A quotation (``> ``) says where the article is wrong or Keras differs.
- It imports what it uses, all that a reader has: convcore's public functions, NumPy, matplotlib and what the
  ``app`` extra brings.
- What a cell prints, the value of its last expression and the figures that it opened are shown; that value
  may be a figure too. A figure's name says in words what is to be seen, for the caption and for those who
  cannot see it: ``plt.subplots(num="Two pulses, and the triangle that they make")``. Colours come from
  matplotlib's cycle (``C0``, ``C1``...), and text keeps the default: the page puts its themes' own in their
  place.
- ``find("sonar.csv")`` is the path of a reader's file. A cell that asks for one that is not there is left
  out, and so is every later cell that uses a name made there; ``find("cat.jpg", default=other)`` goes on with
  the other. ``files.WHERE`` says where each file comes from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from convcore.study.article.chapter import chapter_files, read_chapter, select_chapters
from convcore.study.article.files import MissingDataError, find, find_series
from convcore.study.article.page import chapter_page, index_page
from convcore.study.article.runner import may_lack, run_chapter
from convcore.writers import write_bytes

__all__ = [
    "MissingDataError",
    "chapter_files",
    "find",
    "find_series",
    "may_lack",
    "read_chapter",
    "run_chapter",
    "write_article",
]


def write_article(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    chapters: Sequence[str] | None = None,
    *,
    tell: Callable[[str], object] | None = None,
) -> list[Path]:
    """Run chapters of the article and write their pages, and an index.

    Nothing is written before every chapter has run.

    Parameters
    ----------
    folder
        Where the pages go; made if it is not there.
    data
        The reader's folder, in which chapters look for files by name. What needs a file that is not there is
        left out, and the page says where to get it.
    chapters
        Which chapters: ``"02_dicom"``, ``"dicom"`` or ``"2"``; all by default.
    tell
        Called with each chapter's name and title before it runs: all of them take a minute.

    Returns
    -------
    list of pathlib.Path
        ``index.html``, then the chapters' pages in order.

    Raises
    ------
    ArgumentError
        No such chapter.
    InputError
        No such data folder, or a page cannot be written.
    MissingExtraError
        matplotlib, Markdown-It, Pygments, or what a chapter uses is not installed.
    """
    selected = [read_chapter(path) for path in select_chapters(chapters)]
    ran = []
    for chapter in selected:
        if tell is not None:
            tell(f"{chapter.name}: {chapter.title}")
        ran.append((chapter, run_chapter(chapter, data)))
    pages = {"index": index_page(ran)}
    for index, (chapter, results) in enumerate(ran):
        previous = selected[index - 1] if index else None
        following = selected[index + 1] if index + 1 < len(selected) else None
        pages[chapter.name] = chapter_page(chapter, results, previous, following)
    return [write_bytes(Path(folder, f"{name}.html"), page.encode()) for name, page in pages.items()]
