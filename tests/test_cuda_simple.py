"""The simple kernels as a GPU would run them: their machine code, and their real PTX run by the emulator.

Each is compared with the reference in float64 on the same inputs; the numbers are few, what matters is that
the compiled code, and not only its Python, does what it should.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convcore as cc
from convcore import reference
from convcore.bfloat16 import from_bfloat16, to_bfloat16

from .cuda_compile import FLOAT64, LOCAL_MEMORY, Compiler, Gate
from .cuda_simple import FLOAT64_KERNELS, NAMES, kernel, written_kernels
from .ptx import launch
from .tolerance import assert_within, dot_bound, relative_bound, ulp_difference

Array = NDArray[Any]
Run = Callable[..., None]

_THREADS = 64
_NO_ACTIVATION = (0, *np.zeros(3, np.float32))
_ONES = (1, 1, 1)


def test_every_kernel_is_tested() -> None:
    assert written_kernels() == set(NAMES)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize("name", NAMES)
def test_machine_code(cuda_compiler: Compiler, name: str, capability: tuple[int, int]) -> None:
    """Nothing lies in local memory, and float64 occurs only where the definition asks for it."""
    has_not = LOCAL_MEMORY if name in FLOAT64_KERNELS else (*LOCAL_MEMORY, *FLOAT64)
    Gate(has_not=has_not, most_registers=128).check(cuda_compiler.compile(kernel(name, capability)))


@pytest.fixture
def run(cuda_compiler: Compiler) -> Run:
    """Run a kernel with one thread for each of so many elements, as the package launches it."""

    def run(name: str, elements: int, *args: Any) -> None:
        ptx = cuda_compiler.compile(kernel(name)).ptx
        launch(ptx, -(-elements // _THREADS), _THREADS, args)

    return run


def _normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _unwritten(*shape: int) -> Array:
    return np.full(shape, np.nan, np.float32)


def _eight_axes(x: Array) -> Array:
    return x.reshape((1,) * (8 - x.ndim) + x.shape)


def test_conv(run: Run) -> None:
    """Groups, strides, dilation, a border, an input of odd strides, bias and an activation."""
    x = _normal(2, 4, 5, 12, 6)[:, :, :, ::2]
    w, bias = _normal(2, 3, 2, 3, 4, seed=1), _normal(4, seed=2)
    padding = ((1, 0), (1, 1), (0, 1))
    options: dict[str, Any] = {"strides": (1, 2, 1), "padding": padding, "dilation": (1, 1, 2), "groups": 2}
    exact = reference.conv(x, w, bias, **options)
    sizes = reference.conv(np.abs(x), np.abs(w), np.abs(bias), **options)
    y = _unwritten(*exact.shape)
    relu = (1, *np.zeros(3, np.float32))
    run("convolution:conv_kernel", y.size, y, x, w, bias, (1, 2, 1), (1, 1, 2), (1, 1, 0), False, *relu)
    assert_within(y, np.maximum(exact, 0), dot_bound(2 * 3 * 2 * 3 + 1, sizes))


def test_depthwise_conv(run: Run) -> None:
    x, w = _normal(2, 1, 6, 5, 3), _normal(1, 3, 2, 3, 2, seed=1)
    options: dict[str, Any] = {"strides": (1, 1, 2), "padding": ((0, 0), (1, 1), (0, 0)), "dilation": _ONES}
    exact = reference.depthwise_conv(x, w, **options)
    sizes = reference.depthwise_conv(np.abs(x), np.abs(w), **options)
    y = _unwritten(*exact.shape)
    run(
        "convolution:depthwise_kernel", y.size,
        y, x, w, np.zeros(6, np.float32), (1, 1, 2), _ONES, (0, 1, 0), False, *_NO_ACTIVATION,
    )  # fmt: skip
    assert_within(y, exact, dot_bound(6, sizes))


def test_conv_transpose(run: Run) -> None:
    x, w = _normal(1, 5, 4, 3), _normal(3, 3, 2, 3, seed=1)
    exact = cc.conv2d_transpose(x, w, strides=(2, 3))
    sizes = cc.conv2d_transpose(np.abs(x), np.abs(w), strides=(2, 3))
    y = _unwritten(*exact.shape)
    run(
        "convolution:conv_transpose_kernel", y.size,
        y[:, None], x[:, None], w[None], np.zeros(2, np.float32),
        (1, 2, 3), _ONES, (0, 0, 0), False, *_NO_ACTIVATION,
    )  # fmt: skip
    assert_within(y, exact, dot_bound(9 * 3, sizes))


def test_pooling(run: Run) -> None:
    x = _normal(2, 1, 7, 6, 3)
    x[0, 0, 2, 3, 1] = np.nan
    padding = ((0, 0), (1, 0), (0, 1))
    highest = reference.max_pool(x, (1, 3, 2), (1, 2, 2), padding)
    y = _unwritten(*highest.shape)
    run("pooling:max_pool_kernel", y.size, y, x, (1, 3, 2), (1, 2, 2), (0, 1, 0))
    assert np.array_equal(y, highest, equal_nan=True)
    x = _normal(2, 1, 7, 6, 3)
    mean = reference.average_pool(x, (1, 3, 2), (1, 2, 2), padding)
    sizes = reference.average_pool(np.abs(x), (1, 3, 2), (1, 2, 2), padding)
    run("pooling:average_pool_kernel", y.size, y, x, (1, 3, 2), (1, 2, 2), (0, 1, 0), False)
    assert_within(y, mean, dot_bound(7, sizes))
    y = _unwritten(2, 1, 1, 1, 3)
    run("pooling:global_max_pool_kernel", y.size, y, x)
    assert (y.ravel() == x.max((1, 2, 3)).ravel()).all()
    run("pooling:global_average_pool_kernel", y.size, y, x)
    exact = x.astype(np.float64).mean((1, 2, 3))
    assert_within(y.reshape(2, 3), exact, dot_bound(43, np.abs(x).astype(np.float64).mean((1, 2, 3))))


#: The functions by their numbers, with their parameters and the units in the last place that they may be off.
_FUNCTIONS: list[tuple[str, tuple[float, ...], dict[str, Any], float]] = [
    ("linear", (), {}, 0),
    ("relu", (), {}, 0),
    ("leaky_relu", (0.2,), {"negative_slope": float(np.float32(0.2))}, 1),
    ("leaky_divide", (5.5,), {}, 1),
    ("elu", (1.5,), {"alpha": 1.5}, 3),
    ("selu", (), {}, 3),
    ("gelu", (), {}, 6),
    ("silu", (), {}, 4),
    ("softplus", (), {}, 4),
    ("softsign", (), {}, 2),
    ("sigmoid", (), {}, 4),
    ("tanh", (), {}, 2),
    ("exponential", (), {}, 2),
    ("mish", (), {}, 8),
]
_KINDS = (
    "linear", "relu", "relu_general", "leaky_relu", "leaky_divide", "elu", "celu", "selu", "gelu",
    "gelu_tanh", "silu", "softplus", "softsign", "sigmoid", "hard_sigmoid", "hard_silu", "tanh",
    "exponential", "mish",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters", "options", "ulps"), _FUNCTIONS, ids=[f[0] for f in _FUNCTIONS]
)
def test_activations(
    run: Run, name: str, parameters: tuple[float, ...], options: dict[str, Any], ulps: float
) -> None:
    ends = np.float32([0, -0.0, 1e-30, -1e-30, 80, -80, np.inf, -np.inf, np.nan, -1, 1, 2.0**-40])
    x = np.concatenate([4 * _normal(244), ends])
    y = _unwritten(x.size)
    padded = np.float32([*parameters, *[0] * (3 - len(parameters))])
    run("elementwise:activation_kernel", x.size, _eight_axes(y), _eight_axes(x), _KINDS.index(name), *padded)
    with np.errstate(all="ignore"):
        exact = reference.ACTIVATIONS[name](x.astype(np.float64), **options)
    assert ulp_difference(y, exact).max() <= ulps


def test_two_operands(run: Run) -> None:
    a, b = _normal(3, 1, 5), _normal(1, 4, 5, seed=1)
    a, b = np.broadcast_arrays(a, b)
    names = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "maximum": np.maximum,
        "minimum": np.minimum,
    }
    for number, (name, function) in enumerate(names.items()):
        y = _unwritten(3, 4, 5)
        run(
            "elementwise:binary_kernel", y.size,
            _eight_axes(y), np.broadcast_to(a, (1,) * 5 + a.shape), np.broadcast_to(b, (1,) * 5 + b.shape),
            number, *_NO_ACTIVATION,
        )  # fmt: skip
        assert (y == function(a, b)).all(), name


def test_affine_and_dense(run: Run) -> None:
    x, scale, offset = _normal(9, 7), _normal(7, seed=1), _normal(7, seed=2)
    y = _unwritten(9, 7)
    run("elementwise:affine_kernel", y.size, y, x, scale, offset, *_NO_ACTIVATION)
    exact = x.astype(np.float64) * scale + offset
    assert (y == exact.astype(np.float32)).all()  # rounded once
    w, bias = _normal(7, 11, seed=3), _normal(11, seed=4)
    y = _unwritten(9, 11)
    run("rows:dense_kernel", y.size, y, x, w, bias, *_NO_ACTIVATION)
    sizes = np.abs(x).astype(np.float64) @ np.abs(w) + np.abs(bias)
    assert_within(y, reference.dense(x, w, bias), dot_bound(8, sizes))


def test_softmax(run: Run) -> None:
    x = 4 * _normal(70, 9)
    x[3, 4], x[5] = np.nan, -np.inf
    y = _unwritten(70, 9)
    run("rows:softmax_kernel", 70, y, x)
    with np.errstate(invalid="ignore"):
        exact = reference.softmax(x)
    assert np.isnan(y[[3, 5]]).all()
    kept = np.delete(np.arange(70), [3, 5])
    # The difference that goes into each exponential is rounded, an error of it that grows with its size.
    depth = np.abs(x[kept] - x[kept].max(1, keepdims=True))
    assert_within(y[kept], exact[kept], (relative_bound(9 + 6, 1) + relative_bound(1, depth)) * exact[kept])


def test_batch_norm(run: Run) -> None:
    mean, gamma, beta = (_normal(70, seed=s) for s in range(3))
    variance = np.abs(_normal(70, seed=3)) + np.float32(0.1)
    scale, offset = _unwritten(70), _unwritten(70)
    run("rows:batch_norm_affine_kernel", 70, scale, offset, mean, variance, gamma, beta, 1e-3)
    factor = gamma / np.sqrt(variance.astype(np.float64) + 1e-3)
    assert ulp_difference(scale, factor).max() <= 0.5001
    shift = beta - mean.astype(np.float64) * factor
    assert_within(
        offset, shift, relative_bound(1, shift) + relative_bound(4, beta + np.abs(mean * factor), np.float64)
    )


@pytest.mark.parametrize("distribution", ["rrelu", "noisy_relu"])
def test_draws_are_the_reference_s(run: Run, distribution: str) -> None:
    x = _normal(300)
    x[:64] = -1
    y, seed = _unwritten(300), 2**63 + 12345
    number = ("rrelu", "noisy_relu").index(distribution)
    run(
        "elementwise:sample_kernel", 300,
        _eight_axes(y), _eight_axes(x), number, np.uint64(seed), np.float32(3), np.float32(8),
    )  # fmt: skip
    if distribution == "rrelu":
        exact = reference.rrelu_sample(x, 3.0, 8.0, seed)
        assert_within(y, exact, relative_bound(4, exact))
    else:
        exact = reference.noisy_relu_sample(x, seed)
        noise = np.sqrt(1 / (1 + np.exp(-x.astype(np.float64)))) * np.abs(reference.philox_normal(seed, 300))
        assert_within(y, exact, relative_bound(8, np.abs(x) + noise))


def test_resampling(run: Run) -> None:
    x = _normal(1, 1, 5, 7, 3)
    for interpolation, name in (("bilinear", "linear_kernel"), ("nearest", "nearest_kernel")):
        exact = cc.resize(x[:, 0], (8, 9), interpolation=interpolation)
        y = _unwritten(1, 1, 8, 9, 3)
        scale = (1.0, 5 / 8, 7 / 9)
        # Centres lie on centres, (in + 1/2) = (out + 1/2) scale; the nearest sample is the one it falls in.
        offset = tuple(s / 2 - (0.5 if interpolation == "bilinear" else 0.0) for s in scale)
        run(f"resampling:{name}", y.size, y, x, scale, (0.0, *offset[1:]))
        if interpolation == "nearest":
            assert (y[:, 0] == exact).all()
        else:
            assert_within(y[:, 0], exact, relative_bound(8, np.abs(x).max()))


@pytest.mark.parametrize(
    ("border", "mode"), list(enumerate(["constant", "edge", "reflect", "symmetric", "wrap"]))
)
def test_borders(run: Run, border: int, mode: str) -> None:
    x = _normal(1, 1, 4, 5, 2)
    y = _unwritten(1, 1, 4 + 3, 5 + 4, 2)
    run("resampling:pad_kernel", y.size, y, x, (0, 2, 1), border, np.float32(7))
    widths = [(0, 0), (0, 0), (2, 1), (1, 3), (0, 0)]
    options: Any = {"constant_values": 7} if mode == "constant" else {}
    assert (y == np.pad(x, widths, mode=mode, **options)).all()  # type: ignore[call-overload]


def test_copies_and_fills(run: Run) -> None:
    x = _normal(3, 4, 5).transpose(2, 0, 1)
    y = _unwritten(5, 3, 8)[:, :, ::-2]
    run("copy:copy_kernel", y.size, _eight_axes(y), _eight_axes(x))
    assert (y == x).all()
    run("copy:fill_kernel", y.size, _eight_axes(y), np.float32(2.5))
    assert (y == 2.5).all()


def test_bfloat16(run: Run) -> None:
    """Both ways, ties and all kinds of numbers among them, from and to arrays of odd strides."""
    x = np.random.default_rng(0).integers(0, 1 << 32, 240, np.uint32)
    x[:8] = [0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x80000001]
    x = x.reshape(3, 4, 20).transpose(2, 0, 1)
    y = np.zeros((20, 3, 8), np.uint16)[:, :, ::-2]
    run("copy:to_bfloat16_kernel", y.size, _eight_axes(y), _eight_axes(x))
    assert (y == to_bfloat16(x.copy().view(np.float32))).all()
    back = np.zeros((20, 3, 4), np.uint32)
    run("copy:from_bfloat16_kernel", y.size, _eight_axes(back), _eight_axes(y))
    assert (back == from_bfloat16(y).view(np.uint32)).all()


def test_hounsfield_units(run: Run) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(-3000, 3000, (3, 50)).astype(np.int16)
    pixels[:, ::7] = -2000
    slope, intercept = np.array([1.0, 0.25, 1.37]), np.array([-1024.0, 0.5, 3.125])
    options: dict[str, Any] = {"padding_value": -2000, "padding_to": -1000.0}
    y = _unwritten(3, 50)
    run("hounsfield:hu_kernel", y.size, y, pixels, slope, intercept, True, -2000, True, -1000.0)
    exact = reference.hu_rescale(pixels, slope, intercept, **options)
    assert (y == exact.astype(np.float32)).all()
    whole = np.zeros((3, 50), np.int16)
    run("hounsfield:hu_int16_kernel", y.size, whole, pixels, slope, intercept, True, -2000, True, -1000.0)
    assert (whole == np.clip([[round(v) for v in row] for row in exact.tolist()], -32768, 32767)).all()


def test_the_numbers_of_activations_are_the_package_s() -> None:
    """Read from its source: the package's module needs numba."""
    source = Path(cc.__file__).parent / "cuda" / "kernels" / "activation.py"
    assigned = {
        target.id: node.value
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ast.literal_eval(assigned["KINDS"]) == _KINDS
