"""The reference's pooling against Keras, and the small numbers of the literature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcore import reference, shapes
from convcore.errors import ArgumentError

from .judges import import_keras
from .tolerance import assert_within, dot_bound


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(["valid", "same"]))
def test_pooling_is_keras(seed: int, rank: int, word: str) -> None:
    keras = import_keras()
    rng = np.random.default_rng(seed)
    pool, strides, surplus = rng.integers(1, 4, (3, rank))
    sizes = tuple(int(v) for v in pool + surplus)
    window, step = tuple(int(v) for v in pool), tuple(int(v) for v in strides)
    # Keras pools 2-D and 3-D input in float32 whatever its type.
    x = rng.standard_normal((2, *sizes, 3)).astype(np.float32)
    padding = shapes.pool_padding(word, sizes, window, step, "test")
    judge = keras.ops.max_pool(x, window, step, word, "channels_last")
    assert (reference.max_pool(x, window, step, padding) == np.asarray(judge)).all()
    judge = keras.ops.average_pool(x, window, step, word, "channels_last")
    bound = dot_bound(int(np.prod(window)) + 1, reference.average_pool(abs(x), window, step, padding))
    assert_within(reference.average_pool(x, window, step, padding), judge, bound)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling_is_keras(rank: int, keepdims: bool) -> None:
    keras = import_keras()
    x = np.random.default_rng(rank).standard_normal((2, *range(4, 4 + rank), 3))
    options: dict[str, Any] = {"keepdims": keepdims, "dtype": "float64"}
    judge = getattr(keras.layers, f"GlobalMaxPooling{rank}D")(**options)(x)
    assert (reference.global_max_pool(x, keepdims) == np.asarray(judge)).all()
    judge = getattr(keras.layers, f"GlobalAveragePooling{rank}D")(**options)(x)
    bound = dot_bound(x[0, ..., 0].size, reference.global_average_pool(abs(x), keepdims), np.float64)
    assert_within(reference.global_average_pool(x, keepdims), judge, bound)


def image(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float64)[np.newaxis, ..., np.newaxis]


def test_the_classic_figure_of_max_pooling() -> None:
    x = image([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    y = reference.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0)))
    assert y[0, ..., 0].tolist() == [[6, 8], [3, 4]]


def test_valid_pooling_drops_the_odd_row_and_column() -> None:
    x = np.arange(25.0).reshape(1, 5, 5, 1)
    assert reference.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0)))[0, ..., 0].tolist() == [[6, 8], [16, 18]]


def test_average_with_and_without_the_padding() -> None:
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    padding = shapes.pool_padding("same", (3, 3), (2, 2), (2, 2), "test")
    excluded = reference.average_pool(x, (2, 2), (2, 2), padding)
    included = reference.average_pool(x, (2, 2), (2, 2), padding, include_padding=True)
    assert excluded[0, ..., 0].tolist() == [[3, 4.5], [7.5, 9]]
    assert included[0, ..., 0].tolist() == [[3, 2.25], [3.75, 2.25]]


def test_even_same_pooling_of_theano_and_tensorflow() -> None:
    """Theano pads pool - 1 on both sides and keeps ceil(i / s) results from the left."""
    x = np.arange(1.0, 5).reshape(1, 4, 1)
    theano = reference.max_pool(x, (2,), (2,), ((1, 1),))[:, :2]
    padding = shapes.pool_padding("same", (4,), (2,), (2,), "test")
    assert theano.ravel().tolist() == [1, 3]
    assert reference.max_pool(x, (2,), (2,), padding).ravel().tolist() == [2, 4]


def test_padding_never_wins_and_nan_does() -> None:
    x = np.array([-5.0, -np.inf, np.nan, 1.0]).reshape(1, 4, 1)
    y = reference.max_pool(x, (2,), (1,), ((1, 0),)).ravel()
    assert y[:2].tolist() == [-5, -5] and np.isnan(y[2:]).all()
    lowest = np.full((1, 2, 1), -np.inf)
    assert np.isneginf(reference.max_pool(lowest, (2,), (2,), ((0, 0),))).all()
    assert np.isnan(reference.average_pool(x, (4,), (4,), ((0, 0),))).all()


def test_a_pool_larger_than_the_input_is_refused() -> None:
    with pytest.raises(ArgumentError, match="empty"):
        reference.max_pool(np.zeros((1, 2, 1)), (3,), (1,), ((0, 0),))
