"""DICOM folders -> series: order, geometry, stored values, and everything that is refused."""

from __future__ import annotations

import os
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.errors import SeriesError
from convcore.medical import Phantom, make_phantom, read_series, write_series

from .permissions import forbid

pydicom = pytest.importorskip("pydicom", reason="reading DICOM needs the extra app")

SECRET = "SECRET^NAME"


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(seed=4, shape=(7, 24, 20), n_nodules=0)


@pytest.fixture
def folder(phantom: Phantom, tmp_path: Path) -> Path:
    write_series(phantom, tmp_path / "series")
    return tmp_path / "series"


def in_order(folder: Path) -> list[Path]:
    """The slices of the folder from the feet to the head, by a way that shares nothing with the reader."""
    return sorted(folder.glob("*.dcm"), key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2]))


def change(file: Path, edit: Callable[[Any], object]) -> None:
    dataset = pydicom.dcmread(file)
    edit(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(file)


def setting(**attributes: object) -> Callable[[Any], object]:
    def edit(dataset: Any) -> None:
        with warnings.catch_warnings():
            # Some values are wrong on purpose, and pydicom says so.
            warnings.simplefilter("ignore")
            for name, value in attributes.items():
                if value is None:
                    del dataset[name]
                else:
                    setattr(dataset, name, value)

    return edit


def refused(folder: Path, *mentioned: str, **options: Any) -> str:
    with pytest.raises(SeriesError) as caught:
        read_series(folder, **options).pixels()
    message = str(caught.value)
    for word in mentioned:
        assert word in message
    assert SECRET not in message
    return message


def test_phantom_comes_back_in_order(phantom: Phantom, folder: Path) -> None:
    series = read_series(folder)
    assert series.shape == phantom.hu.shape
    assert series.grid == tuple(range(7))
    assert series.missing == ()
    assert [s.path for s in series.slices] == in_order(folder)
    names = [s.name for s in series.slices]
    assert names != sorted(names), "the phantom's file names are meant to be shuffled"
    expected = phantom.hu.astype(np.int16) + 1024
    expected[:, phantom.outside] = -2000
    pixels = series.pixels()
    assert pixels.dtype == np.int16
    np.testing.assert_array_equal(pixels, expected)


def test_geometry_comes_from_the_positions(phantom: Phantom, folder: Path) -> None:
    series = read_series(folder)
    assert pydicom.dcmread(in_order(folder)[0]).SliceThickness != series.spacing[0]
    # Written with five decimals.
    np.testing.assert_allclose(series.spacing, phantom.spacing, rtol=0, atol=1e-5)
    np.testing.assert_allclose(series.origin, phantom.origin, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(series.direction, [[0, 0, 1], [0, 1, 0], [1, 0, 0]])


def test_a_list_of_files_is_a_series_too(folder: Path) -> None:
    assert len(read_series(sorted(folder.iterdir())).slices) == 7


def test_subfolders_are_searched(folder: Path) -> None:
    (folder / "deeper").mkdir()
    in_order(folder)[2].rename(folder / "deeper" / "x.dcm")
    assert read_series(folder).shape[0] == 7


def test_descending_and_coronal_stacks_run_along_their_normal(folder: Path) -> None:
    # Row direction +x, column direction -z: a coronal stack, whose normal is +y.
    for k, file in enumerate(in_order(folder)):
        position = [0.0, 50 - 3.0 * k, 100.0]
        change(file, setting(ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=position))
    series = read_series(folder)
    assert series.spacing[0] == pytest.approx(3.0)
    np.testing.assert_array_equal(series.direction, [[0, 1, 0], [0, 0, -1], [1, 0, 0]])
    assert [s.position[1] for s in series.slices] == sorted(s.position[1] for s in series.slices)


def test_positions_with_few_digits_are_even(folder: Path) -> None:
    for k, file in enumerate(in_order(folder)):
        change(file, setting(ImagePositionPatient=[0, 0, round(0.625 * k, 2)]))
    assert read_series(folder).spacing[0] == pytest.approx(0.625, abs=0.01 / 6)


def test_other_files_are_ignored_and_counted(folder: Path) -> None:
    (folder / "reading.xml").write_text("<LidcReadMessage/>")
    (folder / ".DS_Store").write_bytes(b"")
    assert sorted(read_series(folder).ignored) == [".DS_Store", "reading.xml"]


def test_a_dicomdir_is_an_index_and_no_slice(folder: Path) -> None:
    source = in_order(folder)[0]
    shutil.copy(source, folder / "DICOMDIR")
    change(
        folder / "DICOMDIR", lambda d: setattr(d.file_meta, "MediaStorageSOPClassUID", "1.2.840.10008.1.3.10")
    )
    assert read_series(folder).ignored == ("DICOMDIR",)


def test_mixed_series_are_refused_unless_one_is_named(folder: Path) -> None:
    shutil.copy(in_order(folder)[0], folder / "other.dcm")
    change(folder / "other.dcm", setting(SeriesInstanceUID="1.2.3.4"))
    uid = str(pydicom.dcmread(in_order(folder)[0]).SeriesInstanceUID)
    right = [str(pydicom.dcmread(f).SeriesInstanceUID) for f in folder.iterdir()]
    right.remove("1.2.3.4")
    refused(folder, "2 series", "1.2.3.4", right[0])
    assert read_series(folder, series_uid=right[0]).shape[0] == 7
    refused(folder, "holds no series 9.9", series_uid="9.9")
    assert uid in right or uid == "1.2.3.4"


def test_a_broken_neighbour_series_does_not_matter_once_one_is_named(folder: Path) -> None:
    first = in_order(folder)[0]
    uid = str(pydicom.dcmread(first).SeriesInstanceUID)
    shutil.copy(first, folder / "report.dcm")
    change(folder / "report.dcm", setting(SeriesInstanceUID="1.2.3.4", Modality="SR", Rows=None))
    assert read_series(folder, series_uid=uid).shape[0] == 7
    refused(folder, "report.dcm", "Modality SR", series_uid="1.2.3.4")


def test_a_missing_slice_is_refused_and_its_neighbours_named(folder: Path) -> None:
    files = in_order(folder)
    files[3].unlink()
    refused(folder, "1 slice is missing", files[2].name, files[4].name)
    series = read_series(folder, allow_gaps=True)
    assert series.missing == (3,)
    assert series.grid == (0, 1, 2, 4, 5, 6)
    assert series.shape[0] == 7
    assert series.spacing[0] == pytest.approx(2.5, abs=1e-5)


def test_several_missing_slices_are_counted(folder: Path) -> None:
    files = in_order(folder)
    files[1].unlink()
    files[4].unlink()
    files[5].unlink()
    refused(folder, "3 slices are missing", files[0].name, files[6].name)


def test_one_pair_closer_than_the_rest_is_no_grid_full_of_holes(folder: Path) -> None:
    files = in_order(folder)
    position = [float(v) for v in pydicom.dcmread(files[3]).ImagePositionPatient]
    change(files[3], setting(ImagePositionPatient=[*position[:2], position[2] + 2.25]))
    refused(folder, "unevenly spaced", files[3].name, files[4].name)
    refused(folder, "unevenly spaced", files[3].name, allow_gaps=True)


@pytest.mark.parametrize(("shift", "word"), [(0.8, "unevenly spaced"), (-2.5, "same position")])
def test_uneven_and_doubled_slices_are_refused(folder: Path, shift: float, word: str) -> None:
    files = in_order(folder)
    position = [float(v) for v in pydicom.dcmread(files[3]).ImagePositionPatient]
    change(files[3], setting(ImagePositionPatient=[*position[:2], position[2] + shift]))
    refused(folder, word, files[3].name)
    refused(folder, word, files[3].name, allow_gaps=True)


def test_gantry_tilt_is_refused(folder: Path) -> None:
    for k, file in enumerate(in_order(folder)):
        change(file, setting(ImagePositionPatient=[0, 2.5 * k * np.tan(np.radians(10)), 2.5 * k]))
    assert "10.00 degrees" in refused(folder, "gantry tilt")


def test_one_slice_is_no_volume(folder: Path) -> None:
    for file in in_order(folder)[1:]:
        file.unlink()
    refused(folder, "one slice alone")


@pytest.mark.parametrize(
    ("attributes", "mentioned"),
    [
        ({"PixelSpacing": [2.0, 2.0]}, "PixelSpacing"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": None}, "ImageOrientationPatient"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
        ({"PixelSpacing": None}, "PixelSpacing"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing"),
        ({"RescaleSlope": None}, "RescaleSlope"),
        ({"RescaleSlope": 0}, "RescaleSlope"),
        ({"RescaleIntercept": None}, "RescaleIntercept"),
        ({"RescaleType": "OD"}, "RescaleType"),
        ({"Modality": "MR"}, "Modality MR"),
        ({"Modality": SECRET}, "no CT image"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
        ({"PhotometricInterpretation": SECRET}, "PhotometricInterpretation"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel"),
        ({"NumberOfFrames": 2}, "NumberOfFrames"),
        ({"PixelRepresentation": 0}, "PixelRepresentation"),
        ({"FrameOfReferenceUID": "1.2.9"}, "FrameOfReferenceUID"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "BitsAllocated"),
        ({"HighBit": 11}, "packed"),
        ({"Rows": 30000}, "Rows"),
        ({"SeriesInstanceUID": None}, "SeriesInstanceUID"),
        ({"PixelData": None}, "no pixel data"),
    ],
)
def test_a_bad_slice_is_refused_by_name(folder: Path, attributes: dict[str, object], mentioned: str) -> None:
    odd = in_order(folder)[3]
    change(odd, setting(PatientName=SECRET, **attributes))
    refused(folder, odd.name, mentioned)


def test_a_slice_of_another_size_is_refused(folder: Path) -> None:
    odd = in_order(folder)[2]
    change(odd, setting(Rows=20, Columns=24))
    refused(folder, odd.name, "Rows, Columns")


@pytest.mark.parametrize("keep", [0, 60, 140, 400, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_name(folder: Path, keep: float) -> None:
    odd = in_order(folder)[5]
    whole = odd.read_bytes()
    odd.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    refused(folder, odd.name)


def test_a_text_file_called_dcm_is_refused(folder: Path) -> None:
    (folder / "note.dcm").write_text("this is no DICOM file, however long it goes on" * 10)
    refused(folder, "note.dcm", "no DICOM mark")


def test_a_data_set_without_preamble_is_refused_and_not_ignored(folder: Path) -> None:
    odd = in_order(folder)[0]
    (folder / "IM9999").write_bytes(odd.read_bytes()[132:])
    refused(folder, "IM9999")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_refused_and_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "slice.dcm")
    refused(folder, "slice.dcm", "no regular file")


def test_a_declared_length_beyond_the_file_takes_no_memory(folder: Path) -> None:
    import tracemalloc

    odd = in_order(folder)[1]
    data = odd.read_bytes()
    # A private element in group 0009 that says it is 4 GB long, in place of the pixels.
    at = data.index(struct.pack("<HH", 0x7FE0, 0x0010))
    odd.write_bytes(data[:at] + struct.pack("<HH2sHI", 0x0029, 0x1010, b"OB", 0, 0xFFFFFFF0))
    tracemalloc.start()
    refused(folder, odd.name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_deflated_data_set_is_refused(folder: Path) -> None:
    odd = in_order(folder)[1]
    change(odd, lambda d: setattr(d.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.1.99"))
    refused(folder, odd.name, "deflated")


def test_deeply_nested_sequences_are_refused(folder: Path) -> None:
    odd = in_order(folder)[1]
    data = odd.read_bytes()
    at = data.index(struct.pack("<HH", 0x7FE0, 0x0010))
    nested = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    odd.write_bytes(data[:at] + nested * 5000)
    refused(folder, odd.name)


def test_warnings_of_pydicom_are_counted_and_not_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    odd = in_order(folder)[0]
    data = odd.read_bytes()
    # An invalid integer string, of the kind that pydicom quotes in its warning.
    name = struct.pack("<HH2sH", 0x0020, 0x0013, b"IS", 2)
    at = data.index(name) + len(name)
    odd.write_bytes(data[:at] + b"1A" + data[at + 2 :])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_series(folder)
    captured = capsys.readouterr()
    assert not captured.out and not captured.err and not caplog.records


def test_no_folder_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no folder")
    refused(tmp_path, "no DICOM image")


@pytest.mark.parametrize(
    ("signed", "stored", "raw", "expected"),
    [
        (True, 12, 0xF830, -2000),
        (True, 12, 0x07FF, 2047),
        (True, 12, 0x0FFF, -1),
        (False, 12, 0xF123, 0x123),
        (False, 16, 0xFFFF, 65535),
        (True, 16, 0x8000, -32768),
    ],
)
def test_stored_bits_are_masked_and_signed(
    folder: Path, signed: bool, stored: int, raw: int, expected: int
) -> None:
    for file in in_order(folder):
        pixels = np.full((24, 20), raw, "<u2").tobytes()
        change(
            file,
            setting(
                PixelRepresentation=int(signed),
                BitsStored=stored,
                HighBit=stored - 1,
                PixelData=pixels,
                PixelPaddingValue=None,
            ),
        )
    pixels = read_series(folder).pixels()
    assert pixels.dtype == (np.int16 if signed else np.uint16)
    assert np.all(pixels == expected)


def test_eight_bit_slices_become_sixteen(folder: Path) -> None:
    for file in in_order(folder):
        change(
            file,
            setting(
                BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=1, PixelPaddingValue=None,
                PixelData=np.full((24, 20), -5, np.int8).tobytes(),
            ),
        )  # fmt: skip
    pixels = read_series(folder).pixels()
    assert pixels.dtype == np.int16 and np.all(pixels == -5)


@pytest.mark.parametrize(("vr", "written", "signed", "expected"), [
    ("US", 63536, True, -2000),
    ("SS", -2000, True, -2000),
    ("SS", -2000, False, 63536),
    ("US", 63536, False, 63536),
])  # fmt: skip
def test_padding_is_read_in_the_pixels_own_representation(
    folder: Path, vr: str, written: int, signed: bool, expected: int
) -> None:
    def edit(dataset: Any) -> None:
        del dataset.PixelPaddingValue
        dataset.add_new("PixelPaddingValue", vr, written)
        dataset.PixelRepresentation = int(signed)

    for file in in_order(folder):
        change(file, edit)
    assert read_series(folder).padding_values == (expected,) * 7


def test_padding_is_minus_2000_where_the_file_names_none(folder: Path) -> None:
    for file in in_order(folder):
        change(file, setting(PixelPaddingValue=None))
    assert read_series(folder).padding_values == (-2000,) * 7


def test_padding_above_the_stored_bits_is_found_before_masking(folder: Path) -> None:
    def edit(dataset: Any) -> None:
        pixels = np.full((24, 20), 1000, "<u2")
        pixels[0] = 63536
        dataset.PixelData = pixels.tobytes()
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
        dataset.add_new("PixelPaddingValue", "US", 63536)

    for file in in_order(folder):
        change(file, edit)
    pixels = read_series(folder).pixels()
    assert np.all(pixels[:, 0] == 63536) and np.all(pixels[:, 1:] == 1000)


def test_a_padding_range_becomes_the_padding_value(folder: Path) -> None:
    def edit(dataset: Any) -> None:
        dataset.PixelData = np.repeat(np.arange(-2010, -1986, dtype="<i2"), 20).tobytes()
        dataset.add_new("PixelPaddingRangeLimit", "SS", -2005)

    for file in in_order(folder):
        change(file, edit)
    rows = read_series(folder).pixels()[0, :, 0]
    assert rows.tolist() == [*range(-2010, -2005), *[-2000] * 6, *range(-1999, -1986)]


def test_compressed_slices_are_decoded(folder: Path, phantom: Phantom) -> None:
    for file in in_order(folder):
        change(file, lambda d: d.compress(pydicom.uid.RLELossless))
    expected = phantom.hu + np.int16(1024)
    expected[:, phantom.outside] = -2000
    np.testing.assert_array_equal(read_series(folder).pixels(), expected)


def test_a_compression_without_decoder_is_refused_with_the_remedy(folder: Path) -> None:
    for file in in_order(folder):
        change(file, lambda d: d.compress(pydicom.uid.RLELossless))
        change(file, lambda d: setattr(d.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.4.100"))
    refused(folder, "compression", "MPEG2")


def test_lidc_series(data_dir: Path) -> None:
    series = read_series(data_dir / "dicom" / "lidc-idri-0001")
    assert series.shape == (32, 512, 512)
    assert series.spacing == pytest.approx((2.5, 0.703125, 0.703125))
    assert series.origin[2] == pytest.approx(-155.0)
    assert series.slices[-1].position[2] == pytest.approx(-77.5)
    assert series.ignored == ("069.xml",)
    names = [s.name for s in series.slices]
    assert names != sorted(names)
    assert set(series.padding_values) == {-2000}
    pixels = series.pixels()
    assert pixels.dtype == np.int16 and pixels.min() == -1024


def test_rider_series_overlaps_and_is_fine(data_dir: Path) -> None:
    series = read_series(data_dir / "dicom" / "rider-pilot-0117")
    assert series.shape == (30, 512, 512)
    assert series.spacing == pytest.approx((0.8, 0.644531, 0.644531), abs=1e-5)
    assert set(series.padding_values) == {-2000}
    assert np.all(series.pixels().min(axis=(1, 2)) == -2000)


def test_real_series_with_a_slice_taken_out(data_dir: Path) -> None:
    files = sorted((data_dir / "dicom" / "lidc-idri-0001").glob("*.dcm"))
    series = read_series(files)
    inner = series.slices[10].path
    with pytest.raises(SeriesError, match="1 slice is missing") as caught:
        read_series([f for f in files if f != inner])
    assert series.slices[9].name in str(caught.value) and series.slices[11].name in str(caught.value)


def test_two_real_series_are_not_mixed(data_dir: Path) -> None:
    with pytest.raises(SeriesError, match="holds 2 series"):
        read_series(sorted((data_dir / "dicom").glob("*-0[01]*/*.dcm")))


@pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm", "693_J2KR.dcm", "693_UNCR.dcm"])
def test_single_real_slices_decode_like_pydicom(data_dir: Path, name: str) -> None:
    from convcore.medical.dicom_file import SliceHeader, read_header, read_pixels

    header = read_header(data_dir / "dicom" / "pydicom" / name)
    assert isinstance(header, SliceHeader)
    expected = pydicom.dcmread(header.path).pixel_array
    got = read_pixels(header)
    shown = got != header.padding_value
    np.testing.assert_array_equal(got[shown], expected[shown])


def test_every_other_real_file_is_refused_cleanly(data_dir: Path) -> None:
    kinds = set()
    for file in sorted((data_dir / "dicom" / "pydicom").glob("*.dcm")):
        with pytest.raises(SeriesError) as caught:
            read_series([file, file]).pixels()
        kinds.add(type(caught.value).__name__)
    assert kinds == {"SeriesError"}


def test_a_folder_that_may_not_be_read_is_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half").mkdir()
    write_series(make_phantom(seed=3, shape=(4, 32, 32), n_nodules=0), tmp_path)
    forbid(tmp_path / "half", monkeypatch)
    with pytest.raises(SeriesError, match="half: cannot be read: Permission denied"):
        read_series(tmp_path)
