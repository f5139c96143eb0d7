"""A schedule bound to memory on the GPU, and its kernels loaded from a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcore import machine_code
from convcore.bench.gpu.driver import Device, Memory
from convcore.bench.gpu.network import Layer
from convcore.bench.gpu.schedule import ITEM_BYTES, Schedule
from convcore.errors import DeviceError

__all__ = ["Bound", "Kernels", "packed_weights", "sets_beyond"]

_NAN = 0xFF
_MOST_SETS = 64
_STORED = {"float32": "float32", "bfloat16": "uint16", "int16": "int16"}


class Kernels:
    """The kernels of a folder on a GPU; `seconds` is what loading each has taken."""

    def __init__(self, folder: machine_code.Folder, device: Device) -> None:
        folder.require(device.capability)
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self._device = device
        self._loaded: dict[str, tuple[Any, machine_code.Code]] = {}

    def __getitem__(self, name: str) -> tuple[Any, machine_code.Code]:
        if name not in self._loaded:
            start = time.perf_counter()
            code = self.folder.code(name)
            if code is None:
                raise DeviceError(str(self.folder.path), f"has no kernel {name!r}")
            self._loaded[name] = machine_code.load(code, name, self._device.number), code
            self.seconds[name] = time.perf_counter() - start
        return self._loaded[name]


def sets_beyond(cache_bytes: int, set_bytes: int) -> int:
    """Return how many sets of arrays are used in turn, so that none is still in the cache at its next turn.

    Examples
    --------
    >>> sets_beyond(50 << 20, 10 << 20), sets_beyond(50 << 20, 1 << 30)
    (11, 1)
    """
    if set_bytes >= 2 * cache_bytes:
        return 1
    return min(_MOST_SETS, 2 * cache_bytes // max(set_bytes, 1) + 1)


def packed_weights(schedule: Schedule, layers: Sequence[Layer]) -> list[NDArray[np.float32]]:
    """Return the weights of every layer that has any, as the kernels of a schedule read them."""
    weighted = [layer.weights for layer in layers if layer.weights]
    return [
        packing.pack(np.asarray(w["kernel"]), np.asarray(w["bias"]))
        for packing, w in zip(schedule.packings, weighted, strict=True)
    ]


class Bound:
    """A schedule with `sets` copies of its input, weights and output, all of the same numbers.

    Parameters
    ----------
    weights
        Of :func:`packed_weights`.
    x
        The input (n, ...), float32 or as ``hu_rescale`` takes it.
    """

    def __init__(
        self,
        schedule: Schedule,
        weights: Sequence[NDArray[np.float32]],
        x: NDArray[Any],
        kernels: Kernels,
        device: Device,
        sets: int = 1,
    ) -> None:
        self.schedule = schedule
        self.sets = sets
        self._device = device
        self._kernels = [kernels[one.kernel] for one in schedule.launches]
        shared = {
            name: Memory(ITEM_BYTES[kind] * count)
            for name, (kind, count) in schedule.arrays.items()
            if name not in ("x", "y")
        }
        for name, values in schedule.constants.items():
            shared[name] = device.upload(np.array(values, np.float32))
        image, (kind, count) = schedule.input(x), schedule.arrays["y"]
        self._sets: list[dict[str, Memory]] = []
        self._addresses: list[dict[str, int]] = []
        for _ in range(sets):
            held = {**shared, "x": device.upload(image), "y": Memory(ITEM_BYTES[kind] * count)}
            held |= {p.name: device.upload(a) for p, a in zip(schedule.packings, weights, strict=True)}
            device.fill(held["y"], _NAN)
            addresses = {name: memory.pointer for name, memory in held.items()}
            addresses |= {f"bias of {p.name}": addresses[p.name] + p.bias for p in schedule.packings}
            self._sets.append(held)
            self._addresses.append(addresses)

    def run(self) -> None:
        """Put the launches of every set on the device's stream."""
        for addresses in self._addresses:
            for one, (loaded, code) in zip(self.schedule.launches, self._kernels, strict=True):
                arguments = [addresses[a] if isinstance(a, str) else a for a in one.arguments]
                machine_code.launch(loaded, code, self._device.stream, one.grid, arguments)

    def output(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """Return the output of the last set as float32."""
        stored = self._device.download(self._sets[-1]["y"], shape, _STORED[self.schedule.arrays["y"][0]])
        return self.schedule.output(stored)

    @property
    def input_memory(self) -> Memory:
        """The first set's input."""
        return self._sets[0]["x"]

    @property
    def output_memory(self) -> Memory:
        """The first set's output."""
        return self._sets[0]["y"]
