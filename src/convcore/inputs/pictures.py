"""JPEG and PNG pictures -> the very pixels that Keras would have given the network.

Pictures are decoded by OpenCV and resized by the rules of :func:`keras.utils.load_img`, which are
Pillow's, pixel for pixel, because a network answers for the pixels that it is given: OpenCV's own
"nearest" takes other pixels than Pillow's, and its "bilinear" does not average when it shrinks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from convcore.errors import ArgumentError, InputError
from convcore.extras import import_cv2
from convcore.inputs.files import check_picture, read_bytes

__all__ = [
    "PICTURE_SUFFIXES",
    "PREPROCESSING",
    "Interpolation",
    "Pictures",
    "find_pictures",
    "preprocess",
    "read_picture",
    "resize_picture",
]

Interpolation = Literal["nearest", "bilinear"]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Picture files and, where they lie in class folders, their true classes.

    Attributes
    ----------
    files
        The pictures, class after class, sorted by name.
    classes
        Names of the class folders, sorted: the index in this order is the class (cats = 0, dogs = 1).
        Empty if the pictures lie in no class folders.
    truths
        Class index of each picture; empty if there are no classes.
    """

    files: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    truths: tuple[int, ...] = ()


def read_picture(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    *,
    channels: int = 3,
    interpolation: Interpolation = "nearest",
) -> NDArray[np.float32]:
    """Read a JPEG or PNG file as ``keras.utils.load_img`` and ``img_to_array`` do.

    The orientation in EXIF is ignored, as Keras ignores it, and an alpha channel is dropped. Of
    16-bit samples the upper 8 bits are taken.

    Definition: docs/operations/preprocessing.md#reading-pictures

    Parameters
    ----------
    size
        (height, width) to resize to, without regard to the aspect ratio; None keeps the picture's own.
    channels
        3 for RGB, 1 for grey.
    interpolation
        ``"nearest"`` (Keras's default) or ``"bilinear"``.

    Returns
    -------
    numpy.ndarray
        float32, shape (height, width, channels), values 0 to 255.

    Raises
    ------
    InputError
        The file is missing, empty, cut short, damaged, too large, or neither JPEG nor PNG.
    MissingExtraError
        OpenCV is not installed.

    Examples
    --------
    >>> from convcore.writers import write_png
    >>> picture = write_png("grey.png", np.full((30, 40), 128, np.uint8))
    >>> read_picture(picture, (224, 224)).shape
    (224, 224, 3)
    """
    if channels not in (1, 3):
        raise ArgumentError("read_picture", "channels", got=channels, expected="1 (grey) or 3 (RGB)")
    data = read_bytes(path)
    check_picture(data, str(path))
    pixels = _decode(data, str(path))
    if channels == 1:
        pixels = _grey(pixels)
    if size is not None:
        pixels = resize_picture(pixels, size, interpolation)
    return pixels.astype(np.float32)


def _decode(data: bytes, where: str) -> NDArray[np.uint8]:
    cv2 = import_cv2()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(where, f"the picture cannot be decoded: {error.err}") from None
    if bgr is None:
        raise InputError(where, "the picture is damaged: it cannot be decoded")
    return np.ascontiguousarray(bgr[..., ::-1])


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ITU-R 601 luma, shape (h, w, 1), in Pillow's 16-bit fixed point: OpenCV's differs by one."""
    red, green, blue = (rgb[..., i].astype(np.uint32) for i in range(3))
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return luma.astype(np.uint8)[..., None]


def resize_picture(
    pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation = "nearest"
) -> NDArray[np.uint8]:
    """Resize a picture by Pillow's rules: equal, pixel for pixel, to ``Image.resize``.

    Where Pillow 13 and later shrink rows before columns, bilinear bytes differ from theirs by 1 at most.

    Definition: docs/operations/preprocessing.md#reading-pictures

    Parameters
    ----------
    pixels
        uint8, shape (height, width, channels).
    size
        (height, width) wanted.
    interpolation
        ``"nearest"``, or ``"bilinear"``: a triangle as wide as the pixels that fall on one output pixel.

    Examples
    --------
    >>> import numpy as np
    >>> row = np.array([[[10], [20], [30], [40]]], np.uint8)
    >>> resize_picture(row, (1, 2)).ravel().tolist()
    [20, 40]
    >>> resize_picture(row, (1, 2), "bilinear").ravel().tolist()
    [17, 33]
    """
    height, width = size
    if height < 1 or width < 1:
        raise ArgumentError("resize_picture", "size", got=size, expected="(height, width) of at least 1")
    if interpolation == "nearest":
        rows, columns = _nearest(pixels.shape[0], height), _nearest(pixels.shape[1], width)
        return np.ascontiguousarray(pixels[rows[:, None], columns])
    if interpolation == "bilinear":
        # Columns before rows, rounding to bytes in between: the order decides the last bit. Pillow up to
        # 12 always goes this way; 13 shrinks rows first where that is less work.
        across = _shrink(pixels.swapaxes(0, 1), width).swapaxes(0, 1)
        return np.ascontiguousarray(_shrink(across, height))
    raise ArgumentError(
        "resize_picture", "interpolation", got=interpolation, expected="'nearest' or 'bilinear'"
    )


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Index of the old pixel whose area holds the centre of each new one.

    The centres are summed step by step, not multiplied: where a centre falls on an edge between two
    pixels, the rounding of the sum decides, and Pillow's sum is this one.
    """
    step = old / new
    centres = np.add.accumulate(np.concatenate([[step * 0.5], np.full(new - 1, step)]))
    return np.minimum(centres.astype(np.intp), old - 1)


#: Fractional bits of a bilinear weight: with 8 bits of pixel and 2 of headroom they fill 32.
WEIGHT_BITS = 22


def _shrink(pixels: NDArray[np.uint8], new: int) -> NDArray[np.uint8]:
    """Resize the first axis with a triangle filter in fixed point, rounding half up."""
    old = pixels.shape[0]
    if new == old:
        return pixels
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.intp), 0)
    count = np.minimum((centres + reach + 0.5).astype(np.intp), old) - first
    taps = np.arange(count.max())
    weights = np.maximum(1.0 - np.abs((taps + first[:, None] - centres[:, None] + 0.5) * (1.0 / reach)), 0.0)
    weights[taps >= count[:, None]] = 0.0
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]
    fixed = np.floor(weights * (1 << WEIGHT_BITS) + 0.5).astype(np.int32)
    total = np.full((new, *pixels.shape[1:]), 1 << (WEIGHT_BITS - 1), np.int32)
    for tap in taps:
        source = pixels[np.minimum(first + tap, old - 1)].astype(np.int32)
        total += source * fixed[:, tap].reshape(-1, *[1] * (pixels.ndim - 1))
    shrunk: NDArray[np.uint8] = np.clip(total >> WEIGHT_BITS, 0, 255).astype(np.uint8)
    return shrunk


def _caffe(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)


def _torch(x: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    return (x / np.float32(255) - mean) / deviation


#: What was done to the pixels that a network was trained on, by the names that Keras gives it.
PREPROCESSING: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "caffe": _caffe,
    "tf": lambda x: x / np.float32(127.5) - np.float32(1),
    "torch": _torch,
    "scale": lambda x: x / np.float32(255),
    "none": lambda x: x,
}


def preprocess(x: NDArray[np.float32], mode: str) -> NDArray[np.float32]:
    """Turn RGB values 0 to 255 into what a network was trained on.

    Definition: docs/operations/preprocessing.md#preprocessing-modes

    Parameters
    ----------
    x
        float32, channels last.
    mode
        ``"caffe"``: BGR, minus ImageNet's mean (VGG, ResNet); ``"tf"``: x / 127.5 - 1 (MobileNet,
        Xception); ``"torch"``: x / 255, minus the mean, over the deviation (DenseNet);
        ``"scale"``: x / 255; ``"none"``.

    Examples
    --------
    >>> import numpy as np
    >>> preprocess(np.full((1, 1, 3), 255, np.float32), "tf").ravel().tolist()
    [1.0, 1.0, 1.0]
    """
    if mode not in PREPROCESSING:
        raise ArgumentError("preprocess", "mode", got=mode, expected=", ".join(PREPROCESSING))
    if mode in ("caffe", "torch") and x.shape[-1] != 3:
        raise ArgumentError(
            "preprocess", f"{mode!r} is defined for RGB", got=f"{x.shape[-1]} channels", expected=3
        )
    return np.ascontiguousarray(PREPROCESSING[mode](x), np.float32)


def find_pictures(folder: str | os.PathLike[str]) -> Pictures:
    """List the JPEG and PNG files of a folder, or of the class folders in it.

    A folder with subfolders is a folder of classes: every picture in a subfolder, however deep, is of
    that class. Names that start with a dot are skipped, as are files of other types.

    Raises
    ------
    InputError
        No such folder, one that may not be read, no pictures, a class without pictures, or pictures
        beside class folders.

    Examples
    --------
    >>> from convcore.writers import write_png
    >>> for name in ("dogs", "cats"):
    ...     _ = write_png(f"photos/{name}/1.png", np.zeros((8, 8), np.uint8))
    >>> found = find_pictures("photos")
    >>> found.classes, found.truths
    (('cats', 'dogs'), (0, 1))
    """
    root = Path(folder)
    try:
        return _find_pictures(root)
    except OSError as error:
        raise InputError(str(error.filename or root), f"cannot be read: {error.strerror or error}") from None


def _find_pictures(root: Path) -> Pictures:
    if not root.is_dir():
        raise InputError(str(root), "is no folder")
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    loose = sorted(p for p in root.iterdir() if _is_picture(p))
    if not classes:
        if not loose:
            raise InputError(str(root), "holds no pictures", expected=", ".join(PICTURE_SUFFIXES))
        return Pictures(tuple(loose))
    if loose:
        raise InputError(
            str(root),
            f"{len(loose)} pictures lie beside the class folders, such as {loose[0].name}",
            remedy="Put them into a class folder, or name files and not the folder.",
        )
    files: list[Path] = []
    truths: list[int] = []
    for index, name in enumerate(classes):
        found = sorted(p for p in _all_files(root / name) if _is_picture(p))
        if not found:
            raise InputError(
                str(root / name), "the class folder holds no pictures", expected=", ".join(PICTURE_SUFFIXES)
            )
        files += found
        truths += [index] * len(found)
    return Pictures(tuple(files), tuple(classes), tuple(truths))


def _all_files(folder: Path) -> Iterator[Path]:
    """Every file under `folder`; OSError for a folder that cannot be read, where rglob is silent."""

    def fail(error: OSError) -> NoReturn:
        raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (Path(parent, name) for name in names)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
