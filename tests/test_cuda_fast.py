"""The fast kernels: what their machine code is made of, and their numbers, by their PTX in an emulator.

Where the tests are asked to use a GPU, the numbers are its own. Every launch is what
:mod:`convcore.cuda.fast` says for a shape, so that the arithmetic of blocks and parts is run too. Bounds are
those of float32 sums, with what the operands lose in TF32 or bfloat16 on top.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import reference
from convcore.bfloat16 import from_bfloat16, to_bfloat16

from . import cuda_compile
from .memory import Array
from .ptx import LateCopy, OutOfBounds, Race
from .tolerance import assert_within, ulp_difference

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels for the GPU to test")

from convcore.cuda import fast, step
from convcore.cuda.arrays import to_device
from convcore.cuda.kernels import implicit_gemm
from convcore.cuda.kernels.activation import KINDS, LINEAR
from convcore.cuda.kernels.elementwise import BINARIES

from .cuda_emulated import MOST_PRODUCTS, NEVER, compiled, execute, products, to_compile, watch_launches

CAPABILITIES = [(8, 0), (9, 0)]
#: What the operands of a product lose in it, as a share of it; bfloat16 are rounded beforehand.
LOST = {"float32": 0.0, "3xtf32": 3 * 2.0**-22, "tf32": 2 * 2.0**-11, "bfloat16": 0.0}


@pytest.fixture(autouse=True)
def fast_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator cannot run them, so they are not chosen in it."""
    monkeypatch.setattr(fast, "enabled", True)


def run(compiler: cuda_compile.Compiler, choice: fast.Choice, arrays: Mapping[str, Array]) -> None:
    """Run a step's launches on copies of its arrays, and give back the result."""
    work = choice.work
    held = {
        "sums": np.full(max(work.sums, 1), np.nan, np.float32),
        "padded": np.full(max(work.padded, 1), 0xFF, np.uint8),
        **choice.constants,
        **arrays,
    }
    on_device = {name: to_device(array) for name, array in held.items()}
    with pytest.MonkeyPatch.context() as patch:
        watch_launches(compiler, patch)
        step.launch_work(work, on_device)
    held["y"][...] = on_device["y"].copy_to_host()


def packed(choice: fast.Choice, w: Array, bias: Array | None) -> dict[str, Array]:
    """Weights and bias as the kernels read them, each an array of its own."""
    packing = choice.packing
    assert packing is not None
    memory = np.full(packing.floats, np.nan, np.float32)
    packing.pack(w, bias, memory)
    at = packing.placed(0)["bias"] // 4
    return {"w": memory[:at].copy(), "bias": memory[at:].copy()}


# ---- machine code --------------------------------------------------------------------------------------


#: Types of rows before and after they are continued to whole chunks.
PADS = (("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16"))


def kernels() -> Iterator[tuple[fast.Kernel, cuda_compile.Gate]]:
    """Every kernel that the choice can name, with every epilogue, and all that VGG16 is made of."""
    no_memory = NEVER
    relu = KINDS.index("relu")
    products = {
        "float32": {"FFMA": 8 * 8 * 4, "LDS.128": 16},
        "tf32": {"HMMA.1688.F32.TF32": 16, "LDSM.4": 6},
        "3xtf32": {"HMMA.1688.F32.TF32": 48, "LDSM.4": 6},
        "bfloat16": {"HMMA.16816.F32.BF16": 16, "LDSM.4": 6},
    }
    loaded = {"float32": {"LDG.128": 1}, "bfloat16": {"LDG.64": 1}}
    stored = {"float32": {"STG.128": 1}, "bfloat16": {"STG.64": 1}}
    for arithmetic, has in products.items():
        for width in implicit_gemm.WIDTHS:
            for activation, pool, split in (
                (LINEAR, False, False),
                (relu, False, False),
                (relu, True, False),
                (LINEAR, False, True),
                *(((LINEAR, True, True),) if width == max(implicit_gemm.WIDTHS) else ()),
            ):
                results = ("float32", "bfloat16") if arithmetic == "bfloat16" and not split else ("float32",)
                for result in results:
                    gate = cuda_compile.Gate({**has, **stored[result], "LDGSTS.128": 12}, no_memory, 255)
                    yield fast.Kernel("conv", (arithmetic, width, activation, pool, split, result)), gate
    for rows, activation in ((1, LINEAR), (1, relu), (8, relu)):
        for types, products_of_four in (
            (("float32", "float32"), 16),
            (("bfloat16", "float32"), 32),
            (("bfloat16", "bfloat16"), 32),
        ):
            has = {"LDG.128": 8, "FFMA": rows * products_of_four, "SHFL": 20}
            yield fast.Kernel("dense", (rows, activation, *types)), cuda_compile.Gate(has, no_memory, 168)
    for activation, pool in ((LINEAR, False), (relu, False), (relu, True)):
        for result in ("float32", "bfloat16"):
            gate = cuda_compile.Gate({"LDG": 2}, no_memory, 40)
            yield fast.Kernel("sum", (activation, pool, result)), gate
    for types in PADS:
        store = {"STG.128": 1, "LDG": 8 if types[1] == "bfloat16" else 4}
        yield fast.Kernel("pad", types), cuda_compile.Gate(store, no_memory, 40)
    plain = ("float32", "float32")
    for kind in range(len(KINDS)):
        moved = {"LDG.128": 1, "STG.128": 1}
        yield fast.Kernel("activation", (kind, *plain)), cuda_compile.Gate(moved, no_memory, 64)
    for types in itertools.product(("float32", "bfloat16"), repeat=2):
        moved = {**loaded[types[0]], **stored[types[1]]}
        if types != plain:
            yield fast.Kernel("activation", (relu, *types)), cuda_compile.Gate(moved, no_memory, 64)
        moved_twice = {**moved, next(iter(loaded[types[0]])): 2}
        gate = cuda_compile.Gate(moved_twice, no_memory, 64)
        yield fast.Kernel("binary", (BINARIES.index("add"), relu, types[0], *types)), gate
        for largest in (True, False):
            yield fast.Kernel("pool", (largest, *types)), cuda_compile.Gate(moved, no_memory, 64)
        yield fast.Kernel("softmax", types), cuda_compile.Gate({**moved, "SHFL": 10}, no_memory, 64)
    for signed in (True, False):
        gate = cuda_compile.Gate({"LDG.128": 1, "STG.128": 2, "FFMA": 8}, no_memory, 40)
        yield fast.Kernel("hu", (signed,)), gate


@pytest.fixture(scope="module")
def compiling(request: pytest.FixtureRequest, cuda_compiler: cuda_compile.Compiler) -> None:
    """Compiling all kernels whose machine code is about to be looked at has begun."""
    asked = (item.callspec.params for item in request.session.items if hasattr(item, "callspec"))
    cuda_compiler.expect(to_compile(p["kernel"], p["capability"]) for p in asked if "gate" in p)


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("capability", CAPABILITIES, ids=["sm_80", "sm_90"])
@pytest.mark.parametrize(("kernel", "gate"), list(kernels()), ids=lambda v: getattr(v, "name", ""))
def test_machine_code_is_what_it_is_meant_to_be(
    cuda_compiler: cuda_compile.Compiler,
    kernel: fast.Kernel,
    gate: cuda_compile.Gate,
    capability: tuple[int, int],
) -> None:
    gate.check(compiled(cuda_compiler, kernel, capability))


def test_all_that_is_measured_has_a_gate() -> None:
    from convcore.bench.gpu import parts

    gated = {kernel for kernel, _ in kernels()}
    measured, _ = parts.made()
    assert measured and measured <= gated
    assert {kernel.family for kernel in gated} == set(fast._FAMILIES)


# ---- numbers -------------------------------------------------------------------------------------------


def floats(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


Geometry = tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]
#: Input, kernel, channels and options.
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


def bits_if(dtype: str, x: Array) -> Array:
    """`x` as a kernel reads it."""
    return to_bfloat16(x) if dtype == "bfloat16" else x


def numbers(y: Array) -> Array:
    """What a kernel has written, as float32."""
    return from_bfloat16(y) if y.dtype == np.uint16 else y


def nothing(shape: Sequence[int], dtype: str) -> Array:
    """NaN, for a kernel to write over."""
    return bits_if(dtype, np.full(shape, np.nan, np.float32))


def lost_by(result: str, exact: Array) -> Array:
    """What a result loses when it is rounded to its type, float32's own error apart."""
    return 2.0**-8 * np.abs(exact) if result == "bfloat16" else np.zeros_like(exact)


def check_convolution(
    compiler: cuda_compile.Compiler,
    geometry: Geometry,
    arithmetic: str,
    activation: str = "linear",
    *,
    source: str = "float32",
    result: str = "float32",
    pool: bool = False,
    parts: int | None = 1,
) -> fast.Choice:
    """Run the choice for a geometry and compare it with the reference; return the choice."""
    choice, held, exact, bound = convolution(
        geometry, arithmetic, activation, source=source, result=result, pool=pool, parts=parts
    )
    run(compiler, choice, held)
    assert_within(numbers(held["y"]), exact, bound)
    return choice


def convolution(
    geometry: Geometry,
    arithmetic: str,
    activation: str,
    *,
    source: str = "float32",
    result: str = "float32",
    pool: bool = False,
    parts: int | None = 1,
) -> tuple[fast.Choice, dict[str, Array], Array, Array]:
    """The choice for a geometry, its arrays, the exact result, and its bound."""
    from convcore import shapes

    shape, kernel, columns, options = geometry
    rank, name = len(kernel), "test"
    strides = shapes.spatial_tuple(options.get("strides", 1), rank, "strides", name)
    dilation = shapes.spatial_tuple(options.get("dilation_rate", 1), rank, "dilation", name)
    pairs = shapes.conv_padding(options.get("padding", "valid"), shape[1:-1], kernel, strides, dilation, name)
    flip = bool(options.get("flip", False))
    x, w, bias = floats(1, *shape), floats(2, *kernel, shape[-1], columns), floats(3, columns)

    def exact(x: Array, w: Array, bias: Array) -> Array:
        return reference.conv(x, w, bias, strides=strides, dilation=dilation, padding=pairs, flip=flip)

    # Products of bfloat16 are exact ones of rounded operands.
    operands = [numbers(to_bfloat16(v)) if arithmetic == "bfloat16" else v for v in (x, w)]
    y = exact(*operands, bias)
    length = w[..., 0].size
    bound = (2 * length * 2.0**-24 + 2 * LOST[arithmetic]) * exact(*map(np.abs, (*operands, bias)))
    choice = fast.conv(
        (shape[0], *triple(shape[1:-1], 1), shape[-1]), triple(kernel, 1), triple(y.shape[1:-1], 1), columns,
        arithmetic=arithmetic, source=source, result=result,
        stride=triple(strides, 1), dilation=triple(dilation, 1), low=triple([lo for lo, _ in pairs], 0),
        activation=(activation, ()), pool=pool, flip=flip, parts=parts,
    )  # fmt: skip
    if pool:
        y, bound = (reference.max_pool(v, (2, 2), (2, 2), ((0, 0), (0, 0))) for v in (y, bound))
    if activation == "relu":
        y = np.maximum(y, 0)
    held = {"x": bits_if(source, x), "y": nothing(y.shape, result), **packed(choice, w, bias)}
    return choice, held, y, bound + lost_by(result, y)


@pytest.mark.parametrize("arithmetic", LOST)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolution(cuda_compiler: cuda_compile.Compiler, name: str, arithmetic: str) -> None:
    check_convolution(cuda_compiler, GEOMETRIES[name], arithmetic)


@pytest.mark.parametrize("rows", [200, 4])
@pytest.mark.parametrize("inputs", [1, 3, 11, 12])
def test_sums_of_few_products_keep_the_bound_of_the_cpu(
    cuda_compiler: cuda_compile.Compiler, inputs: int, rows: int
) -> None:
    """What 3xTF32 loses of a product is more than the roundings of so few; no bias, which would hide it."""
    x, w = floats(1, rows, inputs), floats(2, inputs, 64)
    steps = {
        "conv": (x.reshape(rows, 1, 1, 1, inputs), (rows, 1, 1, 1, 64), {"kernel": (1, 1, 1)}),
        "dense": (x, (rows, 64), {}),
    }
    for operation, (source, shape, fields) in steps.items():
        y = nothing(shape, "float32")
        choice = fast.choose(operation, view(source), view(y), fields, "float32", False)
        assert choice is not None
        run(cuda_compiler, choice, {"x": source, "y": y, **packed(choice, w, None)})
        bound = 2 * inputs * 2.0**-24 * reference.dense(np.abs(x), np.abs(w))
        assert_within(y.reshape(rows, 64), reference.dense(x, w), bound)


@pytest.mark.parametrize("result", ["float32", "bfloat16"])
@pytest.mark.parametrize("parts", [1, 3])
def test_convolution_with_relu_and_pooling(
    cuda_compiler: cuda_compile.Compiler, parts: int, result: str
) -> None:
    arithmetic = "bfloat16" if result == "bfloat16" else "3xtf32"
    choice = check_convolution(
        cuda_compiler, GEOMETRIES["even"], arithmetic, "relu", result=result, pool=True, parts=parts
    )
    families = [one.kernel.family for one in choice.work.launches if one.kernel.family != "pad"]
    assert families == (["conv"] if parts == 1 else ["conv", "sum"])


@pytest.mark.parametrize("arithmetic", ["float32", "tf32"])
def test_convolution_in_parts(cuda_compiler: cuda_compile.Compiler, arithmetic: str) -> None:
    choice = check_convolution(cuda_compiler, GEOMETRIES["3x3 same"], arithmetic, "relu", parts=None)
    assert "in 2 parts" in choice.algorithm  # of 11 steps, each at least 4


@pytest.mark.parametrize("columns", [24, 3, 5, 70])
def test_convolution_from_and_to_bfloat16(cuda_compiler: cuda_compile.Compiler, columns: int) -> None:
    geometry = ((1, 9, 10, 40), (3, 3), columns, {"padding": "same"})
    choice = check_convolution(cuda_compiler, geometry, "bfloat16", source="bfloat16", result="bfloat16")
    assert [one.kernel.family for one in choice.work.launches] == ["conv"]


@pytest.mark.parametrize(
    ("arithmetic", "types"), [("3xtf32", PADS[0]), ("bfloat16", PADS[1]), ("bfloat16", PADS[2])]
)
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 7, 9])
def test_channels_that_are_no_whole_chunks(
    cuda_compiler: cuda_compile.Compiler, channels: int, arithmetic: str, types: tuple[str, str]
) -> None:
    """They are continued by zeros first, in memory that holds NaN before."""
    geometry: Geometry = ((2, 5, 6, channels), (3, 3), 6, {"padding": "same", "flip": channels == 3})
    choice = check_convolution(cuda_compiler, geometry, arithmetic, source=types[0])
    assert [one.kernel.name for one in choice.work.launches[:-1]] == [f"pad {types[0]} {types[1]}"]


def last_launch(
    compiler: cuda_compile.Compiler, arithmetic: str
) -> tuple[str, fast.Launch, dict[str, Array]]:
    """The PTX, the launch and the arrays of a convolution of 11 steps, or 7 of bfloat16, before it is run.

    Where a number of steps leaves 2 or 0 when divided by 3, the stage that a missing barrier lets be
    overwritten is one that nobody reads.
    """
    name = "even" if arithmetic == "bfloat16" else "3x3 same"
    choice, held, _, _ = convolution(GEOMETRIES[name], arithmetic, "linear")
    *before, last = choice.work.launches
    held["padded"] = np.zeros(choice.work.padded, np.uint8)
    for one in before:
        execute(compiled(compiler, one.kernel).ptx, one, held)
    return compiled(compiler, last.kernel).ptx, last, held


@pytest.mark.parametrize("arithmetic", LOST)
def test_a_barrier_less_is_a_race(cuda_compiler: cuda_compile.Compiler, arithmetic: str) -> None:
    ptx, one, held = last_launch(cuda_compiler, arithmetic)
    barriers = ptx.count("bar.sync")
    assert barriers >= 4
    pieces = ptx.split("bar.sync")
    for dropped in range(1, barriers + 1):
        mutated = "bar.sync".join(pieces[:dropped]) + "// bar.sync" + "bar.sync".join(pieces[dropped:])
        with pytest.raises(Race):
            execute(mutated, one, held)


@pytest.mark.parametrize("arithmetic", LOST)
def test_a_copy_that_is_not_waited_for_is_late(cuda_compiler: cuda_compile.Compiler, arithmetic: str) -> None:
    ptx, one, held = last_launch(cuda_compiler, arithmetic)
    for right, wrong in (
        ("cp.async.wait_group 1;", "cp.async.wait_group 2;"),
        ("cp.async.wait_group 1;", ""),
        ("cp.async.commit_group;", ""),
    ):
        assert ptx.count(right) == 1
        with pytest.raises(LateCopy):
            execute(ptx.replace(right, wrong), one, held)


@pytest.mark.parametrize("arithmetic", LOST)
@pytest.mark.parametrize("name", ["x", "w", "y"])
def test_an_array_that_is_too_short_is_not_left(
    cuda_compiler: cuda_compile.Compiler, name: str, arithmetic: str
) -> None:
    """The kernel reads all of x and its blocks' rows of w, and writes all of y: no chunk may be missing."""
    ptx, one, held = last_launch(cuda_compiler, arithmetic)
    steps, width = one.arguments[7], one.kernel.options[1]
    name = one.arguments[0] if name == "x" else name
    flat = held[name].reshape(-1)
    if name == "w":  # which has rows for wider blocks too
        flat = flat[: one.grid[1] * width * steps * implicit_gemm.STEP // flat.itemsize]
    execute(ptx, one, {**held, name: flat})
    with pytest.raises(OutOfBounds):
        execute(ptx, one, {**held, name: flat[: len(flat) - implicit_gemm.CHUNK // flat.itemsize]})


def check_dense(
    compiler: cuda_compile.Compiler, rows: int, inputs: int, outputs: int, arithmetic: str, **types: str
) -> fast.Choice:
    """Run a dense layer with ReLU and compare it with the reference; return the choice."""
    x, w, bias = floats(1, rows, inputs), floats(2, inputs, outputs), floats(3, outputs)
    choice = fast.dense(rows, inputs, outputs, arithmetic=arithmetic, activation=("relu", ()), **types)
    y = nothing((rows, outputs), types.get("result", "float32"))
    source = bits_if(types.get("source", "float32"), x)
    run(compiler, choice, {"x": source, "y": y, **packed(choice, w, bias)})
    if arithmetic == "bfloat16":
        x, w = numbers(to_bfloat16(x)), numbers(to_bfloat16(w))
    exact = np.maximum(reference.dense(x, w, bias), 0)
    bound = (2 * (inputs + 1) * 2.0**-24 + 2 * LOST[arithmetic]) * reference.dense(*map(np.abs, (x, w, bias)))
    assert_within(numbers(y), exact, bound + lost_by(types.get("result", "float32"), exact))
    return choice


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("result", ["float32", "bfloat16"])
@pytest.mark.parametrize("source", ["float32", "bfloat16"])
def test_dense_layers_of_few_rows(
    cuda_compiler: cuda_compile.Compiler, rows: int, source: str, result: str
) -> None:
    arithmetic = "3xtf32" if source == result == "float32" else "bfloat16"
    choice = check_dense(cuda_compiler, rows, 616, 30, arithmetic, source=source, result=result)
    assert choice.algorithm == "stream of weights" + (", bfloat16" if arithmetic == "bfloat16" else "")
    assert len(choice.work.launches) == (2 if arithmetic == "bfloat16" and source == "float32" else 1)


@pytest.mark.parametrize("arithmetic", ["3xtf32", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("inputs", [30, 5, 129])
def test_dense_layers_whose_inputs_are_no_whole_chunks(
    cuda_compiler: cuda_compile.Compiler, rows: int, inputs: int, arithmetic: str
) -> None:
    choice = check_dense(cuda_compiler, rows, inputs, 7, arithmetic)
    assert choice.work.launches[0].kernel.family == "pad"


@pytest.mark.parametrize("arithmetic", ["3xtf32", "bfloat16"])
def test_dense_layers_of_many_rows(cuda_compiler: cuda_compile.Compiler, arithmetic: str) -> None:
    choice = check_dense(cuda_compiler, 20, 132, 70, arithmetic)
    assert "matrix product" in choice.algorithm
    # Packed once for any batch.
    assert choice.packing == fast.dense(1, 132, 70, arithmetic=arithmetic).packing


def test_more_rows_than_a_side_may_have(cuda_compiler: cuda_compile.Compiler) -> None:
    """Positions along a side are 16-bit numbers; rows of a dense layer are not."""
    rows = (1 << 15) + 128
    x, w = floats(1, rows, 4), floats(2, 4, 4)
    choice = fast.dense(rows, 4, 4, arithmetic="3xtf32")
    (one,) = choice.work.launches
    assert one.grid == (rows // 128, 1, 1)
    y = nothing((rows, 4), "float32")
    held = {"x": x, "y": y, **packed(choice, w, None)}
    execute(compiled(cuda_compiler, one.kernel).ptx, one, held, blocks=[(rows // 128 - 1, 0, 0)])
    bound = (2 * 4 * 2.0**-24 + 2 * LOST["3xtf32"]) * (np.abs(x) @ np.abs(w))
    assert_within(y[-128:], reference.dense(x, w)[-128:], bound[-128:])


def view(a: Array, dtype: str | None = None) -> tuple[int, int, str, tuple[int, ...], tuple[int, ...]]:
    return 0, 0, dtype or a.dtype.name, a.shape, tuple(s // a.itemsize for s in a.strides)


def streamed(
    compiler: cuda_compile.Compiler, operation: str, x: Array, y: Array, types: tuple[str, str], **fields: Any
) -> Array:
    """Run what is chosen for an operation, which must be something, on arrays of `types`."""
    precision = "bfloat16" if "bfloat16" in types else "float32"
    choice = fast.choose(operation, view(x, types[0]), view(y, types[1]), fields, precision, False)
    assert choice is not None
    run(compiler, choice, {"x": x, "y": y})
    return y


TYPES = list(itertools.product(("float32", "bfloat16"), repeat=2))
PLAIN = ("float32", "float32")


@pytest.mark.parametrize(
    ("kind", "types"),
    [(kind, PLAIN) for kind in ("relu", "sigmoid", "tanh", "gelu", "mish", "exponential", "softplus")]
    + [("softplus", types) for types in TYPES[1:]],
)
def test_activations(cuda_compiler: cuda_compile.Compiler, kind: str, types: tuple[str, str]) -> None:
    x = np.concatenate([floats(1, 1200), np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 30, -30, 1e-20])])
    x = bits_if(types[0], x)
    y = streamed(cuda_compiler, "activation", x, nothing(x.shape, types[1]), types, activation=(kind, ()))
    exact = reference.ACTIVATIONS[kind](numbers(x))
    if types[1] == "float32":
        assert ulp_difference(y, exact).max() <= {"gelu": 16, "mish": 8}.get(kind, 6)
        return
    finite = np.isfinite(exact)
    assert np.array_equal(numbers(y)[~finite], exact[~finite], equal_nan=True)
    assert_within(numbers(y)[finite], exact[finite], (2.0**-8 + 12 * 2.0**-24) * np.abs(exact[finite]))


@pytest.mark.parametrize(
    ("operation", "types"),
    [(operation, ("float32",) * 3) for operation in BINARIES]
    + [("add", types) for types in itertools.product(("float32", "bfloat16"), repeat=3)],
)
def test_two_operands(
    cuda_compiler: cuda_compile.Compiler, operation: str, types: tuple[str, str, str]
) -> None:
    a, b = floats(1, 2, 300), floats(2, 2, 300)
    a[0, :4], b[0, :5] = [np.nan, np.inf, -np.inf, 0.0], [1.0, -np.inf, np.inf, -0.0, np.nan]
    a, b = bits_if(types[0], a), bits_if(types[1], b)
    precision = "bfloat16" if "bfloat16" in types else "float32"
    y = nothing(a.shape, types[2])
    fields = {"binary": operation, "activation": ("relu", ())}
    views = view(a, types[0]), view(y, types[2]), fields, precision, False, view(b, types[1])
    choice = fast.choose("binary", *views)
    assert choice is not None
    run(cuda_compiler, choice, {"x": a, "x2": b, "y": y})
    a, b = numbers(a), numbers(b)
    exact: Array
    with np.errstate(invalid="ignore"):
        exact = {
            "add": lambda: a + b,
            "subtract": lambda: a - b,
            "multiply": lambda: a * b,
            "maximum": lambda: np.maximum(a, b),
            "minimum": lambda: np.minimum(a, b),
            "prelu": lambda: np.where(a >= 0, a, b * a),
        }[operation]()
    expected = bits_if(types[2], np.maximum(exact, np.float32(0)))
    assert np.array_equal(numbers(y), numbers(expected), equal_nan=True)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("operation", ["max_pool", "average_pool"])
def test_pooling(cuda_compiler: cuda_compile.Compiler, operation: str, types: tuple[str, str]) -> None:
    x = floats(1, 2, 5, 7, 12)
    x[0, 2, 3, 1] = np.nan
    x = bits_if(types[0], x)
    exact = getattr(cc, operation)(numbers(x), (3, 2), strides=(2, 1), padding="same")
    y = nothing((2, 1, *exact.shape[1:]), types[1])
    fields = {"kernel": (1, 3, 2), "stride": (1, 2, 1), "pad_low": (0, 1, 0)}
    streamed(cuda_compiler, operation, x[:, np.newaxis], y, types, **fields)
    assert np.array_equal(y[:, 0], bits_if(types[1], exact), equal_nan=True)


@pytest.mark.parametrize("types", TYPES)
def test_softmax(cuda_compiler: cuda_compile.Compiler, types: tuple[str, str]) -> None:
    x = floats(1, 11, 132) * 20
    x[1], x[2, 5], x[3, :70], x[4, 3] = -np.inf, np.nan, -np.inf, np.inf
    x = bits_if(types[0], x)
    y = numbers(streamed(cuda_compiler, "softmax", x, nothing(x.shape, types[1]), types))
    exact = reference.softmax(numbers(x))
    assert np.array_equal(np.isnan(y), np.isnan(exact))
    finite = ~np.isnan(exact)
    # The exponential's own error, that of its rounded argument, and a sum of 132 numbers.
    bound = (2 * 2 + 2 * 200 + 132) * 2.0**-24 * exact[finite] + lost_by(types[1], exact[finite])
    # Below the smallest normal number the steps are those of the type's subnormal ones.
    smallest = 2.0**-149 if types[1] == "float32" else 2.0**-133
    assert_within(y[finite], exact[finite], bound * (1 + 2.0**-8) + smallest)


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize("air", [None, -1000.0])
def test_hounsfield_units(cuda_compiler: cuda_compile.Compiler, dtype: str, air: float | None) -> None:
    raw = np.random.default_rng(1).integers(0, 1 << 16, (3, 160)).astype(np.uint16).view(dtype)
    absent = int(raw[1, 7])
    slope, intercept = np.array([1.0, 0.5, 1.7]).astype(np.float32), np.float32([-1024, 0.25, 3])
    y = streamed(
        cuda_compiler, "hu_rescale", raw, np.empty(raw.shape, np.float32), (dtype, "float32"),
        padding_value=absent, padding_to=air,
        slope=slope.astype(np.float64), intercept=intercept.astype(np.float64),
    )  # fmt: skip
    expected = cc.hu_rescale(
        raw, slope, intercept, padding_value=absent, padding_to="article" if air is None else air
    )
    assert y.tobytes() == expected.tobytes()


def test_products_are_counted() -> None:
    """Before they are made: the emulator is given no more than it can do in a second or two."""
    geometry = (1, 1, 10, 10, 40), (1, 3, 3), (1, 10, 10), 24
    (whole,) = fast.conv(*geometry, arithmetic="tf32", low=(0, 1, 1), parts=1).work.launches
    assert products(whole) == 100 * 24 * 12 * 32  # 360 numbers of each sum, in steps of 32
    (stream,) = fast.dense(3, 616, 30, arithmetic="tf32").work.launches
    assert products(stream) == 3 * 616 * 30
    large = fast.conv((1, 1, 64, 64, 64), (1, 3, 3), (1, 64, 64), 64, arithmetic="tf32", low=(0, 1, 1))
    assert products(large.work.launches[0]) > MOST_PRODUCTS
    with pytest.raises(AssertionError, match=r"^150,994,944 products of conv tf32 64 .* take too long"):
        execute("", large.work.launches[0], {})


# ---- choice --------------------------------------------------------------------------------------------


def test_what_does_not_fit_goes_to_the_simple_kernels() -> None:
    def chosen(operation: str, x: Array, y: Array, **fields: Any) -> bool:
        return fast.choose(operation, view(x), view(y), fields, "float32", False) is not None

    x, y = np.zeros((1, 1, 4, 4, 8), np.float32), np.zeros((1, 1, 4, 4, 4), np.float32)
    assert chosen("conv", x, y)
    assert not chosen("conv", x[..., :4], y)  # gaps
    assert not chosen("conv", x.view(np.uint16), y)  # no type of its
    assert not chosen("conv", x, y, groups=2)
    assert not chosen("copy", x, x)
    wide, ones = view(x), (*view(x)[:3], x.shape, (0,) * 5)
    assert fast.choose("binary", wide, wide, {}, "float32", False, wide) is not None
    assert fast.choose("binary", wide, wide, {}, "float32", False, ones) is None  # stretched
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
