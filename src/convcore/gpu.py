"""What GPU there is, and whether the kernels can use it: asked of NVIDIA's driver alone, without Numba.

Quick, and never an error: what is missing is said in a sentence.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["OLDEST", "Gpu", "Machine", "Unusable", "describe", "sentence", "too_old", "why_unusable"]

#: Ampere: the first with ``cp.async`` and tensor cores for TF32 and bfloat16.
OLDEST = (8, 0)

#: What a status of the driver means, where the caller can do something about it.
_MEANINGS = {
    "CUDA_ERROR_NO_DEVICE": "the driver sees no GPU",
    "CUDA_ERROR_INSUFFICIENT_DRIVER": "the driver is older than the version of CUDA installed beside it",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver's library and its kernel module differ in version",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "the driver's compatibility package does not serve this GPU",
}


class Unusable(Exception):  # noqa: N818 - why, in a few words
    """A question that the driver does not answer."""


class Gpu(NamedTuple):
    """One GPU, as the driver describes it."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int


class Machine:
    """What can be asked of the driver; raises :class:`Unusable` where it does not answer.

    `driver` is the module ``cuda.bindings.driver``, which is imported if it is not given.
    """

    def __init__(self, driver: Any = None) -> None:
        if driver is None:
            from cuda.bindings import driver as real

            driver = real
        self._driver = driver

    def _call(self, name: str, *args: Any) -> Any:
        status, *found = getattr(self._driver, name)(*args)
        if int(status):
            raise Unusable(_MEANINGS.get(status.name, f"the NVIDIA driver fails with {status.name}"))
        return found[0] if found else None

    def start(self) -> None:
        """Load and initialise the driver."""
        try:
            self._call("cuInit", 0)
        except Unusable:
            raise
        except Exception as error:  # the library itself is not there, or cannot be loaded
            raise Unusable(f"the NVIDIA driver cannot be loaded ({_line(error)})") from error

    def driver_cuda(self) -> tuple[int, int]:
        """The newest version of CUDA that the driver serves."""
        version = int(self._call("cuDriverGetVersion"))
        return version // 1000, version % 1000 // 10

    def count(self) -> int:
        """How many GPUs the driver sees."""
        return int(self._call("cuDeviceGetCount"))

    def gpu(self, number: int) -> Gpu:
        """GPU `number`, from 0."""
        device = self._call("cuDeviceGet", number)
        attributes = self._driver.CUdevice_attribute
        major, minor = (
            int(self._call("cuDeviceGetAttribute", getattr(attributes, name), device))
            for name in (
                "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR",
                "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR",
            )
        )
        name = self._call("cuDeviceGetName", 256, device).split(b"\0")[0].decode(errors="replace")
        return Gpu(name, (major, minor), int(self._call("cuDeviceTotalMem", device)))

    def compiler_cuda(self) -> tuple[int, int]:
        """The version of CUDA whose linker makes the machine code."""
        from cuda.bindings import nvjitlink

        major, minor = nvjitlink.version()
        return int(major), int(minor)


def why_unusable(machine: Machine | None = None, number: int | None = 0) -> str:
    """Return why the kernels cannot run on GPU `number`; empty if they can.

    Parameters
    ----------
    machine
        Whose GPU; this one by default.
    number
        The GPU's, from 0; None for what concerns none of them alone.
    """
    if os.environ.get("NUMBA_DISABLE_CUDA", "0") not in ("", "0"):
        return "NUMBA_DISABLE_CUDA is set in the environment"
    try:
        machine = machine or Machine()
        machine.start()
        if not machine.count():
            return "the driver sees no GPU"
        gpu = None if number is None else machine.gpu(number)
        serves = machine.driver_cuda()
    except ImportError as error:
        return f"cuda-bindings cannot be imported ({error})"
    except Unusable as error:
        return str(error)
    except Exception as error:
        return f"the NVIDIA driver cannot be asked ({type(error).__name__}: {_line(error)})"
    if gpu is not None and gpu.capability < OLDEST:
        return too_old(gpu.name, gpu.capability)
    try:
        makes = machine.compiler_cuda()
    except Exception as error:
        return f"NVIDIA's linker cannot be loaded ({_line(error)})"
    # Within one major version every driver runs what every compiler makes.
    if serves[0] < makes[0]:
        return (
            f"the driver serves CUDA up to {_dotted(serves)}, and the compiler installed is of CUDA "
            f"{_dotted(makes)}: it needs a newer driver"
        )
    return ""


def too_old(name: str, capability: tuple[int, ...]) -> str:
    """Return the sentence about a GPU that is older than the kernels need.

    Examples
    --------
    >>> too_old("Tesla V100", (7, 0))
    'Tesla V100 has compute capability 7.0; the kernels need 8.0 (Ampere) or later'
    """
    has, need = _dotted(capability), _dotted(OLDEST)
    return f"{name} has compute capability {has}; the kernels need {need} (Ampere) or later"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def describe(machine: Machine | None = None) -> dict[str, Any]:
    """Return what there is of a GPU and its packages, as plain data; what is unknown is None.

    Examples
    --------
    >>> sorted(describe())
    ['capability', 'driver', 'driver_cuda', 'memory_bytes', 'name', 'numba_cuda', 'simulator', 'unusable']
    """
    facts: dict[str, Any] = dict.fromkeys(("name", "capability", "memory_bytes", "driver", "driver_cuda"))
    facts |= {"numba_cuda": _numba_cuda(), "driver": _driver_version()}
    facts["simulator"] = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    if facts["numba_cuda"] is None:
        return facts | {"unusable": 'numba-cuda is not installed: pip install "convcore[cuda]"'}
    facts["unusable"] = why_unusable(machine) or None
    try:
        machine = machine or Machine()
        machine.start()
        facts["driver_cuda"] = _dotted(machine.driver_cuda())
        gpu = machine.gpu(0)
    except Exception:
        return facts  # `unusable` has the reason
    facts |= {"name": gpu.name, "capability": _dotted(gpu.capability), "memory_bytes": gpu.memory_bytes}
    return facts


def sentence(facts: dict[str, Any]) -> str:
    """Return what :func:`describe` has found in one line."""
    parts = [f"numba-cuda {facts['numba_cuda']}"] if facts["numba_cuda"] else []
    if facts["simulator"]:
        parts.append("kernels run in Numba's simulator")
    if facts["name"]:
        parts.append(f"{facts['name']}, compute capability {facts['capability']}")
        parts.append(f"{facts['memory_bytes'] / 2**30:.1f} GiB")
    if facts["driver"] or facts["driver_cuda"]:
        parts.append(
            f"driver {facts['driver'] or 'of unknown version'} for CUDA up to {facts['driver_cuda']}"
        )
    if facts["unusable"]:
        parts.append(f"no GPU can be used: {facts['unusable']}")
    return "; ".join(parts)


def _numba_cuda() -> str | None:
    try:
        return metadata.version("numba-cuda")
    except metadata.PackageNotFoundError:
        return None


def _driver_version() -> str | None:
    """The version of the kernel module, such as 580.65.06, where the system tells it."""
    try:
        first = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    numbers = [word for word in first.split() if word.count(".") >= 1 and word[0].isdigit()]
    return numbers[0] if numbers else None
