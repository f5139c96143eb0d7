"""``convcore demo``: it runs, its answers are right, and it writes where it says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.cli import demo, main

pytest.importorskip("pydicom", reason="the phantom becomes DICOM files")
cv2 = pytest.importorskip("cv2", reason="the picture is drawn by OpenCV")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def record(folder: Path) -> Any:
    return json.loads((folder / "demo.json").read_text())


def test_the_answers_are_right(record: Any) -> None:
    answers = {r["question"]: r for r in record["answers"]}
    assert answers["largest error in HU"]["answer"] == "0"
    assert float(answers["agreement of the lung masks (Dice)"]["answer"]) > 0.95
    assert [r for r in record["answers"] if r["right"] is False] == []
    assert sum(question.startswith("nodule at") for question in answers) == 6


def test_the_timings_add_up(record: Any) -> None:
    assert sum(record["seconds"].values()) <= record["total_seconds"]


def test_the_picture_has_something_to_see(folder: Path, record: Any) -> None:
    assert Path(record["picture"]) == folder / "demo.png"
    picture = cv2.imread(str(folder / "demo.png"))
    assert min(picture.shape[:2]) > 600
    # Grey CT, blue mask, orange findings and green places: colours that grey alone does not have.
    saturation = picture.max(axis=2).astype(int) - picture.min(axis=2)
    assert np.count_nonzero(saturation > 60) > 1000


def test_a_folder_in_use_is_refused(folder: Path, capsys: Capture) -> None:
    before = sorted(folder.iterdir())
    assert main(["demo", "-o", str(folder)]) == 2
    assert "the folder is not empty; name another one" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
    assert main(["demo", "-o", str(folder / "demo.json")]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("1,2,R\n", "wrong number of columns"),
        (",".join(["0.5"] * 60) + ",X\n", "the label of data row 1, got X, expected M, R"),
    ],
)
def test_the_sonar_table_is_checked_before_anything_is_made(
    text: str | None, message: str, tmp_path: Path, capsys: Capture
) -> None:
    table = tmp_path / "t.csv"
    if text is not None:
        table.write_text(text)
    assert main(["demo", "-o", str(tmp_path / "new" / "out"), "--sonar", str(table)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("named", [True, False])
def test_a_demo_that_stops_leaves_nothing(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "make_phantom", stop)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["demo", *(["-o", str(tmp_path / "out")] if named else [])]) == 130
    assert list(tmp_path.iterdir()) == []


def test_sonar_rows(data_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["demo", "-o", str(tmp_path), "--sonar", str(data_dir / "sonar" / "sonar.csv"), "--json"]
    assert main(words) == 0
    answers = {r["question"]: r for r in json.loads(capsys.readouterr().out)["answers"]}
    assert answers["sonar echoes"]["truth"] == "97 rocks, 111 mines"
    assert answers["sonar echoes named right"]["truth"] == "208"
