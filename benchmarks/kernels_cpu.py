"""Kernels that move memory, beside NumPy, PyTorch, TensorFlow and ONNX Runtime: one process, interleaved.

    pip install .[test] torch onnxruntime onnx
    python benchmarks/kernels_cpu.py [CASE...] [--threads 2] [--rounds 11] [--isa avx2] [-o RESULT.json]

Every candidate writes into memory that it has written before: an ``out=`` array, or what the peer's allocator
hands out again. The floor is the time that the bytes alone need, (bytes read / read bandwidth + bytes
written / streaming-write bandwidth), both bandwidths measured in the same run; where a case fits the last
level of cache it says little. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convcore as cc
from convcore.bench import machine, median_ratio
from convcore.ops.call import Call, instruction_set

Array = NDArray[Any]
Run = Callable[[], object]


@dataclass
class Case:
    """What to time: candidates by name, and the bytes that any of them must move."""

    name: str
    read: float
    written: float
    runs: dict[str, Run] = field(default_factory=dict)


def _floats(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def _have(name: str) -> bool:
    return find_spec(name) is not None


def _onnx(
    operation: str, inputs: dict[str, Array], constants: dict[str, Array], threads: int, **attributes: Any
) -> Run:
    """One node in ONNX Runtime, its input and output bound to fixed memory."""
    import onnx
    import onnxruntime as ort

    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operation, [*inputs, *constants], ["y"], **attributes)],
        "one",
        [value(name, onnx.TensorProto.FLOAT, x.shape) for name, x in inputs.items()],
        [value("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(x, name) for name, x in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y = session.run(None, inputs)[0]
    binding = session.io_binding()
    for name, x in inputs.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(y))
    return lambda: session.run_with_iobinding(binding)


def _in_torch(function: Callable[..., Any], *arrays: Array) -> Run:
    import torch

    tensors = [torch.from_numpy(a) for a in arrays]

    def run() -> None:
        with torch.inference_mode():
            function(*tensors)

    return run


def _channels_last(x: Array) -> Any:
    import torch

    t = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    return t.to(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


def _in_tensorflow(function: Callable[..., Any], *arrays: Array) -> Run:
    import tensorflow as tf

    tensors = [tf.constant(a) for a in arrays]
    compiled = tf.function(function)
    return lambda: compiled(*tensors)


def _elementwise(threads: int) -> Iterator[Case]:
    x = _floats(8, 128, 128, 128)  # 64 MiB
    y, other, size = np.empty_like(x), _floats(*x.shape), float(x.nbytes)
    mean, variance = _floats(128), np.abs(_floats(128))
    scale = (1 / np.sqrt(variance + np.float32(1e-3))).astype(np.float32)
    offset = -mean * scale
    operations: dict[str, tuple[Run, Run | None, str]] = {
        "relu": (lambda: cc.relu(x, out=y), lambda: np.maximum(x, 0, out=y), "Relu"),
        "sigmoid": (lambda: cc.sigmoid(x, out=y), None, "Sigmoid"),
        "tanh": (lambda: cc.tanh(x, out=y), lambda: np.tanh(x, out=y), "Tanh"),
        "exponential": (lambda: cc.exponential(x, out=y), lambda: np.exp(x, out=y), "Exp"),
        "gelu": (lambda: cc.gelu(x, out=y), None, ""),
        "mish": (lambda: cc.mish(x, out=y), None, ""),
        "silu": (lambda: cc.silu(x, out=y), None, ""),
    }
    for name, (ours, in_numpy, onnx_name) in operations.items():
        case = Case(f"{name} 64 MiB", size, size, {"convcore": ours})
        if in_numpy:
            case.runs["numpy"] = in_numpy
        if _have("torch"):
            import torch

            target = torch.from_numpy(y)
            function = {
                "relu": lambda t, target=target: torch.clamp_min(t, 0, out=target),
                "sigmoid": lambda t, target=target: torch.sigmoid(t, out=target),
                "tanh": lambda t, target=target: torch.tanh(t, out=target),
                "exponential": lambda t, target=target: torch.exp(t, out=target),
            }.get(name) or getattr(torch.nn.functional, name)
            case.runs["torch"] = _in_torch(function, x)
        if _have("tensorflow"):
            import tensorflow as tf

            if name in ("relu", "sigmoid", "tanh", "silu"):
                case.runs["tensorflow"] = _in_tensorflow(getattr(tf.nn, name), x)
        if onnx_name and _have("onnxruntime"):
            case.runs["onnxruntime"] = _onnx(onnx_name, {"x": x}, {}, threads)
        yield case

    case = Case("batch_norm 64 MiB", size, size)
    case.runs["convcore"] = lambda: cc.batch_norm(x, mean, variance, epsilon=1e-3, out=y)
    case.runs["numpy"] = lambda: np.add(np.multiply(x, scale, out=y), offset, out=y)
    if _have("torch"):
        import torch

        t, m, v = _channels_last(x), torch.from_numpy(mean), torch.from_numpy(variance)
        case.runs["torch"] = lambda: torch.nn.functional.batch_norm(t, m, v, eps=1e-3)
        target = torch.from_numpy(y)
        s, o = torch.from_numpy(scale), torch.from_numpy(offset)
        case.runs["torch affine"] = _in_torch(lambda t: torch.addcmul(o, t, s, out=target), x)
    if _have("tensorflow"):
        import tensorflow as tf

        one, zero = np.ones_like(mean), np.zeros_like(mean)
        case.runs["tensorflow"] = _in_tensorflow(
            lambda x: (
                tf.raw_ops.FusedBatchNormV3(
                    x=x, scale=one, offset=zero, mean=mean, variance=variance, epsilon=1e-3, is_training=False
                ).y
            ),
            x,
        )
    yield case

    case = Case("add 64 MiB", 2 * size, size)
    call = Call()
    call.step(
        "binary",
        x=call.view(x.reshape(-1)),
        x2=call.view(other.reshape(-1)),
        out=call.view(y.reshape(-1)),
        binary="add",
    )
    case.runs["convcore"] = call.run
    case.runs["numpy"] = lambda: np.add(x, other, out=y)
    if _have("torch"):
        import torch

        target = torch.from_numpy(y)
        case.runs["torch"] = _in_torch(lambda a, b: torch.add(a, b, out=target), x, other)
    if _have("tensorflow"):
        import tensorflow as tf

        case.runs["tensorflow"] = _in_tensorflow(tf.add, x, other)
    yield case


def _softmax(threads: int) -> Iterator[Case]:
    for rows, columns in ((16777, 1000), (1, 1000), (64, 1000), (100_000, 10), (8, 32000)):
        x = _floats(rows, columns)
        y = np.empty_like(x)
        case = Case(f"softmax {rows}x{columns}", x.nbytes, x.nbytes)
        case.runs["convcore"] = lambda x=x, y=y: cc.softmax(x, out=y)
        if _have("torch"):
            import torch

            target = torch.from_numpy(y)
            case.runs["torch"] = _in_torch(lambda t, target=target: torch.softmax(t, -1, out=target), x)
        if _have("tensorflow"):
            import tensorflow as tf

            case.runs["tensorflow"] = _in_tensorflow(tf.nn.softmax, x)
        if _have("onnxruntime"):
            case.runs["onnxruntime"] = _onnx("Softmax", {"x": x}, {}, threads, axis=-1)
        yield case


def _pooling(threads: int) -> Iterator[Case]:
    plans = [
        ((8, 224, 224, 64), (2, 2), 2),
        ((8, 112, 112, 64), (3, 3), 2),
        ((1, 14, 14, 512), (2, 2), 2),
        ((1, 64, 64, 64, 32), (2, 2, 2), 2),
    ]
    for kind in ("max", "average"):
        for shape, pool, stride in plans:
            x = _floats(*shape)
            ours = cc.max_pool if kind == "max" else cc.average_pool
            y = ours(x, pool, strides=stride)
            name = f"{kind} pool {'x'.join(map(str, pool))} on {'x'.join(map(str, shape))}"
            case = Case(name, x.nbytes, y.nbytes)
            case.runs["convcore"] = lambda x=x, y=y, ours=ours, pool=pool, stride=stride: ours(
                x, pool, strides=stride, out=y
            )
            rank = len(pool)
            if _have("torch"):
                import torch

                t = _channels_last(x)
                function = getattr(torch.nn.functional, f"{'max' if kind == 'max' else 'avg'}_pool{rank}d")

                def in_torch(function=function, t=t, pool=pool, stride=stride) -> None:
                    with torch.inference_mode():
                        function(t, pool, stride)

                case.runs["torch"] = in_torch
            if _have("tensorflow"):
                import tensorflow as tf

                name = "MAX" if kind == "max" else "AVG"
                case.runs["tensorflow"] = _in_tensorflow(
                    lambda x, pool=pool, stride=stride, name=name: tf.nn.pool(
                        x, pool, name, strides=(stride,) * len(pool), padding="VALID"
                    ),
                    x,
                )
            if _have("onnxruntime"):
                case.runs["onnxruntime"] = _onnx(
                    "MaxPool" if kind == "max" else "AveragePool",
                    {"x": np.ascontiguousarray(np.moveaxis(x, -1, 1))}, {}, threads,
                    kernel_shape=pool, strides=(stride,) * rank,
                )  # fmt: skip
            yield case


#: h, w, channels, kernel, stride, multiplier
DEPTHWISE = (
    (112, 112, 32, 3, 1, 1), (112, 112, 64, 3, 2, 1), (56, 56, 128, 3, 1, 1), (56, 56, 128, 3, 2, 1),
    (28, 28, 256, 3, 1, 1), (28, 28, 256, 3, 2, 1), (14, 14, 512, 3, 1, 1), (14, 14, 512, 3, 2, 1),
    (7, 7, 1024, 3, 1, 1), (56, 56, 64, 3, 1, 2), (56, 56, 144, 5, 1, 1), (28, 28, 240, 5, 1, 1),
    (14, 14, 480, 5, 2, 1), (1, 16384, 64, 3, 1, 1),
)  # fmt: skip


def _depthwise(threads: int) -> Iterator[Case]:
    for h, w, c, k, stride, multiplier in DEPTHWISE:
        x = _floats(1, h, w, c)
        size = (min(h, k), k)
        kernel, bias = _floats(*size, c, multiplier), _floats(c * multiplier)
        y = cc.depthwise_conv2d(x, kernel, bias, strides=stride, padding="same")
        name = f"depthwise {h}x{w}x{c} {size[0]}x{k} s{stride} m{multiplier}"
        case = Case(name, x.nbytes + kernel.nbytes, y.nbytes)
        call = Call()
        low = [cc.shapes.conv_padding("same", (h, w), size, (stride,) * 2, (1, 1), "")[a][0] for a in (0, 1)]
        call.step(
            "depthwise_conv", x=call.map_view(x), out=call.map_view(y), weights=kernel, bias=bias,
            kernel=(1, *size), stride=(1, stride, stride), pad_low=(0, *low),
        )  # fmt: skip
        case.runs["convcore"] = call.run
        oihw = np.ascontiguousarray(kernel.reshape(*size, c * multiplier).transpose(2, 0, 1)[:, None])
        if _have("torch") and (stride == 1 or h % 2 == 1 or k == 3):
            import torch

            t = _channels_last(x)
            weights, b = torch.from_numpy(oihw), torch.from_numpy(bias)

            def in_torch(t=t, weights=weights, b=b, stride=stride, size=size, c=c) -> None:
                with torch.inference_mode():
                    torch.nn.functional.conv2d(
                        t, weights, b, stride, padding=(size[0] // 2, size[1] // 2), groups=c
                    )

            case.runs["torch"] = in_torch
        if _have("tensorflow") and h > 1:
            import tensorflow as tf

            constant, offset = tf.constant(kernel), tf.constant(bias)
            case.runs["tensorflow"] = _in_tensorflow(
                lambda x, constant=constant, offset=offset, stride=stride: tf.nn.bias_add(
                    tf.nn.depthwise_conv2d(x, constant, (1, stride, stride, 1), "SAME"), offset
                ),
                x,
            )
        if _have("onnxruntime"):
            case.runs["onnxruntime"] = _onnx(
                "Conv", {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}, {"w": oihw, "b": bias}, threads,
                group=c, kernel_shape=size, strides=(stride, stride), auto_pad="SAME_UPPER",
            )  # fmt: skip
        yield case


def _hounsfield(threads: int) -> Iterator[Case]:
    raw = np.random.default_rng(2).integers(-2000, 3000, (300, 512, 512), np.int16)
    y = np.empty(raw.shape, np.float32)
    options: dict[str, Any] = {"slope": 1.0, "intercept": -1024.0, "padding_to": -1000.0}
    case = Case("hu_rescale 300x512x512 int16", raw.nbytes, y.nbytes)
    case.runs["convcore"] = lambda: cc.hu_rescale(raw, out=y, **options)

    def in_numpy() -> None:
        np.multiply(raw, np.float32(1), out=y)
        np.add(y, np.float32(-1024), out=y)
        np.copyto(y, np.float32(-1000), where=raw == -2000)

    case.runs["numpy"] = in_numpy
    case.runs["numpy, no padding"] = lambda: np.add(raw, np.float32(-1024), out=y, dtype=np.float32)
    if _have("torch"):
        import torch

        target = torch.from_numpy(y)
        case.runs["torch, no padding"] = _in_torch(lambda t: torch.add(t, -1024.0, out=target), raw)
    yield case
    options2 = {**options, "slope": 0.1}
    yield Case(
        "hu_rescale slope 0.1",
        raw.nbytes,
        y.nbytes,
        {"convcore": lambda: cc.hu_rescale(raw, out=y, **options2)},
    )
    small = np.empty(raw.shape, np.int16)
    yield Case(
        "hu_rescale to int16", raw.nbytes, small.nbytes,
        {"convcore": lambda: cc.hu_rescale(raw, out=small, dtype="int16", **options)},
    )  # fmt: skip
    if _have("pydicom"):
        from pydicom.dataset import Dataset
        from pydicom.pixels import apply_rescale

        data = Dataset()
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        few, out = raw[:30], y[:30]
        yield Case(
            "hu_rescale 30x512x512 int16", few.nbytes, out.nbytes,
            {
                "convcore": lambda: cc.hu_rescale(few, out=out, **options),
                "pydicom": lambda: apply_rescale(few, data),
            },
        )  # fmt: skip


def _dense(threads: int) -> Iterator[Case]:
    for rows, inputs, outputs in (
        (1, 25088, 4096), (2, 25088, 4096), (8, 25088, 4096), (1, 4096, 4096), (1, 4096, 1000), (1, 60, 60),
        (208, 60, 60), (1, 1031, 997),
    ):  # fmt: skip
        x, w, b = _floats(rows, inputs), _floats(inputs, outputs), _floats(outputs)
        y = np.empty((rows, outputs), np.float32)
        case = Case(f"dense {rows}x{inputs} -> {outputs}", w.nbytes + x.nbytes, y.nbytes)
        call = Call()
        call.step("dense", x=call.view(x), out=call.view(y), weights=w, bias=b)
        case.runs["convcore"] = call.run
        if _have("torch"):
            import torch

            weights, bias = torch.from_numpy(np.ascontiguousarray(w.T)), torch.from_numpy(b)
            case.runs["torch"] = _in_torch(
                lambda t, w=weights, b=bias: torch.nn.functional.linear(t, w, b), x
            )
        if _have("onnxruntime") and w.nbytes < 2**29:
            case.runs["onnxruntime"] = _onnx("Gemm", {"x": x}, {"w": w, "b": b}, threads)
        yield case


def _times(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a call, in turn like ``convcore.bench.interleaved``.

    Some libraries' threads keep spinning for a while after a call, on the CPUs that the next candidate wants:
    each turn begins with a pause. Short calls are repeated for some milliseconds, so that their data is where
    the call itself leaves it.
    """
    counts: dict[str, int] = {}
    for name, run in runs.items():
        time.sleep(0.02)
        run()
        start = time.perf_counter()
        for _ in range(3):
            run()
        counts[name] = min(500, math.ceil(4e-3 / ((time.perf_counter() - start) / 3)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs.items())
    for r in range(rounds):
        for name, run in order if r % 2 == 0 else reversed(order):
            time.sleep(0.02)
            start = time.perf_counter()
            for _ in range(counts[name]):
                run()
            times[name].append(1e3 * (time.perf_counter() - start) / counts[name])
    return times


GROUPS = {
    "elementwise": _elementwise,
    "softmax": _softmax,
    "pooling": _pooling,
    "depthwise": _depthwise,
    "hounsfield": _hounsfield,
    "dense": _dense,
}


def _bandwidths() -> dict[str, tuple[float, Run]]:
    """Bytes and calls that read, and that write, far more than any cache holds."""
    count = 64 << 20
    x, y = np.ones(count, np.float32), np.zeros(count, np.float32)
    read, write = Call(), cc.ops.call.Call()
    threads = cc.get_num_threads()
    maps = x.reshape(threads, 1, 1, -1, 64)
    few = np.empty((threads, 1, 1, 1, 64), np.float32)
    read.step("global_max_pool", x=read.view(maps), out=read.view(few))
    write.step("fill", out=write.view(y), value=1.0)
    return {"read": (x.nbytes, read.run), "write": (y.nbytes, write.run)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all if none is named")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--peers", nargs="*", help="only candidates whose name starts with one of these")
    parser.add_argument("--threads", type=int, default=cc.get_num_threads())
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--isa", default=None)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    cc.set_num_threads(options.threads)
    if _have("torch"):
        import torch

        torch.set_num_threads(options.threads)
    if _have("tensorflow"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    results: dict[str, Any] = {
        "machine": machine("numpy", "torch", "tensorflow", "onnxruntime"),
        "threads": options.threads,
        "cases": {},
    }
    bandwidths = _bandwidths()
    with instruction_set(options.isa) if options.isa else nullcontext():
        for group in options.groups or GROUPS:
            for case in GROUPS[group](options.threads):
                if options.only not in case.name:
                    continue
                roof = {f"[{name}]": run for name, (_, run) in bandwidths.items()}
                if options.peers is not None:
                    kept = ("convcore", *options.peers)
                    case.runs = {name: run for name, run in case.runs.items() if name.startswith(kept)}
                times = _times({**roof, **case.runs}, options.rounds)
                speed = {
                    n: size / statistics.median(times.pop(f"[{n}]")) for n, (size, _) in bandwidths.items()
                }
                floor = case.read / speed["read"] + case.written / speed["write"]
                median = {name: statistics.median(ms) for name, ms in times.items()}
                best = min(
                    (name for name in times if name != "convcore"), key=median.__getitem__, default=None
                )
                ratio = median_ratio(times["convcore"], times[best]) if best else float("nan")
                share = floor / median["convcore"]
                results["cases"][case.name] = {
                    "ms": times, "floor_ms": floor, "best_peer": best, "ratio": ratio, "share_of_floor": share
                }  # fmt: skip
                listed = "  ".join(f"{name} {ms:.3f}" for name, ms in median.items())
                print(
                    f"{case.name:44} {listed}  | ratio to {best} {ratio:.2f}  floor/ours {share:.2f}"
                    f"  (read {speed['read'] * 1e-6:.1f}, write {speed['write'] * 1e-6:.1f} GB/s)",
                    flush=True,
                )
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
