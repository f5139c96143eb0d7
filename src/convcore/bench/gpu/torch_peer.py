"""PyTorch, and by it cuDNN and cuBLAS, on the same layers: with CUDA graphs and channels last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore.bench.gpu.network import Layer
from convcore.errors import DeviceError

__all__ = ["TorchGraph", "TorchPeer", "why_not"]

_WARM_UP = 3


def why_not() -> str:
    """Why PyTorch cannot be measured here; empty if it can.

    Examples
    --------
    >>> isinstance(why_not(), str)
    True
    """
    try:
        import torch
    except Exception as error:
        return f"not installed ({type(error).__name__}: {' '.join(str(error).split())})"[:300]
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no GPU"
    return ""


def are_maps(layer: Layer) -> bool:
    """Whether a layer works on images, which PyTorch has as (n, c, h, w)."""
    return layer.operation in ("conv", "max_pool")


def as_array(y: Any, maps: bool) -> NDArray[np.float32]:
    """Return a tensor as float32 with channels last."""
    whole = (y.permute(0, 2, 3, 1) if maps else y).float().contiguous()
    found: NDArray[np.float32] = whole.cpu().numpy()
    return found


class TorchGraph:
    """Calls of a network, recorded; `calls` of them are one replay. `maps` says that they return images."""

    def __init__(self, peer: TorchPeer, calls: Sequence[Callable[[], Any]], maps: bool = False) -> None:
        torch = peer.torch
        self.calls = len(calls)
        self._torch = torch
        self._maps = maps
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(_WARM_UP):  # cuDNN tries its algorithms here
                for call in calls:
                    call()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), torch.inference_mode():
            for call in calls:
                self._y = call()
        self._graph.replay()  # recording alone has computed nothing
        self._held = calls

    def replay_on(self, stream: int) -> Callable[[], None]:
        """Return what puts the calls on the stream with this handle."""
        on = self._torch.cuda.ExternalStream(stream)

        def replay() -> None:
            with self._torch.cuda.stream(on):
                self._graph.replay()

        return replay

    def output(self) -> NDArray[np.float32]:
        """Return the last call's output, channels last, as float32."""
        self._torch.cuda.synchronize()
        return as_array(self._y, self._maps)


class TorchPeer:
    """PyTorch in one precision: "float32" (TF32 off), "tf32" or "bfloat16".

    Raises
    ------
    DeviceError
        It is not installed, or sees no GPU.
    """

    def __init__(self, precision: str, device: str = "cuda") -> None:
        reason = why_not() if device == "cuda" else ""
        if reason:
            raise DeviceError("PyTorch", reason)
        import torch

        self.torch: Any = torch
        self._device = device
        tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def graph(self, layers: Sequence[Layer], x: NDArray[Any], sets: int, fused: bool) -> TorchGraph:
        """Return calls of the layers on `sets` copies of input and weights.

        `fused` takes cuDNN's convolution with bias and ReLU in one, which PyTorch has no public layer for.
        """
        torch = self.torch
        with torch.inference_mode():
            return TorchGraph(self, [self.call(layers, x, fused) for _ in range(sets)], are_maps(layers[-1]))

    def matrix_product(self, n: int) -> TorchGraph:
        """Return one product of two matrices n x n."""
        torch = self.torch
        a, b = (torch.randn(n, n, device=self._device, dtype=self._dtype) for _ in range(2))
        out = torch.empty_like(a)
        return TorchGraph(self, [lambda: torch.matmul(a, b, out=out)])

    def copy(self, nbytes: int) -> TorchGraph:
        """Return one copy of so many bytes on the GPU."""
        torch = self.torch
        source = torch.zeros(nbytes // 4, device=self._device)
        target = torch.empty_like(source)
        return TorchGraph(self, [lambda: target.copy_(source)])

    def release(self) -> None:
        """Give memory that no tensor holds back to the GPU."""
        self.torch.cuda.empty_cache()

    # ---- layers ----------------------------------------------------------------------------------

    def call(self, layers: Sequence[Layer], x: NDArray[Any], fused: bool) -> Callable[[], Any]:
        """Return one call of the layers on a copy of `x`, which returns a tensor; see :meth:`graph`."""
        torch = self.torch
        image = torch.from_numpy(np.ascontiguousarray(x)).to(self._device)
        if image.dtype == torch.float32:
            image = image.to(self._dtype)
        if are_maps(layers[0]):
            image = image.permute(0, 3, 1, 2)  # its memory stays (n, h, w, c): channels last
        steps = [self._step(layer, fused) for layer in layers]

        def call() -> Any:
            y = image
            for step in steps:
                y = step(y)
            return y

        return call

    def _tensor(self, array: Any) -> Any:
        whole = np.ascontiguousarray(np.asarray(array))
        return self.torch.from_numpy(whole).to(self._device).to(self._dtype)

    def _convolution(self, layer: Layer, fused: bool) -> Callable[[Any], Any]:
        torch, functional, at = self.torch, self.torch.nn.functional, layer.attributes
        kernel = self._tensor(layer.weights["kernel"]).permute(3, 2, 0, 1)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        bias = self._tensor(layer.weights["bias"])
        window = [list(at["strides"]), [low for low, _ in at["padding"]], list(at["dilation"])]

        def convolve(x: Any) -> Any:
            if fused and layer.relu:
                y = torch.cudnn_convolution_relu(x, kernel, bias, *window, 1)
            else:
                y = functional.conv2d(x, kernel, bias, *window)
                y = torch.relu_(y) if layer.relu else y
            return functional.max_pool2d(y, 2, 2) if layer.pool else y

        return convolve

    def _step(self, layer: Layer, fused: bool) -> Callable[[Any], Any]:
        torch, functional, at = self.torch, self.torch.nn.functional, layer.attributes
        if layer.operation == "conv":
            return self._convolution(layer, fused)
        if layer.operation == "dense":
            matrix = self._tensor(layer.weights["kernel"]).t().contiguous()
            bias = self._tensor(layer.weights["bias"])

            def dense(x: Any) -> Any:
                flat = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1) if x.ndim == 4 else x  # Keras's order
                y = functional.linear(flat, matrix, bias)
                return torch.relu_(y) if layer.relu else y

            return dense
        if layer.operation == "max_pool":
            size, strides = list(at["pool_size"]), list(at["strides"])
            return lambda x: functional.max_pool2d(x, size, strides)
        if layer.operation == "softmax":
            return lambda x: torch.softmax(x, -1)
        functions = {
            "relu": torch.relu,
            "sigmoid": torch.sigmoid,
            "tanh": torch.tanh,
            "gelu": functional.gelu,
        }
        if layer.operation == "activation" and at["kind"] in functions:
            function: Callable[[Any], Any] = functions[at["kind"]]
            return function
        if layer.operation == "hu_rescale":
            slope, intercept = float(at["slope"]), float(at["intercept"])
            if slope == 1.0:  # one kernel: the sum of int16 and a float32 tensor without axes but one
                offset = torch.full((1,), intercept, device=self._device)
                return lambda x: torch.add(x, offset)
            return lambda x: x.to(torch.float32).mul_(slope).add_(intercept)
        raise DeviceError("PyTorch", f"no form of {layer.operation} is written")

    @staticmethod
    def flops(n: int) -> float:
        """Arithmetic of :meth:`matrix_product`."""
        return 2.0 * n**3
