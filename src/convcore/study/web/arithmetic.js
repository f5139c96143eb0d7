// Arithmetic: every operation again, for one output value, in float64 on the exact float32 numbers of the record.
//
// explain(node, position, channel, options) returns all the numbers on the way: an object whose `kind` says what
// else is in it, with `value`, the result, in each; or { kind: "missing", reason } where inputs were not kept.

// --- what was kept ------------------------------------------------------------------------------------------------

/** Reads a kept box: (position, channel) to its number; undefined where that was not kept. */
function boxReader(box) {
  if (!box) return () => undefined;
  const values = array(box.values);
  const count = box.values.shape.at(-1) ?? 1;
  const slots = box.channels && new Map(box.channels.map((channel, slot) => [channel, slot]));
  return (position, channel) => {
    const local = position.map((p, axis) => p - box.start[axis]);
    const slot = slots ? slots.get(channel) : channel;
    return slot === undefined || !isInside(local, box.size) ? undefined : values[ravel(local, box.size) * count + slot];
  };
}

/** The block of output positions that holds this one, or undefined. */
function blockWith(node, position) {
  return node.exact?.blocks.find(
    ({ start, size }) => start.length === position.length && isInside(position.map((p, a) => p - start[a]), size),
  );
}

/** The engine's own float32 output, or undefined where it was not kept. */
function engineValue(node, position, channel) {
  const block = blockWith(node, position);
  if (!block) return undefined;
  const box = { start: block.start, size: block.size, values: block.output, channels: node.exact.channels };
  return boxReader(box)(position, channel);
}

function inputShapesOf(node) {
  return node.inputs.map((name) => STUDY.nodes[name].shape);
}

/** Where the weights of an output channel are: only those of kept channels are in the record. */
function keptSlot(node, channel) {
  return node.exact.channels.indexOf(channel);
}

/** A number of a weight that broadcasts against the output, at a full index of the output; undefined without it. */
function weightAt(node, name, index) {
  const blob = node.weights[name];
  if (!blob) return undefined;
  const { shape } = blob;
  const place = broadcastFrom(index, shape);
  const last = shape.length - 1;
  if (last >= 0 && shape[last] !== 1 && shape[last] !== node.shape.at(-1)) place[last] = keptSlot(node, index.at(-1));
  return array(blob)[ravel(place, shape)];
}

// --- float32 and differences --------------------------------------------------------------------------------------

/** The distance from a float32 to the next one away from zero. */
function unitInLastPlace(value) {
  const bits = new Uint32Array(1);
  const single = new Float32Array(bits.buffer);
  single[0] = Math.abs(value);
  const here = single[0];
  bits[0] += 1;
  return single[0] - here;
}

/** How far the engine's float32 is from the float64 value: { difference, units }, in units of the last place. */
function differenceTo(engine, value) {
  if (Object.is(engine, value) || engine === value) return { difference: 0, units: 0 };
  const difference = engine - value;
  return { difference, units: Math.abs(difference) / unitInLastPlace(value) };
}

/** The first entry of a list with the largest `size(entry)`, or undefined of an empty one. */
function largestOf(list, size) {
  return list.reduce((best, entry) => (best === undefined || size(entry) > size(best) ? entry : best), undefined);
}

/** The sum of the sizes of numbers: what rounding is measured against where they cancel. */
function totalSize(numbers) {
  return numbers.reduce((sum, number) => sum + Math.abs(number), 0);
}

// --- convolutions -------------------------------------------------------------------------------------------------

const CONVOLUTIONS = new Set(["conv", "depthwise_conv", "conv_transpose"]);

function spatialKernel(node) {
  const { shape } = node.weights.kernel;
  return shape.slice(0, node.operation === "depthwise_conv" ? -1 : -2);
}

function convolutionGeometry(node) {
  return { ...node.attributes, kernel: spatialKernel(node) };
}

/** The input channels that an output channel reads. */
function inputChannelsOf(node, channel) {
  const [inputs, outputs] = [inputShapesOf(node)[0].at(-1), node.shape.at(-1)];
  if (node.operation === "depthwise_conv") return [Math.floor(channel / (outputs / inputs))];
  const { first, count } = channelsRead(inputs, outputs, node.attributes.groups ?? 1, channel);
  return Array.from({ length: count }, (_, i) => first + i);
}

/** Reads the kernel of an output channel: (tap, place of the input channel among those read) to its number. */
function kernelReader(node, channel) {
  const kernel = array(node.weights.kernel);
  const { shape } = node.weights.kernel;
  const [rows, columns] = [shape.at(-2), shape.at(-1)];
  const slot = keptSlot(node, channel);
  const sizes = spatialKernel(node);
  if (node.operation === "depthwise_conv") return (tap) => kernel[ravel(tap, sizes) * columns + slot];
  if (node.operation === "conv_transpose") {
    return (tap, place) => kernel[(ravel(tap, sizes) * rows + slot) * columns + place];
  }
  return (tap, place) => kernel[(ravel(tap, sizes) * rows + place) * columns + slot];
}

/** The window of a convolution of any kind: for each tap, which input it meets. */
function convolutionWindow(node, position) {
  const sizes = inputShapesOf(node)[0].slice(0, -1);
  const window = node.operation === "conv_transpose" ? gatherWindow : readWindow;
  return window(convolutionGeometry(node), position, sizes);
}

function explainConvolution(node, position, channel, { inputChannel, flip = false }) {
  const block = blockWith(node, position);
  const cells = convolutionWindow(node, position);
  const channels = inputChannelsOf(node, channel);
  if (!block.inputs[0]) return missing("The inputs of this operation would have made the report too large.", { cells });
  const read = boxReader(block.inputs[0]);
  const weight = kernelReader(node, channel);
  const kernelSizes = spatialKernel(node);
  const withProducts = (place) => cells.map((cell) => {
    const tap = flip ? turnedTap(cell.tap, kernelSizes) : cell.tap;
    const k = weight(tap, place);
    // What lies outside the input, or in a gap, is not read: it counts as 0 whatever the kernel holds.
    const x = cell.kind === "real" ? read(cell.at, channels[place]) : 0;
    return { ...cell, kernelTap: tap, x, k, product: cell.kind === "real" ? x * k : 0 };
  });
  let sizes = 0;
  const sums = channels.map((c, place) => {
    const products = withProducts(place).map((cell) => cell.product);
    sizes += totalSize(products);
    return { channel: c, sum: products.reduce((sum, product) => sum + product, 0) };
  });
  const shown = Math.max(channels.indexOf(inputChannel), 0);
  const sum = sums.reduce((total, entry) => total + entry.sum, 0);
  const bias = weightAt(node, "bias", [channel]);
  return {
    kind: "products", cells: withProducts(shown), inputChannel: channels[shown], sums, sum, bias,
    sizes: sizes + Math.abs(bias ?? 0), value: sum + (bias ?? 0),
  };
}

/** What one input of a transposed convolution adds to each output under its kernel: cells with { at, k, product }. */
function explainScatter(node, position, channel, inputPosition, { inputChannel, flip = false }) {
  const sizes = spatialKernel(node);
  const outputSizes = node.shape.slice(0, -1);
  const x = boxReader(blockWith(node, position).inputs[0])(inputPosition, inputChannel);
  const weight = kernelReader(node, channel);
  const cells = scatterWindow(convolutionGeometry(node), inputPosition, outputSizes).map((cell) => {
    const kernelTap = flip ? turnedTap(cell.tap, sizes) : cell.tap;
    const k = weight(kernelTap, inputChannel);
    return { ...cell, kernelTap, k, product: x * k, chosen: samePosition(cell.at, position) };
  });
  return { x, cells };
}

// --- dense --------------------------------------------------------------------------------------------------------

/** Most groups into which the inputs of a dense layer are gathered, so that their sums can be seen at once. */
const MOST_GROUPS = 256;

/** How many inputs make a group: the channels of one pixel where the input is a flattened map, else about 32 groups. */
function groupLength(node) {
  const count = node.weights.kernel.shape[0];
  const map = flattenedShape(node);
  if (map && count / map.at(-1) <= MOST_GROUPS) return map.at(-1);
  return Math.max(Math.ceil(count / 32), Math.min(count, 8));
}

/** The shape of the map that was flattened to make a dense layer's input, or null. */
function flattenedShape(node) {
  let source = STUDY.nodes[node.inputs[0]];
  while (source.operation === "identity" || source.operation === "activation") source = STUDY.nodes[source.inputs[0]];
  if (source.operation !== "reshape" || source.shape.length !== 1) return null;
  const { shape } = STUDY.nodes[source.inputs[0]];
  return shape.length > 1 ? shape : null;
}

function explainDense(node, position, channel) {
  const box = blockWith(node, position).inputs[0];
  if (!box) return missing("The inputs of this operation would have made the report too large.");
  const read = boxReader(box);
  const kernel = array(node.weights.kernel);
  const [inputs, kept] = node.weights.kernel.shape;
  const slot = keptSlot(node, channel);
  const terms = Array.from({ length: inputs }, (_, index) => {
    const [x, k] = [read(position, index), kernel[index * kept + slot]];
    return { index, x, k, product: x * k };
  });
  const length = groupLength(node);
  const groups = Array.from({ length: Math.ceil(inputs / length) }, (_, group) => {
    const members = terms.slice(group * length, (group + 1) * length);
    return { first: group * length, count: members.length, sum: members.reduce((sum, t) => sum + t.product, 0) };
  });
  const sum = groups.reduce((total, group) => total + group.sum, 0);
  const bias = weightAt(node, "bias", [channel]);
  const sizes = totalSize(terms.map((term) => term.product)) + Math.abs(bias ?? 0);
  return { kind: "terms", terms, groups, sum, bias, sizes, value: sum + (bias ?? 0) };
}

// --- pooling ------------------------------------------------------------------------------------------------------

const POOLS = new Set(["max_pool", "average_pool", "global_max_pool", "global_average_pool"]);

function poolWindow(node, position) {
  const sizes = inputShapesOf(node)[0].slice(0, -1);
  if (node.operation.startsWith("global")) return wholeWindow(sizes);
  const { pool_size: kernel } = node.attributes;
  return readWindow({ ...node.attributes, kernel, dilation: kernel.map(() => 1) }, position, sizes);
}

function explainPool(node, position, channel) {
  const box = blockWith(node, position).inputs[0];
  const cells = poolWindow(node, position);
  if (!box) return missing("The inputs of this operation would have made the report too large.", { cells });
  const read = boxReader(box);
  const filled = cells.map((cell) => ({ ...cell, x: cell.kind === "real" ? read(cell.at, channel) : undefined }));
  const real = filled.filter((cell) => cell.kind === "real");
  if (node.operation.endsWith("max_pool")) {
    const winner = winnerOf(real);
    return {
      kind: "maximum", value: winner ? winner.x : -Infinity,
      cells: filled.map((cell) => ({ ...cell, winner: cell === winner })),
    };
  }
  const sum = real.reduce((total, cell) => total + cell.x, 0);
  const includesPadding = Boolean(node.attributes.include_padding);
  const divisor = includesPadding ? cells.length : real.length;
  return { kind: "mean", cells: filled, sum, divisor, includesPadding, value: sum / divisor };
}

/** The first cell that holds the maximum; a NaN is above all, as in the engine. */
function winnerOf(cells) {
  return cells.find((cell) => Number.isNaN(cell.x)) ?? largestOf(cells, (cell) => cell.x);
}

// --- value by value -----------------------------------------------------------------------------------------------

function inputValue(node, position, channel, input = 0) {
  const shape = inputShapesOf(node)[input];
  const index = broadcastFrom([...position, channel], shape);
  return boxReader(blockWith(node, position).inputs[input])(index.slice(0, -1), index.at(-1));
}

/** y = a x + b; `parts` say where a and b come from. */
function explainBatchNorm(node, position, channel) {
  const { epsilon } = node.attributes;
  const { axis, name: axisIs } = axisOf(node);
  const along = [...position, channel][axis];
  const isLast = axis === node.shape.length - 1;
  const vector = (name) => {
    const blob = node.weights[name];
    return blob && array(blob)[isLast && blob.shape[0] !== node.shape.at(-1) ? keptSlot(node, channel) : along];
  };
  const [gamma, beta, mean, variance] = ["gamma", "beta", "mean", "variance"].map(vector);
  const a = (gamma ?? 1) / Math.sqrt(variance + epsilon);
  const b = (beta ?? 0) - mean * a;
  const x = inputValue(node, position, channel);
  return {
    kind: "line", x, a, b, value: a * x + b, along: `${axisIs} ${along}`,
    parts: [
      { name: "gamma γ", value: gamma, absent: "1 (none in the file)" },
      { name: "beta β", value: beta, absent: "0 (none in the file)" },
      { name: "mean μ", value: mean },
      { name: "variance σ²", value: variance },
      { name: "epsilon ε", value: epsilon },
    ],
    aFrom: "γ / √(σ² + ε)", bFrom: "β − μ a",
  };
}

function explainAffine(node, position, channel) {
  const index = [...position, channel];
  const [a, b] = [weightAt(node, "scale", index), weightAt(node, "offset", index)];
  const x = inputValue(node, position, channel);
  return { kind: "line", x, a, b, value: x * a + b, parts: [], aFrom: "scale", bFrom: "offset" };
}

function explainPrelu(node, position, channel) {
  const alpha = weightAt(node, "alpha", [...position, channel]);
  const x = inputValue(node, position, channel);
  return {
    kind: "function", x, formula: `x where x ≥ 0, α x below; α = ${text9(alpha)}`,
    value: x >= 0 ? x : alpha * x,
  };
}

function explainActivation(node, position, channel) {
  return applyActivation(node, inputValue(node, position, channel));
}

/** An activation node's function at x. */
function applyActivation(node, x) {
  const curve = functionOf(node.attributes.kind, node.attributes.parameters);
  return { kind: "function", x, formula: formulaOf(curve), value: curve.value(x) };
}

function formulaOf(curve) {
  const { negative_slope: slope, max_value: most, threshold } = curve.given;
  if (curve.name === "relu" && !slope && !threshold) {
    return most === null ? "max(x, 0)" : `max(x, 0), at most ${text9(most)}`;
  }
  return curve.formula + givenText(curve);
}

/** The axis of an output that an operation works along, and its name; the last axis is that of the channels. */
function axisOf(node) {
  const rank = node.shape.length;
  const axis = (node.attributes.axis + rank) % rank;
  return { axis, name: axis === rank - 1 ? "channel" : axisName(rank - 1, axis) };
}

function explainSoftmax(node, position, channel) {
  const { axis, name } = axisOf(node);
  const place = [...position, channel];
  const read = boxReader(blockWith(node, position).inputs[0]);
  const source = STUDY.nodes[node.inputs[0]];
  const xs = Array.from({ length: node.shape[axis] }, (_, index) => {
    const at = place.with(axis, index);
    return read(at.slice(0, -1), at.at(-1)) ?? engineValue(source, at.slice(0, -1), at.at(-1));
  });
  if (xs.includes(undefined)) {
    return missing(`This softmax runs along the ${name}, and not all ${xs.length} values along it were kept.`);
  }
  // Math.max(...xs) would pass thousands of arguments.
  const max = xs.reduce((best, x) => (x > best || Number.isNaN(x) ? x : best), -Infinity);
  const exps = xs.map((x) => Math.exp(x - max));
  const sum = exps.reduce((total, e) => total + e, 0);
  const row = xs.map((x, index) => ({ index, x, shifted: x - max, exp: exps[index], share: exps[index] / sum }));
  return { kind: "softmax", row, axis: name, index: place[axis], max, sum, value: exps[place[axis]] / sum };
}

const COMBINE = {
  add: { sign: "+", of: (a, b) => a + b },
  subtract: { sign: "−", of: (a, b) => a - b },
  multiply: { sign: "×", of: (a, b) => a * b },
  average: { sign: "+", of: (a, b) => a + b },
  maximum: { sign: "max", of: (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.max(a, b)) },
  minimum: { sign: "min", of: (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.min(a, b)) },
};

function explainCombination(node, position, channel) {
  const operands = node.inputs.map((name, input) => ({ name, x: inputValue(node, position, channel, input) }));
  if (operands.some(({ x }) => x === undefined)) return missing("Not all inputs of this operation were kept.");
  const { sign, of } = COMBINE[node.operation];
  const all = operands.map(({ x }) => x).reduce(of);
  const divisor = node.operation === "average" ? operands.length : null;
  return { kind: "combination", operands, sign, divisor, sum: all, value: divisor ? all / divisor : all };
}

// --- moving and resizing ------------------------------------------------------------------------------------------

function explainMove(node, position, channel) {
  const shapes = inputShapesOf(node);
  const source = movedFrom(node, [...position, channel], shapes);
  if (source === null) return { kind: "moved", source: null, value: 0 };
  const box = blockWith(node, position).inputs[source.input];
  const x = boxReader(box)(source.index.slice(0, -1), source.index.at(-1));
  // Nothing is computed, so the engine's output is the input, where the input itself was not kept.
  const value = x ?? engineValue(node, position, channel);
  return { kind: "moved", source, name: node.inputs[source.input], x, value };
}

function explainResize(node, position, channel) {
  const box = blockWith(node, position).inputs[0];
  if (!box) return missing("The inputs of this operation would have made the report too large.");
  const read = boxReader(box);
  const cells = resizedFrom(node, position, inputShapesOf(node)[0].slice(0, -1)).map((cell) => {
    const x = read(cell.at, channel);
    return { ...cell, kind: "real", x, product: cell.weight * x };
  });
  return { kind: "mixture", cells, value: cells.reduce((sum, cell) => sum + cell.product, 0) };
}

// --- all operations -----------------------------------------------------------------------------------------------

const EXPLAIN = {
  conv: explainConvolution, depthwise_conv: explainConvolution, conv_transpose: explainConvolution,
  dense: explainDense,
  max_pool: explainPool, average_pool: explainPool, global_max_pool: explainPool, global_average_pool: explainPool,
  batch_norm: explainBatchNorm, affine: explainAffine, prelu: explainPrelu, activation: explainActivation,
  softmax: explainSoftmax,
  add: explainCombination, subtract: explainCombination, multiply: explainCombination,
  average: explainCombination, maximum: explainCombination, minimum: explainCombination,
  concatenate: explainMove, reshape: explainMove, permute: explainMove, reverse: explainMove, pad: explainMove,
  crop: explainMove, upsample: explainMove, identity: explainMove,
  resize: explainResize,
};

/** All numbers on the way to one output value of a node; options are { inputChannel, flip }. */
function explain(node, position, channel, options = {}) {
  const found = EXPLAIN[node.operation](node, position, channel, options);
  if (found.kind === "missing" || found.value !== undefined && !hidesUnknown(found)) return found;
  return missing("The inputs that this value is made of were not kept.");
}

/** An input that was not kept is undefined, and what is computed from it NaN, which must not look like a result. */
function hidesUnknown(found) {
  const cells = found.cells ?? found.terms ?? found.row ?? [];
  return ("x" in found && found.x === undefined && found.kind !== "moved")
    || cells.some((cell) => cell.x === undefined && (cell.kind ?? "real") === "real");
}

function missing(reason, more = {}) {
  return { kind: "missing", reason, value: undefined, ...more };
}
