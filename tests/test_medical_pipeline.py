"""Volume -> model input -> mask or scores, with models simple enough to know the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.errors import ArgumentError, InputError, ModelError
from convcore.medical import (
    Mark,
    Volume,
    bundled_card,
    choose_slices,
    cube_inputs,
    dice,
    hu_volume,
    make_phantom,
    mask_result,
    montage,
    overlay_slice,
    probabilities,
    read_series,
    resample,
    score,
    score_result,
    segment,
    slice_inputs,
    write_json,
    write_npy,
    write_png,
    write_series,
)
from convcore.medical.pipeline import to_input


class Fake:
    """A model that is any function of the batch, and remembers the shapes it was given."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, x: np.ndarray[Any, Any]) -> Any:
        assert x.dtype == np.float32 and x.flags.c_contiguous
        self.shapes.append(x.shape)
        return self.function(x)


MASK = bundled_card("lung_segmentation")
CUBE = bundled_card("nodule_classifier")


def test_input_is_clipped_scaled_and_in_order() -> None:
    hu = np.array([-3000, -1000, -300, 400, 3000], np.float32).reshape(1, 1, 5)
    unit = to_input(hu, replace(MASK, size=(1, 5)))
    # (HU + 1000) / 1400, as Keras's users scale lungs: two roundings in float32.
    np.testing.assert_allclose(unit.ravel(), [0, 0, 0.5, 1, 1], rtol=2 * np.finfo(np.float32).eps)
    assert unit.shape == (1, 1, 5, 1)
    plain = to_input(hu, replace(MASK, size=(1, 5), scale="none", axes="xy", channel="first"))
    assert plain.shape == (1, 1, 5, 1) and plain.ravel().tolist() == [-1000, -1000, -300, 400, 400]
    grid = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    turned = to_input(grid, replace(CUBE, size=(2, 3, 4), axes="xyz", scale="none", clip_hu=(-1, 99)))
    assert turned.shape == (1, 4, 3, 2, 1)
    np.testing.assert_array_equal(turned[0, ..., 0], grid[0].transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("axes", "channel"), [("yx", "last"), ("xy", "last"), ("yx", "first"), ("xy", "first")]
)
def test_the_mask_comes_back_on_the_volumes_own_grid(axes: str, channel: Any) -> None:
    phantom = make_phantom(seed=6, shape=(9, 128, 128), noise_hu=0)
    card = replace(MASK, axes=axes, channel=channel)
    model = Fake(lambda x: (x < 0.5).astype(np.float32))
    got = segment(phantom.volume(), model, card, batch=4)
    np.testing.assert_array_equal(got, phantom.hu < -300)
    shape = (128, 128, 1) if channel == "last" else (1, 128, 128)
    assert model.shapes == [(4, *shape), (4, *shape), (1, *shape)]


def test_other_slice_sizes_are_resized_both_ways() -> None:
    phantom = make_phantom(seed=6, shape=(5, 160, 200), noise_hu=0, n_nodules=0)
    got = segment(phantom.volume(), Fake(lambda x: (x < 0.5).astype(np.float32)), MASK)
    assert got.shape == phantom.hu.shape and got.dtype == bool
    assert dice(got, phantom.hu < -300) > 0.97


def test_probabilities_do_not_depend_on_the_batch() -> None:
    volume = make_phantom(seed=6, shape=(7, 40, 40)).volume()
    model = Fake(lambda x: x * np.float32(0.7))
    one, many = (probabilities(volume, model, MASK, batch=n).array for n in (1, 5))
    np.testing.assert_array_equal(one, many)


def test_several_channels_and_dicts_of_outputs() -> None:
    volume = make_phantom(seed=6, shape=(3, 128, 128), noise_hu=0).volume()
    second = replace(MASK, outputs=(replace(MASK.outputs[0], element=1, index=0),))
    stacked = Fake(lambda x: np.concatenate([x * 0, (x < 0.5).astype(np.float32)], -1))
    np.testing.assert_array_equal(segment(volume, stacked, second), volume.array < -300)
    named = Fake(lambda x: {"other": x * 0, "lungs": (x < 0.5).astype(np.float32)})
    np.testing.assert_array_equal(segment(volume, named, MASK), volume.array < -300)
    flat = Fake(lambda x: (x < 0.5).astype(np.float32)[..., 0])
    np.testing.assert_array_equal(segment(volume, flat, MASK), volume.array < -300)


def test_outputs_that_the_card_does_not_fit_are_refused() -> None:
    volume = make_phantom(seed=6, shape=(3, 32, 32)).volume()
    with pytest.raises(ModelError, match="from the card"):
        segment(volume, Fake(lambda x: x[:, ::2, ::2]), MASK)
    wrong = replace(CUBE, outputs=(replace(CUBE.outputs[0], index=3),))
    with pytest.raises(ModelError, match="2 outputs"):
        score(volume, Fake(lambda x: [x[:, 0, 0, 0], x[:, 0, 0, 0]]), wrong, [(0, 0, 0)])
    wrong = replace(CUBE, outputs=(replace(CUBE.outputs[0], element=3),))
    with pytest.raises(ModelError, match="element 3"):
        score(volume, Fake(lambda x: x[:, 0, 0, 0]), wrong, [(0, 0, 0)])
    with pytest.raises(ModelError, match="one number"):
        score(volume, Fake(lambda x: x), CUBE, [(0, 0, 0)])
    with pytest.raises(ArgumentError, match="score3d"):
        segment(volume, Fake(lambda x: x), CUBE)
    with pytest.raises(ArgumentError, match="mask2d"):
        score(volume, Fake(lambda x: x), MASK, [(0, 0, 0)])


def test_scores_tell_nodules_from_none() -> None:
    phantom = make_phantom(seed=8, noise_hu=5)
    # Brightness of the middle 6 mm: what the simplest detector would use.
    model = Fake(lambda x: x[:, 14:18, 14:18, 14:18, 0].mean((1, 2, 3))[:, None])
    places = [n.centre_mm for n in phantom.nodules] + list(phantom.nodule_free)
    scores = [s["nodule"] for s in score(phantom.volume(), model, CUBE, places, batch=4)]
    n = len(phantom.nodules)
    assert min(scores[:n]) > 0.5 > max(scores[n:])
    assert [s[0] for s in model.shapes] == [4, 2]
    assert score(phantom.volume(), model, CUBE, []) == []


def test_several_outputs_by_index_and_element() -> None:
    volume = make_phantom(seed=8, shape=(8, 32, 32)).volume()
    outputs = tuple(
        replace(CUBE.outputs[0], name=n, index=i, element=e)
        for n, i, e in (("a", 0, 0), ("b", 1, 2), ("c", 1, 0))
    )
    model = Fake(lambda x: [np.full((len(x), 1), 7.0), np.tile([1.0, 2.0, 3.0], (len(x), 1))])
    for channel in ("first", "last"):
        card = replace(CUBE, outputs=outputs, channel=channel)
        assert score(volume, model, card, [(0, 0, 0)]) == [{"a": 7.0, "b": 3.0, "c": 1.0}]


def test_cubes_are_only_cut_at_the_cards_spacing() -> None:
    volume = make_phantom(seed=8, shape=(8, 32, 32)).volume()
    assert CUBE.spacing_mm is not None
    assert cube_inputs(resample(volume, CUBE.spacing_mm), CUBE, [(0, 0, 0)]).shape == (1, 32, 32, 32, 1)
    with pytest.raises(ArgumentError, match="spacing"):
        cube_inputs(volume, CUBE, [(0, 0, 0)])
    assert slice_inputs(volume.array, MASK).shape == (8, 128, 128, 1)


def test_results_are_json_and_hold_the_truth(tmp_path: Path) -> None:
    phantom = make_phantom(seed=8, shape=(12, 64, 64), n_nodules=1)
    write_series(phantom, tmp_path / "series")
    series = read_series(tmp_path / "series")
    volume = hu_volume(series)
    result = mask_result(series, volume, MASK, phantom.lungs)
    got = json.loads(write_json(tmp_path / "out" / "mask.json", result).read_text())
    voxel = 2.5 * (360 / 64) ** 2 / 1000
    assert got["mask"]["volume_ml"] == pytest.approx(phantom.lungs.sum() * voxel, abs=0.1)
    assert got["schema"] == "convcore.ct/1" and got["series"]["slices"] == 12
    assert [s["file"] for s in got["mask"]["slices"]] == [s.name for s in series.slices]
    assert got["mask"]["slices"][5]["fraction"] == pytest.approx(phantom.lungs[5].mean(), abs=1e-6)
    places = [n.centre_mm for n in phantom.nodules]
    scores = score_result(series, volume, CUBE, places, [{"nodule": 0.75}])
    got = json.loads(write_json(tmp_path / "score.json", scores).read_text())
    assert got["places"][0]["outputs"]["nodule"]["positive"] is True
    np.testing.assert_allclose(got["places"][0]["place_mm"], places[0], atol=1e-3)
    assert "phantom-8" not in json.dumps(got) and str(tmp_path) not in json.dumps(got)


def test_dice() -> None:
    a = np.array([1, 1, 0, 0], bool)
    assert (
        dice(a, a) == 1 and dice(a, ~a) == 0 and dice(a, np.array([1, 0, 0, 0], bool)) == pytest.approx(2 / 3)
    )
    assert dice(a & ~a, a & ~a) == 1


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.json"
    write_json(target, {"value": np.float32(1.5), "list": np.arange(3), "text": "Lunge \u2713"})
    before = target.read_bytes()
    assert json.loads(before) == {"value": 1.5, "list": [0, 1, 2], "text": "Lunge \u2713"}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        write_json(target, {"value": 2})
    monkeypatch.undo()
    assert target.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["result.json"]
    with pytest.raises(ArgumentError, match="JSON"):
        write_json(target, {"value": float("nan")})
    with pytest.raises(ArgumentError, match="JSON"):
        write_json(target, {"value": object()})
    (tmp_path / "plain").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path / "plain" / "x.json", {})
    mask = np.eye(3, dtype=bool)
    np.testing.assert_array_equal(np.load(write_npy(tmp_path / "m.npy", mask)), mask)


def test_pictures(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="drawing needs the extra app")
    phantom = make_phantom(seed=8, shape=(16, 64, 64), n_nodules=1)
    volume = phantom.volume()
    nodule = phantom.nodules[0]
    mark = Mark(nodule.centre_mm, nodule.diameter_mm, "0.98")
    k = round(float(volume.to_voxel(nodule.centre_mm)[0]))
    plain, marked = overlay_slice(volume, k), overlay_slice(volume, k, phantom.lungs, [mark])
    assert plain.shape == (512, 512, 3) and plain.dtype == np.uint8
    assert np.array_equal(plain[150, :, 0], plain[150, :, 2]), "grey without an overlay"
    row, column = ((np.array(volume.to_voxel(nodule.centre_mm)[1:]) + 0.5) * 8 - 0.5).round().astype(int)
    radius = round(nodule.diameter_mm / 2 / volume.spacing[1] * 8 + 6)
    orange = (marked[row - radius - 3 : row + radius + 3, column].astype(int) @ [1, 0, -1]).max()
    assert orange > 150, "the circle is where the nodule is"
    path = write_png(
        tmp_path / "m.png", montage(volume, phantom.lungs, [mark], title="t", count=4, columns=2)
    )
    back = cv2.imread(str(path))
    assert back.shape == (48 + 2 * 400 + 4, 2 * 400 + 4, 3)
    with pytest.raises(ArgumentError, match="index"):
        overlay_slice(volume, 16)
    with pytest.raises(ArgumentError, match="mask"):
        overlay_slice(volume, 0, phantom.lungs[1:])
    with pytest.raises(ArgumentError, match="write_png"):
        write_png(tmp_path / "x.png", np.zeros((4, 4)))  # type: ignore[arg-type]


def test_a_long_title_leaves_the_legend_readable() -> None:
    phantom = make_phantom(3, shape=(4, 64, 64))
    mark = Mark((0.0, 0.0, 0.0), 20.0, "m", finding=True)

    def header(title: str) -> np.ndarray:
        sheet = montage(phantom.volume(), None, [mark], title=title, count=1, size=300)
        return sheet[:48, -90:]

    assert np.array_equal(header("t"), header("a title that is far too long for a picture of one slice"))


def test_slices_are_chosen_through_the_marks_and_spread() -> None:
    volume = Volume(np.zeros((30, 8, 8), np.float32), (1.0, 1.0, 1.0))
    mask = np.zeros(volume.shape, bool)
    mask[5:26] = True
    chosen = choose_slices(volume, 5, mask, [Mark((0, 0, 7), 3)])
    assert len(chosen) == 5 and 7 in chosen and chosen == sorted(set(chosen))
    assert min(chosen) >= 5 and max(chosen) <= 25 and max(np.diff(chosen)) <= 9
    assert choose_slices(volume, 50) == list(range(30))
    assert choose_slices(Volume(volume.array[:1], (1.0, 1.0, 1.0)), 6) == [0]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    from convcore.errors import MissingExtraError

    phantom = make_phantom(shape=(2, 16, 16), n_nodules=0)
    for name in ("pydicom", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r'pydicom.*pip install "convcore\[app\]"'):
        write_series(phantom, tmp_path)
    with pytest.raises(MissingExtraError, match=r'OpenCV.*pip install "convcore\[app\]"'):
        montage(phantom.volume())


def test_importing_costs_no_optional_package() -> None:
    import subprocess
    import sys

    code = "import sys, convcore.medical; print([m for m in ('pydicom', 'cv2', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("place", [(500.0, 10.0, 20.0), (10.0, 10.0, -2.0)])
def test_a_place_outside_is_told_in_the_volumes_own_voxels(place: tuple[float, float, float]) -> None:
    # Slices 5 mm apart: z = -2 mm is the outer half of the first one, which the cube's finer grid lacks.
    volume = Volume(np.zeros((9, 30, 40), np.float32), (5.0, 0.7, 0.7))
    voxel = ", ".join(f"{round(v / s, 2):g}" for v, s in zip(place, (0.7, 0.7, 5.0), strict=True))
    with pytest.raises(ArgumentError, match=rf"score: .* {voxel} \(.* voxels 0 to 39, 0 to 29, 0 to 8"):
        score(volume, Fake(lambda x: np.zeros((len(x), 1))), CUBE, [place])
