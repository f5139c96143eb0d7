"""``convcore predict`` on models whose answers are known, and on the real ones."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore import data
from convcore.cli import main
from convcore.cli.answers import Head, answer, class_indices, confusion
from convcore.engine import load_model
from convcore.errors import InputError

from .judges import import_keras
from .small_models import dense, flatten, write_sequential

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def sigmoid_model(tmp_path: Path) -> Path:
    """Two numbers in; P(class 1) = sigmoid(first - second)."""
    return write_sequential(tmp_path / "s.h5", (2,), [dense([[1], [-1]], [0], "sigmoid")])


@pytest.fixture
def softmax_model(tmp_path: Path) -> Path:
    """A 2 x 2 RGB picture in; class 0, 1 or 2 is the brightest of red, green, blue (pixels over 255)."""
    kernel = np.tile(np.eye(3), (4, 1)) / 4 * 10
    return write_sequential(tmp_path / "m.h5", (2, 2, 3), [flatten(), dense(kernel, [0, 0, 0], "softmax")])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders with plain pictures: two red, one green, one blue that lies among the green."""
    cv2 = pytest.importorskip("cv2", reason="pictures need OpenCV")
    root = tmp_path / "pictures"
    colours = {"0_red/a": 0, "0_red/b": 0, "1_green/a": 1, "1_green/odd": 2, "2_blue/a": 2}
    for name, channel in colours.items():
        rgb = np.zeros((5, 7, 3), np.uint8)
        rgb[..., channel] = 200
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / f"{name}.png"), rgb[..., ::-1])
    return root


def run_json(capsys: Capture, *words: object, code: int = 0) -> Any:
    assert main(["predict", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


# ---- tables


def test_rows_with_labels(sigmoid_model: Path, tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "t.csv"
    table.write_text("3,1,R\n1,3,M\n0,0,R\n")
    found = run_json(capsys, sigmoid_model, table)
    p = 1 / (1 + np.exp(-2))
    labels = [(r["class"], r["label"], r["truth"]) for r in found["results"]]
    # Sorted labels: M is 0, R is 1. The third row has P = 0.5 exactly, which is not above 0.5.
    assert labels == [(1, "R", 1), (0, "M", 0), (0, "M", 1)]
    values = [r["probability"] for r in found["results"]]
    np.testing.assert_allclose(values, [p, p, 0.5], rtol=4 * 2.0**-24)
    assert found["accuracy"] == 2 / 3
    assert found["confusion"] == [[1, 0], [1, 1]]

    assert main(["predict", str(sigmoid_model), str(table)]) == 0
    out = capsys.readouterr().out
    assert "1      R           0.8808  R" in out and "wrong" in out
    assert "accuracy 0.6667 (2 of 3)" in out


def test_rows_without_labels(sigmoid_model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "t.csv").write_text("3,1\n")
    found = run_json(capsys, sigmoid_model, tmp_path / "t.csv")
    assert found["results"][0]["class"] == 1
    assert "accuracy" not in found


def test_one_label_alone_cannot_be_numbered(sigmoid_model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "t.csv").write_text("3,1,R\n")
    assert main(["predict", str(sigmoid_model), str(tmp_path / "t.csv")]) == 0
    out, err = capsys.readouterr()
    assert "accuracy" not in out and "--labels" in err
    (tmp_path / "names.txt").write_text("M\nR\n")
    found = run_json(capsys, sigmoid_model, tmp_path / "t.csv", "--labels", tmp_path / "names.txt")
    assert found["accuracy"] == 1.0


def test_labels_that_are_class_numbers(tmp_path: Path, capsys: Capture) -> None:
    model = write_sequential(tmp_path / "m.h5", (12,), [dense(np.eye(12), [0] * 12, "softmax")])
    rows = [",".join("9" if i == k else "0" for i in range(12)) + f",{k}" for k in (2, 10)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = run_json(capsys, model, tmp_path / "t.csv")
    assert found["accuracy"] == 1.0
    assert [r["truth"] for r in found["results"]] == [2, 10]


def test_a_wrong_row_is_named(sigmoid_model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "t.csv").write_text("3,1,R\n3,R\n")
    assert main(["predict", str(sigmoid_model), str(tmp_path / "t.csv")]) == 1
    assert "t.csv, row 2: wrong number of columns" in capsys.readouterr().err


# ---- pictures


def test_class_folders(softmax_model: Path, pictures: Path, capsys: Capture) -> None:
    found = run_json(capsys, softmax_model, pictures, "--preprocess", "scale", "--top", 2, "--batch-size", 2)
    assert found["classes"] == ["0_red", "1_green", "2_blue"]
    assert found["accuracy"] == 0.8
    assert found["confusion"] == [[2, 0, 0], [0, 1, 1], [0, 0, 1]]
    odd = next(r for r in found["results"] if "odd" in r["input"])
    assert (odd["label"], odd["truth"]) == ("2_blue", 1)
    assert len(odd["top"]) == 2
    e = np.exp(np.array([0, 0, 200 / 255 * 10]))
    # The exponent is at most 10, so its rounding is worth 10 units; softmax adds a few of its own.
    np.testing.assert_allclose(odd["outputs"][0], e / e.sum(), rtol=20 * 2.0**-24)

    assert main(["predict", str(softmax_model), str(pictures), "--preprocess", "scale"]) == 0
    out = capsys.readouterr().out
    assert "accuracy 0.8000 (4 of 5)" in out
    assert "true \\ answered  0_red  1_green  2_blue" in out


def test_a_damaged_picture_is_left_out_and_the_run_fails(
    softmax_model: Path, pictures: Path, capsys: Capture
) -> None:
    (pictures / "0_red" / "c.png").write_bytes(b"nonsense")
    found = run_json(capsys, softmax_model, pictures, "--preprocess", "scale", code=1)
    assert len(found["results"]) == 5
    assert found["failed"][0]["input"].endswith("c.png")
    assert main(["predict", str(softmax_model), str(pictures), "--preprocess", "scale"]) == 1
    assert "c.png was left out" in capsys.readouterr().err


def test_when_every_picture_is_damaged(softmax_model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.png").write_bytes(b"nonsense")
    found = run_json(capsys, softmax_model, tmp_path / "a.png", "--preprocess", "none", code=1)
    assert found["results"] == [] and len(found["failed"]) == 1


def test_preprocessing_must_be_said_unless_the_model_says_it(
    softmax_model: Path, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["predict", str(softmax_model), str(pictures)]) == 2
    assert "--preprocess caffe, tf" in capsys.readouterr().err
    kernel = np.tile(np.eye(3), (4, 1)) / 4 * 10
    scaling = ("Rescaling", {"scale": 1 / 255, "offset": 0.0}, {})
    own = write_sequential(
        tmp_path / "own.h5", (2, 2, 3), [scaling, flatten(), dense(kernel, [0, 0, 0], "softmax")]
    )
    assert run_json(capsys, own, pictures)["preprocess"] == "none"
    vgg = write_sequential(
        tmp_path / "v.h5", (2, 2, 3), [flatten(), dense(kernel, [0, 0, 0], "softmax")], name="vgg16"
    )
    assert run_json(capsys, vgg, pictures)["preprocess"] == "caffe"


def test_open_sizes_need_size(tmp_path: Path, pictures: Path, capsys: Capture) -> None:
    layers = [("GlobalAveragePooling2D", {"data_format": "channels_last"}, {})]
    model = write_sequential(
        tmp_path / "open.h5", (None, None, 3), [*layers, dense(np.eye(3), [0] * 3, "softmax")]
    )
    words = [model, pictures, "--preprocess", "scale"]
    assert main(["predict", *map(str, words)]) == 2
    assert "--size" in capsys.readouterr().err
    assert run_json(capsys, *words, "--size", "3x4")["accuracy"] == 0.8


def test_channels_first(tmp_path: Path, pictures: Path, capsys: Capture) -> None:
    kernel = np.repeat(np.eye(3), 4, axis=0) / 4 * 10
    layers = [flatten(), dense(kernel, [0, 0, 0], "softmax")]
    model = write_sequential(tmp_path / "first.h5", (3, 2, 2), layers)
    assert run_json(capsys, model, pictures, "--preprocess", "scale")["accuracy"] == 0.8


def test_grey(tmp_path: Path, pictures: Path, capsys: Capture) -> None:
    model = write_sequential(tmp_path / "grey.h5", (1, 1, 1), [flatten(), dense([[1]], [0], "linear")])
    blue = pictures / "2_blue" / "a.png"
    found = run_json(capsys, model, blue, "--preprocess", "none")["results"][0]
    assert found["outputs"] == [[round(0.114 * 200)]]


# ---- arrays, other ends of networks


def test_arrays(sigmoid_model: Path, tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "many.npy", np.array([[3, 1], [1, 3]]))
    np.save(tmp_path / "one.npy", np.array([3.0, 1.0]))
    found = run_json(capsys, sigmoid_model, tmp_path / "many.npy", tmp_path / "one.npy")
    assert [r["class"] for r in found["results"]] == [1, 0, 1]
    np.save(tmp_path / "nan.npy", np.array([[3, 1], [1, np.nan]]))
    assert main(["predict", str(sigmoid_model), str(tmp_path / "nan.npy")]) == 1
    assert "nan.npy, index [1, 1]: got nan, expected a finite number" in capsys.readouterr().err
    np.save(tmp_path / "wrong.npy", np.zeros((4, 3)))
    assert main(["predict", str(sigmoid_model), str(tmp_path / "wrong.npy")]) == 1
    assert "got shape (4, 3), expected (n, 2)" in capsys.readouterr().err


def test_scores_are_not_called_probabilities(tmp_path: Path, capsys: Capture) -> None:
    model = write_sequential(tmp_path / "m.h5", (2,), [dense(np.eye(2), [0, 0], "linear")])
    (tmp_path / "t.csv").write_text("-3,7\n")
    found = run_json(capsys, model, tmp_path / "t.csv")["results"][0]
    assert (found["class"], found["score"]) == (1, 7.0)
    assert "probability" not in found


def test_a_plain_value_has_no_class(tmp_path: Path, capsys: Capture) -> None:
    model = write_sequential(tmp_path / "m.h5", (2,), [dense([[1], [1]], [0], "linear")])
    (tmp_path / "t.csv").write_text("-3,7\n")
    assert "class" not in run_json(capsys, model, tmp_path / "t.csv")["results"][0]
    assert main(["predict", str(model), str(tmp_path / "t.csv")]) == 0
    assert capsys.readouterr().out == "input  value\n1          4\n"


def test_other_outputs_are_summarised(tmp_path: Path, capsys: Capture) -> None:
    model = write_sequential(tmp_path / "m.h5", (2, 2), [dense(np.eye(2), [0, 0], "linear")])
    np.save(tmp_path / "x.npy", np.array([[[1, 2], [3, 6]]]))
    assert main(["predict", str(model), str(tmp_path / "x.npy")]) == 0
    assert "2x2    1    6     3" in capsys.readouterr().out


def test_an_average_of_probabilities_is_one(capsys: Capture, tmp_path: Path) -> None:
    model = data.path("sonar.keras")
    (tmp_path / "t.csv").write_text(",".join(["0.3"] * 60) + "\n")
    found = run_json(capsys, model, tmp_path / "t.csv")["results"][0]
    p = found["outputs"][0][0]
    assert found["class"] == int(p > 0.5)
    assert found["probability"] == max(p, 1 - p)


def test_several_inputs_and_outputs(tmp_path: Path, capsys: Capture) -> None:
    keras = import_keras()
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    both = keras.layers.Concatenate(name="both")([a, b])
    keras.Model([a, b], [both, keras.layers.Dense(2, name="d")(both)]).save(tmp_path / "m.keras")
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    np.save(files[0], np.array([[1, 2], [3, 4]]))
    np.save(files[1], np.array([[5, 6, 7], [8, 9, 10]]))
    found = run_json(capsys, tmp_path / "m.keras", *files, "--batch-size", 1)
    assert [r["outputs"][0] for r in found["results"]] == [[1, 2, 5, 6, 7], [3, 4, 8, 9, 10]]
    assert "class" not in found["results"][0]

    model = str(tmp_path / "m.keras")
    np.save(tmp_path / "c.npy", np.zeros((3, 3)))
    for words, code, message in (
        ([files[0]], 2, "2 inputs: name one .npy file for each"),
        ([files[1], files[0]], 1, "does not fit the model's input"),
        ([files[0], tmp_path / "c.npy"], 1, "different numbers of examples"),
        ([*files, "-o", tmp_path / "o.npy"], 2, "several outputs: use .json"),
    ):
        assert main(["predict", model, *map(str, words)]) == code
        assert message in capsys.readouterr().err


# ---- files


def test_output_files(sigmoid_model: Path, tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "t.csv"
    table.write_text("3,1,R\n1,3,M\n")
    (tmp_path / "out").mkdir()
    for suffix in ("csv", "json", "npy"):
        assert (
            main(["predict", str(sigmoid_model), str(table), "-o", str(tmp_path / "out" / f"o.{suffix}")])
            == 0
        )
    assert "accuracy 1.0000" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "o.csv").read_text().splitlines()))
    assert [(r["input"], r["truth"], r["class"]) for r in rows] == [("1", "R", "R"), ("2", "M", "M")]
    record = json.loads((tmp_path / "out" / "o.json").read_text())
    outputs = np.load(tmp_path / "out" / "o.npy")
    assert outputs.shape == (2, 1) and outputs.dtype == np.float32
    assert [r["outputs"][0][0] for r in record["results"]] == outputs[:, 0].tolist()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["o.csv", "o.json", "o.npy"]


def test_an_array_output_as_csv(tmp_path: Path) -> None:
    model = write_sequential(tmp_path / "m.h5", (2, 2), [dense(np.eye(2), [0, 0], "linear")])
    np.save(tmp_path / "x.npy", np.array([[[1, 2], [3, 6]]]))
    assert main(["predict", str(model), str(tmp_path / "x.npy"), "-o", str(tmp_path / "o.csv")]) == 0
    assert (tmp_path / "o.csv").read_text().splitlines()[1].endswith(",1.0,2.0,3.0,6.0")


# ---- wrong calls


def test_wrong_calls(sigmoid_model: Path, pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "t.csv"
    table.write_text("3,1\n")
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "d.csv").mkdir()
    for words, code, message in (
        (["missing.h5", table], 1, "missing.h5"),
        ([sigmoid_model, "missing.csv"], 1, "no such file"),
        ([sigmoid_model, tmp_path / "x.txt"], 2, "INPUT must be a JPEG"),
        ([sigmoid_model, table, pictures], 2, "of one kind"),
        ([sigmoid_model, pictures, "--preprocess", "none"], 2, "takes no pictures"),
        ([sigmoid_model, table, "-o", "o.txt"], 2, "must end in"),
        (
            [sigmoid_model, table, "-o", tmp_path / "new" / "o.csv"],
            2,
            f"there is no folder {tmp_path / 'new'}",
        ),
        ([sigmoid_model, table, "-o", tmp_path / "d.csv"], 2, "is a folder"),
        ([sigmoid_model, table, "--preprocess", "scale"], 2, "--preprocess is for pictures only"),
        ([sigmoid_model, table, "--interpolation", "nearest"], 2, "--interpolation is for pictures only"),
        ([sigmoid_model, table, "--size", "2x2"], 2, "--size is for pictures only"),
        ([sigmoid_model, table, "--top", "0"], 2, "no whole number"),
        ([sigmoid_model, table, "--size", "3"], 2, "HEIGHTxWIDTH"),
        ([sigmoid_model, table, "--labels", tmp_path / "x.txt"], 1, "names of classes, got 1, expected 2"),
    ):
        assert main(["predict", *map(str, words)]) == code, words
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_without_opencv_the_extra_is_named(
    softmax_model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["predict", str(softmax_model), str(pictures), "--preprocess", "scale"]) == 1
    assert 'pip install "convcore[app]"' in capsys.readouterr().err


def test_weights_alone_are_not_a_model(data_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3)))
    weights = data_dir / "models" / "imagenet" / "squeezenet_v1.1_notop_tf.h5"
    assert main(["predict", str(weights), str(tmp_path / "x.npy")]) == 1
    assert "--weights" in capsys.readouterr().err


# ---- the arithmetic of answers


def test_answers() -> None:
    assert [a.index for a in answer(Head("softmax", 4), np.array([0.1, 0.4, 0.4, 0.1]), 3)] == [1, 2, 0]
    assert answer(Head("sigmoid", 2), np.array([np.float32(0.5)]), 1)[0].index == 0
    assert confusion([0, 0, 2], [0, 1, 2], 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    with pytest.raises(InputError, match="data row 2, got X, expected M, R"):
        class_indices(["M", "X"], ["M", "R"], "t.csv")


# ---- real models


def test_a_real_sonar_model(data_dir: Path, capsys: Capture) -> None:
    words = data_dir / "sonar" / "sonar_model_keras231.h5", data_dir / "sonar" / "sonar.csv"
    found = run_json(capsys, *words)
    assert (found["right"], found["total"]) == (192, 208)


def test_the_shipped_sonar_model_equals_keras(data_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    import_keras()
    table = data_dir / "sonar" / "sonar.csv"
    assert main(["predict", str(data.path("sonar.keras")), str(table), "-o", str(tmp_path / "p.npy")]) == 0
    assert "of 208)" in capsys.readouterr().out
    rows = np.array([line.split(",")[:60] for line in table.read_text().split()], np.float64)
    model = load_model(data.path("sonar.keras"))
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict(rows))
    verification = model.verify(rows[::7])
    assert verification.keras and verification.ok, str(verification)


@pytest.mark.parametrize(
    "name", ["dogscats/engineer0940_cats_vs_dogs.keras", "dogscats/JeanXL_cats_vs_dogs.h5"]
)
def test_real_cats_and_dogs(name: str, data_dir: Path, tmp_path: Path, capsys: Capture) -> None:
    for photo in sorted((data_dir / "images" / "kaggle").iterdir()):
        folder = tmp_path / "photos" / f"{photo.name[:3]}s"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / photo.name).write_bytes(photo.read_bytes())
    found = run_json(capsys, data_dir / "models" / name, tmp_path / "photos", "--preprocess", "scale")
    assert found["classes"] == ["cats", "dogs"]
    assert found["confusion"] == [[5, 0], [0, 5]]


def test_outputs_by_key(tmp_path: Path, capsys: Capture) -> None:
    """A model whose outputs are a dictionary: every output is written, under its key."""
    keras = import_keras()
    given = keras.Input((5,))
    ends = {"zeta": keras.layers.Dense(2, name="d1")(given), "alpha": keras.layers.Dense(3, name="d2")(given)}
    network = keras.Model(given, ends)
    path, rows = tmp_path / "keyed.keras", tmp_path / "rows.npy"
    network.save(path)
    x = np.random.default_rng(0).standard_normal((4, 5), np.float32)
    np.save(rows, x)
    answers = run_json(capsys, path, rows)
    expected = network.predict(x, verbose=0)
    assert set(answers["output_names"]) == set(ends)
    for row, result in enumerate(answers["results"]):
        for key, values in zip(answers["output_names"], result["outputs"], strict=True):
            np.testing.assert_allclose(values, expected[key][row], atol=1e-5)
