"""The reference's convolutions against Keras, SciPy, the article's worked example and identities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, signal

from convcore import reference, shapes
from convcore.errors import ArgumentError

from .judges import import_keras
from .tolerance import assert_within, dot_bound

Array = NDArray[np.float64]

ranks = st.integers(1, 3)
seeds = st.integers(0, 2**32 - 1)


def sizes_of(rng: np.random.Generator, rank: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(v) for v in rng.integers(low, high + 1, rank))


def conv_bound(x: Array, kernel: Array, bias: Array | None, **options: Any) -> Array:
    absolute = reference.conv(abs(x), abs(kernel), None if bias is None else abs(bias), **options)
    return dot_bound(kernel[..., 0].size + 1, absolute, np.float64)


@settings(max_examples=40, deadline=None)
@given(seeds, ranks, st.sampled_from(["valid", "same"]), st.booleans())
def test_conv_is_keras(seed: int, rank: int, word: str, with_bias: bool) -> None:
    keras = import_keras()
    rng = np.random.default_rng(seed)
    kernel_size = sizes_of(rng, rank, 1, 4)
    strides, dilation = sizes_of(rng, rank, 1, 3), sizes_of(rng, rank, 1, 3)
    # TensorFlow does not take strides and dilation together.
    if rng.integers(2):
        strides = (1,) * rank
    else:
        dilation = (1,) * rank
    sizes = tuple((k - 1) * d + int(e) for k, d, e in
                  zip(kernel_size, dilation, rng.integers(1, 6, rank), strict=True))  # fmt: skip
    x = rng.standard_normal((2, *sizes, 3))
    kernel = rng.standard_normal((*kernel_size, 3, 4))
    bias = rng.standard_normal(4) if with_bias else None
    padding = shapes.conv_padding(word, sizes, kernel_size, strides, dilation, "test")
    options: dict[str, Any] = {"strides": strides, "dilation": dilation, "padding": padding}
    got = reference.conv(x, kernel, bias, **options)
    judge = np.asarray(keras.ops.conv(x, kernel, strides, word, "channels_last", dilation))
    assert_within(got, judge if bias is None else judge + bias, conv_bound(x, kernel, bias, **options))


@pytest.mark.parametrize("groups", [2, 3])
def test_grouped_conv_is_keras(groups: int) -> None:
    keras = import_keras()
    rng = np.random.default_rng(groups)
    x, kernel = rng.standard_normal((2, 7, 6, 6)), rng.standard_normal((3, 2, 6 // groups, 12))
    options: dict[str, Any] = {"strides": (2, 2), "dilation": (1, 1), "groups": groups}
    options["padding"] = shapes.conv_padding("same", (7, 6), (3, 2), (2, 2), (1, 1), "test")
    judge = keras.ops.conv(x, kernel, (2, 2), "same", "channels_last")
    assert_within(reference.conv(x, kernel, **options), judge, conv_bound(x, kernel, None, **options))


def test_causal_conv_is_keras() -> None:
    keras = import_keras()
    rng = np.random.default_rng(0)
    layer = keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2, dtype="float64")
    x = rng.standard_normal((2, 9, 3))
    judge = np.asarray(layer(x))
    kernel, bias = (np.asarray(w) for w in layer.get_weights())
    padding = shapes.conv_padding("causal", (9,), (3,), (1,), (2,), "test")
    options: dict[str, Any] = {"strides": (1,), "dilation": (2,), "padding": padding}
    assert_within(reference.conv(x, kernel, bias, **options), judge, conv_bound(x, kernel, bias, **options))


def with_holes(kernel: Array, dilation: tuple[int, ...]) -> Array:
    """Return the kernel that a dilation stands for: zeros between its taps."""
    size = tuple((k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False))
    full = np.zeros((*size, *kernel.shape[-2:]))
    full[tuple(slice(None, None, d) for d in dilation)] = kernel
    return full


@settings(max_examples=30, deadline=None)
@given(seeds, ranks)
def test_dilation_is_a_kernel_with_holes(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    x, kernel = rng.standard_normal((2, *(11,) * rank, 2)), rng.standard_normal((*(3,) * rank, 2, 2))
    strides, dilation = sizes_of(rng, rank, 1, 3), sizes_of(rng, rank, 1, 3)
    padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2)))
    options: dict[str, Any] = {"strides": strides, "padding": padding}
    once = (1,) * rank
    got = reference.conv(x, kernel, dilation=dilation, **options)
    expected = reference.conv(x, with_holes(kernel, dilation), dilation=once, **options)
    assert_within(got, expected, conv_bound(x, kernel, None, dilation=dilation, **options))


@pytest.mark.parametrize("flip", [False, True])
def test_conv_is_scipy(flip: bool) -> None:
    rng = np.random.default_rng(1)
    image, kernel = rng.standard_normal((9, 8)), rng.standard_normal((3, 4))
    judge = (signal.convolve2d if flip else signal.correlate2d)(image, kernel, "full")
    options: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1), "flip": flip}
    options["padding"] = shapes.conv_padding("full", (9, 8), (3, 4), (1, 1), (1, 1), "test")
    x, k = image[np.newaxis, ..., np.newaxis], kernel[..., np.newaxis, np.newaxis]
    bound = conv_bound(x, k, None, **options)[0, ..., 0]
    assert_within(reference.conv(x, k, **options)[0, ..., 0], judge, bound)


def full_1d(f: list[float], g: list[float], flip: bool) -> Array:
    padding = ((len(g) - 1, len(g) - 1),)
    x, k = np.reshape(f, (1, -1, 1)), np.reshape(g, (-1, 1, 1))
    return reference.conv(x, k, strides=(1,), dilation=(1,), padding=padding, flip=flip).ravel()


def test_convolution_and_correlation_of_the_definition() -> None:
    f, g = [1.0, 2.0, 3.0], [0.0, 1.0, 0.5]
    assert full_1d(f, g, flip=True).tolist() == [0, 1, 2.5, 4, 1.5]
    assert full_1d(f, g, flip=False).tolist() == [0.5, 2, 3.5, 3, 0]
    assert full_1d(f, g[::-1], flip=False).tolist() == full_1d(f, g, flip=True).tolist()


def test_two_rectangular_pulses_give_a_triangle() -> None:
    assert full_1d([1.0] * 3, [1.0] * 3, flip=True).tolist() == [1, 2, 3, 2, 1]
    step = 0.01
    triangle = full_1d([1.0] * 100, [1.0] * 100, flip=True) * step
    assert triangle.max() == 1.0
    assert_within(triangle.sum() * step, 1.0, dot_bound(199, 1.0, np.float64))


def test_the_convolution_matrix_of_the_gimp_manual() -> None:
    image = np.array([[40.0, 42, 46], [46, 50, 55], [52, 56, 58]]).reshape(1, 3, 3, 1)
    kernel = np.zeros((3, 3, 1, 1))
    kernel[0, 1] = 1
    options: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0))}
    assert reference.conv(image, kernel, **options).item() == 42


def spreadsheet(data_dir: Path, flip: bool) -> dict[str, Array]:
    """Run the spreadsheet's network; keys as in its file."""
    data = dict(np.load(data_dir / "golden" / "spreadsheet_cnn.npz"))
    options: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0))}
    maps = {"conv1": reference.conv(data["input"], data["conv1_kernel"], flip=flip, **options)}
    maps["conv2"] = reference.conv(maps["conv1"], data["conv2_kernel"], flip=flip, **options)
    maps["pool"] = reference.max_pool(maps["conv2"], (2, 2), (2, 2), ((0, 0), (0, 0)))
    maps["output"] = reference.dense(maps["pool"].reshape(1, -1), data["dense_kernel"])
    return maps


def test_the_spreadsheet_network(data_dir: Path) -> None:
    data = np.load(data_dir / "golden" / "spreadsheet_cnn.npz")
    maps = spreadsheet(data_dir, flip=False)
    # Everything in it is positive, so a bound relative to the value itself is a bound on sum|a b|;
    # an error of one stage passes through the later ones with the same relative size.
    roundings = {"conv1": 9, "conv2": 9 + 18, "pool": 9 + 18, "output": 9 + 18 + 288}
    for name, length in roundings.items():
        assert_within(maps[name], data[name], dot_bound(length, data[name], np.float64))
    sums = {"conv1": (640.656747850794, 685.3918627840999), "conv2": (5567.355767012619, 5473.358835660381),
            "pool": (1809.9380855577383, 1778.5715299451454)}  # fmt: skip
    for name, published in sums.items():
        length = roundings[name] + maps[name][..., 0].size
        assert_within(maps[name].sum((0, 1, 2)), published, dot_bound(length, published, np.float64))
    output = 1814.9177220748
    assert_within(maps["output"], [[output]], 0.5e-10 + dot_bound(roundings["output"], output, np.float64))


def test_the_spreadsheet_network_with_flipped_kernels(data_dir: Path) -> None:
    output = 1810.5181005292166
    got = spreadsheet(data_dir, flip=True)["output"]
    assert_within(got, [[output]], dot_bound(9 + 18 + 288, output, np.float64))


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 2), st.sampled_from(["valid", "same"]), st.integers(1, 2))
def test_depthwise_conv_is_keras(seed: int, rank: int, word: str, stride: int) -> None:
    keras = import_keras()
    rng = np.random.default_rng(seed)
    sizes, kernel_size = sizes_of(rng, rank, 4, 8), sizes_of(rng, rank, 1, 4)
    strides, once = (stride,) * rank, (1,) * rank
    x, kernel = rng.standard_normal((2, *sizes, 3)), rng.standard_normal((*kernel_size, 3, 2))
    options: dict[str, Any] = {"strides": strides, "dilation": once}
    options["padding"] = shapes.conv_padding(word, sizes, kernel_size, strides, once, "test")
    judge = keras.ops.depthwise_conv(x, kernel, strides, word, "channels_last")
    absolute = reference.depthwise_conv(abs(x), abs(kernel), **options)
    bound = dot_bound(kernel[..., 0, 0].size, absolute, np.float64)
    assert_within(reference.depthwise_conv(x, kernel, **options), judge, bound)


def test_depthwise_conv_is_a_grouped_conv() -> None:
    rng = np.random.default_rng(3)
    x, kernel, bias = (
        rng.standard_normal((2, 6, 7, 5, 4)),
        rng.standard_normal((2, 3, 2, 4, 3)),
        np.arange(12.0),
    )
    options: dict[str, Any] = {
        "strides": (1, 2, 2),
        "dilation": (2, 1, 2),
        "padding": ((1, 0), (0, 2), (1, 1)),
    }
    grouped = np.reshape(kernel, (2, 3, 2, 1, 12))
    expected = reference.conv(x, grouped, bias, groups=4, **options)
    bound = dot_bound(13, reference.conv(abs(x), abs(grouped), bias, groups=4, **options), np.float64)
    assert_within(reference.depthwise_conv(x, kernel, bias, **options), expected, bound)


@settings(max_examples=40, deadline=None)
@given(seeds, ranks, st.sampled_from(["valid", "same"]), st.booleans())
def test_conv_transpose_is_keras(seed: int, rank: int, word: str, with_extra: bool) -> None:
    keras = import_keras()
    rng = np.random.default_rng(seed)
    sizes, kernel_size = sizes_of(rng, rank, 1, 5), sizes_of(rng, rank, 1, 5)
    strides = sizes_of(rng, rank, 1, 4)
    extra = tuple(int(rng.integers(s)) for s in strides) if with_extra else None
    if (
        extra
        and word == "same"
        and any(k % 2 == 0 and e == 0 for k, e in zip(kernel_size, extra, strict=True))
    ):
        extra = None  # (i - 1) s samples: no convolution makes i of them, and TensorFlow refuses
    once = (1,) * rank
    x, kernel = rng.standard_normal((2, *sizes, 3)), rng.standard_normal((*kernel_size, 2, 3))
    bias = rng.standard_normal(2)
    crop, output = shapes.conv_transpose_geometry(sizes, kernel_size, strides, once, word, extra, "test")
    options: dict[str, Any] = {"strides": strides, "dilation": once, "padding": crop, "output_size": output}
    judge = np.asarray(keras.ops.conv_transpose(x, kernel, strides, word, extra, "channels_last"))
    absolute = reference.conv_transpose(abs(x), abs(kernel), abs(bias), **options)
    bound = dot_bound(kernel[..., 0, :].size + 1, absolute, np.float64)
    assert_within(reference.conv_transpose(x, kernel, bias, **options), judge + bias, bound)


@settings(max_examples=40, deadline=None)
@given(seeds, ranks, st.sampled_from(["valid", "same"]))
def test_conv_transpose_is_the_adjoint(seed: int, rank: int, word: str) -> None:
    """<conv x, y> = <x, conv_transpose y>, with any dilation, for the sizes that transposing gives."""
    rng = np.random.default_rng(seed)
    y_sizes, kernel_size = sizes_of(rng, rank, 1, 4), sizes_of(rng, rank, 1, 4)
    strides, dilation = sizes_of(rng, rank, 1, 3), sizes_of(rng, rank, 1, 3)
    crop, x_sizes = shapes.conv_transpose_geometry(y_sizes, kernel_size, strides, dilation, word, None, "t")
    kernel = rng.standard_normal((*kernel_size, 2, 3))
    x, y = rng.standard_normal((1, *x_sizes, 2)), rng.standard_normal((1, *y_sizes, 3))
    padding = shapes.conv_padding(word, x_sizes, kernel_size, strides, dilation, "t")
    options: dict[str, Any] = {"strides": strides, "dilation": dilation}
    forward = reference.conv(x, kernel, padding=padding, **options)
    assert forward.shape == y.shape
    backward = reference.conv_transpose(y, kernel, padding=crop, output_size=x_sizes, **options)
    absolute = (reference.conv(abs(x), abs(kernel), padding=padding, **options) * abs(y)).sum()
    bound = dot_bound(kernel[..., 0].size + x.size + y.size, absolute, np.float64)
    assert_within((forward * y).sum(), (x * backward).sum(), bound)


def test_appended_samples_of_conv_transpose_hold_the_bias() -> None:
    crop, output = shapes.conv_transpose_geometry((2,), (1,), (3,), (1,), "valid", None, "t")
    y = reference.conv_transpose(np.ones((1, 2, 1)), np.ones((1, 1, 1)), [0.5], strides=(3,), dilation=(1,),
                                 padding=crop, output_size=output)  # fmt: skip
    assert y.ravel().tolist() == [1.5, 0.5, 0.5, 1.5, 0.5, 0.5]


def test_samples_against_a_symmetric_same() -> None:
    """i = 6, k = 3, s = 2: Keras pads (0, 1), the guide's p = 1 reads other samples at the same size."""
    x, k = np.arange(6.0).reshape(1, 6, 1), np.array([0.0, 1, 0]).reshape(3, 1, 1)
    same = reference.conv(x, k, strides=(2,), dilation=(1,), padding=((0, 1),)).ravel()
    symmetric = reference.conv(x, k, strides=(2,), dilation=(1,), padding=((1, 1),)).ravel()
    assert same.tolist() == [1, 3, 5] and symmetric.tolist() == [0, 2, 4]


def test_zero_padding_is_ndimages_constant_mode() -> None:
    rng = np.random.default_rng(2)
    image, kernel = rng.standard_normal((6, 7)), rng.standard_normal((3, 3))
    options: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1), "padding": ((1, 1), (1, 1))}
    x, k = image.reshape(1, 6, 7, 1), kernel.reshape(3, 3, 1, 1)
    judge = ndimage.correlate(image, kernel, mode="constant")
    bound = conv_bound(x, k, None, **options)[0, ..., 0]
    assert_within(reference.conv(x, k, **options)[0, ..., 0], judge, bound)


def test_misfits_are_refused() -> None:
    x = np.zeros((1, 4, 4, 4))
    options: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0))}
    for kernel, groups in [((3, 3, 3, 2), 1), ((3, 4, 2), 1), ((3, 3, 2, 3), 2)]:
        with pytest.raises(ArgumentError, match="groups"):
            reference.conv(x, np.zeros(kernel), groups=groups, **options)
    with pytest.raises(ArgumentError, match="empty"):
        reference.conv(x, np.zeros((5, 5, 4, 2)), **options)
    with pytest.raises(ArgumentError, match="output_size"):
        reference.conv_transpose(x, np.zeros((3, 3, 2, 4)), output_size=(4, 4), **options)
