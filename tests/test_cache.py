"""Packed weights on disk: used when they are exactly what is wanted, made anew with a warning when not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convcore.cli import main
from convcore.engine import Model, load_model
from convcore.errors import ConvcoreWarning
from convcore.plan.cache import _DIGEST_BYTES, _PREFIX

from .small_models import dense, write_sequential
from .test_loader_lazy import write_large

HEAD = _PREFIX.size + _DIGEST_BYTES


@pytest.fixture(autouse=True)
def _no_cache_of_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONVCORE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_large(tmp_path / "large.h5")


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((2, 16, 16, 16), np.float32)


def quietly(path: Path, **options: object) -> Model:
    """Load with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_model(path, **options)  # type: ignore[arg-type]


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def is_mapped(model: Model) -> bool:
    """Weights from a cache are read-only."""
    packed = [s.weights for s in model.plan.steps if s.weights is not None]
    assert len({a.flags.writeable for a in packed}) == 1
    return not packed[0].flags.writeable


def refuse(*_: object) -> None:
    raise AssertionError("the model's weights were read")


def test_the_second_start_reads_no_weights_and_gives_the_same_bits(
    path: Path, x: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deep" / "cache"
    plain, first = quietly(path), quietly(path, cache=folder)
    assert not is_mapped(plain) and not is_mapped(first)
    assert (plain.plan.weights_from, plain.plan.weights_kept) == (None, None)
    assert f"; kept in {only_file(folder)}\n" in str(first.plan)
    with monkeypatch.context() as patch:
        patch.setattr("convcore.loader.lazy.WeightsFile.descriptor", refuse)
        second = quietly(path, cache=str(folder), verify_cache=True)
    assert is_mapped(second)
    assert f"packed, mapped from {only_file(folder)}\n" in str(second.plan)
    for model in (first, second):
        assert np.array_equal(model(x), plain(x))
    # What needs the model's own weights has them.
    assert second.verify(x[:1]).ok
    assert np.array_equal(second.trace(x)["dense_6"], plain.trace(x)["dense_6"])


def test_where_the_folder_is(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, named = tmp_path / "home" / "convcore", tmp_path / "named"
    quietly(path)
    assert not home.exists()
    quietly(path, cache=True)
    assert only_file(home).name.startswith("large-")
    monkeypatch.setenv("CONVCORE_CACHE", str(named))
    quietly(path, cache=False)
    assert not named.exists()
    quietly(path)
    assert is_mapped(quietly(path, cache=True))
    assert only_file(named).name == only_file(home).name


def test_every_configuration_has_a_file_of_its_own(path: Path, x: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    for accuracy in ("direct", "standard"):
        quietly(path, cache=folder, accuracy=accuracy)
    copy = Path(shutil.copy(path, tmp_path / "copy.h5"))
    quietly(copy, cache=folder)
    assert len(list(folder.iterdir())) == 3
    for accuracy in ("direct", "standard"):
        model = quietly(path, cache=folder, accuracy=accuracy)
        assert is_mapped(model)
        assert np.array_equal(model(x), quietly(path, accuracy=accuracy)(x))


def _flip(at: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


def _with_header(change: Callable[[dict], None]) -> Callable[[bytearray], None]:
    """A header that somebody has changed, with the right checksum."""

    def damage(data: bytearray) -> None:
        magic, version, size, total = _PREFIX.unpack_from(data)
        header = json.loads(data[HEAD : HEAD + size])
        change(header)
        text = json.dumps(header).encode()
        prefix = _PREFIX.pack(magic, version, len(text), total)
        data[: HEAD + len(text)] = prefix + hashlib.sha256(prefix + text).digest() + text

    return damage


DAMAGE: dict[str, Callable[[bytearray], object]] = {
    "empty": lambda d: d.clear(),
    "cut in the prefix": lambda d: d.__delitem__(slice(10, None)),
    "cut in the header": lambda d: d.__delitem__(slice(HEAD + 5, None)),
    "cut in the numbers": lambda d: d.__delitem__(slice(-1, None)),
    "longer": lambda d: d.append(0),
    "foreign": lambda d: d.__setitem__(slice(0, 8), b"\x89HDF\r\n\x1a\n"),
    "other format": _flip(8),
    "size of header": _flip(16),
    "huge header": _flip(22),
    "size of file": _flip(24),
    "digest": _flip(_PREFIX.size),
    "header": _flip(HEAD + 3),
    "no offsets": _with_header(lambda h: h.pop("offsets")),
    "offset outside": _with_header(lambda h: h["offsets"].__setitem__(0, 1 << 40)),
    "offset below": _with_header(lambda h: h["offsets"].__setitem__(0, -64)),
    "offset unaligned": _with_header(lambda h: h["offsets"].__setitem__(0, (2 << 20) + 4)),
    "offset no number": _with_header(lambda h: h["offsets"].__setitem__(0, "a")),
    "too few offsets": _with_header(lambda h: h["offsets"].pop()),
    "other version": _with_header(lambda h: h.update(convcore="0.0.0")),
    "other packing": _with_header(lambda h: h.update(packing=0)),
    "other algorithm": _with_header(lambda h: h["wanted"][0].__setitem__(1, "Winograd 6x6")),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_or_foreign_file_is_replaced_with_a_warning(
    path: Path, x: np.ndarray, tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "cache"
    expected = quietly(path, cache=folder)(x)
    file = only_file(folder)
    whole = file.read_bytes()
    data = bytearray(whole)
    DAMAGE[what](data)
    file.write_bytes(data)
    with pytest.warns(ConvcoreWarning, match=r"packed weights not used.*packed again"):
        model = load_model(path, cache=folder)
    assert np.array_equal(model(x), expected)
    assert only_file(folder).read_bytes() == whole
    assert is_mapped(quietly(path, cache=folder, verify_cache=True))


def test_damaged_numbers_are_found_when_they_are_looked_at(path: Path, x: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    expected = quietly(path, cache=folder)(x)
    file = only_file(folder)
    data = bytearray(file.read_bytes())
    data[-100] ^= 64
    file.write_bytes(data)
    assert is_mapped(quietly(path, cache=folder)), "the header alone is checked by default"
    with pytest.warns(ConvcoreWarning, match="checksum of its numbers"):
        model = load_model(path, cache=folder, verify_cache=True)
    assert np.array_equal(model(x), expected)
    quietly(path, cache=folder, verify_cache=True)


def test_a_model_that_has_changed_is_packed_again(path: Path, x: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    quietly(path, cache=folder)
    write_large(path)  # other numbers, the same size
    with pytest.warns(ConvcoreWarning, match="the model has changed"):
        model = load_model(path, cache=folder)
    assert np.array_equal(model(x), quietly(path)(x))
    assert len(list(folder.iterdir())) == 1
    assert is_mapped(quietly(path, cache=folder))
    os.utime(path, ns=(1, 1))
    with pytest.warns(ConvcoreWarning, match="the model has changed"):
        load_model(path, cache=folder)


def test_where_nothing_can_be_written_the_model_works(path: Path, x: np.ndarray, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.warns(ConvcoreWarning, match="packed weights not"):
        model = load_model(path, cache=blocked)
    assert np.array_equal(model(x), quietly(path)(x))


def test_a_full_disk_leaves_nothing_behind(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "cache"
    monkeypatch.setattr("convcore.writers.os.fsync", full)
    with pytest.warns(ConvcoreWarning, match="not kept: cannot be written: No space left"):
        load_model(path, cache=folder)
    assert not list(folder.iterdir())


def test_writers_at_the_same_time(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    code = (
        "import sys, warnings, numpy as np, convcore\n"
        "warnings.simplefilter('error')\n"
        f"model = convcore.load_model({str(path)!r}, cache={str(folder)!r}, verify_cache=True)\n"
        "x = np.random.default_rng(3).standard_normal((2, 16, 16, 16), np.float32)\n"
        "print(model(x).tobytes().hex())\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    answers = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 6, answers
    assert len({out for out, _ in answers}) == 1
    only_file(folder)


def test_a_model_in_use_keeps_its_file(path: Path, x: np.ndarray, tmp_path: Path) -> None:
    """A file that is replaced, or deleted, stays as it was for whoever has it."""
    folder = tmp_path / "cache"
    quietly(path, cache=folder)
    model = quietly(path, cache=folder)
    expected = model(x)
    write_large(path)
    with pytest.warns(ConvcoreWarning):
        load_model(path, cache=folder)
    only_file(folder).unlink()
    assert np.array_equal(model(x), expected)


def test_a_warning_about_the_weights_is_kept(tmp_path: Path) -> None:
    kernel = np.zeros((600, 600), np.float32)
    kernel[5, 5] = np.inf
    path = write_sequential(tmp_path / "m.h5", (600,), [dense(kernel, np.zeros(600), "linear")])
    for _ in range(2):
        with pytest.warns(ConvcoreWarning, match="dense_0.*NaN or infinity"):
            model = load_model(path, cache=tmp_path / "cache")
    assert is_mapped(model)


def test_a_model_without_weights(tmp_path: Path) -> None:
    path = write_sequential(tmp_path / "m.h5", (3,), [("Activation", {"activation": "relu"}, {})])
    for _ in range(2):
        model = quietly(path, cache=tmp_path / "cache")
    assert model(np.array([[-1.0, 0.0, 2.0]], np.float32)).tolist() == [[0.0, 0.0, 2.0]]


def test_the_command_line(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = tmp_path / "cache", tmp_path / "x.npy"
    np.save(data, np.zeros((1, 16, 16, 16), np.float32))
    for _ in range(2):
        words = ["predict", str(path), str(data), "--json", "--cache", str(folder), "--verify-cache"]
        assert main(words) == 0
        assert not capsys.readouterr().err
    only_file(folder).write_bytes(b"")
    assert main(["predict", str(path), str(data), "--json", "--cache", str(folder)]) == 0
    assert "packed again" in capsys.readouterr().err
