"""HU, resampling, cutting out and coordinates of CT volumes, on phantoms and on real series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.errors import ArgumentError, ConvcoreError
from convcore.medical import (
    Volume,
    cube,
    hu_concerns,
    hu_volume,
    make_phantom,
    parse_place,
    read_series,
    resample,
    write_series,
)

EPS = float(np.finfo(np.float32).eps)


def ramp(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    """A volume whose value is a linear function of the place, so linear interpolation is exact on it."""
    volume = Volume(np.zeros(shape, np.float32), spacing, (-40.0, 25.0, -310.0))
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    places = volume.to_mm(np.stack([z, y, x], -1))
    return replace(volume, array=linear(places).astype(np.float32))


def linear(places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(places @ np.array([1.5, -2.0, 0.75]) + 4)


def bound(volume: Volume) -> float:
    """Rounding of a trilinear interpolation: seven lerps in float32 of values up to the largest."""
    return 16 * EPS * float(np.abs(volume.array).max())


def test_phantom_goes_through_dicom_unchanged(tmp_path: Path) -> None:
    phantom = make_phantom(seed=9, shape=(10, 48, 40))
    write_series(phantom, tmp_path)
    volume = hu_volume(read_series(tmp_path))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, phantom.hu)
    np.testing.assert_allclose(volume.spacing, phantom.spacing, rtol=0, atol=1e-5)
    assert phantom.outside.any() and np.all(volume.array[:, phantom.outside] == -1000)


def test_padding_becomes_what_the_card_says(tmp_path: Path) -> None:
    phantom = make_phantom(seed=9, shape=(4, 32, 32), n_nodules=0)
    write_series(phantom, tmp_path)
    volume = hu_volume(read_series(tmp_path), padding_to=-1024)
    assert np.all(volume.array[:, phantom.outside] == -1024)


def test_each_slice_has_its_own_slope_intercept_and_padding(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    phantom = make_phantom(seed=2, shape=(5, 24, 24), n_nodules=0)
    files = write_series(phantom, tmp_path)
    stored = phantom.hu.astype(np.int32) + 1024
    stored[:, phantom.outside] = -2000
    expected = np.empty(phantom.hu.shape)
    for k, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k / 4, -1000 - k
        padding = -2000 if k % 2 else int(stored[k, 12, 12])
        dataset.add_new("PixelPaddingValue", "SS", padding)
        dataset.save_as(file)
        expected[k] = np.where(stored[k] == padding, -1000, stored[k] * (0.5 + k / 4) - 1000 - k)
    got = hu_volume(read_series(tmp_path)).array
    # One multiplication and one addition in float32.
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * EPS * float(np.abs(expected).max() + 2000))


def test_gaps_are_interpolated_and_named(tmp_path: Path) -> None:
    phantom = make_phantom(seed=3, shape=(9, 24, 24), n_nodules=0)
    files = write_series(phantom, tmp_path)
    for k in (3, 4):
        files[k].unlink()
    series = read_series(tmp_path, allow_gaps=True)
    assert series.missing == (3, 4)
    volume = hu_volume(series)
    a, b = phantom.hu[2].astype(np.float64), phantom.hu[5].astype(np.float64)
    atol = 4 * EPS * 4096
    np.testing.assert_allclose(volume.array[3], a + (b - a) / 3, rtol=0, atol=atol)
    np.testing.assert_allclose(volume.array[4], a + (b - a) * 2 / 3, rtol=0, atol=atol)
    np.testing.assert_array_equal(volume.array[5:], phantom.hu[5:])


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2.5, 0.7, 0.7), (0.9, 1.3, 0.4), (7, 9, 8)])
def test_resampling_leaves_every_place_its_value(spacing: tuple[float, float, float]) -> None:
    before = ramp((9, 21, 17), (2.5, 0.7, 0.7))
    after = resample(before, spacing)
    # The outer voxel centres stay, so what is off is at most half a voxel over the whole axis.
    for n, exact, wanted in zip(after.shape, after.spacing, spacing, strict=True):
        assert n == 1 or abs(exact - wanted) * (n - 1) <= wanted / 2 + 1e-9
    z, y, x = np.meshgrid(*(np.arange(n) for n in after.shape), indexing="ij")
    expected = linear(after.to_mm(np.stack([z, y, x], -1)))
    np.testing.assert_allclose(after.array, expected, rtol=0, atol=bound(before))


def test_resampling_agrees_with_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    array = np.random.default_rng(0).normal(0, 500, (7, 12, 10)).astype(np.float32)
    after = resample(Volume(array, (2.5, 0.7, 0.7)), (1, 1, 1))
    factors = [n / o for n, o in zip(after.shape, array.shape, strict=True)]
    expected = ndimage.zoom(array.astype(np.float64), factors, order=1, mode="nearest")
    np.testing.assert_allclose(after.array, expected, rtol=0, atol=16 * EPS * float(np.abs(array).max()))


def test_the_cube_is_centred_where_it_should_be() -> None:
    volume = ramp((20, 30, 30), (1.0, 1.0, 1.0))
    centre = volume.to_mm((11.3, 14.8, 9.2))
    box = cube(volume, centre.tolist(), (8, 6, 4))
    np.testing.assert_array_equal(box, volume.array[7:15, 12:18, 7:11])
    assert box.flags.c_contiguous and box.dtype == np.float32


def test_what_lies_outside_is_air() -> None:
    volume = Volume(np.full((4, 5, 6), 40, np.float32), (1.0, 1.0, 1.0))
    box = cube(volume, (0, 0, 0), (6, 6, 6))
    assert np.all(box[3:, 3:, 3:] == 40)
    assert np.count_nonzero(box == 40) == 27 and np.count_nonzero(box == -1000) == 216 - 27


@pytest.mark.parametrize("place", [(-2, 0, 0), (0, 0, 9), (float("nan"), 0, 0)])
def test_a_place_outside_the_volume_is_refused(place: tuple[float, float, float]) -> None:
    with pytest.raises(ArgumentError, match="outside"):
        cube(Volume(np.zeros((4, 5, 6), np.float32), (1.0, 1.0, 1.0)), place, (2, 2, 2))


def test_coordinates_go_both_ways_on_an_oblique_grid() -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    direction = ((0.0, -s, c), (0.0, c, s), (1.0, 0.0, 0.0))
    volume = Volume(np.zeros((4, 5, 6), np.float32), (2.5, 0.7, 0.8), (10.0, -20.0, 30.0), direction)
    index = np.array([1.25, 3.5, 2.0])
    np.testing.assert_allclose(volume.to_voxel(volume.to_mm(index).tolist()), index, rtol=0, atol=1e-12)
    place = parse_place("2, 3.5, 1.25", volume)
    np.testing.assert_allclose(place, volume.to_mm(index), rtol=0, atol=1e-12)
    mixed = parse_place(f"2,3.5,{place[2]}mm", volume)
    np.testing.assert_allclose(mixed, place, rtol=0, atol=1e-9)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a,b,c", "1;2;3", "1,2,3cm", "1e999,2,3"])
def test_a_place_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="place"):
        parse_place(text, Volume(np.zeros((4, 5, 6), np.float32), (1.0, 1.0, 1.0)))


@pytest.mark.parametrize("spacing", [(1, 1), (0, 1, 1), (1, 1, float("nan"))])
def test_a_bad_spacing_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ConvcoreError, match="spacing"):
        resample(ramp((3, 3, 3), (1, 1, 1)), spacing)


def test_concerns_about_hu() -> None:
    phantom = make_phantom(seed=1, shape=(8, 48, 48))
    assert hu_concerns(phantom.volume()) == ()
    raw = replace(phantom.volume(), array=phantom.volume().array + 1024)
    assert any("air or lung" in c for c in hu_concerns(raw))
    assert len(hu_concerns(replace(raw, array=raw.array * 0 + 3000))) == 2


def test_lidc_in_hu(data_dir: Path) -> None:
    volume = hu_volume(read_series(data_dir / "dicom" / "lidc-idri-0001"))
    # The padding value named (63536, which is -2000) does not occur; outside the field the file holds -1024.
    assert volume.array.min() == -2048 and volume.array.max() == 3071
    assert hu_concerns(volume) == ()
    place = parse_place("317,364,-116mm", volume)
    np.testing.assert_allclose(volume.to_voxel(place.tolist())[::-1], (317, 364, 15.6), atol=1e-3)
    core = cube(volume, place.tolist(), (3, 9, 9))
    assert -100 < core.mean() < 150, "a solid nodule"
    even = resample(volume, (1, 1, 1))
    assert even.shape == (round(31 * 2.5) + 1, round(511 * 0.703125) + 1, round(511 * 0.703125) + 1)
    assert abs(cube(even, place.tolist(), (7, 7, 7)).mean() - core.mean()) < 60


def test_rider_padding_becomes_air(data_dir: Path) -> None:
    series = read_series(data_dir / "dicom" / "rider-pilot-0117")
    raw = series.pixels()
    volume = hu_volume(series)
    assert np.all(volume.array[raw == -2000] == -1000) and np.count_nonzero(raw == -2000) > 1_000_000
    assert volume.array.min() == -1024 and volume.array.max() == raw.max() - 1024
    np.testing.assert_array_equal(volume.array[raw != -2000], raw[raw != -2000].astype(np.float32) - 1024)
