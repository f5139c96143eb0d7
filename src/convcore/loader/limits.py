"""What a model file may ask for. Everything is checked before memory is taken or time is spent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from convcore.errors import ModelFormatError

#: Largest file, and largest sum of the weights in it, in bytes.
FILE_BYTES = 4 << 30
#: Largest configuration text, in bytes.
CONFIG_BYTES = 16 << 20
#: How deep a configuration, or groups in a weights file, may nest.
DEPTH = 64
#: Most layers, calls, nodes or weights.
NODES = 20_000
#: Largest dimension of any shape is below this.
DIMENSION = 1 << 31
#: Most elements of one array, weight or activation.
ELEMENTS = 1 << 40

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def check_size(size: int, limit: int, where: str, what: str) -> None:
    """Refuse `size` bytes of `what` beyond `limit`."""
    if size > limit:
        raise ModelFormatError(where, f"{what} too large", got=f"{size} bytes", expected=f"at most {limit}")


def check_shape(shape: Iterable[int | None], where: str) -> None:
    """Refuse dimensions below 0, or so large that sizes could overflow."""
    known = [d for d in shape if d is not None]
    if any(not 0 <= d < DIMENSION for d in known) or math.prod(known) > ELEMENTS:
        raise ModelFormatError(
            where, "impossible shape", got=tuple(shape), expected=f"dimensions below {DIMENSION}"
        )


def check_depth(text: str, where: str) -> None:
    """Refuse JSON that nests deeper than :data:`DEPTH`: the parser itself recurses."""
    depth = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark in "[{":
            depth += 1
            if depth > DEPTH:
                raise ModelFormatError(where, "nests too deeply", expected=f"at most {DEPTH} levels")
        elif mark in "]}":
            depth -= 1
