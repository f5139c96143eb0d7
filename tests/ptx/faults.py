"""What the emulator refuses to do, each with the instruction and the thread that asked for it."""

from __future__ import annotations

__all__ = [
    "BarrierDivergence",
    "Endless",
    "Fault",
    "LateCopy",
    "Misaligned",
    "OutOfBounds",
    "PartialWarp",
    "Race",
    "Trap",
    "Uninitialised",
    "UnknownInstruction",
]


class UnknownInstruction(NotImplementedError):  # noqa: N818 - it says what is missing
    """PTX that the emulator does not know."""


class Fault(Exception):  # noqa: N818 - the kernel's, not the emulator's
    """Something that a GPU would not forgive, or worse, would.

    Raised with what happened and the number of a thread (in its block) that it happened to; :meth:`locate`
    adds where in the kernel, once that is known.
    """

    def __init__(self, what: str, thread: int | None = None) -> None:
        super().__init__(what)
        self.what, self.thread, self.where = what, thread, ""

    def locate(self, where: str) -> None:
        """Add the place, unless a deeper level has."""
        self.where = self.where or where

    def __str__(self) -> str:
        who = ""
        if self.thread is not None:
            who = f"thread {self.thread} (warp {self.thread // 32}, lane {self.thread % 32}): "
        return f"{who}{self.what}{self.where}"


class Race(Fault):
    """Two threads at one place of shared memory, one of them writing, and no barrier between."""


class LateCopy(Fault):
    """A ``cp.async`` has not been waited for."""


class Uninitialised(Fault):
    """Shared memory is read that nobody has written."""


class OutOfBounds(Fault):
    """An access outside of every allocation."""


class Misaligned(Fault):
    """An address that is no multiple of the access's size."""


class PartialWarp(Fault):
    """An instruction of whole warps, executed by some lanes only."""


class BarrierDivergence(Fault):
    """A barrier that not all threads of the block arrive at."""


class Endless(Fault):
    """A block that does not come to an end."""


class Trap(Fault):
    """The kernel gave up by itself."""
