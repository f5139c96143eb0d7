"""Compare the two HDF5 readers that the loader could use: h5py and pyfive.

Measures what ``docs/hdf5-choice.md`` reports: the cost of importing each, the time and memory to read
every weight of real model files and of a generated 553 MB VGG16, and what damaged files do to each.
Every measurement runs in a process of its own, the readers taking turns.

    python benchmarks/hdf5_readers.py --models FOLDER --output benchmarks/results/hdf5_readers.json
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.metadata
import json
import os
import resource
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

READERS = ("h5py", "pyfive")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: VGG16's layers as (kernel shape, bias shape): 138,357,544 weights.
VGG16 = [
    *[
        ((3, 3, i, o), (o,))
        for i, o in [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    ],
    *[((3, 3, i, 512), (512,)) for i in (256, 512, 512, 512, 512, 512)],
    *[((i, o), (o,)) for i, o in [(25088, 4096), (4096, 4096), (4096, 1000)]],
]


def read_everything(reader: str, path: str) -> int:
    """Read every attribute and every dataset of a file; return the bytes of the datasets."""
    module = importlib.import_module(reader)
    total = 0

    def walk(group: Any, depth: int) -> None:
        nonlocal total
        dict(group.attrs)
        if depth > 16:
            raise ValueError("nested deeper than any model file")
        for key in group:
            child = group[key]
            if isinstance(child, module.Dataset):
                values = child[()]
                # pyfive maps the file where h5py reads it; a copy makes the two comparable.
                total += (np.array(values) if reader == "pyfive" else np.asarray(values)).nbytes
                dict(child.attrs)
            else:
                walk(child, depth + 1)

    with module.File(path, "r") as file:
        walk(file, 0)
    return total


def in_child(function: Callable[[], Any], seconds: float, memory_mib: int | None = None) -> dict[str, Any]:
    """Run `function` in a forked child; report its result, or how the child ended.

    The outcome is ``ok``, ``error`` (an exception), ``hang``, ``crash`` (a signal) or ``memory``.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        if memory_mib is not None:
            limit = memory_mib << 20
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        start = time.perf_counter()
        try:
            report = {"outcome": "ok", "value": function()}
        except MemoryError:
            report = {"outcome": "memory"}
        except BaseException as error:  # the kind of exception is what is being measured
            report = {"outcome": "error", "kind": type(error).__name__}
        report["seconds"] = time.perf_counter() - start
        os.write(write_end, json.dumps(report).encode())
        os._exit(0)
    os.close(write_end)
    ready, _, _ = select.select([read_end], [], [], seconds)
    text = os.read(read_end, 65536) if ready else b""
    os.close(read_end)
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if text:
        return dict(json.loads(text))
    return {"outcome": "crash" if ready else "hang"}


def fresh(code: str) -> dict[str, Any]:
    """Run `code`, which prints JSON, in a new interpreter."""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(output.stdout))


def peak_mib() -> float:
    """This process's largest resident size so far; unlike getrusage's, not inherited from a parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def import_cost(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and MiB that importing each reader adds to an interpreter that has NumPy."""
    code = (
        "import json, sys, time, numpy\n"
        "sys.path.insert(0, {folder!r}); from hdf5_readers import peak_mib\n"
        "m, t = peak_mib(), time.perf_counter()\n"
        "import {reader}\n"
        "print(json.dumps(dict(ms=(time.perf_counter() - t) * 1e3, mib=peak_mib() - m)))"
    )
    runs: dict[str, list[dict[str, Any]]] = {reader: [] for reader in READERS}
    for _ in range(rounds):
        for reader in READERS:
            runs[reader].append(fresh(code.format(folder=str(Path(__file__).parent), reader=reader)))
    return {
        reader: {key: round(statistics.median(run[key] for run in rows), 2) for key in ("ms", "mib")}
        for reader, rows in runs.items()
    }


def write_vgg16(path: Path) -> None:
    """Write seeded float32 weights of VGG16 in Keras 2's layout."""
    import h5py

    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        names = [f"layer_{i}" for i in range(len(VGG16))]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, shapes in zip(names, VGG16, strict=True):
            group = file.create_group(name)
            for part, shape in zip(("kernel", "bias"), shapes, strict=True):
                group.create_dataset(f"{name}/{part}:0", data=random.random(shape, np.float32))


def write_seed(path: Path) -> None:
    """Write the small file that the damaged ones are made from: every structure that Keras writes."""
    import h5py

    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": ["x" * 3000]})
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"dense_%d" % i for i in range(12)]
        for i in range(12):
            group = weights.create_group(f"dense_{i}")
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
            options: dict[str, Any] = {"chunks": (4, 4), "compression": "gzip"} if i % 3 == 0 else {}
            kernel = random.random((8, 8), np.float32)
            group.create_dataset("kernel:0", data=kernel, shuffle=i % 6 == 0 or None, **options)
            group.create_dataset("bias:0", data=np.zeros(8, np.float32))


def damaged_files(seed: bytes, mutants: int) -> list[tuple[str, bytes]]:
    """Cut the seed file at 64 places, and change 1 to 4 of its bytes `mutants` times."""
    cuts = [("truncated", seed[: len(seed) * i // 64]) for i in range(64)]
    random = np.random.default_rng(2)
    interesting = np.array([0, 1, 0x7F, 0x80, 0xFE, 0xFF], np.uint8)
    changed = []
    for _ in range(mutants):
        data = np.frombuffer(seed, np.uint8).copy()
        where = random.integers(len(SIGNATURE), len(data), random.integers(1, 5))
        data[where] = random.choice(interesting, len(where))
        changed.append(("mutant", data.tobytes()))
    return cuts + changed


def damage(folder: Path, mutants: int) -> dict[str, Any]:
    """How each reader ends on damaged files: 5 s and 1 GiB of data each."""
    write_seed(folder / "seed.h5")
    files = damaged_files((folder / "seed.h5").read_bytes(), mutants)
    for reader in READERS:
        importlib.import_module(reader)
    counts: dict[str, dict[str, Counter[str]]] = {r: {} for r in READERS}
    kinds: dict[str, Counter[str]] = {r: Counter() for r in READERS}
    for label, data in files:
        path = folder / "damaged.h5"
        path.write_bytes(data)
        for reader in READERS:
            task = functools.partial(read_everything, reader, str(path))
            result = in_child(task, 5.0, memory_mib=1024)
            counts[reader].setdefault(label, Counter())[result["outcome"]] += 1
            if "kind" in result:
                kinds[reader][result["kind"]] += 1
    return {r: {**{k: dict(c) for k, c in counts[r].items()}, "exceptions": dict(kinds[r])} for r in READERS}


def reading(paths: list[Path], rounds: int) -> dict[str, Any]:
    """Median seconds and peak MiB to read each file whole, per reader; the readers take turns."""
    result: dict[str, Any] = {}
    code = (
        "import json, sys, time, numpy\n"
        "sys.path.insert(0, {folder!r})\n"
        "import {reader}, hdf5_readers as h\n"
        "t = time.perf_counter(); n = h.read_everything({reader!r}, {path!r})\n"
        "print(json.dumps(dict(ms=(time.perf_counter() - t) * 1e3, bytes=n, "
        "peak_mib=h.peak_mib())))"
    )
    for path in paths:
        runs: dict[str, list[dict[str, Any]]] = {reader: [] for reader in READERS}
        for _ in range(rounds):
            for reader in READERS:
                text = code.format(folder=str(Path(__file__).parent), reader=reader, path=str(path))
                runs[reader].append(fresh(text))
        result[path.name] = {
            reader: {
                "ms": round(statistics.median(run["ms"] for run in rows), 2),
                "peak_mib": round(statistics.median(run["peak_mib"] for run in rows), 1),
                "weight_bytes": rows[0]["bytes"],
            }
            for reader, rows in runs.items()
        }
    return result


def checksums(reader: str, path: str) -> dict[str, int]:
    """CRC-32 of every dataset of a file, as `reader` reads it."""
    module = importlib.import_module(reader)
    found: dict[str, int] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, module.Dataset):
            found[name] = zlib.crc32(np.ascontiguousarray(item[()]).tobytes())

    with module.File(path, "r") as file:
        file.visititems(visit)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder searched for .h5, .hdf5 and .keras files")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mutants", type=int, default=2000)
    options = parser.parse_args()
    # Here and not above: the processes that are measured import this module, and it alone.
    from convcore.bench import machine

    found = [p for p in sorted(options.models.rglob("*"))] if options.models else []
    paths = [p for p in found if p.is_file() and p.open("rb").read(len(SIGNATURE)) == SIGNATURE]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_vgg16(folder / "vgg16.h5")
        result = {
            "machine": machine(*READERS),
            "import": import_cost(max(options.rounds, 5)),
            "files": reading([*paths, folder / "vgg16.h5"], options.rounds),
            "same_numbers": all(checksums("h5py", str(p)) == checksums("pyfive", str(p)) for p in paths),
            "damaged": damage(folder, options.mutants),
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
