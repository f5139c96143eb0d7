"""Graphs in the formats that peers read: ONNX, and ncnn's own.

Both are channels first. Only what the cases of this room hold is written; anything else raises
:class:`UnsupportedError`, which is reported and never hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.loader.graph import Graph, Node

__all__ = [
    "UnsupportedError",
    "channels_first",
    "channels_last",
    "dense_kernel",
    "has_maps",
    "write_ncnn",
    "write_onnx",
]

Array = NDArray[Any]
#: Operator and attributes of ONNX, with convcore's defaults.
_ONNX_ACTIVATIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "noisy_relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "leaky_divide": ("LeakyRelu", {"alpha": 1 / 5.5}),
    "rrelu": ("LeakyRelu", {"alpha": 1 / 5.5}),
    "elu": ("Elu", {}),
    "celu": ("Celu", {}),
    "selu": ("Selu", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6}),
    "hard_silu": ("HardSwish", {}),
    "tanh": ("Tanh", {}),
    "exponential": ("Exp", {}),
}
_NCNN_ACTIVATIONS = {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "TanH", "elu": "ELU", "silu": "Swish"}


#: Operations on maps, whose channels are an axis of their own.
_SPATIAL = frozenset(
    {"conv", "depthwise_conv", "conv_transpose", "max_pool", "average_pool", "global_max_pool"}
    | {"global_average_pool", "batch_norm", "pad", "crop", "upsample", "resize"}
)


class UnsupportedError(Exception):
    """A peer, or a format, has no such operation."""


def has_maps(graph: Graph) -> bool:
    """Whether the input is an image or a volume, whose channels a format may want in front.

    Examples
    --------
    >>> from convcore.bench.cases import sonar_mlp
    >>> has_maps(sonar_mlp())
    False
    """
    return any(node.operation in _SPATIAL for node in graph.nodes)


def channels_first(x: Array) -> Array:
    """(n, spatial..., c) to (n, c, spatial...), contiguous."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def channels_last(x: Array) -> Array:
    """(n, c, spatial...) to (n, spatial..., c)."""
    return np.moveaxis(x, 1, -1)


def arrays_of(node: Node) -> dict[str, Array]:
    """A node's weights, read from their file if that is where they are."""
    return {name: np.asarray(a) for name, a in node.weights.items()}


def dense_kernel(graph: Graph, node: Node) -> Array:
    """The (in, out) kernel of a dense node whose input was flattened with its channels in front."""
    kernel: Array = np.asarray(node.weights["kernel"])
    before = graph.node(node.inputs[0])
    if before.operation != "reshape":
        return kernel
    shape = [n or 0 for n in graph.node(before.inputs[0]).shape]
    moved = np.moveaxis(kernel.reshape(*shape, -1), len(shape) - 1, 0)
    return np.ascontiguousarray(moved.reshape(kernel.shape))


def _filters_first(kernel: Array) -> Array:
    """(k..., ic, oc) to (oc, ic, k...); a depthwise (k..., c, 1) to (c, 1, k...)."""
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(kernel, -1, 0), -1, 1))


def _depthwise_filters(kernel: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(kernel, (-2, -1), (0, 1)))


def _pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Pairs as ONNX has them: all low sides, then all high ones."""
    return [low for low, _ in pairs] + [high for _, high in pairs]


def _settings(node: Node) -> dict[str, Any]:
    return {
        "strides": list(node.attributes["strides"]),
        "dilations": list(node.attributes["dilation"]),
        "pads": _pads(node.attributes["padding"]),
    }


# ---- ONNX


def write_onnx(graph: Graph, batch: int, path: Path) -> None:
    """Write `graph` for `batch` images as an ONNX file, channels first; raises :class:`UnsupportedError`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []
    for node in graph.nodes:
        if node.operation == "input":
            continue
        kind, attributes, arrays = _onnx_node(graph, node)
        names = [f"{node.name}/{i}" for i in range(len(arrays))]
        weights += [numpy_helper.from_array(a, name) for a, name in zip(arrays, names, strict=True)]
        nodes.append(helper.make_node(kind, [*node.inputs, *names], [node.name], **attributes))
    maps = has_maps(graph)

    def end(name: str) -> Any:
        shape = [n or 0 for n in graph.node(name).shape]
        if maps and len(shape) > 1:
            shape = [shape[-1], *shape[:-1]]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])

    body = helper.make_graph(nodes, graph.name, [end(graph.inputs[0])], [end(graph.outputs[0])], weights)
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def _onnx_node(graph: Graph, node: Node) -> tuple[str, dict[str, Any], list[Array]]:
    """Operation, attributes and weights of one node."""
    w = arrays_of(node)
    match node.operation:
        case "conv":
            kernel = _filters_first(w["kernel"])
            more = {"kernel_shape": list(kernel.shape[2:]), "group": node.attributes.get("groups", 1)}
            return "Conv", _settings(node) | more, [kernel, w["bias"]]
        case "conv_transpose":  # (k..., oc, ic) to (ic, oc, k...)
            kernel = np.ascontiguousarray(np.moveaxis(w["kernel"], (-1, -2), (0, 1)))
            more = {"kernel_shape": list(kernel.shape[2:])}
            return "ConvTranspose", _settings(node) | more, [kernel, w["bias"]]
        case "depthwise_conv":
            kernel = _depthwise_filters(w["kernel"])
            more = {"kernel_shape": list(kernel.shape[2:]), "group": len(kernel)}
            return "Conv", _settings(node) | more, [kernel, w["bias"]]
        case "dense":
            return "Gemm", {"transB": 1}, [np.ascontiguousarray(dense_kernel(graph, node).T), w["bias"]]
        case "max_pool" | "average_pool" as kind:
            sizes = {name: list(node.attributes[name]) for name in ("pool_size", "strides")}
            pads = _pads(node.attributes["padding"])
            pooled = {"kernel_shape": sizes["pool_size"], "strides": sizes["strides"], "pads": pads}
            return "MaxPool" if kind == "max_pool" else "AveragePool", pooled, []
        case "pad":
            *pairs, channels = node.attributes["padding"]
            return "Pad", {}, [np.array(_pads([(0, 0), channels, *pairs]), np.int64)]
        case "batch_norm":
            arrays = [w[name] for name in ("gamma", "beta", "mean", "variance")]
            return "BatchNormalization", {"epsilon": node.attributes["epsilon"]}, arrays
        case "activation" if node.attributes["kind"] in _ONNX_ACTIVATIONS:
            return *_ONNX_ACTIVATIONS[node.attributes["kind"]], []
        case "softmax":
            return "Softmax", {"axis": -1}, []
        case "reshape":
            return "Flatten", {"axis": 1}, []
    raise UnsupportedError(f"no ONNX form of {node.operation}")


# ---- ncnn


def write_ncnn(graph: Graph, folder: Path) -> tuple[Path, Path]:
    """Write `graph` as ncnn's .param and .bin, weights float32, ReLU fused; return both paths.

    The input's blob is ``input``; the output's has the name of the last layer that is not a fused ReLU,
    and is the last of the network.
    """
    lines, blob = ["Input input 0 1 input"], graph.inputs[0]
    binary = folder / "net.bin"
    with binary.open("wb") as file:
        for node, fused in _with_relu(graph):
            if node.operation == "input":
                continue
            kind, settings, arrays = _ncnn_layer(graph, node)
            if fused:
                settings["9"] = 1
            text = " ".join(f"{k}={v}" for k, v in settings.items())
            name = node.name
            lines.append(f"{kind} {name} 1 1 {blob} {name} {text}".rstrip())
            blob = name
            for tagged, array in arrays:
                # A zero word before the weights of a convolution says that they are plain float32.
                file.write((np.zeros(1, np.uint32).tobytes() if tagged else b"") + array.tobytes())
    parameters = folder / "net.param"
    parameters.write_text("\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n")
    return parameters, binary


def _with_relu(graph: Graph) -> Iterator[tuple[Node, bool]]:
    """Nodes in order, and whether the ReLU behind is theirs; such a ReLU is left out."""
    nodes, skip = graph.nodes, False
    for i, node in enumerate(nodes):
        if skip:
            skip = False
            continue
        after = nodes[i + 1] if i + 1 < len(nodes) else None
        takes = node.operation in ("conv", "depthwise_conv", "dense") and after is not None
        skip = takes and after.operation == "activation" and after.attributes["kind"] == "relu"  # type: ignore[union-attr]
        yield node, skip


def _ncnn_layer(graph: Graph, node: Node) -> tuple[str, dict[str, Any], list[tuple[bool, Array]]]:
    """Type, settings by number, and (tagged, array) of one layer."""
    w = arrays_of(node)
    match node.operation:
        case "conv" | "depthwise_conv":
            if node.attributes.get("groups", 1) > 1:
                raise UnsupportedError("no ncnn form of a grouped convolution is written")
            if w["kernel"].ndim != 4:
                raise UnsupportedError(
                    f"no ncnn form of {w['kernel'].ndim - 2}-D {node.operation} is written"
                )
            deep = node.operation == "depthwise_conv"
            kernel = _depthwise_filters(w["kernel"]) if deep else _filters_first(w["kernel"])
            given = _settings(node)
            settings: dict[str, Any] = {"0": len(kernel), "1": kernel.shape[3], "11": kernel.shape[2]}
            settings |= {"2": given["dilations"][1], "12": given["dilations"][0]}
            settings |= {"3": given["strides"][1], "13": given["strides"][0]}
            settings |= {"4": given["pads"][1], "14": given["pads"][0], "5": 1, "6": kernel.size}
            kind = "Convolution"
            if deep:
                kind, settings = "ConvolutionDepthWise", settings | {"7": len(kernel)}
            return kind, settings, [(True, kernel), (False, w["bias"])]
        case "dense":
            kernel = np.ascontiguousarray(dense_kernel(graph, node).T)
            settings = {"0": len(kernel), "1": 1, "2": kernel.size}
            return "InnerProduct", settings, [(True, kernel), (False, w["bias"])]
        case "max_pool" if len(node.shape) == 3 and not any(map(any, node.attributes["padding"])):
            size, stride = node.attributes["pool_size"], node.attributes["strides"]
            # 5=1: windows that reach out of the input are left out.
            return (
                "Pooling",
                {"0": 0, "1": size[1], "11": size[0], "2": stride[1], "12": stride[0], "5": 1},
                [],
            )
        case "batch_norm":
            arrays = [(False, w[name]) for name in ("gamma", "mean", "variance", "beta")]
            return "BatchNorm", {"0": len(w["mean"]), "1": f"{node.attributes['epsilon']:e}"}, arrays
        case "activation" if node.attributes["kind"] in _NCNN_ACTIVATIONS:
            settings = {"0": 1.0} if node.attributes["kind"] == "elu" else {}
            return _NCNN_ACTIVATIONS[node.attributes["kind"]], settings, []
        case "softmax":
            return "Softmax", {"0": max(len(node.shape) - 1, 0), "1": 1}, []
        case "reshape":
            return "Flatten", {}, []
    raise UnsupportedError(f"no ncnn form of {node.operation} with {len(node.shape)} axes is written")
