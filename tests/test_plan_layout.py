"""Blocked maps between convolutions: which values are blocked, and that the numbers stay right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from convcore import _native, reference
from convcore.loader.graph import Graph
from convcore.plan import Device, Plan, build
from convcore.plan.fuse import fuse
from convcore.plan.layout import blocked_values
from convcore.run.cpu import CpuRunner
from convcore.run.profile import profile
from convcore.shapes import conv_transpose_geometry

from .bits import assert_equal_bits
from .graphs import GraphBuilder

ISAS = _native.isas()
TWO = {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"}


def _block(b: GraphBuilder, x: str, channels: int) -> str:
    return b.activation(b.conv(x, channels, (3, 3)), "relu")


def vgg_like() -> Graph:
    b = GraphBuilder(1)
    y = _block(b, _block(b, b.input(37, 34, 3), 24), 33)
    y = b.add("max_pool", y, TWO)
    y = b.add("max_pool", _block(b, _block(b, y, 48), 48), TWO)
    y = _block(b, _block(b, y, 64), 64)
    y = b.add("reshape", b.add("max_pool", y, TWO), {"shape": (4 * 4 * 64,)})
    return b.graph(b.add("dense", y, {}, {"kernel": b.normal(4 * 4 * 64, 10), "bias": b.normal(10)}))


def residual() -> Graph:
    b = GraphBuilder(2)
    y = _block(b, b.input(21, 18, 4), 32)
    for strides in ((1, 1), (2, 2)):
        short = b.batch_norm(b.conv(y, 32, (1, 1), strides=strides))
        left = b.activation(b.batch_norm(b.conv(y, 32, (3, 3), strides=strides)), "relu")
        left = b.batch_norm(b.conv(left, 32, (3, 3)))
        y = b.activation(b.add("add", [left, short]), "relu")
    y = b.add("average", [y, b.activation(y, "tanh"), b.conv(y, 32, (1, 1))])
    return b.graph(b.add("global_average_pool", _block(b, y, 48), {"keepdims": False}))


def u_net() -> Graph:
    b = GraphBuilder(3)
    down = _block(b, b.input(24, 20, 1), 16)
    low = _block(b, b.add("max_pool", down, TWO), 32)
    kernel, ones = (2, 2), (1, 1)
    crop, size = conv_transpose_geometry((12, 10), kernel, (2, 2), ones, "same", None, "test")
    weights = {"kernel": b.normal(2, 2, 16, 32), "bias": b.normal(16)}
    attributes = {"strides": (2, 2), "dilation": ones, "padding": crop, "output_size": size}
    up = b.activation(b.add("conv_transpose", low, attributes, weights), "relu")
    other = b.add("upsample", low, {"size": (2, 2)})
    y = _block(b, b.add("concatenate", [up, down, other], {"axis": 2}), 20)
    return b.graph(b.conv(y, 2, (1, 1)))


def volume() -> Graph:
    b = GraphBuilder(4)
    y = b.activation(b.conv(b.input(6, 14, 13, 2), 16, (3, 3, 3)), "elu")
    y = b.activation(b.conv(y, 18, (3, 3, 3)), "elu")
    y = b.add("average_pool", b.conv(y, 32, (3, 3, 3)), {**TWO, "pool_size": (2, 2, 2), "strides": (2, 2, 2)})
    y = b.conv(y, 16, (3, 3, 3), strides=(1, 2, 2))
    return b.graph(b.add("global_max_pool", b.conv(y, 16, (1, 1, 1)), {"keepdims": False}))


def signal() -> Graph:
    b = GraphBuilder(5)
    y = b.activation(b.conv(b.input(50, 2), 32, (5,)), "relu")
    y = b.add("max_pool", y, {"pool_size": (2,), "strides": (2,), "padding": "valid"})
    return b.graph(b.conv(b.conv(y, 40, (3,), dilation=(2,)), 7, (3,)))


def padded() -> Graph:
    """ZeroPadding2D before convolutions, scaling before the first one, dropout in between."""
    b = GraphBuilder(6)
    scaled = b.add(
        "affine", b.input(20, 22, 3), {}, {"scale": np.float32([1 / 255]), "offset": np.float32([0])}
    )
    y = b.add("pad", scaled, {"padding": ((3, 3), (3, 2), (0, 0))})
    y = b.activation(b.conv(y, 32, (7, 7), strides=(2, 2), padding="valid"), "relu")
    y = b.add("identity", b.add("pad", y, {"padding": ((1, 1), (1, 1), (0, 0))}))
    return b.graph(b.conv(y, 32, (3, 3), padding="valid"))


def grouped() -> Graph:
    b = GraphBuilder(7)
    y = _block(b, b.input(12, 12, 3), 64)
    y = b.activation(b.conv(y, 64, (3, 3), groups=4), "relu")
    y = b.conv(y, 64, (3, 3), groups=16)
    return b.graph(b.conv(y, 32, (3, 3), groups=2))


def squeezed() -> Graph:
    """MobileNet's end, and what squeezes and excites: a convolution of what global pooling left."""
    b = GraphBuilder(8)
    y = _block(b, _block(b, b.input(12, 12, 3), 32), 32)
    y = b.add("global_average_pool", y, {"keepdims": True})
    return b.graph(b.conv(b.activation(b.conv(y, 16, (1, 1)), "relu"), 20, (1, 1)))


GRAPHS: dict[str, Callable[[], Graph]] = {
    make.__name__: make for make in (vgg_like, residual, u_net, volume, signal, padded, grouped, squeezed)
}


def _inputs(graph: Graph, batch: int) -> np.ndarray:
    shape = tuple(int(n or 0) for n in graph.node(graph.inputs[0]).shape)
    return np.random.default_rng(9).standard_normal((batch, *shape), np.float32)


def _blocked(plan: Plan) -> set[str]:
    views = [v for s in plan.steps for v in (*s.inputs, s.output)]
    return {v.value for v in views if v.ld_block}


@pytest.mark.parametrize("accuracy", ["direct", "standard", "fast"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_network_of_blocked_maps_agrees_with_the_reference(name: str, isa: str, accuracy: str) -> None:
    graph = GRAPHS[name]()
    x = _inputs(graph, 3)
    plan = build(graph, Device(isa=isa, accuracy=accuracy))
    assert _blocked(plan)
    got = CpuRunner(plan).run([x])[0]
    exact = reference.evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    # The unfused plan's own error, layer by layer within its bounds (test_plan.py), says how far rounding
    # goes in this network; another order of the same sums must not go much further.
    unfused = CpuRunner(build(graph, Device(isa=isa, accuracy=accuracy), fused=False)).run([x])[0]
    scale = np.abs(exact).max()
    allowed = 8 * np.abs(unfused - exact).max() + 16 * 2**-24 * scale
    assert allowed < 1e-3 * scale
    assert np.abs(got - exact).max() <= allowed


@pytest.mark.parametrize("name", GRAPHS)
def test_bits_do_not_depend_on_batch_or_threads(name: str) -> None:
    graph = GRAPHS[name]()
    assert_equal_bits(CpuRunner(build(graph)), _inputs(graph, 8))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_border_is_in_the_row_of_the_step_that_fills_its_map(name: str) -> None:
    plan = build(GRAPHS[name]())
    assert sorted(i for row in plan.rows for i in row) == list(range(len(plan.steps)))
    for *before, last in plan.rows:
        step = plan.steps[last]
        assert step.operation != "border"
        assert all(plan.steps[i].operation == "border" for i in before)
        assert all(plan.steps[i].output.value == step.output.value for i in before)
        halo = plan.values[step.output.value].halo
        assert bool(before) <= any(n for pair in halo for n in pair)
    assert "border" not in str(plan)


COMPUTES: dict[str, tuple[tuple[int, str], ...]] = {
    "vgg_like": ((1, "conv 3x3 + relu + max pool 2x2"), (-1, "dense")),
    "residual": ((2, "conv 3x3 + batch norm + relu"), (4, "add + relu"), (-4, "average")),
    "u_net": ((1, "max pool 2x2"), (3, "conv transpose 2x2 /2 + relu"), (5, "concatenate")),
    "volume": ((0, "conv 3x3x3 + elu"), (4, "conv 3x3x3 /1x2x2")),
    "signal": ((2, "conv 3 dilated 2"),),
    "padded": ((0, "scale + pad + conv 7x7 /2 + relu"), (1, "pad + conv 3x3")),
    "grouped": ((1, "conv 3x3 in 4 groups + relu"),),
}


@pytest.mark.parametrize("name", COMPUTES)
def test_a_row_says_what_it_computes(name: str) -> None:
    plan = build(GRAPHS[name]())
    rows = [" + ".join(plan.steps[row[-1]].computes) for row in plan.rows]
    for i, words in COMPUTES[name]:
        assert rows[i] == words
        assert words in str(plan)


def test_pooling_apart_has_a_row_of_its_own() -> None:
    """The kernel of a few pixels cannot pool; convolution and pooling have their own words."""
    b = GraphBuilder()
    y = b.add("max_pool", b.activation(b.conv(b.input(8, 8, 3), 16, (3, 3)), "relu"), TWO)
    plan = build(b.graph(b.conv(y, 16, (3, 3))))
    rows = [" + ".join(plan.steps[row[-1]].computes) for row in plan.rows]
    assert rows == ["conv 3x3 + relu", "max pool 2x2", "conv 3x3"]


def test_activation_is_said_of_the_last_sum_alone() -> None:
    b = GraphBuilder()
    x = b.input(5, 4)
    graph = b.graph(b.activation(b.add("add", [x, b.activation(x, "tanh"), x]), "relu"))
    assert [s.computes for s in build(graph).steps] == [("tanh",), ("add",), ("add", "relu")]


def test_a_chain_of_convolutions_is_never_rearranged() -> None:
    plan = build(vgg_like())
    assert [s.operation for s in plan.steps if s.operation != "border"] == [*("conv",) * 6, "dense"]
    assert [s.options.get("pool", 1) for s in plan.steps if s.operation == "conv"] == [1, 2, 1, 2, 1, 2]
    convolutions = [s for s in plan.steps if s.operation == "conv"]
    assert all(s.inputs[0].ld_block for s in convolutions[1:])
    assert not convolutions[-1].output.ld_block, "the dense layer reads it in plain order"
    # What is left of working memory is V of layers that share weights, never a copy of the input.
    assert all(s.workspace_bytes == 0 for s in convolutions[1:2])


def test_padding_scaling_and_dropout_become_part_of_convolutions() -> None:
    plan = build(padded())
    assert [s.operation for s in plan.steps if s.operation != "border"] == ["conv", "conv"]
    assert plan.steps[-1].options["pad_low"] == (0, 1, 1)


def test_a_large_shift_stays_in_front_of_its_convolution() -> None:
    b = GraphBuilder()
    weights = {"scale": np.float32([1.0]), "offset": np.float32([-100.0])}
    graph = b.graph(b.conv(b.add("affine", b.input(9, 9, 3), {}, weights), 8, (3, 3), padding="valid"))
    assert [s.operation for s in build(graph).steps] == ["affine", "conv"]


@pytest.mark.parametrize("offset", [0.0, -1.0])
def test_a_scaling_in_front_of_a_padded_convolution(offset: float) -> None:
    """A shift cannot be folded: the zeros of padding are not shifted."""
    b = GraphBuilder()
    weights = {"scale": np.float32([0.5, 2.0, 3.0]), "offset": np.float32([offset])}
    graph = b.graph(b.conv(b.add("affine", b.input(9, 9, 3), {}, weights), 8, (3, 3)))
    plan = build(graph)
    assert len(plan.steps) == (1 if offset == 0 else 2)
    x = _inputs(graph, 2)
    exact = reference.evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    assert np.abs(CpuRunner(plan).run([x])[0] - exact).max() < 2**-24 * 64 * np.abs(exact).max()


def test_pooling_that_the_kernel_cannot_do_is_a_step_of_its_own() -> None:
    b = GraphBuilder()
    y = b.add("max_pool", b.activation(b.conv(b.input(8, 8, 3), 16, (3, 3)), "relu"), TWO)
    graph = b.graph(b.conv(y, 16, (3, 3)))
    assert [s.operation for s in build(graph).steps if s.operation != "border"] == [
        "conv",
        "max_pool",
        "conv",
    ]


def test_nan_passes_pooling_behind_a_convolution() -> None:
    """One NaN pixel: the pooled map is NaN exactly where the pooling of the unpooled one is."""
    b = GraphBuilder(1)
    y = b.add("max_pool", _block(b, b.input(36, 34, 16), 24), TWO)
    graph = b.graph(y)
    x = _inputs(graph, 1)
    x[0, 8, 12, 3] = np.nan
    fused = CpuRunner(build(graph)).run([x])[0]
    apart = CpuRunner(build(graph, fused=False)).run([x])[0]
    assert np.isnan(fused).any()
    assert np.array_equal(np.isnan(fused), np.isnan(apart))


def test_a_value_is_blocked_only_where_all_agree() -> None:
    b = GraphBuilder()
    x = b.input(12, 12, 3)
    y = b.conv(x, 32, (3, 3))
    z = b.activation(y, "tanh")
    moved = b.add("permute", z, {"axes": (1, 0, 2)})
    last = b.conv(z, 32, (3, 3))
    graph = b.graph(b.conv(last, 8, (3, 3)), moved)
    shapes = {n.name: tuple(int(d or 0) for d in n.shape) for n in graph.nodes}
    groups = fuse(graph, enabled=False)
    assert blocked_values(groups, shapes, graph.outputs) == {last}, "permute reads z, so z and y are plain"


def test_a_border_is_timed_with_the_step_that_fills_the_map() -> None:
    runner = CpuRunner(build(vgg_like()))
    operations = [s.operation for s in runner.plan.steps]
    assert "border" in operations
    (_, shape) = runner.plan.inputs[0]
    timed = profile(runner, [np.zeros((1, *shape), np.float32)], 2).steps
    assert [s.operation for s in timed] == [o for o in operations if o != "border"]
