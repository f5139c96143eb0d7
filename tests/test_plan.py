"""The plan: what is fused, where values lie, and that every graph operation computes its definition."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcore import _native, reference
from convcore.errors import ArgumentError
from convcore.loader.graph import Graph
from convcore.memory import aligned_floats
from convcore.plan import Device, Plan, PlanStep, build
from convcore.plan.arena import Lifetime, align, lifetimes, place
from convcore.plan.data import View
from convcore.plan.printed import _scaled
from convcore.run.bounds import node_bound
from convcore.run.cpu import CpuProgram, CpuRunner
from convcore.run.verify import check_nodes

from .bits import assert_equal_bits
from .graphs import GraphBuilder, convnet

ISAS = _native.isas()


def inputs_of(graph: Graph, batch: int = 2, seed: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = [graph.node(n).shape for n in graph.inputs]
    return [random.standard_normal((batch, *(int(d or 0) for d in s)), np.float32) for s in shapes]


def run(graph: Graph, inputs: list[np.ndarray], isa: str | None = None) -> list[np.ndarray]:
    return CpuRunner(build(graph, Device(isa=isa))).run(inputs)


def assert_every_node_right(
    graph: Graph, isa: str | None = None, batch: int = 2, accuracy: str = "standard"
) -> None:
    """Each node alone within its formula's bound; nothing is fused."""
    inputs = inputs_of(graph, batch)
    wanted = [n.name for n in graph.nodes if n.operation != "input"]
    plan = build(graph, Device(isa=isa, accuracy=accuracy), fused=False, outputs=wanted)
    values = dict(zip(wanted, CpuRunner(plan).run(inputs), strict=True))
    values.update(zip(graph.inputs, inputs, strict=True))
    for check in check_nodes(graph, values, plan.algorithms):
        assert check.worst <= 1.0, check


def _pool(kind: str, size: tuple[int, ...], shape: tuple[int, ...], padding: str) -> Graph:
    b = GraphBuilder()
    attributes = {"pool_size": size, "strides": size, "padding": padding}
    if kind == "average_pool":
        attributes["include_padding"] = False
    return b.graph(b.add(kind, b.input(*shape), attributes))


def _one(operation: str, shape: tuple[int, ...], attributes: dict[str, object]) -> Graph:
    b = GraphBuilder()
    return b.graph(b.add(operation, b.input(*shape), attributes))


def _two(operation: str, left: tuple[int, ...], right: tuple[int, ...]) -> Graph:
    b = GraphBuilder()
    return b.graph(b.add(operation, [b.input(*left), b.input(*right)]))


def _conv(shape: tuple[int, ...], oc: int, kernel: tuple[int, ...], **attributes: object) -> Graph:
    b = GraphBuilder()
    return b.graph(b.conv(b.input(*shape), oc, kernel, **attributes))


def _depthwise(shape: tuple[int, ...], multiplier: int) -> Graph:
    b = GraphBuilder()
    weights = {"kernel": b.normal(3, 3, shape[-1], multiplier), "bias": b.normal(shape[-1] * multiplier)}
    attributes = {"strides": (2, 2), "dilation": (1, 1), "padding": "same"}
    return b.graph(b.add("depthwise_conv", b.input(*shape), attributes, weights))


def _transpose(
    shape: tuple[int, ...], oc: int, kernel: tuple[int, ...], strides: tuple[int, ...], pad: str
) -> Graph:
    from convcore.shapes import conv_transpose_geometry

    b = GraphBuilder()
    ones = (1,) * len(kernel)
    crop, size = conv_transpose_geometry(shape[:-1], kernel, strides, ones, pad, None, "test")
    attributes = {"strides": strides, "dilation": ones, "padding": crop, "output_size": size}
    weights = {"kernel": b.normal(*kernel, oc, shape[-1]), "bias": b.normal(oc)}
    return b.graph(b.add("conv_transpose", b.input(*shape), attributes, weights))


def _affine(shape: tuple[int, ...], scale: tuple[int, ...]) -> Graph:
    b = GraphBuilder()
    return b.graph(
        b.add("affine", b.input(*shape), {}, {"scale": b.normal(*scale), "offset": b.normal(*scale)})
    )


def _prelu(shape: tuple[int, ...], alpha: tuple[int, ...]) -> Graph:
    b = GraphBuilder()
    return b.graph(b.add("prelu", b.input(*shape), {}, {"alpha": b.normal(*alpha)}))


def _batch_norm(shape: tuple[int, ...], axis: int) -> Graph:
    b = GraphBuilder()
    return b.graph(b.batch_norm(b.input(*shape), axis))


def _dense(shape: tuple[int, ...], units: int) -> Graph:
    b = GraphBuilder()
    weights = {"kernel": b.normal(shape[-1], units), "bias": b.normal(units)}
    return b.graph(b.add("dense", b.input(*shape), {}, weights))


GRAPHS: dict[str, Callable[[], Graph]] = {
    "conv1d": lambda: _conv((33, 3), 17, (5,), strides=(2,), padding="valid"),
    "conv2d": lambda: _conv((9, 31, 17), 33, (3, 3)),
    "conv2d strided": lambda: _conv((15, 16, 3), 8, (7, 7), strides=(2, 2)),
    "conv2d 1x1": lambda: _conv((5, 97, 40), 31, (1, 1)),
    "conv2d groups": lambda: _conv((7, 8, 12), 18, (3, 3), groups=3),
    "conv2d as depthwise": lambda: _conv((7, 8, 20), 20, (3, 3), groups=20),
    "conv3d": lambda: _conv((5, 6, 7, 4), 5, (3, 2, 3)),
    "depthwise": lambda: _depthwise((9, 10, 17), 1),
    "depthwise times 3": lambda: _depthwise((9, 10, 5), 3),
    "conv1d transpose": lambda: _transpose((9, 4), 3, (4,), (2,), "same"),
    "conv2d transpose": lambda: _transpose((6, 7, 5), 33, (3, 3), (2, 2), "same"),
    "conv2d transpose short kernel": lambda: _transpose((4, 5, 3), 2, (1, 2), (3, 3), "valid"),
    "conv3d transpose": lambda: _transpose((3, 4, 3, 2), 3, (2, 3, 2), (2, 1, 2), "valid"),
    "max_pool 1d": lambda: _pool("max_pool", (3,), (17, 5), "same"),
    "max_pool 2d": lambda: _pool("max_pool", (2, 2), (9, 7, 33), "same"),
    "max_pool 3d": lambda: _pool("max_pool", (2, 2, 2), (5, 6, 7, 3), "valid"),
    "average_pool 2d": lambda: _pool("average_pool", (3, 3), (10, 8, 16), "same"),
    "average_pool 3d": lambda: _pool("average_pool", (2, 1, 1), (5, 6, 7, 1), "same"),
    "global_max_pool": lambda: _one("global_max_pool", (5, 6, 31), {"keepdims": False}),
    "global_average_pool": lambda: _one("global_average_pool", (5, 6, 3, 31), {"keepdims": True}),
    "batch_norm": lambda: _batch_norm((4, 5, 17), -1),
    "batch_norm axis 0": lambda: _batch_norm((4, 5, 3), 0),
    "affine": lambda: _affine((4, 5, 3), (3,)),
    "affine scalar": lambda: _affine((4, 5, 3), (1,)),
    "affine by place": lambda: _affine((4, 5, 3), (4, 1, 3)),
    "prelu by place": lambda: _prelu((4, 5, 3), (4, 5, 3)),
    "prelu by channel": lambda: _prelu((4, 5, 3), (1, 1, 3)),
    "softmax": lambda: _one("softmax", (5, 97), {"axis": 1}),
    "softmax axis 0": lambda: _one("softmax", (7, 5, 3), {"axis": 0}),
    "dense": lambda: _dense((97,), 33),
    "dense on rows": lambda: _dense((5, 6, 15), 4),
    "add": lambda: _two("add", (4, 5, 3), (4, 5, 3)),
    "add broadcast": lambda: _two("add", (4, 5, 3), (1, 1, 3)),
    "subtract": lambda: _two("subtract", (4, 1, 3), (4, 5, 1)),
    "multiply": lambda: _two("multiply", (4, 5, 3), (1, 1, 3)),
    "average": lambda: _two("average", (4, 5, 3), (4, 5, 3)),
    "maximum": lambda: _two("maximum", (33,), (33,)),
    "minimum": lambda: _two("minimum", (33,), (33,)),
    "concatenate": lambda: _one_concatenate(1),
    "concatenate channels": lambda: _one_concatenate(2),
    "permute": lambda: _one("permute", (4, 5, 6), {"axes": (2, 0, 1)}),
    "reverse": lambda: _one("reverse", (4, 5, 6), {"axis": 1}),
    "pad": lambda: _one("pad", (4, 5, 3), {"padding": ((1, 2), (0, 3), (0, 0))}),
    "crop": lambda: _one("crop", (6, 7, 3), {"cropping": ((1, 2), (0, 3), (0, 0))}),
    "upsample": lambda: _one("upsample", (3, 4, 2, 5), {"size": (2, 1, 3)}),
    "resize nearest": lambda: _one("resize", (5, 7, 3), {"size": (9, 4), "interpolation": "nearest"}),
    "resize bilinear": lambda: _one("resize", (5, 7, 3), {"size": (11, 3), "interpolation": "bilinear"}),
    "sigmoid": lambda: _one("activation", (97,), {"kind": "sigmoid", "parameters": {}}),
}


def _one_concatenate(axis: int) -> Graph:
    b = GraphBuilder()
    shapes = [(4, 5, 3), (4, 2, 3)] if axis == 1 else [(4, 5, 3), (4, 5, 17)]
    return b.graph(b.add("concatenate", [b.input(*s) for s in shapes], {"axis": axis}))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_operation_on_every_isa(name: str, isa: str) -> None:
    assert_every_node_right(GRAPHS[name](), isa)


WINOGRAD: dict[str, Callable[[], Graph]] = {
    "many tiles": lambda: _conv((40, 37, 16), 16, (3, 3)),
    "many tiles, edges everywhere": lambda: _conv((35, 33, 17), 33, (3, 3)),
    "few tiles": lambda: _conv((14, 14, 64), 64, (3, 3)),
    "few tiles, edges everywhere": lambda: _conv((13, 15, 31), 47, (3, 3)),
    "more channels than a partial sum": lambda: _conv((12, 12, 600), 16, (3, 3)),
    "no padding": lambda: _conv((19, 22, 16), 40, (3, 3), padding="valid"),
    "no padding, whole tiles": lambda: _conv((26, 26, 32), 32, (3, 3), padding="valid"),
    "lopsided padding": lambda: _conv((16, 17, 20), 20, (3, 3), padding=((0, 2), (2, 1))),
    "slices of a volume": lambda: _conv((5, 14, 13, 16), 18, (1, 3, 3)),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", WINOGRAD)
def test_winograd_on_every_isa(name: str, isa: str) -> None:
    graph = WINOGRAD[name]()
    assert [s.algorithm for s in build(graph, Device(isa=isa)).steps] == ["Winograd 4x4"]
    assert_every_node_right(graph, isa)


OTHER_TILES: dict[str, tuple[str, str, Callable[[], Graph]]] = {
    "7x7": ("standard", "Winograd 2x2", lambda: _conv((7, 7, 64), 33, (3, 3))),
    "7x7, many weights": ("standard", "Winograd 2x2", lambda: _conv((7, 7, 160), 160, (3, 3))),
    "6x6 tiles": ("fast", "Winograd 6x6", lambda: _conv((37, 35, 17), 33, (3, 3))),
    "6x6 tiles, many weights": ("fast", "Winograd 6x6", lambda: _conv((23, 24, 96), 96, (3, 3))),
    "volume": ("standard", "Winograd 4x4", lambda: _conv((8, 13, 14, 16), 18, (3, 3, 3))),
    "volume, two taps deep": ("standard", "Winograd 4x4", lambda: _conv((7, 14, 14, 33), 40, (2, 3, 3))),
    "thin volume": ("standard", "Winograd 4x4", lambda: _conv((2, 16, 16, 32), 16, (3, 3, 3))),
    "volume, 6x6 tiles": ("fast", "Winograd 6x6", lambda: _conv((4, 18, 18, 16), 16, (3, 3, 3))),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", OTHER_TILES)
def test_winograd_of_other_sizes_on_every_isa(name: str, isa: str) -> None:
    accuracy, algorithm, make = OTHER_TILES[name]
    device = Device(isa=isa, accuracy=accuracy)
    assert [s.algorithm for s in build(make(), device).steps] == [algorithm]
    assert_every_node_right(make(), isa, accuracy=accuracy)


def test_the_bound_of_winograd_is_no_blanket() -> None:
    """One weight of 576 that is off by a hundredth breaks it."""
    graph = WINOGRAD["few tiles"]()
    (node,) = (n for n in graph.nodes if n.operation == "conv")
    (x,) = (i.astype(np.float64) for i in inputs_of(graph))
    y = reference.evaluate_node(node, x)
    bound = node_bound(node, [x], y, "Winograd 4x4")
    kernel = node.weights["kernel"].copy()
    kernel[1, 2, 3] *= 1.01
    wrong = reference.evaluate_node(replace(node, weights={**node.weights, "kernel": kernel}), x)
    assert (np.abs(wrong - y) > bound).any()


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_winograd_with_an_activation_that_is_no_relu(padding: str) -> None:
    b = GraphBuilder()
    graph = b.graph(b.activation(b.conv(b.input(18, 21, 16), 24, (3, 3), padding=padding), "sigmoid"))
    (x,) = inputs_of(graph)
    exact = reference.evaluate(graph, {graph.inputs[0]: x})
    node = graph.nodes[1]
    # sigmoid's slope is at most 1/4
    bound = node_bound(node, [x.astype(np.float64)], exact[node.name], "Winograd 4x4") / 4 + 4 * 2**-24
    assert (np.abs(run(graph, [x])[0] - exact[graph.outputs[0]]) <= bound).all()


def test_accuracy_direct_does_without_winograd() -> None:
    graph = WINOGRAD["few tiles"]()
    assert build(graph, Device(accuracy="direct")).steps[0].algorithm == "direct"
    small = _conv((4, 4, 64), 64, (3, 3))
    assert build(small).steps[0].algorithm == "direct", "four tiles are too few"


def test_every_graph_operation_is_tested() -> None:
    from convcore.loader.graph import OPERATIONS

    tested = {n.operation for make in GRAPHS.values() for n in make().nodes}
    assert tested | {"input", "reshape", "identity"} == set(OPERATIONS)


@pytest.mark.parametrize("isa", ISAS)
def test_a_network_agrees_with_the_reference(isa: str) -> None:
    graph = convnet()
    assert_every_node_right(graph, isa)
    (x,) = inputs_of(graph, 3)
    got = run(graph, [x], isa)[0]
    expected = reference.evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=1e-6)
    # The logits are large, so an error of a few u of them shows in the probabilities.
    assert np.abs(got - expected).max() < 2**-24 * 2000


def test_fused_and_unfused_plans_agree() -> None:
    graph = convnet()
    (x,) = inputs_of(graph)
    plan = build(graph)
    unfused = build(graph, fused=False)
    assert len(plan.steps) < len(unfused.steps)
    assert any(s.options.get("activation", ("linear",))[0] == "relu" for s in plan.steps)
    assert not any(s.operation == "affine" for s in plan.steps), "batch normalisation is folded"
    difference = np.abs(CpuRunner(plan).run([x])[0] - CpuRunner(unfused).run([x])[0]).max()
    assert difference < 2**-24 * 2000


def test_the_plan_prints() -> None:
    plan = build(convnet())
    head, titles, *rows = str(plan).splitlines()
    assert head == "Plan of test: 12x13x5 to 7"
    assert len(rows) == len(plan.rows) + 3
    assert rows[0].startswith("conv 3x3 + batch norm + relu ")
    output, halo = titles.index("output"), titles.index("halo")
    assert rows[0][output:halo].strip() == "12x13x19 blocked" and not rows[0][halo : halo + 4].strip()
    assert rows[-4].split()[:2] == ["softmax", "softmax"]
    assert [r.split()[0] for r in rows[-3:]] == ["arithmetic", "weights", "arena"]


def test_the_plan_prints_halos() -> None:
    b = GraphBuilder(0)
    graph = b.graph(b.conv(b.conv(b.input(12, 13, 5), 19, (3, 3)), 16, (3, 3)))
    _, titles, row, *_ = str(build(graph)).splitlines()
    assert row[titles.index("halo")] in "123456789"


def test_the_printed_arena_is_the_one_that_is_made() -> None:
    plan = build(convnet())
    blocks = lifetimes(plan, [s.workspace_bytes for s in plan.steps])
    assert 4 * CpuProgram(plan, 1)._arena_floats == place(blocks)[1] < sum(align(b.size) for b in blocks)
    assert {b.name for b in blocks if not b.name.startswith("workspace")} == set(plan.values) - {
        name for name, _ in (*plan.inputs, *plan.outputs)
    }
    assert f"arena       {_scaled(place(blocks)[1])}B for one image" in str(plan)


def test_bytes_that_a_step_moves_are_counted_once() -> None:
    view = View("x", (8, 5, 3), (0, 3, 1))
    step = PlanStep("copy", (view,), View("y", (8, 5, 3), (15, 3, 1)), (), ())
    assert (step.bytes_read, step.bytes_written, step.weight_bytes) == (4 * 15, 4 * 120, 0)
    weights = sum(s.weight_bytes for s in build(convnet()).steps)
    assert weights == build(convnet()).weight_bytes > 0


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 "), (96, "96 "), (999.4, "999 "), (999.6, "1.00 k"), (1234, "1.23 k"), (9.996e6, "10.0 M")],
)
def test_figures_have_three_digits_that_count(number: float, text: str) -> None:
    assert _scaled(number) == text


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("make", [convnet, WINOGRAD["many tiles"], WINOGRAD["few tiles"]])
def test_bits_do_not_depend_on_batch_or_threads(make: Callable[[], Graph], isa: str) -> None:
    graph = make()
    (x,) = inputs_of(graph, 8)
    assert_equal_bits(CpuRunner(build(graph, Device(isa=isa))), x)


def test_outputs_that_share_storage() -> None:
    """An output that is another's reshape, an input, or listed twice."""
    b = GraphBuilder()
    x = b.input(4, 6)
    y = b.activation(x, "tanh")
    flat = b.add("reshape", y, {"shape": (24,)})
    again = b.add("reshape", x, {"shape": (6, 4)})
    graph = b.graph(y, flat, again, x, y)
    (value,) = inputs_of(graph)
    plan = build(graph)
    got = dict(zip((n for n, _ in plan.outputs), CpuRunner(plan).run([value]), strict=True))
    assert np.array_equal(got[y].reshape(2, 24), got[flat])
    assert np.array_equal(got[again], value.reshape(2, 6, 4))
    assert np.array_equal(got[f"{x}/output"], value)


def test_a_permutation_and_its_inverse_vanish() -> None:
    b = GraphBuilder()
    x = b.conv(b.input(5, 6, 7), 8, (3, 3))
    y = b.add("permute", x, {"axes": (2, 0, 1)})
    y = b.add("permute", y, {"axes": (1, 2, 0)})
    graph = b.graph(b.conv(y, 4, (1, 1)))
    assert [s.operation for s in build(graph).steps] == ["conv", "conv"]
    (value,) = inputs_of(graph)
    unfused = CpuRunner(build(graph, fused=False)).run([value])[0]
    assert np.array_equal(run(graph, [value])[0], unfused)


def test_a_permutation_that_something_else_needs_stays() -> None:
    b = GraphBuilder()
    x = b.input(5, 6, 7)
    moved = b.add("permute", x, {"axes": (2, 0, 1)})
    back = b.add("permute", moved, {"axes": (1, 2, 0)})
    graph = b.graph(moved, back)
    (value,) = inputs_of(graph)
    outputs = run(graph, [value])
    assert np.array_equal(outputs[0], value.transpose(0, 3, 1, 2))
    assert np.array_equal(outputs[1], value)


def test_bad_device_is_refused() -> None:
    with pytest.raises(ArgumentError, match="accuracy"):
        build(convnet(), Device(accuracy="perfect"))
    with pytest.raises(ArgumentError, match="float32"):
        build(convnet(), Device(precision="bfloat16"))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=30)
)
def test_blocks_that_live_together_do_not_overlap(spans: list[tuple[int, int, int]]) -> None:
    blocks = [Lifetime(str(i), size, first, first + n) for i, (size, first, n) in enumerate(spans)]
    offsets, total = place(blocks)
    for i, a in enumerate(blocks):
        assert offsets[a.name] % 64 == 0
        assert offsets[a.name] + align(a.size) <= total
        for b in blocks[i + 1 :]:
            apart_in_time = a.last < b.first or b.last < a.first
            apart = offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]
            assert apart_in_time or apart or 0 in (a.size, b.size)


def test_blocks_that_do_not_live_together_share() -> None:
    blocks = [Lifetime(str(i), 1000, i, i) for i in range(10)]
    assert place(blocks)[1] == align(1000)


@pytest.mark.parametrize("count", [0, 1, 15, 1 << 21])
def test_aligned_floats(count: int) -> None:
    array = aligned_floats(count)
    assert array.shape == (count,)
    assert array.ctypes.data % 64 == 0
    array[:] = 1.0


_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not _HUGE_PAGES.is_file() or "[never]" in _HUGE_PAGES.read_text(), reason="no transparent huge pages here"
)
def test_large_arrays_may_have_huge_pages() -> None:
    """The mapping is private (shared memory gets small pages), asks for them, and begins on one."""
    array = aligned_floats(8 << 20)
    assert array.ctypes.data % (2 << 20) == 0
    mapping = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line):
            inside = int(match[1], 16) <= array.ctypes.data < int(match[2], 16)
            mapping = match[3] if inside else ""
        elif mapping and line.startswith("VmFlags:"):
            assert mapping == "rw-p"
            assert "hg" in line.split()
            return
    pytest.fail("the array is in no mapping")


def test_plan_is_data() -> None:
    """A plan can be made, then run by many runners; nothing in it changes."""
    graph = convnet()
    plan: Plan = build(graph)
    (x,) = inputs_of(graph)
    assert np.array_equal(CpuRunner(plan).run([x])[0], CpuRunner(plan).run([x])[0])
    with pytest.raises(AttributeError):
        plan.steps = ()  # type: ignore[misc]
