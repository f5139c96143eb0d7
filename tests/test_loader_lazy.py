"""Large weights stay in their file: read when packed or traced, never mapped, never held twice."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from convcore.engine import Model, load_model
from convcore.errors import ConvcoreWarning, ModelFormatError
from convcore.loader import Graph, hdf5, load_graph
from convcore.loader.lazy import FileArray, LazyArray
from convcore.plan import Device, build

from .small_models import LayerSpec, dense, flatten, write_sequential

RANDOM = np.random.default_rng(11)


def conv(ic: int, oc: int, k: int = 3) -> LayerSpec:
    kernel = RANDOM.standard_normal((k, k, ic, oc), np.float32) / np.float32(k * ic**0.5)
    config = {"filters": oc, "kernel_size": [k, k], "padding": "same", "activation": "relu"}
    return "Conv2D", config, {"kernel": kernel, "bias": RANDOM.standard_normal(oc, np.float32)}


def batch_norm(n: int) -> LayerSpec:
    draw = {name: RANDOM.uniform(0.5, 1.5, n).astype(np.float32) for name in ("gamma", "beta", "moving_mean")}
    weights = {**draw, "moving_variance": RANDOM.uniform(0.5, 2, n).astype(np.float32)}
    return "BatchNormalization", {"axis": [3], "epsilon": 1e-3}, weights


def write_large(path: Path) -> Path:
    """A Winograd convolution, one that batch normalisation folds into, a direct one and two dense layers."""
    linear = conv(176, 180)
    linear[1]["activation"] = "linear"
    wide = RANDOM.standard_normal((4 * 4 * 190, 100), np.float32) / 50
    layers = [
        conv(16, 176), linear, batch_norm(180), ("MaxPooling2D", {"pool_size": [4, 4]}, {}), conv(180, 190),
        flatten(), dense(wide, np.zeros(100), "tanh"), dense(np.ones((100, 3)), np.zeros(3), "linear"),
    ]  # fmt: skip
    return write_sequential(path, (16, 16, 16), layers)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("large") / "large.h5")


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((2, 16, 16, 16), np.float32)


def kernels(graph: Graph) -> dict[str, np.ndarray | LazyArray]:
    return {n.layer: n.weights["kernel"] for n in graph.nodes if "kernel" in n.weights}


def test_large_weights_are_lazy_and_the_same(path: Path) -> None:
    graph = load_graph(path)
    lazy = {name: k for name, k in kernels(graph).items() if isinstance(k, LazyArray)}
    assert set(lazy) == {"conv2d_1", "conv2d_4", "dense_6"}
    with h5py.File(path) as file:
        for name, kernel in lazy.items():
            stored = file[f"model_weights/{name}/{name}/kernel:0"][...]
            assert isinstance(kernel, FileArray)
            assert (kernel.shape, kernel.ndim, kernel.size) == (stored.shape, stored.ndim, stored.size)
            assert kernel.nbytes == stored.nbytes
            assert np.array_equal(np.asarray(kernel), stored)
            assert np.array_equal(kernel.astype(np.float64), stored.astype(np.float64))
            assert np.array_equal(np.ascontiguousarray(kernel, np.float32), stored)


@pytest.mark.parametrize("accuracy", ["direct", "standard"])
def test_packed_from_the_file_or_from_memory_the_bits_are_the_same(
    path: Path, x: np.ndarray, accuracy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = Model(load_graph(path), Device(accuracy=accuracy))
    monkeypatch.setattr(hdf5, "LAZY_BYTES", 1 << 40)
    graph = load_graph(path)
    assert not any(isinstance(k, LazyArray) for k in kernels(graph).values())
    eager = Model(graph, Device(accuracy=accuracy))
    for a, b in zip(lazy.plan.steps, eager.plan.steps, strict=True):
        assert (a.weights is None) == (b.weights is None)
        if a.weights is not None and b.weights is not None:
            assert a.weights.tobytes() == b.weights.tobytes()
    if accuracy == "standard":
        assert any("Winograd" in s.algorithm for s in lazy.plan.steps)
    assert np.array_equal(lazy(x), eager(x))
    assert lazy.verify(x[:1]).ok


def test_archives_are_lazy_too(path: Path, x: np.ndarray, tmp_path: Path) -> None:
    """A stored member of a zip file is a part of that file; a compressed one is not."""
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
    layers = [c["config"]["name"] for c in config["config"]["layers"]]
    weights = tmp_path / "model.weights.h5"
    counted: dict[str, int] = {}
    with h5py.File(path) as old, h5py.File(weights, "w") as new:
        for item in config["config"]["layers"][1:]:
            name, kind = item["config"]["name"], item["class_name"]
            key = {"Conv2D": "conv2d", "MaxPooling2D": "max_pooling2d"}.get(kind, kind.lower())
            key = "batch_normalization" if kind == "BatchNormalization" else key
            counted[key] = counted.get(key, -1) + 1
            number = f"_{counted[key]}" if counted[key] else ""
            group = new.create_group(f"layers/{key}{number}/vars")
            stored = old[f"model_weights/{name}"]
            for i, weight in enumerate(stored.attrs["weight_names"]):
                group[str(i)] = stored[weight][...]
    assert layers
    expected = load_model(path)(x)
    for method, is_lazy in ((zipfile.ZIP_STORED, True), (zipfile.ZIP_DEFLATED, False)):
        archive = tmp_path / f"{method}.keras"
        with zipfile.ZipFile(archive, "w", method) as file:
            file.writestr("config.json", json.dumps(config))
            file.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
            file.write(weights, "model.weights.h5")
        graph = load_graph(archive)
        assert any(isinstance(k, FileArray) for k in kernels(graph).values()) == is_lazy
        assert np.array_equal(load_model(archive)(x), expected)


def test_a_large_archive_s_checksum_is_looked_at_before_its_numbers(tmp_path: Path) -> None:
    """One wrong bit in a weight: a small member is refused at once, a large one when it is packed."""
    for rows, lazily in ((600, False), (4000, True)):
        weights, archive = tmp_path / "model.weights.h5", tmp_path / "m.keras"
        with h5py.File(weights, "w") as file:
            file["layers/dense/vars/0"] = np.ones((rows, 600), np.float32)
            file["layers/dense/vars/1"] = np.zeros(600, np.float32)
        inputs = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, rows]}}
        layer = {"class_name": "Dense", "config": {"name": "d", "units": 600, "activation": "linear"}}
        config = {"class_name": "Sequential", "config": {"name": "m", "layers": [inputs, layer]}}
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
            zipped.writestr("config.json", json.dumps(config))
            zipped.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
            zipped.write(weights, "model.weights.h5")
        assert load_model(archive)(np.ones((1, rows), np.float32))[0, 0] == rows
        data = bytearray(archive.read_bytes())
        data[data.index(np.ones(64, np.float32).tobytes()) + 40] ^= 1
        archive.write_bytes(data)
        if lazily:
            load_graph(archive)
        with pytest.raises(ModelFormatError, match="wrong checksum"):
            (load_model if lazily else load_graph)(archive)


def test_what_needs_decoding_is_read_at_once(tmp_path: Path) -> None:
    path = write_sequential(tmp_path / "m.h5", (600,), [dense(np.ones((600, 600)), np.zeros(600), "linear")])
    for options in ({"chunks": (100, 100)}, {"dtype": np.float16}, {"dtype": ">f4"}):
        with h5py.File(path, "r+") as file:
            del file["model_weights/dense_0/dense_0/kernel:0"]
            file["model_weights/dense_0"].create_dataset(
                "dense_0/kernel:0", data=np.eye(600, dtype=np.float32), **options
            )
        (kernel,) = kernels(load_graph(path)).values()
        assert isinstance(kernel, np.ndarray)
        assert np.array_equal(kernel, np.eye(600))


def test_the_file_may_be_renamed_or_deleted(tmp_path: Path, x: np.ndarray) -> None:
    path = write_large(tmp_path / "m.h5")
    graph = load_graph(path)
    path.unlink()
    assert len(Model(graph, Device()).trace(x)) == 9


@pytest.mark.parametrize("change", ["cut", "rewrite", "append"])
def test_a_file_that_was_changed_is_an_error_and_not_a_crash(
    tmp_path: Path, x: np.ndarray, change: str
) -> None:
    path = write_large(tmp_path / "m.h5")
    graph, model = load_graph(path), load_model(path)
    expected = model(x)
    if change == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif change == "append":
        with path.open("ab") as file:
            file.write(b" ")
    else:
        before = path.stat()
        write_large(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert np.array_equal(model(x), expected), "what is packed does not depend on the file"
    with pytest.raises(ModelFormatError, match=r"changed since the model was loaded.*Load it again"):
        Model(graph, Device())
    with pytest.raises(ModelFormatError, match="changed"):
        model.trace(x)


def test_a_file_cut_short_while_it_is_packed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_large(tmp_path / "m.h5")
    graph = load_graph(path)
    os.truncate(path, path.stat().st_size // 2)
    # As if it had happened a moment later.
    monkeypatch.setattr("convcore.loader.lazy.WeightsFile.descriptor", lambda self: self._descriptor)
    with pytest.raises(ModelFormatError, match="damaged or truncated"):
        build(graph)
    (kernel,) = (k for name, k in kernels(graph).items() if name == "dense_6")
    with pytest.raises(ModelFormatError, match="ends too early"):
        np.asarray(kernel)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_4", "dense_6"])
def test_infinite_weights_warn_when_they_are_packed(tmp_path: Path, layer: str, value: float) -> None:
    path = write_large(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        kernel = file[f"model_weights/{layer}/{layer}/kernel:0"]
        kernel[(-1,) * kernel.ndim] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = load_graph(path)
    with pytest.warns(ConvcoreWarning, match=rf"{layer}.*NaN or infinity"):
        Model(graph, Device())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_the_file_is_closed_with_the_graph(tmp_path: Path) -> None:
    path = write_large(tmp_path / "m.h5")

    def held() -> int:
        return sum(link.resolve() == path for link in Path("/proc/self/fd").iterdir() if link.exists())

    graph = load_graph(path)
    assert held() == 1
    del graph
    gc.collect()
    assert held() == 0


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_the_weights_are_not_in_memory_twice(tmp_path: Path) -> None:
    """Peak memory of a new process: the packed weights and little beside them."""
    rows, columns = 25_000, 800
    size = rows * columns * 4
    kernel = np.zeros((rows, columns), np.float32)
    path = write_sequential(tmp_path / "m.h5", (rows,), [dense(kernel, np.zeros(columns), "linear")])
    code = (
        "import re, convcore\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "convcore.load_model(PATH.replace('m.h5', 'small.h5'))\n"
        "before = peak(); model = convcore.load_model(PATH); print(peak() - before)\n"
    )
    write_sequential(tmp_path / "small.h5", (3,), [dense(np.ones((3, 3)), np.zeros(3), "linear")])
    done = subprocess.run(
        [sys.executable, "-c", f"PATH = {str(path)!r}\n{code}"], capture_output=True, text=True, check=True
    )
    assert size <= int(done.stdout) < 1.3 * size
