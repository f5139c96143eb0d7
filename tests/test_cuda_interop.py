"""Arrays to and from other packages: who waits for whom, and what a view looks like on the other side."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convcore.errors import DeviceError, DTypeError

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: no arrays on a GPU to test")

from convcore.cuda import arrays, device, empty, relu, to_device
from convcore.cuda.arrays import DeviceArray, as_device_array
from convcore.cuda.toolkit import cuda, simulated

only_simulated = pytest.mark.skipif(not simulated, reason="NumPy reads no memory of a GPU")


class Foreign:
    """An array of another package."""

    def __init__(self, **interface: Any) -> None:
        self.__cuda_array_interface__ = {"version": 3, "typestr": "<f4", **interface}


@only_simulated
def test_numpy_reads_what_the_simulator_exports() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    d_x = to_device(x)
    views = [
        (d_x, x),
        (d_x[::-1, ::2], x[::-1, ::2]),
        (d_x[1], x[1]),
        (d_x[0].broadcast_to((2, 4)), np.broadcast_to(x[0], (2, 4))),
        (d_x[:0], x[:0]),
        (d_x[1, 2], x[1, 2]),
    ]
    for ours, expected in views:
        found = np.from_dlpack(ours)
        assert found.shape == expected.shape and found.strides == np.asarray(expected).strides
        assert np.array_equal(found, expected)
        assert found.flags.writeable == ours.flags.writeable
    taken = np.from_dlpack(to_device(x))  # its memory outlives the array that it came from
    assert np.array_equal(taken, x)
    copied = np.from_dlpack(d_x, copy=True)
    d_x[...] = 7.0
    assert np.array_equal(copied, x)


def test_what_a_consumer_of_dlpack_cannot_have() -> None:
    d_x = to_device(np.zeros(4, np.float32))
    with pytest.raises(BufferError, match=r"not on \(2, 5\)"):
        d_x.__dlpack__(dl_device=(2, 5))
    with pytest.raises(BufferError, match="may not be written"):
        d_x.broadcast_to((2, 4)).__dlpack__()
    with pytest.raises(BufferError, match="may not be written"):
        d_x.broadcast_to((2, 4)).__dlpack__(max_version=(0, 8))


def test_an_empty_array_has_no_address() -> None:
    x = empty((0, 3))
    assert x.__cuda_array_interface__["data"] == (0, False)
    back = as_device_array(Foreign(shape=(0, 3), data=(0, True), strides=None), "x", "relu")
    assert back.shape == (0, 3) and back.pointer == 0


def test_views_never_touch_an_element() -> None:
    """In a process of its own: nobody may read the first page of memory."""
    code = """
import numpy as np
from convcore.cuda import arrays

class Foreign:
    __cuda_array_interface__ = {"version": 3, "typestr": "<f4", "shape": (2, 3), "data": (256, False)}

x = arrays.as_device_array(Foreign(), "x", "relu")
views = [x[1, 2], x[np.int64(1), -1], x[..., 1, 2], x[None, 1, 2], x[1], x[:, ::-1], x[:0], x[()]]
views += [x.transpose(), x.broadcast_to((4, 2, 3)), x.view(np.uint32), x.reshape(-1), x.reshape(1, 6)]
views += [x.strided(1, (2, 2), (3, 1)), x[1, 2].reshape(1)]
for v in views:
    repr(v), v.span, v.pointer, v.flags.c_contiguous, v.__cuda_array_interface__
print([v.shape for v in views[:4]], views[0].pointer)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"[(), (), (), (1,)] {256 + 4 * 5}\n"


@only_simulated
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (3, 4), None), (44, (12,), (-4,)), (0, (2, 4), (0, 4)), (8, (), ()), (4, (2, 3), (16, 8))],
)
def test_views_of_other_packages_come_in_as_they_are(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...] | None
) -> None:
    x = np.arange(12, dtype=np.float32)
    foreign = Foreign(shape=shape, strides=strides, data=(x.ctypes.data + offset, True), stream=None)
    taken = as_device_array(foreign, "x", "relu")
    raw = np.ndarray(shape, np.float32, x, offset, strides)
    assert taken.shape == shape and not taken.flags.writeable
    assert np.array_equal(taken.copy_to_host(), raw)
    if shape:
        assert np.array_equal(relu(foreign).copy_to_host(), raw)
    low = x.ctypes.data
    assert low <= taken.span[0] < taken.span[1] <= low + x.nbytes


# ---- PyTorch, where there is a GPU


@pytest.fixture
def torch() -> Any:
    if simulated:
        pytest.skip("PyTorch has no memory in the simulator")
    package = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not package.cuda.is_available():
        pytest.skip("this PyTorch sees no GPU")
    return package


def test_pytorch_shares_memory_both_ways(torch: Any) -> None:
    x = torch.randn(2, 4, 9, 8, device="cuda").permute(0, 2, 3, 1)  # as views are, its strides are not C's
    expected = np.maximum(x.cpu().numpy(), 0)
    y = relu(x)
    for taken in (torch.from_dlpack(y), torch.as_tensor(y, device="cuda")):
        assert taken.data_ptr() == y.pointer and taken.device == x.device
        assert np.array_equal(taken.cpu().numpy(), expected)
    out = torch.empty_like(x)
    assert relu(x, out=out) is out
    assert np.array_equal(out.cpu().numpy(), expected)
    with pytest.raises(DTypeError, match="records gradients"):
        relu(x.clone().requires_grad_())


def test_streams_of_pytorch_are_waited_for(torch: Any) -> None:
    theirs, ours = torch.cuda.Stream(), torch.cuda.Stream()
    x = torch.zeros(1 << 20, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(theirs):
        torch.cuda._sleep(100_000_000)  # cycles: what was not waited for would be read as it was before
        x.fill_(2)
        y = relu(x, stream=ours)
        found = (torch.from_dlpack(y) + 1).cpu()
    assert (y.copy_to_host() == 2).all()  # on the default stream, which waits for none of these by itself
    assert (found.numpy() == 3).all()


# ---- streams and devices, by a stand-in for the driver


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pairs of streams (producer, consumer), the second waiting for the first, on a GPU that is not there."""
    seen: list[tuple[int, int]] = []

    class Event:
        def record(self, on: Any) -> None:
            self.producer = on.handle

        def wait(self, on: Any) -> None:
            seen.append((self.producer, on.handle))

    fake = SimpleNamespace(
        get_current_device=lambda: SimpleNamespace(id=0),
        external_stream=lambda handle: SimpleNamespace(handle=handle),
        cudadrv=cuda.cudadrv,
    )
    for module in (arrays, device):
        monkeypatch.setattr(module, "cuda", fake)
        monkeypatch.setattr(module, "simulated", False)
    monkeypatch.setattr(arrays, "event", Event)
    monkeypatch.setattr(arrays, "holder", lambda address, name, where: 1 if address >= 2**40 else 0)
    return seen


def foreign(stream: int | None = None, address: int = 4096) -> Foreign:
    return Foreign(shape=(3,), data=(address, False), stream=stream)


def test_the_stream_of_the_producer_is_waited_for(waits: list[tuple[int, int]]) -> None:
    with device.launching(9, "relu"):
        for stream in (7, 1, 2, 0):
            as_device_array(foreign(stream), "x", "relu")
        assert waits == [(7, 9), (1, 9), (2, 9), (1, 9)]  # 0 is not allowed, and can only mean the default
        waits.clear()
        as_device_array(foreign(None), "x", "relu")  # nothing to wait for
        as_device_array(foreign(9), "x", "relu")  # our own
    as_device_array(foreign(1), "x", "relu")  # the default stream, both
    assert waits == []


def test_who_names_no_stream_is_asked_to_have_ours_wait(waits: list[tuple[int, int]]) -> None:
    """PyTorch's interface is of version 2."""
    asked: list[int] = []

    class Tensor(Foreign):
        def __dlpack__(self, *, stream: int) -> str:
            asked.append(stream)
            return "capsule"

    def tensor(**changed: Any) -> Tensor:
        return Tensor(**{"version": 2, "shape": (3,), "data": (4096, False), **changed})

    assert as_device_array(tensor(), "x", "relu").pointer == 4096
    with device.launching(9, "relu"):
        as_device_array(tensor(), "x", "relu")
    assert asked == [1, 9]
    as_device_array(tensor(version=3), "x", "relu")  # it would have named one
    as_device_array(tensor(shape=(0,)), "x", "relu")
    as_device_array(Foreign(version=2, shape=(3,), data=(4096, False)), "x", "relu")
    assert asked == [1, 9] and waits == []


def test_an_array_by_dlpack_alone(waits: list[tuple[int, int]]) -> None:
    pytest.importorskip("cuda.core.utils", reason="cuda-core is not installed")
    raw = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    asked: list[int] = []

    class Exporter:
        """Memory of the host that says it were a GPU's: nobody reads it here."""

        def __init__(self, whole: Any) -> None:
            self.whole = whole

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, *, stream: int, **_: Any) -> Any:
            asked.append(stream)
            return self.whole.__dlpack__(max_version=(1, 0))

    for view in (raw, raw[:, ::2], raw[::-1], raw[1, 2], raw[1, 2, 3:].reshape(()), raw.transpose(), raw[:0]):
        taken = as_device_array(Exporter(view), "x", "relu")
        assert taken.shape == view.shape and taken.dtype == view.dtype
        if view.size:
            assert taken.strides == view.strides and taken.pointer == view.ctypes.data
    with device.launching(9, "relu"):
        as_device_array(Exporter(raw), "x", "relu")
    assert asked == [1] * 7 + [9] and waits == []  # it is the exporter who has a stream wait


def test_an_array_remembers_the_stream_that_wrote_it(waits: list[tuple[int, int]]) -> None:
    with device.launching(5, "relu"):
        made = DeviceArray(np.zeros((2, 3), np.float32), None)
    assert made.__cuda_array_interface__["stream"] == 5 == made[0].__cuda_array_interface__["stream"]
    with device.launching(9, "relu"):
        as_device_array(made[1], "x", "relu")
    assert waits == [(5, 9)]
    made.transpose().written_on(device.as_stream(8, "relu"))
    assert made.__cuda_array_interface__["stream"] == 8  # all views of a piece of memory
    with device.launching(None, "relu"):
        plain = DeviceArray(np.zeros(3, np.float32), None)
    assert plain.__cuda_array_interface__["stream"] == 1


def test_what_copies_an_array_waits_for_who_wrote_it(
    waits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[tuple[str, int]] = []
    monkeypatch.setattr(arrays, "call", lambda name, *arguments: queued.append((name, arguments[-1])))
    monkeypatch.setattr(arrays.copy, "launch_fill", lambda y, value: queued.append(("fill", len(waits))))
    with device.launching(5, "relu"):
        made = DeviceArray(np.zeros(3, np.float32), None)
    made.copy_to_host()  # on the default stream
    assert waits == [(5, 1)]
    assert queued == [("cuMemcpyDtoHAsync", 0), ("cuStreamSynchronize", 0)]
    with device.launching(9, "relu"):
        made.copy_from_host(np.zeros(3, np.float32))
        assert waits == [(5, 1), (5, 9)]
    with device.launching(7, "relu"):
        made[...] = 0.0
        assert waits == [(5, 1), (5, 9), (9, 7)] and queued[-1] == ("fill", 3)
        made[...] = 0.0
        made.copy_to_host()
    assert len(waits) == 3  # on the stream that wrote it there is nothing to wait for


def test_dlpack_lets_the_stream_of_the_consumer_wait(
    waits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    utils = pytest.importorskip("cuda.core.utils", reason="cuda-core is not installed")
    asked = []

    class View:
        @classmethod
        def from_cuda_array_interface(cls, x: DeviceArray, stream_ptr: int) -> View:
            assert stream_ptr == -1
            return cls()

        def __dlpack__(self, **options: Any) -> str:
            asked.append(options)
            return "capsule"

    monkeypatch.setattr(utils, "StridedMemoryView", View)
    with device.launching(5, "relu"):
        made = DeviceArray(np.zeros((2, 3), np.float32), None)
    assert made.__dlpack_device__() == (2, 0)
    for stream in (None, 1, 2, 11, 5, -1):
        assert made.__dlpack__(stream=stream, max_version=(1, 0)) == "capsule"
    assert waits == [(5, 1), (5, 1), (5, 2), (5, 11)]
    assert asked == [{"stream": -1, "max_version": (1, 0)}] * 6


def test_arrays_of_another_gpu_are_refused(waits: list[tuple[int, int]], monkeypatch: Any) -> None:
    message = "^relu: x is on another GPU, got GPU 1, expected GPU 0, this thread's"
    with pytest.raises(DeviceError, match=message):
        as_device_array(foreign(address=2**40), "x", "relu")
    with pytest.raises(DeviceError, match=message):
        as_device_array(SimpleNamespace(__dlpack_device__=lambda: (2, 1)), "x", "relu")
    made = DeviceArray(np.zeros(3, np.float32), None)
    made._memory.device = 1
    with pytest.raises(DeviceError, match=message):
        as_device_array(made[1:], "x", "relu")


def test_an_address_that_no_gpu_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise DeviceError("cuPointerGetAttribute", "CUDA failed", got="CUDA_ERROR_INVALID_VALUE")

    pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    monkeypatch.setattr(device, "call", unknown)
    with pytest.raises(DeviceError, match=r"^relu: x says that it is on a GPU, and no GPU has its address"):
        device.holder(4096, "x", "relu")
    monkeypatch.setattr(device, "call", lambda *_: 3)
    assert device.holder(4096, "x", "relu") == 3


def test_masked_arrays_and_gradients_are_refused() -> None:
    masked = Foreign(shape=(3,), data=(4096, False), mask=foreign())
    with pytest.raises(DTypeError, match="x is a masked array"):
        as_device_array(masked, "x", "relu")
    with pytest.raises(DTypeError, match=r"x records gradients.*x\.detach\(\)"):
        as_device_array(SimpleNamespace(requires_grad=True), "x", "relu")
