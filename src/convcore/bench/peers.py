"""The same network in other people's libraries: one small adapter each, with the same three methods.

``build`` makes the network from the graph's own weights and gives it the images, in the layout that the
library likes best; ``run`` is what is timed; ``output`` returns what the last run computed, channels last.
Every library is used as its documents say it is fastest, in float32:

- PyTorch: channels last, inference mode, weights packed for oneDNN beforehand (worth 10 %), ReLU fused,
  ``out=`` where there is one.
- OpenVINO is held to float32; on a CPU that has bf16 it would use that silently.
- ncnn keeps no weights or values in fp16 or bf16, which is its default.
- MNN's converter is called as a function: its command wants to send telemetry.
- TensorFlow: a ``tf.function`` with constant weights; Keras's ``predict`` costs 50 ms a call.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convcore.bench.array_peers import KerasOps, NumPy, OpenCv, PyDicom, SciPyNdimage, SciPySignal
from convcore.bench.formats import (
    UnsupportedError,
    channels_first,
    channels_last,
    dense_kernel,
    has_maps,
    write_ncnn,
    write_onnx,
)
from convcore.bench.own_peers import Convcore, ConvcoreCall, ConvcorePrepared, Roofline
from convcore.loader.graph import Graph, Node

__all__ = ["ALIASES", "OWN", "PEERS", "Peer", "adapters", "installed"]

Array = NDArray[np.float32]
#: Float32 and no other type, whatever the CPU has.
_OPENVINO = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


class Peer(Protocol):
    """One library with one network in it."""

    def __init__(self, threads: int) -> None: ...

    def build(self, graph: Graph, x: Array) -> None:
        """Make the network and keep the images; :class:`UnsupportedError` where that is not possible."""

    def run(self) -> object:
        """Compute once."""

    def output(self) -> Array:
        """Return what the last :meth:`run` computed, (n, spatial..., c)."""


class Torch:
    """PyTorch on oneDNN."""

    packages = ("torch",)

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._torch = torch

    def build(self, graph: Graph, x: Array) -> None:
        torch = self._torch
        self._maps = has_maps(graph)
        images = torch.from_numpy(channels_first(x) if self._maps else x)
        self._x = self._channels_last(images)
        self._steps: list[Callable[[Any], Any]] = []
        nodes = [node for node in graph.nodes if node.operation != "input"]
        y = self._x
        while nodes:
            node = nodes.pop(0)
            relu = (
                bool(nodes) and nodes[0].operation == "activation" and nodes[0].attributes["kind"] == "relu"
            )
            relu = relu and node.operation in ("conv", "depthwise_conv")
            step = self._step(graph, node, relu, y)
            if relu:
                nodes.pop(0)
            y = step(y)  # the next one packs its weights for this shape
            self._steps.append(step)

    def _channels_last(self, x: Any) -> Any:
        formats = {4: self._torch.channels_last, 5: self._torch.channels_last_3d}
        return x.contiguous(memory_format=formats[x.ndim]) if x.ndim in formats else x

    def _step(self, graph: Graph, node: Node, relu: bool, x: Any) -> Callable[[Any], Any]:
        torch, functional = self._torch, self._torch.nn.functional
        w = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in node.weights.items()}
        match node.operation, node.attributes.get("kind"):
            case (("conv" | "depthwise_conv"), _):
                return self._conv(node, w, relu, x)
            case "conv_transpose", _:
                return self._transposed(node, w)
            case (("correlate" | "convolve"), _):
                return self._filter(node, w)
            case "dense", _:
                kernel = torch.from_numpy(np.ascontiguousarray(dense_kernel(graph, node).T))
                return lambda x: functional.linear(x, kernel, w["bias"])
            case (("max_pool" | "average_pool"), _):
                return self._pool(node)
            case "global_max_pool", _:
                return lambda x: x.amax(tuple(range(2, x.ndim)))
            case "global_average_pool", _:
                return lambda x: x.mean(tuple(range(2, x.ndim)))
            case "resize", _:
                return lambda x: functional.interpolate(x, node.attributes["size"], mode="bilinear")
            case "upsample", _:
                return lambda x: functional.interpolate(
                    x, scale_factor=node.attributes["size"], mode="nearest"
                )
            case "resample", _:
                size = [n or 0 for n in node.shape]
                return lambda x: functional.interpolate(x[None], size, mode="trilinear", align_corners=True)[
                    0
                ]
            case "pad", _:
                pairs = [n for pair in reversed(node.attributes["padding"][:-1]) for n in pair]
                return lambda x: functional.pad(x, pairs)
            case "crop", _:
                kept = [slice(lo, -hi or None) for lo, hi in node.attributes["cropping"][:-1]]
                inside = (slice(None), slice(None), *kept)
                return lambda x: self._channels_last(x[inside])
            case "prelu", _:
                return lambda x: functional.prelu(x.reshape(-1, x.shape[-1]), w["alpha"]).reshape(x.shape)
            case "batch_norm", _:
                arrays = [w[name] for name in ("mean", "variance", "gamma", "beta")]
                return lambda x: functional.batch_norm(x, *arrays, eps=node.attributes["epsilon"])
            case "activation", ("relu" | "noisy_relu" | "sigmoid" | "tanh" | "exponential") as kind:
                y = torch.empty_like(x)
                if kind in ("relu", "noisy_relu"):
                    return lambda x: torch.clamp_min(x, 0, out=y)
                function = torch.exp if kind == "exponential" else getattr(torch, str(kind))
                return lambda x: function(x, out=y)
            case "activation", (
                "elu" | "celu" | "selu" | "silu" | "gelu" | "softplus" | "softsign" | "mish"
            ) as kind:
                function = getattr(functional, str(kind))
                return lambda x: function(x)
            case "activation", ("leaky_relu" | "leaky_divide" | "rrelu") as kind:
                slope = 0.2 if kind == "leaky_relu" else 1 / 5.5
                return lambda x: functional.leaky_relu(x, slope)
            case "activation", ("hard_sigmoid" | "hard_silu") as kind:
                function = functional.hardsigmoid if kind == "hard_sigmoid" else functional.hardswish
                return lambda x: function(x)
            case "softmax", _:
                y = torch.empty_like(x)
                return lambda x: torch.softmax(x, -1, out=y)
            case "reshape", _:
                return lambda x: x.flatten(1)
        raise UnsupportedError(f"no PyTorch form of {node.operation} is written")

    @staticmethod
    def _symmetric(node: Node) -> list[int]:
        """The padding of each axis, which PyTorch's operations have alike on both sides."""
        pairs = node.attributes["padding"]
        if any(low != high for low, high in pairs):
            raise UnsupportedError("PyTorch pads alike on both sides")
        return [low for low, _ in pairs]

    def _pool(self, node: Node) -> Callable[[Any], Any]:
        at, functional, pads = node.attributes, self._torch.nn.functional, self._symmetric(node)
        rank, size, strides = len(at["strides"]), list(at["pool_size"]), list(at["strides"])
        if node.operation == "max_pool":
            pool = getattr(functional, f"max_pool{rank}d")
            return lambda x: pool(x, size, strides, pads)
        mean = getattr(functional, f"avg_pool{rank}d")
        return lambda x: mean(x, size, strides, pads, count_include_pad=at["include_padding"])

    def _transposed(self, node: Node, w: Mapping[str, Any]) -> Callable[[Any], Any]:
        at, pads = node.attributes, self._symmetric(node)
        convolve = getattr(self._torch.nn.functional, f"conv_transpose{len(pads)}d")
        kernel = w["kernel"].movedim((-1, -2), (0, 1)).contiguous()
        strides, dilation = list(at["strides"]), list(at["dilation"])
        return lambda x: convolve(x, kernel, w["bias"], strides, pads, 0, 1, dilation)

    def _filter(self, node: Node, w: Mapping[str, Any]) -> Callable[[Any], Any]:
        kernel = w["kernel"]
        rank = kernel.ndim
        if any(k % 2 == 0 for k in kernel.shape):
            raise UnsupportedError("PyTorch pads alike on both sides")
        if node.operation == "convolve":
            kernel = kernel.flip(tuple(range(rank)))
        convolve = getattr(self._torch.nn.functional, f"conv{rank}d")
        filters, pads = kernel[None, None].contiguous(), [k // 2 for k in kernel.shape]
        return lambda x: convolve(x[:, None], filters, None, 1, pads)[:, 0]

    def _conv(self, node: Node, w: Mapping[str, Any], relu: bool, x: Any) -> Callable[[Any], Any]:
        torch, kernel = self._torch, w["kernel"]
        if node.operation == "depthwise_conv":
            kernel, groups = kernel.movedim((-2, -1), (0, 1)).contiguous(), kernel.shape[-2]
        else:
            kernel, groups = kernel.movedim((-1, -2), (0, 1)).contiguous(), node.attributes["groups"]
        pads = self._symmetric(node)
        if len(pads) == 1:
            at, functional = node.attributes, torch.nn.functional
            strides, dilation = list(at["strides"]), list(at["dilation"])
            last = torch.relu if relu else lambda y: y
            return lambda x: last(functional.conv1d(x, kernel, w["bias"], strides, pads, dilation, groups))
        window = [pads, list(node.attributes["strides"]), list(node.attributes["dilation"]), groups]
        packed = torch.ops.mkldnn._reorder_convolution_weight(kernel, *window, list(x.shape))
        attribute = "relu" if relu else "none"
        run = torch.ops.mkldnn._convolution_pointwise
        return lambda x: run(x, packed, w["bias"], *window, attribute, [], "")

    def run(self) -> None:
        with self._torch.inference_mode():
            y = self._x
            for step in self._steps:
                y = step(y)
        self._y = y

    def output(self) -> Array:
        y: Array = self._y.numpy()
        return channels_last(y) if self._maps and y.ndim > 2 else y


class _TensorFlowGraph:
    """The network as TensorFlow's operations; the base of the two that are built from them."""

    def _function(self, graph: Graph) -> Callable[[Any], Any]:
        import tensorflow as tf

        steps = [self._step(tf, node) for node in graph.nodes if node.operation != "input"]

        def network(x: Any) -> Any:
            for step in steps:
                x = step(x)
            return x

        return network

    def _step(self, tf: Any, node: Node) -> Callable[[Any], Any]:
        w = {name: tf.constant(np.ascontiguousarray(a)) for name, a in node.weights.items()}
        given = node.attributes
        match node.operation, given.get("kind"):
            case "conv", _:
                padding = self._padding(node)
                rank = len(given["strides"])
                if rank == 1 or given["groups"] > 1:
                    raise UnsupportedError(
                        f"no TensorFlow form of {rank}-D or grouped convolution is written"
                    )
                if rank == 3 and padding not in ("SAME", "VALID"):
                    raise UnsupportedError("TensorFlow pads volumes by SAME or VALID alone")
                conv = {2: tf.nn.conv2d, 3: tf.nn.conv3d}[rank]
                strides, dilations = [1, *given["strides"], 1], [1, *given["dilation"], 1]
                return lambda x: tf.nn.bias_add(
                    conv(x, w["kernel"], strides, padding, dilations=dilations), w["bias"]
                )
            case "depthwise_conv", _ if len(given["strides"]) == 2 and set(given["dilation"]) == {1}:
                padding, strides = self._padding(node), [1, *given["strides"], 1]
                # TensorFlow 2.21 dies of pairs here, so those are padded beforehand.
                pads = padding if isinstance(padding, list) else [[0, 0]] * 4
                padding = "VALID" if isinstance(padding, list) else padding
                apart = any(map(any, pads))
                return lambda x: tf.nn.bias_add(
                    tf.nn.depthwise_conv2d(tf.pad(x, pads) if apart else x, w["kernel"], strides, padding),
                    w["bias"],
                )
            case "dense", _:
                return lambda x: tf.nn.bias_add(tf.matmul(x, w["kernel"]), w["bias"])
            case "max_pool", _ if len(given["strides"]) > 1 and not any(map(any, given["padding"])):
                pool = tf.nn.max_pool3d if len(given["strides"]) == 3 else tf.nn.max_pool2d
                return lambda x: pool(x, given["pool_size"], given["strides"], "VALID")
            case "batch_norm", _:
                arrays = [w[name] for name in ("mean", "variance", "beta", "gamma")]
                return lambda x: tf.nn.batch_normalization(x, *arrays, given["epsilon"])
            case "activation", (
                "relu" | "sigmoid" | "tanh" | "elu" | "selu" | "silu" | "gelu" | "softplus" | "softsign"
            ) as kind:
                function = getattr(tf.nn, str(kind))
                return lambda x: function(x)
            case "activation", "exponential":
                return lambda x: tf.exp(x)
            case "softmax", _:
                return lambda x: tf.nn.softmax(x)
            case "reshape", _:
                return lambda x: tf.reshape(x, [x.shape[0], -1])
        raise UnsupportedError(f"no TensorFlow form of {node.operation} is written")

    @staticmethod
    def _padding(node: Node) -> Any:
        """ "SAME" where it is the same thing, which every backend takes; pairs elsewhere."""
        at, kernel = node.attributes, node.weights["kernel"].shape
        pads = [list(pair) for pair in at["padding"]]
        if not any(map(any, pads)):
            return "VALID"
        needed = [(k - 1) * d for k, d in zip(kernel, at["dilation"], strict=False)]
        same = [[n // 2, n - n // 2] for n in needed] == pads
        if set(at["strides"]) == {1} and same:
            return "SAME"
        return [[0, 0], *pads, [0, 0]]


class TensorFlow(_TensorFlowGraph):
    """TensorFlow on oneDNN."""

    packages = ("tensorflow", "keras")

    def __init__(self, threads: int) -> None:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self._tf = tf

    def build(self, graph: Graph, x: Array) -> None:
        self._x = self._tf.constant(x)
        self._call = self._tf.function(self._function(graph)).get_concrete_function(self._x)

    def run(self) -> None:
        self._y = self._call(self._x)

    def output(self) -> Array:
        y: Array = self._y.numpy()
        return y


class LiteRt(_TensorFlowGraph):
    """LiteRT with XNNPACK; TensorFlow converts."""

    packages = ("ai-edge-litert", "tensorflow")

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def convert(self, graph: Graph, batch: int) -> bytes:
        """Return `graph` for `batch` images as a .tflite file holds it."""
        import tensorflow as tf

        spec = tf.TensorSpec((batch, *graph.nodes[0].shape), tf.float32)
        function = tf.function(self._function(graph)).get_concrete_function(spec)
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())

    def build(self, graph: Graph, x: Array) -> None:
        from ai_edge_litert.interpreter import Interpreter

        model = self.convert(graph, len(x))
        self._interpreter = Interpreter(model_content=model, num_threads=self._threads)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], x)
        self._end = self._interpreter.get_output_details()[0]["index"]

    def run(self) -> None:
        self._interpreter.invoke()

    def output(self) -> Array:
        y: Array = self._interpreter.get_tensor(self._end)
        return y


class OnnxRuntime:
    """ONNX Runtime's own CPU kernels."""

    packages = ("onnxruntime", "onnx")

    def __init__(self, threads: int) -> None:
        import onnxruntime

        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._library = onnxruntime

    def build(self, graph: Graph, x: Array) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.onnx")
            write_onnx(graph, len(x), path)
            self._session = self._library.InferenceSession(
                str(path), self._options, providers=["CPUExecutionProvider"]
            )
        self._maps = has_maps(graph)
        self._feed = {graph.inputs[0]: channels_first(x) if self._maps else x}

    def run(self) -> None:
        (self._y,) = self._session.run(None, self._feed)

    def output(self) -> Array:
        y: Array = self._y
        return channels_last(y) if self._maps and y.ndim > 2 else y


class OpenVino:
    """OpenVINO, held to float32."""

    packages = ("openvino", "onnx")

    def __init__(self, threads: int) -> None:
        import openvino

        self._core = openvino.Core()
        self._settings = _OPENVINO | {"INFERENCE_NUM_THREADS": threads}

    def build(self, graph: Graph, x: Array) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.onnx")
            write_onnx(graph, len(x), path)
            # It maps the file and would lose its weights with it: compiled before the folder goes.
            compiled = self._core.compile_model(self._core.read_model(str(path)), "CPU", self._settings)
        if "f32" not in str(compiled.get_property("INFERENCE_PRECISION_HINT")) and "float" not in str(
            compiled.get_property("INFERENCE_PRECISION_HINT")
        ):
            raise UnsupportedError("OpenVINO does not compute in float32 here")
        self._request = compiled.create_infer_request()
        self._maps = has_maps(graph)
        self._x = channels_first(x) if self._maps else x

    def run(self) -> None:
        self._request.infer({0: self._x}, share_inputs=True)

    def output(self) -> Array:
        y: Array = np.array(self._request.get_output_tensor(0).data)
        return channels_last(y) if self._maps and y.ndim > 2 else y


class Ncnn:
    """ncnn in float32; it knows no batches, so images go one by one."""

    packages = ("ncnn",)

    def __init__(self, threads: int) -> None:
        import ncnn

        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        self._mat = ncnn.Mat

    def build(self, graph: Graph, x: Array) -> None:
        self._maps = has_maps(graph)
        if not self._maps and x.ndim > 3:
            raise UnsupportedError("no ncnn form of such an input is written")
        with tempfile.TemporaryDirectory() as folder:
            parameters, weights = write_ncnn(graph, Path(folder))
            if self._net.load_param(str(parameters)) or self._net.load_model(str(weights)):
                raise RuntimeError("ncnn cannot load the network")
        self._end = self._net.output_names()[-1]
        # clone: the Mat would only refer to NumPy's memory.
        self._images = [self._mat(image).clone() for image in (channels_first(x) if self._maps else x)]

    def run(self) -> None:
        self._y = []
        for image in self._images:
            extractor = self._net.create_extractor()
            extractor.input("input", image)
            failed, y = extractor.extract(self._end)
            if failed:
                raise RuntimeError(f"ncnn: extract returned {failed}")
            self._y.append(y)

    def output(self) -> Array:
        y = np.stack([np.array(image) for image in self._y])
        return channels_last(y) if self._maps and y.ndim > 2 else y


class Mnn:
    """MNN with its default ("normal") precision, which is float32 on x86."""

    packages = ("MNN", "onnx")

    def __init__(self, threads: int) -> None:
        import MNN

        self._library = MNN
        self._settings = {"backend": "CPU", "numThread": threads, "precision": "normal"}

    def build(self, graph: Graph, x: Array) -> None:
        import _tools  # part of the package MNN

        mnn = self._library
        self._maps = has_maps(graph)
        with tempfile.TemporaryDirectory() as folder:
            onnx, path = Path(folder, "net.onnx"), Path(folder, "net.mnn")
            write_onnx(graph, len(x), onnx)
            words = ("-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(path), "--bizCode", "bench")
            _tools.mnnconvert(["mnnconvert", *words])
            self._interpreter = mnn.Interpreter(str(path))
            self._session = self._interpreter.createSession(self._settings)
        fed = channels_first(x) if self._maps else x
        caffe = mnn.Tensor_DimensionType_Caffe
        self._x = mnn.Tensor(fed.shape, mnn.Halide_Type_Float, fed, caffe)
        self._interpreter.getSessionInput(self._session).copyFrom(self._x)
        shape = [n or 0 for n in graph.node(graph.outputs[0]).shape]
        if self._maps and len(shape) > 1:
            shape = [shape[-1], *shape[:-1]]
        self._shape = (len(x), *shape)

    def run(self) -> None:
        self._interpreter.runSession(self._session)

    def output(self) -> Array:
        mnn, y = self._library, np.zeros(self._shape, np.float32)
        host = mnn.Tensor(self._shape, mnn.Halide_Type_Float, y, mnn.Tensor_DimensionType_Caffe)
        self._interpreter.getSessionOutput(self._session).copyToHostTensor(host)
        y = np.array(host.getData(), np.float32).reshape(self._shape)
        return channels_last(y) if self._maps and y.ndim > 2 else y


#: Adapters by the name that the command line takes; ours first.
PEERS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "convcore": Convcore,
        "convcore_call": ConvcoreCall,
        "convcore_prepared": ConvcorePrepared,
        "tensorflow": TensorFlow,
        "torch": Torch,
        "onnxruntime": OnnxRuntime,
        "openvino": OpenVino,
        "litert": LiteRt,
        "ncnn": Ncnn,
        "mnn": Mnn,
        "numpy": NumPy,
        "scipy_ndimage": SciPyNdimage,
        "scipy_signal": SciPySignal,
        "opencv": OpenCv,
        "keras": KerasOps,
        "pydicom": PyDicom,
        "roofline": Roofline,
    }
)
#: Those of the above that are this library's.
OWN = ("convcore", "convcore_call", "convcore_prepared", "roofline")
_MODULES = {
    "convcore_call": "convcore", "convcore_prepared": "convcore", "roofline": "convcore",
    "litert": "ai_edge_litert", "mnn": "MNN", "scipy_ndimage": "scipy", "scipy_signal": "scipy",
    "opencv": "cv2",
}  # fmt: skip
#: Other words for one peer or several.
ALIASES = {"scipy": ("scipy_ndimage", "scipy_signal"), "cv2": ("opencv",)}


def adapters(device: str = "cpu") -> Mapping[str, type[Any]]:
    """Return the adapters by name: :data:`PEERS`, or the forms on an NVIDIA GPU of those that have one.

    Examples
    --------
    >>> list(adapters("cuda"))
    ['convcore', 'torch']
    """
    if device == "cpu":
        return PEERS
    from convcore.bench.gpu.calls import ConvcoreCuda, TorchCuda

    return {"convcore": ConvcoreCuda, "torch": TorchCuda}


def installed(device: str = "cpu") -> tuple[str, ...]:
    """Names of the peers whose packages are there; they are looked for, not imported.

    Examples
    --------
    >>> "convcore" in installed() and "numpy" in installed()
    True
    """
    found = []
    for name, adapter in adapters(device).items():
        modules = {_MODULES.get(name, name), *(p for p in adapter.packages if p in ("onnx", "tensorflow"))}
        with contextlib.suppress(ImportError, ValueError):
            if all(importlib.util.find_spec(module) for module in modules):
                found.append(name)
    return tuple(found)
