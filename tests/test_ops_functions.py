"""Options of the public operations: data formats, activations, parameters, SciPy's filters, bad calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import convcore as cc
from convcore import activations, reference
from convcore.errors import ArgumentError, DTypeError

from .memory import Array
from .tolerance import assert_within, dot_bound, relative_bound


def floats(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X1, X2, X3 = floats(1, 2, 11, 6), floats(2, 2, 7, 8, 6), floats(3, 2, 4, 5, 6, 6)
K1, K2, K3 = floats(4, 3, 6, 5), floats(5, 3, 2, 6, 5), floats(6, 2, 3, 2, 6, 5)
FORMATS: dict[str, tuple[Array, Callable[..., Array]]] = {
    "conv1d": (X1, lambda x, **k: cc.conv1d(x, K1, strides=2, **k)),
    "conv2d": (X2, lambda x, **k: cc.conv2d(x, K2, padding="same", activation="relu", **k)),
    "conv2d 1x1": (X2, lambda x, **k: cc.conv2d(x, K2[:1, :1], **k)),
    "conv3d": (X3, lambda x, **k: cc.conv3d(x, K3, dilation_rate=2, padding="same", **k)),
    "groups": (X2, lambda x, **k: cc.conv2d(x, floats(7, 3, 3, 3, 4), groups=2, **k)),
    "depthwise": (X2, lambda x, **k: cc.depthwise_conv2d(x, K2, **k)),
    "separable": (X2, lambda x, **k: cc.separable_conv2d(x, K2, floats(8, 1, 1, 30, 4), **k)),
    "transpose": (X2, lambda x, **k: cc.conv2d_transpose(x, K2.swapaxes(2, 3), strides=2, **k)),
    "max_pool": (X3, lambda x, **k: cc.max_pool(x, 2, padding="same", **k)),
    "average_pool": (X2, lambda x, **k: cc.average_pool(x, (2, 3), strides=1, **k)),
    "global_max_pool": (X2, lambda x, **k: cc.global_max_pool(x, keepdims=True, **k)),
    "global_average_pool": (X1, lambda x, **k: cc.global_average_pool(x, keepdims=True, **k)),
    "zero_pad": (X2, lambda x, **k: cc.zero_pad(x, ((1, 2), (0, 3)), **k)),
    "crop": (X2, lambda x, **k: cc.crop(x, ((1, 2), (0, 3)), **k)),
    "upsample": (X3, lambda x, **k: cc.upsample(x, (1, 2, 3), **k)),
    "resize": (X2, lambda x, **k: cc.resize(x, (9, 5), **k)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_channels_first_is_a_transposition(name: str) -> None:
    x, call = FORMATS[name]
    last = call(x)
    first = call(np.ascontiguousarray(np.moveaxis(x, -1, 1)), data_format="channels_first")
    assert first.flags.c_contiguous
    assert np.moveaxis(first, 1, -1).tobytes() == last.tobytes()
    out = np.empty_like(first)
    assert call(np.moveaxis(x, -1, 1), data_format="channels_first", out=out).tobytes() == first.tobytes()


def test_global_pooling_without_the_spatial_axes() -> None:
    first = np.moveaxis(X2, -1, 1)
    assert cc.global_max_pool(first, data_format="channels_first").tolist() == X2.max(axis=(1, 2)).tolist()
    assert cc.global_average_pool(X2).shape == (2, 6)


@pytest.mark.parametrize("name", activations.NAMES)
def test_fused_activations_equal_separate_ones(name: str) -> None:
    separate = (lambda y: y) if name == "linear" else getattr(cc, name)
    assert cc.conv2d(X2, K2, activation=name).tobytes() == separate(cc.conv2d(X2, K2)).tobytes()
    w = K2.swapaxes(2, 3)
    plain = cc.conv2d_transpose(X2, w)
    assert cc.conv2d_transpose(X2, w, activation=name).tobytes() == separate(plain).tobytes()
    assert cc.depthwise_conv2d(X2, K2, activation=name).tobytes() == (
        separate(cc.depthwise_conv2d(X2, K2)).tobytes()
    )
    assert cc.dense(X2, K2[0, 0], activation=name).tobytes() == separate(cc.dense(X2, K2[0, 0])).tobytes()


def test_separable_is_depthwise_then_pointwise() -> None:
    pointwise, bias = floats(9, 1, 1, 30, 4), floats(10, 4)
    steps = cc.conv2d(cc.depthwise_conv2d(X2, K2, strides=2), pointwise, bias)
    assert cc.separable_conv2d(X2, K2, pointwise, bias, strides=2).tobytes() == steps.tobytes()


@pytest.mark.parametrize(("strides", "padding"), [(1, "valid"), (1, "same"), (3, "valid")])
def test_transpose_is_the_adjoint(strides: int, padding: str) -> None:
    y = cc.conv2d(X2, K2, strides=strides, padding=padding)
    z = floats(11, *y.shape)
    # <conv x, z> = <x, conv_transpose z>; what a stride skips at the end never took part.
    back = cc.conv2d_transpose(z, K2, strides=strides, padding=padding)
    h, w = (min(a, b) for a, b in zip(X2.shape[1:3], back.shape[1:3], strict=True))
    left = np.vdot(y.astype(np.float64), z)
    right = np.vdot(X2[:, :h, :w].astype(np.float64), back[:, :h, :w])
    absolute = cc.conv2d(abs(X2), abs(K2), strides=strides, padding=padding)
    # Both sides round their dot products of 36 terms; the outer sums are in float64.
    assert abs(left - right) <= dot_bound(36, 2 * np.vdot(absolute.astype(np.float64), abs(z)))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax_and_batch_norm_on_any_axis(axis: int) -> None:
    x = floats(12, 4, 5, 6)
    exact = reference.softmax(x, axis)
    assert_within(cc.softmax(x, axis), exact, relative_bound(16, exact))
    n = x.shape[axis]
    mean, variance, gamma, beta = floats(13, n), abs(floats(14, n)), floats(15, n), floats(16, n)
    got = cc.batch_norm(x, mean, variance, gamma, beta, axis=axis)
    scale = np.abs(gamma / np.sqrt(variance.astype(np.float64) + 1e-3)).max()
    bound = relative_bound(3, (np.abs(x) + np.abs(mean).max()) * scale + np.abs(beta).max())
    assert_within(got, reference.batch_norm(x, mean, variance, gamma, beta, axis=axis), bound)
    plain = cc.batch_norm(x, mean, variance, axis=axis)
    scale = (1 / np.sqrt(variance.astype(np.float64) + 1e-3)).max()
    bound = relative_bound(3, (np.abs(x) + np.abs(mean).max()) * scale)
    assert_within(plain, reference.batch_norm(x, mean, variance, axis=axis), bound)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("shape", [(9,), (6, 7), (4, 5, 6)])
def test_filters_are_scipy_s(mode: str, shape: tuple[int, ...]) -> None:
    x = floats(20, *shape)
    for size in (1, 2, 3, 4):
        w = floats(21, *(size,) * len(shape))
        for cval in (0.0, 1.5) if mode == "constant" else (0.0,):
            for origin in {0, -(size // 2), (size - 1) // 2}:
                options: dict[str, Any] = {"mode": mode, "cval": cval, "origin": origin}
                bound = dot_bound(w.size + 1, np.abs(w).sum() * max(float(np.abs(x).max()), cval))
                for name in ("correlate", "convolve"):
                    try:
                        judge = getattr(ndimage, name)(x.astype(np.float64), w.astype(np.float64), **options)
                    except ValueError:  # an origin outside an even kernel
                        with pytest.raises(ArgumentError, match="origin"):
                            getattr(cc, name)(x, w, **options)
                        continue
                    assert_within(getattr(cc, name)(x, w, **options), judge, bound)


def test_resample_is_scipy_s_zoom() -> None:
    volume = floats(22, 5, 6, 7)
    for factors in ((2.0, 1.0, 0.5), (1.7, 3.0, 0.3), (0.2, 0.2, 2.0)):
        judge = ndimage.zoom(volume.astype(np.float64), factors, order=1, mode="nearest")
        got = cc.resample(volume, judge.shape)
        assert_within(got, judge, relative_bound(12, 2 * np.abs(volume).max()))


def test_golden_examples_of_the_article() -> None:
    one = np.float32([1, 2, 3]).reshape(1, 3, 1)
    kernel = np.float32([0, 1, 0.5]).reshape(3, 1, 1)
    assert cc.conv1d(one, kernel, padding="full", flip=True).ravel().tolist() == [0, 1, 2.5, 4, 1.5]
    assert cc.conv1d(one, kernel, padding="full").ravel().tolist() == [0.5, 2, 3.5, 3, 0]
    box = np.ones((1, 3, 1), np.float32)
    assert cc.conv1d(box, box.reshape(3, 1, 1), padding="full").ravel().tolist() == [1, 2, 3, 2, 1]
    gimp = np.float32([[40, 42, 46], [46, 50, 55], [52, 56, 58]])
    assert cc.correlate(gimp, np.float32([[0, 1, 0], [0, 0, 0], [0, 0, 0]]))[1, 1] == 42
    pooled = cc.max_pool(np.float32([1, 2, 3, 4]).reshape(1, 4, 1), 2, padding="same")
    assert pooled.ravel().tolist() == [2, 4]


def test_hu_rescale_options() -> None:
    pixels = np.array([[-2000, 0, 1000], [-2000, 1, 2]], np.int16)
    per_slice = cc.hu_rescale(pixels, [1.0, 2.0], [-1024.0, 0.0])
    assert per_slice.tolist() == [[-1024, -1024, -24], [0, 2, 4]]
    assert cc.hu_rescale(pixels, 1, -1024, padding_to=-1000).tolist()[0] == [-1000, -1024, -24]
    assert cc.hu_rescale(pixels, 1, -1024, padding_value=None)[0, 0] == -3024
    assert cc.hu_rescale(pixels.astype(np.uint16), 1, 0)[0, 0] == 65536 - 2000
    swapped = cc.hu_rescale(pixels.astype(">i2"), 1, -1024)
    assert swapped.tobytes() == cc.hu_rescale(pixels, 1, -1024).tobytes()
    assert cc.hu_rescale(np.int16(5).reshape(()), 2, 1).item() == 11
    for kind in ("float32", "int64", "bool"):
        with pytest.raises(DTypeError, match="pixels"):
            cc.hu_rescale(pixels.astype(kind), 1, 0)
    for options in (
        {"slope": [1.0, 2.0, 3.0]}, {"slope": np.nan}, {"intercept": np.inf}, {"padding_to": "air"},
        {"padding_to": np.nan}, {"padding_to": None}, {"padding_value": 0.5}, {"padding_value": "x"},
        {"padding_value": np.inf},
    ):  # fmt: skip
        with pytest.raises(ArgumentError):
            cc.hu_rescale(pixels, **{"slope": 1.0, "intercept": 0.0, **options})
    with pytest.raises(DTypeError, match="float32 or int16"):
        cc.hu_rescale(pixels, 1, 0, dtype="float64")


BAD: list[tuple[str, Callable[[], Any], str]] = [
    ("axes", lambda: cc.conv2d(X1, K2), "4 axes"),
    ("kernel axes", lambda: cc.conv2d(X2, K1), "shape of w"),
    ("channels", lambda: cc.conv2d(X2[..., :5], K2), "5 input channels"),
    ("groups", lambda: cc.conv2d(X2, K2, groups=2), "channels"),
    ("groups 0", lambda: cc.conv2d(X2, K2, groups=0), "groups"),
    ("bias", lambda: cc.conv2d(X2, K2, np.zeros(4, np.float32)), "bias"),
    ("strides", lambda: cc.conv2d(X2, K2, strides=0), "strides"),
    ("padding word", lambda: cc.conv2d(X2, K2, padding="some"), "padding"),
    ("causal in 2-D", lambda: cc.conv2d(X2, K2, padding="causal"), "padding"),
    ("padding below 0", lambda: cc.conv2d(X2, K2, padding=-1), "negative"),
    ("data_format", lambda: cc.conv2d(X2, K2, data_format="NCHW"), "data_format"),
    ("activation", lambda: cc.conv2d(X2, K2, activation="swish2"), "activation"),
    ("fused softmax", lambda: cc.conv2d(X2, K2, activation="softmax"), "convcore.softmax"),
    ("too small", lambda: cc.conv2d(X2[:, :2], K2), "empty"),
    ("depthwise channels", lambda: cc.depthwise_conv2d(X2[..., :4], K2), "channels"),
    ("pointwise", lambda: cc.separable_conv2d(X2, K2, K2), "pointwise"),
    ("transposed channels", lambda: cc.conv2d_transpose(X2, K2), "channels"),
    ("pool", lambda: cc.max_pool(X2, 9), "pool"),
    ("pool padding", lambda: cc.max_pool(X2, 2, padding=2), "padding"),
    ("pool axes", lambda: cc.max_pool(X1[0], 2), "axes"),
    ("crop all", lambda: cc.crop(X2, 4), "nothing"),
    ("pad by a word", lambda: cc.zero_pad(X2, "same"), "integers"),
    ("upsample 0", lambda: cc.upsample(X2, 0), "size"),
    ("resize word", lambda: cc.resize(X2, (2, 2), interpolation="cubic"), "interpolation"),
    ("resize axes", lambda: cc.resize(X3, (2, 2)), "axes"),
    ("resample axes", lambda: cc.resample(X1[0], (2, 2, 2)), "volume"),
    ("resample shape", lambda: cc.resample(X1, (2, 2)), "output_shape"),
    ("dense", lambda: cc.dense(X2, K2), "shapes"),
    ("softmax axis", lambda: cc.softmax(X2, 4), "axis"),
    ("softmax axis word", lambda: cc.softmax(X2, "last"), "axis"),
    ("softmax of a scalar", lambda: cc.softmax(np.float32(1).reshape(())), "axis"),
    ("seed word", lambda: cc.rrelu(X2, training=True, seed="x"), "seed"),
    ("epsilon", lambda: cc.batch_norm(X2, X2[0, 0, 0], X2[0, 0, 0], epsilon="x"), "epsilon"),
    ("batch_norm axis", lambda: cc.batch_norm(X2, K2[0, 0, 0], K2[0, 0, 0], axis=9), "axis"),
    ("batch_norm length", lambda: cc.batch_norm(X2, K2[0, 0, 0], K2[0, 0, 0]), "shape of"),
    ("variance", lambda: cc.batch_norm(X2, X2[0, 0, 0], np.full(6, -1, np.float32)), "variance"),
    ("prelu", lambda: cc.prelu(X2, K1), "broadcast"),
    ("relu threshold", lambda: cc.relu(X2, threshold=-1), "threshold"),
    ("relu slope", lambda: cc.relu(X2, negative_slope=np.nan), "negative_slope"),
    ("celu alpha", lambda: cc.celu(X2, alpha=0), "alpha"),
    ("leaky_divide a", lambda: cc.leaky_divide(X2, a=1), "> 1"),
    ("rrelu range", lambda: cc.rrelu(X2, lower=8, upper=3), "lower"),
    ("filter axes", lambda: cc.convolve(X2[0], K1[0]), "axes"),
    ("filter mode", lambda: cc.convolve(X1[0], K1[0], mode="edge"), "mode"),
    ("filter origin", lambda: cc.convolve(X1[0], K1[0], origin=5), "origin"),
]


@pytest.mark.parametrize(("call", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_calls_say_what_is_wrong(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        call()
