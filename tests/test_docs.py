"""What the documents name is there: operations, attributes, files, headings, commands; their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import convcore as cc
from convcore import bench, cli, inputs, loader, medical, study
from convcore.loader.graph import OPERATIONS
from convcore.run import roofline

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "operations").glob("*.md"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *PAGES,
]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
#: Rooms whose public functions may say where they are defined, and what must say so.
ROOMS = (cc, inputs, medical)
CC_OPERATIONS = [
    name
    for name in dir(cc)
    if isinstance(inspect.unwrap(getattr(cc, name)), FunctionType)
    and getattr(cc, name).__module__.startswith("convcore.ops")
]


def headings(path: Path) -> list[str]:
    """The headings of a document, without what stands in blocks of code."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """What a heading is linked to by, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sections() -> dict[str, tuple[Path, str]]:
    """Page and text of every section of an operation, by its heading."""
    found = {}
    for path in PAGES:
        for section in re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]:
            heading, _, text = section.partition("\n")
            if "| Keras |" in text:
                found[heading] = (path, text)
    return found


SECTIONS = sections()
SECTION_OF = {name: heading for heading in SECTIONS for name in heading.split(", ")}


def test_every_operation_has_a_section() -> None:
    prepared = {name for name in CC_OPERATIONS if name.startswith("prepare_")}
    wanted = {*CC_OPERATIONS} - prepared
    assert len(wanted) > 40 and wanted - SECTION_OF.keys() == set()
    assert {name.removeprefix("prepare_") for name in prepared} <= wanted


def test_every_node_of_a_graph_has_a_section() -> None:
    rows = re.findall(r"^\| Graph \|(.+)\|$", "".join(p.read_text() for p in PAGES), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert OPERATIONS.keys() - named == set()


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_says_all_that_it_must(heading: str) -> None:
    path, text = SECTIONS[heading]
    # What holds for every operation of a page may stand before the first of them.
    common = path.read_text().partition("\n## ")[0]
    assert re.search(r"^    .*=|^\| mode \| formula", text, re.MULTILINE), "no formula"
    for row in ("source", "Keras"):
        assert re.search(rf"^\| {row} \| \S.+ \|$", text, re.MULTILINE), f"no {row}"
    for row in ("size", "numerics", "CPU", "GPU"):
        assert re.search(rf"^\| {row} \| \S.* \|$", text + common, re.MULTILINE), f"no {row}"
    keras = re.findall(r"^\| Keras \| (.+) \|$", text, re.MULTILINE)[0]
    assert "`" in keras or keras.startswith("none"), "no name of Keras's, nor that it has none"


def definitions() -> Iterator[tuple[str, str, str]]:
    """Name, page and anchor of every public function that says where it is defined."""
    for room in ROOMS:
        for name in dir(room) if room is cc else room.__all__:
            thing = getattr(room, name)
            found = re.findall(r"^Definition: (\S+)#(\S+)$", inspect.getdoc(thing) or "", re.MULTILINE)
            assert len(found) <= 1, name
            for page, target in found:
                yield f"{room.__name__}.{name}", page, target


def test_docstrings_link_to_headings() -> None:
    linked = {}
    for name, page, target in definitions():
        assert target in map(anchor, headings(ROOT / page)), f"{name}: {page}#{target}"
        linked[name] = target
    for name in CC_OPERATIONS:
        section = anchor(SECTION_OF[name.removeprefix("prepare_")])
        assert linked.get(f"convcore.{name}") == section, name


def test_the_list_of_definitions_is_whole() -> None:
    text = (ROOT / "docs" / "definitions.md").read_text()
    listed = re.findall(r"\]\((operations/[\w.]+)#([\w-]+)\)", text)
    here = {(f"operations/{path.name}", anchor(heading)) for heading, (path, _) in SECTIONS.items()}
    assert here - set(listed) == set()


def test_every_public_name_is_on_a_page() -> None:
    text = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.rst"))
    shown = set(re.findall(r"^\.\. auto(?:function|class):: (\w+)", text, re.MULTILINE))
    plots = [name for name in study.__all__ if name.startswith("plot_")]  # imported when asked for
    assert {*dir(cc), *plots} - {"__version__"} - shown == set()
    modules = set(re.findall(r"^\.\. automodule:: (convcore\.\w+)$", text, re.MULTILINE))
    assert {room.__name__ for room in (bench, inputs, loader, medical, study)} <= modules


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_what_is_there(path: Path) -> None:
    text = path.read_text()
    wrong = [f"cc.{name}" for name in re.findall(r"\bcc\.(\w+)", text) if not hasattr(cc, name)]
    for link, target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        file = path.parent / link if link else path
        if not file.exists():
            wrong.append(link)
        elif target and target not in map(anchor, headings(file)):
            wrong.append(f"{link}#{target}")
    # In code: a path below one of the repository's folders; * and ... stand for several.
    paths = re.findall(r"`((?:src|csrc|docs|tests|examples|benchmarks|\.ci)/[\w./*-]*)`", text)
    wrong += [name for name in paths if not list(ROOT.glob(name.rstrip("/")))]
    modules = re.findall(r"`(convcore(?:\.\w+)+)(?<!\.pc)(?<!\.h)`", text)
    wrong += [name for name in modules if not _exists(name)]
    verbs = re.findall(r"^\s*convcore ([a-z]+)\b", text, re.MULTILINE)
    wrong += [f"convcore {verb}" for verb in verbs if verb not in cli.VERBS]
    assert wrong == []


def _exists(name: str) -> bool:
    """Whether there is such a module, or such an attribute of one."""
    if importlib.util.find_spec(name.rpartition(".")[0]) is None:
        return False
    module, _, attribute = name.rpartition(".")
    if module != "convcore.cuda" and hasattr(importlib.import_module(module), attribute):
        return True
    return importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("path", [ROOT / "docs" / "definitions.md", *PAGES], ids=lambda path: path.name)
def test_the_examples_of_the_definitions_are_true(path: Path) -> None:
    names: dict[str, Any] = {"np": np, "cc": cc}
    runner = doctest.DocTestRunner()
    for number, code in enumerate(PYTHON.findall(path.read_text())):
        runner.run(doctest.DocTestParser().get_doctest(code, names, f"{path.name} {number}", str(path), 0))
    assert runner.failures == 0


def test_the_example_of_the_kernels_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "_FLOATS", 1 << 20)
    monkeypatch.setattr(roofline, "last_cache_bytes", lambda: 0)
    (code,) = PYTHON.findall((ROOT / "docs" / "kernels.md").read_text())
    exec(code, {})
    printed = capsys.readouterr().out
    assert "Winograd 4x4" in printed and "of roofline" in printed


def test_the_examples_of_calls_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for code in PYTHON.findall((ROOT / "docs" / "calls.md").read_text()):
        exec(code, names)
    assert "prepare_conv2d(w=array of shape" in capsys.readouterr().out
