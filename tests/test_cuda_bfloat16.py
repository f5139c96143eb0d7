"""Models in bfloat16 on the GPU: in Numba's simulator by the simple kernels, or on a GPU if asked to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import data
from convcore.bfloat16 import from_bfloat16, to_bfloat16
from convcore.errors import ArgumentError
from convcore.loader.graph import Graph
from convcore.plan import Device, build
from convcore.run.cpu import CpuRunner

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels for the GPU to test")

from convcore.cuda import fast
from convcore.cuda.arrays import empty
from convcore.cuda.step import Step
from convcore.run.cuda import CudaRunner

from .cuda_values import Values
from .error_analysis import PRECISIONS, check_values, output_bounds, probable_bound
from .graphs import GraphBuilder
from .memory import Array
from .tolerance import assert_within

DEVICE = Device("cuda", precision="bfloat16")


def rounded(x: Array) -> Array:
    return from_bfloat16(to_bfloat16(x))


def normal(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape, np.float32)


def every_kind_of_step() -> Graph:
    to = GraphBuilder(2)
    x = to.input(6, 5, 4)
    a = to.activation(to.batch_norm(to.conv(x, 8, (3, 3), bias=False)), "relu")
    a = to.activation(to.add("add", [a, to.activation(to.conv(x, 8, (1, 1)), "tanh")]), "elu")
    b = to.add("max_pool", a, {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"})
    b = to.add("concatenate", [b, b], {"axis": 2})
    up = to.add("upsample", b, {"size": (2, 2)})
    flat = to.add("reshape", b, {"shape": (3 * 2 * 16,)})
    return to.graph(
        to.add("softmax", up, {"axis": 1}),
        to.add("global_average_pool", a, {"keepdims": False}),
        to.add("dense", flat, {}, {"kernel": to.normal(96, 7), "bias": to.normal(7)}),
    )


def test_every_kind_of_step_errs_by_no_more_than_its_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = every_kind_of_step(), normal(3, 6, 5, 4)
    plan, values = build(graph, DEVICE), Values(monkeypatch)
    results = CudaRunner(plan).run([x])
    known = {graph.inputs[0]: x, **values.of(plan, 3)}
    check_values(graph, known, PRECISIONS["bfloat16"])
    probable = probable_bound(graph, PRECISIONS["bfloat16"])
    for name, got, exactly in zip(graph.outputs, results, CpuRunner(build(graph)).run([x]), strict=True):
        assert got.dtype == np.float32 and got.tobytes() == known[name].tobytes()
        # They are rounded, and by far more than float32.
        error = np.abs(got - exactly).max() / np.abs(exactly).max()
        assert 2.0**-12 <= error <= probable


def test_batches_do_not_change_the_numbers() -> None:
    graph, x = every_kind_of_step(), normal(3, 6, 5, 4)
    runner = CudaRunner(build(graph, DEVICE))
    whole, parts = runner.run([x]), runner.run([x], batch_size=2)
    assert [y.tobytes() for y in whole] == [y.tobytes() for y in parts]


def between_input_and_output(operation: str, attributes: dict[str, Any], *shape: int) -> tuple[Array, Array]:
    """What comes out of ReLU, an operation and tanh, each a step, and what went in."""
    to = GraphBuilder()
    y = to.add(operation, to.activation(to.input(*shape), "relu"), attributes)
    graph = to.graph(to.add("maximum", [y, y]))
    x = normal(2, *shape)
    return CudaRunner(build(graph, DEVICE)).run([x])[0], x


def test_values_between_steps_are_the_nearest_ones() -> None:
    y, x = between_input_and_output("identity", {}, 3, 5)
    assert y.tobytes() == rounded(np.maximum(x, 0)).tobytes()


@pytest.mark.parametrize(
    ("operation", "attributes", "expected"),
    [
        ("permute", {"axes": (2, 0, 1)}, lambda x: x.transpose(0, 3, 1, 2)),
        ("reverse", {"axis": 1}, lambda x: x[:, :, ::-1]),
        ("crop", {"cropping": ((1, 0), (1, 2), (0, 0))}, lambda x: x[:, 1:, 1:-2]),
        ("pad", {"padding": ((1, 0), (0, 2), (0, 0))}, lambda x: np.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)))),
        ("upsample", {"size": (2, 1)}, lambda x: x.repeat(2, axis=1)),
        ("max_pool", {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"},
         lambda x: x[:, :2, :4].reshape(2, 1, 2, 2, 2, 3).max((2, 4))),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_what_moves_numbers_keeps_their_bits(
    operation: str, attributes: dict[str, Any], expected: Any
) -> None:
    y, x = between_input_and_output(operation, attributes, 3, 5, 3)
    assert np.array_equal(y, expected(rounded(np.maximum(x, 0))))


def test_what_a_softmax_reads_keeps_all_digits() -> None:
    to = GraphBuilder(1)
    hidden = to.activation(to.input(6), "relu")
    logits = to.add("dense", hidden, {}, {"kernel": to.normal(6, 5), "bias": to.normal(5)})
    plan = build(to.graph(to.add("softmax", logits, {"axis": 0})), DEVICE)
    kinds = {name: value.dtype for name, value in plan.values.items()}
    assert kinds == {plan.inputs[0][0]: "float32", hidden: "bfloat16", logits: "float32",
                     plan.outputs[0][0]: "float32"}  # fmt: skip
    assert plan.steps[1].bytes_read == 2 * 6 and plan.steps[1].bytes_written == 4 * 5


def test_a_model_file() -> None:
    path = data.path("sonar_baseline.keras")
    x = np.random.default_rng(0).uniform(0, 1, (3, 60)).astype(np.float32)
    model = cc.load_model(path, device="cuda", precision="bfloat16")
    exactly = cc.load_model(path).predict(x)
    assert model.device.precision == "bfloat16" and "bfloat16" in str(model.plan)
    graph = model.graph
    exact, bound = output_bounds(graph, {graph.inputs[0]: x}, PRECISIONS["bfloat16"])[graph.outputs[0]]
    assert_within(model.predict(x), exact, bound)
    assert_within(model.predict(x, batch_size=1), exact, bound)
    assert np.abs(model.predict(x) - exactly).max() > 0


def test_half_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the fast kernels, and values between steps."""
    monkeypatch.setattr(fast, "enabled", True)
    to = GraphBuilder(1)
    hidden = to.activation(to.add("dense", to.input(512), {}, {"kernel": to.normal(512, 256)}), "relu")
    graph = to.graph(to.add("dense", hidden, {}, {"kernel": to.normal(256, 128)}))
    wide, narrow = (build(graph, Device("cuda", precision=p)) for p in ("float32", "bfloat16"))
    bias = 4 * (256 + 128 + 2 * 3)
    assert (narrow.weight_bytes - bias) * 2 == wide.weight_bytes - bias
    assert narrow.values[hidden].bytes * 2 == wide.values[hidden].bytes == 4 * 256
    moved = 4 * 512 + 2 * 256 + 2 * 512 * 256  # input, result, weights
    assert moved <= narrow.steps[0].bytes <= moved + 4 * 256


def test_a_batch_beyond_the_kernels_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "enabled", True)
    monkeypatch.setattr(fast, "_MOST_ELEMENTS", 1 << 12)

    def dense(rows: int) -> Step:
        x, out = (
            (i, 0, "float32", (rows, n), (n, 1), 0, (0, 0, 0), (0, 0, 0)) for i, n in enumerate((64, 16))
        )
        return Step("dense", x=x, out=out, precision="bfloat16")

    assert dense(8).algorithm == "stream of weights, bfloat16" and dense(100).algorithm == "simple"
    with pytest.raises(ArgumentError, match=r"batch is too large.*\(100, 64\).*smaller batch_size"):
        dense(100).set_weights(empty((dense(8).packed_floats,)))


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"precision.*bf16.*float32 or tf32 or bfloat16"):
        cc.load_model(data.path("sonar_baseline.keras"), device="cuda", precision="bf16")
    with pytest.raises(ArgumentError, match=r"CPU computes in float32.*bfloat16"):
        cc.load_model(data.path("sonar_baseline.keras"), precision="bfloat16")
    # Before any file is read: a model whose input shapes are open has no plan yet that could refuse it.
    with pytest.raises(ArgumentError, match=r"precision.*bf16"):
        cc.load_model("there is no such file.keras", device="cuda", precision="bf16")
