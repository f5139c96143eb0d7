"""The operations on device arrays against the reference: in Numba's simulator, or on a GPU if asked to."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import reference
from convcore.errors import ArgumentError, DeviceError, DTypeError

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels for the GPU to test")

import convcore.cuda as on_gpu
from convcore.cuda import DeviceArray, to_device
from convcore.cuda.step import Step
from convcore.cuda.toolkit import cuda, simulated

from . import kernel_cases
from .cuda_compile import Compiler
from .cuda_emulated import watch_launches
from .memory import Array
from .tolerance import assert_within, ulp_difference

# A GPU does not warn of infinities and NaN; the simulator, which is NumPy, does.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(scope="module", autouse=True)
def fused_multiply_add() -> Any:
    """Numba's simulator rounds the product of ``cuda.fma`` before it adds; a GPU does not."""
    if not simulated:
        yield
        return
    from numba.cuda.simulator.kernelapi import FakeCUDAModule

    patch = pytest.MonkeyPatch()

    def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
        if isinstance(a, np.float32):
            # The product is exact in float64; the sum is rounded twice, which no bound here can tell.
            return np.float32(np.float64(a) * np.float64(b) + np.float64(c))
        return a * b + c

    patch.setattr(FakeCUDAModule, "fma", fma)
    yield
    patch.undo()


#: Products that a test may ask the simulator for: it makes some tens of thousands in a second.
MOST_PRODUCTS = 20_000


@pytest.fixture(autouse=True)
def few_products(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No test here computes more than MOST_PRODUCTS, by the definition of what it calls."""
    made, run = [0.0], Step.run

    def counted(step: Step, buffers: Any) -> None:
        if step.operation in ("conv", "depthwise_conv", "conv_transpose", "dense"):
            made[0] += step.flops / 2
        run(step, buffers)

    monkeypatch.setattr(Step, "run", counted)
    yield made
    assert made[0] <= MOST_PRODUCTS


def test_products_are_counted(few_products: list[float]) -> None:
    x, w = floats(1, 2, 5, 6, 4), floats(2, 3, 2, 4, 3)
    on_gpu.conv2d(to_device(x), to_device(w))
    assert few_products[0] == 2 * (3 * 5) * 3 * (3 * 2 * 4)


def public(call: Callable[..., Any]) -> str | None:
    """The name of the public operation that a case calls; None if it calls something else."""
    function = call.func if isinstance(call, functools.partial) else call
    return function.__name__ if function.__module__.startswith("convcore.ops") else None


def on_device(call: Callable[..., Any], *arrays: Array, **options: Any) -> Array:
    """The same call of the mirrored operation, on device arrays."""
    given = dict(call.keywords) if isinstance(call, functools.partial) else {}
    name = public(call)
    assert name is not None
    moved = {
        k: to_device(v) if isinstance(v, np.ndarray) and v.dtype != np.float64 else v
        for k, v in given.items()
    }
    result = getattr(on_gpu, name)(*(to_device(a) for a in arrays), **moved, **options)
    assert isinstance(result, DeviceArray)
    return result.copy_to_host()


CASES = [
    case
    for channels, batch in ((1, 2), (3, 1), (4, 1))
    for case in kernel_cases.cases(channels, batch=batch, size=5)
    # float64, and filters of integers, of some axes and by transforms, are for arrays in main memory.
    if case.dtype != np.float64
    if public(case.call) is not None and not case.kernel.startswith("filter_")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {case.arrays[0].shape}")
def test_every_operation_is_within_the_bound_of_the_cpu(case: kernel_cases.Case) -> None:
    got = on_device(case.call, *case.arrays)
    assert got.dtype == case.dtype
    assert_within(got, case.expected, case.bound)


@pytest.mark.skipif(not simulated, reason="on a GPU the fast kernels are what every test has launched")
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name in ("conv2d 1x1", "conv2d valid", "dense")],  # few products
    ids=lambda case: f"{case.name} {case.arrays[0].shape}",
)
def test_sums_of_the_fast_kernels_are_within_the_bound_of_the_cpu(
    case: kernel_cases.Case, cuda_compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = watch_launches(cuda_compiler, monkeypatch)
    assert_within(on_device(case.call, *case.arrays), case.expected, case.bound)
    assert launched


def test_every_public_operation_is_mirrored_and_tested() -> None:
    tested = {public(case.call) for case in CASES} | {"convolve", "correlate"}
    tested |= {"separable_conv1d", "separable_conv2d", "depthwise_conv1d"}  # below
    tested |= {name for name, _ in CURVES}
    assert tested >= set(cc.ops.__all__)
    assert set(on_gpu.__all__) >= set(cc.ops.__all__)


@pytest.mark.parametrize("name", cc.ops.__all__)
def test_arguments_and_defaults_are_those_of_the_cpu(name: str) -> None:
    """What a call may say, and what the operation behind it is given, whatever the signature claims."""
    mirrored, plain = getattr(on_gpu, name), getattr(cc, name)
    mine, theirs = inspect.signature(mirrored).parameters, inspect.signature(plain).parameters
    # The threads are those of the CPU.
    assert list(mine.values())[:-1] == [p for p in theirs.values() if p.name != "num_threads"]
    assert mine["stream"].kind is inspect.Parameter.KEYWORD_ONLY and mine["stream"].default is None
    assert mirrored.__name__ == name and mirrored.__module__ == "convcore.cuda"
    assert plain is getattr(cc.ops, name) and mirrored.__wrapped__ is inspect.unwrap(plain)


CURVES: list[tuple[str, dict[str, Any]]] = [
    ("relu", {}), ("relu", {"max_value": 6.0}), ("leaky_relu", {}), ("leaky_divide", {}), ("rrelu", {}),
    ("relu", {"negative_slope": 0.5, "max_value": 2.0, "threshold": 1.0}), ("noisy_relu", {}), ("selu", {}),
    ("elu", {"alpha": 0.3}), ("celu", {"alpha": 2.0}), ("gelu", {}), ("gelu", {"approximate": True}),
    ("silu", {}), ("softplus", {}), ("softsign", {}), ("sigmoid", {}), ("hard_sigmoid", {}),
    ("hard_silu", {}), ("tanh", {}), ("exponential", {}), ("mish", {}),
]  # fmt: skip
SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1e-8, -1e-8, 0.3, -0.3, 1.0, -1.0, 3.0, -3.0, 5.9,
     6.1, -5.0, -9.0, -12.0, 20.0, -20.0, 80.0, -80.0, 88.0, -88.0, 89.0, -300.0],
    np.float32,
)  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CURVES, ids=str)
def test_activations_at_the_ends(name: str, options: dict[str, Any]) -> None:
    # CUDA's exponential, expm1 and erfc are within 2, 1 and 4 units, and each formula adds a few roundings;
    # where the argument of an exponential is itself rounded, its size in units of 2^-24 shows.
    allowed = {"gelu": 2 * 88 if options else 16, "mish": 8}.get(name, 6)
    rounded = {k: np.float32(v) if isinstance(v, float) else v for k, v in options.items()}
    exact = reference.ACTIVATIONS[name](SPECIAL, **rounded)
    got = getattr(on_gpu, name)(to_device(SPECIAL), **options).copy_to_host()
    normal = ~(np.abs(exact) < np.finfo(np.float32).smallest_normal)
    assert ulp_difference(got, exact)[normal].max() <= allowed
    assert_within(got[~normal], exact[~normal], allowed * 2.0**-149)


def floats(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X, W = floats(1, 2, 5, 6, 4), floats(2, 3, 2, 4, 3)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_filters_at_every_kind_of_edge(name: str, mode: str) -> None:
    for x, w in (
        (floats(3, 7), floats(4, 3)),
        (floats(5, 5, 4), floats(6, 3, 2)),
        (floats(7, 3, 2, 4), floats(8, 2, 2, 3)),
    ):
        got = getattr(on_gpu, name)(to_device(x), to_device(w), mode=mode, cval=0.5).copy_to_host()
        expected = getattr(cc, name)(x, w, mode=mode, cval=0.5)
        assert_within(got, expected, 4 * w.size * 2.0**-24 * np.abs(w).sum() * max(np.abs(x).max(), 0.5))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_filters_of_every_extent(name: str, mode: str) -> None:
    x, w = floats(5, 5, 4), floats(6, 3, 2)
    got = getattr(on_gpu, name)(to_device(x), to_device(w), mode=mode).copy_to_host()
    assert_within(
        got, getattr(cc, name)(x, w, mode=mode), 4 * w.size * 2.0**-24 * np.abs(w).sum() * np.abs(x).max()
    )


@pytest.mark.parametrize("options", [{"axes": 0}, {"separable": True}, {"method": "fft"}])
def test_filters_for_main_memory_alone(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"correlate: .*main memory"):
        on_gpu.correlate(to_device(floats(5, 5, 4)), to_device(floats(6, 3, 2)), **options)


@pytest.mark.parametrize("options", [{"padding": "same"}, {"strides": 2}, {"dilation_rate": 2, "flip": True}])
def test_separable_convolution(options: dict[str, Any]) -> None:
    depthwise, pointwise, bias = floats(9, 3, 2, 4, 2), floats(10, 1, 1, 8, 3), floats(11, 3)
    arrays = X, depthwise, pointwise, bias
    got = on_gpu.separable_conv2d(*map(to_device, arrays), activation="tanh", **options).copy_to_host()
    assert_within(got, cc.separable_conv2d(*arrays, activation="tanh", **options), 2e-6)
    line = X[:, 0], depthwise[:, 0], pointwise[0], bias
    assert_within(
        on_gpu.separable_conv1d(*map(to_device, line), **options).copy_to_host(),
        cc.separable_conv1d(*line, **options),
        2e-5,
    )
    assert_within(
        on_gpu.depthwise_conv1d(*map(to_device, line[:2]), **options).copy_to_host(),
        cc.depthwise_conv1d(*line[:2], **options),
        2e-6,
    )


def test_channels_first_and_views_are_read_where_they_lie() -> None:
    expected = cc.conv2d(X, W)
    x, w = to_device(X), to_device(W)
    first = to_device(np.ascontiguousarray(X.transpose(0, 3, 1, 2)))
    got = on_gpu.conv2d(first, w, data_format="channels_first")
    assert got.flags.c_contiguous
    assert_within(got.copy_to_host().transpose(0, 2, 3, 1), expected, 1e-5)
    turned = to_device(np.ascontiguousarray(X[:, ::-1]))[:, ::-1]
    assert_within(on_gpu.conv2d(turned, w).copy_to_host(), expected, 1e-5)
    assert_within(on_gpu.conv2d(x[1:, :, ::2], w).copy_to_host(), cc.conv2d(X[1:, :, ::2], W), 1e-5)
    rows = on_gpu.softmax(x.transpose(3, 1, 2, 0), axis=1).copy_to_host()
    assert_within(rows, cc.softmax(X.transpose(3, 1, 2, 0), axis=1), 1e-6)


def test_out_is_written_and_returned() -> None:
    x = to_device(X)
    out = on_gpu.empty(X.shape)
    assert on_gpu.relu(x, out=out) is out
    assert out.copy_to_host().tobytes() == cc.relu(X).tobytes()
    wide = on_gpu.empty((*X.shape[:-1], 8))
    on_gpu.relu(x, out=wide[..., ::2])
    assert wide[..., ::2].copy_to_host().tobytes() == cc.relu(X).tobytes()
    assert on_gpu.tanh(x, out=x) is x  # in place
    assert_within(x.copy_to_host(), np.tanh(X), 1e-6)


def test_out_that_overlaps_an_input_is_written_through_a_copy() -> None:
    memory = to_device(np.concatenate([X.ravel(), np.zeros(4, np.float32)]))
    x = memory[:-4].reshape(X.shape)
    shifted = memory[4:].reshape(X.shape)
    on_gpu.relu(x, out=shifted)
    assert shifted.copy_to_host().tobytes() == cc.relu(X).tobytes()


def test_other_types_are_refused_or_converted_as_on_the_cpu() -> None:
    wide = to_device(X.astype(np.float64))
    with pytest.raises(DTypeError, match=r"relu: x.*float64.*float32"):
        on_gpu.relu(wide)
    assert on_gpu.relu(wide, dtype="float32").copy_to_host().tobytes() == cc.relu(X).tobytes()
    with pytest.raises(DTypeError, match=r"out.*float64"):
        on_gpu.relu(to_device(X), out=wide)
    with pytest.raises(ArgumentError, match="shape of out"):
        on_gpu.relu(to_device(X), out=on_gpu.empty((1,)))


def test_nothing_moves_between_host_and_device_by_itself() -> None:
    x, w = to_device(X), to_device(W)
    for arrays in ((X, w), (x, W)):
        with pytest.raises(DeviceError, match=r"main memory.*to_device"):
            on_gpu.conv2d(*arrays)
    with pytest.raises(DeviceError, match="main memory"):
        on_gpu.relu(x, out=np.empty_like(X))
    with pytest.raises(DeviceError, match="copy_to_host"):
        np.asarray(x)
    with pytest.raises(DTypeError, match="no array"):
        on_gpu.relu([1.0])
    with pytest.raises(DTypeError, match="NumPy array"):
        to_device([1.0])


def test_a_variance_that_is_not_positive_gives_nan() -> None:
    one = to_device(np.ones(2, np.float32))
    got = on_gpu.batch_norm(
        one.reshape(1, 2), one, to_device(np.float32([-1.0, 1.0])), epsilon=0.0
    ).copy_to_host()
    assert np.isnan(got[0, 0]) and got[0, 1] == 0


def test_too_many_axes_are_refused_with_the_limit() -> None:
    deep = to_device(np.zeros((1,) * 8 + (2, 3), np.float32))
    assert on_gpu.relu(deep).shape == deep.shape  # contiguous: one long row
    with pytest.raises(ArgumentError, match="at most 8"):
        on_gpu.relu(deep.transpose(*range(8), 9, 8))


def test_shapes_are_checked_before_anything_runs() -> None:
    with pytest.raises(ArgumentError, match="do not fit"):
        on_gpu.conv2d(to_device(X), to_device(W[:, :, :3]))


@pytest.mark.skipif(simulated, reason="the simulator has no streams")
def test_streams_of_any_kind_and_no_other() -> None:
    x = to_device(X)
    numbered = cuda.stream()  # a handle alone would not keep it
    for stream in (None, 0, cuda.stream(), int(numbered.handle)):
        assert on_gpu.relu(x, stream=stream).copy_to_host().tobytes() == cc.relu(X).tobytes()
    with pytest.raises(ArgumentError, match="stream"):
        on_gpu.relu(x, stream="one")


def test_an_empty_batch_is_an_empty_result() -> None:
    none = to_device(X[:0])
    assert on_gpu.conv2d(none, to_device(W)).shape == (0, 3, 5, 3)
    assert on_gpu.relu(none).copy_to_host().shape == none.shape


def test_equal_bits_from_run_to_run() -> None:
    x, w = to_device(X), to_device(W)
    first = on_gpu.conv2d(x, w, padding="same").copy_to_host()
    assert all(
        on_gpu.conv2d(x, w, padding="same").copy_to_host().tobytes() == first.tobytes() for _ in range(3)
    )


class Foreign:
    """Memory of another package, known by its interface alone."""

    def __init__(self, owner: Any, **changes: Any) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {**owner.__cuda_array_interface__, "stream": None, **changes}


def test_arrays_of_other_packages_are_read_and_written_in_place() -> None:
    x, y = to_device(X), on_gpu.empty(X.shape)
    out = Foreign(y)
    assert on_gpu.relu(Foreign(x), out=out) is out
    assert y.copy_to_host().tobytes() == cc.relu(X).tobytes()
    strided = Foreign(x, shape=(2, 5, 6, 2), strides=(480, 96, 16, 8))
    assert on_gpu.relu(strided).copy_to_host().tobytes() == cc.relu(X[..., ::2]).tobytes()
    numba_array = cuda.to_device(X)
    assert on_gpu.relu(numba_array).copy_to_host().tobytes() == cc.relu(X).tobytes()
    with pytest.raises(ArgumentError, match="read-only"):
        on_gpu.relu(x, out=Foreign(y, data=(y.pointer, True)))
    with pytest.raises(DTypeError, match="masked"):
        on_gpu.relu(Foreign(x, mask=object()))


def test_an_array_says_what_it_is_without_being_read() -> None:
    x = to_device(X)
    assert repr(x) == "DeviceArray(shape=(2, 5, 6, 4), dtype=float32)"
    assert (x.ndim, x.size, x.nbytes, len(x), x.itemsize) == (4, X.size, X.nbytes, 2, 4)
    assert x.__cuda_array_interface__["strides"] is None
    assert x[:, ::2].__cuda_array_interface__["strides"] == X[:, ::2].strides
    low, high = x[:, ::-1].span
    assert (low, high) == (x.pointer, x.pointer + X.nbytes)
    with pytest.raises(ArgumentError, match="index"):
        x[[0, 1]]
    assert x[0, 1, 2, 3].shape == ()
    assert x.reshape(-1, 4).shape == (60, 4)
    assert (
        x.transpose(0, 3, 1, 2).reshape(2, -1).copy_to_host().tobytes() == X.transpose(0, 3, 1, 2).tobytes()
    )
    with pytest.raises(ValueError, match="reshape"):
        x.reshape(7)
