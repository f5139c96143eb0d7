"""What is measured on a GPU, part by part; each runs in a process of its own."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore import machine_code
from convcore.bench.cases import CASES, case
from convcore.bench.gpu import accuracy
from convcore.bench.gpu.bound import Bound, Kernels, packed_weights, sets_beyond
from convcore.bench.gpu.driver import Clock, Device, Graph, Memory, Pinned
from convcore.bench.gpu.network import Layer, chain, moved_bytes, multiply_adds
from convcore.bench.gpu.schedule import Schedule, kernels_of, schedule
from convcore.bench.gpu.timing import Candidate, interleaved, ratio, summary
from convcore.bench.gpu.torch_peer import TorchPeer, why_not
from convcore.errors import DeviceError, printable

__all__ = ["BATCHES", "MEASURED", "MEMORY_BOUND", "PRECISIONS", "Setting", "key", "measure", "wanted"]

PRECISIONS = ("float32", "tf32", "bfloat16")
#: Batches of VGG16 and its layers, the more telling first.
BATCHES = (32, 1)
NETWORK = "vgg16"
CONVOLUTIONS = tuple(name for name, c in CASES.items() if c.group == "vgg16 conv")
#: Cases that take the time that their bytes take, and their batches.
MEMORY_BOUND = {
    "hu_rescale_300_512_512": 1,
    "max_pool_224_64": 32,
    "softmax_4096_4096": 1,
    **dict.fromkeys(("relu_64MiB", "sigmoid_64MiB", "tanh_64MiB", "gelu_64MiB"), 1),
    "dense_25088_4096": 1,
    "dense_4096_4096": 1,
}
#: Parts that measure, by importance.
MEASURED = (
    "ceilings",
    *(f"vgg16_{precision}" for precision in PRECISIONS),
    "memory",
    *(f"layers_{precision}" for precision in PRECISIONS),
)

_COPIED = 1 << 30
_COPIED_BY_HOST = 256 << 20
_MATRIX = 8192
_COPIES = 7
#: Images of a batch that are compared: the first and the last.
_ENDS = (0, -1)


@dataclass(frozen=True)
class Setting:
    """How to measure: rounds of timing, the folder of kernels, and whether PyTorch is measured beside."""

    rounds: int
    folder: machine_code.Folder
    peers: bool = True


@dataclass
class _Bench:
    device: Device
    kernels: Kernels
    setting: Setting
    peer: TorchPeer | None = None
    no_peer: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    say: Callable[[dict[str, Any]], None] = field(default=lambda record: None)


def key(name: str, batch: int, precision: str) -> str:
    """Return the name of a schedule in a folder.

    Examples
    --------
    >>> key("vgg16", 32, "tf32")
    'vgg16, batch 32, tf32'
    """
    return f"{name}, batch {batch}, {precision}"


def wanted(parts: Sequence[str] = MEASURED) -> Iterator[tuple[str, int, str]]:
    """Yield case, batch and precision of all that the parts measure.

    Examples
    --------
    >>> next(wanted(["vgg16_tf32"]))
    ('vgg16', 32, 'tf32')
    """
    for part in parts:
        name, _, precision = part.partition("_")
        if name == NETWORK:
            yield from ((NETWORK, batch, precision) for batch in BATCHES)
        elif name == "layers":
            yield from ((case_, batch, precision) for case_ in CONVOLUTIONS for batch in BATCHES)
        elif name == "memory":
            yield from ((case_, batch, "float32") for case_, batch in MEMORY_BOUND.items())


def made(parts: Sequence[str] = MEASURED) -> tuple[set[Any], dict[str, Any]]:
    """Return all kernels that the parts need, and their schedules as plain data; needs Numba, and no GPU.

    A schedule that cannot be made is replaced by the reason: ``{"reason": ...}``.
    """
    kernels: set[Any] = set()
    schedules: dict[str, Any] = {}
    layers: dict[str, tuple[Layer, ...]] = {}
    for name, batch, precision in wanted(parts):
        layers[name] = layers.get(name) or chain(case(name).build())
        try:
            schedules[key(name, batch, precision)] = schedule(layers[name], batch, precision).as_dict()
            kernels |= kernels_of(layers[name], batch, precision)
        except DeviceError as error:
            schedules[key(name, batch, precision)] = {"reason": str(error)}
    return kernels, schedules


def measure(part: str, setting: Setting, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure one part and return its record; `say` is given the record so far after every workload.

    Raises
    ------
    DeviceError
        There is no GPU, or the kernels are not for it.
    """
    device = Device()
    name, _, precision = part.partition("_")
    bench = _Bench(device, Kernels(setting.folder, device), setting, say=say)
    bench.no_peer = why_not() if setting.peers else "not asked for"
    if not bench.no_peer:
        bench.peer = TorchPeer(precision or "float32")
    if name == "ceilings":
        return _ceilings(bench)
    record: dict[str, Any] = {"peer": bench.no_peer or "PyTorch", "workloads": []}
    for case_, batch, precision in wanted([part]):
        found: dict[str, Any] = {"case": case_, "batch": batch, "precision": precision}
        record["workloads"].append(found)
        try:
            _workload(bench, found, case_, batch, precision)
            found.setdefault("status", "measured")
        except Exception as error:
            found |= {"status": "failed", "reason": _reason(error)}
        gc.collect()  # what the workload held on the GPU
        if bench.peer is not None:
            bench.peer.release()
        say(record)
    return record


def _reason(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {error}", 500)


# --------------------------------------------------------------------------------------------- ceilings


def _ceilings(bench: _Bench) -> dict[str, Any]:
    """The two ceilings: bytes copied on the GPU, and the rate of matrix products; and copies to the host."""
    device, clock = bench.device, Clock(bench.device.stream)
    source, target = Memory(_COPIED), Memory(_COPIED)
    device.fill(source, 0)
    candidates = {"cuMemcpyDtoD": Candidate(lambda: device.copy(target, source))}
    record: dict[str, Any] = {"copy": {"status": "measured", "bytes": 2 * _COPIED}, "matrix": {}}
    if bench.peer is not None:
        copied = bench.peer.copy(_COPIED)
        candidates["PyTorch copy_"] = Candidate(copied.replay_on(device.stream))
    times = interleaved(candidates, clock, bench.setting.rounds)
    rates = {name: 2 * _COPIED / (1e-3 * statistics.median(ms)) for name, ms in times.items()}
    best = max(rates, key=lambda name: rates[name])
    record["copy"] |= {"by": best, "bytes_per_s": rates[best], "all": rates}
    record["host"] = _host_copies(device, clock)
    bench.say(record)
    for precision in PRECISIONS:
        record["matrix"][precision] = _matrix(bench, clock, precision)
        bench.say(record)
    return record


def _host_copies(device: Device, clock: Clock) -> dict[str, Any]:
    """Bytes per second between pinned memory and the GPU."""
    host, memory = Pinned(_COPIED_BY_HOST), Memory(_COPIED_BY_HOST)
    rates = {}
    for name, (to, source) in {"in": (memory, host), "out": (host, memory)}.items():
        ms = [clock(lambda t=to, s=source: device.copy(t, s), 1) for _ in range(_COPIES)]  # type: ignore[misc]
        rates[f"copy_{name}_bytes_per_s"] = _COPIED_BY_HOST / (1e-3 * statistics.median(ms))
    return rates


def _matrix(bench: _Bench, clock: Clock, precision: str) -> dict[str, Any]:
    if bench.peer is None:
        return {"status": "not measured", "reason": f"PyTorch's matrix product is the probe: {bench.no_peer}"}
    try:
        product = TorchPeer(precision).matrix_product(_MATRIX)
        candidate = Candidate(product.replay_on(bench.device.stream))
        ms = interleaved({"product": candidate}, clock, max(3, bench.setting.rounds // 2))["product"]
    except Exception as error:
        return {"status": "failed", "reason": _reason(error)}
    rate = TorchPeer.flops(_MATRIX) / (1e-3 * statistics.median(ms))
    return {"status": "measured", "by": f"PyTorch matmul, {_MATRIX}^3", "flops_per_s": rate}


# -------------------------------------------------------------------------------------------- workloads


def _workload(bench: _Bench, found: dict[str, Any], name: str, batch: int, precision: str) -> None:
    """Fill the record of one workload: outputs compared, then everyone timed in turn."""
    layers, x = chain(case(name).build()), case(name).inputs(batch)
    itemsize = 2 if precision == "bfloat16" else 4
    found["multiply_adds"] = multiply_adds(layers, batch)
    found["bytes"] = moved_bytes(layers, batch, itemsize)
    sets = 1 if name == NETWORK else sets_beyond(bench.device.l2_bytes, found["bytes"])
    found["sets"] = sets
    if name == NETWORK:
        reference = _network_reference(bench, x, layers, precision)
        images: Sequence[int] = range(batch)
    else:
        images = sorted({i % batch for i in _ENDS}) if layers[0].operation == "conv" else range(batch)
        reference = accuracy.expected_of_layer(layers[0], x[list(images)], precision)
    found["compared"] = (
        "outputs of all images" if len(images) == batch else f"outputs of images {list(images)}"
    )
    shape = (batch, *layers[-1].out)
    candidates: dict[str, Candidate] = {}
    found["candidates"] = records = {}
    streams = {"ours": bench.device.stream}

    def ours(label: str, build: Callable[[], tuple[Candidate, NDArray[Any], dict[str, Any]]]) -> None:
        try:
            candidate, y, more = build()
            share = accuracy.share_of_bound(y.reshape(shape)[list(images)], reference)
            records[label] = {**more, "share_of_bound": _finite(share)}
            records[label]["difference"] = _finite(
                accuracy.difference(y.reshape(shape)[list(images)], reference.y)
            )
            if not share <= 1:
                records[label] |= {"status": "disagrees", "reason": "the outputs are beyond the stated bound"}
                return
            candidates[label] = candidate
        except Exception as error:
            records[label] = {"status": "failed", "reason": _reason(error)}

    if name == NETWORK:
        ours("convcore", lambda: _engine(bench, x, precision, streams))
    label = "convcore_kernels" if name == NETWORK else "convcore"
    ours(label, lambda: _kernels(bench, found, name, layers, x, batch, precision, sets, streams["ours"]))
    variants = (
        (False, True) if any(layer.operation == "conv" and layer.relu for layer in layers) else (False,)
    )
    for fused in variants:
        label = "pytorch_fused" if fused else "pytorch"
        if bench.peer is None:
            records[label] = {"status": "not installed", "reason": bench.no_peer}
            continue
        try:
            graph = bench.peer.graph(layers, x, sets, fused)
            y = graph.output().reshape(shape)[list(images)]
            records[label] = {"difference": _finite(accuracy.difference(y, reference.y))}
            if not accuracy.same(y, reference.y, precision):
                records[label] |= {"status": "disagrees", "reason": "the outputs are another layer's"}
                continue
            candidates[label] = Candidate(graph.replay_on(streams["ours"]), graph.calls)
        except Exception as error:
            records[label] = {"status": "failed", "reason": _reason(error)}
    times = interleaved(candidates, Clock(streams["ours"]), bench.setting.rounds)
    for label, ms in times.items():
        records[label] |= {"status": "timed", **summary(ms)}
    _compared(found, times)


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _compared(found: dict[str, Any], times: Mapping[str, list[float]]) -> None:
    """Put ours, the fastest peer, and their ratio into the record of a workload."""
    mine = next((name for name in ("convcore", "convcore_kernels") if name in times), None)
    peers = {name: statistics.median(ms) for name, ms in times.items() if name.startswith("pytorch")}
    fastest = min(peers, key=lambda name: peers[name]) if peers else None
    found["ours"], found["fastest_peer"] = mine, fastest
    found["ratio_to_fastest_peer"] = ratio(times, mine, fastest) if mine and fastest else None
    if mine is None:
        record = found["candidates"].get("convcore", {})
        found |= {"status": "failed", "reason": record.get("reason", "no kernels of ours were timed")}
        return
    seconds = 1e-3 * statistics.median(times[mine])
    found["flops_per_s"] = 2 * found["multiply_adds"] / seconds
    found["bytes_per_s"] = found["bytes"] / seconds


def _kernels(
    bench: _Bench,
    found: dict[str, Any],
    name: str,
    layers: Sequence[Layer],
    x: NDArray[Any],
    batch: int,
    precision: str,
    sets: int,
    stream: int,
) -> tuple[Candidate, NDArray[Any], dict[str, Any]]:
    """The fast kernels alone, by the folder's schedule, recorded as a graph and replayed on `stream`."""
    folder, device = bench.setting.folder, bench.device
    data = folder.schedules.get(key(name, batch, precision), {"reason": "the folder has no schedule of it"})
    if "reason" in data:
        raise DeviceError("schedule", data["reason"])
    plan = Schedule.from_dict(data)
    start = time.perf_counter()
    if name not in bench.kept or bench.kept[name][0] != plan.packings:  # the same for every batch, and slow
        bench.kept[name] = plan.packings, packed_weights(plan, layers)
    bound = Bound(plan, bench.kept[name][1], x, bench.kernels, device, sets)
    bound.run()
    y = bound.output((batch, *layers[-1].out))
    used = {one.kernel for one in plan.launches}
    more: dict[str, Any] = {
        "kernels": sorted(used),
        "compile_s": sum(s for kernel, s in folder.seconds.items() if kernel in used),
        "load_s": sum(s for kernel, s in bench.kernels.seconds.items() if kernel in used),
        "prepare_s": time.perf_counter() - start,
    }
    if plan.channels is not None:
        more["input"] = f"padded to {plan.channels} channels on the host"
    found["copies"] = _copies(device, bound.input_memory, bound.output_memory)
    graph = Graph(device, bound.run, sets)
    return Candidate(graph.replay_on(stream), graph.calls), y, more


def _copies(device: Device, x: Memory, y: Memory) -> dict[str, float]:
    """Milliseconds of the input's way to the GPU and the output's way back, from and to pinned memory."""
    clock, image, result = Clock(device.stream), Pinned(x.nbytes), Pinned(y.nbytes)
    device.copy(image, x)  # so that the input stays what it is
    into = [clock(lambda: device.copy(x, image), 1) for _ in range(_COPIES)]
    out = [clock(lambda: device.copy(result, y), 1) for _ in range(_COPIES)]
    return {"copy_in_ms": statistics.median(into), "copy_out_ms": statistics.median(out)}


def _network_reference(
    bench: _Bench, x: NDArray[Any], layers: Sequence[Layer], precision: str
) -> accuracy.Expected:
    """What the CPU's engine gives, all convolutions direct, and the bound of a network."""
    from convcore import plan
    from convcore.run.cpu import CpuRunner

    if "cpu" not in bench.kept:
        bench.kept["cpu"] = CpuRunner(plan.build(case(NETWORK).build(), plan.Device(accuracy="direct")))
    (y,) = bench.kept["cpu"].run([x])
    bound = accuracy.network_bound(layers, float(np.abs(y).max()), precision)
    return accuracy.Expected(y, np.full(y.shape, bound))


def _engine(
    bench: _Bench, x: NDArray[Any], precision: str, streams: dict[str, int]
) -> tuple[Candidate, NDArray[Any], dict[str, Any]]:
    """The engine as ``load_model(..., device="cuda")`` runs it: its own graph, on its own stream."""
    from convcore import plan
    from convcore.cuda.device import handle_of
    from convcore.cuda.toolkit import simulated
    from convcore.run.cuda import CudaRunner

    start = time.perf_counter()
    if "engine" not in bench.kept:
        device = plan.Device("cuda", precision=precision)
        bench.kept["engine"] = CudaRunner(plan.build(case(NETWORK).build(), device))
    runner = bench.kept["engine"]
    (y,) = runner.run([x])  # compiles
    prepared = time.perf_counter() - start
    (y,) = runner.run([x])  # records
    (y,) = runner.run([x])  # replays
    walls = []
    for _ in range(_COPIES):
        start = time.perf_counter()
        runner.run([x])
        walls.append(time.perf_counter() - start)
    program = runner.program(x.shape[0])
    streams["ours"] = 0 if simulated else handle_of(program.stream)
    more = {
        "prepare_s": prepared,
        "predict_ms": 1e3 * statistics.median(walls),
        "steps": [step.algorithm for step in runner.plan.steps],
    }
    return Candidate(program.slot(0).replay), y, more
