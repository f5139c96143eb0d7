"""The report in a browser: it stands alone, every number is right, and the keyboard does everything."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convcore
from convcore import data
from convcore.engine import Model
from convcore.medical import make_phantom
from convcore.plan import Device
from convcore.reference import ACTIVATIONS
from convcore.study import InputFacts

from .browser import Browser, Page
from .graphs import GraphBuilder

#: The article's, and what each is called in the reference.
ARTICLE = ("sigmoid", "tanh", "relu", "elu", "leaky_divide", "rrelu", "noisy_relu")
EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def slice_hu() -> np.ndarray:
    return make_phantom(seed=3, shape=(4, 128, 128), n_nodules=1).volume().array[2].astype(np.float32)


@pytest.fixture(scope="module")
def lung(tmp_path_factory: pytest.TempPathFactory, slice_hu: np.ndarray) -> Path:
    """A branching network with its CT slice: the bundled U-Net."""
    model = convcore.load_model(data.path("lung_segmentation.keras"))
    x = np.clip((slice_hu + 1000) / 1400, 0, 1)[None, :, :, None].astype(np.float32)
    facts = InputFacts(name="phantom", hu=slice_hu, spacing=(0.7, 0.7), window=(-600.0, 1500.0))
    return model.study(x, facts=facts, repeats=2).save(tmp_path_factory.mktemp("study") / "lung.html")


@pytest.fixture(scope="module")
def sonar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network on rows of numbers, without a picture anywhere."""
    model = convcore.load_model(data.path("sonar.keras"))
    x = np.random.default_rng(1).random((1, 60), dtype=np.float32)
    return model.study(x, repeats=2).save(tmp_path_factory.mktemp("study") / "sonar.html")


@pytest.fixture
def page(browser: Browser, lung: Path) -> Iterator[Page]:
    opened = browser.open(lung)
    yield opened
    assert opened.complaints == []
    assert opened.requests == []
    opened.page.context.close()


@pytest.fixture(scope="module")
def still(browser: Browser, lung: Path) -> Iterator[Page]:
    """One page for the tests that only ask it for numbers."""
    opened = browser.open(lung)
    yield opened
    assert opened.complaints == []
    opened.page.context.close()


# ---- stands alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("report", ["lung", "sonar"])
def test_every_layer_shows_without_a_complaint(
    report: str, width: int, dark: bool, browser: Browser, request: pytest.FixtureRequest
) -> None:
    opened = browser.open(request.getfixturevalue(report), width=width, dark=dark)
    for name in opened.evaluate("convcore.study.layers.map((layer) => layer.name)"):
        opened.evaluate("(name) => convcore.setRoute({ layer: name })", name)
        assert opened.page.locator("#panel-title").inner_text().startswith(name)
        # Wide things scroll in boxes of their own.
        assert opened.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
    assert opened.complaints == []
    assert opened.requests == []
    opened.page.context.close()


def test_the_page_forbids_itself_the_network(page: Page) -> None:
    policy = page.page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy
    refused = page.evaluate("fetch('https://example.org/').then(() => false, () => true)")
    assert refused
    page.complaints.clear()  # the browser says what it refused


# ---- keyboard -------------------------------------------------------------------------------------


def test_tab_reaches_everything_that_can_be_operated(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    wanted = page.evaluate(
        """[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
           .filter((e) => !e.disabled && e.checkVisibility())
           .map((e, i) => { e.dataset.stop = i; return i; })"""
    )
    reached = []
    for _ in range(len(wanted) + 5):
        page.press("Tab")
        reached.append(page.focused("e.dataset.stop"))
    assert {int(stop) for stop in reached if stop is not None} == set(wanted)


def test_everything_has_a_name(page: Page) -> None:
    nameless = page.evaluate(
        """[...document.querySelectorAll("a, button, input, select, [role='option'], [role='listbox'],"
             + " [role='img'], [role='region'], [role='group'], canvas, img")].filter((e) => !(
             e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.getAttribute("alt")
             || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


def test_identifiers_are_unique(page: Page) -> None:
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_arrow_keys_walk_the_graph_and_enter_shows_a_layer(page: Page) -> None:
    graph = page.page.locator("svg.graph")
    graph.locator("[tabindex='0']").focus()
    page.press("Home")
    assert page.focused("e.dataset.layer") == "0"
    page.press("ArrowDown")
    layer = int(page.focused("e.dataset.layer"))
    assert page.evaluate("(i) => convcore.study.layers[i].inputs", layer) == [0]
    page.press("End", "Enter")
    last = page.evaluate("convcore.study.layers.at(-1).name")
    assert page.page.locator("#panel-title").inner_text().startswith(last)
    assert page.evaluate("location.hash") == f"#layer={last}"
    assert last in page.page.locator("#live").inner_text()
    assert graph.locator("[aria-selected='true']").count() == 1
    page.page.go_back()
    page.page.wait_for_function("(name) => convcore.route().layer !== name", arg=last)


@pytest.mark.parametrize("seed", range(3))
def test_arrow_keys_reach_every_layer(still: Page, seed: int) -> None:
    unreached = still.evaluate(
        """(inputs) => {
          const layout = convcore.layOut(inputs);
          const outputs = inputs.map(() => []);
          inputs.forEach((from, i) => from.forEach((j) => outputs[j].push(i)));
          const seen = new Set([0]), open = [0];
          while (open.length) {
            const at = open.pop();
            for (const key of ["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight"]) {
              const to = convcore.stepFrom(at, key, layout, inputs, outputs);
              if (to !== null && to !== undefined && !seen.has(to)) { seen.add(to); open.push(to); }
            }
          }
          return inputs.length - seen.size;
        }""",
        branching(80, seed),
    )
    assert unreached == 0


def test_the_table_sorts_and_leads_to_layers(page: Page) -> None:
    heading = page.page.locator("#layers thead button", has_text="Parameters")
    heading.focus()
    page.press("Enter")
    parameters = page.evaluate("convcore.study.layers.map((layer) => layer.parameters)")
    names = page.page.locator("#layers tbody th").all_inner_texts()
    by_name = dict(page.evaluate("convcore.study.layers.map((layer) => [layer.name, layer.parameters])"))
    assert [by_name[name] for name in names] == sorted(parameters, reverse=True)
    assert page.page.locator("#layers th[aria-sort='descending']").inner_text().startswith("Parameters")
    page.page.locator("#layers tbody a").first.focus()
    page.press("Enter")
    assert page.page.locator("#panel-title").inner_text().startswith(names[0])
    assert page.focused("e.id") == "panel"


def test_sizes_and_costs_are_the_records(page: Page) -> None:
    layer = page.evaluate("convcore.study.layers.find((layer) => layer.class === 'Conv2D')")
    page.evaluate("(name) => convcore.setRoute({ layer: name })", layer["name"])
    facts = page.page.locator("#panel .facts").first
    names, values = facts.locator("dt").all_inner_texts(), facts.locator("dd").all_inner_texts()
    shown = {n: v.replace("\u202f", "") for n, v in zip(names, values, strict=True)}
    assert shown["Output"] == "×".join(map(str, layer["shape"]))
    assert shown["Parameters"] == str(layer["parameters"])
    row = page.page.locator(f"#layers tr[data-layer='{layer['name']}']").inner_text().replace("\u202f", "")
    assert "×".join(map(str, layer["shape"])) in row


def test_the_address_chooses_a_layer(browser: Browser, lung: Path) -> None:
    opened = browser.open(lung, "layer=down1_pool&at=1,2&channel=3")
    assert opened.evaluate("convcore.route()") == {"layer": "down1_pool", "at": [1, 2], "channel": 3}
    assert opened.page.locator("#panel-title").inner_text().startswith("down1_pool")
    opened.goto(lung, "layer=no_such_layer")
    assert opened.page.locator("#panel-title").is_visible()
    assert opened.complaints == []
    opened.page.context.close()


def test_a_click_in_a_map_goes_to_the_value(page: Page) -> None:
    page.evaluate("convcore.setRoute({ layer: 'down1b_conv' })")
    exact = page.evaluate("convcore.study.nodes.down1b_conv.exact")
    channel, block = exact["channels"][1], exact["blocks"][-1]
    page.page.locator("#panel .map").nth(channel).click()
    canvas = page.page.locator("#panel .large-map canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    row, column = (a + n // 2 for a, n in zip(block["start"], block["size"], strict=True))
    spot = {"x": box["width"] * (column + 0.5) / 128, "y": box["height"] * (row + 0.5) / 128}
    canvas.click(position=spot)
    chosen = page.evaluate("convcore.route()")
    assert chosen["channel"] == channel
    # One pixel of the picture stands for scale x scale values.
    scale = page.evaluate("convcore.study.nodes.down1b_conv.maps.scale")
    assert abs(chosen["at"][0] - row) <= scale
    assert abs(chosen["at"][1] - column) <= scale


def test_dots_of_the_roofline_are_steps_of_the_network(page: Page) -> None:
    dots = page.page.locator("#roofline .dot")
    counted = page.evaluate("convcore.study.steps.filter((s) => s.flops > 0 && s.ms > 0).length")
    assert dots.count() == counted
    page.page.locator("#roofline .dot[tabindex='0']").focus()
    page.press("Home", "ArrowRight")
    said = page.page.locator("#roofline .detail").inner_text()
    assert said == page.focused("e.getAttribute('aria-label')")
    page.press("Enter")
    chosen = page.evaluate("convcore.route().layer")
    assert chosen in said
    assert page.focused("e.getAttribute('aria-selected')") == "true"


def test_another_position_changes_no_other_part_of_the_page(page: Page) -> None:
    tanh = page.page.locator("#curves").get_by_role("button", name="tanh", exact=True)
    tanh.click()
    page.evaluate("convcore.setRoute({ at: [1, 1] })")
    assert tanh.get_attribute("aria-pressed") == "true"
    page.evaluate("convcore.setRoute({ layer: 'down1a_relu' })")
    assert tanh.get_attribute("aria-pressed") == "false"


# ---- theme ----------------------------------------------------------------------------------------


def test_theme_follows_the_system_until_it_is_chosen(browser: Browser, lung: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    colours = {}
    for dark in (False, True):
        opened = browser.open(lung, dark=dark)
        colours[dark] = opened.evaluate(paper)
        opened.page.locator("#theme").focus()
        opened.press("Enter")
        colours["toggled", dark] = opened.evaluate(paper)
        opened.press("Enter")
        assert opened.evaluate(paper) == colours[dark]
        opened.page.context.close()
    assert colours[False] != colours[True]
    assert colours["toggled", False] == colours[True]
    assert colours["toggled", True] == colours[False]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_legible(browser: Browser, lung: Path, dark: bool) -> None:
    """WCAG 2 AA: a contrast of 4.5 between text and what it stands on."""
    opened = browser.open(lung, dark=dark)
    colour = """(name) => {
      const probe = document.body.appendChild(document.createElement("p"));
      probe.style.color = `var(--${name})`;
      const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number);
      probe.remove();
      return [r, g, b];
    }"""
    grounds = ("paper", "card", "sunken", "accent-wash", "warm-wash")
    pairs = [(ink, ground) for ink in ("ink", "quiet", "accent") for ground in grounds]
    pairs += [("on-accent", "accent"), ("warm", "card"), ("good", "card"), ("bad", "card")]
    low = {}
    for ink, ground in pairs:
        contrast = _contrast(opened.evaluate(colour, ink), opened.evaluate(colour, ground))
        if contrast < 4.5:
            low[ink, ground] = round(contrast, 2)
    assert low == {}
    opened.page.context.close()


def _contrast(a: list[float], b: list[float]) -> float:
    def luminance(rgb: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb) / 255]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    dim, bright = sorted((luminance(a), luminance(b)))
    return (bright + 0.05) / (dim + 0.05)


def test_prints_on_white_without_controls(browser: Browser, lung: Path) -> None:
    opened = browser.open(lung, dark=True)
    opened.page.emulate_media(media="print", color_scheme="dark")
    red, green, blue = opened.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert min(red, green, blue) > 240
    assert not opened.page.locator("#theme").is_visible()
    assert opened.page.locator("#panel-title").is_visible()
    opened.page.context.close()


# ---- layout of the graph --------------------------------------------------------------------------


def branching(n: int, seed: int) -> list[list[int]]:
    """A network whose layers each read one to three earlier ones, mostly near."""
    rng = np.random.default_rng(seed)
    inputs: list[list[int]] = [[]]
    for i in range(1, n):
        back = np.minimum(rng.geometric(0.4, size=rng.integers(1, 4)), i)
        inputs.append(sorted({int(i - b) for b in back}))
    return inputs


def dense_blocks(n: int) -> list[list[int]]:
    """Like DenseNet: every seventh layer joins the one before it with the last join."""
    return [[]] + [[i - 7, i - 1] if i % 7 == 0 else [i - 1] for i in range(1, n)]


@pytest.mark.parametrize(
    "inputs",
    [[[]], [[], [0]], [[i - 1] if i else [] for i in range(500)], dense_blocks(430), branching(200, 1)],
    ids=["one", "two", "chain", "dense", "branching"],
)
def test_boxes_of_the_graph_do_not_overlap(still: Page, inputs: list[list[int]]) -> None:
    layout = still.evaluate("(inputs) => convcore.layOut(inputs)", inputs)
    boxes = layout["boxes"]
    for i, sources in enumerate(inputs):
        for j in sources:
            assert boxes[j]["rank"] < boxes[i]["rank"]
    width, height = 190, 40
    for row in layout["ranks"]:
        lefts = sorted(boxes[i]["x"] for i in row)
        assert all(b - a >= width for a, b in itertools.pairwise(lefts))
        assert len({boxes[i]["y"] for i in row}) == 1
    assert sum(map(len, layout["ranks"])) == len(inputs)
    assert min(b["x"] for b in boxes) >= 0
    assert max(b["x"] for b in boxes) + width <= layout["width"]
    assert max(b["y"] for b in boxes) + height <= layout["height"]


# ---- activation curves ----------------------------------------------------------------------------


NOT_FINITE = [-np.inf, np.inf, np.nan]


def points() -> np.ndarray:
    return np.concatenate([np.linspace(-12, 12, 481), [-100.0, -1e-8, 1e-8, 100.0], NOT_FINITE])


def assert_close(got: list[float], x: np.ndarray, wanted: np.ndarray) -> None:
    """A few roundings of exp and of the sums after it, each of at most |x| + 1 or of the result."""
    y, finite = np.array(got), np.isfinite(x)
    assert np.array_equal(y[~finite], wanted[~finite], equal_nan=True)
    x, y, wanted = x[finite], y[finite], wanted[finite]
    assert np.all(np.abs(y - wanted) <= 16 * EPS * (1 + np.abs(x) + np.abs(wanted)))


@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_curves_are_the_references(still: Page, kind: str) -> None:
    x = points()
    got = still.evaluate("([kind, x]) => convcore.curveAt(kind, {}, x).values", [kind, x.tolist()])
    parameters = {"negative_slope": 0.2} if kind == "leaky_relu" else {}
    assert_close(got, x, ACTIVATIONS[kind](x, **parameters))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("relu", {"max_value": 6.0}),
        ("relu", {"negative_slope": 0.1, "threshold": 1.0, "max_value": 3.0}),
        ("elu", {"alpha": 0.5}),
        ("celu", {"alpha": 2.0}),
        ("leaky_divide", {"a": 100.0}),
        ("leaky_relu", {"negative_slope": 0.3}),
        ("rrelu", {"lower": 2.0, "upper": 4.0}),
        ("gelu", {"approximate": True}),
        ("hard_sigmoid", {"slope": 0.2}),
    ],
)
def test_curves_follow_their_parameters(still: Page, kind: str, parameters: dict[str, Any]) -> None:
    x = points()
    got = still.evaluate("(a) => convcore.curveAt(...a).values", [kind, parameters, x.tolist()])
    assert_close(got, x, ACTIVATIONS[kind](x, **parameters))


def test_prelu_multiplies(still: Page) -> None:
    x = points()
    got = still.evaluate("(x) => convcore.curveAt('prelu', { alpha: 0.3 }, x).values", x.tolist())
    assert np.array_equal(got, np.where(x >= 0, x, 0.3 * x), equal_nan=True)


@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_derivatives_are_the_slopes_of_the_curves(still: Page, kind: str) -> None:
    h = 1e-5
    # Away from the kinks, which are at whole numbers and at 0.
    x = np.linspace(-8, 8, 161) + 0.037
    got = np.array(
        still.evaluate("([kind, x]) => convcore.curveAt(kind, {}, x).derivatives", [kind, x.tolist()])
    )
    f = ACTIVATIONS[kind]
    above, below = f(x + h), f(x - h)
    # h^2/6 of the third derivative, which in these is at most that of e^x beside 4; and rounding of f over h.
    third = np.exp(x) if kind == "exponential" else np.full_like(x, 4.0)
    bound = h * h / 6 * third + 8 * EPS * (1 + np.abs(x) + np.abs(above)) / h
    assert np.all(np.abs(got - (above - below) / (2 * h)) <= bound)


def test_a_chosen_function_says_where_it_vanishes(page: Page) -> None:
    curves = page.page.locator("#curves")
    for label, words in [
        ("Sigmoid", "vanishes (less than 0.01) below −4.58 and above 4.58"),
        ("tanh", "vanishes (less than 0.01) below −2.99 and above 2.99"),
        ("ELU", "vanishes (less than 0.01) below −4.6"),
        ("Leaky ReLU, x / a", "does not vanish"),
    ]:
        curves.get_by_role("button", name=label, exact=True).focus()
        page.press("Enter")
        assert words in curves.inner_text(), label


def test_all_of_the_articles_functions_are_compared(page: Page) -> None:
    curves = page.page.locator("#curves")
    assert curves.locator("path.curve").count() == 1
    curves.get_by_role("button", name="All of these").focus()
    page.press("Enter")
    assert curves.locator("path.curve").count() == 8
    assert curves.locator("path.slope").count() == 8
    assert curves.locator("circle.sample").count() > 100  # noise, drawn
    assert curves.locator("path.band").count() == 1  # between the ends of RReLU's slopes


def test_the_layers_own_function_has_the_values_that_went_through_it(page: Page) -> None:
    name = page.evaluate("convcore.study.layers.find((layer) => layer.class === 'ReLU').name")
    page.evaluate("(name) => convcore.setRoute({ layer: name })", name)
    node = page.evaluate(
        """(name) => {
          const { nodes, layers } = convcore.study;
          const own = nodes[layers.find((layer) => layer.name === name).nodes.at(-1)];
          return nodes[own.inputs[0]].histogram;
        }""",
        name,
    )
    edges, counts = np.array(node["edges"]), np.array(node["counts"])
    below = counts[(edges[:-1] + edges[1:]) / 2 < 0].sum() / counts.sum()
    said = page.page.locator("#panel").inner_text().replace("\u202f", "")
    found = re.search(r"about ([\d.]+)% of the values", said)
    assert found, said
    assert float(found[1]) == pytest.approx(100 * below, rel=0.06)  # two digits are shown


def test_where_a_function_vanishes_does_not_depend_on_how_far_the_values_went(
    browser: Browser, tmp_path: Path
) -> None:
    b = GraphBuilder(2)
    x = b.input(40, 50, 1)
    kinds = {"tanh": "vanishes (less than 0.01) below −2.99 and above 2.99", "relu": "is 0 below 0"}
    kinds["sigmoid"] = "vanishes (less than 0.01) below −4.58 and above 4.58"
    model = Model(b.graph(*(b.activation(x, kind) for kind in kinds)), Device())
    values = np.linspace(-20000, 19000, 2000, dtype=np.float32).reshape(1, 40, 50, 1)
    opened = browser.open(model.study(values, repeats=1).save(tmp_path / "far.html"))
    for kind, words in kinds.items():
        layer = opened.evaluate(
            """(kind) => Object.values(convcore.study.nodes)
               .find((node) => node.attributes.kind === kind).name""",
            kind,
        )
        opened.evaluate("(name) => convcore.setRoute({ layer: name })", layer)
        assert words in opened.page.locator("#panel").inner_text(), kind
    assert opened.complaints == []
    opened.page.context.close()


# ---- CT -------------------------------------------------------------------------------------------


def shown_pixels(page: Page) -> np.ndarray:
    return np.array(
        page.evaluate(
            """(() => {
              // From a copy: Chromium would warn of reading the page's own canvas often.
              const shown = document.querySelector("#ct canvas");
              const copy = document.createElement("canvas");
              Object.assign(copy, { width: shown.width, height: shown.height });
              const context = copy.getContext("2d", { willReadFrequently: true });
              context.drawImage(shown, 0, 0);
              return [...context.getImageData(0, 0, copy.width, copy.height).data];
            })()"""
        ),
        np.uint8,
    ).reshape(128, 128, 4)


def windowed(hu: np.ndarray, level: float, width: float) -> np.ndarray:
    """DICOM PS3.3 C.11.2.1.3.2, LINEAR_EXACT, to 0..255; halves up."""
    hu = np.rint(hu.astype(np.float64))  # the report keeps whole HU
    return np.floor(255 * np.clip((hu - level) / width + 0.5, 0, 1) + 0.5)


def test_level_and_width_turn_hu_into_grey(page: Page, slice_hu: np.ndarray) -> None:
    pixels = shown_pixels(page)
    assert np.array_equal(pixels[..., 0], windowed(slice_hu, -600, 1500))
    level, width = page.page.locator("#ct input[type='range']").all()
    level.focus()
    page.press(*["ArrowRight"] * 5)
    width.focus()
    page.press(*["ArrowLeft"] * 3)
    pixels = shown_pixels(page)
    assert np.array_equal(pixels[..., 0], windowed(slice_hu, -595, 1497))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert np.all(pixels[..., 3] == 255)
    for name, at, extent in [("Lung", -600, 1500), ("Soft tissue", 40, 400), ("Bone", 400, 1800)]:
        page.page.locator("#ct button", has_text=name).focus()
        page.press("Enter")
        assert np.array_equal(shown_pixels(page)[..., 0], windowed(slice_hu, at, extent)), name


def test_arrow_keys_read_hu_in_the_slice(page: Page, slice_hu: np.ndarray) -> None:
    page.page.locator("#ct canvas").focus()
    page.press("ArrowRight", "ArrowDown", "ArrowDown")
    value = int(np.rint(slice_hu[66, 65]))
    text = page.page.locator("#ct .detail").inner_text().replace("\u2212", "-")
    assert text.startswith(f"Row 66, column 65: {value} HU")


# ---- values ---------------------------------------------------------------------------------------


def digits(text: str) -> int:
    """Significant digits of a decimal."""
    return len(re.sub(r"e.*|[^\d]", "", text).strip("0"))


def test_exact_values_are_printed_so_that_they_read_back(still: Page) -> None:
    rng = np.random.default_rng(4)
    values = (rng.normal(size=500) * 10.0 ** rng.integers(-12, 12, 500)).astype(np.float32)
    texts = still.evaluate("(v) => v.map(convcore.text32)", values.astype(np.float64).tolist())
    back = np.array([float(t.replace("\u2212", "-")) for t in texts], np.float32)
    assert np.array_equal(back, values)
    # As short as NumPy's own shortest.
    assert list(map(digits, texts)) == [digits(np.format_float_scientific(v, trim="-")) for v in values]


def test_the_table_of_exact_values_is_the_layers_output(page: Page, slice_hu: np.ndarray) -> None:
    page.evaluate("convcore.setRoute({ layer: 'down1a_conv' })")
    page.page.locator("#panel details.exact summary").focus()
    page.press("Enter")
    shown = page.page.locator("#panel details.exact table")
    model = convcore.load_model(data.path("lung_segmentation.keras"))
    x = np.clip((slice_hu + 1000) / 1400, 0, 1)[None, :, :, None].astype(np.float32)
    output = model.trace(x)["down1a_conv"][0]
    channel = page.evaluate("convcore.study.nodes.down1a_conv.exact.channels[0]")
    columns = [int(t) for t in shown.locator("thead th").all_inner_texts()]
    rows = shown.locator("tbody tr").all()
    assert len(rows) > 0
    for row in rows:
        r = int(row.locator("th").inner_text())
        values = [np.float32(t.replace("\u2212", "-")) for t in row.locator("td").all_inner_texts()]
        assert np.array_equal(values, output[r, columns, channel])


def test_a_notebook_shows_the_page_in_a_frame(browser: Browser, tmp_path: Path) -> None:
    model = convcore.load_model(data.path("sonar.keras"))
    report = model.study(np.full((1, 60), 0.2, np.float32), repeats=1)
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>notebook</title>{report._repr_html_()}", "utf-8")
    opened = browser.open(path)
    frame = opened.page.frame_locator("iframe")
    frame.locator("svg.graph .box").last.click()
    last = report.record["layers"][-1]["name"]
    assert frame.locator("#panel-title").inner_text().startswith(last)
    assert opened.complaints == []
    opened.page.context.close()


def test_what_was_not_measured_is_left_open(browser: Browser, tmp_path: Path) -> None:
    """As a run on a GPU has it: no peaks, and so no shares of them."""
    model = convcore.load_model(data.path("sonar.keras"))
    report = model.study(np.full((1, 60), 0.2, np.float32), repeats=1)
    record = report.record
    record["machine"] |= {
        "device": "cuda",
        "isa": None,
        "threads": None,
        "peaks": None,
        "gpu": "GPU of a test",
    }
    record["model"] |= {"clock": "CUDA events", "ms": 0.5 * record["model"]["ms"]}
    node = record["nodes"][record["layers"][-1]["nodes"][-1]]
    node["range"] |= {"infinite": 7}
    record["model"]["least_ms"] = None
    for part in (*record["layers"], *record["steps"]):
        part["fraction"] = None
    opened = browser.open(report.save(tmp_path / "gpu.html"))
    assert "not measured" in opened.page.locator("#roofline").inner_text()
    shares = opened.page.locator("#layers tr td:nth-child(10)").all_inner_texts()
    assert set(shares) <= {"–", ""}
    colophon = opened.page.locator("#colophon").inner_text()
    assert "GPU of a test beside" in colophon and "by CUDA events" in colophon
    assert opened.page.locator("#layers tfoot th").all_inner_texts() == [
        "All steps, one by one",
        "Whole network",
    ]
    opened.evaluate("convcore.setRoute({ layer: convcore.study.layers.at(-1).name })")
    assert "Infinite\n7" in opened.page.locator("#panel").inner_text()
    assert opened.complaints == []
    opened.page.context.close()


def test_times_of_the_table_add_up(browser: Browser, tmp_path: Path) -> None:
    """Also where a layer runs in two steps, and another layer is the first of one of them."""
    model = convcore.load_model(data.path("sonar.keras"))
    report = model.study(np.full((1, 60), 0.2, np.float32), repeats=1)
    record = report.record
    layers, steps = record["layers"], record["steps"]
    ran = [layer for layer in layers if layer["steps"]]
    for step, ms in zip(steps, (3.0, 5.0, 2.0, 1.0, 4.0, 6.0), strict=False):
        step["ms"] = ms
    first, second = layers.index(ran[0]), layers.index(ran[1])
    steps[0]["layers"], steps[1]["layers"] = [first, second], [second]
    layers[first] |= {"steps": [0], "ms": 3.0}
    layers[second] |= {"steps": [0, 1], "step": 1, "ms": 8.0}
    record["model"]["ms"] = sum(step["ms"] for step in steps)
    opened = browser.open(report.save(tmp_path / "steps.html"))
    cells = opened.page.locator("#layers tbody tr td:nth-child(8)").all_inner_texts()
    assert sum(map(shown_ms, cells)) == pytest.approx(record["model"]["ms"], rel=1e-2)
    assert shown_ms(opened.page.locator("#layers tfoot tr:last-child td:nth-child(8)").inner_text()) == (
        pytest.approx(record["model"]["ms"], rel=1e-2)
    )
    shared = opened.page.locator(f"#layers tr[data-layer='{layers[second]['name']}'] td:nth-child(8)")
    assert shared.inner_text().replace("\u202f", " ") == f"5 ms and with {layers[first]['name']}"
    opened.page.context.close()


def shown_ms(text: str) -> float:
    found = re.match(r"([\d.]+)\u202f([mµ])s", text)
    return float(found[1]) * (1 if found[2] == "m" else 1e-3) if found else 0.0


def test_the_page_says_how_much_is_kept(browser: Browser, tmp_path: Path) -> None:
    model = convcore.load_model(data.path("lung_segmentation.keras"))
    x = np.random.default_rng(1).random((1, 128, 128, 1), dtype=np.float32)
    report = model.study(x, repeats=1)
    opened = browser.open(report.save(tmp_path / "all.html"))
    kept = report.record["kept"]
    words = f"Of each layer {kept['positions']} positions and {kept['channels']} channels are kept exactly"
    assert words in opened.page.locator("#about").inner_text()
    asked = model.study(x, repeats=1, layers=["down1b_conv"], channels=[0, 3], at=[(5, 6)])
    opened.goto(asked.save(tmp_path / "asked.html"))
    said = opened.page.locator("#about").inner_text()
    assert "Of down1b_conv 64 positions, those around (5, 6) and channels 0, 3 are kept exactly" in said
    opened.page.context.close()


def test_parameters_that_are_no_numbers_are_words(browser: Browser, tmp_path: Path) -> None:
    b = GraphBuilder(4)
    x = b.input(3, 3, 2)
    outputs = b.activation(x, "gelu", approximate=False), b.activation(x, "relu", max_value=None)
    model = Model(b.graph(*outputs), Device())
    report = model.study(np.ones((1, 3, 3, 2), np.float32), repeats=1)
    for name, words in zip(outputs, ("approximate: no", "max value: none"), strict=True):
        opened = browser.open(report.save(tmp_path / "words.html"), f"layer={name}")
        assert words in opened.page.locator("#panel").inner_text()
        opened.page.context.close()


def test_a_single_large_number_has_a_histogram(browser: Browser, tmp_path: Path) -> None:
    """Its bin may have two edges that are the same float."""
    model = convcore.load_model(data.path("sonar.keras"))
    report = model.study(np.full((1, 60), 0.2, np.float32), repeats=1)
    for value in (0.0, 3.0, 1e17, -1e30):
        for node in report.record["nodes"].values():
            node["histogram"] = {"edges": [value - 0.5, value + 0.5], "counts": [60]}
        opened = browser.open(report.save(tmp_path / "large.html"))
        box = opened.page.locator("#panel .chart-box svg.chart rect.bar").last.bounding_box()
        assert box is not None and box["width"] > 100
        assert opened.complaints == []
        opened.page.context.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_shown(browser: Browser, tmp_path: Path, value: float) -> None:
    model = convcore.load_model(data.path("sonar.keras"))
    x = np.random.default_rng(1).random((1, 60), dtype=np.float32)
    x[0, 7] = value
    opened = browser.open(model.study(x, repeats=1).save(tmp_path / "odd.html"))
    for name in opened.evaluate("convcore.study.layers.map((layer) => layer.name)"):
        opened.evaluate("(name) => convcore.setRoute({ layer: name })", name)
    opened.evaluate("convcore.setRoute({ layer: 'standardise' })")
    opened.page.locator("#panel details.exact summary").click()
    cell = opened.page.locator("#panel details.exact td").nth(7)
    assert cell.inner_text() == {np.nan: "NaN", np.inf: "∞", -np.inf: "−∞"}[value]
    assert opened.complaints == []
    opened.page.context.close()
