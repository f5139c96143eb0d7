"""Whether a GPU can be used, and why not, by what a stand-in for the driver says; needs no package for it."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from convcore import gpu
from convcore.cli import main
from convcore.gpu import Gpu, Machine, Unusable

H200 = Gpu("NVIDIA H200", (9, 0), 150 * 2**30)


class Fake(Machine):
    """Answers what it was made with; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            "start": None,
            "driver_cuda": (13, 0),
            "count": 1,
            "gpu": H200,
            "compiler_cuda": (13, 0),
            **answers,
        }

    def _answer(self, name: str) -> Any:
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self) -> None:
        self._answer("start")

    def driver_cuda(self) -> Any:
        return self._answer("driver_cuda")

    def count(self) -> Any:
        return self._answer("count")

    def gpu(self, number: int) -> Any:
        return self._answer("gpu")

    def compiler_cuda(self) -> Any:
        return self._answer("compiler_cuda")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, ""),
        ({"driver_cuda": (13, 2), "compiler_cuda": (13, 5)}, ""),  # one major version: compatible
        ({"start": Unusable("the NVIDIA driver cannot be loaded (no libcuda.so)")}, "cannot be loaded"),
        ({"start": ImportError("no module cuda")}, "cuda-bindings cannot be imported (no module cuda)"),
        ({"count": 0}, "the driver sees no GPU"),
        (
            {"gpu": Gpu("Tesla V100", (7, 0), 2**34)},
            "Tesla V100 has compute capability 7.0; the kernels need 8.0",
        ),
        ({"driver_cuda": (12, 4)}, "serves CUDA up to 12.4, and the compiler installed is of CUDA 13.0"),
        ({"compiler_cuda": RuntimeError("no\n  nvjitlink")}, "linker cannot be loaded (no nvjitlink)"),
        ({"count": KeyError("x")}, "the NVIDIA driver cannot be asked (KeyError: 'x')"),
    ],
)
def test_the_reason_is_a_sentence(
    answers: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = gpu.why_unusable(Fake(**answers))
    assert reason in said and bool(said) == bool(reason)
    monkeypatch.setattr(gpu, "_numba_cuda", lambda: "0.30.4")
    facts = gpu.describe(Fake(**answers))
    assert facts["unusable"] == (said or None)
    assert said in gpu.sentence(facts)


def test_what_concerns_no_gpu_alone_leaves_it_out() -> None:
    old = Fake(gpu=Gpu("Tesla V100", (7, 0), 2**34))
    assert gpu.why_unusable(old, None) == "" != gpu.why_unusable(old, 0)


def test_numba_can_be_told_to_leave_the_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_CUDA", "1")
    assert gpu.why_unusable(Fake()) == "NUMBA_DISABLE_CUDA is set in the environment"


class Status(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803
    CUDA_ERROR_UNKNOWN = 999


class Driver:
    """Stands in for cuda.bindings.driver."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
    )

    def __init__(self, status: Status | Exception = Status.CUDA_SUCCESS) -> None:
        self.status = status

    def cuInit(self, flags: int) -> Any:  # noqa: N802
        if isinstance(self.status, Exception):
            raise self.status
        return (self.status,)

    def cuDriverGetVersion(self) -> Any:  # noqa: N802
        return Status.CUDA_SUCCESS, 13020

    def cuDeviceGetCount(self) -> Any:  # noqa: N802
        return Status.CUDA_SUCCESS, 1

    def cuDeviceGet(self, number: int) -> Any:  # noqa: N802
        return Status.CUDA_SUCCESS, f"device {number}"

    def cuDeviceGetAttribute(self, attribute: str, device: str) -> Any:  # noqa: N802
        assert device == "device 0"
        return Status.CUDA_SUCCESS, {"major": 9, "minor": 0}[attribute]

    def cuDeviceGetName(self, length: int, device: str) -> Any:  # noqa: N802
        return Status.CUDA_SUCCESS, b"NVIDIA H200\0\0\0"

    def cuDeviceTotalMem(self, device: str) -> Any:  # noqa: N802
        return Status.CUDA_SUCCESS, 150 * 2**30


def machine(driver: Driver) -> Machine:
    made = Machine.__new__(Machine)
    made._driver = driver
    return made


def test_the_driver_is_asked_and_understood() -> None:
    asked = machine(Driver())
    asked.start()
    assert (asked.driver_cuda(), asked.count(), asked.gpu(0)) == ((13, 2), 1, H200)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.CUDA_ERROR_NO_DEVICE, "the driver sees no GPU"),
        (
            Status.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            "driver's library and its kernel module differ in version",
        ),
        (Status.CUDA_ERROR_UNKNOWN, "the NVIDIA driver fails with CUDA_ERROR_UNKNOWN"),
        (OSError("libcuda.so:\n not found"), "the NVIDIA driver cannot be loaded (libcuda.so: not found)"),
    ],
)
def test_what_the_driver_answers_is_said_in_words(status: Status | Exception, reason: str) -> None:
    assert reason in gpu.why_unusable(machine(Driver(status)))


def test_facts_of_a_gpu_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_numba_cuda", lambda: "0.30.4")
    monkeypatch.setattr(gpu, "_driver_version", lambda: "580.65.06")
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    assert gpu.sentence(gpu.describe(Fake())) == (
        "numba-cuda 0.30.4; NVIDIA H200, compute capability 9.0; 150.0 GiB; "
        "driver 580.65.06 for CUDA up to 13.0"
    )
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert "kernels run in Numba's simulator" in gpu.sentence(gpu.describe(Fake()))
    monkeypatch.setattr(gpu, "_numba_cuda", lambda: None)
    assert "numba-cuda is not installed" in gpu.sentence(gpu.describe(Fake()))


def test_info_names_the_gpu_or_why_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    (line,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("gpu ")]
    assert line.split("gpu", 1)[1].strip() == gpu.sentence(gpu.describe())
