"""One run of a network on one input, as plain data: what the report shows, and nothing about how.

The format is in ``docs/study.md``. Numbers that are kept exactly are float32 bit for bit; sums and histograms
are of all finite numbers of a layer, kept or not.
"""

from __future__ import annotations

import datetime
import math
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convcore
from convcore import _native
from convcore.errors import ArgumentError
from convcore.gpu import describe
from convcore.loader.flops import node_flops
from convcore.loader.graph import Graph, Node
from convcore.run.profile import CudaProfile, Profile
from convcore.study.blobs import Blobs
from convcore.study.layout import view_of
from convcore.study.parts import NodePart, Selection, check_selection, choose_parts
from convcore.study.pictures import as_picture, sprite

__all__ = ["InputFacts", "Run", "check", "make_record"]

FORMAT = 1
#: Bins of a histogram.
_BINS = 64
#: Pixels of all feature maps together, and of one node's.
_ALL_PIXELS, _NODE_PIXELS = 8_000_000, 1 << 19
#: Longest vector that is shown number by number.
_BARS = 1 << 16
#: Classes of an answer.
_TOP = 5
#: Hounsfield units of air in a scanner and of what no CT shows; bins of the histogram between.
_HU_EDGES = np.arange(-1024, 3073, 16)


@dataclass(frozen=True)
class InputFacts:
    """What is known about the input beside its numbers.

    Attributes
    ----------
    name
        The file's name, or what the caller calls it.
    preprocess
        How the numbers were made of the file, in words.
    picture
        uint8 (h, w) or (h, w, 3) RGB, what a person would look at; by default the input itself.
    hu
        Hounsfield units (h, w) of a CT slice.
    spacing
        Millimetres between its rows and columns.
    window
        (level, width) in HU to begin with.
    labels
        Names of the classes.

    Raises
    ------
    ArgumentError
        A picture that is not uint8 or not grey or RGB, or Hounsfield units that are no slice.
    """

    name: str = "input"
    preprocess: str = ""
    picture: NDArray[np.uint8] | None = None
    hu: NDArray[np.float32] | None = None
    spacing: tuple[float, float] | None = None
    window: tuple[float, float] = (-600.0, 1500.0)
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        shape = np.shape(self.picture) if self.picture is not None else (1, 1)
        grey_or_rgb = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
        if self.picture is not None and (self.picture.dtype != np.uint8 or not grey_or_rgb):
            got = f"{self.picture.dtype} {shape}"
            raise ArgumentError("study", "picture", got=got, expected="uint8 (h, w) or (h, w, 3) RGB")
        if self.hu is not None and np.ndim(self.hu) != 2:
            raise ArgumentError(
                "study", "Hounsfield units", got=np.shape(self.hu), expected="(h, w), a slice"
            )


@dataclass(frozen=True)
class Run:
    """What the engine says of one run.

    Attributes
    ----------
    graph
        The network, all of its sizes known.
    values
        Output of every node, one example, with the batch axis; from a plan in which nothing is fused.
    algorithms
        Which algorithm computed a node, where there is a choice.
    profile
        Times of the fused plan.
    device
        "cpu" or "cuda".
    """

    graph: Graph
    values: Mapping[str, NDArray[np.float32]]
    algorithms: Mapping[str, str]
    profile: Profile | CudaProfile
    device: str = "cpu"


def make_record(run: Run, facts: InputFacts, selection: Selection) -> tuple[dict[str, Any], Blobs]:
    """Return the record of a run as JSON has it, and its arrays.

    Raises
    ------
    ArgumentError
        Names for another number of classes, or a layer, channel or position that the network does not have.
    """
    check(run.graph, facts, selection)
    view = view_of(run.graph)
    graph = view.graph
    values = {node.name: view.value(node.name, run.values[node.name][0]) for node in graph.nodes}
    parts, amount = choose_parts(graph, values, selection)
    blobs = Blobs()
    owners = _Owners(graph)
    nodes = _Nodes(graph, values, parts, run.algorithms, blobs, owners)
    steps = _steps(run.profile, owners)
    layers = _layers(graph, owners, steps)
    record = {
        "format": FORMAT,
        "model": _model(graph, run.profile, layers, bool(view.turned)),
        "machine": _machine(run),
        "input": _input(graph, values, facts, blobs),
        "answer": _answer(graph, values, facts.labels),
        "layers": layers,
        "steps": steps,
        "nodes": {node.name: nodes.describe(node) for node in graph.nodes},
        "kept": {
            "positions": amount.positions,
            "channels": amount.channels,
            "asked": {
                "layers": list(selection.layers),
                "channels": list(selection.channels),
                "at": [list(place) for place in selection.at],
            },
        },
    }
    return record, blobs


def check(graph: Graph, facts: InputFacts, selection: Selection) -> None:
    """Raise :class:`ArgumentError` for what :func:`make_record` would refuse; needs no run.

    Raises
    ------
    ArgumentError
        Names for another number of classes, or a layer, channel or position that the network does not have.
    """
    if facts.labels and (count := _classes(graph)) not in (0, len(facts.labels)):
        raise ArgumentError("study", "names of classes", got=len(facts.labels), expected=str(count))
    check_selection(view_of(graph).graph, selection)


# ---- layers ---------------------------------------------------------------------------------------


class _Owners:
    """Which layer of the report a node belongs to. Inputs that the file does not list come first."""

    def __init__(self, graph: Graph) -> None:
        known = {layer.name for layer in graph.layers}
        nodes = {layer.node for layer in graph.layers}
        self.unlisted = [n for n in graph.inputs if graph.node(n).layer not in known and n not in nodes]
        names = [*self.unlisted, *(layer.name for layer in graph.layers)]
        self.index = {name: i for i, name in enumerate(names)}
        self.of_node = {n.name: self.index.get(n.layer, self.index.get(n.name)) for n in graph.nodes}
        self.nodes: dict[int, list[Node]] = defaultdict(list)
        for node in graph.nodes:
            owner = self.of_node[node.name]
            if owner is not None:
                self.nodes[owner].append(node)


def _layers(graph: Graph, owners: _Owners, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    listed = [(name, "InputLayer", graph.node(name), 0) for name in owners.unlisted]
    listed += [(x.name, x.layer_class, graph.node(x.node), x.parameters) for x in graph.layers]
    layers = []
    for index, (name, kind, node, parameters) in enumerate(listed):
        nodes = owners.nodes[index]
        inside = {n.name for n in nodes}
        sources = dict.fromkeys(x for n in nodes for x in n.inputs if x not in inside)
        counts = [node_flops(n, [graph.node(x).shape for x in n.inputs]) for n in nodes]
        flops = sum(c or 0 for c in counts)
        numbers = sum(_size(graph.node(x)) for x in sources) + _size(node)
        numbers += sum(w.size for n in nodes for w in n.weights.values())
        ran = [i for i, step in enumerate(steps) if index in step["layers"]]
        layers.append(
            {
                "name": name,
                "class": kind,
                "inputs": list(dict.fromkeys(o for x in sources if (o := owners.of_node[x]) is not None)),
                "shape": list(node.shape),
                "parameters": parameters,
                "flops": flops,
                # What no step computes (a reshape, a dropout) moves nothing.
                "bytes": 4 * numbers if ran else 0,
                "intensity": flops / (4 * numbers) if numbers else 0.0,
                "step": ran[-1] if ran else None,
                "steps": ran,
                **_time([steps[i] for i in ran]),
                "algorithm": " + ".join(dict.fromkeys(a for i in ran if (a := steps[i]["algorithm"]))),
                "nodes": [n.name for n in nodes],
                "summary": _summary(graph, name, kind, nodes, node, parameters),
            }
        )
    return layers


def _time(steps: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Milliseconds, effective GFLOP/s and share of the roofline of the steps that a layer ran in."""
    if not steps:
        return {"ms": None, "gflops": None, "fraction": None}
    ms = sum(s["ms"] for s in steps)
    least = [s["least_ms"] for s in steps]
    return {
        "ms": ms,
        "gflops": sum(s["flops"] for s in steps) / max(ms, 1e-9) / 1e6,
        "fraction": None if None in least else sum(least) / max(ms, 1e-9),
    }


def _steps(profile: Profile | CudaProfile, owners: _Owners) -> list[dict[str, Any]]:
    return [
        {
            "layers": sorted({owners.index[name] for name in s.layers if name in owners.index}),
            "operation": " + ".join(s.computes),
            "algorithm": s.algorithm,
            "ms": s.ms,
            "flops": s.flops,
            "algorithm_flops": s.algorithm_flops,
            "bytes": s.bytes_read + s.bytes_written,
            "gflops": s.gflops,
            "fraction": _number(s.fraction),
            "least_ms": _number(s.least_ms),
        }
        for s in profile.steps
    ]


def _size(node: Node) -> int:
    return math.prod(int(n or 0) for n in node.shape)


def _text(shape: Sequence[int | None]) -> str:
    return " x ".join(str(n) for n in shape) or "1"


def _summary(graph: Graph, name: str, kind: str, nodes: Sequence[Node], last: Node, parameters: int) -> str:
    """What a layer does, in a sentence that can be heard."""
    if last.operation == "input":
        return f"{name} takes an input of {_text(last.shape)}."
    sources = list(dict.fromkeys(x for n in nodes for x in n.inputs if x not in {m.name for m in nodes}))
    read = " and ".join(_text(graph.node(x).shape) for x in sources[:4])
    if len(sources) > 4:
        read += f" and {len(sources) - 4} more"
    what = ", then ".join(_words(n) for n in nodes) or "nothing"
    weights = f" It has {parameters:,} parameters." if parameters else ""
    return f"{name} ({kind}) makes {_text(last.shape)} of {read}: {what}.{weights}"


def _words(node: Node) -> str:
    a = node.attributes
    words = node.operation.replace("_", " ")
    if node.operation == "activation":
        return str(a["kind"]).replace("_", " ")
    if "pool_size" in a:
        words += f" over {_text(a['pool_size'])}"
    elif "kernel" in node.weights and node.operation != "dense":
        spatial = node.weights["kernel"].shape[:-2]
        words += f" with a kernel of {_text(spatial)}"
    if any(s != 1 for s in a.get("strides", ())):
        words += f", stride {_text(a['strides'])}"
    if any(d != 1 for d in a.get("dilation", ())):
        words += f", dilation {_text(a['dilation'])}"
    return words


# ---- nodes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Nodes:
    """Describes nodes one by one, and puts their arrays into `blobs`."""

    graph: Graph
    values: Mapping[str, np.ndarray]
    parts: Mapping[str, NodePart]
    algorithms: Mapping[str, str]
    blobs: Blobs
    owners: _Owners

    def describe(self, node: Node) -> dict[str, Any]:
        value = self.values[node.name]
        described: dict[str, Any] = {
            "operation": node.operation,
            "layer": self.owners.of_node[node.name],
            "inputs": list(node.inputs),
            "shape": list(node.shape),
            "attributes": _plain(node.attributes),
            "algorithm": self.algorithms.get(node.name, ""),
            "range": _range(value),
            "histogram": _histogram(value),
            "maps": self._maps(node, value),
            "exact": None,
            "weights": {},
        }
        if node.name in self.parts:
            described["exact"], described["weights"] = self._exact(node, self.parts[node.name])
        return described

    def _maps(self, node: Node, value: np.ndarray) -> dict[str, Any] | None:
        if value.ndim == 1:
            return {"values": self.blobs.add(value)} if value.size <= _BARS else None
        if not 2 <= value.ndim <= 4 or not value.size:
            return None
        drawn = sprite(value, min(_NODE_PIXELS, _ALL_PIXELS // len(self.graph.nodes)))
        return {
            "sprite": self.blobs.add_png(drawn.pixels),
            "tile": list(drawn.tile),
            "columns": drawn.columns,
            "count": value.shape[-1],
            "low": drawn.low,
            "high": drawn.high,
            "scale": drawn.scale,
            "depth": drawn.depth,
            "rounded": True,
        }

    def _exact(self, node: Node, part: NodePart) -> tuple[dict[str, Any], dict[str, Any]]:
        value = self.values[node.name]
        kept = list(part.channels)
        blocks = []
        for block in part.blocks:
            box = tuple(slice(a, a + n) for a, n in zip(block.start, block.size, strict=True))
            inputs = [
                None
                if given is None
                else {
                    "start": list(given.start),
                    "size": list(given.size),
                    "channels": None if given.channels is None else list(given.channels),
                    "values": self.blobs.add(given.take(self.values[name])),
                }
                for given, name in zip(block.inputs, node.inputs, strict=True)
            ]
            blocks.append(
                {
                    "start": list(block.start),
                    "size": list(block.size),
                    "output": self.blobs.add(value[box][..., kept]),
                    "inputs": inputs,
                }
            )
        exact = {"whole": part.whole, "channels": kept, "blocks": blocks}
        return exact, {name: self.blobs.add(w) for name, w in _weights(node, kept).items()}


def _weights(node: Node, kept: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """The weights that the kept output channels are computed with, in the order of `kept`."""
    channels = node.shape[-1]
    taken = {}
    for name, weight in node.weights.items():
        w = np.asarray(weight, np.float32)
        if name == "kernel" and node.operation == "depthwise_conv":
            w = w.reshape(*w.shape[:-2], -1)
        if name == "kernel" and node.operation == "conv_transpose":
            w = w[..., list(kept), :]
        elif w.ndim and w.shape[-1] == channels and _along_channels(node):
            w = w[..., list(kept)]
        taken[name] = w
    return taken


def _along_channels(node: Node) -> bool:
    """Whether the last axis of the node's weights is the last of its output."""
    return node.operation != "batch_norm" or node.attributes["axis"] in (-1, len(node.shape) - 1)


def _plain(value: Any) -> Any:
    """Attributes as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | str | None:
    """JSON has no NaN and no infinity."""
    if math.isfinite(value):
        return float(value)
    return None if math.isnan(value) else ("inf" if value > 0 else "-inf")


def _range(value: np.ndarray) -> dict[str, Any]:
    finite = value[np.isfinite(value)]
    return {
        "low": _number(float(np.fmin.reduce(value, axis=None))) if value.size else None,
        "high": _number(float(np.fmax.reduce(value, axis=None))) if value.size else None,
        "mean": float(finite.mean(dtype=np.float64)) if finite.size else None,
        "deviation": float(finite.std(dtype=np.float64)) if finite.size else None,
        "zeros": float(np.count_nonzero(value == 0) / max(value.size, 1)),
        "nan": int(np.count_nonzero(np.isnan(value))),
        "infinite": int(np.count_nonzero(np.isinf(value))),
        "count": int(value.size),
    }


def _histogram(value: np.ndarray) -> dict[str, Any]:
    """64 bins of equal width over the finite values; a single value gets a bin of its own."""
    finite = value[np.isfinite(value)].astype(np.float64)
    if not finite.size:
        return {"edges": [0.0, 1.0], "counts": [0]}
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        half = max(0.5, 1e-3 * abs(low))
        return {"edges": [low - half, low + half], "counts": [int(finite.size)]}
    counts, edges = np.histogram(finite, np.linspace(low, high, _BINS + 1))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


# ---- the rest -------------------------------------------------------------------------------------


def _model(
    graph: Graph, profile: Profile | CudaProfile, layers: Sequence[Mapping[str, Any]], turned: bool
) -> dict[str, Any]:
    source = graph.source
    keras = f"Keras {source.keras_version}" if source.keras_version else "Keras version not stated"
    return {
        "name": graph.name,
        "file": Path(source.path).name,
        "source": f"{source.format}, {keras}" + (", channels first, shown last" if turned else ""),
        "parameters": graph.parameters,
        "flops": sum(layer["flops"] for layer in layers),
        "bytes": sum(s.bytes_read + s.bytes_written for s in profile.steps),
        # On a GPU a call replays all steps as one graph, without the gaps between them.
        "ms": profile.ms if isinstance(profile, Profile) else profile.graph_ms,
        "clock": None if isinstance(profile, Profile) else profile.clock,
        "least_ms": profile.least_ms if isinstance(profile, Profile) else None,
        "repeats": profile.repeats,
    }


def _machine(run: Run) -> dict[str, Any]:
    machine: dict[str, Any] = {"device": run.device, "cpu": _native.cpu_name()}
    if isinstance(run.profile, Profile):
        peaks = run.profile.peaks.as_dict()
        machine |= {"isa": peaks["isa"], "threads": run.profile.threads}
        machine["peaks"] = {name: peaks[name] for name in ("gflops", "read_gbytes", "write_gbytes")}
    else:
        # The GPU's peaks are not measured here.
        machine |= {"isa": None, "threads": None, "peaks": None, "gpu": describe()["name"]}
    return {
        **machine,
        "versions": {
            "convcore": convcore.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _input(graph: Graph, values: Mapping[str, np.ndarray], facts: InputFacts, blobs: Blobs) -> dict[str, Any]:
    x = values[graph.inputs[0]]
    picture = facts.picture
    looks = x.ndim == 3 and x.shape[-1] in (1, 3) and min(x.shape[:2]) > 1
    if picture is None and looks:
        picture = as_picture(x)
    kind = "ct" if facts.hu is not None else "picture" if looks else "row" if x.ndim == 1 else "array"
    return {
        "name": facts.name,
        "kind": kind,
        "shape": list(x.shape),
        "preprocess": facts.preprocess,
        "picture": None if picture is None else blobs.add_png(picture),
        "hu": None if facts.hu is None else _hounsfield(facts, blobs),
    }


def _hounsfield(facts: InputFacts, blobs: Blobs) -> dict[str, Any]:
    hu = np.asarray(facts.hu, np.float64)
    counts, edges = np.histogram(np.clip(hu, _HU_EDGES[0], _HU_EDGES[-1]), _HU_EDGES)
    return {
        "values": blobs.add(np.clip(np.rint(hu), -32768, 32767).astype(np.int16)),
        "spacing": None if facts.spacing is None else list(facts.spacing),
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "window": list(facts.window),
    }


def _classes(graph: Graph) -> int:
    """How many classes the names of classes are for; 0 where the output is no vector."""
    node = graph.node(graph.outputs[0])
    sizes = [n for n in node.shape if n != 1]
    if len(sizes) > 1:
        return 0
    return 2 if not sizes else int(sizes[0] or 0)


def _answer(graph: Graph, values: Mapping[str, np.ndarray], labels: Sequence[str]) -> list[dict[str, Any]]:
    """The largest numbers of every output that is a vector; of a single number, the number."""
    layer_of = {layer.node: layer.name for layer in graph.layers}
    answers = []
    for name in graph.outputs:
        y = values[name]
        top: list[dict[str, Any]] = []
        if y.size == 1:
            # One number decides between two classes, if it is about classes at all.
            p = float(y.reshape(()))
            called = labels[int(p > 0.5)] if len(labels) == 2 else "value"
            top.append({"class": None, "name": called, "value": _number(p)})
        elif y.size == max(y.shape):
            numbers = y.reshape(-1)
            for i in np.argsort(-numbers, kind="stable")[:_TOP].tolist():
                called = labels[i] if len(labels) == numbers.size else ""
                top.append({"class": i, "name": called, "value": _number(float(numbers[i]))})
        answers.append({"output": layer_of.get(name, name), "shape": list(y.shape), "top": top})
    return answers
