"""Machine code for a GPU: kept in a folder, loaded and launched; needs cuda.core and a driver, not Numba.

A folder holds one file per kernel and ``manifest.json``. Where kernels cannot be compiled (no libnvvm, a
Numba that does not fit its NumPy), a folder that was made elsewhere, without a GPU, takes its place:

    python benchmarks/gpu.py --make-cubins FOLDER --arch sm_90        # anywhere
    CONVCORE_CUBINS=FOLDER convcore bench --device cuda               # on the machine with the GPU

Code runs on GPUs of its own major architecture, from its own minor on, and belongs to the sources that it was
made from: any other folder is refused.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convcore.errors import DeviceError
from convcore.writers import write_bytes, write_json

__all__ = [
    "VARIABLE",
    "Code",
    "Folder",
    "architecture",
    "core",
    "launch",
    "load",
    "named",
    "sources",
    "write",
]

#: The environment variable that names a folder.
VARIABLE = "CONVCORE_CUBINS"
_FORMAT = 1
_MANIFEST = "manifest.json"
#: The handle of the default stream that other streams wait for.
_LEGACY_DEFAULT_STREAM = 1
#: Arguments by their letter in :attr:`Code.signature`: pointer, integer, number.
_NUMBERS: dict[str, Callable[[Any], Any]] = {"p": np.uint64, "i": np.int32, "f": np.float32}


@dataclass(frozen=True)
class Code:
    """One kernel: its cubin, the name that it has in it, and how it is launched.

    Parameters
    ----------
    signature
        A letter for each argument: p is an address, i an int32, f a float32.
    threads, shared_bytes
        Threads and dynamic shared memory of a block.
    seconds
        What compiling took.
    """

    cubin: bytes
    entry: str
    signature: str
    threads: int
    shared_bytes: int
    seconds: float = 0.0


def architecture(capability: Sequence[int]) -> str:
    """Return a compute capability as NVIDIA's compilers call it.

    Examples
    --------
    >>> architecture((9, 0))
    'sm_90'
    """
    return f"sm_{capability[0]}{capability[1]}"


def _capability(name: str, where: str) -> tuple[int, int]:
    found = re.fullmatch(r"sm_(\d+)(\d)", name)
    if found is None:
        raise DeviceError(where, "architecture", got=name, expected="a name such as sm_90")
    return int(found[1]), int(found[2])


@functools.cache
def sources() -> str:
    """Return a hash of the sources that kernels and their launches are made from."""
    cuda = Path(__file__).parent / "cuda"
    digest = hashlib.sha256()
    for path in (cuda / "fast.py", cuda / "instructions.py", *sorted((cuda / "kernels").glob("*.py"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------ the folder


def write(
    folder: str | os.PathLike[str],
    capability: Sequence[int],
    codes: Mapping[str, Code],
    schedules: Mapping[str, Any] | None = None,
    made_with: Mapping[str, str] | None = None,
) -> Path:
    """Write kernels by name, and what else is to travel with them as plain data; the manifest comes last.

    Raises
    ------
    InputError
        A file cannot be written.
    """
    target, entries = Path(folder), {}
    for name, code in codes.items():
        file = f"{re.sub(r'[^A-Za-z0-9]+', '-', name)}.cubin"
        write_bytes(target / file, code.cubin)
        entries[name] = {
            "file": file,
            "sha256": hashlib.sha256(code.cubin).hexdigest(),
            "entry": code.entry,
            "signature": code.signature,
            "threads": code.threads,
            "shared_bytes": code.shared_bytes,
            "seconds": round(code.seconds, 3),
        }
    manifest = {
        "format": _FORMAT,
        "architecture": architecture(capability),
        "sources": sources(),
        "made_with": dict(made_with or {}),
        "kernels": entries,
        "schedules": dict(schedules or {}),
    }
    return write_json(target / _MANIFEST, manifest)


class Folder:
    """A folder of kernels.

    Raises
    ------
    DeviceError
        There is none, it is damaged, or it was made from other sources.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._where = str(self.path)
        try:
            manifest = json.loads((self.path / _MANIFEST).read_text())
            self._kernels: dict[str, Any] = dict(manifest["kernels"])
            self.schedules: dict[str, Any] = dict(manifest["schedules"])
            self.made_with: dict[str, str] = dict(manifest["made_with"])
            self.capability = _capability(manifest["architecture"], self._where)
            form, origin = manifest["format"], manifest["sources"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeviceError(
                self._where,
                f"no folder of kernels: {error}",
                remedy="benchmarks/gpu.py --make-cubins makes one.",
            ) from None
        if form != _FORMAT or origin != sources():
            raise DeviceError(
                self._where,
                "the kernels were made from another version's sources",
                remedy="Make the folder anew with benchmarks/gpu.py --make-cubins.",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the kernels."""
        return tuple(self._kernels)

    @property
    def seconds(self) -> dict[str, float]:
        """What compiling each kernel took."""
        return {name: entry["seconds"] for name, entry in self._kernels.items()}

    def require(self, capability: Sequence[int]) -> None:
        """Raise :class:`DeviceError` if a GPU of this compute capability cannot run the code."""
        major, minor = capability
        if major != self.capability[0] or minor < self.capability[1]:
            raise DeviceError(
                self._where,
                "the kernels are for another GPU",
                got=architecture(self.capability),
                expected=architecture(capability),
            )

    def code(self, name: str) -> Code | None:
        """Return the kernel called `name`, or None if the folder has none of that name."""
        entry = self._kernels.get(name)
        if entry is None:
            return None
        try:
            cubin = (self.path / entry["file"]).read_bytes()
        except OSError as error:
            raise DeviceError(self._where, f"{entry['file']} cannot be read: {error.strerror}") from None
        if hashlib.sha256(cubin).hexdigest() != entry["sha256"]:
            raise DeviceError(self._where, f"{entry['file']} is damaged")
        how = {key: entry[key] for key in ("entry", "signature", "threads", "shared_bytes", "seconds")}
        return Code(cubin, **how)


def named() -> Folder | None:
    """Return the folder that the environment names, or None if it names none."""
    path = os.environ.get(VARIABLE)
    return _opened(path) if path else None


@functools.cache
def _opened(path: str) -> Folder:
    return Folder(path)


# ------------------------------------------------------------------------------------- on the GPU


def core() -> Any:
    """Return the module ``cuda.core``, which was ``cuda.core.experimental`` before version 0.5.

    Raises
    ------
    ImportError
        Neither is installed.
    """
    import cuda.core

    if hasattr(cuda.core, "ObjectCode"):
        return cuda.core
    import cuda.core.experimental

    return cuda.core.experimental


def load(code: Code, name: str, device: int) -> Any:
    """Return a kernel on the current context of GPU number `device`, for :func:`launch`.

    Raises
    ------
    DeviceError
        The driver refuses the code, or the GPU has not that much shared memory.
    """
    from cuda.bindings import driver

    try:
        loaded = core().ObjectCode.from_cubin(code.cubin).get_kernel(code.entry)
        handle = getattr(loaded, "handle", None) or loaded._handle
    except Exception as error:
        raise DeviceError(name, f"the driver does not load the kernel: {error}") from error
    if code.shared_bytes:
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (status,) = driver.cuKernelSetAttribute(attribute, code.shared_bytes, handle, device)
        if int(status):
            raise DeviceError(
                name, f"the GPU does not give a block {code.shared_bytes:,} bytes of shared memory"
            )
    return loaded


def launch(loaded: Any, code: Code, stream: int, grid: Sequence[int], arguments: Sequence[float]) -> None:
    """Put a kernel on a stream, given by its handle, 0 for the default; addresses are integers."""
    package = core()
    numbers = [_NUMBERS[kind](value) for kind, value in zip(code.signature, arguments, strict=True)]
    config = package.LaunchConfig(grid=tuple(grid), block=code.threads, shmem_size=code.shared_bytes)
    package.launch(package.Stream.from_handle(stream or _LEGACY_DEFAULT_STREAM), config, loaded, *numbers)
