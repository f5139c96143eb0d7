"""``convcore ct`` on phantoms with models whose answers are known, and on the real series."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.cli import main
from convcore.medical import make_phantom, read_series, write_series

from .small_models import dense, write_sequential

pytest.importorskip("pydicom", reason="series are read by pydicom")
pytest.importorskip("cv2", reason="overlays are drawn by OpenCV")

Capture = pytest.CaptureFixture[str]

MASK_CARD = """
name = "dark"
kind = "mask2d"
[input]
size = [32, 32]
clip_hu = [-1000, 400]
scale = "unit"
axes = "yx"
channel = "last"
padding_hu = -1000
[[outputs]]
name = "dark"
threshold = 0.5
"""
SCORE_CARD = """
name = "mean"
kind = "score3d"
[input]
size = [4, 4, 4]
spacing_mm = [5, 5, 5]
clip_hu = [-1000, 400]
scale = "unit"
axes = "zyx"
channel = "last"
padding_hu = -1000
[[outputs]]
name = "bright"
threshold = 0.5
"""


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_series(make_phantom(seed=5, shape=(10, 32, 32), slice_step=6.0, n_nodules=1), folder)
    return folder


@pytest.fixture
def mask_model(tmp_path: Path) -> Path:
    """A pixel is masked from -300 HU downwards: sigmoid(500 - 1000 v), v from 0 to 1."""
    (tmp_path / "dark.toml").write_text(MASK_CARD)
    return write_sequential(tmp_path / "dark.h5", (32, 32, 1), [dense([[-1000]], [500], "sigmoid")])


@pytest.fixture
def score_model(tmp_path: Path) -> Path:
    """P(bright) = sigmoid(20 (mean - 0.5)) of the cube."""
    (tmp_path / "mean.toml").write_text(SCORE_CARD)
    pool = ("GlobalAveragePooling3D", {"data_format": "channels_last"}, {})
    return write_sequential(tmp_path / "mean.h5", (4, 4, 4, 1), [pool, dense([[20]], [-10], "sigmoid")])


def run_ct(capsys: Capture, *words: object, code: int = 0) -> Any:
    assert main(["ct", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_mask_of_every_slice(series: Path, mask_model: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "new" / "out"
    printed = run_ct(capsys, series, "--model", mask_model, "-o", out)
    mask = np.load(out / "mask.npy")
    right = make_phantom(seed=5, shape=(10, 32, 32), slice_step=6.0, n_nodules=1).hu <= -300
    np.testing.assert_array_equal(mask, right)
    assert json.loads((out / "result.json").read_text()) == printed
    assert [s["index"] for s in printed["mask"]["slices"]] == list(range(10))
    assert len(list((out / "overlays").iterdir())) == 10
    assert {p.name for p in out.iterdir()} == {"mask.npy", "result.json", "overview.png", "overlays"}
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert "Not a medical device" in printed["note"]


def test_shipped_models_are_known_by_name(series: Path, tmp_path: Path, capsys: Capture) -> None:
    phantom = make_phantom(seed=5, shape=(10, 32, 32), slice_step=6.0, n_nodules=1)
    place = ",".join(f"{v:.2f}mm" for v in phantom.nodules[0].centre_mm)
    found = run_ct(capsys, series, "--model", "nodule_classifier", f"--at={place}", "-o", tmp_path / "a")
    assert found["places"][0]["outputs"]["nodule"]["positive"]
    found = run_ct(capsys, series, "--model", "lung_segmentation", "-o", tmp_path / "b")
    assert found["mask"]["volume_ml"] > 0


def test_scores_at_places(series: Path, score_model: Path, tmp_path: Path, capsys: Capture) -> None:
    found = run_ct(
        capsys, series, "--model", score_model, "--at", "16,16,5", "--at=-120mm,0mm,5", "-o", tmp_path / "o"
    )
    volume = read_series(series)
    assert [p["voxel_xyz"][2] for p in found["places"]] == pytest.approx([5, 5], abs=1e-3)
    assert found["places"][1]["place_mm"][:2] == pytest.approx([-120, 0], abs=1e-3)
    assert found["series"]["uid"] == volume.uid
    output = found["places"][0]["outputs"]["bright"]
    assert 0 <= output["value"] <= 1 and output["positive"] == (output["value"] >= 0.5)
    assert len(list((tmp_path / "o" / "overlays").iterdir())) == 1  # both places lie in one slice

    assert (
        main(["ct", str(series), "--model", str(score_model), "--at", "16,16,5", "-o", str(tmp_path / "p")])
        == 0
    )
    out = capsys.readouterr().out
    assert "bright" in out and "overview.png" in out


def test_places_that_start_with_a_minus(
    series: Path, score_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    places = ["-120mm,-3.5mm,5", "-.5mm,0mm,5"]
    words = [w for place in places for w in ("--at", place)]
    found = run_ct(capsys, series, "--model", score_model, *words, "-o", tmp_path / "o")
    assert [p["place_mm"][:2] for p in found["places"]] == [
        pytest.approx([-120, -3.5]), pytest.approx([-0.5, 0], abs=1e-6)
    ]  # fmt: skip


def test_a_place_outside_is_told_in_the_users_own_voxels(
    series: Path, score_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["ct", str(series), "--model", str(score_model), "--at", "9999,16,5", "-o", str(tmp_path / "o")]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "--at 9999,16,5: the place lies outside the volume, got voxel x, y, z = 9999, 16, 5 (" in err
    assert "expected voxels 0 to 31, 0 to 31, 0 to 9" in err


def test_sigterm_leaves_no_temporary_folder(series: Path, mask_model: Path, tmp_path: Path) -> None:
    if os.name != "posix":
        pytest.skip("Windows ends a process without a signal")
    # Stopped while it draws: the folder is half full by then.
    code = (
        "import sys, time; from convcore import cli; from convcore.cli import ct; "
        "ct.montage = lambda *a, **k: (print('drawing', flush=True), time.sleep(60)); sys.exit(cli.main())"
    )
    target = tmp_path / "results" / "out"
    words = ["ct", str(series), "--model", str(mask_model), "-o", str(target)]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "drawing\n"
        [folder] = target.parent.iterdir()
        assert folder.name.startswith(".out.")
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert time.monotonic() - start < 30
    assert list(target.parent.iterdir()) == []


def test_wrong_calls(
    series: Path, mask_model: Path, score_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    bare = write_sequential(tmp_path / "bare.h5", (32, 32, 1), [dense([[1]], [0], "sigmoid")])
    other = write_sequential(tmp_path / "other.h5", (16, 16, 1), [dense([[1]], [0], "sigmoid")])
    card = mask_model.with_suffix(".toml")
    out = tmp_path / "o"
    for words, code, message in (
        ([series, "--model", score_model, "-o", out], 2, "--at X,Y,Z"),
        ([series, "--model", mask_model, "--at", "1,1,1", "-o", out], 2, "--at is for models that score"),
        ([series, "--model", bare, "-o", out], 2, "no model card bare.toml"),
        ([series, "--model", mask_model, "-o", full], 2, "not empty"),
        ([series, "--model", mask_model, "-o", full / "x"], 2, "is a file"),
        ([series, "--model", score_model, "--at", "99,1,1", "-o", out], 1, "outside the volume"),
        ([series, "--model", score_model, "--at", "here", "-o", out], 2, "'here' is no place, which is x,y"),
        (["no_series", "--model", "no_model", "--at", "nan,1,2", "-o", out], 2, "'nan,1,2' is no place"),
        (["no_series", "--model", "no_model", "--at", "-1e999,1,2", "-o", out], 2, "'-1e999,1,2' is no"),
        ([series, "--model", other, "--card", card, "-o", out], 1, "does not fit the model"),
        ([tmp_path / "none", "--model", mask_model, "-o", out], 1, "is no folder"),
        ([series, "--model", mask_model, "--series", "1.2.3", "-o", out], 1, "holds no series 1.2.3"),
        ([series, "--model", "no_such_model", "-o", out], 1,
         "convcore ct: --model no_such_model: no such file or model, expected a file, or a model that ships: "
         "lung_segmentation, nodule_classifier\n"),
        ([series, "--model", "no_such.h5", "-o", out], 1, "--model no_such.h5: no such file"),
    ):  # fmt: skip
        assert main(["ct", *map(str, words)]) == code, words
        assert message in capsys.readouterr().err
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_a_missing_slice_is_named_unless_gaps_are_allowed(
    series: Path, mask_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "gap"
    folder.mkdir()
    middle = read_series(series).slices[4].name
    for file in series.iterdir():
        if file.name != middle:
            (folder / file.name).write_bytes(file.read_bytes())
    words = [folder, "--model", mask_model, "-o", tmp_path / "o"]
    assert main(["ct", *map(str, words)]) == 1
    err = capsys.readouterr().err
    assert "1 slice is missing" in err and "--allow-gaps" in err
    assert run_ct(capsys, *words, "--allow-gaps")["series"]["interpolated_slices"] == [4]


def test_overwrite_replaces_everything(
    series: Path, mask_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "stale.png").touch()
    run_ct(capsys, series, "--model", mask_model, "-o", out, "--overwrite")
    assert not (out / "stale.png").exists() and (out / "result.json").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.filterwarnings("ignore::convcore.errors.ConvcoreWarning")
def test_the_real_nodule(data_dir: Path, cards: Path, tmp_path: Path, capsys: Capture) -> None:
    lung = data_dir / "models" / "lung"
    found = run_ct(
        capsys, data_dir / "dicom" / "lidc-idri-0001",
        "--model", lung / "dsb2017_dhammack_model_LUNA_64_v29_14.h5",
        "--card", cards / "dsb2017_dhammack.toml",
        "--at", "317,364,-116mm", "--at", "150,300,-116mm", "-o", tmp_path / "o",
    )  # fmt: skip
    nodule, free = (p["outputs"] for p in found["places"])
    assert nodule["o_fp"]["positive"] and not free["o_fp"]["positive"]
    assert nodule["o_mal"]["value"] > 0.9 > 0.1 > free["o_mal"]["value"]
    assert nodule["o_d"]["value"] > 20 and free["o_d"]["value"] == pytest.approx(0, abs=0.05)


def test_the_real_lungs(data_dir: Path, cards: Path, tmp_path: Path, capsys: Capture) -> None:
    found = run_ct(
        capsys, data_dir / "dicom" / "lidc-idri-0001",
        "--model", data_dir / "models" / "lung" / "ct2d_vigneshannaraj_lungs.h5",
        "--card", cards / "ct2d_vigneshannaraj_lungs.toml", "-o", tmp_path / "o",
    )  # fmt: skip
    # PROVENANCE.md reports 29 % and 16 % of a middle slice for the two real series without saying which
    # is which; this engine finds 17 % here and 29 % in the other, so 16 % is taken to be this one. Its
    # slice and resizing are not stated either: 0.02 is a sanity check, not a bound on errors.
    assert found["mask"]["slices"][16]["fraction"] == pytest.approx(0.16, abs=0.02)
    assert found["mask"]["mean_hu"] < -700


@pytest.fixture
def cards() -> Path:
    folder = Path(__file__).parent.parent / "examples" / "cards"
    if not folder.is_dir():
        pytest.skip("the examples are not beside the tests")
    return folder
