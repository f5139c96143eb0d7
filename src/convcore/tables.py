"""Plain text in columns: how plans, profiles, checks and the command line show their rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["text_table"]


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, left: Collection[int] = (0,)
) -> str:
    """Return `rows` below `header`, columns two spaces apart, without trailing spaces.

    Parameters
    ----------
    header
        Column titles.
    rows
        One sequence of cells a row; None is shown as empty.
    left
        Columns that are aligned left; the others, numbers, right.

    Examples
    --------
    >>> print(text_table(("layer", "ms"), [("conv1", "12.5"), ("fc", None)]))
    layer    ms
    conv1  12.5
    fc
    """
    lines = [list(header), *(["" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
