"""``convcore study``: what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.cli import main

from .judges import import_keras
from .small_models import dense, flatten, write_sequential

Capture = pytest.CaptureFixture[str]


def record_of(page: Path) -> Any:
    found = re.search(
        r'<script type="application/json" id="study">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def study(tmp_path: Path, *words: object) -> Any:
    page = tmp_path / "report.html"
    assert main(["study", *map(str, words), "-o", str(page)]) == 0
    return record_of(page)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(",".join(f"{(i + r) % 7 / 7:.3f}" for i in range(60)) for r in range(3)) + "\n")
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    cv2 = pytest.importorskip("cv2", reason="pictures need OpenCV")
    pixels = np.zeros((9, 12, 3), np.uint8)
    pixels[:, :6, 2] = 200  # the left half is red
    assert cv2.imwrite(str(tmp_path / "red.png"), pixels)
    return tmp_path / "red.png"


@pytest.fixture
def picture_model(tmp_path: Path) -> Path:
    kernel = np.tile(np.eye(3), (16, 1)) / 16
    return write_sequential(tmp_path / "m.h5", (4, 4, 3), [flatten(), dense(kernel, [0, 0, 0], "softmax")])


def test_a_row_of_a_table(tmp_path: Path, rows: Path) -> None:
    record = study(tmp_path, "sonar", rows, "--row", 2)
    assert record["input"] == record["input"] | {"name": "rows.csv, row 2", "kind": "row", "shape": [60]}
    first = record["layers"][0]["nodes"][0]
    assert record["nodes"][first]["range"]["count"] == 60
    assert record["model"]["file"] == "sonar.keras"  # a shipped model, by its name


def test_a_picture_is_shown_as_the_network_sees_it(
    tmp_path: Path, picture: Path, picture_model: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("red\ngreen\nblue\n")
    record = study(tmp_path, picture_model, picture, "--preprocess", "scale", "--labels", labels)
    assert record["input"]["kind"] == "picture"
    assert record["input"]["picture"]["shape"] == [4, 4, 3]
    (answer,) = record["answer"]
    assert answer["top"][0]["name"] == "red"
    assert "scale" in record["input"]["preprocess"]


def test_exact_numbers_of_one_layer(tmp_path: Path, picture: Path) -> None:
    kernel = np.random.default_rng(1).normal(size=(3, 3, 3, 12)).astype(np.float32)
    config = {"filters": 12, "kernel_size": [3, 3], "activation": "relu", "use_bias": False}
    model = write_sequential(
        tmp_path / "c.h5", (64, 64, 3), [("Conv2D", config, {"kernel": kernel}), flatten()]
    )
    name = "conv2d_0"
    words = (model, picture, "--preprocess", "scale", "--layer", name, "--channels", "1,11", "--at", "30,40")
    record = study(tmp_path, *words)
    kept = {n: v["exact"] for n, v in record["nodes"].items() if v["exact"]}
    assert {record["layers"][record["nodes"][n]["layer"]]["name"] for n in kept} == {name}
    for exact in kept.values():
        assert exact["channels"] == [1, 11]
        assert [28, 36] in [block["start"] for block in exact["blocks"]]


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from convcore.medical import make_phantom, write_series

    folder = tmp_path_factory.mktemp("ct")
    write_series(make_phantom(seed=3), folder)
    return folder


def test_a_slice_of_a_ct_series(tmp_path: Path, series: Path) -> None:
    record = study(tmp_path, "lung_segmentation", series, "--slice", 5)
    assert record["input"]["kind"] == "ct"
    assert record["input"]["hu"]["window"] == [-600.0, 1500.0]
    assert "slice 5" in record["input"]["preprocess"] and "-1000 to 400" in record["input"]["preprocess"]
    assert record["input"]["hu"]["values"]["dtype"] == "int16"


def test_a_place_in_a_ct_series(tmp_path: Path, series: Path) -> None:
    record = study(tmp_path, "nodule_classifier", series, "--place", "60,60,10")
    assert record["input"]["shape"] == [32, 32, 32, 1]
    assert record["answer"][0]["top"]


def test_the_article_or_a_model(tmp_path: Path, rows: Path, capsys: Capture) -> None:
    target = str(tmp_path / "x.html")
    (tmp_path / "empty").mkdir()
    calls = [
        ["study", "-o", target],
        ["study", "sonar", "-o", target],
        ["study", "sonar", str(rows), "-o", str(tmp_path / "x.pdf")],
        ["study", "sonar", str(rows), "-o", str(tmp_path / "no" / "x.html")],
        ["study", "sonar", str(rows), "-o", target, "--row", "3"],
        ["study", "sonar", str(rows), "-o", target, "--slice", "3"],
        ["study", "sonar", str(rows), "-o", target, "--preprocess", "tf"],
        ["study", "sonar", str(rows), "-o", target, "--channels", "1;2"],
        ["study", "sonar", str(rows), "-o", target, "--data", str(tmp_path)],
        ["study", "sonar", str(rows), "--article", "-o", target],
        ["study", "sonar", str(rows), str(rows), "-o", target],
        ["study", "sonar", str(rows), "-o", target, "--overwrite"],
        ["study", "sonar", str(tmp_path / "empty"), "-o", target],
        ["study", "--article", "--slice", "0", "-o", str(tmp_path / "out")],
        ["study", "--article", "--device", "cuda", "-o", str(tmp_path / "out")],
        ["study", "--article", "--series", "1.2", "-o", str(tmp_path / "out")],
    ]
    for words in calls:
        assert main(words) == 2, words
        assert "convcore study:" in capsys.readouterr().err or "--channels" in words
    assert not Path(target).exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sonnar"], "sonar"),
        (["sonar", "--layer", "dense_9"], "layer"),
        (["sonar", "--channels", "999"], "channel"),
    ],
)
def test_what_is_not_there_is_named(
    words: list[str], message: str, tmp_path: Path, rows: Path, capsys: Capture
) -> None:
    target = tmp_path / "x.html"
    assert main(["study", words[0], str(rows), *words[1:], "-o", str(target)]) == 1
    assert message in capsys.readouterr().err
    assert not target.exists()


def test_an_older_page_stays_where_nothing_new_is_written(tmp_path: Path, rows: Path) -> None:
    target = tmp_path / "x.html"
    target.write_text("older")
    assert main(["study", "sonar", str(rows), "--layer", "no such", "-o", str(target)]) == 1
    assert target.read_text() == "older"


def test_real_lungs(tmp_path: Path, data_dir: Path) -> None:
    """A network that others have trained, on a slice of a real series."""
    card = Path(__file__).parents[1] / "examples" / "cards" / "ct2d_vigneshannaraj_lungs.toml"
    model = data_dir / "models" / "lung" / "ct2d_vigneshannaraj_lungs.h5"
    series = data_dir / "dicom" / "rider-pilot-0117"
    record = study(tmp_path, model, series, "--card", card)
    assert record["input"]["kind"] == "ct"
    assert record["answer"][0]["shape"] == [256, 256, 1]
    last = record["nodes"][record["layers"][-1]["nodes"][-1]]
    assert last["range"]["low"] >= 0 and last["range"]["high"] > 0.9  # a mask that marks something


def test_a_network_and_a_picture_that_ship(tmp_path: Path) -> None:
    record = study(tmp_path, "spreadsheet", "spreadsheet.png")
    assert record["input"]["name"] == "spreadsheet.png"
    assert record["answer"][0]["top"][0]["class"] == 7


def test_a_series_is_what_holds_dicom_files(tmp_path: Path, series: Path, picture: Path) -> None:
    """Whatever else lies in the folder, and whatever its files are called."""
    folder = tmp_path / "series"
    folder.mkdir()
    for number, file in enumerate(sorted(series.iterdir())):
        shutil.copy(file, folder / f"IM{number:04}")
    shutil.copy(picture, folder / "preview.png")
    assert study(tmp_path, "lung_segmentation", folder)["input"]["kind"] == "ct"


def test_several_inputs(tmp_path: Path, capsys: Capture) -> None:
    keras = import_keras()
    a, b = keras.Input((3,)), keras.Input((3,))
    model = tmp_path / "two.keras"
    keras.Model([a, b], keras.layers.Add()([a, b])).save(model)
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for number, file in enumerate(files):
        np.save(file, np.full((1, 3), 1.0 + number, np.float32))
    record = study(tmp_path, model, *files)
    last = record["nodes"][record["layers"][-1]["nodes"][-1]]
    assert last["range"]["low"] == last["range"]["high"] == 3.0
    assert main(["study", str(model), str(files[0]), "-o", str(tmp_path / "x.html")]) == 2
    assert "2 inputs" in capsys.readouterr().err
