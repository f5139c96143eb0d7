"""What the commands print: tables, progress, JSON.

A table on a terminal is drawn by rich where it is installed; anywhere else it is plain text in
columns, which other programs can cut apart. Progress is shown on stderr, and only to a terminal.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from convcore.tables import text_table

__all__ = ["note", "plain", "print_json", "print_table", "progress"]

T = TypeVar("T")


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", left: Sequence[int] = (0,)
) -> None:
    """Print a table to stdout.

    Parameters
    ----------
    header
        Column titles.
    rows
        One sequence of cells a row; None is shown as empty.
    title
        A line above the table.
    left
        Columns that are aligned left; the others, numbers, right.
    """
    if sys.stdout.isatty() and _rich_table(header, rows, title, left):
        return
    if title:
        print(title)
    print(text_table(header, rows, left=left))


def _rich_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], title: str, left: Sequence[int]
) -> bool:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:  # a base installation: plain text serves
        return False
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        # Long names fold: a cut-off layer or file name would be of no use.
        table.add_column(Text(name), justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        # Text, not str: a file name may hold what rich would take for markup.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console(highlight=False).print(table)
    return True


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass `items` on, with a progress bar on stderr if that is a terminal and tqdm is installed."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            yield from tqdm(items, total=total, desc=what, leave=False, file=sys.stderr)
            return
    yield from items


def note(text: str) -> None:
    """Print a message for people to stderr."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a result as indented JSON."""
    print(json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False))


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: NumPy to lists and numbers, NaN and infinity to null.

    >>> import numpy as np
    >>> plain({"p": np.float32(0.5), "q": float("nan"), "shape": (2, np.int64(3))})
    {'p': 0.5, 'q': None, 'shape': [2, 3]}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
