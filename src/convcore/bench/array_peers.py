"""Libraries of functions on arrays, which have some of the operations: NumPy, SciPy, OpenCV, Keras, pydicom.

Adapters like those of :mod:`.peers`. Filters have zeros beyond the edge; OpenCV and SciPy's `ndimage` are
given the output's memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.bench.formats import UnsupportedError, arrays_of
from convcore.loader.graph import Graph, Node

__all__ = ["KerasOps", "NumPy", "OpenCv", "PyDicom", "SciPyNdimage", "SciPySignal"]

Array = NDArray[Any]


class NumPy:
    """What NumPy has a call for, with ``out=`` where it takes it."""

    packages = ("numpy",)

    def __init__(self, threads: int) -> None:
        pass  # OMP_NUM_THREADS and its kin are set for the process

    def build(self, graph: Graph, x: Array) -> None:
        self._steps: list[Callable[[Array], Array]] = [
            self._step(node) for node in graph.nodes if node.operation != "input"
        ]
        self._x = x

    @staticmethod
    def _in_halves(node: Node) -> bool:
        """Whether a pooling's windows are of 2, side by side, without padding: an axis split in two."""
        at = node.attributes
        return {*at["pool_size"], *at["strides"]} == {2} and not any(map(any, at["padding"]))

    def _step(self, node: Node) -> Callable[[Array], Array]:
        w, y = arrays_of(node), np.empty(0, np.float32)

        def memory(x: Array) -> Array:
            nonlocal y
            if y.shape != x.shape:
                y = np.empty_like(x)
            return y

        def sigmoid(x: Array) -> Array:
            out = memory(x)
            np.negative(x, out=out)
            np.exp(out, out=out)
            out += np.float32(1)
            return np.divide(np.float32(1), out, out=out)

        def softmax(x: Array) -> Array:
            out = memory(x)
            np.subtract(x, x.max(axis=-1, keepdims=True), out=out)
            np.exp(out, out=out)
            out /= out.sum(axis=-1, keepdims=True)
            return out

        def batch_norm(x: Array) -> Array:
            scale = w["gamma"] / np.sqrt(w["variance"] + np.float32(node.attributes["epsilon"]))
            out = np.multiply(x, scale, out=memory(x))
            out += w["beta"] - w["mean"] * scale
            return out

        def pool(x: Array) -> Array:
            n, c = x.shape[0], x.shape[-1]
            pairs = [size for s in x.shape[1:-1] for size in (s // 2, 2)]
            within = tuple(range(2, 2 * (x.ndim - 2) + 1, 2))
            apart = x.reshape(n, *pairs, c)
            pooled: Array = (
                apart.max(axis=within) if node.operation == "max_pool" else apart.mean(axis=within)
            )
            return pooled

        def hu_rescale(x: Array) -> Array:
            # By slices, which stay in a cache between the passes: a fifth to a third faster than whole.
            nonlocal y
            if y.shape != x.shape:
                y = np.empty(x.shape, np.float32)
            slope, intercept = (np.float32(node.attributes[name]) for name in ("slope", "intercept"))
            scratch: Array = np.empty(x.shape[2:], np.float32)
            for raw, hu in zip(x.reshape(-1, *scratch.shape), y.reshape(-1, *scratch.shape), strict=True):
                np.copyto(scratch, raw)
                scratch[raw == -2000] = 0
                np.multiply(scratch, slope, out=scratch)
                np.add(scratch, intercept, out=hu)
            return y

        match node.operation, node.attributes.get("kind"):
            case "hu_rescale", _:
                return hu_rescale
            case "activation", "exponential":
                return lambda x: np.exp(x, out=memory(x))
            case "activation", "relu":
                return lambda x: np.maximum(x, np.float32(0), out=memory(x))
            case "activation", "tanh":
                return lambda x: np.tanh(x, out=memory(x))
            case "activation", "sigmoid":
                return sigmoid
            case "softmax", _:
                return softmax
            case "batch_norm", _:
                return batch_norm
            case (("max_pool" | "average_pool"), _) if self._in_halves(node):
                return pool
            case "dense", _:
                return lambda x: x @ w["kernel"] + w["bias"]
            case "activation", "softplus":
                return lambda x: np.logaddexp(np.float32(0), x, out=memory(x))
            case "activation", "leaky_relu":
                return lambda x: np.maximum(x, np.float32(0.2) * x, out=memory(x))
            case "prelu", _:
                return lambda x: np.where(x >= 0, x, w["alpha"] * x)
            case (("correlate" | "convolve"), _) if w["kernel"].ndim == 1:
                call = np.convolve if node.operation == "convolve" else np.correlate
                return lambda x: call(x[0], w["kernel"], "same")[np.newaxis]
            case (("global_max_pool" | "global_average_pool"), _):
                method = "max" if node.operation == "global_max_pool" else "mean"
                return lambda x: getattr(x, method)(axis=tuple(range(1, x.ndim - 1)))
            case "pad", _:
                return lambda x: np.pad(x, ((0, 0), *node.attributes["padding"]))
            case "crop", _:
                kept = [slice(lo, -hi or None) for lo, hi in node.attributes["cropping"]]
                return lambda x: np.ascontiguousarray(x[(slice(None), *kept)])
        raise UnsupportedError(
            f"NumPy has no call for {node.operation} {node.attributes.get('kind', '')}".rstrip()
        )

    def run(self) -> None:
        y = self._x
        for step in self._steps:
            y = step(y)
        self._y = y

    def output(self) -> Array:
        return self._y


class _Single:
    """The base of adapters for graphs of one operation."""

    def build(self, graph: Graph, x: Array) -> None:
        if len(graph.nodes) != 2:
            raise UnsupportedError("it has single operations alone, and this is a network")
        self._y: Any = np.empty((len(x), *(n or 0 for n in graph.nodes[1].shape)), np.float32)
        self._call = self._function(graph.nodes[1], x)

    def _function(self, node: Node, x: Array) -> Callable[[], Any]:
        raise NotImplementedError

    def run(self) -> None:
        self._y = self._call()

    def output(self) -> Array:
        return np.asarray(self._y)


class SciPyNdimage(_Single):
    """scipy.ndimage, on one thread whatever it is told: it has no others."""

    packages = ("scipy",)

    def __init__(self, threads: int) -> None:
        pass

    def _function(self, node: Node, x: Array) -> Callable[[], Any]:
        from scipy import ndimage

        y = self._y
        if node.operation in ("correlate", "convolve"):
            kernel, function = arrays_of(node)["kernel"], getattr(ndimage, node.operation)

            def filtered() -> Array:
                function(x[0], kernel, output=y[0], mode="constant")
                return np.asarray(y)

            return filtered
        if node.operation == "resample":
            factors = [(n or 0) / i for n, i in zip(node.shape, x.shape[1:], strict=True)]

            def zoomed() -> Array:
                ndimage.zoom(x[0], factors, output=y[0], order=1, mode="nearest", grid_mode=False)
                return np.asarray(y)

            return zoomed
        raise UnsupportedError(f"scipy.ndimage has no {node.operation}")


class SciPySignal(_Single):
    """scipy.signal: direct or by FFT, as it chooses itself by the sizes."""

    packages = ("scipy",)

    def __init__(self, threads: int) -> None:
        pass

    def _function(self, node: Node, x: Array) -> Callable[[], Any]:
        from scipy import signal

        if node.operation not in ("correlate", "convolve"):
            raise UnsupportedError(f"scipy.signal has no {node.operation}")
        kernel, function = arrays_of(node)["kernel"], getattr(signal, node.operation)
        return lambda: function(x[0], kernel, mode="same", method="auto")[np.newaxis]


class OpenCv(_Single):
    """OpenCV, on images, one after the other."""

    packages = ("opencv-python-headless",)

    def __init__(self, threads: int) -> None:
        import cv2

        cv2.setNumThreads(threads)
        self._cv2: Any = cv2

    def _function(self, node: Node, x: Array) -> Callable[[], Any]:
        y = self._y
        one = self._image(node, x)
        # Where the last axis is a single channel OpenCV has none.
        images = [
            (i[..., 0], o[..., 0]) if self._flat(node, x) else (i, o) for i, o in zip(x, y, strict=True)
        ]

        def run() -> Any:
            for image, out in images:
                one(image, out)
            return y

        return run

    @staticmethod
    def _flat(node: Node, x: Array) -> bool:
        return node.operation not in ("correlate", "convolve", "activation") and x.shape[-1] == 1

    def _image(self, node: Node, x: Array) -> Callable[[Any, Any], object]:
        """The call for one image and its output."""
        cv2, at = self._cv2, node.attributes
        match node.operation:
            case "correlate" | "convolve" if x.ndim == 3:
                kernel = arrays_of(node)["kernel"]
                if node.operation == "convolve":
                    kernel = np.ascontiguousarray(kernel[::-1, ::-1])
                    if any(k % 2 == 0 for k in kernel.shape):
                        raise UnsupportedError("no OpenCV form of even kernels is written")
                zeros = cv2.BORDER_CONSTANT
                return lambda image, out: cv2.filter2D(image, -1, kernel, out, borderType=zeros)
            case "resize" if x.shape[-1] <= 512:
                height, width = at["size"]
                return lambda image, out: cv2.resize(
                    image, (width, height), out, interpolation=cv2.INTER_LINEAR
                )
            case "upsample" if x.ndim == 4 and x.shape[-1] <= 512:
                height, width = node.shape[:2]
                return lambda image, out: cv2.resize(
                    image, (width, height), out, interpolation=cv2.INTER_NEAREST
                )
            case "pad" if x.ndim == 4 and x.shape[-1] <= 4:
                (top, bottom), (left, right), _ = at["padding"]
                sides = (top, bottom, left, right)
                return lambda image, out: cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, out)
            case "activation" if at["kind"] == "exponential":
                return lambda image, out: cv2.exp(image, out)
        raise UnsupportedError(f"OpenCV has no {node.operation} of such arrays")


class KerasOps(_Single):
    """``keras.ops`` as people call it, one function at a time, on the backend that is set up."""

    packages = ("keras", "tensorflow")

    def __init__(self, threads: int) -> None:
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self._ops: Any = keras.ops
        self._image: Any = keras.ops.image

    def _function(self, node: Node, x: Array) -> Callable[[], Any]:
        ops, at = self._ops, node.attributes
        image = ops.convert_to_tensor(x)
        w = {name: ops.convert_to_tensor(a) for name, a in arrays_of(node).items()}
        match node.operation:
            case "conv" | "depthwise_conv" if (
                "same" in (padding := self._padding(node)) or padding == "valid"
            ):
                convolve = ops.conv if node.operation == "conv" else ops.depthwise_conv
                strides, dilation = at["strides"], at["dilation"]
                if set(dilation) == {1}:
                    dilation = 1
                return lambda: convolve(image, w["kernel"], strides, padding, None, dilation) + w["bias"]
            case "dense":
                return lambda: ops.matmul(image, w["kernel"]) + w["bias"]
            case "max_pool" | "average_pool" if not any(map(any, at["padding"])):
                pool = getattr(ops, node.operation)
                return lambda: pool(image, at["pool_size"], at["strides"], "valid")
            case "batch_norm":
                arrays = [w[name] for name in ("mean", "variance")]
                more = {"offset": w["beta"], "scale": w["gamma"], "epsilon": at["epsilon"]}
                return lambda: ops.batch_normalization(image, *arrays, -1, **more)
            case "softmax":
                return lambda: ops.softmax(image)
            case "resize":
                return lambda: self._image.resize(image, at["size"], interpolation="bilinear")
            case "pad":
                return lambda: ops.pad(image, ((0, 0), *at["padding"]))
            case "activation":
                return self._activation(str(at["kind"]), image)
        raise UnsupportedError(f"no form of {node.operation} by keras.ops is written")

    def _activation(self, kind: str, x: Any) -> Callable[[], Any]:
        names = {"exponential": "exp", "noisy_relu": "relu", "mish": ""}
        function = getattr(self._ops, names.get(kind, kind) or "none", None)
        if function is None:
            raise UnsupportedError(f"no form of {kind} by keras.ops is written")
        more = {"approximate": False} if kind == "gelu" else {}
        return lambda: function(x, **more)

    @staticmethod
    def _padding(node: Node) -> str:
        """ "valid", "same", or empty where it is neither."""
        at, kernel = node.attributes, node.weights["kernel"].shape
        if not any(map(any, at["padding"])):
            return "valid"
        needed = [(k - 1) * d for k, d in zip(kernel, at["dilation"], strict=False)]
        same = [(n // 2, n - n // 2) for n in needed] == [tuple(pair) for pair in at["padding"]]
        return "same" if same and set(at["strides"]) == {1} else ""


class PyDicom:
    """pydicom's own path to Hounsfield units: the volume in one call, which returns float64."""

    packages = ("pydicom",)

    def __init__(self, threads: int) -> None:
        pass

    def build(self, graph: Graph, x: Array) -> None:
        from pydicom.dataset import Dataset

        node = graph.nodes[-1]
        if node.operation != "hu_rescale":
            raise UnsupportedError(f"pydicom has no {node.operation}")
        header: Any = Dataset()
        header.RescaleSlope, header.RescaleIntercept = (node.attributes[n] for n in ("slope", "intercept"))
        self._x = x
        rescale = importlib.import_module("pydicom.pixels").apply_rescale
        self._rescale: Callable[[Array], Array] = lambda raw: rescale(raw, header)

    def run(self) -> None:
        self._y = self._rescale(self._x)

    def output(self) -> Array:
        return self._y.astype(np.float32)
