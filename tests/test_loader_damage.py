"""Damaged, hostile and incomplete files: one clear error each, that names the file and the layer."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.errors import (
    ConvcoreError,
    ConvcoreWarning,
    ModelFormatError,
    UnsafeModelError,
    UnsupportedLayerError,
    WeightsError,
)
from convcore.loader import load_graph

from .loader_files import small_model

h5py = pytest.importorskip("h5py", reason="h5py, which writes the test's files, is not installed")


def test_the_small_model_itself_loads(tmp_path: Path) -> None:
    graph = load_graph(small_model(tmp_path / "m.h5"))
    assert graph.parameters == 57 + 12 + 98
    assert graph.node(graph.outputs[0]).shape == (2,)


@pytest.mark.parametrize("eighths", range(8))
def test_truncated_hdf5(tmp_path: Path, eighths: int) -> None:
    path = small_model(tmp_path / "m.h5")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * eighths // 8])
    with pytest.raises(ModelFormatError, match=r"m\.h5"):
        load_graph(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 99, b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"{", b"[1]", b"{}"],
)
def test_no_keras_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match=r"m\.keras"):
        load_graph(path)


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("nothing.h5", "pipe.h5", "."):
        with pytest.raises(ModelFormatError):
            load_graph(tmp_path / name)


Weights = list[tuple[str, list[tuple[str, Any]]]]


def _without(layer: str, index: int) -> Callable[[Weights], Weights]:
    return lambda weights: [
        (name, [a for i, a in enumerate(arrays) if (name, i) != (layer, index)]) for name, arrays in weights
    ]


def _with(layer: str, weight: str, array: Any) -> Callable[[Weights], Weights]:
    return lambda weights: [
        (name, [*arrays, (weight, array)] if name == layer else arrays) for name, arrays in weights
    ]


def _shaped(weights: Weights) -> Weights:
    return [(n, [(w, a.T if w == "dense/kernel:0" else a) for w, a in arrays]) for n, arrays in weights]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("dense", 1), r"'dense' \(Dense\): number of weights, got 1 .*expected 2"),
        (_without("norm", 2), r"'norm' \(BatchNormalization\): number of weights"),
        (lambda w: [x for x in w if x[0] != "conv"], r"missing: conv"),
        (_with("dense", "dense/more:0", np.zeros(2, np.float32)), r"'dense'.*got 3"),
        (_with("flat", "flat/kernel:0", np.zeros(2, np.float32)), r"surplus: flat"),
        (_shaped, r"'dense' \(Dense\): shape of weight 'kernel', got \(2, 48\), expected \(48, 2\)"),
        (
            lambda w: [(n, [(x, np.full(a.shape, b"x")) for x, a in arrays]) for n, arrays in w],
            r"not an array of numbers",
        ),
    ],
)
def test_wrong_weights(tmp_path: Path, change: Callable[[Weights], Weights], message: str) -> None:
    with pytest.raises(WeightsError, match=r"m\.h5.*" + message):
        load_graph(small_model(tmp_path / "m.h5", weights=change))


def _set(index: int, **settings: Any) -> Callable[[Any], Any]:
    def change(config: Any) -> Any:
        config = copy.deepcopy(config)
        item = config["config"]["layers"][index]
        item["class_name"] = settings.pop("class_name", item["class_name"])
        for key in ("module", "registered_name"):
            if key in settings:
                item[key] = settings.pop(key)
        item["config"].update(settings)
        return config

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_set(2, class_name="Attention"), UnsupportedLayerError, r"'flat' \(Attention\)"),
        (_set(2, class_name="Lambda", function="f"), UnsafeModelError, r"'flat' \(Lambda\)"),
        (_set(2, class_name="TFOpLambda", function="os.system"), UnsafeModelError, r"'flat' \(TFOpLambda\)"),
        (_set(2, module="os", class_name="system"), UnsupportedLayerError, r"'flat' \(system\): a custom"),
        (_set(2, registered_name="mine>Flatten"), UnsupportedLayerError, r"mine>Flatten"),
        (_set(0, filters=-3), ModelFormatError, r"'conv' \(Conv2D\): setting 'filters', got -3"),
        (_set(0, filters=10**400), ModelFormatError, r"'filters'"),
        (_set(0, filters=2**31), ModelFormatError, r"'filters'"),
        (_set(0, filters=True), ModelFormatError, r"'filters'"),
        (_set(0, kernel_size=[3, 3, 3]), ModelFormatError, r"'kernel_size'"),
        (_set(0, kernel_size=[9, 9]), (ModelFormatError, WeightsError), r"'conv'"),
        (_set(0, padding="mirror"), UnsupportedLayerError, r"'padding', got mirror"),
        (_set(0, groups=2), ModelFormatError, r"groups"),
        (_set(0, batch_input_shape=[None, 2**31, 6, 2]), ModelFormatError, r"impossible shape"),
        (_set(0, batch_input_shape=[None, 2**20, 2**20, 2]), ModelFormatError, r"impossible shape"),
        (_set(0, batch_input_shape=None), ModelFormatError, r"input shape is unknown"),
        (_set(0, activation="mine"), UnsupportedLayerError, r"'conv'.*activation, got mine"),
        (_set(1, epsilon="x"), ModelFormatError, r"'norm'.*'epsilon'"),
        (_set(1, axis=7), ModelFormatError, r"'norm'.*axis, got 7"),
        (_set(3, units=3), WeightsError, r"'dense'.*expected \(48, 3\)"),
        (_set(3, name="conv"), ModelFormatError, r"the same name, got conv"),
        (lambda c: {**c, "class_name": "Mine"}, UnsupportedLayerError, r"class of its own, got Mine"),
        (lambda c: {**c, "config": {"layers": []}}, ModelFormatError, r"without layers"),
        (lambda c: [c], ModelFormatError, r"expected a JSON object"),
    ],
)  # fmt: skip
def test_wrong_configuration(tmp_path: Path, change: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=r"m\.h5.*" + message):
        load_graph(small_model(tmp_path / "m.h5", config=change))


def test_cycle_and_dangling_reference(tmp_path: Path) -> None:
    from .loader_files import functional, node, write_model

    start = node("InputLayer", "a", [], batch_input_shape=[None, 2])
    for inputs in ([[["c", 0, 0]]], [[["nowhere", 0, 0]]], [[["a", 1, 0]]]):
        layers = [
            start,
            node("ReLU", "b", inputs),
            node("ReLU", "c", [[["b", 0, 0]]]),
        ]
        path = write_model(tmp_path / "m.h5", functional(layers, ["a"], ["c"]), [], keras_version="2.3.1")
        with pytest.raises(ModelFormatError, match=r"'b' \(ReLU\): its inputs come from no layer"):
            load_graph(path)


def _links(file: Any, name: str, folder: Path) -> None:
    group = file["model_weights/dense/dense"]
    data = group["kernel:0"][()]
    del group["kernel:0"]
    if name == "soft":
        group["moved"] = data
        group["kernel:0"] = h5py.SoftLink(group.name + "/moved")
    elif name == "soft-cycle":
        group["kernel:0"] = h5py.SoftLink(group.name + "/kernel:0")
    elif name == "external":
        group["kernel:0"] = h5py.ExternalLink(str(folder / "other.h5"), "/kernel")
    elif name == "storage":
        (folder / "raw.bin").write_bytes(data.tobytes())
        external = [(str(folder / "raw.bin"), 0, data.nbytes)]
        group.create_dataset("kernel:0", data.shape, data.dtype, external=external)
    elif name == "virtual":
        layout = h5py.VirtualLayout(data.shape, data.dtype)
        layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "kernel", data.shape)
        group.create_virtual_dataset("kernel:0", layout)
    elif name == "lzf":
        group.create_dataset("kernel:0", data=data, compression="lzf")
    elif name == "not-stored":
        group.create_dataset("kernel:0", data.shape, data.dtype)
    elif name == "chunks-not-stored":
        group.create_dataset("kernel:0", data.shape, data.dtype, chunks=(24, 2))
    elif name == "huge-chunks":
        group.create_dataset("kernel:0", data.shape, data.dtype, chunks=(1 << 20, 64), maxshape=(None, None))
    else:
        group.create_group("kernel:0")


@pytest.mark.parametrize(
    "name",
    [
        "soft", "soft-cycle", "external", "storage", "virtual", "lzf", "not-stored", "chunks-not-stored",
        "huge-chunks", "group",
    ],
)  # fmt: skip
def test_arrays_that_are_somewhere_else_or_nowhere(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.ones((48, 2), np.float32)
    path = small_model(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        _links(file, name, tmp_path)
    with pytest.raises((ModelFormatError, WeightsError), match=r"m\.h5.*"):
        load_graph(path)


def test_compression_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A chunk of 400 MB of zeros in 400 kB, behind the shape that the configuration asks for."""
    path = small_model(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/dense/dense"]
        del group["kernel:0"]
        group.create_dataset(
            "kernel:0", (100_000_000,), np.float32, chunks=(100_000_000,), compression="gzip"
        )
        group["kernel:0"][:1] = 0
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"'dense'.*shape"):
        load_graph(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_random_damage_gives_one_of_our_errors_or_a_graph(tmp_path: Path) -> None:
    """400 files with one to four wrong bytes: no other exception, no hang, no memory."""
    seed = small_model(tmp_path / "seed.h5").read_bytes()
    random = np.random.default_rng(0)
    bad = np.array([0, 1, 0x7F, 0x80, 0xFE, 0xFF], np.uint8)
    outcomes = {"loaded": 0, "refused": 0}
    tracemalloc.start()
    for _ in range(400):
        data = np.frombuffer(seed, np.uint8).copy()
        data[random.integers(8, len(data), random.integers(1, 5))] = random.choice(bad)
        (tmp_path / "m.h5").write_bytes(data.tobytes())
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvcoreWarning)
                load_graph(tmp_path / "m.h5")
            outcomes["loaded"] += 1
        except ConvcoreError as error:
            assert "m.h5" in str(error)
            outcomes["refused"] += 1
        assert time.perf_counter() - begin < 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcomes["refused"] > 20
    assert peak < 64 << 20


# Archives


def _archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "."), data)
    return path


_CONFIG = {
    "class_name": "Sequential",
    "config": {
        "name": "s",
        "layers": [
            {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 3]}},
            {"class_name": "Dense", "config": {"name": "d", "units": 2}},
        ],
    },
}


def _npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name.replace("__", "/"): array for name, array in arrays.items()})
    return stream.getvalue()


def test_npz_weights(tmp_path: Path) -> None:
    kernel, bias = np.arange(6.0).reshape(3, 2), np.ones(2)
    data = _npz(layers__dense__vars__0=kernel, layers__dense__vars__1=bias)
    path = _archive(tmp_path / "m.keras", config__json=json.dumps(_CONFIG).encode(), model__weights__npz=data)
    node = load_graph(path).node("d")
    np.testing.assert_array_equal(node.weights["kernel"], kernel)
    assert node.weights["kernel"].dtype == np.float32


def test_archive_without_configuration_or_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        load_graph(_archive(tmp_path / "a.keras", other=b""))
    with pytest.raises(WeightsError, match=r"has no weights.*weights="):
        load_graph(_archive(tmp_path / "b.keras", config__json=json.dumps(_CONFIG).encode()))


def test_archive_bombs_are_refused_by_their_declared_size(tmp_path: Path) -> None:
    bomb = _archive(tmp_path / "a.keras", config__json=b" " * (17 << 20))
    with pytest.raises(ModelFormatError, match="too large"):
        load_graph(bomb)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 30,)}
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("layers/dense/vars/0.npy", header.getvalue())
        file.writestr("layers/dense/vars/1.npy", header.getvalue())
    path = _archive(
        tmp_path / "b.keras", config__json=json.dumps(_CONFIG).encode(), model__weights__npz=stream.getvalue()
    )
    with pytest.raises(WeightsError, match=r"'d' \(Dense\): shape"):
        load_graph(path)


def test_truncated_archive(tmp_path: Path) -> None:
    data = _npz(layers__dense__vars__0=np.zeros((3, 2)), layers__dense__vars__1=np.ones(2))
    path = _archive(tmp_path / "m.keras", config__json=json.dumps(_CONFIG).encode(), model__weights__npz=data)
    whole = path.read_bytes()
    for part in range(1, 8):
        path.write_bytes(whole[: len(whole) * part // 8])
        with pytest.raises(ModelFormatError, match=r"m\.keras"):
            load_graph(path)


def test_pickle_in_weights_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(marker),)

    data = _npz(layers__dense__vars__0=np.array(Payload(), object))
    path = _archive(tmp_path / "m.keras", config__json=json.dumps(_CONFIG).encode(), model__weights__npz=data)
    with pytest.raises(UnsafeModelError, match="pickle"):
        load_graph(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nests too deeply"),
        ('{"a":' * 70 + "1" + "}" * 70, "nests too deeply"),
        ('{"class_name": "Sequential", "class_name": "Model"}', "twice"),
        ('{"a": ' + "9" * 5000 + "}", "configuration"),
        ("{'a': 1}", "no JSON"),
    ],
    ids=["brackets", "objects", "twice", "digits", "quotes"],
)
def test_hostile_json(tmp_path: Path, text: str, message: str) -> None:
    path = _archive(tmp_path / "m.keras", config__json=text.encode())
    with pytest.raises(ModelFormatError, match=message):
        load_graph(path)


def test_weights_only_without_configuration(tmp_path: Path) -> None:
    path = small_model(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    with pytest.raises(ModelFormatError, match=r"holds weights only.*m\.json.*architecture="):
        load_graph(path)


def test_infinite_weights_load_with_a_warning(tmp_path: Path) -> None:
    def change(weights: Weights) -> Weights:
        weights[-1][1][1][1][0] = np.inf
        return weights

    with pytest.warns(ConvcoreWarning, match="'dense'.*'bias'"):
        load_graph(small_model(tmp_path / "m.h5", weights=change))


def test_control_characters_in_names_are_escaped(tmp_path: Path) -> None:
    path = small_model(tmp_path / "m.h5", config=_set(2, class_name="A\x1b[31m\n", name="f\n"))
    with pytest.raises(UnsupportedLayerError) as caught:
        load_graph(path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_loading_imports_no_reader_before_a_file_is_opened() -> None:
    code = "import convcore.loader, sys; print([m for m in ('h5py', 'pyfive', 'keras') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
