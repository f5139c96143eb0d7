"""Pictures equal Keras's pixel for pixel; arrays, tables and labels are read, or refused by name."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convcore.errors import ArgumentError, InputError
from convcore.inputs import (
    find_pictures,
    fit_shape,
    preprocess,
    read_array,
    read_labels,
    read_picture,
    read_table,
    resize_picture,
)

from .judges import import_keras
from .permissions import forbid

cv2 = pytest.importorskip("cv2", reason="pictures are decoded by OpenCV")


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Something like a photograph: JPEG keeps it in several blocks of different detail."""
    y, x = np.mgrid[:height, :width]
    channels = [127 + 120 * np.sin(x / 9 + y / (7 + k)) for k in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> Path:
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


# ---- pictures against Pillow and Keras


def sizes(count: int) -> list[tuple[int, int, int, int]]:
    random = np.random.default_rng(1)
    fixed = [(1, 1, 7, 5), (224, 224, 224, 224), (375, 500, 224, 224), (7, 5, 1, 1), (299, 150, 150, 299)]
    return fixed + [tuple(int(n) for n in random.integers(1, 300, 4)) for _ in range(count)]  # type: ignore[misc]


def test_nearest_equals_pillow() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is the judge of resizing")
    for height, width, new_height, new_width in sizes(200):
        pixels = picture(height, width)
        right = image.fromarray(pixels).resize((new_width, new_height), image.Resampling.NEAREST)
        np.testing.assert_array_equal(resize_picture(pixels, (new_height, new_width)), np.asarray(right))


def test_bilinear_equals_pillow_along_each_axis() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is the judge of resizing")
    for height, width, new_height, new_width in sizes(100):
        pixels = picture(height, width)
        for size in ((height, new_width), (new_height, width)):
            right = image.fromarray(pixels).resize(size[::-1], image.Resampling.BILINEAR)
            np.testing.assert_array_equal(resize_picture(pixels, size, "bilinear"), np.asarray(right))


def test_bilinear_along_both_axes_is_pillows_but_for_the_order_of_rounding() -> None:
    # Two roundings to bytes in either order differ by at most one byte value.
    image = pytest.importorskip("PIL.Image", reason="Pillow is the judge of resizing")
    for height, width, new_height, new_width in sizes(60):
        pixels = picture(height, width)
        right = image.fromarray(pixels).resize((new_width, new_height), image.Resampling.BILINEAR)
        found = resize_picture(pixels, (new_height, new_width), "bilinear").astype(int)
        assert np.abs(found - np.asarray(right)).max() <= 1


def test_the_nearest_rule_by_hand() -> None:
    # Centres of 3 new pixels over 4 old ones: 2/3, 2, 10/3, so pixels 0, 2 and 3.
    row = np.array([[[0], [1], [2], [3]]], np.uint8)
    assert resize_picture(row, (1, 3)).ravel().tolist() == [0, 2, 3]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", [None, (31, 47)])
@pytest.mark.parametrize("channels", [1, 3])
def test_reading_equals_keras(
    tmp_path: Path, suffix: str, size: tuple[int, int] | None, channels: int
) -> None:
    keras = import_keras()
    pytest.importorskip("PIL", reason="keras.utils.load_img needs Pillow")
    path = write_picture(tmp_path / f"p{suffix}", smooth_picture(90, 120))
    mode = "grayscale" if channels == 1 else "rgb"
    right = keras.utils.img_to_array(keras.utils.load_img(path, color_mode=mode, target_size=size))
    found = read_picture(path, size, channels=channels)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, right)


def test_reading_equals_keras_on_photographs(data_dir: Path) -> None:
    keras = import_keras()
    for name in ("chelsea.png", "kaggle/dog.4003.jpg", "darknet_dog.jpg"):
        right = keras.utils.img_to_array(
            keras.utils.load_img(data_dir / "images" / name, target_size=(224, 224))
        )
        np.testing.assert_array_equal(read_picture(data_dir / "images" / name, (224, 224)), right)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_preprocessing_equals_keras(mode: str) -> None:
    import_keras()
    from keras.src.applications.imagenet_utils import preprocess_input

    x = picture(5, 6).astype(np.float32)
    right = preprocess_input(x.copy(), data_format="channels_last", mode=mode)
    # At most four roundings of numbers no larger than 255 / 0.224.
    np.testing.assert_allclose(preprocess(x, mode), right, rtol=4 * 2.0**-24, atol=4 * 2.0**-24)


def test_scale_and_none() -> None:
    x = np.array([[[0.0, 51.0, 255.0]]], np.float32)
    np.testing.assert_array_equal(preprocess(x, "none"), x)
    np.testing.assert_array_equal(preprocess(x, "scale"), np.array([[[0.0, 0.2, 1.0]]], np.float32))


def test_caffe_is_for_rgb_only() -> None:
    with pytest.raises(ArgumentError, match="RGB"):
        preprocess(np.zeros((2, 2, 1), np.float32), "caffe")
    with pytest.raises(ArgumentError, match="caffe"):
        preprocess(np.zeros((2, 2, 3), np.float32), "vgg")


def test_alpha_is_dropped_and_orientation_ignored(tmp_path: Path) -> None:
    rgba = np.dstack([picture(4, 6)[..., ::-1], np.full((4, 6), 7, np.uint8)])
    assert cv2.imwrite(str(tmp_path / "a.png"), rgba)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), picture(4, 6))

    plain = write_picture(tmp_path / "plain.jpg", smooth_picture(16, 24)).read_bytes()
    # Big-endian TIFF with one entry: Orientation (0x0112), SHORT, 1 value, 6 (turn clockwise).
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\x00\x00" + tiff
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    np.testing.assert_array_equal(read_picture(turned), read_picture(tmp_path / "plain.jpg"))


# ---- pictures that are refused


def test_pictures_that_are_not_there_or_not_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, message in (
        ("missing.png", "No such file"), ("empty.png", "is empty"), ("text.jpg", "expected JPEG or PNG"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            read_picture(tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_every_cut_short_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = write_picture(tmp_path / f"whole{suffix}", smooth_picture(40, 40)).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in {*range(1, 40), *range(40, len(whole), 97), len(whole) - 1}:
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_picture(cut)


def test_a_flipped_bit_in_a_png_is_refused(tmp_path: Path) -> None:
    whole = bytearray(write_picture(tmp_path / "whole.png", picture(20, 20)).read_bytes())
    whole[len(whole) // 2] ^= 4
    (tmp_path / "bad.png").write_bytes(whole)
    with pytest.raises(InputError, match="checksum"):
        read_picture(tmp_path / "bad.png")


def test_a_png_that_lacks_rows_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\x00" + bytes(24))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "few.png").write_bytes(data)
    with pytest.raises(InputError):
        read_picture(tmp_path / "few.png")


def test_a_picture_that_claims_to_be_huge_is_refused_before_decoding(tmp_path: Path) -> None:
    body = b"IHDR" + struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(InputError, match="1048576 x 1048576"):
        read_picture(tmp_path / "bomb.png")


# ---- folders


def test_class_folders_are_sorted(tmp_path: Path) -> None:
    for name in ("dogs/b.png", "dogs/deep/a.JPG", "cats/z.jpeg", "cats/note.txt", ".hidden/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_pictures(tmp_path)
    assert found.classes == ("cats", "dogs")
    assert [f.name for f in found.files] == ["z.jpeg", "b.png", "a.JPG"]
    assert found.truths == (0, 1, 1)


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    (tmp_path / "b.png").touch()
    (tmp_path / "a.jpg").touch()
    found = find_pictures(tmp_path)
    assert [f.name for f in found.files] == ["a.jpg", "b.png"]
    assert found.classes == () and found.truths == ()


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        find_pictures(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no pictures"):
        find_pictures(tmp_path)
    (tmp_path / "cats").mkdir()
    with pytest.raises(InputError, match="class folder holds no pictures"):
        find_pictures(tmp_path)
    (tmp_path / "loose.png").touch()
    with pytest.raises(InputError, match=r"beside the class folders, such as loose\.png"):
        find_pictures(tmp_path)


@pytest.mark.parametrize("locked", ["cats", "cats/deep", "."])
def test_a_folder_that_may_not_be_read_is_not_an_empty_one(
    tmp_path: Path, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cats" / "deep").mkdir(parents=True)
    (tmp_path / "cats" / "a.png").touch()
    forbid(tmp_path / locked, monkeypatch)
    with pytest.raises(InputError, match="cannot be read: Permission denied") as caught:
        find_pictures(tmp_path)
    assert str(tmp_path / locked) in str(caught.value)


# ---- arrays


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16", "uint8", "bool", ">f4"])
def test_arrays_become_float32(tmp_path: Path, dtype: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(values))
    found = read_array(tmp_path / "a.npy")
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(1000.0))
    whole = buffer.getvalue()
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.zeros(3, complex))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    (tmp_path / "short.npy").write_bytes(whole[:-1])
    (tmp_path / "header.npy").write_bytes(whole[:20])
    (tmp_path / "huge.npy").write_bytes(whole.replace(b"(1000,), }", b"(10000000000000,), }"))
    (tmp_path / "empty.npy").touch()
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 no array")
    for name in ("object", "complex", "text", "none", "short", "header", "huge", "zip", "empty", "missing"):
        with pytest.raises(InputError) as caught:
            read_array(tmp_path / f"{name}.npy")
        assert f"{name}.npy" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "dtype", "got"), [(np.nan, "f4", "nan"), (-np.inf, "f2", "-inf"), (1e300, "f8", r"1e\+300")]
)
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, value: float, dtype: str, got: str) -> None:
    values = np.zeros((4, 2), dtype)
    values[2, 1] = value
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match=rf"a\.npy, index \[2, 1\]: got {got}, expected a finite number"):
        read_array(tmp_path / "a.npy")


def test_fit_shape() -> None:
    one, many = np.zeros((4, 4, 3), np.float32), np.zeros((2, 4, 4, 3), np.float32)
    assert fit_shape(one, (4, 4, 3), "x").shape == (1, 4, 4, 3)
    assert fit_shape(many, (None, 4, 3), "x") is many
    with pytest.raises(InputError, match=r"x\.npy: .*\(n, 5, any, 3\)"):
        fit_shape(many, (5, None, 3), "x.npy")


# ---- tables


def csv_file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "columns", "labels"),
    [
        ("1,2,R\n3,4,M\n", None, ("R", "M")),
        ("1,2,R\r\n3,4,M", 2, ("R", "M")),
        ("1,2\n3,4\n", None, None),
        ("1,2,0\n3,4,1\n", 2, ("0", "1")),
        ("\ufeff 1 , 2 ,R\n\n3,4e0, M \n", 2, ("R", "M")),
        ('"1","2","a, b"\n3,4,c', None, ("a, b", "c")),
    ],
)
def test_tables(tmp_path: Path, text: str, columns: int | None, labels: tuple[str, ...] | None) -> None:
    table = read_table(csv_file(tmp_path, text), columns)
    np.testing.assert_array_equal(table.values, np.array([[1, 2], [3, 4]], np.float32))
    assert table.labels == labels


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", None, "is empty"),
        ("\n\n", None, "holds no rows"),
        ("a\nb\n", None, "only column is text"),
        ("1,2,R\n3,R\n", None, r"row 2: wrong number of columns, got 2, expected 3"),
        ("1,2,3\n", 5, r"row 1: wrong number of columns, got 3, expected 5 numbers, or 5 and a label"),
        ("1,2,R\n3,x,R\n", None, r"row 2, column 2: got x, expected a finite number"),
        ("a,b,label\n1,2,R\n", 2, r"row 1, column 1: .* column names"),
        ("1,nan\n", None, "row 1, column 2"),
        ("1,inf,R\n", None, "row 1, column 2"),
        ("1,,R\n", 2, "row 1, column 2"),
        ("1,1e300\n", None, "too large for float32"),
        (b"\xff\xfe\x00\x01", None, "not UTF-8"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: Any, columns: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(csv_file(tmp_path, text), columns)


def test_the_sonar_file(data_dir: Path) -> None:
    table = read_table(data_dir / "sonar" / "sonar.csv", 60)
    assert table.values.shape == (208, 60)
    assert table.labels is not None
    assert (table.labels.count("M"), table.labels.count("R")) == (111, 97)


# ---- labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "cat\ndog\n"),
        ("l.txt", "\ufeffcat \r\n dog"),
        ("l.json", '["cat", "dog"]'),
        ("l.json", '{"1": "dog", "0": "cat"}'),
        ("l.json", '{"0": ["n1", "cat"], "1": ["n2", "dog"]}'),
    ],
)
def test_labels(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / name) == ("cat", "dog")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "cat\n\ndog", "empty name"),
        ("l.txt", "cat\ncat", "twice"),
        ("l.txt", " \n", "holds no names"),
        ("l.json", "{", "no JSON"),
        ("l.json", '{"0": "cat", "2": "dog"}', "none left out"),
        ("l.json", "3", "no list of class names"),
        ("l.json", "[3]", "class 0"),
        ("l.json", "[" * 100_000, "no JSON"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / name)


def test_imagenets_index(data_dir: Path) -> None:
    path = data_dir / "models" / "imagenet" / "imagenet_class_index.json"
    names = read_labels(path)
    assert len(names) == 1000 == len(json.loads(path.read_text()))
    assert names[285] == "Egyptian_cat"
