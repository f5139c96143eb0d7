"""``convcore inspect``: what a model file holds, and what of it convcore cannot run."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

from convcore.cli.models import add_device_options, add_model_options, kernel_flip
from convcore.cli.terminal import note, print_json, print_table
from convcore.errors import ModelError, UnsafeModelError, UnsupportedLayerError, WeightsError

if TYPE_CHECKING:
    from convcore.loader.graph import Graph

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="FILE", help="a .keras, .h5 or .hdf5 file, or a model's .json")
    add_model_options(parser)
    add_device_options(parser)
    parser.add_argument(
        "--plan", action="store_true", help="also show the steps, kernels and memory of a run"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Describe the file; 1 if convcore cannot run the model."""
    from convcore.loader import load_graph

    try:
        graph = load_graph(args.model, weights=args.weights, kernel_flip=kernel_flip(args))
    except (UnsupportedLayerError, UnsafeModelError, WeightsError) as error:
        return _outline(args, error)
    record = _describe(graph)
    plan = _plan(args, graph) if args.plan else None
    if args.json:
        print_json(record | ({"plan": plan} if plan else {}))
    else:
        _print(record)
        if plan:
            print(f"\n{plan}")
    return 0


def _plan(args: argparse.Namespace, graph: Graph) -> str | None:
    if any(n is None for name in graph.inputs for n in graph.node(name).shape):
        note("convcore inspect: the model leaves its input's size open, so there is no plan to show")
        return None
    from convcore.cli.models import open_model

    return str(open_model(args).plan)


# ---------------------------------------------------------------------------------- a model that runs


def _describe(graph: Graph) -> dict[str, Any]:
    from convcore.loader.flops import node_flops

    flops: Counter[str] = Counter()
    unknown = set()
    for node in graph.nodes:
        count = node_flops(node, [graph.node(name).shape for name in node.inputs])
        if count is None:
            unknown.add(node.layer)
        else:
            flops[node.layer] += count
    source = graph.source
    return {
        "name": graph.name,
        "file": source.path,
        "format": source.format,
        "keras_version": source.keras_version or None,
        "backend": source.backend,
        "notes": list(source.notes),
        "runs": True,
        "inputs": [{"name": n, "shape": list(graph.node(n).shape)} for n in graph.inputs],
        "outputs": [{"name": n, "shape": list(graph.node(n).shape)} for n in graph.outputs],
        "layers": [
            {
                "name": layer.name,
                "class": layer.layer_class,
                "shape": list(layer.shape),
                "parameters": layer.parameters,
                "flops": None if layer.name in unknown else flops[layer.name],
            }
            for layer in graph.layers
        ],
        "parameters": graph.parameters,
        "flops": None if unknown else sum(flops.values()),
        "unsupported": [],
    }


def _print(record: dict[str, Any]) -> None:
    version = f"Keras {record['keras_version']}" if record["keras_version"] else "Keras version not stated"
    backend = f", trained on {record['backend']}" if record["backend"] else ""
    print(f"{record['name']}: {record['format']} file, {version}{backend}")
    for text in record["notes"]:
        print(f"note: {text}")
    print()
    rows = [
        [x["name"], x["class"], _shape(x["shape"]), f"{x['parameters']:,}", _flops(x["flops"])]
        for x in record["layers"]
    ]
    print_table(["layer", "class", "output", "parameters", "FLOP"], rows, left=(0, 1, 2))
    print(f"\ninputs       {', '.join(_shape(x['shape']) for x in record['inputs'])}")
    print(f"outputs      {', '.join(_shape(x['shape']) for x in record['outputs'])}")
    print(f"parameters   {record['parameters']:,} ({record['parameters'] * 4 / 1e6:,.1f} MB as float32)")
    print(f"FLOP         {_flops(record['flops'])} for one example (a multiply-add is two)")
    print("unsupported  nothing")


def _shape(shape: list[int | None]) -> str:
    return " x ".join("?" if n is None else str(n) for n in shape) or "1"


def _flops(count: int | None) -> str:
    if count is None:
        return "open"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return str(count)


# ---------------------------------------------------------------------------------- one that does not


def _outline(args: argparse.Namespace, error: ModelError) -> int:
    """Show what a file holds that cannot be loaded, with every unsupported layer and the loader's error."""
    from convcore.loader.outline import read_outline

    outline = read_outline(args.model)
    bad = [layer for layer in outline.layers if layer.problem]
    if args.json:
        print_json(
            {
                "name": outline.name,
                "file": outline.path,
                "format": outline.format,
                "keras_version": outline.keras_version or None,
                "runs": False,
                "error": {"code": error.code, "message": str(error)},
                "layers": [
                    {"name": x.name, "class": x.layer_class, "problem": x.problem or None}
                    for x in outline.layers
                ],
                "unsupported": [{"name": x.name, "class": x.layer_class, "problem": x.problem} for x in bad],
            }
        )
    else:
        version = f"Keras {outline.keras_version}" if outline.keras_version else "Keras version not stated"
        print(f"{outline.name}: {outline.format} file, {version}\n")
        print_table(
            ["layer", "class", "unsupported"],
            [[x.name, x.layer_class, x.problem] for x in outline.layers],
            left=(0, 1, 2),
        )
        print(f"\nunsupported  {', '.join(f'{x.name} ({x.layer_class})' for x in bad) or 'see the message'}")
    note(f"convcore inspect: {error}")
    return 1
