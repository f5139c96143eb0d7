"""All output-size and padding arithmetic, in plain integers.

Every function works on 1, 2 or 3 spatial axes at once: ``sizes``, ``kernel``, ``strides`` and
``dilation`` are tuples with one entry per spatial axis, never with the batch or the channels.
Padding is resolved to one ``(low, high)`` pair per axis here, so that neither the kernels nor the
plan ever see the word "same". ``where`` is the caller's name, for the error message.

Symbols: i input size, k kernel size, s stride, d dilation, k^ = (k - 1) d + 1 the dilated kernel,
o output size.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TypeAlias

from convcore.errors import ArgumentError

__all__ = [
    "MOST_ELEMENTS",
    "MOST_STEPS",
    "Padding",
    "Pairs",
    "Sizes",
    "broadcast",
    "conv_output",
    "conv_padding",
    "conv_transpose_geometry",
    "pool_output",
    "pool_padding",
    "side_pairs",
    "spatial_tuple",
]

#: Largest kernel, stride, dilation and padding of an axis: products of two with a size stay far from
#: overflow. ``csrc/choose.c`` has the same number.
MOST_STEPS = 2**20
#: Most elements of an array: CC_MOST_FLOATS of ``csrc/choose.h``.
MOST_ELEMENTS = 2**40

Sizes: TypeAlias = tuple[int, ...]
Pairs: TypeAlias = tuple[tuple[int, int], ...]
#: A word, one number for every side, one number per axis, or one (low, high) pair per axis.
Padding: TypeAlias = str | int | Sequence[int] | Sequence[Sequence[int]]

_CONV_WORDS = ("valid", "same", "same_lower", "full", "causal")
_POOL_WORDS = ("valid", "same", "same_lower", "full")


def _integer(value: object, name: str, where: str) -> int:
    # bool is an int to Python; as a size it is always a mistake.
    if isinstance(value, bool):
        raise ArgumentError(where, f"{name} must be an integer", got=repr(value), expected="an integer")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(
            where, f"{name} must be an integer", got=repr(value), expected="an integer"
        ) from None


def _is_sequence(value: object) -> bool:
    # NumPy arrays and lists count, strings and NumPy's zero-dimensional scalars do not.
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | bytes)


def spatial_tuple(
    value: int | Sequence[int], rank: int, name: str, where: str, most: int = MOST_STEPS
) -> Sizes:
    """Return `value` as a tuple of `rank` positive integers; one integer stands for every axis.

    Raises
    ------
    ArgumentError
        An entry is no integer, is below 1 or above `most`, or there are not `rank` of them.

    Examples
    --------
    >>> spatial_tuple(2, 3, "strides", "conv3d")
    (2, 2, 2)
    """
    entries: Sequence[int] = value if _is_sequence(value) else (value,) * rank  # type: ignore[assignment]
    result = tuple(_integer(v, name, where) for v in entries)
    if len(result) != rank:
        raise ArgumentError(
            where, f"{name} needs one entry per spatial axis", got=value, expected=f"{rank} integers"
        )
    if min(result, default=1) < 1:
        raise ArgumentError(where, f"{name} must be positive", got=value, expected="integers >= 1")
    if max(result, default=1) > most:
        raise ArgumentError(where, name, got=value, expected=f"integers from 1 to {most}")
    return result


def _same_rank(where: str, **tuples: Sequence[object]) -> None:
    lengths = {name: len(t) for name, t in tuples.items()}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(
            where, "one entry per spatial axis is needed in each", got=lengths, expected="equal lengths"
        )


def _explicit(padding: object, rank: int, where: str, name: str = "padding") -> Pairs:
    """Return numbers (one, one per axis, or pairs) as pairs of integers of either sign."""
    if not _is_sequence(padding):
        p = _integer(padding, name, where)
        return ((p, p),) * rank
    entries: Sequence[object] = padding  # type: ignore[assignment]
    if len(entries) != rank:
        raise ArgumentError(
            where, f"{name} needs one entry per spatial axis", got=padding, expected=f"{rank} entries"
        )
    pairs = []
    for entry in entries:
        if not _is_sequence(entry):
            p = _integer(entry, name, where)
            pairs.append((p, p))
            continue
        sides: Sequence[object] = entry  # type: ignore[assignment]
        if len(sides) != 2:
            raise ArgumentError(where, f"{name} of an axis", got=entry, expected="a pair (low, high)")
        pairs.append((_integer(sides[0], name, where), _integer(sides[1], name, where)))
    return tuple(pairs)


def side_pairs(
    value: int | Sequence[int] | Sequence[Sequence[int]],
    rank: int,
    name: str,
    where: str,
    most: int = MOST_STEPS,
) -> Pairs:
    """Return numbers (one, one per axis, or pairs) as `rank` pairs (low, high) of integers 0 to `most`.

    Raises
    ------
    ArgumentError
        An entry is no integer or out of range, or there are not `rank` of them.

    Examples
    --------
    >>> side_pairs([1, (0, 2)], 2, "padding", "zero_pad")
    ((1, 1), (0, 2))
    """
    if isinstance(value, str):
        raise ArgumentError(where, name, got=value, expected="integers or (low, high) pairs")
    pairs = _explicit(value, rank, where, name)
    if any(side < 0 for pair in pairs for side in pair):
        raise ArgumentError(
            where,
            f"{name} must not be negative",
            got=pairs,
            expected="integers >= 0",
            remedy="Crop the input instead." if name == "padding" else "",
        )
    if any(side > most for pair in pairs for side in pair):
        raise ArgumentError(where, name, got=pairs, expected=f"integers from 0 to {most}")
    return pairs


def _word_within_limit(word: str, pairs: Pairs, where: str) -> Pairs:
    if any(side > MOST_STEPS for pair in pairs for side in pair):
        raise ArgumentError(
            where,
            f'padding "{word}" with this kernel and dilation',
            got=pairs,
            expected=f"at most {MOST_STEPS} on each side",
        )
    return pairs


def _dilated(kernel: Sizes, dilation: Sizes) -> Sizes:
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def _same_total(size: int, kernel: int, stride: int) -> int:
    """Zeros that let ceil(i / s) windows fit: never negative, so a stride may skip the last samples."""
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)


def conv_padding(
    padding: Padding, sizes: Sizes, kernel: Sizes, strides: Sizes, dilation: Sizes, where: str
) -> Pairs:
    """Return the padding of a convolution as one (low, high) pair per spatial axis.

    ``"valid"`` is none. ``"same"`` is Keras's and XLA's: o = ceil(i / s), the odd zero on the high
    side, so it depends on the input's size when s > 1. ``"same_lower"`` puts the odd zero on the low
    side. ``"full"`` is k^ - 1 on both sides. ``"causal"`` is k^ - 1 on the low side, 1-D only.

    Raises
    ------
    ArgumentError
        An unknown word, a negative number, the wrong number of entries, or more than
        `MOST_STEPS` on a side.

    Examples
    --------
    >>> conv_padding("same", (6, 5), (3, 3), (2, 2), (1, 1), "conv2d")
    ((0, 1), (1, 1))
    """
    _same_rank(where, sizes=sizes, kernel=kernel, strides=strides, dilation=dilation)
    if not isinstance(padding, str):
        return side_pairs(padding, len(sizes), "padding", where)
    extents = _dilated(kernel, dilation)
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    if padding == "full":
        return _word_within_limit(padding, tuple((k - 1, k - 1) for k in extents), where)
    if padding == "causal" and len(sizes) == 1:
        return _word_within_limit(padding, ((extents[0] - 1, 0),), where)
    if padding in ("same", "same_lower"):
        totals = [_same_total(i, k, s) for i, k, s in zip(sizes, extents, strides, strict=True)]
        smaller_low = tuple((t // 2, t - t // 2) for t in totals)
        pairs = smaller_low if padding == "same" else tuple((hi, lo) for lo, hi in smaller_low)
        return _word_within_limit(padding, pairs, where)
    words = _CONV_WORDS if len(sizes) == 1 else _CONV_WORDS[:-1]
    raise ArgumentError(
        where, "unknown padding", got=padding, expected=f"{', '.join(words)}, integers or (low, high) pairs"
    )


def _window_output(
    sizes: Sizes, extents: Sizes, strides: Sizes, padding: Pairs, where: str, window: str
) -> Sizes:
    """o = floor((i + low + high - extent) / s) + 1, and an error where that is below 1."""
    output = tuple(
        (i + lo + hi - k) // s + 1 for i, k, s, (lo, hi) in zip(sizes, extents, strides, padding, strict=True)
    )
    if min(output) < 1:
        raise ArgumentError(
            where,
            f"the input is smaller than the {window}: the output would be empty ({output})",
            got=f"spatial sizes {sizes} with padding {padding}",
            expected=f"padded sizes of at least {extents}",
        )
    return output


def conv_output(
    sizes: Sizes, kernel: Sizes, strides: Sizes, dilation: Sizes, padding: Pairs, where: str
) -> Sizes:
    """Return the output sizes of a convolution: o = floor((i + low + high - k^) / s) + 1.

    Raises
    ------
    ArgumentError
        An output would be empty.

    Examples
    --------
    >>> conv_output((5, 7), (3, 3), (2, 1), (1, 2), ((1, 1), (0, 0)), "conv2d")
    (3, 3)
    """
    _same_rank(where, sizes=sizes, kernel=kernel, strides=strides, dilation=dilation, padding=padding)
    return _window_output(sizes, _dilated(kernel, dilation), strides, padding, where, "dilated kernel")


def conv_transpose_geometry(
    sizes: Sizes,
    kernel: Sizes,
    strides: Sizes,
    dilation: Sizes,
    padding: Padding,
    output_padding: int | Sequence[int] | None,
    where: str,
) -> tuple[Pairs, Sizes]:
    """Return how a transposed convolution's full output is cropped, and the sizes that remain.

    The full output of an axis has (i - 1) s + k^ samples; the pair says how many are cut at its low
    and at its high end. The high entry may be negative: that many samples are appended, which hold
    the bias alone. As Keras defines them, with and without `output_padding` (op):

    ========= ========================== ===============================
    padding   op is None                 op given
    ========= ========================== ===============================
    "valid"   (i - 1) s + max(k^, s)     (i - 1) s + k^ + op
    "same"    i s                        (i - 1) s + k^ mod 2 + op
    numbers   (i - 1) s + k^ - lo - hi   (i - 1) s + k^ - lo - hi + op
    ========= ========================== ===============================

    "same" cuts floor(half) of the surplus at the low end, at least 0: it is the gradient of the
    convolution whose padding is "same". Beyond Keras's, "same_lower" cuts the larger half there, and "full"
    is k^ - 1 as numbers: the gradients of the convolutions with these paddings.

    Raises
    ------
    ArgumentError
        An unknown word, the wrong number of entries, a negative `padding` or `output_padding`, or
        an output that would be empty.

    Examples
    --------
    >>> conv_transpose_geometry((4,), (3,), (2,), (1,), "same", None, "conv1d_transpose")
    (((0, 1),), (8,))
    """
    _same_rank(where, sizes=sizes, kernel=kernel, strides=strides, dilation=dilation)
    rank = len(sizes)
    extents = _dilated(kernel, dilation)
    extra = None
    if output_padding is not None:
        extra = tuple(pair[0] for pair in side_pairs(output_padding, rank, "output_padding", where))
    full = tuple((i - 1) * s + k for i, s, k in zip(sizes, strides, extents, strict=True))
    if padding == "full":
        padding = tuple(k - 1 for k in extents)
    if isinstance(padding, str):
        output = _keras_transpose_output(padding, sizes, extents, strides, extra, where)
        surplus = tuple(f - o for f, o in zip(full, output, strict=True))
        cut = tuple(max(c, 0) for c in surplus)
        low = tuple({"same": c // 2, "same_lower": c - c // 2}.get(padding, 0) for c in cut)
        _word_within_limit(padding, tuple((lo, 0) for lo in low), where)
        crop = tuple((lo, c - lo) for lo, c in zip(low, surplus, strict=True))
    else:
        pairs = side_pairs(padding, rank, "padding", where)
        crop = tuple((lo, hi - e) for (lo, hi), e in zip(pairs, extra or (0,) * rank, strict=True))
        output = tuple(f - lo - hi for f, (lo, hi) in zip(full, crop, strict=True))
    if min(output) < 1:
        raise ArgumentError(
            where,
            f"the padding leaves nothing of the output ({output})",
            got=f"padding {padding} on full sizes {full}",
            expected="at least one sample",
        )
    return crop, output


def _keras_transpose_output(
    word: str, sizes: Sizes, extents: Sizes, strides: Sizes, extra: Sizes | None, where: str
) -> Sizes:
    if word not in _POOL_WORDS:
        raise ArgumentError(
            where,
            "unknown padding",
            got=word,
            expected=f"{', '.join(_POOL_WORDS)}, integers or (low, high) pairs",
        )
    axes = list(zip(sizes, extents, strides, strict=True))
    if extra is None:
        return tuple((i - 1) * s + max(k, s) if word == "valid" else i * s for i, k, s in axes)
    return tuple(
        (i - 1) * s + (k if word == "valid" else k % 2) + e for (i, k, s), e in zip(axes, extra, strict=True)
    )


def pool_padding(padding: Padding, sizes: Sizes, pool_size: Sizes, strides: Sizes, where: str) -> Pairs:
    """Return the padding of a pooling as one (low, high) pair per spatial axis.

    Words are as for :func:`conv_padding`. Explicit numbers must stay below the pool size, so that every
    window holds at least one real sample; "full", the pool size less one, is the most.

    Examples
    --------
    >>> pool_padding("same", (5, 4), (2, 2), (2, 2), "max_pool")
    ((0, 1), (0, 0))
    """
    _same_rank(where, sizes=sizes, pool_size=pool_size, strides=strides)
    if isinstance(padding, str):
        if padding not in _POOL_WORDS:
            raise ArgumentError(
                where,
                "unknown padding",
                got=padding,
                expected=f"{', '.join(_POOL_WORDS)}, integers or (low, high) pairs",
            )
        return conv_padding(padding, sizes, pool_size, strides, (1,) * len(sizes), where)
    pairs = side_pairs(padding, len(sizes), "padding", where)
    if any(side >= p for pair, p in zip(pairs, pool_size, strict=True) for side in pair):
        raise ArgumentError(
            where,
            "padding must be smaller than the pool",
            got=pairs,
            expected=f"less than {pool_size} on each side",
            remedy="A window of padding alone has neither a maximum nor a mean.",
        )
    return pairs


def pool_output(sizes: Sizes, pool_size: Sizes, strides: Sizes, padding: Pairs, where: str) -> Sizes:
    """Return the output sizes of a pooling: o = floor((i + low + high - pool) / s) + 1.

    Examples
    --------
    >>> pool_output((5, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), "max_pool")
    (2, 2)
    """
    _same_rank(where, sizes=sizes, pool_size=pool_size, strides=strides, padding=padding)
    return _window_output(sizes, pool_size, strides, padding, where, "pool")


def broadcast(*shapes: Sequence[int], where: str) -> Sizes:
    """Return the shape that NumPy's broadcasting gives; axes are aligned from the last.

    Examples
    --------
    >>> broadcast((2, 1, 3), (4, 1), where="add")
    (2, 4, 3)
    """
    rank = max((len(s) for s in shapes), default=0)
    result = []
    for axis in range(rank):
        # Axis 0 of the result is missing from shorter shapes, where it counts as 1.
        lengths = {s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0} - {1}
        if len(lengths) > 1:
            raise ArgumentError(
                where,
                "shapes do not broadcast",
                got=", ".join(str(tuple(s)) for s in shapes),
                expected="equal lengths or 1 on every axis, counted from the last",
            )
        result.append(lengths.pop() if lengths else 1)
    return tuple(result)
