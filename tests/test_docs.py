"""What the documents name is there: operations, attributes, files, commands."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import FunctionType

import pytest

import convcore as cc
from convcore import cli
from convcore.run import roofline

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_definitions_name_every_operation() -> None:
    text = (ROOT / "docs" / "definitions.md").read_text()
    operations = [name for name in dir(cc) if isinstance(inspect.unwrap(getattr(cc, name)), FunctionType)]
    operations = [name for name in operations if getattr(cc, name).__module__.startswith("convcore.ops")]
    operations = [name for name in operations if not name.startswith("prepare_")]  # calls.md has them
    assert operations and [name for name in operations if f"`{name}`" not in text] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_what_is_there(path: Path) -> None:
    text = path.read_text()
    wrong = [f"cc.{name}" for name in re.findall(r"\bcc\.(\w+)", text) if not hasattr(cc, name)]
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    wrong += [link for link in links if not (path.parent / link).exists()]
    # In code: a path below one of the repository's folders; * and ... stand for several.
    paths = re.findall(r"`((?:src|csrc|docs|tests|examples|benchmarks|\.ci)/[\w./*-]*)`", text)
    wrong += [name for name in paths if not list(ROOT.glob(name.rstrip("/")))]
    verbs = re.findall(r"^\s*convcore ([a-z]+)\b", text, re.MULTILINE)
    wrong += [f"convcore {verb}" for verb in verbs if verb not in cli.VERBS]
    assert wrong == []


def test_the_example_of_the_kernels_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "_FLOATS", 1 << 20)
    monkeypatch.setattr(roofline, "last_cache_bytes", lambda: 0)
    text = (ROOT / "docs" / "kernels.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, {})
    printed = capsys.readouterr().out
    assert "Winograd 4x4" in printed and "of roofline" in printed


def test_the_examples_of_calls_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "calls.md").read_text()
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    assert "prepare_conv2d(w=array of shape" in capsys.readouterr().out
