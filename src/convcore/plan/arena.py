"""One arena, in which values share space when their lives do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from convcore.memory import ALIGNMENT


def align(size: int) -> int:
    """Round up to a multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Lifetime:
    """A block of `size` bytes that is needed from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int


def place(blocks: Iterable[Lifetime]) -> tuple[Mapping[str, int], int]:
    """Give every block an offset so that blocks that live at the same time do not overlap.

    Largest first, each at the lowest place that is free for its whole life: simple, and for the
    networks here within a few per cent of the largest sum of live blocks.

    Returns
    -------
    offsets, size
        Byte offset of every block, and bytes of the arena.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[str, int] = {}
    for block in sorted(blocks, key=lambda b: (-b.size, b.first, b.name)):
        size = align(block.size)
        at = 0
        for start, end, other in sorted(placed, key=lambda p: p[0]):
            if other.first > block.last or other.last < block.first:
                continue
            if start - at >= size:
                break
            at = max(at, end)
        placed.append((at, at + size, block))
        offsets[block.name] = at
    return offsets, max((end for _, end, _ in placed), default=0)
