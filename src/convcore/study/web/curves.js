// Activation functions: curve, derivative and where it vanishes, with what really went through the layer's own.

// A derivative below this lets less than a hundredth of a gradient through.
const VANISHED = 0.01;

const SELU = { alpha: 1.6732632423543772, scale: 1.0507009873554805 };

function sigmoidOf(x) {
  const e = Math.exp(-Math.abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

/** The complementary error function: its power series near 0, its continued fraction far from it. */
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
      term *= -x * x / n;
      sum += term / (2 * n + 1);
      if (x === 0) break;
    }
    return 1 - 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let n = 100; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

const normalDensity = (x) => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
const normalShare = (x) => erfc(-x / Math.SQRT2) / 2;
const softplusOf = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const sloped = (slope) => ({ value: (x) => (x >= 0 ? x : slope * x), derivative: (x) => (x > 0 ? 1 : slope) });

function reluOf({ negative_slope: slope, max_value: most, threshold }) {
  const top = most ?? Infinity;
  return {
    value: (x) => (x > threshold ? clamp(x, most === null ? -Infinity : 0, top) : slope === 0 ? 0 : slope * (x - threshold)),
    derivative: (x) => (x > threshold ? (x < top && (most === null || x > 0) ? 1 : 0) : slope),
  };
}

function reluFormula({ negative_slope: slope, max_value: most, threshold }) {
  if (slope === 0 && threshold === 0) return most === null ? "max(x, 0)" : "max(x, 0), at most the maximum";
  return `x above the threshold, ${slope === 0 ? "0" : "slope · (x − threshold)"} below${most === null ? "" : ", at most the maximum"}`;
}

function geluOf(approximate) {
  if (!approximate) return { value: (x) => x * normalShare(x), derivative: (x) => normalShare(x) + x * normalDensity(x) };
  const inner = (x) => 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
  return {
    value: (x) => x * sigmoidOf(inner(x)),
    derivative: (x) => {
      const s = sigmoidOf(inner(x));
      return s + x * s * (1 - s) * 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
    },
  };
}

const parameter = (label, value, low, high, step) => ({ label, value, low, high, step });

/**
 * Every function by its name in model files. `of(parameters)` gives { value, derivative }; the first eight are the
 * article's. `breaks` are where the derivative jumps.
 */
const FUNCTIONS = {
  sigmoid: { label: "Sigmoid", article: true, formula: "1 / (1 + e⁻ˣ)",
    of: () => ({ value: sigmoidOf, derivative: (x) => sigmoidOf(x) * sigmoidOf(-x) }) },
  tanh: { label: "tanh", article: true, formula: "(eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) = 2 sigmoid(2x) − 1",
    of: () => ({ value: Math.tanh, derivative: (x) => 4 * sigmoidOf(2 * x) * sigmoidOf(-2 * x) }) },
  relu: { label: "ReLU", article: true, formula: reluFormula,
    parameters: { negative_slope: parameter("slope below", 0, 0, 1, 0.01), max_value: parameter("maximum", null, 0, 20, 0.5),
      threshold: parameter("threshold", 0, -2, 4, 0.1) },
    of: reluOf, breaks: (p) => [p.threshold, p.max_value ?? p.threshold] },
  elu: { label: "ELU", article: true, formula: "x for x > 0, α (eˣ − 1) below",
    parameters: { alpha: parameter("α", 1, 0.1, 3, 0.1) },
    of: ({ alpha }) => ({ value: (x) => (x > 0 ? x : alpha * Math.expm1(x)), derivative: (x) => (x > 0 ? 1 : alpha * Math.exp(x)) }),
    breaks: () => [0] },
  leaky_divide: { label: "Leaky ReLU, x / a", article: true, formula: "x for x ≥ 0, x / a below",
    parameters: { a: parameter("a", 5.5, 1.1, 100, 0.1) }, of: ({ a }) => ({ ...sloped(1 / a), value: (x) => (x >= 0 ? x : x / a) }),
    breaks: () => [0] },
  prelu: { label: "PReLU", article: true, formula: "x for x ≥ 0, α x below; α is learned",
    parameters: { alpha: parameter("α", 0.25, -0.5, 1.5, 0.01) }, of: ({ alpha }) => sloped(alpha), breaks: () => [0] },
  rrelu: { label: "RReLU", article: true,
    formula: "x for x ≥ 0; below, x / a with a drawn anew from [lower, upper] while training, x / ((lower + upper) / 2) after it",
    parameters: { lower: parameter("lower", 3, 1, 8, 0.5), upper: parameter("upper", 8, 1, 20, 0.5) },
    of: ({ lower, upper }) => ({ ...sloped(2 / (lower + upper)), value: (x) => (x >= 0 ? x : x / ((lower + upper) / 2)) }),
    breaks: () => [0], band: ({ lower, upper }) => [(x) => (x >= 0 ? x : x / lower), (x) => (x >= 0 ? x : x / upper)] },
  noisy_relu: { label: "Noisy ReLU", article: true,
    formula: "max(0, x + Y), Y normal with mean 0 and variance sigmoid(x) while training; max(0, x) after it",
    of: () => sloped(0), breaks: () => [0], draw: (x, normal) => Math.max(0, x + Math.sqrt(sigmoidOf(x)) * normal) },
  linear: { label: "Linear", formula: "x", of: () => ({ value: (x) => x, derivative: () => 1 }) },
  leaky_relu: { label: "Leaky ReLU, slope", formula: "x for x ≥ 0, slope · x below",
    parameters: { negative_slope: parameter("slope", 0.2, 0, 1, 0.01) }, of: ({ negative_slope }) => sloped(negative_slope), breaks: () => [0] },
  celu: { label: "CELU", formula: "x for x > 0, α (e^(x/α) − 1) below", parameters: { alpha: parameter("α", 1, 0.1, 3, 0.1) },
    of: ({ alpha }) => ({ value: (x) => (x > 0 ? x : alpha * Math.expm1(x / alpha)), derivative: (x) => (x > 0 ? 1 : Math.exp(x / alpha)) }) },
  selu: { label: "SELU", formula: "1.0507 · (x for x > 0, 1.6733 (eˣ − 1) below)",
    of: () => ({ value: (x) => SELU.scale * (x > 0 ? x : SELU.alpha * Math.expm1(x)),
      derivative: (x) => SELU.scale * (x > 0 ? 1 : SELU.alpha * Math.exp(x)) }), breaks: () => [0] },
  gelu: { label: "GELU", formula: "x Φ(x), Φ the normal distribution function",
    parameters: { approximate: { label: "tanh approximation", value: false } }, of: ({ approximate }) => geluOf(approximate) },
  silu: { label: "SiLU (swish)", formula: "x · sigmoid(x)",
    of: () => ({ value: (x) => x * sigmoidOf(x), derivative: (x) => sigmoidOf(x) * (1 + x * sigmoidOf(-x)) }) },
  softplus: { label: "Softplus", formula: "ln(1 + eˣ)", of: () => ({ value: softplusOf, derivative: sigmoidOf }) },
  softsign: { label: "Softsign", formula: "x / (1 + |x|)",
    of: () => ({ value: (x) => x / (1 + Math.abs(x)), derivative: (x) => 1 / (1 + Math.abs(x)) ** 2 }) },
  hard_sigmoid: { label: "Hard sigmoid", formula: "slope · x + 0.5, cut to [0, 1]",
    parameters: { slope: parameter("slope", 1 / 6, 0.05, 0.5, 0.01) },
    of: ({ slope }) => ({ value: (x) => clamp(slope * x + 0.5, 0, 1), derivative: (x) => (Math.abs(slope * x) < 0.5 ? slope : 0) }),
    breaks: ({ slope }) => [-0.5 / slope, 0.5 / slope] },
  hard_silu: { label: "Hard SiLU", formula: "x · (x / 6 + 0.5, cut to [0, 1])",
    of: () => ({ value: (x) => x * clamp(x / 6 + 0.5, 0, 1), derivative: (x) => (x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5) }), breaks: () => [-3, 3] },
  exponential: { label: "Exponential", formula: "eˣ", of: () => ({ value: Math.exp, derivative: Math.exp }) },
  mish: { label: "Mish", formula: "x · tanh(softplus(x))",
    of: () => ({ value: (x) => x * Math.tanh(softplusOf(x)),
      derivative: (x) => { const t = Math.tanh(softplusOf(x)); return t + x * (1 - t * t) * sigmoidOf(x); } }) },
};

/** The function `name` with `given` parameters, the others as they are by default. */
function functionOf(name, given = {}) {
  const definition = FUNCTIONS[name];
  const parameters = {};
  for (const [key, { value }] of Object.entries(definition.parameters ?? {})) {
    parameters[key] = key in given ? (given[key] === null ? null : numberOf(given[key])) : value;
  }
  const { formula } = definition;
  return { name, ...definition, given: parameters, ...definition.of(parameters),
    formula: typeof formula === "function" ? formula(parameters) : formula, breaks: definition.breaks?.(parameters) ?? [] };
}

// --- the layer's own function ---------------------------------------------------------------------------------

function isActivation(node) {
  return (node.operation === "activation" && node.attributes.kind in FUNCTIONS) || node.operation === "prelu";
}

/** What an activation node computes, and the values that went into it. */
function ownFunction(node) {
  const through = STUDY.nodes[node.inputs[0]]?.histogram;
  if (node.operation !== "prelu") {
    return { curve: functionOf(node.attributes.kind, node.attributes.parameters), through: through && numbers(through) };
  }
  const alphas = node.weights.alpha ? [...array(node.weights.alpha)] : [];
  const alpha = alphas.length ? alphas.reduce((a, b) => a + b, 0) / alphas.length : 0.25;
  return { curve: functionOf("prelu", { alpha }), through: through && numbers(through), alphas };
}

/** The curve of an activation node, for its layer's panel. */
function ownCurve(node) {
  const { curve, through, alphas } = ownFunction(node);
  const range = rangeFor(through, true);
  const box = drawToWidth(element("div", { class: "chart-box" }), (width) => curvesChart(width, [curve], { range, through, derivative: true }));
  return element("section", { "aria-labelledby": "own-curve-title" },
    element("h3", { id: "own-curve-title" }, `${curve.label}, and what went through it`),
    element("p", {}, `f(x) = ${curve.formula}${givenText(curve)}. `, vanishingText(curve, range, through)),
    alphas?.length > 1 && element("p", { class: "note" }, `α differs from channel to channel; drawn is the mean of the ${alphas.length} kept: `
      + `from ${short(Math.min(...alphas))} to ${short(Math.max(...alphas))}.`),
    box, curveLegend([curve], true, through));
}

function givenText(curve) {
  const given = Object.entries(curve.given).filter(([key, value]) => value !== null && value !== false
    && !(curve.name === "relu" && value === 0));
  return given.length ? `, ${given.map(([key, value]) => `${curve.parameters[key].label} = ${value === true ? "on" : short(value, 6)}`).join(", ")}` : "";
}

// --- where a derivative vanishes ------------------------------------------------------------------------------

/** The parts of [low, high] in which |f'| is below VANISHED: [[from, to], ...], found on a grid and then halved. */
function vanishingParts(curve, [low, high]) {
  const steps = 800, parts = [];
  const vanishes = (x) => Math.abs(curve.derivative(x)) < VANISHED;
  // Between grid points, and so not on a kink that is a round number.
  const grid = Array.from({ length: steps }, (_, i) => low + (high - low) * (i + 0.4714) / steps);
  grid.forEach((x, i) => {
    if (!vanishes(x)) return;
    const before = i === 0 ? low : vanishes(grid[i - 1]) ? null : boundary(vanishes, grid[i - 1], x);
    if (before !== null) parts.push([before, x]);
    parts.at(-1)[1] = i === steps - 1 ? high : vanishes(grid[i + 1]) ? x : boundary(vanishes, grid[i + 1], x);
  });
  // A point at which a derivative passes through 0 is no place where it stays there.
  return parts.filter(([from, to]) => to - from > (high - low) / 100);
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
  const parts = vanishingParts(curve, [Math.min(range[0], -20), Math.max(range[1], 20)]);
  if (parts.length === 0) return `Its derivative does not vanish: it is at least ${short(leastSlope(curve), 3)} on both sides.`;
  const words = parts.map(([from, to], i) => {
    const open = { left: i === 0 && from <= -20, right: i === parts.length - 1 && to >= 20 };
    if (open.left && open.right) return "everywhere";
    if (open.left) return `below ${short(withoutDust(to), 3)}`;
    if (open.right) return `above ${short(withoutDust(from), 3)}`;
    return `from ${short(withoutDust(from), 3)} to ${short(withoutDust(to), 3)}`;
  });
  const zero = parts.every(([from, to]) => curve.derivative((from + to) / 2) === 0);
  const where = `Its derivative ${zero ? "is 0" : "vanishes (less than 0.01)"} ${words.join(" and ")}`;
  if (!through) return `${where}: there no gradient comes back.`;
  return `${where}: about ${percent(shareWhere(through, (x) => Math.abs(curve.derivative(x)) < VANISHED), 2)} of the values that went through it lay there.`;
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
  let inside = 0, all = 0;
  counts.forEach((count, i) => {
    all += count;
    if (holds((edges[i] + edges[i + 1]) / 2)) inside += count;
  });
  return all ? inside / all : 0;
}

// --- drawing --------------------------------------------------------------------------------------------------

/** From -6 to 6, or as far as the values went. */
function rangeFor(through, whole_) {
  if (!through || !whole_) return [-6, 6];
  const [low, high] = [Math.min(through.edges[0], -3), Math.max(through.edges.at(-1), 3)];
  return [low - (high - low) * 0.02, high + (high - low) * 0.02];
}

function curvesChart(width, curves, { range, through, derivative }) {
  const [low, high] = range;
  const samples = curves.map((curve) => sampled(curve, range));
  const seen = samples.flatMap((s) => [...s.values, ...(derivative ? s.slopes : [])].map(([, y]) => y)).filter(Number.isFinite);
  const top = clamp(Math.max(1, ...seen), 1, Math.max(6, high)), bottom = clamp(Math.min(-0.5, ...seen), Math.min(-6, low), -0.5);
  const drawn = chart({ width, height: Math.min(380, Math.max(260, width * 0.5)), x: { low, high, label: "x" },
    y: { low: bottom - 0.2, high: top + (top - bottom) * 0.05, label: derivative ? "f(x), f′(x)" : "f(x)" },
    label: `Curves of ${curves.map((curve) => curve.label).join(", ")}` });
  if (through) drawThrough(drawn, through, range);
  for (const [from, to] of vanishingParts(curves[0], range)) {
    drawn.marks.append(svg("rect", { class: "vanished", x: drawn.x(from), width: drawn.x(to) - drawn.x(from), y: drawn.frame.top,
      height: drawn.frame.bottom - drawn.frame.top }));
  }
  drawn.marks.append(
    svg("line", { class: "axis", x1: drawn.x(0), x2: drawn.x(0), y1: drawn.frame.top, y2: drawn.frame.bottom }),
    svg("line", { class: "axis", x1: drawn.frame.left, x2: drawn.frame.right, y1: drawn.y(0), y2: drawn.y(0) }));
  curves.forEach((curve, i) => {
    const place = ([x, y]) => [drawn.x(x), drawn.y(clamp(y, -1e6, 1e6))];
    if (curve.band) drawn.marks.append(bandShape(curve.band(curve.given), range, place, i));
    if (curve.draw) drawn.marks.append(...drawnPoints(curve, range).map((p) => {
      const [cx, cy] = place(p);
      return svg("circle", { class: `sample c${i % 8}`, cx, cy, r: 1.6 });
    }));
    if (derivative) drawn.marks.append(svg("path", { class: `slope c${i % 8}`, d: pathThrough(samples[i].slopes.map(place)) }));
    drawn.marks.append(svg("path", { class: `curve c${i % 8}`, d: pathThrough(samples[i].values.map(place)) }));
  });
  return drawn.svg;
}

function sampled(curve, [low, high]) {
  const values = [], slopes = [], steps = 480;
  let before = null;
  for (let i = 0; i <= steps; i++) {
    const x = low + (high - low) * i / steps;
    // A jump of the derivative is no line.
    const jump = before !== null && curve.breaks.find((b) => before <= b && b <= x);
    if (jump !== false && jump !== undefined && jump !== null) slopes.push([jump, NaN]);
    values.push([x, curve.value(x)]);
    if (!curve.breaks.includes(x)) slopes.push([x, curve.derivative(x)]);
    before = x;
  }
  return { values, slopes };
}

function drawThrough(drawn, { edges, counts }, [low, high]) {
  const most = Math.max(...counts.filter((_, i) => edges[i + 1] > low && edges[i] < high), 1);
  const height = drawn.frame.bottom - drawn.frame.top;
  counts.forEach((count, i) => {
    if (!count || edges[i + 1] < low || edges[i] > high) return;
    const bar = Math.sqrt(count / most) * height * 0.9;
    const left = drawn.x(edges[i]), right = drawn.x(edges[i + 1]);
    drawn.marks.append(svg("rect", { class: "through", x: left, width: Math.max(0.5, right - left), y: drawn.frame.bottom - bar, height: bar },
      svg("title", {}, `${short(edges[i])} to ${short(edges[i + 1])}: ${whole(count)}`)));
  });
}

function bandShape([upper, lower], [low, high], place, i) {
  const xs = Array.from({ length: 81 }, (_, k) => low + (high - low) * k / 80);
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
  return element("ul", { class: "legend" },
    curves.map((curve, i) => element("li", {}, element("span", { class: `line c${i % 8}` }), curve.label)),
    derivative && element("li", {}, element("span", { class: "line dashed c0" }), curves.length > 1 ? "dashed: derivatives" : "derivative"),
    element("li", {}, element("span", { class: "swatch vanished" }), `|f′| < ${VANISHED}${curves.length > 1 ? ` (${curves[0].label})` : ""}`),
    through && element("li", {}, element("span", { class: "swatch through" }), "how many values went through (root of the count)"));
}

// --- comparing all functions ----------------------------------------------------------------------------------

function curvesView() {
  const given = {};           // name -> parameters that were changed
  let shown = ["relu"];       // the first is the one whose parameters and vanishing parts are shown
  let options = { derivative: true, whole: false, through: true };
  let own = null;
  const box = element("div", { class: "chart-box" });
  const buttons = {}, below = element("div"), words = element("p"), source = element("p", { class: "note" });
  const curvesShown = () => shown.map((name) => functionOf(name, given[name]));
  const values = () => (options.through ? own?.through : null);
  drawToWidth(box, (width) => curvesChart(width, curvesShown(), {
    range: rangeFor(own?.through, options.whole), through: values(), derivative: options.derivative }));
  const refresh = () => {
    const curves = curvesShown();
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", shown.includes(name));
    words.replaceChildren(element("strong", {}, curves[0].label), `: f(x) = ${curves[0].formula}. `,
      vanishingText(curves[0], rangeFor(own?.through, options.whole), values()));
    below.replaceChildren(curveLegend(curves, options.derivative, values()));
    box.redraw?.();
  };
  const parameters = element("div", { class: "controls" });
  const choose_ = (names) => {
    shown = names;
    parameters.replaceChildren(...parameterControls(shown[0], given, refresh));
    refresh();
  };
  const toggle = (name) => {
    const rest = shown.filter((other) => other !== name);
    if (!shown.includes(name)) choose_([name, ...shown]);
    else if (rest.length) choose_(rest);
  };
  const group = (label, names) => element("div", { class: "buttons controls", role: "group", "aria-label": label }, names.map((name) =>
    (buttons[name] = element("button", { type: "button", onclick: () => toggle(name) }, FUNCTIONS[name].label))));
  const names = Object.keys(FUNCTIONS);
  const article = group("The article's functions", names.filter((name) => FUNCTIONS[name].article));
  const others = element("details", {}, element("summary", {}, "More functions"), group("More functions", names.filter((name) => !FUNCTIONS[name].article)));
  const follow = () => {
    const node = nodesOf(layerNamed(route().layer)).findLast(isActivation);
    own = node ? ownFunction(node) : null;
    source.textContent = own ? `In ${node.name}: ${own.curve.label}. The grey bars are the values that went through it.`
      : "The chosen layer has no activation function of its own.";
    if (own) {
      given[own.curve.name] = own.curve.given;
      choose_([own.curve.name]);
    } else choose_(shown);
  };
  onRoute(box, follow);
  follow();
  return [
    element("h2", { id: "curves-title" }, "Activation functions"), source, article, others, parameters, words,
    box, below,
    element("div", { class: "controls" },
      checkbox("Derivatives", true, (on) => { options.derivative = on; refresh(); }),
      checkbox("As far as the layer's values went", false, (on) => { options.whole = on; refresh(); }),
      checkbox("The layer's values", true, (on) => { options.through = on; refresh(); })),
  ];
}

function parameterControls(name, given, changed) {
  return Object.entries(FUNCTIONS[name].parameters ?? {}).map(([key, { label, value, low, high, step }]) => {
    const now = given[name] && key in given[name] ? given[name][key] : value;
    const set = (next) => { given[name] = { ...given[name], [key]: next }; changed(); };
    if (typeof value === "boolean") return checkbox(label, now, set);
    const output = element("output", {}, now === null ? "none" : short(numberOf(now), 4));
    const input = element("input", { type: "range", min: low, max: high, step, value: now ?? high,
      oninput: () => {
        // The end of the scale is "no maximum", where there need not be one.
        const next = value === null && Number(input.value) === high ? null : Number(input.value);
        output.textContent = next === null ? "none" : short(next, 4);
        input.setAttribute("aria-valuetext", output.textContent);
        set(next);
      } });
    input.setAttribute("aria-valuetext", output.textContent);
    return element("label", { class: "slider" }, `${label} `, input, output);
  });
}
