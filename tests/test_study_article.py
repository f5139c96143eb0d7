"""The article: its chapters run with and without data, their numbers are right, their pages stand alone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore.cli import main
from convcore.errors import ArgumentError, InputError
from convcore.medical import make_phantom
from convcore.study.article import (
    MissingDataError,
    chapter_files,
    find,
    find_series,
    may_lack,
    read_chapter,
    run_chapter,
    write_article,
)
from convcore.study.article.chapter import Chapter, select_chapters
from convcore.study.article.figures import ACCENTS, INK, PAPER, formula
from convcore.study.article.files import WHERE, reading_from
from convcore.study.article.page import chapter_page, index_page
from convcore.study.article.runner import Result

from .judges import import_keras
from .loader_files import write_weights

# What the app extra brings: without it there are no pages.
for needed in ("markdown_it", "matplotlib", "pygments", "cv2", "pydicom"):
    pytest.importorskip(needed, reason=f"{needed} (the app extra) is not installed")

CHAPTERS = [path.stem for path in chapter_files()]
NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"
#: Elements that HTML never closes.
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """A page's addresses and ids; checks that what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.unnamed: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.look(tag, dict(attributes))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.look(tag, dict(attributes))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def look(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.addresses += [str(attributes[name]) for name in ("href", "src", "srcset") if name in attributes]
        for value in attributes.values():
            self.addresses += re.findall(r"url\(['\"]?([^'\")]*)", value or "")
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        if attributes.get("role") == "img" and not attributes.get("aria-label"):
            self.unnamed.append(tag)


def check_page(text: str, pages: set[str]) -> Page:
    """Well-formed, complete in itself, every picture named, every id once."""
    page = Page(text)
    own = ("#", "data:")
    outside = [a for a in page.addresses if not a.startswith(own) and a not in pages]
    assert outside == []
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.unnamed == []
    assert text.startswith("<!doctype html>") and "@import" not in text
    return page


def chapter_from(tmp_path: Path, code: str, name: str = "01_try") -> Chapter:
    path = tmp_path / f"{name}.py"
    path.write_text(f"# %% [markdown]\n# # A try\n#\n# About it.\n\n{code}")
    return read_chapter(path)


# ---- the chapters ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A chapter that has run, and the names that it has made."""

    chapter: Chapter
    results: list[Result]
    names: dict[str, Any]

    @property
    def shown(self) -> str:
        return "\n".join(f"{r.printed}{r.value}" for r in self.results)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


@cache
def run(name: str, data: Path | None = None) -> Ran:
    """Run a chapter, once for all tests."""
    chapter = read_chapter(select_chapters([name])[0])
    names: dict[str, Any] = {}
    return Ran(chapter, run_chapter(chapter, data, names), names)


def check_chapter(ran: Ran) -> None:
    chapter, results = ran.chapter, ran.results
    figures = [figure for r in results for figure in r.figures]
    assert figures or any(r.missing for r in results), "every chapter computes a figure"
    for figure in figures:
        assert len(figure.caption.split()) >= 3, f"{chapter.name}: {figure.caption!r} says too little"
        for colour in (INK, PAPER, *ACCENTS):
            assert colour not in figure.svg, "the page's themes decide on the colours"
    for r in results:
        assert "Traceback" not in r.printed
        assert "object at 0x" not in r.value + r.printed
        assert set(r.missing) <= set(WHERE), "a page says where to get what it lacks"
    page = chapter_page(chapter, results)
    check_page(page, {"index.html"})
    assert len(page) < 6e6


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_runs_without_data(name: str) -> None:
    check_chapter(run(name))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_runs_with_data(name: str, data_dir: Path) -> None:
    check_chapter(run(name, data_dir))
    # The one file that the test data does not have.
    assert {m for r in run(name, data_dir).results for m in r.missing} <= {
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    }


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_uses_what_a_reader_has(name: str) -> None:
    """Public modules of convcore, and the libraries of the base and the app extra."""
    chapter = read_chapter(select_chapters([name])[0])
    modules: set[str] = set()
    for cell in chapter.cells:
        if cell.kind == "code":
            for node in ast.walk(cell.tree):
                if isinstance(node, ast.Import):
                    modules |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    modules.add(str(node.module))
    libraries = {m.split(".")[0] for m in modules}
    theirs = {"convcore", "numpy", "matplotlib", "cv2", "pydicom", "pyfive"}
    assert libraries - theirs <= set(sys.stdlib_module_names)
    assert not [m for m in modules if m.startswith("convcore") and "._" in m]


def check_cascade(n: Ran) -> None:
    """The windows that pass all stages by hand lie where OpenCV finds its one face."""
    assert len(n["faces"]) == 1
    left, top, width, _ = n["faces"][0]
    assert n["left_over"][0] == n["rows"] * n["columns"] > n["left_over"][1] > n["left_over"][-1] > 0
    assert sorted(n["left_over"], reverse=True) == n["left_over"]
    # One pixel of the shrunk picture is width / 20 of the whole one: two of them.
    assert abs(n["x"] - left) <= width / 10 and abs(n["y"] - top) <= width / 10


def test_images() -> None:
    n = run("01_images")
    assert n["bgr"].shape == (600, 512, 3) and np.array_equal(n["rgb"], n["bgr"][..., ::-1])
    assert np.abs(n["grey"] - n["by_hand"]).max() <= 0.51  # OpenCV rounds, in fixed point
    assert n["sizes"] == [
        3, 16, 21, 39, 33, 44, 50, 51, 56, 71, 80, 103, 111, 102, 135, 137, 140, 160, 177, 182, 211, 213,
    ]  # fmt: skip
    assert len(n["features"]) == sum(n["sizes"]) == 2135
    check_cascade(n)


def test_images_of_a_reader(data_dir: Path) -> None:
    n = run("01_images", data_dir)
    assert n["bgr"].shape == (512, 512, 3)  # the astronaut
    left, top, width, height = n["faces"][0]
    assert left < 225 < left + width and top < 115 < top + height  # her nose
    check_cascade(n)


def test_dicom_of_a_phantom() -> None:
    n = run("02_dicom")
    phantom = make_phantom(seed=7, shape=(40, 256, 256))
    assert n["ConstPixelDims"] == (256, 256, 40)
    assert n["ConstPixelSpacing"][:2] == (1.40625, 1.40625)
    assert n["series"].spacing[0] == 2.5 != n["ConstPixelSpacing"][2]
    assert sorted(n["by_name"]) == n["positions"] != n["by_name"]
    inside = ~phantom.outside
    assert np.array_equal(n["hu"][inside], phantom.hu[n["middle"]][inside])
    assert np.all(n["hu"][phantom.outside] == -1024) and np.array_equal(n["same"], n["hu"])
    assert len(n["wrong"]) == 30 and n["wrong"][:3] == [15, 30, 60]


def test_dicom_of_a_scanner(data_dir: Path) -> None:
    n = run("02_dicom", data_dir)
    assert n["ConstPixelDims"] == (512, 512, 30)
    assert n["ConstPixelSpacing"] == (0.644531, 0.644531, 1.25)
    assert abs(n["series"].spacing[0] - 0.8) < 1e-6
    assert n["pixels"].min() == -2000 and n["pixels"].max() == 2460
    assert abs(n["outside"].mean() - 0.2127) < 0.001
    # HU = slope x stored + intercept, the circle at the intercept.
    assert np.array_equal(n["hu"], np.where(n["stored"] == -2000, 0, n["stored"].astype(int)) - 1024)


def test_window_formula() -> None:
    window = run("02_dicom")["window"]
    hu = np.array([-2000, -1350, -600, 150, 900])
    assert window(hu, -600, 1500).tolist() == [0, 0, 0.5, 1, 1]


def test_sonar(data_dir: Path) -> None:
    n = run("09_sonar", data_dir)
    assert n["x"].shape == (208, 60) and np.bincount(n["y"]).tolist() == [111, 97]
    assert (len(n["train"]), len(n["test"])) == (124, 84)
    assert "122 of 124: 98.39%" in n.shown and "59 of 84: 70.24%" in n.shown  # the simple network
    assert "124 of 124: 100.00%" in n.shown and "69 of 84: 82.14%" in n.shown  # the better one
    # float32 against float64: a dozen roundings of numbers below 10, and a sigmoid's slope of 1/4.
    assert np.abs(n["by_hand"] - n["answers"]).max() < 1e-5
    assert n["scores"].shape == (5, 2) and np.all(n["scores"][:, 0] > 0.9)
    assert 0.7 < n["scores"][:, 1].mean() < 0.86


def test_the_articles_accuracy_is_not_one_of_its_split() -> None:
    assert "['169/207']" in run("09_sonar").shown


def test_training_gradients_are_derivatives() -> None:
    """One step of the training loop moves against the gradient that finite differences give."""
    n = run("09_sonar")
    rng = np.random.default_rng(3)
    x, y = rng.random((5, 60)), np.array([0, 1, 1, 0, 1])

    def loss(weights: list[np.ndarray]) -> float:
        W, b, w, c = weights
        z = (np.maximum(x @ W + b, 0) @ w + c)[:, 0]
        return float(np.mean(np.logaddexp(0, z) - y * z))

    before = n["train_network"](x, y, seed=1, epochs=0)
    after = n["train_network"](x, y, seed=1, epochs=1)
    # Adam's first step is the rate, against the gradient's sign.
    for part, index in ((0, (3, 7)), (1, (5,)), (2, (9, 0)), (3, (0,))):
        moved = [w.copy() for w in before]
        moved[part][index] += 1e-6
        slope = (loss(moved) - loss(before)) / 1e-6
        if abs(slope) > 1e-5:
            step = (after[part] - before[part])[index]
            assert np.sign(step) == -np.sign(slope) and abs(abs(step) - 0.001) < 1e-4
    assert loss(after) < loss(before)


def test_vgg16_is_counted() -> None:
    n = run("10_vgg16")
    assert sum(n["parameters"]) == 138_357_544 and sum(n["products"]) == 15_470_264_320
    assert n["frozen"] + n["new"] == 134_268_738 and n["new"] == 8_194
    assert n["parameters"][n["names"].index("fc1")] / sum(n["parameters"]) > 0.74


def test_photographs(data_dir: Path) -> None:
    n = run("10_vgg16", data_dir)
    assert n["size"] == 475_544 == n["small"].graph.parameters
    # Keras's MobileNet gives these: 0.355, 0.503, 0.741.
    for name, label, p in (
        ("chelsea.png", "Egyptian_cat", 0.355),
        ("tfjs_cat.jpg", "Egyptian_cat", 0.503),
        ("jetson_dog_2.jpg", "golden_retriever", 0.741),
    ):
        assert re.search(rf"{re.escape(name)} +{label} {p}", n.shown)
    assert "coloured  right: 10 of 10" in n.shown and "grey      right: 10 of 10" in n.shown
    assert n["is_dog"].sum() == 5


def test_lungs_of_a_phantom() -> None:
    n = run("11_lungs")
    found = [float(v) for v in re.findall(r"agreement with the truth \(Dice\): ([\d.]+)", n.shown)]
    assert len(found) == 2 and 0.97 < found[0] < found[1] > 0.985  # the network is better than the threshold
    assert np.all(n["there"] > 0.9) and np.all(n["not_there"] < 0.1)
    assert n["scores"][n["inside"]].mean() > 0.5 > 0.05 > n["scores"][~n["inside"]].mean()


def test_lungs_of_a_patient(data_dir: Path) -> None:
    n = run("11_lungs", data_dir)
    masks = n["masks"]
    assert all(0.14 < mask.mean() < 0.2 for mask in masks.values())
    assert n["dice"](masks["trained on phantoms"], masks["trained on patients"]) > 0.93
    found = re.search(r"at the nodule: ([\d.]+) +elsewhere: ([\d.]+)", n.shown)
    assert found and float(found[1]) > 0.99 and float(found[2]) < 0.01
    row, column = n["row"], n["column"]
    near = np.linalg.norm(n["grid"] - (row, column), axis=1) * n["scan"].spacing[1] < 15
    assert n["scores"][near].max() > 0.9 and np.median(n["scores"][~near]) < 0.01
    taken = re.search(r"as they are +nodule +o_d +([\d.]+) .*o_fp +([\d.]+)", n.shown)
    assert taken and 18 < float(taken[1]) < 30 and float(taken[2]) > 0.97


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vgg16_with_weights(data_dir: Path, tmp_path: Path) -> None:
    """ImageNet's weights are not among the test data: seeded ones in their place, Keras as the judge."""
    h5py = pytest.importorskip("h5py")
    keras = import_keras()
    keras.utils.set_random_seed(16)
    model = keras.applications.VGG16(weights=None)
    with h5py.File(tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels.h5", "w") as file:
        write_weights(
            file,
            [
                (la.name, list(zip((f"{la.name}_W_1:0", f"{la.name}_b_1:0"), la.get_weights(), strict=False)))
                for la in model.layers
            ],
        )
    for name in ("models/imagenet/imagenet_class_index.json", "images/chelsea.png"):
        shutil.copy(data_dir / name, tmp_path)
    n = run("10_vgg16", tmp_path)
    assert n["network"].graph.parameters == 138_357_544
    assert "ms a picture" in n.shown
    expected = model.predict(keras.applications.vgg16.preprocess_input(n["pictures"].copy()), verbose=0)
    answers = n["network"].predict(keras.applications.vgg16.preprocess_input(n["pictures"].copy()))
    assert np.array_equal(answers.argmax(axis=1), expected.argmax(axis=1))
    # As in test_vgg16.py: logits within 1e-5 of their largest, so probabilities by that factor of their own.
    assert np.abs(answers / expected - 1).max() < 1e-4
    best = n["labels"][int(expected[0].argmax())]
    assert re.search(rf"chelsea.png +{re.escape(best)} ", n.shown)


# ---- pages ----------------------------------------------------------------------------------------


def test_the_index_links_all_pages(tmp_path: Path) -> None:
    out = tmp_path / "pages"
    told: list[str] = []
    written = write_article(out, chapters=["sonar", "1"], tell=told.append)
    assert told == ["01_images: Images are arrays", "09_sonar: Rocks and mines: a first network"]
    assert [p.name for p in written] == ["index.html", "01_images.html", "09_sonar.html"]
    names = {p.name for p in written}
    pages = {p.name: check_page(p.read_text(encoding="utf-8"), names) for p in written}
    assert set(pages["index.html"].addresses) >= names - {"index.html"}
    assert "09_sonar.html" in pages["01_images.html"].addresses
    assert {"01_images.html", "index.html"} <= set(pages["09_sonar.html"].addresses)
    index = written[0].read_text(encoding="utf-8")
    assert "sonar.csv" in index and "UCI" in index and "--data" in index
    assert sorted(p.name for p in out.iterdir()) == sorted(names)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One folder, whole; a folder that holds something is left alone."""
    files = select_chapters(["sonar"])
    monkeypatch.setattr("convcore.study.article.chapter.chapter_files", lambda: files)
    out = tmp_path / "pages"
    assert main(["study", "--article", "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "2 pages" in said.out and "09_sonar: Rocks and mines" in said.err
    assert sorted(p.name for p in out.iterdir()) == ["09_sonar.html", "index.html"]
    before = (out / "09_sonar.html").read_bytes()
    assert main(["study", "--article", "-o", str(out)]) != 0
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sonar.csv").write_text("0.5," * 60 + "R\n" + "0.1," * 60 + "X,Y\n")
    assert main(["study", "--article", "-o", str(out), "--data", str(tmp_path / "data"), "--overwrite"]) != 0
    assert "sonar.csv, row 2" in capsys.readouterr().err
    assert (out / "09_sonar.html").read_bytes() == before


def test_the_same_chapter_gives_the_same_page(tmp_path: Path) -> None:
    first, second = (write_article(tmp_path / n, chapters=["dicom"])[1] for n in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_nothing_is_written_if_a_chapter_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = chapter_from(tmp_path, "# %%\n1 / 0\n").path
    monkeypatch.setattr(
        "convcore.study.article.select_chapters", lambda names: [select_chapters(["9"])[0], broken]
    )
    with pytest.raises(ZeroDivisionError):
        write_article(tmp_path / "pages")
    assert not (tmp_path / "pages").exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        write_article(tmp_path / "pages", data=tmp_path / "none", chapters=["sonar"])
    with pytest.raises(ArgumentError, match="no such chapter"):
        write_article(tmp_path / "pages", chapters=["no such"])
    assert not (tmp_path / "pages").exists()


def test_a_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    """No complaint, no request, two themes that differ, nothing wider than a telephone."""
    page = write_article(tmp_path, chapters=["sonar", "lungs"])[2]
    colours = set()
    for dark in (False, True):
        for width in (1280, 390):
            opened = browser.open(page, width=width, dark=dark)
            colours.add(opened.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
            assert opened.evaluate("document.querySelectorAll('figure svg').length") >= 2
            assert opened.complaints == [] and opened.requests == []
            opened.page.context.close()
    assert len(colours) == 2


def test_the_theme_can_be_chosen(browser: Any, tmp_path: Path) -> None:
    opened = browser.open(write_article(tmp_path, chapters=["sonar"])[1])
    paper = "getComputedStyle(document.body).backgroundColor"
    before = opened.evaluate(paper)
    opened.evaluate("document.getElementById('theme').focus()")
    opened.press("Enter")
    assert opened.evaluate(paper) != before
    assert opened.focused("e.textContent") == "Light theme"
    # Paper is light, whatever the screen is.
    opened.page.emulate_media(media="print")
    assert opened.evaluate(paper) == before
    assert opened.complaints == []
    opened.page.context.close()


def test_text_of_a_chapter_is_text(tmp_path: Path) -> None:
    """Nothing that a chapter says or prints becomes an element."""
    chapter = chapter_from(tmp_path, '# %%\nprint("<b>&")\n"<i>"\n\n# %% [markdown]\n# a < b & <u>\n')
    page = chapter_page(chapter, run_chapter(chapter))
    assert "&lt;b&gt;&amp;" in page and "&lt;i&gt;" in page
    assert "<b>" not in page and "<i>" not in page and "<u>" not in page
    check_page(page, {"index.html"})


def test_formulas_are_drawn(tmp_path: Path) -> None:
    chapter = chapter_from(tmp_path, "# %% [markdown]\n# A dollar is $\\frac{1}{2}$ of two.\n#\n# $$x^2$$\n")
    page = chapter_page(chapter, run_chapter(chapter))
    assert 'aria-label="\\frac{1}{2}"' in page and '<p class="display"><svg class="formula"' in page
    assert "$" not in re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    tall, low = formula(r"\frac{1}{2}"), formula("x")
    assert tall.height > low.height > 0 and tall.depth > low.depth
    assert tall.path.startswith("M") and "nan" not in tall.path


def test_index_without_missing_files_asks_for_none(tmp_path: Path) -> None:
    chapter = chapter_from(tmp_path, "# %%\n1 + 1\n")
    page = index_page([(chapter, run_chapter(chapter))])
    assert "01_try.html" in page and "About it." in page and "--data" not in page


# ---- running --------------------------------------------------------------------------------------


def test_text_value_and_figures_of_a_cell(tmp_path: Path) -> None:
    chapter = chapter_from(
        tmp_path,
        "# %%\nfrom matplotlib import pyplot as plt\nprint('said')\n1 + 1\n\n"
        "# %%\nplt.figure('A line')\nplt.plot([0, 1])\n\n"
        "# %%\nplt.subplots()[1].set_title('By its title')\nNone\n",
    )
    _, first, second, third = run_chapter(chapter)
    assert (first.printed, first.value, first.figures) == ("said\n", "2", ())
    assert second.value == "" and [f.caption for f in second.figures] == ["A line"]
    assert third.value == "" and [f.caption for f in third.figures] == ["By its title"]


def test_what_needs_a_missing_file_is_left_out(tmp_path: Path) -> None:
    code = (
        "# %%\nfrom convcore.study.article import find\nn = 3\n\n"
        "# %%\nprint('asked')\nrows = find('rows.csv').read_text()\nfor i in rows: pass\n\n"
        "# %%\nprint(len(rows), find('more.csv'))\n\n"
        "# %%\n[i for i in range(n)]\n\n"
        "# %%\ndef use():\n    return rows\n\n"
        "# %%\nuse()\n\n"
        "# %%\nrows = 'mine'\nrows\n"
    )
    chapter = chapter_from(tmp_path, code)
    missing = [r.missing for r in run_chapter(chapter)][1:]
    assert missing == [
        (),
        ("rows.csv",),
        ("more.csv", "rows.csv"),
        (),  # its `i` is its own
        ("rows.csv",),
        ("rows.csv",),
        (),
    ]
    assert may_lack(chapter) == [False, False, True, True, False, True, True, False]
    folder = tmp_path / "data" / "deep"
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text("1")
    results = run_chapter(chapter, tmp_path / "data")
    assert [r.missing for r in results][1:] == [(), (), ("more.csv",), (), (), (), ()]
    assert results[6].value == "'1'" and results[7].value == "'mine'"


def test_an_error_names_the_chapters_own_line(tmp_path: Path) -> None:
    chapter = chapter_from(tmp_path, "# %%\nfine = 1\n\n# %%\nfine +\\\n    None\n")
    with pytest.raises(TypeError) as error:
        run_chapter(chapter)
    last = error.traceback[-1]
    assert Path(str(last.path)) == chapter.path
    assert "None" in chapter.path.read_text().splitlines()[last.lineno + 1]


def test_a_run_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    import matplotlib
    from matplotlib import pyplot

    mine = pyplot.figure("mine")
    try:
        before = dict(matplotlib.rcParams)
        backend = matplotlib.get_backend()
        chapter = chapter_from(
            tmp_path, "# %%\nfrom matplotlib import pyplot\npyplot.figure('theirs'), 1 / 0\n"
        )
        with pytest.raises(ZeroDivisionError):
            run_chapter(chapter)
        assert dict(matplotlib.rcParams) == before and matplotlib.get_backend() == backend
        assert pyplot.get_figlabels() == ["mine"]
    finally:
        pyplot.close(mine)


def test_chapters_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "01_bad.py"
    for text, message in (
        ("x = 1\n", "does not begin as a chapter"),
        ("# %%\n1\n", "does not begin as a chapter"),
        ("# %% [markdown]\n# # Title\nx = 1\n", "line 3: is no comment"),
        ("# %% [raw]\n# x\n", "unknown kind of cell"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_chapter(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_chapter(tmp_path / "none.py")


def test_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVCORE_DATA", raising=False)
    with pytest.raises(MissingDataError, match="no data folder is given") as error:
        find("sonar.csv")
    assert "UCI" in error.value.remedy
    for name in ("b/x.csv", "a/x.csv", "a/y.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with reading_from(tmp_path):
        assert find("x.csv") == tmp_path / "a" / "x.csv"
        assert find("z.csv", "y.csv") == tmp_path / "a" / "y.csv"
        assert find("b") == tmp_path / "b"
        assert find("z.csv", default=None) is None
        with pytest.raises(MissingDataError, match="not in the data folder"):
            find("z.csv")
        with pytest.raises(MissingDataError, match="CT series"):
            find_series()
    monkeypatch.setenv("CONVCORE_DATA", str(tmp_path))
    assert find("y.csv") == tmp_path / "a" / "y.csv"


def test_finding_a_series(tmp_path: Path) -> None:
    from convcore.medical import write_series

    (tmp_path / "a").mkdir()
    for i in range(9):
        (tmp_path / "a" / f"{i}.dcm").write_bytes(b"no DICOM")
    for name, seed in (("b", 1), ("c", 2)):
        write_series(make_phantom(seed=seed, shape=(9, 32, 32), n_nodules=0), tmp_path / name)
    with reading_from(tmp_path):
        assert find_series() == tmp_path / "b"
        assert find_series("none", "c") == tmp_path / "c"
    with reading_from(tmp_path / "c"):
        assert find_series() == tmp_path / "c"


# ---- notebooks ------------------------------------------------------------------------------------


def generator() -> Any:
    pytest.importorskip("nbformat", reason="nbformat (the test extra) is not installed")
    if not (NOTEBOOKS / "generate.py").exists():
        pytest.skip("the examples are not beside the tests (an installed copy)")
    import importlib.util

    spec = importlib.util.spec_from_file_location("generate", NOTEBOOKS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebooks_are_those_of_the_chapters() -> None:
    module = generator()
    assert sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")) == CHAPTERS
    for file in chapter_files():
        written = (NOTEBOOKS / f"{file.stem}.ipynb").read_text(encoding="utf-8")
        assert written == module.notebook_text(file), "run examples/notebooks/generate.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell does, but those that lack a file, which are the same that the page leaves out."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient (the test extra) is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel (the test extra) is not installed")
    nbformat = pytest.importorskip("nbformat")
    data = os.environ.get("CONVCORE_TEST_DATA", "")
    monkeypatch.setenv("CONVCORE_DATA", data)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [cell.get("outputs", []) for cell in notebook.cells]
    errors = [[output.ename for output in given if output.output_type == "error"] for given in outputs]
    expected = run(name, Path(data) if data else None).results
    assert [bool(error) for error in errors] == [bool(result.missing) for result in expected]
    assert {name for error in errors for name in error} <= {"MissingDataError", "NameError"}
    drawn = sum("image/png" in output.get("data", {}) for given in outputs for output in given)
    assert drawn == sum(len(result.figures) for result in expected)
