"""The record of a run: what is kept is enough to compute every kept output from, and no number lies."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convcore
from convcore import data, reference
from convcore.errors import ArgumentError
from convcore.loader.graph import Graph, Layer, Node, Source
from convcore.plan import Device
from convcore.study import InputFacts, Report
from convcore.study.layout import view_of
from convcore.study.pictures import sprite
from convcore.study.report import SCRIPTS

RNG = np.random.default_rng(6)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def network(shape: tuple[int, ...], *nodes: Node) -> convcore.Model:
    """A network of these nodes after an input ``x``; each is a layer."""
    whole = (Node("x", "input", (), shape, {"shape": shape}), *nodes)
    named = tuple(
        Node(n.name, n.operation, n.inputs, n.shape, n.attributes, n.weights, n.name) for n in whole
    )
    layers = tuple(
        Layer(n.name, n.operation, n.name, n.shape, sum(w.size for w in n.weights.values())) for n in named
    )
    read = {x for n in nodes for x in n.inputs}
    ends = tuple(n.name for n in nodes if n.name not in read)
    graph = Graph("made", named, ("x",), ends, layers, Source("made.keras", "keras", "3"))
    return convcore.Model(graph, Device())


def conv(name: str, x: str, shape: tuple[int, ...], kernel: tuple[int, ...], **attributes: Any) -> Node:
    rank = len(kernel) - 2
    settings = {"strides": (1,) * rank, "dilation": (1,) * rank, "groups": 1, "padding": ((1, 1),) * rank}
    return Node(name, "conv", (x,), shape, settings | attributes, weights(kernel=kernel, bias=kernel[-1:]))


def pool(name: str, operation: str, x: str, shape: tuple[int, ...]) -> Node:
    attributes: dict[str, Any] = {"pool_size": (3, 3), "strides": (2, 2), "padding": ((0, 1), (1, 0))}
    if operation == "average_pool":
        attributes["include_padding"] = False
    return Node(name, operation, (x,), shape, attributes)


def flat_network() -> convcore.Model:
    """Every operation that computes, on maps large enough that only parts are kept."""
    depthwise = {"strides": (1, 1), "dilation": (3, 3), "padding": ((3, 3), (3, 3))}
    transpose = {
        "strides": (2, 3),
        "dilation": (1, 2),
        "padding": ((1, 1), (2, 1)),
        "output_size": (40, 60),
    }
    channels = weights(mean=(16,), gamma=(16,), beta=(16,)) | {"variance": np.full(16, 0.5, np.float32)}
    return network(
        (41, 39, 8),
        conv("strided", "x", (21, 13, 24), (5, 3, 8, 24), strides=(2, 3), padding=((2, 2), (0, 0))),
        conv("dilated", "x", (41, 39, 16), (3, 3, 8, 16), dilation=(2, 4), padding=((2, 2), (4, 4))),
        conv("grouped", "x", (41, 39, 16), (3, 3, 2, 16), groups=4),
        Node("norm", "batch_norm", ("dilated",), (41, 39, 16), {"axis": 2, "epsilon": 1e-3}, channels),
        Node("relu", "activation", ("norm",), (41, 39, 16), {"kind": "relu", "parameters": {}}),
        Node("depthwise", "depthwise_conv", ("x",), (41, 39, 16), depthwise, weights(kernel=(3, 3, 8, 2))),
        Node("sum", "add", ("relu", "depthwise", "grouped"), (41, 39, 16)),
        Node("joined", "concatenate", ("sum", "x"), (41, 39, 24), {"axis": 2}),
        pool("max", "max_pool", "joined", (20, 19, 24)),
        pool("mean", "average_pool", "joined", (20, 19, 24)),
        Node("both", "multiply", ("max", "mean"), (20, 19, 24)),
        Node("up", "upsample", ("both",), (40, 57, 24), {"size": (2, 3)}),
        Node("sized", "resize", ("both",), (33, 50, 24), {"size": (33, 50), "interpolation": "bilinear"}),
        Node("wide", "conv_transpose", ("both",), (40, 60, 16), transpose, weights(kernel=(4, 5, 16, 24))),
        Node("slope", "prelu", ("wide",), (40, 60, 16), {}, weights(alpha=(1, 1, 16))),
        Node("padded", "pad", ("slope",), (43, 62, 16), {"padding": ((1, 2), (0, 2), (0, 0))}),
        Node("cut", "crop", ("padded",), (39, 58, 16), {"cropping": ((3, 1), (4, 0), (0, 0))}),
        Node("scaled", "affine", ("cut",), (39, 58, 16), {}, weights(scale=(16,), offset=(16,))),
        Node("soft", "softmax", ("scaled",), (39, 58, 16), {"axis": 2}),
        Node("each", "dense", ("soft",), (39, 58, 12), {}, weights(kernel=(16, 12), bias=(12,))),
        Node("pooled", "global_average_pool", ("each",), (12,), {"keepdims": False}),
        Node("last", "dense", ("pooled",), (5,), {}, weights(kernel=(12, 5))),
    )


def long_network() -> convcore.Model:
    """One spatial axis."""
    return network(
        (900, 6),
        conv("conv", "x", (450, 40), (7, 6, 40), strides=(2,), padding=((5, 0),)),
        Node("best", "global_max_pool", ("conv",), (40,), {"keepdims": False}),
    )


def deep_network() -> convcore.Model:
    """Three spatial axes."""
    pools = {"pool_size": (2, 2, 2), "strides": (2, 2, 2), "padding": ((0, 0),) * 3}
    return network(
        (14, 15, 16, 4),
        conv("conv", "x", (14, 15, 16, 12), (3, 3, 3, 4, 12)),
        Node("pool", "max_pool", ("conv",), (7, 7, 8, 12), pools),
    )


MODELS = {"flat": flat_network, "long": long_network, "deep": deep_network}


def report_of(model: convcore.Model, **options: Any) -> tuple[Report, np.ndarray]:
    x = RNG.normal(size=(1, *model.input_shapes[0])).astype(np.float32)
    return model.study(x, repeats=1, **options), x


def array(report: Report, blob: Mapping[str, Any]) -> np.ndarray:
    found = np.frombuffer(
        base64.b64decode(report._blobs.encoded[blob["blob"]]), f"<{np.dtype(blob['dtype']).str[1:]}"
    )
    return found.reshape(blob["shape"])


def box(part: Mapping[str, Any]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(part["start"], part["size"], strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_kept_inputs_are_enough_for_every_kept_output(kind: str) -> None:
    """All other inputs are NaN, and the reference still finds the kept outputs."""
    model = MODELS[kind]()
    report, _ = report_of(model)
    checked = set()
    for node in model.graph.nodes[1:]:
        record = report.record["nodes"][node.name]
        channels = record["exact"]["channels"]
        for block in record["exact"]["blocks"]:
            inputs = []
            for name, part in zip(node.inputs, block["inputs"], strict=True):
                whole = np.full(model.graph.node(name).shape, np.nan)
                if part is None:
                    break
                kept = part["channels"] if part["channels"] is not None else range(whole.shape[-1])
                region = whole[box(part)]
                region[..., list(kept)] = array(report, part["values"])
                inputs.append(whole[None])
            else:
                with np.errstate(all="ignore"):
                    y = reference.evaluate_node(node, *inputs)[0]
                expected = y[box(block)][..., channels]
                assert np.isfinite(expected).all(), node.name
                got = array(report, block["output"])
                bound = 1e-5 * max(1.0, float(np.abs(expected).max()))
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=bound, err_msg=node.name)
                checked.add(node.name)
    assert checked == {n.name for n in model.graph.nodes[1:]}


@pytest.mark.parametrize("name", ["strided", "dilated", "grouped", "max", "wide"])
def test_no_more_is_kept_than_is_needed(name: str) -> None:
    """Every face of a kept box is read: without it some output is lost."""
    model = flat_network()
    report, _ = report_of(model)
    node = model.graph.node(name)
    shape = model.graph.node(node.inputs[0]).shape
    for block in report.record["nodes"][name]["exact"]["blocks"]:
        part = block["inputs"][0]
        for axis in range(2):
            for side in (0, part["size"][axis] - 1):
                whole = np.full(shape, np.nan)
                whole[box(part)] = 1.0
                face = [slice(None)] * 3
                face[axis] = part["start"][axis] + side
                whole[tuple(face)] = np.nan
                with np.errstate(all="ignore"):
                    y = reference.evaluate_node(node, whole[None])[0][box(block)]
                assert np.isnan(y).any(), (axis, side)


def test_kept_weights_are_those_of_the_kept_channels() -> None:
    model = flat_network()
    report, _ = report_of(model)
    nodes = report.record["nodes"]

    def kept(name: str, weight: str = "kernel") -> tuple[np.ndarray, list[int]]:
        return array(report, nodes[name]["weights"][weight]), nodes[name]["exact"]["channels"]

    found, channels = kept("strided")
    assert np.array_equal(found, model.graph.node("strided").weights["kernel"][..., channels])
    found, channels = kept("wide")
    assert np.array_equal(found, model.graph.node("wide").weights["kernel"][..., channels, :])
    found, channels = kept("depthwise")
    assert np.array_equal(
        found, np.asarray(model.graph.node("depthwise").weights["kernel"]).reshape(3, 3, 16)[..., channels]
    )
    found, channels = kept("norm", "gamma")
    assert np.array_equal(found, model.graph.node("norm").weights["gamma"][channels])
    found, channels = kept("slope", "alpha")
    assert np.array_equal(found, model.graph.node("slope").weights["alpha"][..., channels])


def test_default_part_is_eight_channels_and_two_blocks() -> None:
    model = flat_network()
    report, x = report_of(model)
    exact = report.record["nodes"]["strided"]["exact"]
    value = model.trace(x)["strided"][0]
    assert not exact["whole"]
    assert exact["channels"][:4] == [0, 1, 2, 3] and len(exact["channels"]) == 8
    strongest = np.argsort(-value.max(axis=(0, 1)))
    others = [c for c in strongest.tolist() if c >= 4][:4]
    assert sorted(others) == exact["channels"][4:]
    corner, around = exact["blocks"]
    assert corner["start"] == [0, 0] and corner["size"] == around["size"] == [4, 8]
    kept = value[..., exact["channels"]].max(axis=-1)
    place = np.unravel_index(int(kept.argmax()), kept.shape)
    assert all(a <= p < a + n for a, p, n in zip(around["start"], place, around["size"], strict=True))
    assert report.record["kept"]["positions"] == 64 and report.record["kept"]["channels"] == 8
    assert report.record["nodes"]["last"]["exact"]["whole"]


def test_a_part_can_be_asked_for() -> None:
    model = flat_network()
    report, x = report_of(model, layers=["strided", "max"], channels=[5, 23], at=[(20, 12)])
    nodes = report.record["nodes"]
    assert {name for name, n in nodes.items() if n["exact"]} == {"strided", "max"}
    exact = nodes["strided"]["exact"]
    assert exact["channels"] == [5, 23]
    last = exact["blocks"][-1]
    assert last["start"] == [17, 5] and last["size"] == [4, 8]  # moved inside
    value = model.trace(x)["strided"][0]
    assert np.array_equal(array(report, last["output"]), value[17:21, 5:13, [5, 23]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["strides"]}, "strided"),
        ({"channels": [24]}, "0 to 23"),
        ({"at": [(64, 64)]}, "position"),
        ({"at": [(1, 2, 3)]}, "position"),
    ],
)
def test_what_the_network_lacks_cannot_be_asked_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        report_of(flat_network(), **options)


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    """As np.unravel_index gives them; the page can be saved."""
    place = np.unravel_index(20 * 13 + 12, (21, 13))
    asked = {"layers": "strided", "channels": np.array([5, 23]), "at": [place]}
    report, _ = report_of(flat_network(), **asked)
    report.save(tmp_path / "x.html")
    assert report.record["kept"]["asked"] == {"layers": ["strided"], "channels": [5, 23], "at": [[20, 12]]}
    with pytest.raises(ArgumentError, match="whole numbers"):
        report_of(flat_network(), channels=[0.5])


def test_refusals_come_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model = flat_network()
    for name in ("profile", "_trace_nodes"):
        monkeypatch.setattr(model, name, lambda *_, **__: pytest.fail("the work had begun"))
    with pytest.raises(ArgumentError, match="layer"):
        report_of(model, layers=["strides"])
    with pytest.raises(ArgumentError, match="names of classes"):
        single = network((4,), Node("d", "dense", ("x",), (3,), {}, weights(kernel=(4, 3))))
        monkeypatch.setattr(single, "profile", lambda *_, **__: pytest.fail("the work had begun"))
        report_of(single, facts=InputFacts(labels=("a", "b")))


@pytest.mark.parametrize(
    "facts",
    [
        {"picture": np.zeros((4, 4, 3))},
        {"picture": np.zeros((4, 4, 4), np.uint8)},
        {"hu": np.zeros((1, 4, 4))},
    ],
)
def test_facts_must_be_what_they_say(facts: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="study"):
        InputFacts("x", **facts)


def test_a_scalar_output_is_one_number() -> None:
    model = network(
        (4,),
        Node("d", "dense", ("x",), (1,), {}, weights(kernel=(4, 1))),
        Node("s", "reshape", ("d",), (), {"shape": ()}),
    )
    report, x = report_of(model)
    assert report.record["nodes"]["s"]["shape"] == [1]
    assert report.record["answer"][0]["top"][0]["value"] == float(model.predict(x)[0])


def test_a_shared_layers_name_is_about_every_use() -> None:
    kernel = weights(kernel=(4, 4))
    nodes = (
        Node("x", "input", (), (4,), {"shape": (4,)}),
        Node("a", "dense", ("x",), (4,), {}, kernel, "dense"),
        Node("b", "dense", ("a",), (4,), {}, kernel, "dense:1"),
    )
    layers = (Layer("dense", "Dense", "a", (4,), 16), Layer("dense:1", "Dense", "b", (4,), 0))
    graph = Graph("shared", nodes, ("x",), ("b",), layers, Source("made.keras", "keras", "3"))
    for name, kept in {"dense": ["a", "b"], "dense:1": ["b"]}.items():
        report, _ = report_of(convcore.Model(graph, Device()), layers=[name])
        assert [n for n, v in report.record["nodes"].items() if v["exact"]] == kept
    with pytest.raises(ArgumentError, match="dense"):
        report_of(convcore.Model(graph, Device()), layers=["x"])


def channels_first(last: convcore.Model) -> convcore.Model:
    """The same network as a channels-first file becomes it: permutes around what kernels compute."""
    named: list[Node] = []
    for node in last.graph.nodes:
        rank = len(node.shape)
        to_first, to_last = (rank - 1, *range(rank - 1)), (*range(1, rank), 0)
        first = (node.shape[-1], *node.shape[:-1])
        if node.operation == "input":
            named.append(Node(node.name, "input", (), first, {"shape": first}, {}, node.layer))
        elif node.operation in ("conv", "max_pool"):
            source = last.graph.node(node.inputs[0]).shape
            before, inner = f"{node.name}.permute", f"{node.name}.{node.operation}"
            named += [
                Node(before, "permute", node.inputs, source, {"axes": to_last}, {}, node.layer),
                Node(inner, node.operation, (before,), node.shape, node.attributes, node.weights, node.layer),
                Node(node.name, "permute", (inner,), first, {"axes": to_first}, {}, node.layer),
            ]
        else:
            attributes = dict(node.attributes)
            if "axis" in attributes:
                attributes["axis"] = 0
            if "padding" in attributes:
                attributes["padding"] = (attributes["padding"][-1], *attributes["padding"][:-1])
            alpha = {name: np.moveaxis(w, -1, 0) for name, w in node.weights.items() if name == "alpha"}
            changed = {**node.weights, **alpha}
            named.append(Node(node.name, node.operation, node.inputs, first, attributes, changed, node.layer))
    shapes = {n.name: n.shape for n in named}
    layers = tuple(x._replace(shape=shapes[x.node]) for x in last.graph.layers)
    graph = Graph("first", tuple(named), ("x",), last.graph.outputs, layers, last.graph.source)
    return convcore.Model(graph, Device())


def test_channels_first_is_shown_channels_last() -> None:
    """The same maps, parts and weights as of the same network with channels last."""
    channels = weights(mean=(16,), gamma=(16,), beta=(16,)) | {"variance": np.full(16, 0.5, np.float32)}
    pools = {"pool_size": (3, 3), "strides": (2, 2), "padding": ((0, 1), (1, 0))}
    last = network(
        (41, 39, 3),
        conv("conv", "x", (21, 20, 16), (3, 3, 3, 16), strides=(2, 2)),
        Node("norm", "batch_norm", ("conv",), (21, 20, 16), {"axis": 2, "epsilon": 1e-3}, channels),
        Node("slope", "prelu", ("norm",), (21, 20, 16), {}, weights(alpha=(1, 1, 16))),
        Node("padded", "pad", ("slope",), (23, 22, 16), {"padding": ((1, 1), (0, 2), (0, 0))}),
        Node("pool", "max_pool", ("padded",), (11, 11, 16), pools),
        Node("both", "concatenate", ("pool", "pool"), (11, 11, 32), {"axis": 2}),
        Node("soft", "softmax", ("both",), (11, 11, 32), {"axis": 2}),
    )
    first = channels_first(last)
    turned = {"x", "norm", "slope", "padded", "both", "soft"}
    assert view_of(first.graph).turned == turned and view_of(last.graph).turned == set()
    assert not any(n.operation == "permute" for n in view_of(first.graph).graph.nodes)
    x = RNG.normal(size=(1, 41, 39, 3)).astype(np.float32)
    expected = last.study(x, repeats=1)
    found = first.study(np.moveaxis(x, -1, 1), repeats=1)
    assert found.record["input"]["kind"] == "picture"
    assert "channels first" in found.record["model"]["source"]
    for layer, other in zip(found.record["layers"], expected.record["layers"], strict=True):
        assert layer["shape"] == other["shape"]
    for name, node in expected.record["nodes"].items():
        operation = node["operation"]
        inner = f"{name}.{operation}" if operation in ("conv", "max_pool") else name
        same = found.record["nodes"][inner]
        assert same["attributes"] == node["attributes"], name
        assert same["maps"]["tile"] == node["maps"]["tile"]
        for weight, blob in node["weights"].items():
            assert np.array_equal(array(found, same["weights"][weight]), array(expected, blob))
        if node["exact"] is None:
            continue
        assert same["exact"]["channels"] == node["exact"]["channels"]
        for ours, theirs in zip(same["exact"]["blocks"], node["exact"]["blocks"], strict=True):
            assert ours["start"] == theirs["start"] and ours["size"] == theirs["size"]
            np.testing.assert_allclose(
                array(found, ours["output"]), array(expected, theirs["output"]), rtol=1e-5, atol=1e-6
            )
            for a, b in zip(ours["inputs"], theirs["inputs"], strict=True):
                assert a["start"] == b["start"] and a["channels"] == b["channels"]


def test_layouts_that_cannot_be_told_apart_stay() -> None:
    """A dense layer on a channels-first map acts on its columns: nothing is turned."""
    node = Node("p", "permute", ("x",), (3, 4, 5), {"axes": (2, 0, 1)})
    model = network((4, 5, 3), node, Node("d", "dense", ("p",), (3, 4, 2), {}, weights(kernel=(5, 2))))
    assert view_of(model.graph).turned == frozenset()
    report, _ = report_of(model)
    assert report.record["nodes"]["d"]["shape"] == [3, 4, 2]


def test_names_from_a_file_cannot_end_the_script() -> None:
    name = '</script><b>"it\'s"'
    model = network((4,), Node(name, "dense", ("x",), (2,), {}, weights(kernel=(4, 2))))
    report, _ = report_of(model)
    assert name not in report.html()
    found = re.search(r'id="study">(.*?)</script>', report.html(), re.DOTALL)
    assert found and json.loads(found[1])["layers"][1]["name"] == name


def test_a_constant_of_any_size_has_a_histogram() -> None:
    for value in (0.0, 4e15, 1e20, -1e38):
        model = network((9, 9, 1), Node("y", "identity", ("x",), (9, 9, 1)))
        record = model.study(np.full((1, 9, 9, 1), value, np.float32), repeats=1).record
        low, high = record["nodes"]["x"]["histogram"]["edges"]
        assert low < value < high or (low < high and value == 0.0)


def test_a_study_on_a_gpu_says_whose_time_it_is() -> None:
    """In Numba's simulator, or on a GPU where the tests are asked to use one."""
    pytest.importorskip("numba_cuda", reason="the extra cuda is not installed")
    graph = network((6,), Node("d", "dense", ("x",), (3,), {}, weights(kernel=(6, 3)))).graph
    report, x = report_of(convcore.Model(graph, Device("cuda")))
    record = report.record
    assert record["machine"]["device"] == "cuda" and record["machine"]["peaks"] is None
    assert record["model"]["clock"] and record["model"]["ms"] > 0 and record["model"]["least_ms"] is None
    assert record["layers"][1]["fraction"] is None
    expected = convcore.Model(graph, Device()).predict(x)
    np.testing.assert_allclose(
        array(report, record["nodes"]["d"]["exact"]["blocks"][0]["output"]), expected[0], rtol=1e-5
    )


def test_one_example_only() -> None:
    model = convcore.load_model(data.path("sonar.keras"))
    with pytest.raises(ArgumentError, match="examples"):
        model.study(np.zeros((2, 60), np.float32))


def test_names_must_fit_the_classes() -> None:
    model = convcore.load_model(data.path("sonar.keras"))
    with pytest.raises(ArgumentError, match="names of classes"):
        model.study(np.zeros((1, 60), np.float32), facts=InputFacts(labels=("a", "b", "c")), repeats=1)
    facts = InputFacts(labels=("mine", "rock"))
    report = model.study(np.zeros((1, 60), np.float32), facts=facts, repeats=1)
    (answer,) = report.record["answer"]
    (top,) = answer["top"]
    assert top["name"] == facts.labels[top["value"] > 0.5]


def test_sums_are_of_all_numbers() -> None:
    model = flat_network()
    report, x = report_of(model)
    value = model.trace(x)["relu"][0].astype(np.float64)
    record = report.record["nodes"]["relu"]
    assert sum(record["histogram"]["counts"]) == value.size
    assert record["range"]["zeros"] == np.mean(value == 0)
    assert record["range"]["mean"] == pytest.approx(value.mean(), rel=1e-12)
    assert record["range"]["high"] == value.max()
    counts, _ = np.histogram(value, record["histogram"]["edges"])
    assert counts.tolist() == record["histogram"]["counts"]


def test_values_that_json_lacks() -> None:
    shape = (30, 30, 9)
    log = Node("out", "activation", ("x",), shape, {"kind": "relu", "parameters": {}})
    model = network(shape, log)
    x = np.zeros((1, *shape), np.float32)
    x[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    record = model.study(x, repeats=1).record
    json.dumps(record, allow_nan=False)
    assert record["nodes"]["x"]["range"] | {"mean": 0, "deviation": 0, "zeros": 0} == {
        "low": "-inf", "high": "inf", "mean": 0, "deviation": 0, "zeros": 0, "nan": 1, "infinite": 2,
        "count": 8100,
    }  # fmt: skip
    assert sum(record["nodes"]["x"]["histogram"]["counts"]) == 8100 - 3


def test_layers_name_what_they_read_and_when_they_ran() -> None:
    model = convcore.load_model(data.path("lung_segmentation.keras"))
    report, _ = report_of(model)
    record = report.record
    names = [layer["name"] for layer in record["layers"]]
    assert names == [layer.name for layer in model.layers]
    assert sum(layer["parameters"] for layer in record["layers"]) == record["model"]["parameters"]
    owners = [record["nodes"][n]["layer"] for layer in record["layers"] for n in layer["nodes"]]
    assert owners == sorted(owners) and len(owners) == len(record["nodes"])
    assert record["layers"][0]["inputs"] == [] and record["layers"][1]["inputs"] == [0]
    joined = next(layer for layer in record["layers"] if layer["class"] == "Concatenate")
    assert len(joined["inputs"]) == 2
    for layer in record["layers"][1:]:
        steps = [record["steps"][i] for i in layer["steps"]]
        assert steps and layer["ms"] == pytest.approx(sum(s["ms"] for s in steps))
    assert record["model"]["ms"] == pytest.approx(sum(s["ms"] for s in record["steps"]))


def test_inputs_that_the_file_does_not_list_come_first(data_dir: Path) -> None:
    model = convcore.load_model(data_dir / "sonar" / "sonar_model_keras231.h5")
    report, _ = report_of(model)
    assert [layer["class"] for layer in report.record["layers"]] == ["InputLayer", "Dense", "Dense", "Dense"]
    assert report.record["layers"][1]["inputs"] == [0]


def test_hounsfield_units_are_kept() -> None:
    model = convcore.load_model(data.path("lung_segmentation.keras"))
    hu = np.linspace(-2000, 4000, 50 * 40).reshape(50, 40).astype(np.float32)
    x = np.zeros((1, 128, 128, 1), np.float32)
    report = model.study(x, facts=InputFacts("slice", hu=hu, spacing=(0.7, 0.7)), repeats=1)
    kept = report.record["input"]
    assert kept["kind"] == "ct" and kept["hu"]["spacing"] == [0.7, 0.7]
    assert np.array_equal(array(report, kept["hu"]["values"]), np.rint(hu))
    assert sum(kept["hu"]["counts"]) == hu.size  # the ends hold what lies beyond them


def test_maps_are_means_scaled_to_grey() -> None:
    value = RNG.normal(size=(130, 70, 3)).astype(np.float32)
    drawn = sprite(value, 3 * 32 * 32)
    assert drawn.scale == math.ceil(130 / 32) and drawn.tile == (26, 14)
    height, width = drawn.tile
    second = drawn.pixels[:height, width : 2 * width]
    mean = value[5:10, 10:15, 1].mean()
    grey = 255 * (mean - drawn.low) / (drawn.high - drawn.low)
    assert abs(second[1, 2] - np.clip(grey, 0, 255)) <= 0.5 + 1e-3


@pytest.mark.parametrize("shape", [(5, 3), (1, 1, 700), (9, 4, 5, 6), (300, 2, 1), (1, 1, 1)])
def test_maps_of_any_shape(shape: tuple[int, ...]) -> None:
    drawn = sprite(RNG.normal(size=shape).astype(np.float32), 20_000)
    rows = -(-shape[-1] // drawn.columns)
    assert drawn.pixels.shape == (rows * drawn.tile[0], drawn.columns * drawn.tile[1])
    assert (drawn.depth is None) == (len(shape) != 4)


def test_the_page_is_whole() -> None:
    """Every array that the record names is in the page, under its number."""
    model = convcore.load_model(data.path("sonar.keras"))
    report, _ = report_of(model)
    page = report.html()
    numbers: set[int] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "blob" in value:
                numbers.add(value["blob"])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(report.record)
    assert numbers == set(range(len(report._blobs.encoded)))
    assert all(f'id="blob-{n}"' in page for n in numbers)
    assert "{{" not in page.split("</style>")[0]
    assert "<iframe" in report._repr_html_() and len(report._repr_html_()) > len(page)


def test_a_large_network_keeps_less_of_each_layer() -> None:
    """110 layers, each with more weights and numbers than their share of the page."""
    nodes = [conv("c0", "x", (12, 12, 256), (3, 3, 256, 256))]
    # Numbers neither grow nor vanish: the strongest response is somewhere, and not infinite everywhere.
    shared = {name: np.float32(1 / 48) * w for name, w in nodes[0].weights.items()}
    for i in range(1, 110):
        last = nodes[-1]
        nodes.append(Node(f"c{i}", "conv", (last.name,), last.shape, last.attributes, shared))
    report, _ = report_of(network((12, 12, 256), *nodes))
    kept = report.record["kept"]
    assert kept["positions"] < 64 and kept["channels"] < 8
    exact = report.record["nodes"]["c40"]["exact"]
    assert len(exact["channels"]) == kept["channels"]
    assert sum(math.prod(block["size"]) for block in exact["blocks"]) == kept["positions"]
    assert sum(map(len, report._blobs.encoded)) * 3 / 4 < (9 << 20) + 8_000_000


def test_no_name_is_declared_in_two_scripts() -> None:
    """They become one function, where a later declaration takes an earlier one's place without a word."""
    declared = re.compile(r"^(?:async )?(?:function\*?|const|let|class) (\w+)", re.MULTILINE)
    folder = resources.files("convcore.study") / "web"
    names = Counter(
        name for script in SCRIPTS for name in declared.findall((folder / f"{script}.js").read_text())
    )
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
    assert {f"{script}.js" for script in SCRIPTS} == {
        entry.name for entry in folder.iterdir() if entry.name.endswith(".js")
    }
