"""The Sonar recipe runs from end to end on rows that this file makes up, and refuses bad files.

How well it does on the real rows is measured by running it; see src/convcore/data/README.md.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from .recipes import recipe

# Not importorskip: importing Keras takes seconds, and collecting should not.
if importlib.util.find_spec("keras") is None:
    pytest.skip("Keras (the test extra) is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def sonar() -> Iterator[ModuleType]:
    with recipe("train_sonar") as module:
        yield module


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file like Sonar's: 208 rows, sorted by label, rocks louder in the lower bands."""
    rng = np.random.default_rng(7)
    lines = []
    for label, count, loud in (("R", 97, slice(0, 20)), ("M", 111, slice(30, 60))):
        values = rng.uniform(0, 0.5, (count, 60))
        values[:, loud] += 0.3
        lines += [",".join(f"{v:.4f}" for v in row) + f",{label}" for row in values]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_split_is_60_to_40_stratified_and_seeded(sonar: ModuleType) -> None:
    y = np.repeat(np.float32([1, 0]), [97, 111])
    train, test = sonar.split_rows(y, 5)
    assert sorted([*train, *test]) == list(range(208))
    assert len(train) == 124
    assert [np.count_nonzero(y[test] == c) for c in (0, 1)] == [45, 39]
    assert np.array_equal(train, sonar.split_rows(y, 5)[0])
    assert not np.array_equal(train, sonar.split_rows(y, 6)[0])


def test_simple_network_is_the_articles(sonar: ModuleType) -> None:
    _, model = sonar.build(sonar.SIMPLE, np.zeros((4, 60), np.float32))
    assert model.count_params() == 3721
    assert [layer.get_config().get("activation") for layer in model.layers] == [None, "relu", "sigmoid"]


def test_members_are_averaged_and_noise_is_for_training_only(sonar: ModuleType) -> None:
    x = np.random.default_rng(1).uniform(0, 1, (16, 60)).astype(np.float32)
    together, model = sonar.build(sonar.BETTER, x)
    members = np.asarray(together(x, training=False))
    assert members.shape == (16, sonar.BETTER.members)
    eps = np.finfo(np.float32).eps  # sums of `members` probabilities, none above 1, in two orders
    assert np.abs(np.asarray(model(x))[:, 0] - members.mean(axis=1)).max() <= 2 * eps * sonar.BETTER.members
    assert not np.array_equal(members, np.asarray(together(x, training=True)))


def test_every_candidate_can_be_built(sonar: ModuleType) -> None:
    x = np.random.default_rng(1).uniform(0, 1, (4, 60)).astype(np.float32)
    for candidate in sonar.CANDIDATES:
        assert sonar.build(candidate, x)[1](x).shape == (4, 1)


def test_training_saves_a_model_for_rows_as_they_are(sonar: ModuleType, rows: Path, tmp_path: Path) -> None:
    import keras

    output, baseline, report = (tmp_path / n for n in ("out.keras", "baseline.keras", "report.json"))
    arguments = [rows, "-o", output, "--baseline-output", baseline, "--report", report]
    assert sonar.main([*map(str, arguments), "--splits", "1", "--epochs", "2"]) == 0

    written = json.loads(report.read_text())
    x, y = sonar.read_rows(rows)
    for name, path in (("better", output), ("simple", baseline)):
        right = (keras.models.load_model(path).predict(x, verbose=0)[:, 0] > 0.5) == (y > 0.5)
        train_rows, test_rows = sonar.split_rows(y, 2017)
        assert written["saved"][name]["test"] == right[test_rows].mean()
        assert written["saved"][name]["train"] == right[train_rows].mean()
        assert written[name]["mean"] == right[test_rows].mean()
    assert written["data"]["M"] == 111 and written["data"]["R"] == 97
    assert str(tmp_path) not in report.read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",".join(["0.5"] * 59) + ",R", "row 209: got 59 values"),
        (",".join(["0.5"] * 60) + ",X", "the label 'X'"),
        (",".join(["0.5"] * 59 + ["loud"]) + ",M", "row 209: .*loud"),
        (",".join(["0.5"] * 59 + ["nan"]) + ",M", "not finite"),
    ],
)
def test_bad_rows_are_named(sonar: ModuleType, rows: Path, line: str, message: str) -> None:
    rows.write_text(rows.read_text() + line + "\n")
    with pytest.raises(ValueError, match=message):
        sonar.read_rows(rows)


def test_missing_and_empty_files_fail(
    sonar: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    assert sonar.main([str(empty), "-o", str(tmp_path / "o.keras")]) == 1
    assert sonar.main([str(tmp_path / "none.csv"), "-o", str(tmp_path / "o.keras")]) == 1
    assert "got 0 rows" in capsys.readouterr().err
    assert not (tmp_path / "o.keras").exists()


def test_splits_that_chose_the_network_are_not_reported(sonar: ModuleType, rows: Path) -> None:
    with pytest.raises(SystemExit) as error:
        sonar.main([str(rows), "--seed", "985", "--splits", "20"])
    assert error.value.code == 2
