"""The lung recipe runs from end to end on tiny phantoms; the networks that ship do on a fresh one as said.

How well they do on the held-out phantoms is measured by running the recipe; see src/convcore/data/README.md.
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import convcore as cc
from convcore import data
from convcore.medical import bundled_card, dice, make_phantom, score, segment

from .judges import import_keras
from .recipes import recipe


@pytest.fixture(scope="module")
def lung() -> Iterator[ModuleType]:
    import_keras()
    pytest.importorskip("pydicom")
    pytest.importorskip("cv2")
    with recipe("train_lung") as module:
        yield module


def test_the_recipe_runs_and_reports(lung: ModuleType, tmp_path: Path) -> None:
    assert lung.main(["-o", str(tmp_path), "--quick"]) == 0
    report = json.loads((tmp_path / "lung_training.json").read_text())
    assert str(tmp_path) not in json.dumps(report)
    held_out = report["held_out"]
    assert held_out["phantoms"] == len(report["held_out_phantoms"]) == lung.QUICK.held_out
    assert held_out["dice_mean"] == np.mean([c["dice"] for c in report["held_out_phantoms"]])
    for name in ("lung_segmentation", "nodule_classifier"):
        assert cc.load_model(tmp_path / f"{name}.keras").input_shapes[0] == bundled_card(name).input_shape
        assert (tmp_path / f"{name}.toml").read_bytes() == data.path(f"{name}.toml").read_bytes()
    assert (tmp_path / "held_out.png").stat().st_size > 0


def test_the_three_sets_of_phantoms_share_no_seed(lung: ModuleType) -> None:
    first = [
        s + 1000 * seed for s in (lung.TRAIN, lung.VALIDATION, lung.HELD_OUT) for seed in (0, lung.MAX_SEED)
    ]
    assert first == sorted(first) and all(b - a >= 1000 for a, b in itertools.pairwise(first))


def test_places_without_a_nodule_are_what_their_kind_says(lung: ModuleType) -> None:
    phantom = make_phantom(11, shape=(32, 96, 96), slice_step=4)
    case = lung.Case(phantom, phantom.volume())
    places = lung.negative_places(case, 5, np.random.default_rng(0))
    assert {kind: len(found) for kind, found in places.items()} == dict.fromkeys(lung.NEGATIVES, 5)

    def at(kind: str, volume: np.ndarray) -> np.ndarray:
        return np.array([volume[tuple(np.rint(case.volume.to_voxel(p)).astype(int))] for p in places[kind]])

    assert at("lung", phantom.lungs).all() and at("vessel", phantom.lungs).all()
    assert (at("vessel", phantom.hu) > -250).all()
    for kind, found in places.items():
        for place in found:
            gap = min(np.linalg.norm(place - n.centre_mm) - n.diameter_mm / 2 for n in phantom.nodules)
            assert 8 - 1e-9 <= gap <= 16 + 1e-9 if kind == "beside" else gap > 10


def test_windows_beyond_the_picture_are_filled(lung: ModuleType) -> None:
    picture = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert np.array_equal(lung._window(picture, 1, 1, 2, -1), picture[1:3, 1:3])
    padded = np.pad(picture, 3, constant_values=-1)
    for top, left in ((-2, -1), (2, -3), (-1, 2)):
        assert np.array_equal(lung._window(picture, top, left, 5, -1), padded[top + 3 :, left + 3 :][:5, :5])


def test_auc_counts_ties_as_half(lung: ModuleType) -> None:
    assert lung.auc(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == 0.875


def test_a_seed_out_of_range_is_refused(lung: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error:
        lung.main(["-o", str(tmp_path), "--seed", "1000"])
    assert error.value.code == 2


def test_the_shipped_networks_on_a_fresh_phantom() -> None:
    # make_phantom's own settings, and a seed that the recipe does not reach.
    phantom = make_phantom(404)
    volume = phantom.volume()
    mask = segment(
        volume, cc.load_model(data.path("lung_segmentation.keras")), bundled_card("lung_segmentation")
    )
    assert dice(mask, phantom.lungs) > 0.95
    places = [n.centre_mm for n in phantom.nodules] + list(phantom.nodule_free)
    model = cc.load_model(data.path("nodule_classifier.keras"))
    found = [s["nodule"] for s in score(volume, model, bundled_card("nodule_classifier"), places)]
    n = len(phantom.nodules)
    assert n and min(found[:n]) > max(found[n:])


@pytest.mark.parametrize("name", ["lung_segmentation.keras", "nodule_classifier.keras"])
def test_the_shipped_files_are_small_and_carry_no_optimiser(name: str) -> None:
    h5py = pytest.importorskip("h5py")
    path = data.path(name)
    assert path.stat().st_size < 400_000
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        assert "layers" in weights and "optimizer" not in weights
