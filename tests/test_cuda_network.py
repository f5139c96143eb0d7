"""Whole networks on the fast path: the emulator runs what the engine has chosen, or a GPU if asked to.

The engine makes its plan, packs weights and lays out its arena as it does with a GPU. Without one the memory
is the simulator's, and every launch of fast kernels goes to the emulator, which refuses races and whatever
lies outside the array that a kernel was given.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from convcore.engine import Model
from convcore.loader.graph import Graph
from convcore.plan import Device, build

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no kernels for the GPU to test")

from convcore.cuda import fast, step
from convcore.cuda.arrays import DeviceArray
from convcore.cuda.toolkit import simulated

from .cuda_emulated import compiled, execute
from .cuda_values import Values
from .error_analysis import PRECISIONS, check_values, probable_bound
from .graphs import GraphBuilder
from .memory import Array

#: Names of the kernels that were launched, in order.
Launched = list[str]


@pytest.fixture
def launched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Launched:
    """Let fast kernels be chosen, and run them in the emulator, which reads no memory of a GPU, or there."""
    names: Launched = []
    compiler = request.getfixturevalue("cuda_compiler") if simulated else None
    on_gpu = step.launch_work

    def launch_work(work: fast.Work, arrays: Mapping[str, DeviceArray]) -> None:
        names.extend(one.kernel.name for one in work.launches)
        if compiler is None:
            on_gpu(work, arrays)
            return
        memory = {name: a._map for name, a in arrays.items()}
        for one in work.launches:
            execute(compiled(compiler, one.kernel).ptx, one, memory)

    monkeypatch.setattr(fast, "enabled", True)
    monkeypatch.setattr(step, "launch_work", launch_work)
    return names


def check(graph: Graph, precision: str, x: Array, values: Values) -> Model:
    """Run a network, and compare every step's result with the reference, the output with the CPU's."""
    rounding = PRECISIONS[precision]
    model = Model(graph, Device("cuda", precision=precision))
    got, (name,), (source,) = model.predict(x), graph.outputs, graph.inputs
    known = {source: x, **values.of(model.plan, len(x))}
    assert {s.output.value for s in model.plan.steps} - set(known) <= {
        n.name for n in graph.nodes if n.operation == "concatenate"
    }
    check_values(graph, known, rounding)
    assert known[name].tobytes() == got.tobytes()
    on_cpu = Model(graph, Device()).predict(x)
    assert np.abs(got - on_cpu).max() <= probable_bound(graph, rounding) * np.abs(on_cpu).max()
    return model


def scaled(to: GraphBuilder, *shape: int) -> Array:
    """Weights that keep sizes as they are."""
    return to.normal(*shape) / np.float32(np.sqrt(np.prod(shape[:-1])))


def small_vgg() -> Graph:
    """Convolutions with pooling on the way out and after, in parts and whole; dense layers; softmax."""
    to = GraphBuilder(1)

    def conv(x: str, channels: int, filters: int) -> str:
        weights = {"kernel": scaled(to, 3, 3, channels, filters), "bias": to.normal(filters)}
        window = {"strides": (1, 1), "dilation": (1, 1), "groups": 1, "padding": "same"}
        return to.activation(to.add("conv", x, window, weights), "relu")

    def dense(x: str, inputs: int, units: int) -> str:
        return to.add("dense", x, {}, {"kernel": scaled(to, inputs, units), "bias": to.normal(units)})

    x = conv(to.input(14, 14, 3), 3, 64)
    x = to.add("max_pool", x, {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"})
    x = conv(x, 64, 36)
    x = to.add("max_pool", x, {"pool_size": (3, 3), "strides": (2, 2), "padding": "valid"})
    x = to.add("reshape", x, {"shape": (324,)})
    x = to.activation(dense(x, 324, 30), "relu")
    return to.graph(to.add("softmax", dense(x, 30, 12), {"axis": 0}))


def small_resnet() -> Graph:
    """What has no fast kernel beside what has one: a sum, grouped convolution, pooling of whole maps."""
    to = GraphBuilder(2)
    window = {"strides": (1, 1), "dilation": (1, 1), "groups": 1, "padding": "same"}

    def conv(x: str, channels: int, filters: int, size: int, **changed: object) -> str:
        weights = {"kernel": scaled(to, size, size, channels, filters)}
        return to.add("conv", x, {**window, **changed}, weights)

    x = to.activation(conv(to.input(9, 7, 5), 5, 24, 5, strides=(2, 2)), "relu")
    y = to.activation(to.batch_norm(conv(x, 24, 12, 1)), "elu")
    y = to.add("concatenate", [conv(y, 6, 12, 3, groups=2), y], {"axis": 2})
    x = to.activation(to.add("add", [x, y]), "tanh")
    x = to.add("average_pool", x, {"pool_size": (2, 2), "strides": (2, 2), "padding": "same"})
    x = to.add("dense", x, {}, {"kernel": scaled(to, 24, 10), "bias": to.normal(10)})
    x = to.add("global_average_pool", to.activation(x, "sigmoid"), {"keepdims": False})
    return to.graph(to.add("dense", x, {}, {"kernel": scaled(to, 10, 3), "bias": to.normal(3)}))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_small_resnet(launched: Launched, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 9, 7, 5), np.float32)
    model = check(small_resnet(), precision, x, Values(monkeypatch))
    algorithms = {s.operation: s.algorithm.split(",")[0] for s in model.plan.steps}
    assert algorithms["binary"] == "stream" and algorithms["global_average_pool"] == "simple"
    families = [name.split()[0] for name in launched]
    assert families.count("conv") == 3 and families.count("dense") == 1  # the map's 12 rows are a product
    verified = model.verify(x)
    assert all(node.worst <= 1 for node in verified.nodes), str(verified)
    if precision != "float32":
        assert max(node.error for node in verified.nodes) > 2.0**-14


def test_work_is_counted_before_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pooling on the way out saves bytes and no products."""
    graph = small_vgg()
    monkeypatch.setattr(fast, "enabled", False)
    apart = build(graph, Device("cuda")).steps[:2]
    monkeypatch.setattr(fast, "enabled", True)
    pooled = build(graph, Device("cuda")).steps[0]
    assert [s.operation for s in apart] == ["conv", "max_pool"] and pooled.options["pool"] == 2
    assert pooled.flops == apart[0].flops == 2 * 14 * 14 * 64 * 27
    assert pooled.bytes == apart[0].bytes - 4 * (14 * 14 - 7 * 7) * 64


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_small_vgg(launched: Launched, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 14, 14, 3), np.float32)
    model = check(small_vgg(), precision, x, Values(monkeypatch))
    assert "simple" not in [s.algorithm for s in model.plan.steps]
    # Three channels, and 30 inputs, are no whole chunks; 324 are none of bfloat16.
    before_dense = ["pad"] if precision == "bfloat16" else []
    assert [name.split()[0] for name in launched] == [
        "pad", "conv", "conv", "sum", "pool", *before_dense, "dense", "pad", "dense", "softmax",
    ]  # fmt: skip
