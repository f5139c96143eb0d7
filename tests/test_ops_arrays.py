"""What goes in and what comes out: array kinds, types, byte order, `out=`, errors before any work."""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore.errors import ArgumentError, ConvcoreError, DeviceError, DTypeError

from .memory import AWKWARD, Array, gaps, unaligned

X = np.arange(-6, 6, dtype=np.float32).reshape(1, 2, 3, 2)
W = np.ones((2, 2, 2, 3), np.float32)
#: Every public operation, on float32.
CALLS: dict[str, Callable[..., Array]] = {
    "conv1d": lambda **k: cc.conv1d(X[0], W[0], **k),
    "conv2d": lambda **k: cc.conv2d(X, W, **k),
    "conv3d": lambda **k: cc.conv3d(X[np.newaxis], W[np.newaxis], **k),
    "depthwise_conv1d": lambda **k: cc.depthwise_conv1d(X[0], W[0], **k),
    "depthwise_conv2d": lambda **k: cc.depthwise_conv2d(X, W, **k),
    "separable_conv1d": lambda **k: cc.separable_conv1d(X[0], W[0], np.ones((1, 6, 4), np.float32), **k),
    "separable_conv2d": lambda **k: cc.separable_conv2d(X, W, np.ones((1, 1, 6, 4), np.float32), **k),
    "conv1d_transpose": lambda **k: cc.conv1d_transpose(X[0], W[0].swapaxes(1, 2), **k),
    "conv2d_transpose": lambda **k: cc.conv2d_transpose(X, W.swapaxes(2, 3), strides=2, **k),
    "conv3d_transpose": lambda **k: cc.conv3d_transpose(X[np.newaxis], W.swapaxes(2, 3)[np.newaxis], **k),
    "max_pool": lambda **k: cc.max_pool(X, 2, **k),
    "average_pool": lambda **k: cc.average_pool(X, 2, padding="same", **k),
    "global_max_pool": lambda **k: cc.global_max_pool(X, **k),
    "global_average_pool": lambda **k: cc.global_average_pool(X, keepdims=True, **k),
    "batch_norm": lambda **k: cc.batch_norm(X, X[0, 0, 0], np.ones(2, np.float32), **k),
    "dense": lambda **k: cc.dense(X, W[0, 0], **k),
    "prelu": lambda **k: cc.prelu(X, W[0, 0, :, 0], **k),
    "rrelu": lambda **k: cc.rrelu(X, training=True, seed=1, **k),
    "noisy_relu": lambda **k: cc.noisy_relu(X, training=True, seed=1, **k),
    "upsample": lambda **k: cc.upsample(X, (2, 1), **k),
    "zero_pad": lambda **k: cc.zero_pad(X, **k),
    "crop": lambda **k: cc.crop(X, ((0, 1), (1, 1)), **k),
    "resample": lambda **k: cc.resample(X[0], (3, 3, 3), **k),
    "resize": lambda **k: cc.resize(X, (5, 2), **k),
    "convolve": lambda **k: cc.convolve(X[0], W[:, :, :, 0], **k),
    "correlate": lambda **k: cc.correlate(X[0, 0], W[0, 0], mode="wrap", **k),
    "hu_rescale": lambda **k: cc.hu_rescale(np.arange(12, dtype=np.int16), 1, -1024, **k),
    **{
        name: partial(getattr(cc, name), X)
        for name in (
            "celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "leaky_divide", "leaky_relu",
            "mish", "relu", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "tanh",
        )
    },
}  # fmt: skip


def test_every_public_operation_is_in_the_list() -> None:
    from convcore import ops

    assert set(CALLS) == set(ops.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_out_is_honoured(name: str) -> None:
    expected = CALLS[name]()
    for make in (np.empty_like, lambda y: gaps(np.zeros_like(y)), lambda y: unaligned(np.zeros_like(y))):
        out = make(expected)
        assert CALLS[name](out=out) is out
        assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", CALLS)
def test_out_is_checked_before_any_work(name: str) -> None:
    expected = CALLS[name]()
    read_only = np.zeros_like(expected)
    read_only.flags.writeable = False
    for bad, error in (
        (np.zeros((*expected.shape, 1), expected.dtype), ArgumentError),
        (np.zeros(expected.shape, np.int64), DTypeError),
        (expected.tolist(), DTypeError),
        (read_only, ArgumentError),
    ):
        with pytest.raises(error, match="out"):
            CALLS[name](out=bad)
        if isinstance(bad, np.ndarray):
            assert not bad.any()


@pytest.mark.parametrize("layout", AWKWARD, ids=lambda f: f.__name__)
def test_any_layout_goes_in(layout: Callable[[Array], Array]) -> None:
    assert cc.conv2d(layout(X), layout(W)).tobytes() == cc.conv2d(X, W).tobytes()


def test_repeated_elements_go_in() -> None:
    row = np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2)
    x = np.broadcast_to(row, (4, 5, 3, 2))
    assert x.strides[:2] == (0, 0)
    assert cc.conv2d(x, W).tobytes() == cc.conv2d(x.copy(), W).tobytes()
    assert cc.relu(x).tobytes() == np.maximum(x, 0).tobytes()


def test_buffers_and_array_protocols_go_in() -> None:
    numbers = [-1.0, 2.0]

    class Wrapper:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            return np.array(numbers, np.float32)

    class Interface:
        held = np.array(numbers, np.float32)
        __array_interface__ = held.__array_interface__

    raw = np.array(numbers, np.float32)
    for x in (array.array("f", numbers), memoryview(raw), Wrapper(), Interface(), raw.view(np.recarray)):
        y = cc.relu(x)
        assert type(y) is np.ndarray and y.tolist() == [0, 2]


def test_dlpack_goes_in() -> None:
    class Exporter:
        def __init__(self, x: Array, device: tuple[int, int] = (1, 0)) -> None:
            self.x, self.device = x, device

        def __dlpack__(self, **options: Any) -> Any:
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.device

    x = np.array([-1.0, 2.0], np.float32)
    assert cc.relu(Exporter(x)).tolist() == [0, 2]
    with pytest.raises(DeviceError, match="another device"):
        cc.relu(Exporter(x, (2, 0)))


def test_torch_tensors_go_in() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.arange(-2.0, 2.0)
    assert cc.relu(x).tolist() == [0, 0, 0, 1]
    assert cc.relu(x.reshape(2, 2).T).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    "x", [[1.0, 2.0], 1.0, None, "text", object(), {"a": 1}], ids=lambda v: type(v).__name__
)
def test_what_is_no_array_is_refused(x: Any) -> None:
    with pytest.raises(DTypeError, match="no array"):
        cc.relu(x)


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(DTypeError, match="masked"):
        cc.relu(np.ma.masked_array(X, X > 0))


@pytest.mark.parametrize("kind", ["float64", "float16", "int32", "uint8", "bool"])
def test_other_types_need_dtype(kind: str) -> None:
    x = np.array([0, 1, 1], kind)
    with pytest.raises(DTypeError, match='dtype="float32"'):
        cc.relu(x)
    y = cc.relu(x, dtype="float32")
    assert y.dtype == np.float32 and y.tolist() == [0, 1, 1]


def test_weights_follow_the_same_rule() -> None:
    with pytest.raises(DTypeError, match="w, got float64"):
        cc.conv2d(X, W.astype(np.float64))
    with pytest.raises(DTypeError, match="bias"):
        cc.conv2d(X, W, np.zeros(3))
    y = cc.conv2d(X.astype(np.float64), W.astype(np.float16), np.zeros(3, int), dtype=np.float32)
    assert y.tobytes() == cc.conv2d(X, W).tobytes()


@pytest.mark.parametrize("kind", ["complex64", "U3", "datetime64[s]", "O"])
def test_types_that_are_no_real_numbers_are_refused(kind: str) -> None:
    x = np.zeros(3, kind)
    with pytest.raises(DTypeError):
        cc.relu(x)
    with pytest.raises(DTypeError):
        cc.relu(x, dtype="float32")


def test_float32_is_the_only_working_type() -> None:
    with pytest.raises(DTypeError, match="dtype, got float64, expected float32"):
        cc.relu(np.zeros(3), dtype="float64")


@pytest.mark.parametrize(
    "function",
    [cc.relu, cc.softmax, cc.sigmoid, lambda x, out: cc.prelu(x, np.float32([0.5]), out=out)],
    ids=["relu", "softmax", "sigmoid", "prelu"],
)
def test_in_place_and_overlapping(function: Callable[..., Array]) -> None:
    x = np.linspace(-3, 3, 100, dtype=np.float32)
    expected = function(x[:90], out=None)
    same = x.copy()
    assert function(same[:90], out=same[:90]).tobytes() == expected.tobytes()
    for shift in (1, 7):
        shifted = x.copy()
        out = shifted[shift : 90 + shift]
        assert function(shifted[:90], out=out) is out and out.tobytes() == expected.tobytes()
    reverse = x.copy()
    out = reverse[:90][::-1]
    assert function(reverse[:90], out=out).tobytes() == expected.tobytes()


def test_out_may_be_the_input_of_a_window() -> None:
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 4)).astype(np.float32)
    w = np.random.default_rng(1).standard_normal((3, 3, 4, 4)).astype(np.float32)
    expected = cc.conv2d(x, w, padding="same")
    assert cc.conv2d(x, w, padding="same", out=x) is x
    assert x.tobytes() == expected.tobytes()


def test_out_may_be_alpha() -> None:
    x, alpha = -np.ones((3, 4), np.float32), np.full((3, 4), 0.5, np.float32)
    assert (cc.prelu(x, alpha, out=alpha) == -0.5).all()


def test_subclasses_of_ndarray_come_out_plain() -> None:
    assert type(cc.relu(X[0, 0].view(np.matrix))) is np.ndarray


def test_scalars_and_many_axes() -> None:
    assert cc.relu(np.array(-1.0, np.float32)).shape == ()
    assert cc.prelu(np.array(-1.0, np.float32), np.array(0.5, np.float32)) == -0.5
    assert cc.relu(np.ones((1,) * 12, np.float32)).shape == (1,) * 12
    many = np.ones((2,) * 9, np.float32)
    with pytest.raises(ArgumentError, match="number of axes"):
        cc.relu(many.T[::-1])


def test_an_empty_batch_gives_an_empty_result() -> None:
    x = np.zeros((0, 6, 6, 2), np.float32)
    assert cc.conv2d(x, W).shape == (0, 5, 5, 3)
    assert cc.max_pool(x, 2).shape == (0, 3, 3, 2)
    assert cc.global_max_pool(x).shape == (0, 2)
    assert cc.relu(x).shape == cc.softmax(x).shape == x.shape
    assert cc.dense(x, W[0, 0]).shape == (0, 6, 6, 3)
    assert cc.separable_conv2d(x, W, np.ones((1, 1, 6, 4), np.float32)).shape == (0, 5, 5, 4)
    with pytest.raises(ArgumentError, match="empty"):
        cc.conv2d(np.zeros((1, 0, 6, 2), np.float32), W)


def test_read_only_inputs_are_fine() -> None:
    x = X.copy()
    x.flags.writeable = False
    assert cc.conv2d(x, W).shape == (1, 1, 2, 3)


def test_errors_are_both_ours_and_python_s() -> None:
    with pytest.raises(ValueError, match="conv2d"):
        cc.conv2d(X[0], W)
    with pytest.raises(ConvcoreError, match="batch axis"):
        cc.conv2d(X[0], W)
