"""The fast kernels for a GPU without one: what their machine code is made of, and their PTX in an emulator.

Every launch is what :mod:`convcore.cuda.fast` says for a shape, so that the arithmetic of blocks and parts is
run too. Bounds are those of float32 sums, with what the operands lose in TF32 or bfloat16 on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import reference

from . import cuda_compile
from .memory import Array
from .ptx import Pointer, Race, launch
from .tolerance import assert_within, ulp_difference

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels for the GPU to test")

from convcore.cuda import fast
from convcore.cuda.kernels import implicit_gemm
from convcore.cuda.kernels.activation import KINDS, LINEAR

CAPABILITIES = [(8, 0), (9, 0)]
#: What the operands of a product lose, as a share of it.
LOST = {"float32": 0.0, "3xtf32": 3 * 2.0**-22, "tf32": 2 * 2.0**-11}


@pytest.fixture(autouse=True)
def fast_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator cannot run them, so they are not chosen in it."""
    monkeypatch.setattr(fast, "enabled", True)


def compiled(
    compiler: cuda_compile.Compiler, kernel: fast.Kernel, capability: tuple[int, int] = (9, 0)
) -> cuda_compile.Compiled:
    bounds = kernel.threads, kernel.blocks_per_processor
    module = "convcore.cuda.fast:"
    return compiler.compile(
        cuda_compile.Kernel(f"{module}{kernel!r}.make()", f"{kernel!r}.signature", capability, bounds)
    )


def run(compiler: cuda_compile.Compiler, choice: fast.Choice, arrays: Mapping[str, Array]) -> None:
    """Run a step's launches in the emulator."""
    held = {"sums": np.full(max(choice.work.sums, 1), np.nan, np.float32), **choice.constants, **arrays}
    for one in choice.work.launches:
        execute(compiled(compiler, one.kernel).ptx, one, held)


def execute(ptx: str, one: fast.Launch, arrays: Mapping[str, Array]) -> None:
    kernel = one.kernel
    arguments = [
        Pointer(arrays[v]) if isinstance(v, str) else (np.float32 if "float" in str(kind) else np.int32)(v)
        for v, kind in zip(one.arguments, kernel.signature, strict=True)
    ]
    launch(ptx, one.grid, (kernel.threads, 1, 1), arguments, shared_bytes=kernel.shared_bytes)


def packed(choice: fast.Choice, w: Array, bias: Array | None) -> dict[str, Array]:
    """Weights and bias as the kernels read them, each an array of its own."""
    packing = choice.packing
    assert packing is not None
    memory = np.full(packing.floats, np.nan, np.float32)
    packing.pack(w, bias, memory)
    at = packing.placed(0)["bias"] // 4
    return {"w": memory[:at].copy(), "bias": memory[at:].copy()}


# ---- machine code --------------------------------------------------------------------------------------


#: Activation, pooling, split.
EPILOGUES = ((LINEAR, False, False), (KINDS.index("relu"), True, False), (LINEAR, False, True))


def kernels() -> Iterator[tuple[fast.Kernel, cuda_compile.Gate]]:
    """Every kernel that the choice can name, in its plainest form and with every epilogue."""
    no_memory = (*cuda_compile.LOCAL_MEMORY, *cuda_compile.LONG_DIVISION, *cuda_compile.FLOAT64)
    relu = KINDS.index("relu")
    products = {
        "float32": {"FFMA": 8 * 8 * 4, "LDS.128": 16},
        "tf32": {"HMMA.1688.F32.TF32": 16, "LDSM.4": 6},
        "3xtf32": {"HMMA.1688.F32.TF32": 48, "LDSM.4": 6},
        "bfloat16": {"HMMA.16816.F32.BF16": 16, "LDSM.4": 6},
    }
    for arithmetic, has in products.items():
        for width in implicit_gemm.WIDTHS:
            for activation, pool, split in (
                (LINEAR, False, False),
                (relu, True, False),
                (LINEAR, False, True),
            ):
                wide = {"STG.64": 1} if arithmetic == "bfloat16" and not split else {"STG.128": 1}
                gate = cuda_compile.Gate({**has, **wide, "LDGSTS.128": 12}, no_memory, 255)
                yield fast.Kernel("conv", (arithmetic, width, activation, pool, split)), gate
    for rows in (1, 8):
        gate = cuda_compile.Gate({"LDG.128": 8, "FFMA": 32, "SHFL": 20}, no_memory, 168)
        yield fast.Kernel("dense", (rows, relu)), gate
    yield fast.Kernel("sum", (relu, True)), cuda_compile.Gate({"LDG": 2}, no_memory, 40)
    moved = {"LDG.128": 1, "STG.128": 1}
    for kind in range(len(KINDS)):
        yield fast.Kernel("activation", (kind,)), cuda_compile.Gate(moved, no_memory, 64)
    for largest in (True, False):
        yield fast.Kernel("pool", (largest,)), cuda_compile.Gate(moved, no_memory, 64)
    yield fast.Kernel("softmax", ()), cuda_compile.Gate({**moved, "SHFL": 10}, no_memory, 64)
    for signed in (True, False):
        gate = cuda_compile.Gate({"LDG.128": 1, "STG.128": 2, "FFMA": 8}, no_memory, 40)
        yield fast.Kernel("hu", (signed,)), gate


@pytest.mark.parametrize("capability", CAPABILITIES, ids=["sm_80", "sm_90"])
@pytest.mark.parametrize(("kernel", "gate"), list(kernels()), ids=lambda v: getattr(v, "name", ""))
def test_machine_code_is_what_it_is_meant_to_be(
    cuda_compiler: cuda_compile.Compiler,
    kernel: fast.Kernel,
    gate: cuda_compile.Gate,
    capability: tuple[int, int],
) -> None:
    gate.check(compiled(cuda_compiler, kernel, capability))


# ---- numbers -------------------------------------------------------------------------------------------


def floats(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


Geometry = tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]
#: Input, kernel, channels and options. The first has 11 steps: with a number that leaves 2 or 0 when divided
#: by 3, two stages of the ring lie where a missing barrier would not show.
GEOMETRIES: dict[str, Geometry] = {
    "3x3 same": ((1, 9, 10, 36), (3, 3), 20, {"padding": "same"}),
    "more than a block": ((2, 9, 9, 8), (3, 3), 132, {"padding": "same"}),
    "strides, dilation, sides": ((2, 7, 11, 12), (3, 2), 5, {"strides": (2, 1), "dilation_rate": (1, 2),
                                                           "padding": ((0, 2), (1, 0))}),
    "four channels, flipped": ((1, 6, 8, 4), (5, 1), 66, {"padding": "full", "flip": True}),
    "volume": ((1, 4, 5, 3, 4), (2, 3, 2), 9, {"padding": "same", "strides": (1, 2, 1)}),
    "even": ((2, 6, 10, 44), (3, 3), 70, {"padding": "same"}),
    "1x1": ((1, 12, 11, 68), (1, 1), 130, {}),
}  # fmt: skip


def triple(values: Sequence[int], fill: int) -> tuple[int, ...]:
    return (*(fill,) * (3 - len(values)), *values)


def convolution(
    name: str, arithmetic: str, activation: str, *, pool: bool = False, parts: int | None = None
) -> tuple[fast.Choice, Array, Array, Array, Array, Array]:
    """The choice for a geometry, input, weights, bias, the exact result, and its bound."""
    from convcore import shapes

    shape, kernel, columns, options = GEOMETRIES[name]
    rank = len(kernel)
    strides = shapes.spatial_tuple(options.get("strides", 1), rank, "strides", name)
    dilation = shapes.spatial_tuple(options.get("dilation_rate", 1), rank, "dilation", name)
    pairs = shapes.conv_padding(options.get("padding", "valid"), shape[1:-1], kernel, strides, dilation, name)
    flip = bool(options.get("flip", False))
    x, w, bias = floats(1, *shape), floats(2, *kernel, shape[-1], columns), floats(3, columns)

    def exact(x: Array, w: Array, bias: Array) -> Array:
        return reference.conv(x, w, bias, strides=strides, dilation=dilation, padding=pairs, flip=flip)

    y = exact(x, w, bias)
    length = w[..., 0].size
    bound = (2 * length * 2.0**-24 + 2 * LOST[arithmetic]) * exact(*map(np.abs, (x, w, bias)))
    choice = fast.conv(
        (shape[0], *triple(shape[1:-1], 1), shape[-1]), triple(kernel, 1), triple(y.shape[1:-1], 1), columns,
        arithmetic=arithmetic, stride=triple(strides, 1), dilation=triple(dilation, 1),
        low=triple([lo for lo, _ in pairs], 0), activation=(activation, ()),
        pool=pool, flip=flip, parts=parts,
    )  # fmt: skip
    if pool:
        y, bound = (reference.max_pool(v, (2, 2), (2, 2), ((0, 0), (0, 0))) for v in (y, bound))
    if activation == "relu":
        y = np.maximum(y, 0)
    return choice, x, w, bias, y, bound


@pytest.mark.parametrize("arithmetic", LOST)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolution(cuda_compiler: cuda_compile.Compiler, name: str, arithmetic: str) -> None:
    choice, x, w, bias, exact, bound = convolution(name, arithmetic, "linear", parts=1)
    y = np.full(exact.shape, np.nan, np.float32)
    run(cuda_compiler, choice, {"x": x, "y": y, **packed(choice, w, bias)})
    assert_within(y, exact, bound)


@pytest.mark.parametrize("parts", [1, 3])
def test_convolution_with_relu_and_pooling(cuda_compiler: cuda_compile.Compiler, parts: int) -> None:
    choice, x, w, bias, exact, bound = convolution("even", "3xtf32", "relu", pool=True, parts=parts)
    assert len(choice.work.launches) == (1 if parts == 1 else 2)
    y = np.full(exact.shape, np.nan, np.float32)
    run(cuda_compiler, choice, {"x": x, "y": y, **packed(choice, w, bias)})
    assert_within(y, exact, bound)


@pytest.mark.parametrize("arithmetic", ["float32", "tf32"])
def test_convolution_in_parts(cuda_compiler: cuda_compile.Compiler, arithmetic: str) -> None:
    choice, x, w, bias, exact, bound = convolution("3x3 same", arithmetic, "relu")
    assert "in 2 parts" in choice.algorithm  # of 11 steps, each at least 4
    y = np.full(exact.shape, np.nan, np.float32)
    run(cuda_compiler, choice, {"x": x, "y": y, **packed(choice, w, bias)})
    assert_within(y, exact, bound)


def bfloat16(x: Array) -> Array:
    """Bits of the nearest bfloat16, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("width", implicit_gemm.WIDTHS)
def test_convolution_in_bfloat16(cuda_compiler: cuda_compile.Compiler, width: int) -> None:
    x, w, bias = bfloat16(floats(1, 1, 9, 10, 40)), floats(2, 3, 3, 40, 24), floats(3, 24)
    rows = np.zeros((128, 6 * 64), np.float32)  # 360 products, in steps of 64
    rows[:24, :360] = w.reshape(360, 24).T
    weights = bfloat16(rows)
    exact = reference.conv(
        from_bfloat16(x), from_bfloat16(bfloat16(w)), bias,
        strides=(1, 1), dilation=(1, 1), padding=((1, 1), (1, 1)),
    )  # fmt: skip
    y = np.full(exact.shape, 0x7FC0, np.uint16)
    kernel = fast.Kernel("conv", ("bfloat16", width, LINEAR, False, False))
    numbers = (90, 40, 24, 6, 1, 9, 10, 1, 9, 10, 1, 3, 3, 1, 1, 1, 1, 1, 1, 0, 1, 1)
    one = fast.Launch(kernel, (1, 1, 1), ("x", "w", "bias", "y", *numbers, 0.0, 0.0, 0.0))
    held = {"x": x, "w": weights, "bias": np.append(bias, np.zeros(3, np.float32)), "y": y}
    run(cuda_compiler, fast.Choice("", fast.Work((one,))), held)
    sums = reference.conv(
        np.abs(from_bfloat16(x)), np.abs(from_bfloat16(bfloat16(w))), np.abs(bias),
        strides=(1, 1), dilation=(1, 1), padding=((1, 1), (1, 1)),
    )  # fmt: skip
    assert_within(from_bfloat16(y), exact, 2.0**-8 * np.abs(exact) + 2 * 361 * 2.0**-24 * sums)


def test_a_barrier_less_is_a_race(cuda_compiler: cuda_compile.Compiler) -> None:
    choice, x, w, bias, exact, _ = convolution("3x3 same", "tf32", "linear", parts=1)
    (one,) = choice.work.launches
    ptx = compiled(cuda_compiler, one.kernel).ptx
    barriers = ptx.count("bar.sync")
    assert barriers >= 4
    held = {"x": x, "y": np.empty(exact.shape, np.float32), **packed(choice, w, bias)}
    pieces = ptx.split("bar.sync")
    for dropped in range(1, barriers + 1):
        mutated = "bar.sync".join(pieces[:dropped]) + "// bar.sync" + "bar.sync".join(pieces[dropped:])
        with pytest.raises(Race):
            execute(mutated, one, held)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_dense_layers_of_few_rows(cuda_compiler: cuda_compile.Compiler, rows: int) -> None:
    x, w, bias = floats(1, rows, 620), floats(2, 620, 30), floats(3, 30)
    choice = fast.dense(rows, 620, 30, arithmetic="3xtf32", activation=("relu", ()))
    assert choice.algorithm == "stream of weights"
    y = np.full((rows, 30), np.nan, np.float32)
    run(cuda_compiler, choice, {"x": x, "y": y, **packed(choice, w, bias)})
    bound = 2 * 621 * 2.0**-24 * reference.dense(*map(np.abs, (x, w, bias)))
    assert_within(y, np.maximum(reference.dense(x, w, bias), 0), bound)


def test_dense_layers_of_many_rows(cuda_compiler: cuda_compile.Compiler) -> None:
    x, w = floats(1, 20, 132), floats(2, 132, 70)
    choice = fast.dense(20, 132, 70, arithmetic="3xtf32")
    assert "matrix product" in choice.algorithm
    assert choice.packing == fast.dense(1, 132, 70, arithmetic="3xtf32").packing  # packed once for any batch
    y = np.full((20, 70), np.nan, np.float32)
    run(cuda_compiler, choice, {"x": x, "y": y, **packed(choice, w, None)})
    bound = (2 * 132 * 2.0**-24 + 2 * LOST["3xtf32"]) * (np.abs(x) @ np.abs(w))
    assert_within(y, reference.dense(x, w), bound)


def view(a: Array) -> tuple[int, int, str, tuple[int, ...], tuple[int, ...]]:
    return 0, 0, a.dtype.name, a.shape, tuple(s // a.itemsize for s in a.strides)


def streamed(compiler: cuda_compile.Compiler, operation: str, x: Array, y: Array, **fields: Any) -> Array:
    """Run what is chosen for an operation, which must be something."""
    choice = fast.choose(operation, view(x), view(y), fields, "float32", False)
    assert choice is not None
    run(compiler, choice, {"x": x, "y": y})
    return y


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh", "gelu", "mish", "exponential", "softplus"])
def test_activations(cuda_compiler: cuda_compile.Compiler, kind: str) -> None:
    x = np.concatenate([floats(1, 1200), np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 30, -30, 1e-20])])
    y = streamed(cuda_compiler, "activation", x, np.empty_like(x), activation=(kind, ()))
    exact = reference.ACTIVATIONS[kind](x)
    assert ulp_difference(y, exact).max() <= {"gelu": 16, "mish": 8}.get(kind, 6)


@pytest.mark.parametrize("operation", ["max_pool", "average_pool"])
def test_pooling(cuda_compiler: cuda_compile.Compiler, operation: str) -> None:
    x = floats(1, 2, 5, 7, 8)
    x[0, 2, 3, 1] = np.nan
    exact = getattr(cc, operation)(x, (3, 2), strides=(2, 1), padding="same")
    y = np.empty((2, 1, *exact.shape[1:]), np.float32)
    fields = {"kernel": (1, 3, 2), "stride": (1, 2, 1), "pad_low": (0, 1, 0)}
    streamed(cuda_compiler, operation, x[:, np.newaxis], y, **fields)
    assert np.array_equal(y[:, 0], exact, equal_nan=True)


def test_softmax(cuda_compiler: cuda_compile.Compiler) -> None:
    x = floats(1, 11, 132) * 20
    x[1], x[2, 5], x[3, :70], x[4, 3] = -np.inf, np.nan, -np.inf, np.inf
    y = streamed(cuda_compiler, "softmax", x, np.empty_like(x))
    exact = reference.softmax(x)
    assert np.array_equal(np.isnan(y), np.isnan(exact))
    finite = ~np.isnan(exact)
    # The exponential's own error, that of its rounded argument, and a sum of 132 numbers.
    assert_within(y[finite], exact[finite], (2 * 2 + 2 * 200 + 132) * 2.0**-24 * exact[finite] + 2.0**-149)


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize("air", [None, -1000.0])
def test_hounsfield_units(cuda_compiler: cuda_compile.Compiler, dtype: str, air: float | None) -> None:
    raw = np.random.default_rng(1).integers(0, 1 << 16, (3, 160)).astype(np.uint16).view(dtype)
    absent = int(raw[1, 7])
    slope, intercept = np.array([1.0, 0.5, 1.7]).astype(np.float32), np.float32([-1024, 0.25, 3])
    y = streamed(
        cuda_compiler, "hu_rescale", raw, np.empty(raw.shape, np.float32),
        padding_value=absent, padding_to=air,
        slope=slope.astype(np.float64), intercept=intercept.astype(np.float64),
    )  # fmt: skip
    expected = cc.hu_rescale(
        raw, slope, intercept, padding_value=absent, padding_to="article" if air is None else air
    )
    assert y.tobytes() == expected.tobytes()


# ---- choice --------------------------------------------------------------------------------------------


def test_what_does_not_fit_goes_to_the_simple_kernels() -> None:
    def chosen(operation: str, x: Array, y: Array, **fields: Any) -> bool:
        return fast.choose(operation, view(x), view(y), fields, "float32", False) is not None

    x, y = np.zeros((1, 1, 4, 4, 8), np.float32), np.zeros((1, 1, 4, 4, 4), np.float32)
    assert chosen("conv", x, y)
    assert not chosen("conv", x[..., :3], y)  # channels that are no whole chunks
    assert not chosen("conv", x[..., ::2], y)  # gaps
    assert not chosen("conv", x, y, groups=2)
    assert not chosen("copy", x, x)
    assert not chosen("activation", np.zeros(7, np.float32), np.zeros(7, np.float32))
    hu = {"padding_value": None, "padding_to": None, "intercept": np.zeros(1)}
    pixels, units = np.zeros((1, 16), np.int16), np.zeros((1, 16), np.float32)
    assert chosen("hu_rescale", pixels, units, slope=np.ones(1), **hu)
    assert not chosen("hu_rescale", pixels, units, slope=np.array([0.1]), **hu)  # no float32


def test_parts_fill_the_gpu_and_no_more() -> None:
    for tiles in (1, 3, 8, 50, 264, 5000):
        for steps in (1, 4, 18, 144):
            parts = fast.parts_of(tiles, steps)
            assert 1 <= parts <= max(1, steps // 4)
            assert parts == 1 or parts * tiles <= 264
