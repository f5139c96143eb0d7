"""Calls that are recorded once and replayed: the same bits, whatever changes; nothing is kept for ever."""

from __future__ import annotations

import functools
import inspect
import pickle
import subprocess
import sys
import threading
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convcore as cc
from convcore import _native, ops
from convcore.errors import ArgumentError, DTypeError
from convcore.ops.call import instruction_set
from convcore.ops.replay import replayed

Array = NDArray[np.float32]


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


X = (2, 6, 5, 3)
#: A call of every public operation that takes arrays of float32: arrays by name, options.
CALLS: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "average_pool": ({"x": X}, {"padding": "same", "strides": 1}),
    "celu": ({"x": X}, {"alpha": 2.0}),
    "conv1d": ({"x": (2, 9, 3), "w": (3, 3, 4), "bias": (4,)}, {"padding": "causal"}),
    "conv1d_transpose": ({"x": (2, 9, 3), "w": (3, 4, 3), "bias": (4,)}, {"strides": 2}),
    "conv2d": ({"x": X, "w": (3, 3, 3, 4), "bias": (4,)}, {"padding": "same", "activation": "tanh"}),
    "conv2d_transpose": ({"x": X, "w": (3, 3, 4, 3)}, {"strides": (2, 1), "padding": "same"}),
    "conv3d": ({"x": (1, 4, 5, 6, 2), "w": (2, 2, 2, 2, 3)}, {"padding": [(1, 0), (0, 1), (1, 1)]}),
    "conv3d_transpose": ({"x": (1, 2, 3, 2, 2), "w": (2, 2, 2, 3, 2)}, {}),
    "convolve": ({"x": (9, 40), "weights": (4, 3)}, {"mode": "wrap", "origin": 1}),
    "correlate": ({"x": (2, 9, 5, 3), "weights": (2, 3)}, {"axes": (1, 2), "border": "mirror"}),
    "crop": ({"x": X}, {"cropping": 1}),
    "dense": ({"x": (4, 7), "w": (7, 5), "bias": (5,)}, {"activation": "relu"}),
    "depthwise_conv1d": ({"x": (2, 9, 3), "w": (3, 3, 2)}, {}),
    "depthwise_conv2d": ({"x": X, "w": (3, 3, 3, 2), "bias": (6,)}, {"padding": 1}),
    "elu": ({"x": X}, {}),
    "exponential": ({"x": X}, {}),
    "gelu": ({"x": X}, {"approximate": True}),
    "global_average_pool": ({"x": X}, {"keepdims": True}),
    "global_max_pool": ({"x": X}, {}),
    "hard_sigmoid": ({"x": X}, {}),
    "hard_silu": ({"x": X}, {}),
    "leaky_divide": ({"x": X}, {}),
    "leaky_relu": ({"x": X}, {"negative_slope": 0.25}),
    "max_pool": ({"x": X}, {"pool_size": (2, 3)}),
    "mish": ({"x": X}, {}),
    "noisy_relu": ({"x": X}, {"training": True, "seed": 7}),
    "prelu": ({"x": X, "alpha": (3,)}, {}),
    "relu": ({"x": X}, {"max_value": 1}),
    "resample": ({"volume": (3, 4, 5)}, {"output_shape": (4, 4, 4)}),
    "resize": ({"x": X}, {"size": (7, 9), "interpolation": "nearest"}),
    "rrelu": ({"x": X}, {"training": True, "seed": 1}),
    "selu": ({"x": X}, {}),
    "separable_conv1d": ({"x": (2, 9, 3), "depthwise": (3, 3, 2), "pointwise": (1, 6, 4)}, {}),
    "separable_conv2d": ({"x": X, "depthwise": (3, 3, 3, 1), "pointwise": (1, 1, 3, 4)}, {}),
    "sigmoid": ({"x": X}, {}),
    "silu": ({"x": X}, {}),
    "softmax": ({"x": X}, {}),
    "softplus": ({"x": X}, {}),
    "softsign": ({"x": X}, {}),
    "tanh": ({"x": X}, {}),
    "upsample": ({"x": X}, {"size": (2, 3)}),
    "zero_pad": ({"x": X}, {}),
}
#: Scale and offset are computed from the arguments' values; pixels are no floats.
OTHERS = {"batch_norm", "hu_rescale"}


def arrays_of(name: str, seed: int) -> dict[str, Array]:
    return {n: draw(*shape, seed=seed) for n, shape in CALLS[name][0].items()}


def test_every_operation_is_here() -> None:
    assert set(CALLS) | OTHERS == set(ops.__all__)


@pytest.mark.parametrize("isa", [None, *_native.isas()])
@pytest.mark.parametrize("name", CALLS)
def test_replayed_bits_are_those_of_the_checked_way(name: str, isa: str | None) -> None:
    function, options = getattr(cc, name), CALLS[name][1]
    checked = inspect.unwrap(function)

    def compare() -> None:
        function.forget()
        for seed in range(3):  # recorded with the first, replayed with the others
            arrays = arrays_of(name, seed)
            expected = checked(**arrays, **options)
            assert function(**arrays, **options).tobytes() == expected.tobytes()
            y = np.full_like(expected, np.nan)
            assert function(**arrays, **options, out=y, num_threads=1 + seed) is y
            assert y.tobytes() == expected.tobytes()
        assert function.remembered == (2, 0)  # with and without out=

    if isa is None:
        compare()
    else:
        with instruction_set(isa):
            compare()


def test_hu_rescale_is_replayed_for_numbers_and_checked_for_slices() -> None:
    cc.hu_rescale.forget()  # type: ignore[attr-defined]
    raw = np.arange(-6, 6, dtype=np.int16).reshape(3, 4)
    for slope in (1, 2, 2.0):
        assert cc.hu_rescale(raw, slope, -3.5).tolist() == (slope * raw - 3.5).tolist()
        assert cc.hu_rescale(raw + np.int16(1), slope, -3.5).tolist() == (slope * (raw + 1) - 3.5).tolist()
    assert cc.hu_rescale.remembered == (3, 0)  # type: ignore[attr-defined]
    for slope in (np.array([1.0, 2, 3]), np.array([3.0, 2, 1])):
        assert cc.hu_rescale(raw, slope, 0).tolist() == (slope[:, np.newaxis] * raw).tolist()
    assert cc.hu_rescale.remembered == (3, 0)  # type: ignore[attr-defined]


def test_weights_may_change_between_calls() -> None:
    x, w, b = draw(1, 8, 8, 1), draw(3, 3, 1, 1), draw(1)
    first = cc.conv2d(x, w, b)
    w *= 2
    b *= 2
    assert np.array_equal(cc.conv2d(x, w, b), 2 * first)


def test_strides_shapes_and_addresses_make_no_mistake() -> None:
    base, w = draw(4, 16, 16, 8), draw(3, 3, 4, 5)
    views = [
        base[:2, :8, :8, :4],
        base[:2, :8, :8, 4:],
        base[1:3, 8:, 8:, 2:6],
        base[:2, ::2, 1::2, ::2],
        base[1::-1, 7::-1, 8:, 3::-1],
        base[:2, :8, :8, :4].copy(),
        np.broadcast_to(base[:1, :1, :8, :4], (2, 8, 8, 4)),
        base.transpose(0, 2, 1, 3)[:2, :8, :8, :4],
    ]
    for _ in range(2):
        for view in views:
            expected = inspect.unwrap(cc.conv2d)(view.copy(), w, strides=2)
            assert np.array_equal(cc.conv2d(view, w, strides=2), expected)
            y = np.zeros((2, 3, 3, 10), np.float32)
            assert np.array_equal(cc.conv2d(view, w, strides=2, out=y[..., ::2]), expected)
            assert not y[..., 1::2].any()


def test_options_that_compare_equal_are_told_apart() -> None:
    x = np.array([-2.0, -0.0, 0.0, 3.0], np.float32)
    for _ in range(2):
        assert (
            cc.leaky_relu(x, negative_slope=0.0).tobytes()
            == inspect.unwrap(cc.leaky_relu)(x, negative_slope=0.0).tobytes()
        )
        assert (
            cc.leaky_relu(x, negative_slope=-0.0).tobytes()
            == inspect.unwrap(cc.leaky_relu)(x, negative_slope=-0.0).tobytes()
        )
    m = draw(1, 6, 6, 1)
    cc.max_pool(m, 1)
    with pytest.raises(ArgumentError, match="pool_size must be an integer"):
        cc.max_pool(m, True)
    with pytest.raises(ArgumentError, match="pool_size must be an integer"):
        cc.max_pool(m, 1.0)  # type: ignore[arg-type]
    cc.max_pool(m, (1, 1))
    with pytest.raises(ArgumentError, match="pool_size must be an integer"):
        cc.max_pool(m, (1, True))
    cc.max_pool(m, [1, 1])


def test_filters_whose_axes_do_not_lie_together() -> None:
    """NumPy copies on the way in and out: such calls are not repeated, and are right each time."""
    base, w = draw(6, 7, 8, 9), draw(2, 3)
    checked = inspect.unwrap(cc.correlate)
    for axes in ((1, 2), (0, 3), (3, 1), (2, 0)):
        for _ in range(2):
            for x in (base, base[::-1, ::2, 1:, ::3], base.transpose(3, 1, 0, 2), base[:, :, :, 2:6]):
                expected = checked(x.copy(), w, axes=axes)
                assert np.array_equal(cc.correlate(x, w, axes=axes), expected)
                y = np.zeros((*expected.shape[::-1], 2), np.float32)[..., 0].T
                assert cc.correlate(x, w, axes=axes, out=y) is y
                assert np.array_equal(y, expected)


def test_kernels_of_axes_and_factors_are_computed_each_time() -> None:
    x, a, b = draw(12, 14), draw(3), draw(4)
    for scale in (1.0, 2.0, 3.0):
        w = (scale * np.outer(a, b)).astype(np.float32)
        exact = inspect.unwrap(cc.correlate)(x.astype(np.float64), w.astype(np.float64), dtype="float64")
        for got in (cc.correlate(x, w, separable=True), cc.correlate(x, [np.float32(scale) * a, b])):
            assert (
                np.abs(got - exact).max() <= 2.0**-20 * scale * np.abs(x).max() * np.abs(np.outer(a, b)).sum()
            )
        ramp = np.arange(12, dtype=np.float32) * np.float32(scale)
        assert np.array_equal(cc.correlate(ramp, np.ones(1, np.float32), separable=True), ramp)
        assert np.array_equal(cc.correlate(ramp, [np.ones(1, np.float32)]), ramp)
        y = np.zeros(12, np.float32)
        assert cc.correlate(ramp, np.full(1, scale, np.float32), output=y) is y
        assert np.array_equal(y, ramp * np.float32(scale))


def test_a_sequence_that_changed_is_seen() -> None:
    x, size = draw(1, 6, 6, 1), [2, 3]
    assert cc.max_pool(x, size).shape == (1, 3, 2, 1)
    size[1] = 2
    assert cc.max_pool(x, size).shape == (1, 3, 3, 1)


def test_types_are_told_apart() -> None:
    raw = np.arange(4, dtype=np.int16)
    for _ in range(2):
        assert cc.hu_rescale(raw, 1, 0).tolist() == [0, 1, 2, 3]
        assert cc.hu_rescale(raw.view(np.uint16), 1, 0).tolist() == [0, 1, 2, 3]
        assert cc.hu_rescale(raw.astype(">i2"), 1, 0).tolist() == [0, 1, 2, 3]
        with pytest.raises(DTypeError, match="float32"):
            cc.relu(raw)  # type: ignore[arg-type,unused-ignore]
        assert cc.relu(raw, dtype="float32").tolist() == [0, 1, 2, 3]


def test_arrays_that_overlap_take_the_checked_way() -> None:
    memory = draw(200)
    w = draw(3, 3, 1, 1)
    plain = cc.conv2d(memory[:100].reshape(1, 10, 10, 1), w, padding="same")
    x = memory[:100].reshape(1, 10, 10, 1)
    # apart first, so that this kind of call has been recorded
    cc.conv2d(x, w, padding="same", out=np.empty_like(x))
    kept = memory.copy()
    cc.conv2d(x, w, padding="same", out=memory[20:120].reshape(1, 10, 10, 1))
    assert np.array_equal(memory[20:120].reshape(1, 10, 10, 1), plain)
    memory[:] = kept
    cc.conv2d(x, w, padding="same", out=x)
    assert np.array_equal(x, plain)


def test_in_place_is_replayed_where_it_may_be() -> None:
    cc.relu.forget()  # type: ignore[attr-defined]
    for seed in range(3):
        x = draw(4, 5, seed=seed)
        expected = np.maximum(x, 0)
        assert cc.relu(x, out=x) is x
        assert np.array_equal(x, expected)
    assert cc.relu.remembered == (1, 0)  # type: ignore[attr-defined]
    shifted = draw(9)
    expected = np.maximum(shifted[:8], 0)
    cc.relu(shifted[:8], out=shifted[1:])
    assert np.array_equal(shifted[1:], expected)


def test_one_array_for_two_arguments_is_not_taken_for_a_rule() -> None:
    """prelu(x, x) works on one piece of memory; prelu(x, alpha) of the same shapes does not."""
    cc.prelu.forget()  # type: ignore[attr-defined]
    x, alpha = draw(4, 5), draw(4, 5, seed=1)
    for _ in range(2):
        assert np.array_equal(cc.prelu(x, x), np.where(x >= 0, x, x * x))
        assert np.array_equal(cc.prelu(x, alpha), np.where(x >= 0, x, alpha * x))


@pytest.mark.parametrize("isa", _native.isas())
def test_the_context_s_instruction_set_is_used(isa: str) -> None:
    """The proof is in the rounding: without FMA a sum of products differs."""
    x, w = draw(8, 100), draw(100, 8)
    with instruction_set(isa):
        expected = inspect.unwrap(cc.dense)(x, w)
        cc.dense(x, w)
        assert cc.dense(x, w).tobytes() == expected.tobytes()
    assert cc.dense(x, w).tobytes() == inspect.unwrap(cc.dense)(x, w).tobytes()


def test_read_only_and_ill_placed_outputs() -> None:
    x, y = draw(4, 4), np.empty((4, 4), np.float32)
    cc.relu(x, out=y)
    y.flags.writeable = False
    with pytest.raises(ArgumentError, match="out is read-only"):
        cc.relu(x, out=y)
    odd = np.zeros(65, np.uint8)[1:].view(np.float32).reshape(4, 4)
    assert cc.relu(x, out=odd) is odd
    assert np.array_equal(odd, np.maximum(x, 0))
    assert np.array_equal(cc.tanh(odd), cc.tanh(odd.copy()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: cc.relu(), "missing 1 required positional argument: 'x'"),
        (lambda x: cc.relu(x, x), "takes 1 positional argument but 2 were given"),
        (lambda x: cc.relu(x, nope=1), "unexpected keyword argument 'nope'"),
        (lambda x: cc.relu(x, x=x), "multiple values for argument 'x'"),
    ],
)
def test_wrong_calls_are_refused_as_those_of_any_function(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(draw(3))


@pytest.mark.parametrize("bad", [0, -1, 257, 2**70, True, 1.0, "2"])
def test_num_threads_out_of_range(bad: Any) -> None:
    for _ in range(2):
        with pytest.raises(ArgumentError, match=r"relu: num_threads.*got .*1 to 256"):
            cc.relu(draw(3), num_threads=bad)
    assert cc.relu(draw(3), num_threads=np.int64(2)).shape == (3,)  # type: ignore[arg-type]


def test_what_is_kept_is_bounded() -> None:
    cc.relu.forget()  # type: ignore[attr-defined]
    for n in range(1, 2000):
        assert cc.relu(np.ones(n, np.float32)).size == n
    assert sum(cc.relu.remembered) <= 64  # type: ignore[attr-defined]
    cc.relu.forget()  # type: ignore[attr-defined]
    assert cc.relu.remembered == (0, 0)  # type: ignore[attr-defined]


def test_large_weights_are_not_kept() -> None:
    import tracemalloc

    x, w = draw(1, 2048), draw(2048, 2048)
    cc.dense.forget()  # type: ignore[attr-defined]
    tracemalloc.start()
    for _ in range(3):
        cc.dense(x, w)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1 << 20  # the weights are 16 MiB
    assert cc.dense.remembered == (1, 0)  # type: ignore[attr-defined]


def test_many_threads_at_once() -> None:
    arrays = [(draw(1, 12, 12, 4, seed=s), draw(3, 3, 4, 8, seed=s)) for s in range(8)]
    expected = [inspect.unwrap(cc.conv2d)(x, w, padding="same").tobytes() for x, w in arrays]
    wrong: list[int] = []

    def work(i: int) -> None:
        x, w = arrays[i]
        for n in range(300):
            if cc.conv2d(x, w, padding="same", num_threads=1 + n % 2).tobytes() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_it_is_a_function_to_python() -> None:
    assert pickle.loads(pickle.dumps(cc.conv2d)) is cc.conv2d
    assert inspect.isroutine(cc.conv2d)
    assert cc.conv2d.__name__ == "conv2d" and cc.conv2d.__module__ == "convcore.ops.convolution"
    assert next(iter(inspect.signature(cc.relu).parameters)) == "x"
    assert (cc.conv2d.__doc__ or "").startswith("2-D convolution")
    assert "conv2d" in repr(cc.conv2d)
    assert "num_threads" in typing.get_type_hints(cc.conv2d)

    @functools.wraps(cc.relu)
    def mine(*args: Any, **kwargs: Any) -> Any:
        return cc.relu(*args, **kwargs)

    assert mine.__name__ == "relu" and set(vars(mine)) == {"__wrapped__"}
    assert inspect.signature(mine) == inspect.signature(cc.relu)

    class Layer:
        act = cc.relu

    with pytest.raises(DTypeError, match="Layer"):
        Layer().act()  # bound: the object is its first argument


def test_a_result_that_numpy_moved_is_not_replayed() -> None:
    """Elements that go into `out` behind the program's back would be missing at the second call."""
    cc.softmax.forget()  # type: ignore[attr-defined]
    for seed in range(3):
        x, y = draw(3, 4, seed=seed), np.full((4, 3), np.nan, np.float32).T
        cc.softmax(x, out=y)
        assert np.array_equal(y, cc.softmax(x))
    assert cc.softmax.remembered == (1, 1)  # type: ignore[attr-defined]


def test_a_decorated_function_of_several_programs_is_not_replayed() -> None:
    @replayed("x")
    def twice(x: Array, *, out: Array | None = None, num_threads: int | None = None) -> Array:
        return inspect.unwrap(cc.relu)(inspect.unwrap(cc.tanh)(x), out=out)  # type: ignore[no-any-return]

    for seed in range(3):
        x = draw(5, seed=seed)
        assert np.array_equal(twice(x), np.maximum(cc.tanh(x), 0))
    assert twice.remembered == (0, 1)  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_no_memory_is_named_when_replayed() -> None:
    code = (
        "import resource, numpy as np, convcore as cc\n"
        "x = np.ones((1, 4096, 4096, 1), np.float32)\n"
        "cc.zero_pad(x); cc.zero_pad(x)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), -1))\n"
        "try: cc.zero_pad(x)\n"
        "except MemoryError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "zero_pad: no memory for an array of shape (1, 4098, 4098, 1)" in done.stdout, done.stderr
