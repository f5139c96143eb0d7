"""Output sizes and padding: the published formulas, Keras's rules, and the errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcore import shapes
from convcore.errors import ArgumentError

from .judges import import_keras

small = st.integers(1, 12)
axis = st.tuples(small, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))


def size(i: int, k: int, s: int, d: int, padding: object) -> int:
    pairs = shapes.conv_padding(padding, (i,), (k,), (s,), (d,), "test")  # type: ignore[arg-type]
    return shapes.conv_output((i,), (k,), (s,), (d,), pairs, "test")[0]


def windows(i: int, k: int, s: int, d: int, lo: int, hi: int) -> int:
    """Count the positions at which a dilated kernel fits, by trying them all."""
    return sum(1 for a in range(0, i + lo + hi, s) if a + (k - 1) * d < i + lo + hi)


@given(axis, st.integers(0, 4), st.integers(0, 4))
def test_conv_output_counts_the_windows(a: tuple[int, int, int, int], lo: int, hi: int) -> None:
    expected = windows(*a, lo, hi)
    if expected:
        assert size(*a, [(lo, hi)]) == expected
    else:
        with pytest.raises(ArgumentError, match="empty"):
            size(*a, [(lo, hi)])


# (i, k, s, p, d) of the figures in Dumoulin and Visin, "A guide to convolution arithmetic", and o.
@pytest.mark.parametrize(
    ("i", "k", "s", "p", "d", "o"),
    [(4, 3, 1, 0, 1, 2), (5, 4, 1, 2, 1, 6), (5, 3, 1, 1, 1, 5), (5, 3, 1, 2, 1, 7), (5, 3, 2, 0, 1, 2),
     (5, 3, 2, 1, 1, 3), (6, 3, 2, 1, 1, 3), (7, 3, 1, 0, 2, 3)],
)  # fmt: skip
def test_figures_of_the_arithmetic_guide(i: int, k: int, s: int, p: int, d: int, o: int) -> None:
    assert size(i, k, s, d, p) == o


@given(axis)
def test_words_have_the_sizes_that_define_them(a: tuple[int, int, int, int]) -> None:
    i, k, s, d = a
    extent = (k - 1) * d + 1
    for word in ("same", "same_lower", "causal"):
        assert size(*a, word) == -(-i // s)
    assert size(*a, "full") == (i + extent - 2) // s + 1
    if i >= extent:
        assert size(*a, "valid") == (i - d * (k - 1) - 1) // s + 1


def test_same_puts_the_odd_zero_on_the_high_side() -> None:
    def same(word: str, i: int) -> shapes.Pairs:
        return shapes.conv_padding(word, (i,), (3,), (2,), (1,), "t")

    assert same("same", 6) == ((0, 1),) and same("same_lower", 6) == ((1, 0),)
    assert same("same", 5) == same("same_lower", 5) == ((1, 1),)
    assert shapes.conv_padding("causal", (9,), (3,), (2,), (2,), "t") == ((4, 0),)


def test_explicit_padding_in_every_spelling() -> None:
    two = ((5, 5), (3, 3), (1, 1), (1, 1), "t")
    assert shapes.conv_padding(1, *two) == ((1, 1), (1, 1))
    assert shapes.conv_padding([1, 2], *two) == ((1, 1), (2, 2))
    assert shapes.conv_padding(np.array([[0, 1], [2, 3]]), *two) == ((0, 1), (2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "padding", ["SAME", "causal", -1, 1.5, True, (1,), (1, 2, 3), ((1, 2, 3), 0), ((0, -1), (0, 0)), None]
)
def test_bad_padding_is_refused(padding: object) -> None:
    with pytest.raises(ArgumentError, match=r"conv2d: .*got"):
        shapes.conv_padding(padding, (5, 5), (3, 3), (1, 1), (1, 1), "conv2d")  # type: ignore[arg-type]


def test_an_empty_output_names_the_sizes() -> None:
    with pytest.raises(ArgumentError, match=r"conv2d: .*\(2, 9\)"):
        shapes.conv_output((2, 9), (3, 3), (1, 1), (1, 1), ((0, 0), (0, 0)), "conv2d")


def test_ranks_must_agree() -> None:
    with pytest.raises(ArgumentError, match="strides"):
        shapes.conv_output((5, 5), (3, 3), (1,), (1, 1), ((0, 0), (0, 0)), "conv2d")


def test_spatial_tuple() -> None:
    assert shapes.spatial_tuple(np.int64(3), 2, "strides", "t") == (3, 3)  # type: ignore[arg-type]
    assert shapes.spatial_tuple([1, 2, 3], 3, "strides", "t") == (1, 2, 3)
    for bad in (0, -1, 1.0, "2", True, (1, 2), (1, 2, 0), (1, 2, None), ()):
        with pytest.raises(ArgumentError, match="strides"):
            shapes.spatial_tuple(bad, 3, "strides", "conv3d")  # type: ignore[arg-type]


def test_broadcast_is_numpys() -> None:
    for case in ([(2, 1, 3), (4, 1)], [(), (3,)], [(5, 1), (1, 5), (1, 1)], [(1,), (0,)], [(2, 3)]):
        assert shapes.broadcast(*case, where="add") == np.broadcast_shapes(*case)
    with pytest.raises(ArgumentError, match=r"add: .*\(2, 3\), \(2,\)"):
        shapes.broadcast((2, 3), (2,), where="add")


@settings(deadline=None)  # the first example imports the judge
@given(axis, st.sampled_from(["valid", "same"]), st.one_of(st.none(), st.integers(0, 3)))
def test_transposed_sizes_are_keras(a: tuple[int, int, int, int], word: str, extra: int | None) -> None:
    import_keras()
    from keras.src.backend.common.backend_utils import compute_conv_transpose_output_shape

    i, k, s, d = a
    expected = compute_conv_transpose_output_shape(
        (1, i, 1), (k,), 1, (s,), word, extra, "channels_last", (d,)
    )[1]
    if expected < 1:
        with pytest.raises(ArgumentError, match="leaves nothing"):
            shapes.conv_transpose_geometry((i,), (k,), (s,), (d,), word, extra, "t")
        return
    ((lo, hi),), (o,) = shapes.conv_transpose_geometry((i,), (k,), (s,), (d,), word, extra, "t")
    assert o == expected == (i - 1) * s + (k - 1) * d + 1 - lo - hi
    assert lo >= 0


@given(axis)
def test_transposed_same_crops_what_the_forward_same_pads(a: tuple[int, int, int, int]) -> None:
    i, k, s, d = a
    ((lo, hi),), output = shapes.conv_transpose_geometry((i,), (k,), (s,), (d,), "same", None, "t")
    ((forward_lo, forward_hi),) = shapes.conv_padding("same", output, (k,), (s,), (d,), "t")
    assert lo == forward_lo and max(hi, 0) == forward_hi


def test_transposed_valid_with_a_kernel_below_the_stride_appends() -> None:
    assert shapes.conv_transpose_geometry((3,), (1,), (4,), (1,), "valid", None, "t") == (((0, -3),), (12,))


def test_transposed_explicit_padding() -> None:
    # o' = s (i' - 1) + a + k - 2 p of the arithmetic guide: k 3, s 2, p 1, a 1.
    geometry = shapes.conv_transpose_geometry((3,), (3,), (2,), (1,), 1, 1, "t")
    assert geometry == (((1, 0),), (6,))
    with pytest.raises(ArgumentError, match="output_padding"):
        shapes.conv_transpose_geometry((3,), (3,), (2,), (1,), 1, -1, "t")
    with pytest.raises(ArgumentError, match="leaves nothing"):
        shapes.conv_transpose_geometry((1,), (3,), (1,), (1,), 2, None, "t")
    with pytest.raises(ArgumentError, match="unknown padding"):
        shapes.conv_transpose_geometry((1,), (3,), (1,), (1,), "causal", None, "t")
    # The adjoint of a "full" convolution of 6 samples, o = 6 + 4 with k^ = 5, and of a "same_lower" one.
    assert shapes.conv_transpose_geometry((10,), (3,), (1,), (2,), "full", None, "t") == (((4, 4),), (6,))
    assert shapes.conv_transpose_geometry((4,), (3,), (2,), (1,), "same_lower", None, "t") == (
        ((1, 0),),
        (8,),
    )


@settings(deadline=None)  # the first example imports the judge
@given(small, st.integers(1, 4), st.integers(1, 4), st.sampled_from(["valid", "same"]))
def test_pool_sizes_are_keras(i: int, k: int, s: int, word: str) -> None:
    import_keras()
    from keras.src.ops.operation_utils import compute_pooling_output_shape

    pairs = shapes.pool_padding(word, (i,), (k,), (s,), "max_pool")
    if word == "valid" and i < k:
        with pytest.raises(ArgumentError, match="max_pool"):
            shapes.pool_output((i,), (k,), (s,), pairs, "max_pool")
        return
    expected = compute_pooling_output_shape((1, i, 1), (k,), (s,), word)[1]
    assert shapes.pool_output((i,), (k,), (s,), pairs, "max_pool") == (expected,)


def test_a_pool_of_padding_alone_is_refused() -> None:
    assert shapes.pool_padding([(1, 0)], (5,), (2,), (2,), "max_pool") == ((1, 0),)
    assert shapes.pool_padding("full", (5,), (2,), (2,), "max_pool") == ((1, 1),)
    assert shapes.pool_padding("same_lower", (5,), (2,), (2,), "max_pool") == ((1, 0),)
    for bad in (2, [(0, 2)], "causal", -1):
        with pytest.raises(ArgumentError, match="max_pool"):
            shapes.pool_padding(bad, (5,), (2,), (2,), "max_pool")  # type: ignore[arg-type]
