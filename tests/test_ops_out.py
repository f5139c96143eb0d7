"""``out=`` of every operation: any package's arrays in main memory, no copy, and the object comes back."""

from __future__ import annotations

import array
import ctypes
import inspect
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convcore as cc
from convcore import ops
from convcore.errors import ArgumentError, DeviceError, DTypeError

from .test_replayed_calls import CALLS, arrays_of

Array = NDArray[np.float32]
X = np.linspace(-2, 2, 12, dtype=np.float32)
EXPECTED = np.maximum(X, 0)


class Producer:
    """An object that has DLPack and nothing else; `version` as its package knows it."""

    def __init__(self, x: Array, versioned: bool) -> None:
        self.x, self.versioned = x, versioned

    def __dlpack__(self, **options: Any) -> Any:
        if not self.versioned and "max_version" in options:
            raise TypeError("unexpected keyword argument 'max_version'")
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


@pytest.mark.parametrize("name", CALLS)
def test_every_operation_writes_tensors(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    function, options = getattr(cc, name), CALLS[name][1]
    arrays = arrays_of(name, 0)
    expected = function(**arrays, **options)
    tensors = {n: torch.from_numpy(a) for n, a in arrays.items()}
    y = torch.full(expected.shape, torch.nan)
    for _ in range(2):
        assert function(**tensors, **options, out=y) is y
        assert y.numpy().tobytes() == expected.tobytes()
    wide = torch.zeros(*expected.shape, 2)
    function(**tensors, **options, out=wide[..., 1])
    assert np.array_equal(wide[..., 1].numpy(), expected) and not wide[..., 0].any()


def test_every_operation_has_out_and_num_threads() -> None:
    for name in ops.__all__:
        parameters = inspect.signature(getattr(ops, name)).parameters
        for option in ("out", "num_threads"):
            assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY, name
            assert parameters[option].default is None


def test_buffers() -> None:
    typed, raw, c = array.array("f", bytes(48)), bytearray(48), (ctypes.c_float * 12)()
    for out in (typed, memoryview(typed), memoryview(raw).cast("f"), c):
        memoryview(out).cast("B")[:] = bytes(48)
        assert cc.relu(X, out=out) is out  # type: ignore[call-overload,unused-ignore]
        assert np.array_equal(np.frombuffer(out, np.float32), EXPECTED)
    with pytest.raises(DTypeError, match="relu: out, got uint8, expected float32"):
        cc.relu(X, out=raw)  # type: ignore[call-overload,unused-ignore]
    with pytest.raises(ArgumentError, match="relu: out is read-only"):
        cc.relu(X, out=memoryview(bytes(48)).cast("f"))  # type: ignore[call-overload,unused-ignore]


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack(versioned: bool) -> None:
    memory = np.zeros(12, np.float32)
    out = Producer(memory, versioned)
    if versioned:
        assert cc.relu(X, out=out) is out  # type: ignore[call-overload,unused-ignore]
        assert np.array_equal(memory, EXPECTED)
        memory.flags.writeable = False
    # A DLPack before version 1 cannot say that its memory may be written, and this object has nothing else.
    if versioned or not np.from_dlpack(out).flags.writeable:
        with pytest.raises(ArgumentError, match="relu: out is read-only"):
            cc.relu(X, out=out)  # type: ignore[call-overload,unused-ignore]


def test_array_api() -> None:
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    x, out = xp.asarray(X), xp.zeros(12, dtype=xp.float32)
    y = cc.relu(x)
    assert type(y) is np.ndarray and np.array_equal(y, EXPECTED)
    assert cc.relu(x, out=out) is out
    assert np.array_equal(np.from_dlpack(out), EXPECTED)
    back = xp.from_dlpack(y)  # and the result goes on to others as it is
    assert bool(xp.all(back == xp.asarray(EXPECTED)))
    w = xp.ones((3, 1, 1), dtype=xp.float32)
    k = cc.prepare_conv1d(w)
    assert np.array_equal(
        k(xp.reshape(x, (1, 12, 1))), cc.conv1d(X.reshape(1, 12, 1), np.ones((3, 1, 1), "f"))
    )


def test_nothing_is_copied() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.from_numpy(X.copy())
    for _ in range(2):
        assert cc.relu(x, out=x) is x  # in place: the kernel itself allows it
        assert np.array_equal(x.numpy(), EXPECTED)
    y = cc.tanh(x)
    shared = torch.from_dlpack(y)
    y[0] = 7
    assert shared[0] == 7


def test_what_may_not_be_written() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(DTypeError, match=r"relu: out records gradients.*out\.detach\(\)"):
        cc.relu(X, out=torch.zeros(12, requires_grad=True))
    y = torch.zeros(12, requires_grad=True)
    cc.relu(X, out=y.detach())
    assert np.array_equal(y.detach().numpy(), EXPECTED)
    with pytest.raises(DeviceError, match="relu: out lies on another device"):
        cc.relu(X, out=torch.empty(12, device="meta"))
    with pytest.raises(DTypeError, match="relu: out, got float64, expected float32"):
        cc.relu(X, out=torch.zeros(12, dtype=torch.float64))
    with pytest.raises(ArgumentError, match=r"relu: shape of out, got \(11,\)"):
        cc.relu(X, out=torch.zeros(11))
    with pytest.raises(ArgumentError, match="relu: out has elements that overlap"):
        cc.relu(X, out=torch.zeros(1).expand(12))
    for nothing in ([0.0] * 12, 3.0, "x"):
        with pytest.raises(DTypeError, match="relu: out is no array"):
            cc.relu(X, out=nothing)  # type: ignore[call-overload,unused-ignore]
    with pytest.raises(DTypeError, match="relu: out is a masked array"):
        cc.relu(X, out=np.ma.masked_array(np.zeros(12, np.float32)))


def test_subclasses_of_ndarray_come_back_as_they_are() -> None:
    class Named(np.ndarray):
        pass

    y = np.zeros(12, np.float32).view(Named)
    assert cc.relu(X, out=y) is y
    assert np.array_equal(y, EXPECTED)
