// Activation curves: derivative and where it vanishes, with what really went through the layer's own function.

// A derivative below this lets less than a hundredth of a gradient through.
const VANISHED = 0.01;

function isActivation(node) {
  return (node.operation === "activation" && node.attributes.kind in FUNCTIONS) || node.operation === "prelu";
}

/** What an activation node computes, and the values that went into it. */
function ownFunction(node) {
  const through = STUDY.nodes[node.inputs[0]]?.histogram;
  if (node.operation !== "prelu") {
    return {
      curve: functionOf(node.attributes.kind, node.attributes.parameters),
      through: through && histogramOf(through),
    };
  }
  const alphas = node.weights.alpha ? [...array(node.weights.alpha)] : [];
  const alpha = alphas.length ? alphas.reduce((a, b) => a + b, 0) / alphas.length : 0.25;
  return { curve: functionOf("prelu", { alpha }), through: through && histogramOf(through), alphas };
}

/** The curve of an activation node, for its layer's panel. */
function ownCurve(node) {
  const { curve, through, alphas } = ownFunction(node);
  const range = rangeFor(through, true);
  const box = drawToWidth(element("div", { class: "chart-box" }), (width) =>
    curvesChart(width, [curve], { range, through, derivative: true }),
  );
  return element(
    "section",
    { "aria-labelledby": "own-curve-title" },
    element("h3", { id: "own-curve-title" }, `${curve.label}, and what went through it`),
    element("p", {}, `f(x) = ${curve.formula}${givenText(curve)}. `, vanishingText(curve, range, through)),
    alphas?.length > 1 &&
      element(
        "p",
        { class: "note" },
        `α differs from channel to channel; drawn is the mean of the ${alphas.length} kept: ` +
          `from ${short(Math.min(...alphas))} to ${short(Math.max(...alphas))}.`,
      ),
    box,
    curveLegend([curve], true, through),
  );
}

function givenText(curve) {
  const given = Object.entries(curve.given).filter(
    ([key, value]) => value !== null && value !== false && !(curve.name === "relu" && value === 0),
  );
  return given.length
    ? `, ${given.map(([key, value]) => `${curve.parameters[key].label} = ${value === true ? "on" : short(value, 6)}`).join(", ")}`
    : "";
}

// --- where a derivative vanishes ------------------------------------------------------------------------------

// All that is curved in these functions lies in here, however far the values go.
const CURVED = [-20, 20];
// A part narrower than this is where a derivative passes through 0, not where it stays there.
const NARROWEST = 0.2;

function evenly([low, high], steps) {
  // Between grid points, and so not on a kink that is a round number.
  return Array.from({ length: steps }, (_, i) => low + ((high - low) * (i + 0.4714)) / steps);
}

/** The parts of [low, high] in which |f'| is below VANISHED: [[from, to], ...], found on a grid and then halved. */
function vanishingParts(curve, [low, high]) {
  const parts = [];
  const vanishes = (x) => Math.abs(curve.derivative(x)) < VANISHED;
  const near = CURVED.map((x) => clamp(x, low, high));
  const grid = [...evenly([low, high], 800), ...evenly(near, 800)].sort((a, b) => a - b);
  grid.forEach((x, i) => {
    if (!vanishes(x)) return;
    const before = i === 0 ? low : vanishes(grid[i - 1]) ? null : boundary(vanishes, grid[i - 1], x);
    if (before !== null) parts.push([before, x]);
    parts.at(-1)[1] = i === grid.length - 1 ? high : vanishes(grid[i + 1]) ? x : boundary(vanishes, grid[i + 1], x);
  });
  return parts.filter(([from, to]) => to - from > NARROWEST);
}

/** Where `holds` begins to, between `outside`, where it does not, and `inside`. */
function boundary(holds, outside, inside) {
  for (let i = 0; i < 40; i++) {
    const middle = (outside + inside) / 2;
    if (holds(middle)) inside = middle;
    else outside = middle;
  }
  return roundOff(inside);
}

function vanishingText(curve, range, through) {
  const parts = vanishingParts(curve, [Math.min(range[0], CURVED[0]), Math.max(range[1], CURVED[1])]);
  if (parts.length === 0)
    return `Its derivative does not vanish: it is at least ${short(leastSlope(curve), 3)} on both sides.`;
  const words = parts.map(([from, to], i) => {
    const open = { left: i === 0 && from <= CURVED[0], right: i === parts.length - 1 && to >= CURVED[1] };
    if (open.left && open.right) return "everywhere";
    if (open.left) return `below ${short(withoutDust(to), 3)}`;
    if (open.right) return `above ${short(withoutDust(from), 3)}`;
    return `from ${short(withoutDust(from), 3)} to ${short(withoutDust(to), 3)}`;
  });
  // Beside the boundaries: farther in, a derivative that only becomes small is rounded to 0 as well.
  const beside = parts.flatMap(([from, to]) => [from + 1e-6, to - 1e-6]);
  const zero = beside.every((x) => curve.derivative(x) === 0);
  const where = `Its derivative ${zero ? "is 0" : "vanishes (less than 0.01)"} ${words.join(" and ")}`;
  if (!through) return `${where}: there no gradient comes back.`;
  return `${where}: about ${percent(
    shareWhere(through, (x) => Math.abs(curve.derivative(x)) < VANISHED),
    2,
  )} of the values that went through it lay there.`;
}

// Halving comes to 1e-12 where it means 0.
function withoutDust(x) {
  return Math.abs(x) < 1e-9 ? 0 : x;
}

function leastSlope(curve) {
  return Math.min(...[-20, -10, -5, -1, 1, 5, 10, 20].map((x) => Math.abs(curve.derivative(x))));
}

/** The share of a histogram's values that lie where `holds(middle of the bin)`. */
function shareWhere({ edges, counts }, holds) {
  let inside = 0,
    all = 0;
  counts.forEach((count, i) => {
    all += count;
    if (holds((edges[i] + edges[i + 1]) / 2)) inside += count;
  });
  return all ? inside / all : 0;
}

// --- drawing --------------------------------------------------------------------------------------------------

/** From -6 to 6, or as far as the values went. */
function rangeFor(through, asFarAsValues) {
  if (!through || !asFarAsValues) return [-6, 6];
  const [low, high] = [Math.min(through.edges[0], -3), Math.max(through.edges.at(-1), 3)];
  return [low - (high - low) * 0.02, high + (high - low) * 0.02];
}

function curvesChart(width, curves, { range, through, derivative }) {
  const [low, high] = range;
  const samples = curves.map((curve) => sampled(curve, range));
  const seen = samples
    .flatMap((s) => [...s.values, ...(derivative ? s.slopes : [])].map(([, y]) => y))
    .filter(Number.isFinite);
  const top = clamp(Math.max(1, ...seen), 1, Math.max(6, high)),
    bottom = clamp(Math.min(-0.5, ...seen), Math.min(-6, low), -0.5);
  const drawn = chart({
    width,
    height: Math.min(380, Math.max(260, width * 0.5)),
    x: { low, high, label: "x" },
    y: { low: bottom - 0.2, high: top + (top - bottom) * 0.05, label: derivative ? "f(x), f′(x)" : "f(x)" },
    label: `Curves of ${curves.map((curve) => curve.label).join(", ")}`,
  });
  if (through) drawThrough(drawn, through, range);
  for (const [from, to] of vanishingParts(curves[0], range)) {
    drawn.marks.append(
      svg("rect", {
        class: "vanished",
        x: drawn.x(from),
        width: drawn.x(to) - drawn.x(from),
        y: drawn.frame.top,
        height: drawn.frame.bottom - drawn.frame.top,
      }),
    );
  }
  drawn.marks.append(
    svg("line", {
      class: "axis",
      x1: drawn.x(0),
      x2: drawn.x(0),
      y1: drawn.frame.top,
      y2: drawn.frame.bottom,
    }),
    svg("line", {
      class: "axis",
      x1: drawn.frame.left,
      x2: drawn.frame.right,
      y1: drawn.y(0),
      y2: drawn.y(0),
    }),
  );
  const place = ([x, y]) => [drawn.x(x), drawn.y(clamp(y, -1e6, 1e6))];
  // The first last: it lies above the others.
  for (let i = curves.length - 1; i >= 0; i--) {
    const { values, slopes } = samples[i];
    drawn.marks.append(...randomParts(curves[i], range, place, i));
    if (derivative)
      drawn.marks.append(svg("path", { class: `slope c${i % 8}`, d: pathThrough(slopes.map(place)) }));
    drawn.marks.append(svg("path", { class: `curve c${i % 8}`, d: pathThrough(values.map(place)) }));
  }
  return drawn.svg;
}

/** What a function does while training, where that is random: the band of its slopes, or some draws. */
function randomParts(curve, range, place, i) {
  if (curve.band) return [bandShape(curve.band(curve.given), range, place, i)];
  if (!curve.draw) return [];
  return drawnPoints(curve, range).map((point) => {
    const [cx, cy] = place(point);
    return svg("circle", { class: `sample c${i % 8}`, cx, cy, r: 1.6 });
  });
}

/** Points of the curve and of its derivative, whose line is broken where it jumps. */
function sampled(curve, [low, high]) {
  const steps = 480;
  const grid = Array.from({ length: steps + 1 }, (_, i) => low + ((high - low) * i) / steps);
  const smooth = grid.filter((x) => !curve.breaks.includes(x)).map((x) => [x, curve.derivative(x)]);
  const jumps = curve.breaks.map((x) => [x, NaN]);
  return {
    values: grid.map((x) => [x, curve.value(x)]),
    slopes: [...smooth, ...jumps].sort(([a], [b]) => a - b),
  };
}

function drawThrough(drawn, { edges, counts }, [low, high]) {
  const most = Math.max(...counts.filter((_, i) => edges[i + 1] > low && edges[i] < high), 1);
  const height = drawn.frame.bottom - drawn.frame.top;
  counts.forEach((count, i) => {
    if (!count || edges[i + 1] < low || edges[i] > high) return;
    const bar = Math.sqrt(count / most) * height * 0.9;
    const left = drawn.x(edges[i]),
      right = drawn.x(edges[i + 1]);
    drawn.marks.append(
      svg(
        "rect",
        {
          class: "through",
          x: left,
          width: Math.max(0.5, right - left),
          y: drawn.frame.bottom - bar,
          height: bar,
        },
        svg("title", {}, `${short(edges[i])} to ${short(edges[i + 1])}: ${whole(count)}`),
      ),
    );
  });
}

function bandShape([upper, lower], [low, high], place, i) {
  const xs = Array.from({ length: 81 }, (_, k) => low + ((high - low) * k) / 80);
  const around = [...xs.map((x) => [x, upper(x)]), ...xs.reverse().map((x) => [x, lower(x)])];
  return svg("path", { class: `band c${i % 8}`, d: `${pathThrough(around.map(place))}Z` });
}

/** Draws of a function that is random while training: the same in every showing. */
function drawnPoints(curve, [low, high]) {
  const random = numbersFrom(1);
  return Array.from({ length: 500 }, () => {
    const x = low + (high - low) * random();
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return [x, curve.draw(x, normal)];
  });
}

/** Evenly spread numbers of [0, 1): a linear congruential generator of 32 bits, good enough for dots. */
function numbersFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function curveLegend(curves, derivative, through) {
  return element(
    "ul",
    { class: "legend" },
    curves.map((curve, i) => element("li", {}, element("span", { class: `line c${i % 8}` }), curve.label)),
    derivative &&
      element(
        "li",
        {},
        element("span", { class: "line dashed c0" }),
        curves.length > 1 ? "dashed: derivatives" : "derivative",
      ),
    element(
      "li",
      {},
      element("span", { class: "swatch vanished" }),
      `|f′| < ${VANISHED}${curves.length > 1 ? ` (${curves[0].label})` : ""}`,
    ),
    through &&
      element(
        "li",
        {},
        element("span", { class: "swatch through" }),
        "how many values went through (root of the count)",
      ),
  );
}

// --- comparing all functions ----------------------------------------------------------------------------------

function curvesView() {
  return new Comparison().parts;
}

/** The functions that are compared; the first is the one whose parameters and vanishing parts are shown. */
class Comparison {
  constructor() {
    this.given = {}; // name -> parameters that were changed
    this.shown = ["relu"];
    this.own = null; // the chosen layer's function, and the values that went through it
    this.source = element("p", { class: "note" });
    this.parameters = element("div", { class: "controls" });
    this.words = element("p");
    this.legend = element("div");
    this.options = {
      derivative: this.option("Derivatives", true),
      whole: this.option("As far as the layer's values went", false),
      through: this.option("The layer's values", true),
    };
    this.box = drawToWidth(element("div", { class: "chart-box" }), (width) => this.chart(width));
    this.buttons = {};
    this.parts = this.build();
    onLayer(this.box, () => this.follow());
    this.follow();
  }

  build() {
    const names = Object.keys(FUNCTIONS);
    const article = names.filter((name) => FUNCTIONS[name].article);
    const others = names.filter((name) => !FUNCTIONS[name].article);
    const all = element("button", { type: "button", onclick: () => this.show([this.shown[0], ...article]) });
    all.textContent = "All of these";
    return [
      element("h2", { id: "curves-title" }, "Activation functions"),
      this.source,
      this.choice("The article's functions", article, all),
      element("details", {}, element("summary", {}, "More functions"), this.choice("More functions", others)),
      this.parameters,
      this.words,
      this.box,
      this.legend,
      element(
        "div",
        { class: "controls" },
        Object.values(this.options).map((option) => option.element),
      ),
    ];
  }

  option(label, on) {
    const option = { on };
    option.element = checkbox(label, on, (now) => {
      option.on = now;
      this.refresh();
    });
    option.set = (now) => {
      option.on = option.element.querySelector("input").checked = now;
    };
    return option;
  }

  choice(label, names, ...more) {
    const button = (name) =>
      element("button", { type: "button", onclick: () => this.toggle(name) }, FUNCTIONS[name].label);
    for (const name of names) this.buttons[name] = button(name);
    const group = { class: "buttons controls", role: "group", "aria-label": label };
    return element(
      "div",
      group,
      names.map((name) => this.buttons[name]),
      more,
    );
  }

  /** Shows the function of the layer that was chosen, if it has one. */
  follow() {
    const node = nodesOf(layerNamed(route().layer)).findLast(isActivation);
    this.own = node ? ownFunction(node) : null;
    this.source.textContent = node
      ? `In ${node.name}: ${this.own.curve.label}. The grey bars are the values that went through it.`
      : "The chosen layer has no activation function of its own.";
    if (!node) return this.refresh();
    const { curve, through } = this.own;
    this.given[curve.name] = curve.given;
    // Where the values went much farther, the part around zero alone would hide them.
    this.options.whole.set(Boolean(through) && (through.edges[0] < -12 || through.edges.at(-1) > 12));
    return this.show([curve.name]);
  }

  toggle(name) {
    const rest = this.shown.filter((other) => other !== name);
    if (!this.shown.includes(name)) this.show([name, ...this.shown]);
    else if (rest.length) this.show(rest);
  }

  show(names) {
    this.shown = [...new Set(names)];
    this.parameters.replaceChildren(...parameterControls(this.shown[0], this.given, () => this.refresh()));
    this.refresh();
  }

  refresh() {
    const curves = this.curves();
    for (const [name, button] of Object.entries(this.buttons)) {
      button.setAttribute("aria-pressed", this.shown.includes(name));
    }
    this.words.replaceChildren(
      element("strong", {}, curves[0].label),
      `: f(x) = ${curves[0].formula}. `,
      vanishingText(curves[0], this.range(), this.through()),
    );
    this.legend.replaceChildren(curveLegend(curves, this.options.derivative.on, this.through()));
    this.box.redraw();
  }

  chart(width) {
    const derivative = this.options.derivative.on;
    return curvesChart(width, this.curves(), { range: this.range(), through: this.through(), derivative });
  }

  curves() {
    return this.shown.map((name) => functionOf(name, this.given[name]));
  }

  range() {
    return rangeFor(this.own?.through, this.options.whole.on);
  }

  through() {
    return this.options.through.on ? this.own?.through : null;
  }
}

function parameterControls(name, given, changed) {
  return Object.entries(FUNCTIONS[name].parameters ?? {}).map(([key, { label, value, low, high, step }]) => {
    const now = given[name] && key in given[name] ? given[name][key] : value;
    const set = (next) => {
      given[name] = { ...given[name], [key]: next };
      changed();
    };
    if (typeof value === "boolean") return checkbox(label, now, set);
    const output = element("output", {}, now === null ? "none" : short(numberOf(now), 4));
    const input = element("input", {
      type: "range",
      min: low,
      max: high,
      step,
      value: now ?? high,
      oninput: () => {
        // The end of the scale is "no maximum", where there need not be one.
        const next = value === null && Number(input.value) === high ? null : Number(input.value);
        output.textContent = next === null ? "none" : short(next, 4);
        input.setAttribute("aria-valuetext", output.textContent);
        set(next);
      },
    });
    input.setAttribute("aria-valuetext", output.textContent);
    return element("label", { class: "slider" }, `${label} `, input, output);
  });
}
