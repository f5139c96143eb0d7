"""Published numbers, through the kernels: what outsiders computed and wrote down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import convcore as cc
from convcore import _native
from convcore.ops.call import instruction_set

ISAS = _native.isas()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("flip", "answer"), [(False, 1814.9177220748), (True, 1810.5181005292166)])
def test_spreadsheet_network(data_dir: Path, isa: str, flip: bool, answer: float) -> None:
    """Jeremy Howard's spreadsheet (fast.ai, conv-example): two convolutions, pooling, a dense layer."""
    with np.load(data_dir / "golden" / "spreadsheet_cnn.npz") as archive:
        sheet = {name: archive[name].astype(np.float32) for name in archive.files}
    with instruction_set(isa):
        y = cc.conv2d(sheet["input"], sheet["conv1_kernel"], flip=flip)
        y = cc.conv2d(y, sheet["conv2_kernel"], flip=flip)
        y = cc.dense(cc.max_pool(y, 2).reshape(1, -1), sheet["dense_kernel"])
    # 9 + 18 + 288 positive terms behind every sum: a relative error of at most 2*(9+18+288) u.
    assert float(y[0, 0]) == pytest.approx(answer, rel=2 * (9 + 18 + 288) * 2.0**-24)


@pytest.mark.parametrize("isa", ISAS)
def test_gimp_convolution_matrix(isa: str) -> None:
    """GIMP's manual: a kernel with 1 at the top centre moves the picture down by a pixel; 42."""
    picture = np.array([[40, 42, 46], [46, 50, 55], [52, 56, 58]], np.float32)
    kernel = np.zeros((3, 3), np.float32)
    kernel[0, 1] = 1
    with instruction_set(isa):
        assert cc.conv2d(picture[None, :, :, None], kernel[:, :, None, None]).item() == 42
        assert cc.correlate(picture, kernel)[1, 1] == 42
        assert cc.convolve(picture, kernel)[1, 1] == 56, "a true convolution moves it up"


@pytest.mark.parametrize("isa", ISAS)
def test_textbook_convolution(isa: str) -> None:
    """[1, 2, 3] * [0, 1, 1/2] is [0, 1, 2.5, 4, 1.5]; the correlation is [.5, 2, 3.5, 3, 0]."""
    x = np.array([1, 2, 3], np.float32).reshape(1, 3, 1)
    k = np.array([0, 1, 0.5], np.float32).reshape(3, 1, 1)
    with instruction_set(isa):
        convolved = cc.conv1d(x, k, padding="full", flip=True).ravel()
        correlated = cc.conv1d(x, k, padding="full").ravel()
    assert convolved.tolist() == [0, 1, 2.5, 4, 1.5]
    assert correlated.tolist() == [0.5, 2, 3.5, 3, 0]


@pytest.mark.parametrize("isa", ISAS)
def test_pooling_pictures(isa: str) -> None:
    """The classic 4x4 figure of max pooling, and average pooling that leaves padding out."""
    figure = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
    nine = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    with instruction_set(isa):
        assert cc.max_pool(figure[None, :, :, None], 2)[0, :, :, 0].tolist() == [[6, 8], [3, 4]]
        assert cc.average_pool(nine, 2, padding="same")[0, :, :, 0].tolist() == [[3, 4.5], [7.5, 9]]


def test_two_pulses_make_a_triangle() -> None:
    ones = np.ones((1, 3, 1), np.float32)
    triangle = cc.conv1d(ones, ones.reshape(3, 1, 1), padding="full", flip=True)
    assert triangle.ravel().tolist() == [1, 2, 3, 2, 1]


def test_article_order_of_hounsfield_units() -> None:
    """-2000 becomes raw 0 first, so that it turns into the intercept; or what the caller says."""
    raw = np.array([[[-2000, 0, 1024, 2024]]], np.int16)
    assert cc.hu_rescale(raw, 1, -1024).tolist() == [[[-1024, -1024, 0, 1000]]]
    assert cc.hu_rescale(raw, 1, -1024, padding_to=-1000).tolist() == [[[-1000, -1024, 0, 1000]]]
