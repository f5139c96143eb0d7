"""One arena, in which values share space when their lives do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from convcore.memory import ALIGNMENT

if TYPE_CHECKING:
    from convcore.plan.data import Plan


def align(size: int) -> int:
    """Round up to a multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Lifetime(NamedTuple):
    """A block of `size` bytes that is needed from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int


def lifetimes(plan: Plan, workspaces: Sequence[int], batch: int = 1) -> list[Lifetime]:
    """What a run of `plan` on `batch` images needs beside inputs, outputs, constants and weights.

    Every value under its name, from its first step to its last, and every workspace as `workspace I` in
    step I alone; `workspaces` has the bytes of each step's, which depend on the batch.
    """
    ends = {name for name, _ in (*plan.inputs, *plan.outputs)}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for i, s in enumerate(plan.steps):
        for view in (*s.inputs, s.output):
            first.setdefault(view.value, i)
            last[view.value] = i
    blocks = [
        Lifetime(name, value.bytes * batch, first[name], last[name])
        for name, value in plan.values.items()
        if name in first and name not in ends
    ]
    return blocks + [Lifetime(f"workspace {i}", size, i, i) for i, size in enumerate(workspaces) if size]


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
