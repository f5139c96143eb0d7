"""VGG16 on photograph-sized input, float32: convcore beside PyTorch, one process, interleaved.

    pip install .[test] torch
    python benchmarks/vgg16_cpu.py [--batch 1] [--threads 2] [--rounds 20] [-o RESULT.json]

Weights are seeded; both compute the same network, and their logits are compared with PyTorch's in float64
before anything is timed. PyTorch is at its best here: channels-last, inference mode, oneDNN.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import convcore as cc
from convcore.bench import interleaved, machine, median_ratio
from convcore.loader.graph import Graph, Node, Source
from convcore.plan import Device, build
from convcore.run.cpu import CpuRunner

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
DENSE = (4096, 4096, 1000)


def vgg16(seed: int = 0) -> Graph:
    """VGG16 with seeded weights, without its final softmax."""
    random = np.random.default_rng(seed)
    nodes = [Node("input", "input", (), (224, 224, 3), {"shape": (224, 224, 3)})]

    def add(operation: str, shape: tuple[int, ...], attributes: dict[str, Any], *weight_shape: int) -> None:
        weights = {}
        if weight_shape:
            scale = np.float32(np.sqrt(2 / np.prod(weight_shape[:-1])))
            weights["kernel"] = random.standard_normal(weight_shape, np.float32) * scale
            weights["bias"] = random.standard_normal(weight_shape[-1], np.float32) * np.float32(0.1)
        name = f"{operation}_{len(nodes)}"
        nodes.append(Node(name, operation, (nodes[-1].name,), shape, attributes, weights, name, operation))

    relu = {"kind": "relu", "parameters": {}}
    size, channels = 224, 3
    for width, repeats in BLOCKS:
        for _ in range(repeats):
            window = {"strides": (1, 1), "dilation": (1, 1), "groups": 1, "padding": ((1, 1), (1, 1))}
            add("conv", (size, size, width), window, 3, 3, channels, width)
            add("activation", (size, size, width), relu)
            channels = width
        size //= 2
        add(
            "max_pool",
            (size, size, channels),
            {"pool_size": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))},
        )
    features = size * size * channels
    add("reshape", (features,), {"shape": (features,)})
    for width in DENSE:
        add("dense", (width,), {}, features, width)
        if width != DENSE[-1]:
            add("activation", (width,), relu)
        features = width
    return Graph("vgg16", tuple(nodes), ("input",), (nodes[-1].name,), (), Source("", "seeded", ""))


def in_torch(graph: Graph, x: np.ndarray, threads: int, dtype: str = "float32") -> Callable[[], np.ndarray]:
    """The same network in PyTorch, ready to be called."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    convolutions: list[nn.Module] = []
    dense = []
    for node in graph.nodes:
        if node.operation == "conv":
            kernel = node.weights["kernel"]
            layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
            layer.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).astype(dtype))
            layer.bias.data = torch.from_numpy(node.weights["bias"].astype(dtype))
            convolutions += [layer, nn.ReLU(inplace=True)]
        elif node.operation == "max_pool":
            convolutions.append(nn.MaxPool2d(2))
        elif node.operation == "dense":
            kernel = torch.from_numpy(np.ascontiguousarray(node.weights["kernel"].T.astype(dtype)))
            dense.append((kernel, torch.from_numpy(node.weights["bias"].astype(dtype))))
    features = nn.Sequential(*convolutions).to(memory_format=torch.channels_last).eval()
    images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2).astype(dtype))).to(
        memory_format=torch.channels_last
    )

    def run() -> np.ndarray:
        with torch.inference_mode():
            y = features(images).permute(0, 2, 3, 1).reshape(len(images), -1)
            for i, (kernel, bias) in enumerate(dense):
                y = nn.functional.linear(y, kernel, bias)
                y = torch.relu(y) if i < len(dense) - 1 else y
            result: np.ndarray = y.numpy()
            return result

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=cc.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--isa", default=None)
    parser.add_argument("--accuracy", default="standard", choices=["direct", "standard"])
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    cc.set_num_threads(options.threads)
    graph = vgg16()
    x = np.random.default_rng(1).standard_normal((options.batch, 224, 224, 3), np.float32)
    runner = CpuRunner(build(graph, Device(isa=options.isa, accuracy=options.accuracy)))
    run_torch = in_torch(graph, x, options.threads)
    ours, theirs = runner.run([x])[0], run_torch()
    exact = in_torch(graph, x, options.threads, "float64")()
    errors = {
        name: float(np.abs(y - exact).max() / np.abs(exact).max())
        for name, y in (("convcore", ours), ("torch", theirs))
    }
    if max(errors.values()) > 1e-4:
        raise SystemExit(f"errors of max|logit| are {errors}: nothing was timed")

    times = interleaved({"convcore": lambda: runner.run([x]), "torch": run_torch}, options.rounds)
    result = {
        "benchmark": "vgg16_cpu",
        "batch": options.batch,
        "threads": options.threads,
        "isa": runner.plan.isa,
        "accuracy": options.accuracy,
        "rounds": options.rounds,
        "milliseconds": {
            name: {"median": statistics.median(t), "min": min(t), "max": max(t)} for name, t in times.items()
        },
        "ratio_to_torch": median_ratio(times["convcore"], times["torch"]),
        "error_of_max_logit": errors,
        "machine": machine("torch"),
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
