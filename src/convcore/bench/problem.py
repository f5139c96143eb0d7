"""Problem strings: the sizes of one operation in a word, in the manner of oneDNN's ``benchdnn``.

    mb1ic64ih56oc128oh56kh3ph1        a convolution, pooling, ...
    4096x1000                         an operation that knows no axes but their lengths

A letter says what a number is: ``mb`` the batch, ``g`` groups, ``ic`` and ``oc`` channels; ``i``, ``o``,
``k``, ``s``, ``d`` and ``p`` with an axis (``d``, ``h``, ``w``) the input, output, kernel, stride, dilation
(0 is none) and padding on the low side. An axis that is left out is like the one before it: ``ih56`` is
square. Of output and padding either may be left out: without ``p`` the padding is what the output needs,
half on each side, and without both there is none. Given both, the padding on the high side is what the
output needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from convcore.errors import ArgumentError
from convcore.shapes import MOST_ELEMENTS

__all__ = ["Problem", "parse", "parse_dimensions"]

_TOKEN = re.compile(r"([a-z]+)(\d+)")
_AXES = "dhw"
#: Fields that have an axis, and what they are if nobody says; None must be said or follows from others.
_ALONG_AXES: Mapping[str, int | None] = {"i": None, "o": None, "k": None, "s": 1, "d": 0, "p": None}
_LEAST = {"d": 0, "p": 0}
#: The order in which fields are written.
_ORDER = ("mb", "g", "ic", "i", "oc", "o", "k", "s", "d", "p")

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Problem:
    """Sizes by name; those along axes are tuples, one entry for each spatial axis.

    `padding` holds a (low, high) pair for each axis. `text` is the shortest way to write it.
    """

    operation: str
    rank: int
    numbers: Mapping[str, int]
    along: Mapping[str, tuple[int, ...]]
    padding: Pairs = ()
    text: str = field(default="", compare=False)

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]


def _wrong(operation: str, text: str, got: object, expected: str) -> ArgumentError:
    return ArgumentError(f"bench {operation}", f"problem {text!r}", got=got, expected=expected)


def parse_dimensions(operation: str, text: str) -> tuple[int, ...]:
    """Return the lengths that ``4096x1000`` holds.

    Raises
    ------
    ArgumentError
        It is no such string.

    Examples
    --------
    >>> parse_dimensions("softmax", "4096x1000")
    (4096, 1000)
    """
    if not re.fullmatch(r"\d+(x\d+)*", text):
        raise _wrong(operation, text, text, "lengths such as 4096x1000")
    sizes = tuple(map(int, text.split("x")))
    if not all(1 <= n < MOST_ELEMENTS for n in sizes):
        raise _wrong(operation, text, sizes, "lengths from 1")
    return sizes


def _tokens(operation: str, text: str, known: Sequence[str]) -> dict[str, int]:
    """Names with axes, such as "ih", to numbers."""
    names = [n for name in known for n in ([name + a for a in _AXES] if name in _ALONG_AXES else [name])]
    found: dict[str, int] = {}
    pieces = _TOKEN.findall(text)
    if "".join(a + b for a, b in pieces) != text.replace("_", "") or not pieces:
        raise _wrong(operation, text, text, f"names and numbers such as {known[0]}1, of {', '.join(names)}")
    for name, digits in pieces:
        if name not in names:
            raise _wrong(operation, text, name, ", ".join(names))
        if name in found:
            raise _wrong(operation, text, f"{name} twice", "every name once")
        least = _LEAST.get(name[0], 1) if len(name) == 2 and name[1] in _AXES else 1
        if not least <= int(digits) < MOST_ELEMENTS:
            raise _wrong(operation, text, f"{name}{digits}", f"numbers from {least}")
        found[name] = int(digits)
    return found


def _spread(found: Mapping[str, int], name: str, axes: str) -> tuple[int, ...] | None:
    """The numbers of `name` along the axes, each like the one before if it is left out."""
    numbers: list[int] = []
    for axis in axes:
        if name + axis in found:
            numbers.append(found[name + axis])
        elif numbers:
            numbers.append(numbers[-1])
        else:
            return None
    return tuple(numbers)


def _written(numbers: Mapping[str, int], along: Mapping[str, tuple[int, ...]], axes: str) -> str:
    words: list[str] = []
    for name in _ORDER:
        if name in numbers and not (name == "g" and numbers[name] == 1):
            words.append(f"{name}{numbers[name]}")
        if name not in along or all(n == _ALONG_AXES[name] for n in along[name]):
            continue
        before = None
        for axis, number in zip(axes, along[name], strict=True):
            if number != before:
                words.append(f"{name}{axis}{number}")
            before = number
    return "".join(words)


def _window(
    problem: Problem, outputs: tuple[int, ...] | None, low: tuple[int, ...] | None
) -> tuple[tuple[int, ...], Pairs]:
    """Output sizes and padding of an operation that moves a window over its input."""
    along, text, operation = problem.along, problem.text, problem.operation
    sizes: list[int] = []
    pairs: list[tuple[int, int]] = []
    for a in range(problem.rank):
        i, k, s, d = (along[name][a] for name in ("i", "k", "s", "d"))
        reach = (k - 1) * (d + 1) + 1
        if outputs is None:
            pad = 0 if low is None else low[a]
            o = (i + 2 * pad - reach) // s + 1
            pair = (pad, pad)
        else:
            o = outputs[a]
            total = (o - 1) * s + reach - i
            before = max(total, 0) // 2 if low is None else low[a]
            # Alike on both sides where that gives the same output, since some libraries know nothing else;
            # on the high side, samples that no window reaches make no difference.
            alike = (i + 2 * before - reach) // s + 1 == o
            pair = (before, before if alike else total - before)
            if -s < pair[1] < 0:
                pair = (before, 0)
        # Beyond reach - 1 a window would see nothing but padding: the output is not what was meant.
        if o < 1 or not 0 <= pair[1] <= max(reach - 1, pair[0]):
            most = "an output of at least 1" if o < 1 else "an output that these windows give"
            raise _wrong(operation, text, f"output {o} with padding {pair}", most)
        sizes.append(o)
        pairs.append(pair)
    return tuple(sizes), tuple(pairs)


def _transposed(
    problem: Problem, outputs: tuple[int, ...] | None, low: tuple[int, ...] | None
) -> tuple[tuple[int, ...], Pairs]:
    """Output sizes of a transposed convolution, and how its full output is cropped."""
    along = problem.along
    sizes: list[int] = []
    pairs: list[tuple[int, int]] = []
    for a in range(problem.rank):
        i, k, s, d = (along[name][a] for name in ("i", "k", "s", "d"))
        full = (i - 1) * s + (k - 1) * (d + 1) + 1
        if outputs is None:
            cut = 0 if low is None else low[a]
            pair = (cut, cut)
        else:
            total = full - outputs[a]
            before = max(total, 0) // 2 if low is None else low[a]
            pair = (before, total - before)
        o = full - sum(pair)
        if o < 1 or pair[1] < 0:
            raise _wrong(problem.operation, problem.text, f"output {o}", f"from 1 to the full {full}")
        sizes.append(o)
        pairs.append(pair)
    return tuple(sizes), tuple(pairs)


_GEOMETRY: Mapping[str, Callable[..., tuple[tuple[int, ...], Pairs]]] = {
    "window": _window,
    "transposed": _transposed,
}


def parse(
    operation: str,
    text: str,
    known: Sequence[str],
    *,
    rank: int | None = None,
    geometry: str = "",
    defaults: Mapping[str, int] | None = None,
) -> Problem:
    """Return the sizes that a problem string gives.

    Parameters
    ----------
    operation, text
        The operation's name, for messages, and the string.
    known
        The fields that the operation has, of those named above; those along axes without an axis.
    rank
        Spatial axes; None: as many as the string names.
    geometry
        "window" or "transposed": how output and padding follow from each other. Otherwise they are two
        numbers.
    defaults
        Numbers that may be left out.

    Raises
    ------
    ArgumentError
        It cannot be read, a number is missing, or the numbers do not fit each other.

    Examples
    --------
    >>> known = ("mb", "ic", "i", "oc", "o", "k", "s", "d", "p")
    >>> p = parse("conv2d", "ic64ih56oc128kh3ph1", known, rank=2, geometry="window", defaults={"mb": 1})
    >>> p.along["o"], p.padding, p.text
    ((56, 56), ((1, 1), (1, 1)), 'mb1ic64ih56oc128oh56kh3ph1')
    """
    found = {**(defaults or {}), **_tokens(operation, text, known)}
    if rank is None:
        rank = next((3 - _AXES.index(a) for a in _AXES if f"i{a}" in found), 0)
    axes = _AXES[3 - rank :]
    outside = [name for name in found if len(name) == 2 and name[0] in _ALONG_AXES and name[1] in _AXES]
    outside = [name for name in outside if name[1] not in axes]
    if outside:
        raise _wrong(operation, text, outside[0], f"{rank} spatial axes: {', '.join(axes) or 'none'}")
    numbers: dict[str, int] = {}
    along: dict[str, tuple[int, ...]] = {}
    for name in known:
        if name not in _ALONG_AXES:
            if name not in found:
                raise _wrong(operation, text, f"no {name}", f"a number such as {name}64")
            numbers[name] = found[name]
            continue
        given = _spread(found, name, axes)
        standard = _ALONG_AXES[name]
        if given is None and standard is not None:
            given = (standard,) * rank
        if given is None and (not geometry or name not in "op"):
            raise _wrong(operation, text, f"no {name}{axes[:1]}", f"a number such as {name}{axes[:1]}3")
        if given is not None:
            along[name] = given
    if not geometry:
        pairs = tuple((n, n) for n in along.get("p", ()))
        return Problem(operation, rank, numbers, along, pairs, _written(numbers, along, axes))
    before = Problem(operation, rank, numbers, {"d": (0,) * rank, **along}, (), text)
    outputs, pairs = _GEOMETRY[geometry](before, along.get("o"), along.get("p"))
    along["o"] = outputs
    along["p"] = tuple(low for low, _ in pairs)
    along.setdefault("d", (0,) * rank)
    shown = dict(along)
    if not any(along["p"]):
        del shown["p"]
        # Without a word on padding the output's own would be put half on each side.
        if any(high > 0 for _, high in pairs):
            shown["p"] = along["p"]
    return Problem(operation, rank, numbers, along, pairs, _written(numbers, shown, axes))
