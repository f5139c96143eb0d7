"""Kernels with packed weights: the bits of the functions, their errors; nothing that a caller can spoil."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convcore as cc
from convcore import _native
from convcore.errors import ArgumentError, DeviceError, DTypeError
from convcore.ops import prepared
from convcore.ops.call import instruction_set

Array = NDArray[np.float32]


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


#: Constant arrays by name, options, and shapes of inputs.
KERNELS: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, Any], list[tuple[int, ...]]]] = {
    "conv1d": ({"w": (3, 4, 5), "bias": (5,)}, {"padding": "causal"}, [(2, 9, 4), (1, 17, 4)]),
    "conv2d": (
        {"w": (3, 3, 2, 6), "bias": (6,)},
        {"padding": [(1, 0), (0, 2)], "groups": 2, "activation": "relu"},
        [(1, 8, 9, 4), (3, 5, 5, 4), (0, 5, 5, 4)],
    ),
    "conv3d": ({"w": (2, 2, 2, 3, 4)}, {"strides": 2}, [(1, 4, 5, 6, 3)]),
    "conv1d_transpose": ({"w": (3, 5, 4)}, {"strides": 2, "padding": "same"}, [(2, 9, 4)]),
    "conv2d_transpose": (
        {"w": (3, 3, 5, 4), "bias": (5,)},
        {"data_format": "channels_first", "output_padding": 1, "strides": 2},
        [(2, 4, 5, 6), (1, 4, 3, 3)],
    ),
    "conv3d_transpose": ({"w": (2, 2, 2, 5, 4)}, {"padding": 1}, [(1, 3, 4, 5, 4)]),
    "depthwise_conv1d": ({"w": (3, 4, 2), "bias": (8,)}, {}, [(2, 9, 4)]),
    "depthwise_conv2d": ({"w": (5, 3, 4, 1)}, {"padding": "full", "flip": True}, [(2, 9, 7, 4)]),
    "separable_conv1d": ({"depthwise": (3, 4, 2), "pointwise": (1, 8, 5), "bias": (5,)}, {}, [(2, 9, 4)]),
    "separable_conv2d": (
        {"depthwise": (3, 3, 4, 2), "pointwise": (1, 1, 8, 5)},
        {"dilation_rate": 2},
        [(1, 9, 8, 4), (2, 7, 7, 4)],
    ),
    "dense": ({"w": (7, 5), "bias": (5,)}, {"activation": "tanh"}, [(4, 7), (7,), (2, 3, 7)]),
    "batch_norm": ({"mean": (4,), "variance": (4,), "gamma": (4,)}, {"axis": 1}, [(2, 4), (2, 4, 3, 3)]),
}


def constants_of(name: str) -> dict[str, Array]:
    arrays = {n: draw(*shape) for n, shape in KERNELS[name][0].items()}
    if "variance" in arrays:
        arrays["variance"] = np.abs(arrays["variance"])
    return arrays


def prepare(name: str, **more: Any) -> cc.PreparedKernel:
    made: cc.PreparedKernel = getattr(cc, f"prepare_{name}")(
        **constants_of(name), **{**KERNELS[name][1], **more}
    )
    return made


def expected_of(name: str, x: Array, **more: Any) -> Array:
    y: Array = getattr(cc, name)(x, **constants_of(name), **KERNELS[name][1], **more)
    return y


def test_every_kernel_is_here() -> None:
    makers = {n for n in prepared.__all__ if n.startswith("prepare_")}
    assert makers == {f"prepare_{name}" for name in KERNELS}
    assert set(prepared.__all__) <= set(dir(cc))


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("name", KERNELS)
def test_the_bits_are_those_of_the_function(name: str, isa: str) -> None:
    with instruction_set(isa):
        k = prepare(name)
        for seed in range(3):
            for shape in KERNELS[name][2]:
                x = draw(*shape, seed=seed)
                expected = expected_of(name, x)
                assert k(x).tobytes() == expected.tobytes()
                y = np.full_like(expected, np.nan)
                assert k(x, out=y, num_threads=2) is y
                assert y.tobytes() == expected.tobytes()
                views = np.repeat(np.repeat(x, 2, axis=-1), 2, axis=0)[::2, ..., ::2] if x.ndim > 1 else x
                assert k(views).tobytes() == expected.tobytes()


def test_accuracy_allows_winograd() -> None:
    w, x = draw(3, 3, 32, 32), draw(1, 48, 48, 32)
    expected = cc.conv2d(x, w, padding="same")
    exact = cc.conv2d(x.astype(np.float64), w.astype(np.float64), padding="same", dtype="float32")
    assert np.array_equal(exact, expected)
    algorithms = []
    for accuracy in ("direct", "standard", "fast"):
        k = cc.prepare_conv2d(w, padding="same", accuracy=accuracy)
        y = k(x)
        algorithms.append(k.algorithm)
        if accuracy == "direct":
            assert y.tobytes() == expected.tobytes()
        else:
            # docs/kernels.md: at most 7.8e-5 of the outputs' rms for F(6x6), with up to 256 channels
            assert np.abs(y - expected).max() <= 1e-4 * np.sqrt(np.mean(np.square(expected)))
    assert algorithms == ["direct", "Winograd 4x4", "Winograd 6x6"]
    with pytest.raises(ArgumentError, match="conv2d: accuracy, got 'best'"):
        cc.prepare_conv2d(w, accuracy="best")


def test_weights_belong_to_the_kernel() -> None:
    w, x = draw(3, 3, 1, 2), draw(1, 6, 6, 1)
    expected = cc.conv2d(x, w)
    k = cc.prepare_conv2d(w)
    w[...] = np.nan
    assert np.array_equal(k(x), expected)
    w[...] = 0
    assert np.array_equal(k(draw(1, 6, 6, 1)), expected)


def test_packed_weights_are_shared_among_shapes() -> None:
    k = cc.prepare_conv2d(draw(3, 3, 16, 32))
    sizes = []
    for n in range(4, 12):
        k(draw(1, n, n, 16))
        sizes.append(k.nbytes)
    assert len(set(sizes)) == 1
    assert set(k.algorithms) == {(1, n, n, 16) for n in range(4, 12)}


def test_what_is_kept_is_bounded() -> None:
    k = cc.prepare_conv2d(draw(3, 3, 1, 1))
    for n in range(3, 400):
        k(np.ones((1, n, 3, 1), np.float32))
    assert len(k.algorithms) <= 64
    k.forget()
    assert k.algorithms == {}
    assert k(np.ones((1, 3, 3, 1), np.float32)).shape == (1, 1, 1, 1)


def test_it_ends_with_its_last_reference() -> None:
    gc.collect()
    gc.disable()
    try:
        k = cc.prepare_conv2d(draw(3, 3, 1, 1))
        k(draw(1, 5, 5, 1))
        operation = weakref.ref(k)
        del k
        assert operation() is None  # without the collector of cycles
    finally:
        gc.enable()


@pytest.mark.parametrize("name", KERNELS)
def test_pickles_and_copies(name: str) -> None:
    k = prepare(name, num_threads=2)
    x = draw(*KERNELS[name][2][0])
    expected = k(x).tobytes()
    for other in (pickle.loads(pickle.dumps(k)), copy.copy(k), copy.deepcopy(k)):
        assert type(other) is cc.PreparedKernel and other is not k
        assert other.num_threads == 2 and other.operation == name
        assert other(x).tobytes() == expected


def test_its_text() -> None:
    k = cc.prepare_conv2d(draw(3, 3, 4, 8), draw(8), padding="same", strides=2)
    arrays = "w=array of shape (3, 3, 4, 8), bias=array of shape (8,)"
    text = f"<prepare_conv2d({arrays}, strides=2, padding='same'): {{}}>"
    assert repr(k) == text.format("not called yet")
    assert k.algorithm is None and k.operation == "conv2d" and k.num_threads is None
    k(draw(1, 8, 8, 4))
    assert repr(k) == text.format("direct")
    k = cc.prepare_separable_conv2d(draw(3, 3, 4, 1), draw(1, 1, 4, 2))
    k(draw(1, 8, 8, 4))
    assert k.algorithm is not None and " + " in k.algorithm


W = draw(3, 3, 4, 8)
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: cc.prepare_conv2d(W[0]), r"conv2d: shape of w, got \(3, 4, 8\)"),
    (lambda: cc.prepare_conv2d(W, draw(7)), r"conv2d: shape of bias, got \(7,\), expected \(8,\)"),
    (lambda: cc.prepare_conv2d(W, padding="some"), "conv2d: unknown padding, got some"),
    (lambda: cc.prepare_conv2d(W, padding=-1), "conv2d: padding must not be negative"),
    (lambda: cc.prepare_conv2d(W, strides=0), "conv2d: strides must be positive"),
    (lambda: cc.prepare_conv2d(W, dilation_rate=(1, 2, 3)), "conv2d: dilation_rate needs one entry"),
    (lambda: cc.prepare_conv2d(W, groups=3), "conv2d: kernel and input do not fit"),
    (lambda: cc.prepare_conv2d(W, data_format="NHWC"), "conv2d: data_format, got NHWC"),
    (lambda: cc.prepare_conv2d(W, activation="softmax"), "conv2d: activation, got softmax"),
    (lambda: cc.prepare_conv2d(W, num_threads=0), "conv2d: num_threads, got 0"),
    (lambda: cc.prepare_conv2d_transpose(W, output_padding=-1), "output_padding must not be negative"),
    (lambda: cc.prepare_separable_conv2d(W, W), "separable_conv2d: shape of pointwise"),
    (lambda: cc.prepare_dense(draw(3)), "dense: shapes do not fit"),
    (lambda: cc.prepare_batch_norm(draw(3), -np.ones(3, np.float32)), r"batch_norm: variance \+ epsilon"),
    (lambda: cc.prepare_batch_norm(draw(3), draw(2)), r"batch_norm: shape of variance"),
    (lambda: cc.prepare_batch_norm(draw(3), draw(3), axis="c"), r"batch_norm: axis"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_weights_and_options_are_refused_at_once(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


def test_large_padding_and_dilation_are_no_mistake() -> None:
    k = cc.prepare_conv2d(draw(2, 2, 1, 1), dilation_rate=1000, padding=700)
    assert k(draw(1, 50, 50, 1)).shape == (1, 450, 450, 1)
    assert cc.prepare_conv3d(draw(2, 2, 2, 1, 1), dilation_rate=2**20).algorithm is None


def test_bad_inputs_are_refused_as_by_the_function() -> None:
    k, x = cc.prepare_conv2d(W), draw(1, 6, 6, 4)
    for _ in range(2):
        with pytest.raises(ArgumentError, match="conv2d: number of axes"):
            k(x[0])
        with pytest.raises(ArgumentError, match="conv2d: kernel and input do not fit"):
            k(x[..., :3])
        with pytest.raises(ArgumentError, match="conv2d: the input is smaller"):
            k(x[:, :2])
        with pytest.raises(DTypeError, match="conv2d: x, got float64"):
            k(x.astype(np.float64))
        with pytest.raises(DTypeError, match="conv2d: x is no array, got list"):
            k([1.0])
        with pytest.raises(ArgumentError, match="conv2d: shape of out"):
            k(x, out=np.empty((1, 4, 4, 7), np.float32))
        with pytest.raises(DTypeError, match="conv2d: out, got float64"):
            k(x, out=np.empty((1, 4, 4, 8)))
        with pytest.raises(ArgumentError, match="conv2d: num_threads, got 300"):
            k(x, num_threads=300)
        k(x)
    with pytest.raises(DTypeError, match="w, got float64"):
        cc.prepare_conv2d(W.astype(np.float64))


def test_conversion_is_said_once() -> None:
    k = cc.prepare_conv2d(W.astype(np.float64), dtype="float32")
    x = draw(1, 6, 6, 4)
    for kind in (np.float64, np.float16, np.int16, np.dtype(">f4")):
        assert np.array_equal(k(x.astype(kind)), cc.conv2d(x.astype(kind), W, dtype="float32"))
    assert k.remembered == (1, 0)


def test_out_that_overlaps_the_input() -> None:
    k, memory = cc.prepare_conv2d(draw(3, 3, 1, 1), padding="same"), draw(120)
    x = memory[:100].reshape(1, 10, 10, 1)
    expected = k(x)
    k(x, out=np.empty_like(x))
    k(x, out=memory[20:].reshape(1, 10, 10, 1))
    assert np.array_equal(memory[20:].reshape(1, 10, 10, 1), expected)


def test_tensors_go_in_and_take_the_result() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    k, x = cc.prepare_conv2d(W), draw(1, 6, 6, 4)
    y = torch.zeros(1, 4, 4, 8)
    assert k(torch.from_numpy(x), out=y) is y
    assert np.array_equal(y.numpy(), k(x))
    with pytest.raises(DTypeError, match=r"out records gradients.*out\.detach\(\)"):
        k(x, out=torch.zeros(1, 4, 4, 8, requires_grad=True))
    with pytest.raises(DeviceError, match="x lies on another device"):
        k(torch.empty(1, 6, 6, 4, device="meta"))


@pytest.mark.parametrize("name", ["conv2d", "separable_conv2d", "dense"])
def test_many_threads_at_once(name: str) -> None:
    k = prepare(name)
    inputs = [draw(*shape, seed=s) for shape in KERNELS[name][2] for s in range(3)]
    expected = [expected_of(name, x).tobytes() for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        y = np.empty_like(k(inputs[i]))
        for n in range(200):
            if k(inputs[i], out=y, num_threads=1 + n % 2).tobytes() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
