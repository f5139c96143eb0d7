"""What the VGG16 recipe does before and around the network: folders, labels, options.

The network itself, half a gigabyte of weights, is never built here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from .recipes import recipe

# Not importorskip: importing Keras takes seconds, and collecting should not.
for library in ("keras", "PIL"):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} (the test extra) is not installed", allow_module_level=True)

COLOURS = {"cats": (200, 20, 0), "dogs": (0, 20, 200)}
CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red


@pytest.fixture(scope="module")
def finetune() -> Iterator[ModuleType]:
    with recipe("finetune_vgg16") as module:
        yield module


def photographs(folder: Path, counts: dict[str, int]) -> Path:
    """Write `counts[name]` pictures of one colour into ``folder/name``, and a file that is none."""
    from PIL import Image

    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "notes.txt").write_text("not a picture")
        for number in range(count):
            suffix = ("png", "PNG")[number % 2]
            Image.new("RGB", (12, 7), COLOURS[name]).save(folder / name / f"{number}.{suffix}")
    return folder


def test_classes_are_numbered_in_sorted_order(finetune: ModuleType, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "train", {"dogs": 2, "cats": 3})
    (folder / "list.txt").write_text("a file beside the classes")
    data = finetune.Photographs(folder, batch_size=4, size=8)
    assert data.classes == ["cats", "dogs"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert [f.parent.name for f in data.files] == ["cats"] * 3 + ["dogs"] * 2
    assert len(data) == 2
    assert len(finetune.Photographs(folder, batch_size=4, size=8, limit=1).files) == 2


def test_batches_are_ready_for_vgg16(finetune: ModuleType, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "train", {"cats": 3, "dogs": 2})
    data = finetune.Photographs(folder, batch_size=4, size=8)
    (first, targets), (last, last_targets) = data[0], data[1]
    assert first.shape == (4, 8, 8, 3) and last.shape == (1, 8, 8, 3)
    assert targets.tolist() == [[1, 0]] * 3 + [[0, 1]] and last_targets.tolist() == [[0, 1]]
    for picture, name in ((first[0], "cats"), (last[0], "dogs")):
        expected = np.float32(COLOURS[name])[::-1] - CAFFE_MEAN
        # One subtraction of numbers below 256, and the mean itself as a float32.
        assert np.abs(picture - expected).max() <= 2 * 256 * np.finfo(np.float32).eps


def test_shuffling_keeps_pictures_and_labels_together(finetune: ModuleType, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "train", {"cats": 6, "dogs": 6})
    data = finetune.Photographs(folder, batch_size=12, size=4, seed=3)
    before = data.order.tolist()
    data.on_epoch_end()
    assert sorted(before) == list(range(12)) and data.order.tolist() != before
    again = finetune.Photographs(folder, batch_size=12, size=4, seed=3)
    assert again.order.tolist() == before
    pictures, targets = data[0]
    blue_is_high = pictures[:, 0, 0, 0] > 0
    assert blue_is_high.tolist() == targets[:, 1].astype(bool).tolist()


def test_confusion_counts_true_classes_by_row(finetune: ModuleType, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "valid", {"cats": 3, "dogs": 2})
    data = finetune.Photographs(folder, batch_size=2, size=4)

    class Model:
        """Answers "dogs" for the first picture, and right for all others."""

        def predict(self, given: object, verbose: int) -> np.ndarray:
            assert given is data
            return np.float32([[0, 1], [1, 0], [1, 0], [0, 1], [0, 1]])

    assert finetune.confusion(Model(), data).tolist() == [[2, 1], [0, 2]]


@pytest.mark.parametrize(
    ("train", "valid", "words"),
    [
        ({"cats": 1, "dogs": 1}, {"cats": 1}, "expected the same two or more in both"),
        ({"cats": 1}, {"cats": 1}, "expected the same two or more in both"),
        ({"cats": 1, "dogs": 0}, {"cats": 1, "dogs": 1}, "dogs: got no picture"),
        ({"cats": 1, "dogs": 1}, {}, "valid: got no such folder"),
    ],
    ids=["other classes", "one class", "no picture", "no folder"],
)
def test_folders_that_do_not_fit_are_refused_before_the_network(
    finetune: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    train: dict[str, int],
    valid: dict[str, int],
    words: str,
) -> None:
    def build(*arguments: object) -> None:
        pytest.fail("the network was built")

    monkeypatch.setattr(finetune, "build", build)
    photographs(tmp_path / "train", train)
    photographs(tmp_path / "valid", valid)
    assert finetune.main([str(tmp_path), "--random", "-o", str(tmp_path / "net.keras")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "net.keras").exists()


def test_a_damaged_picture_is_named(finetune: ModuleType, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "train", {"cats": 1, "dogs": 1})
    (folder / "cats" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"0\.png: Pillow cannot read"):
        finetune.Photographs(folder, batch_size=2, size=4)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image-size", "64"], "trained VGG16 weights need"),
        (["--image-size", "31", "--random"], "at least 32"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["-o", "net.h5"], r"must end in .keras"),
        (["--weights", "missing.h5"], "there is no file"),
        (["--weights", "missing.h5", "--random"], "not allowed with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_are_checked(
    finetune: ModuleType, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        finetune.parse(["folder", *options])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_an_interrupted_save_leaves_the_old_file(finetune: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "net.keras"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), finetune.written_whole(target) as partial:
        partial.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with finetune.written_whole(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]
