"""How exact the kernels are: every layer of two networks on photographs, and their logits, against float64.

    CONVCORE_TEST_DATA=... python benchmarks/accuracy.py [--photographs 22] [-o RESULT.json]

- Layers: the largest error over the largest output, against the float64 reference on the very input that the
  layer had, on the first photographs. F(2x2) serves small maps alone, so VGG16's convolutions run on
  thumbnails of 64 x 64 too.
- Logits: the same, of the whole network against the whole network in float64.
- The five likeliest classes, in order, beside Keras in float32.

VGG16 has ImageNet's weights where the test data's ``models/imagenet`` has ``vgg16*.h5``, otherwise He's
normal numbers, with a last layer scaled and shifted so that photographs differ in their answers: its logits
are what is left of larger sums, and their errors are larger for it. MobileNet (0.25) has ImageNet's weights.
Takes minutes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convcore.bench import machine, vgg16
from convcore.cli.terminal import note, print_json, progress
from convcore.inputs import preprocess, read_picture
from convcore.loader import load_graph, specialise
from convcore.loader.graph import Graph
from convcore.plan import Device, build
from convcore.reference import evaluate, evaluate_node
from convcore.run.cpu import CpuRunner
from convcore.writers import write_json

ACCURACIES = ("direct", "standard", "fast")
#: Layers are measured on so many, logits on all.
LAYER_PHOTOGRAPHS = 6
#: Largest error over the largest output, where a goal is set.
GOALS = {"direct": 1e-6, "Winograd 4x4": 2e-6, "logits": 1e-5}


def photographs(folder: Path, count: int, size: int) -> np.ndarray:
    """The first `count` of the test data, (n, size, size, 3), 0 to 255."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg"))[:count]
    if not paths:
        raise SystemExit("CONVCORE_TEST_DATA must name a folder that has images/")
    return np.stack([read_picture(path, size=(size, size)) for path in paths])


def traced(graph: Graph, accuracy: str, x: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Every node's output, nothing fused, and the algorithm that computed it."""
    names = [node.name for node in graph.nodes if node.operation != "input"]
    plan = build(graph, Device(accuracy=accuracy), fused=False, outputs=names)
    found = CpuRunner(plan).run([x])
    values = {name.removesuffix("/output"): y for (name, _), y in zip(plan.outputs, found, strict=True)}
    return {graph.inputs[0]: x, **values}, dict(plan.algorithms)


def layer_errors(graph: Graph, accuracy: str, x: np.ndarray) -> dict[str, dict[str, Any]]:
    """By node of convolution or dense layer: its algorithm, and the largest error over the largest output."""
    values, algorithms = traced(graph, accuracy, x)
    found = {}
    for node in graph.nodes:
        if node.operation in ("conv", "depthwise_conv", "dense"):
            exact = evaluate_node(node, *(values[name] for name in node.inputs))
            error = relative(values[node.name], exact)
            found[node.name] = {"algorithm": algorithms[node.name], "error": error}
    return found


def relative(y: np.ndarray, exact: np.ndarray) -> float:
    """The largest error over the largest output, of the worst image."""
    axes = tuple(range(1, exact.ndim))
    return float((np.abs(y - exact).max(axis=axes) / np.abs(exact).max(axis=axes)).max())


def logits_node(graph: Graph) -> str:
    """The last node that is no softmax."""
    return next(node.name for node in reversed(graph.nodes) if node.operation != "softmax")


def measure(name: str, graph: Graph, images: np.ndarray, keras_logits: np.ndarray) -> dict[str, Any]:
    """Errors of layers and of the logits at every accuracy; the worst of all images."""
    end = logits_node(graph)
    layers = {a: layer_errors(graph, a, images[:LAYER_PHOTOGRAPHS]) for a in ACCURACIES}
    runners = {a: CpuRunner(build(graph, Device(accuracy=a), outputs=[end])) for a in ACCURACIES}
    exact, logits = [], {a: [] for a in ACCURACIES}
    for i in progress(range(len(images)), len(images), name):
        x = images[i : i + 1]
        exact.append(evaluate(graph, {graph.inputs[0]: x})[end].ravel())
        for accuracy, runner in runners.items():
            logits[accuracy].append(runner.run([x])[0].ravel())
    expected = top5(keras_logits)
    return {
        "photographs": len(images),
        "layers": layers,
        "logits": {a: relative(np.stack(y), np.stack(exact)) for a, y in logits.items()},
        "logits_of_keras_in_float32": relative(keras_logits.reshape(len(images), -1), np.stack(exact)),
        "same_top5_as_keras": {
            a: int((top5(np.stack(y)) == expected).all(axis=1).sum()) for a, y in logits.items()
        },
    }


def top5(logits: np.ndarray) -> np.ndarray:
    """The five likeliest classes of every row, in order."""
    found: np.ndarray = np.argsort(-logits.reshape(len(logits), -1), axis=1)[:, :5]
    return found


def seeded_vgg16(images: np.ndarray) -> Graph:
    """VGG16 with He's weights; its last layer gives logits of mean 0 and deviation 3 over `images`."""
    graph = vgg16()
    last = graph.nodes[-1]
    features = CpuRunner(build(graph, Device(), outputs=[last.inputs[0]])).run([images])[0]
    kernel = np.asarray(last.weights["kernel"])
    logits = features @ kernel
    centre = logits.mean(axis=0)
    scale = np.float32(3.0 / (logits - centre).std())
    last = replace(last, weights={"kernel": kernel * scale, "bias": -centre * scale})
    return replace(graph, nodes=(*graph.nodes[:-1], last))


def thumbnails(graph: Graph, size: int) -> Graph:
    """The convolutions of `graph`, for images of size x size."""
    end = next(i for i, node in enumerate(graph.nodes) if node.operation == "reshape")
    nodes = [replace(node, shape=(None, None, (node.shape or (0,))[-1])) for node in graph.nodes[:end]]
    body = replace(graph, nodes=tuple(nodes), outputs=(nodes[-1].name,), layers=())
    return specialise(body, {graph.inputs[0]: (size, size, 3)})


def networks(folder: Path, count: int) -> Iterator[tuple[str, Graph, np.ndarray, np.ndarray]]:
    """Name, graph, images and Keras's logits of every network."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    pictures = photographs(folder / "images", count, 224)
    images = preprocess(pictures, "caffe")
    model = keras.applications.VGG16(weights=None, classifier_activation=None)
    trained = sorted((folder / "models" / "imagenet").glob("vgg16*.h5"))
    if trained:
        model.load_weights(trained[0])
        graph = load_graph(trained[0], architecture=json_of(model))
    else:
        graph = seeded_vgg16(images)
        model.set_weights([n.weights[w] for n in graph.nodes if n.weights for w in ("kernel", "bias")])
    name = f"VGG16, {'ImageNet' if trained else 'seeded'}"
    yield name, graph, images, model.predict(images, verbose=0, batch_size=2)

    weights = folder / "models" / "imagenet" / "mobilenet_0.25_224_weights_from_tfjs.h5"
    if weights.exists():
        images = preprocess(pictures, "tf")
        model = keras.applications.MobileNet(alpha=0.25, weights=None, classifier_activation=None)
        model.load_weights(weights)
        graph = load_graph(weights, architecture=json_of(model))
        yield "MobileNet 0.25, ImageNet", graph, images, model.predict(images, verbose=0, batch_size=2)


def json_of(model: Any) -> dict[str, Any]:
    """A Keras model's configuration."""
    import json

    found: dict[str, Any] = json.loads(model.to_json())
    return found


def worst(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The worst layer by accuracy and algorithm, over all networks."""
    result: dict[str, dict[str, float]] = {accuracy: {} for accuracy in ACCURACIES}
    for network in found.values():
        for accuracy, layers in network["layers"].items():
            for layer in layers.values():
                before = result[accuracy].get(layer["algorithm"], 0.0)
                result[accuracy][layer["algorithm"]] = max(before, layer["error"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=int, default=1000, help="at most so many")
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    folder = Path(os.environ.get("CONVCORE_TEST_DATA", ""))
    found: dict[str, Any] = {}
    for name, graph, images, keras_logits in networks(folder, options.photographs):
        found[name] = measure(name, graph, images, keras_logits)
        if name.startswith("VGG16"):
            count = min(options.photographs, LAYER_PHOTOGRAPHS)
            small = preprocess(photographs(folder / "images", count, 64), "caffe")
            layers = layer_errors(thumbnails(graph, 64), "standard", small)
            found["VGG16's convolutions, 64 x 64"] = {"layers": {"standard": layers}}
    result = {
        "benchmark": "accuracy",
        "error": "largest error over the largest output, against float64",
        "goals": GOALS,
        "worst_layer": worst(found),
        "networks": found,
        "machine": machine("keras", "tensorflow"),
    }
    print_json(result)
    if options.output:
        note(f"written: {write_json(options.output, result)}")


if __name__ == "__main__":
    main()
