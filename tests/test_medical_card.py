"""Model cards: the ones that ship and the ones in examples/, and every way to write one wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from convcore.errors import ArgumentError, InputError
from convcore.medical import bundled_card, load_card, parse_card

GOOD = """
name = "n"
kind = "score3d"
[input]
size = [64, 64, 64]
spacing_mm = [1, 1.0, 1]
clip_hu = [-1000, 400]
scale = "unit"
channel = "first"
[[outputs]]
name = "a"
[[outputs]]
name = "b"
index = 1
element = 2
threshold = 0.5
"""
MASK = """
name = "n"
kind = "mask2d"
[input]
size = [128, 96]
clip_hu = [-1000, 400]
scale = "none"
channel = "last"
axes = "xy"
[[outputs]]
name = "m"
threshold = 0.5
"""


def test_a_good_card() -> None:
    card = parse_card(GOOD, "good.toml")
    assert card.input_shape == (1, 64, 64, 64)
    assert card.spacing_mm == (1, 1, 1) and card.padding_hu == -1000 and card.axes == "zyx"
    assert [(o.name, o.index, o.element, o.threshold) for o in card.outputs] == [
        ("a", 0, 0, None),
        ("b", 1, 2, 0.5),
    ]
    assert parse_card(MASK, "mask.toml").input_shape == (96, 128, 1)


def test_bundled_cards() -> None:
    assert bundled_card("lung_segmentation").input_shape == (128, 128, 1)
    nodule = bundled_card("nodule_classifier")
    assert nodule.input_shape == (32, 32, 32, 1) and nodule.spacing_mm == (1.5, 1.5, 1.5)
    with pytest.raises(ArgumentError, match=r"no such file ships.*lung_segmentation.toml"):
        bundled_card("../secrets")


def test_example_cards() -> None:
    folder = Path(__file__).parents[1] / "examples" / "cards"
    if not folder.is_dir():
        pytest.skip("the examples are not here (tests of an installed package)")
    cards = {f.stem: load_card(f) for f in folder.glob("*.toml")}
    assert cards["ct2d_vigneshannaraj_lungs"].input_shape == (256, 256, 1)
    assert cards["ct2d_vigneshannaraj_lungs"].padding_hu == -1024
    nodule = cards["dsb2017_dhammack"]
    assert nodule.input_shape == (1, 64, 64, 64)
    assert [o.name for o in nodule.outputs] == ["o_d", "o_lob", "o_spic", "o_mal", "o_fp"]


@pytest.mark.parametrize(
    ("old", "new", "mentioned"),
    [
        ('kind = "score3d"', 'kind = "mask3d"', "kind"),
        ('kind = "score3d"', "", "kind is missing"),
        ('name = "n"', "name = 3", "name"),
        ("[64, 64, 64]", "[64, 64]", "input.size"),
        ("[64, 64, 64]", "[64, 64, 64.5]", "input.size"),
        ("[64, 64, 64]", "[64, 64, true]", "input.size"),
        ("[64, 64, 64]", "[64, 64, 1000000]", "input.size"),
        ("[64, 64, 64]", "64", "input.size"),
        ("[1, 1.0, 1]", "[1, 0, 1]", "input.spacing_mm"),
        ("[1, 1.0, 1]", "[1, nan, 1]", "input.spacing_mm"),
        ("[-1000, 400]", "[400, -1000]", "input.clip_hu"),
        ('scale = "unit"', 'scale = "zscore"', "input.scale"),
        ('scale = "unit"', 'scale = "unit"\nwindow = "lung"', "unknown key input.window"),
        ('channel = "first"', 'channel = "first"\naxes = "zyz"', "input.axes"),
        ('channel = "first"', "", "input.channel is missing"),
        ("index = 1", "index = -1", "outputs[1].index"),
        ("threshold = 0.5", 'threshold = "half"', "outputs[1].threshold"),
        ("threshold = 0.5", "limit = 0.5", "unknown key outputs[1].limit"),
        ('name = "b"', 'name = "a"', "same name"),
        ("[[outputs]]", "[[results]]", "outputs is missing"),
        ('name = "n"', 'name = "n"\nextra = 1', "unknown key extra"),
        ('name = "n"', "name = n", "no TOML"),
    ],
)
def test_a_bad_card_names_the_key(old: str, new: str, mentioned: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        parse_card(GOOD.replace(old, new), "bad.toml")
    assert mentioned in str(caught.value) and "bad.toml" in str(caught.value)


def test_a_mask_needs_one_output_with_a_threshold() -> None:
    with pytest.raises(InputError, match="threshold is missing"):
        parse_card(MASK.replace("threshold = 0.5", ""), "mask.toml")
    with pytest.raises(InputError, match="2 outputs"):
        parse_card(MASK + '[[outputs]]\nname = "second"\nthreshold = 1', "mask.toml")


def test_files_that_are_no_cards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_card(tmp_path / "nothing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_card(tmp_path / "binary.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="too large"):
        load_card(tmp_path / "huge.toml")
