"""Real networks on real CT series, through the engine: the numbers that NumPy and Keras gave on them.

Bounds, not equalities: what is fixed is what the pictures show (lungs, nodule, no nodule). That the
engine computes these networks exactly as Keras does is tested layer by layer elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convcore.medical import hu_volume, load_card, parse_place, read_series, score, segment

engine = pytest.importorskip("convcore.engine", reason="needs the compiled engine")

CARDS = Path(__file__).parents[1] / "examples" / "cards"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fraction"), [("lidc-idri-0001", (0.14, 0.19)), ("rider-pilot-0117", (0.26, 0.32))]
)
def test_lung_segmentation(data_dir: Path, name: str, fraction: tuple[float, float]) -> None:
    card = load_card(CARDS / "ct2d_vigneshannaraj_lungs.toml")
    model = engine.load_model(data_dir / "models" / "lung" / card.model)
    volume = hu_volume(read_series(data_dir / "dicom" / name), padding_to=card.padding_hu)
    mask = segment(volume, model, card)
    assert mask.shape == volume.shape
    middle = mask[len(mask) // 2]
    assert fraction[0] < middle.mean() < fraction[1]
    assert np.mean(volume.array[mask] < -400) > 0.9
    assert mask.any(axis=(1, 2)).all()


@pytest.mark.slow
def test_nodule_against_no_nodule(data_dir: Path) -> None:
    card = load_card(CARDS / "dsb2017_dhammack.toml")
    # The file does not say which backend trained it; its kernels are taken as stored.
    model = engine.load_model(data_dir / "models" / "lung" / card.model, kernel_flip=False)
    volume = hu_volume(read_series(data_dir / "dicom" / "lidc-idri-0001"), padding_to=card.padding_hu)
    # The largest nodule of the reading file (malignancy 4 to 5 of 5), and lung with none.
    places = [parse_place(text, volume).tolist() for text in ("317,364,-116mm", "150,250,-116mm")]
    nodule, clear = score(volume, model, card, places)
    assert 18 < nodule["o_d"] < 30 and nodule["o_mal"] > 0.85 and nodule["o_fp"] > 0.97
    assert clear["o_d"] < 1 and clear["o_mal"] < 0.05 and clear["o_fp"] < 0.1
