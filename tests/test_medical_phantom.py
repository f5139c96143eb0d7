"""The phantom keeps its word: truth, seeds, DICOM bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convcore.errors import ArgumentError, InputError
from convcore.medical import Phantom, cube, make_phantom, resample, write_series


@pytest.fixture(scope="module", params=[0, 1, 2, 3])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return make_phantom(seed=request.param, shape=(40, 96, 96))


def test_the_lungs_are_dark_and_a_plausible_part(phantom: Phantom) -> None:
    inside = phantom.hu[phantom.lungs]
    assert -860 < np.median(inside) < -780
    assert 0.08 < phantom.lungs.mean() < 0.3
    left = phantom.lungs[:, :, 48:].sum() / phantom.lungs.sum()
    assert 0.3 < left < 0.7


def test_the_body_holds_fat_muscle_and_bone(phantom: Phantom) -> None:
    middle = phantom.hu[:, 10:86, 10:86]
    for low, high in ((-150, -50), (20, 90), (250, 900)):
        assert np.mean((middle >= low) & (middle <= high)) > 0.01


def test_nodules_are_where_the_truth_says(phantom: Phantom) -> None:
    assert phantom.nodules and len(phantom.nodule_free) == len(phantom.nodules)
    fine = resample(phantom.volume(), (1, 1, 1))
    for nodule in phantom.nodules:
        core = cube(fine, nodule.centre_mm, (3, 3, 3))
        assert core.mean() > -350, "soft tissue in the middle"
        k, j, i = np.rint(phantom.volume().to_voxel(nodule.centre_mm)).astype(int)
        assert phantom.lungs[k, j, i]
        assert 9 <= nodule.diameter_mm <= 22
    for place in phantom.nodule_free:
        k, j, i = np.rint(phantom.volume().to_voxel(place)).astype(int)
        assert phantom.lungs[k, j, i]
        for nodule in phantom.nodules:
            gap = np.linalg.norm(np.subtract(place, nodule.centre_mm))
            assert gap > nodule.diameter_mm / 2 + 26


def test_the_middle_of_a_nodule_free_place_is_darker(phantom: Phantom) -> None:
    volume = resample(phantom.volume(), (1.5, 1.5, 1.5))
    with_nodule = [cube(volume, n.centre_mm, (4, 4, 4)).mean() for n in phantom.nodules]
    without = [cube(volume, p, (4, 4, 4)).mean() for p in phantom.nodule_free]
    assert min(with_nodule) > max(without)


def test_the_outside_of_the_scan_circle_is_padding(phantom: Phantom) -> None:
    assert np.all(phantom.hu[:, phantom.outside] == -1000)
    assert 0.15 < phantom.outside.mean() < 0.25  # 1 - pi / 4


def test_a_seed_gives_one_phantom_and_another_seed_another() -> None:
    a, b, c = (make_phantom(seed=s, shape=(6, 32, 32)) for s in (5, 5, 6))
    assert np.array_equal(a.hu, b.hu) and a.nodules == b.nodules
    assert not np.array_equal(a.hu, c.hu)


def test_equal_phantoms_are_equal_files_with_valid_names(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    phantom = make_phantom(seed=5, shape=(6, 32, 32))
    first, second = (write_series(phantom, tmp_path / name) for name in ("a", "b"))
    assert [f.name for f in first] == [f.name for f in second]
    assert all(f.read_bytes() == g.read_bytes() for f, g in zip(first, second, strict=True))
    headers = [pydicom.dcmread(f) for f in first]
    assert len({h.SOPInstanceUID for h in headers}) == 6 and len({h.SeriesInstanceUID for h in headers}) == 1
    numbers = [int(h.InstanceNumber) for h in headers]
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6] and numbers != sorted(numbers)
    assert headers[0].file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert headers[0].pixel_array.min() == -2000 == headers[0].PixelPaddingValue


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (1, 8, 8)},
        {"slice_step": 0},
        {"n_nodules": -1},
        {"diameters": (9, 4)},
        {"diameters": (0, 4)},
    ],
)
def test_impossible_phantoms_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match="make_phantom"):
        make_phantom(**options)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_series(make_phantom(shape=(2, 16, 16), n_nodules=0), tmp_path / "file")
