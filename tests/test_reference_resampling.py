"""Linear resampling against SciPy, resizing and repetition against Keras."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from convcore.errors import ArgumentError
from convcore.reference import resample_linear, resize, upsample

from .judges import import_keras
from .tolerance import assert_within, relative_bound

lengths = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3)


@settings(max_examples=80, deadline=None)
@given(lengths, st.integers(0, 2**32 - 1))
def test_resample_linear_is_scipys_zoom(axes: list[tuple[int, int]], seed: int) -> None:
    volume = np.random.default_rng(seed).standard_normal([i for i, _ in axes])
    output = tuple(o for _, o in axes)
    # Placing round(i * zoom) samples is SciPy's own rounding; o / i always rounds back to o.
    zoom = [o / i for i, o in axes]
    judge = ndimage.zoom(volume, zoom, order=1, mode="nearest", grid_mode=False)
    # A position is off by some roundings of up to 9, times a difference of up to 2 max|v|, per axis.
    bound = relative_bound(len(axes) * 4 * 9 * 2, abs(volume).max(), np.float64)
    assert_within(resample_linear(volume, output), judge, bound)


def test_resample_linear_keeps_the_ends_and_the_channels() -> None:
    volume = np.random.default_rng(0).standard_normal((4, 5, 2))
    y = resample_linear(volume, (7, 9))
    assert y.shape == (7, 9, 2)
    assert (y[::6, ::8] == volume[::3, ::4]).all()
    assert (resample_linear(volume, (4, 5)) == volume).all()
    assert (resample_linear(volume, (1, 1))[0, 0] == volume[0, 0]).all()
    for bad in ((0, 3), (1, 2, 3, 4)):
        with pytest.raises(ArgumentError, match="resample_linear"):
            resample_linear(volume, bad)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.sampled_from(["nearest", "bilinear"]))
def test_resize_is_keras(sizes: tuple[int, int, int, int], interpolation: str) -> None:
    keras = import_keras()
    h, w, oh, ow = sizes
    x = np.random.default_rng(h * 41 + w).standard_normal((2, h, w, 3)).astype(np.float32)
    judge = keras.ops.image.resize(x, (oh, ow), interpolation, data_format="channels_last")
    got = resize(x, (oh, ow), interpolation)
    if interpolation == "nearest":
        assert (got == np.asarray(judge)).all()
        return
    # Keras's positions are float32: off by some roundings of up to 40, times differences of 2 max|x|.
    assert_within(got, judge, relative_bound(2 * 4 * 40 * 2, abs(x).max()))


@pytest.mark.parametrize(
    ("shape", "size", "interpolation"),
    [
        ((2, 2, 1), (2, 2), "nearest"),
        ((1, 2, 2, 1), (2,), "nearest"),
        ((1, 2, 2, 1), (2, 0), "nearest"),
        ((1, 2, 2, 1), (2, 2), "cubic"),
    ],
)
def test_bad_resizes(shape: tuple[int, ...], size: tuple[int, ...], interpolation: str) -> None:
    with pytest.raises(ArgumentError, match="resize"):
        resize(np.zeros(shape), size, interpolation)


@pytest.mark.parametrize("size", [(3,), (2, 3), (1, 2, 3)])
def test_upsample_is_keras(size: tuple[int, ...]) -> None:
    keras = import_keras()
    x = np.random.default_rng(1).standard_normal((2, *range(2, 2 + len(size)), 3))
    layer = getattr(keras.layers, f"UpSampling{len(size)}D")(
        size[0] if len(size) == 1 else size, dtype="float64"
    )
    assert (upsample(x, size) == np.asarray(layer(x))).all()
    with pytest.raises(ArgumentError, match="upsample"):
        upsample(x, (*size, 2))
