"""Libraries of functions on arrays, which have some of the operations and no networks: SciPy, OpenCV, Keras.

Adapters like those of :mod:`.peers`. Filters have zeros beyond the edge; OpenCV and SciPy's `ndimage` are
given the output's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.bench.formats import UnsupportedError, arrays_of
from convcore.loader.graph import Graph, Node

__all__ = ["KerasOps", "OpenCv", "SciPyNdimage", "SciPySignal"]

Array = NDArray[Any]


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
