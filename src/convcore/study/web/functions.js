// Activation functions and their derivatives, by the names that model files have for them.

const SELU = { alpha: 1.6732632423543772, scale: 1.0507009873554805 };

function sigmoidOf(x) {
  const e = Math.exp(-Math.abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

/** The complementary error function: its power series near 0, its continued fraction far from it. */
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let term = x,
      sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
      if (x === 0) break;
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 100; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

const normalDensity = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
const normalShare = (x) => erfc(-x / Math.SQRT2) / 2;
const softplusOf = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
/** x · gate for a gate that is 0 at −∞ and vanishes faster than x grows. */
const gated = (x, gate) => (x === -Infinity ? -0 : x * gate);
const sloped = (slope) => ({
  value: (x) => (x >= 0 ? x : slope * x),
  derivative: (x) => (x > 0 ? 1 : slope),
});

function reluOf({ negative_slope: slope, max_value: most, threshold }) {
  const top = most ?? Infinity;
  return {
    value: (x) =>
      x > threshold
        ? clamp(x, most === null ? -Infinity : 0, top)
        : slope === 0
          ? 0
          : slope * (x - threshold),
    derivative: (x) => (x > threshold ? (x < top && (most === null || x > 0) ? 1 : 0) : slope),
  };
}

function reluFormula({ negative_slope: slope, max_value: most, threshold }) {
  if (slope === 0 && threshold === 0) return most === null ? "max(x, 0)" : "max(x, 0), at most the maximum";
  return `x above the threshold, ${slope === 0 ? "0" : "slope · (x − threshold)"} below${most === null ? "" : ", at most the maximum"}`;
}

function geluOf(approximate) {
  if (!approximate)
    return { value: (x) => gated(x, normalShare(x)), derivative: (x) => normalShare(x) + x * normalDensity(x) };
  const inner = (x) => 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
  return {
    value: (x) => gated(x, sigmoidOf(inner(x))),
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
  sigmoid: {
    label: "Sigmoid",
    article: true,
    formula: "1 / (1 + e⁻ˣ)",
    of: () => ({ value: sigmoidOf, derivative: (x) => sigmoidOf(x) * sigmoidOf(-x) }),
  },
  tanh: {
    label: "tanh",
    article: true,
    formula: "(eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) = 2 sigmoid(2x) − 1",
    of: () => ({ value: Math.tanh, derivative: (x) => 4 * sigmoidOf(2 * x) * sigmoidOf(-2 * x) }),
  },
  relu: {
    label: "ReLU",
    article: true,
    formula: reluFormula,
    parameters: {
      negative_slope: parameter("slope below", 0, 0, 1, 0.01),
      max_value: parameter("maximum", null, 0, 20, 0.5),
      threshold: parameter("threshold", 0, -2, 4, 0.1),
    },
    of: reluOf,
    breaks: (p) => [p.threshold, p.max_value ?? p.threshold],
  },
  elu: {
    label: "ELU",
    article: true,
    formula: "x for x > 0, α (eˣ − 1) below",
    parameters: { alpha: parameter("α", 1, 0.1, 3, 0.1) },
    of: ({ alpha }) => ({
      value: (x) => (x > 0 ? x : alpha * Math.expm1(x)),
      derivative: (x) => (x > 0 ? 1 : alpha * Math.exp(x)),
    }),
    breaks: () => [0],
  },
  leaky_divide: {
    label: "Leaky ReLU, x / a",
    article: true,
    formula: "x for x ≥ 0, x / a below",
    parameters: { a: parameter("a", 5.5, 1.1, 100, 0.1) },
    of: ({ a }) => ({ ...sloped(1 / a), value: (x) => (x >= 0 ? x : x / a) }),
    breaks: () => [0],
  },
  prelu: {
    label: "PReLU",
    article: true,
    formula: "x for x ≥ 0, α x below; α is learned",
    parameters: { alpha: parameter("α", 0.25, -0.5, 1.5, 0.01) },
    of: ({ alpha }) => sloped(alpha),
    breaks: () => [0],
  },
  rrelu: {
    label: "RReLU",
    article: true,
    formula:
      "x for x ≥ 0; below, x / a with a drawn anew from [lower, upper] while training, x / ((lower + upper) / 2) after it",
    parameters: { lower: parameter("lower", 3, 1, 8, 0.5), upper: parameter("upper", 8, 1, 20, 0.5) },
    of: ({ lower, upper }) => ({
      ...sloped(2 / (lower + upper)),
      value: (x) => (x >= 0 ? x : x / ((lower + upper) / 2)),
    }),
    breaks: () => [0],
    band: ({ lower, upper }) => [(x) => (x >= 0 ? x : x / lower), (x) => (x >= 0 ? x : x / upper)],
  },
  noisy_relu: {
    label: "Noisy ReLU",
    article: true,
    formula: "max(0, x + Y), Y normal with mean 0 and variance sigmoid(x) while training; max(0, x) after it",
    of: () => ({ ...sloped(0), value: (x) => Math.max(x, 0) }),
    breaks: () => [0],
    draw: (x, normal) => Math.max(0, x + Math.sqrt(sigmoidOf(x)) * normal),
  },
  linear: { label: "Linear", formula: "x", of: () => ({ value: (x) => x, derivative: () => 1 }) },
  leaky_relu: {
    label: "Leaky ReLU, slope",
    formula: "x for x ≥ 0, slope · x below",
    parameters: { negative_slope: parameter("slope", 0.2, 0, 1, 0.01) },
    of: ({ negative_slope }) => sloped(negative_slope),
    breaks: () => [0],
  },
  celu: {
    label: "CELU",
    formula: "x for x > 0, α (e^(x/α) − 1) below",
    parameters: { alpha: parameter("α", 1, 0.1, 3, 0.1) },
    of: ({ alpha }) => ({
      value: (x) => (x > 0 ? x : alpha * Math.expm1(x / alpha)),
      derivative: (x) => (x > 0 ? 1 : Math.exp(x / alpha)),
    }),
  },
  selu: {
    label: "SELU",
    formula: "1.0507 · (x for x > 0, 1.6733 (eˣ − 1) below)",
    of: () => ({
      value: (x) => SELU.scale * (x > 0 ? x : SELU.alpha * Math.expm1(x)),
      derivative: (x) => SELU.scale * (x > 0 ? 1 : SELU.alpha * Math.exp(x)),
    }),
    breaks: () => [0],
  },
  gelu: {
    label: "GELU",
    formula: "x Φ(x), Φ the normal distribution function",
    parameters: { approximate: { label: "tanh approximation", value: false } },
    of: ({ approximate }) => geluOf(approximate),
  },
  silu: {
    label: "SiLU (swish)",
    formula: "x · sigmoid(x)",
    of: () => ({ value: (x) => gated(x, sigmoidOf(x)), derivative: (x) => sigmoidOf(x) * (1 + x * sigmoidOf(-x)) }),
  },
  softplus: {
    label: "Softplus",
    formula: "ln(1 + eˣ)",
    of: () => ({ value: softplusOf, derivative: sigmoidOf }),
  },
  softsign: {
    label: "Softsign",
    formula: "x / (1 + |x|)",
    of: () => ({
      value: (x) => (Math.abs(x) === Infinity ? Math.sign(x) : x / (1 + Math.abs(x))),
      derivative: (x) => 1 / (1 + Math.abs(x)) ** 2,
    }),
  },
  hard_sigmoid: {
    label: "Hard sigmoid",
    formula: "slope · x + 0.5, cut to [0, 1]",
    parameters: { slope: parameter("slope", 1 / 6, 0.05, 0.5, 0.01) },
    of: ({ slope }) => ({
      value: (x) => clamp(slope * x + 0.5, 0, 1),
      derivative: (x) => (Math.abs(slope * x) < 0.5 ? slope : 0),
    }),
    breaks: ({ slope }) => [-0.5 / slope, 0.5 / slope],
  },
  hard_silu: {
    label: "Hard SiLU",
    formula: "x · (x / 6 + 0.5, cut to [0, 1])",
    of: () => ({
      value: (x) => gated(x, clamp(x / 6 + 0.5, 0, 1)),
      derivative: (x) => (x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5),
    }),
    breaks: () => [-3, 3],
  },
  exponential: { label: "Exponential", formula: "eˣ", of: () => ({ value: Math.exp, derivative: Math.exp }) },
  mish: {
    label: "Mish",
    formula: "x · tanh(softplus(x))",
    of: () => ({
      value: (x) => gated(x, Math.tanh(softplusOf(x))),
      derivative: (x) => {
        const t = Math.tanh(softplusOf(x));
        return t + x * (1 - t * t) * sigmoidOf(x);
      },
    }),
  },
};

/** The function `name` with `given` parameters, the others as they are by default. */
function functionOf(name, given = {}) {
  const definition = FUNCTIONS[name];
  const parameters = {};
  for (const [key, { value }] of Object.entries(definition.parameters ?? {})) {
    parameters[key] = key in given ? (given[key] === null ? null : numberOf(given[key])) : value;
  }
  const { formula } = definition;
  const { value, derivative } = definition.of(parameters);
  return {
    name,
    ...definition,
    given: parameters,
    value: (x) => (Number.isNaN(x) ? NaN : value(x)),
    derivative,
    formula: typeof formula === "function" ? formula(parameters) : formula,
    breaks: definition.breaks?.(parameters) ?? [],
  };
}
