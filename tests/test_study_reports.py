"""Reports on real networks and real inputs, opened from disk: every layer of each can be looked at."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import convcore
from convcore import data
from convcore.bench import vgg16
from convcore.cli import main
from convcore.inputs import preprocess, read_picture
from convcore.loader.graph import Graph, Layer
from convcore.plan import Device
from convcore.study import InputFacts

from .browser import Browser, Page

CARDS = Path(__file__).parents[1] / "examples" / "cards"
#: What the report on VGG16 may take: bytes of the file, and seconds until it is drawn.
MOST_BYTES, MOST_SECONDS = 25_000_000, 3.0


@pytest.fixture
def pages(browser: Browser) -> Iterator[list[Page]]:
    """Pages that must not have complained of anything, nor asked for anything, when the test ends."""
    opened: list[Page] = []
    yield opened
    for page in opened:
        assert page.complaints == []
        assert page.requests == []
        page.page.context.close()


def walk(page: Page) -> None:
    """Go through every layer by its address: each is shown, with its numbers where it has any."""
    layers = page.evaluate("convcore.study.layers.map(({ name, shape }) => ({ name, shape }))")
    assert layers
    for layer in layers:
        page.evaluate("name => { location.hash = `layer=${encodeURIComponent(name)}`; }", layer["name"])
        page.page.wait_for_function(
            "name => document.getElementById('panel-title').firstChild.textContent === name",
            arg=layer["name"],
        )
        shown = page.evaluate("document.getElementById('panel').textContent")
        assert " \u00d7 ".join(map(str, layer["shape"])) in re.sub(r"\s", " ", shown)


def command(target: Path, *words: object) -> Path:
    assert main(["study", *map(str, words), "-o", str(target)]) == 0
    return target


def test_the_spreadsheet_network(browser: Browser, pages: list[Page], tmp_path: Path) -> None:
    model = convcore.load_model(data.path("spreadsheet.keras"))
    x = np.random.default_rng(0).random((1, *model.input_shapes[0]), dtype=np.float32)
    path = model.study(x, repeats=2).save(tmp_path / "spreadsheet.html")
    for dark in (False, True):
        pages.append(browser.open(path, dark=dark))
        walk(pages[-1])


def test_sonar(browser: Browser, pages: list[Page], tmp_path: Path, data_dir: Path) -> None:
    folder = data_dir / "sonar"
    words = (folder / "sonar_model_keras231.h5", folder / "sonar.csv", "--row", 100)
    pages.append(browser.open(command(tmp_path / "sonar.html", *words), width=390))
    walk(pages[0])


def test_cats_and_dogs(browser: Browser, pages: list[Page], tmp_path: Path, data_dir: Path) -> None:
    model = data_dir / "models" / "dogscats" / "engineer0940_cats_vs_dogs.keras"
    photograph = data_dir / "images" / "jetson_dog_1.jpg"
    words = (model, photograph, "--preprocess", "scale")
    pages.append(browser.open(command(tmp_path / "dog.html", *words)))
    walk(pages[0])


def test_lungs(browser: Browser, pages: list[Page], tmp_path: Path, data_dir: Path) -> None:
    model = data_dir / "models" / "lung" / "ct2d_vigneshannaraj_lungs.h5"
    words = (
        model,
        data_dir / "dicom" / "rider-pilot-0117",
        "--card",
        CARDS / "ct2d_vigneshannaraj_lungs.toml",
    )
    pages.append(browser.open(command(tmp_path / "lungs.html", *words), dark=True))
    walk(pages[0])


def layered(graph: Graph) -> Graph:
    """The same with a layer for every node, as a file would have them."""
    nodes = tuple(replace(n, layer=n.name, layer_class=n.operation) for n in graph.nodes)
    layers = tuple(
        Layer(n.name, n.operation, n.name, n.shape, sum(w.size for w in n.weights.values())) for n in nodes
    )
    return replace(graph, nodes=nodes, layers=layers)


def test_vgg16_is_small_and_opens_at_once(
    browser: Browser, pages: list[Page], tmp_path: Path, data_dir: Path
) -> None:
    """Seeded weights (trained ones are not among the data), a real photograph."""
    photograph = data_dir / "images" / "caffe_cat.jpg"
    pixels = read_picture(photograph, (224, 224))
    facts = InputFacts(photograph.name, "caffe", np.rint(pixels).astype(np.uint8))
    model = convcore.Model(layered(vgg16()), Device())
    path = model.study(preprocess(pixels, "caffe")[None], facts=facts, repeats=2).save(
        tmp_path / "vgg16.html"
    )
    assert path.stat().st_size < MOST_BYTES
    start = time.perf_counter()
    page = browser.open(path)
    pages.append(page)
    titles = page.evaluate("document.querySelectorAll('h2').length")
    assert time.perf_counter() - start < MOST_SECONDS
    assert titles >= 5
    walk(page)


def test_nothing_outside_is_named(tmp_path: Path) -> None:
    """No address but those of XML's namespaces stands anywhere in a page."""
    model = convcore.load_model(data.path("sonar.keras"))
    page = model.study(np.zeros((1, 60), np.float32), repeats=1).html()
    found = set(re.findall(r"https?://[^\s\"'`<)]+", page))
    assert all(address.startswith("http://www.w3.org/") for address in found), found
