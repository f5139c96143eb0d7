// Geometry: which inputs an output value reads. No values here, only indices; the last axis runs fastest.
//
// Positions hold one index for each spatial axis (none, 1, 2 or 3 of them). A cell is one tap of a window:
// { tap, at, kind }, where `kind` is "real" (at is a position of the input), "padding" (it lies outside) or
// "gap" (it lies between two inputs, where a transposed convolution's stride leaves nothing).

/** Every index of an array of these sizes, in order. */
function everyIndex(sizes) {
  return sizes.reduce(
    (heads, size) => heads.flatMap((head) => Array.from({ length: size }, (_, i) => [...head, i])),
    [[]],
  );
}

/** Every position of a box, in order: start [2, 0], size [2, 2] -> [2, 0], [2, 1], [3, 0], [3, 1]. */
function positionsIn({ start, size }) {
  return everyIndex(size).map((local) => local.map((p, axis) => p + start[axis]));
}

/** The place of an index in memory. */
function ravel(index, sizes) {
  return index.reduce((place, i, axis) => place * sizes[axis] + i, 0);
}

/** The index at a place in memory. */
function unravel(place, sizes) {
  const index = [];
  for (const size of [...sizes].reverse()) {
    index.unshift(place % size);
    place = Math.floor(place / size);
  }
  return index;
}

function isInside(position, sizes) {
  return position.every((p, axis) => p >= 0 && p < sizes[axis]);
}

function samePosition(a, b) {
  return a.length === b.length && a.every((p, axis) => p === b[axis]);
}

/** The tap that a kernel turned around on every axis has in this place. */
function turnedTap(tap, kernel) {
  return tap.map((t, axis) => kernel[axis] - 1 - t);
}

/**
 * The window of a convolution or pooling: tap t of output p meets input p s + t d - low.
 * `geometry` has kernel, strides, dilation and padding, one entry (a pair of padding) for each spatial axis.
 */
function readWindow(geometry, position, inputSizes) {
  const { kernel, strides, dilation, padding } = geometry;
  return everyIndex(kernel).map((tap) => {
    const at = tap.map((t, a) => position[a] * strides[a] + t * dilation[a] - padding[a][0]);
    return { tap, at, kind: isInside(at, inputSizes) ? "real" : "padding" };
  });
}

/** Global pooling: the window is the whole map. */
function wholeWindow(inputSizes) {
  return everyIndex(inputSizes).map((at) => ({ tap: at, at, kind: "real" }));
}

/**
 * What a transposed convolution gathers for an output: input i adds tap t of the kernel to output i s + t d - low,
 * so output q hears from i = (q + low - t d) / s where that is whole. Cells are in the order of the inputs, which
 * is the kernel's order turned around: the gather is a convolution over the input with s - 1 gaps between samples.
 */
function gatherWindow(geometry, position, inputSizes) {
  const { kernel, strides, dilation, padding } = geometry;
  return everyIndex(kernel).map((place) => {
    const tap = turnedTap(place, kernel);
    const at = tap.map((t, a) => (position[a] + padding[a][0] - t * dilation[a]) / strides[a]);
    if (!at.every(Number.isInteger)) return { tap, at, kind: "gap" };
    return { tap, at, kind: isInside(at, inputSizes) ? "real" : "padding" };
  });
}

/** Where a transposed convolution scatters an input to: every tap lands on an output, or on what is cut off. */
function scatterWindow(geometry, inputPosition, outputSizes) {
  const { kernel, strides, dilation, padding } = geometry;
  return everyIndex(kernel).map((tap) => {
    const at = tap.map((t, a) => inputPosition[a] * strides[a] + t * dilation[a] - padding[a][0]);
    return { tap, at, kind: isInside(at, outputSizes) ? "real" : "padding" };
  });
}

/** The input channels that an output channel of a (grouped) convolution reads: { first, count, group }. */
function channelsRead(inputChannels, outputChannels, groups, channel) {
  const count = inputChannels / groups;
  const group = Math.floor(channel / (outputChannels / groups));
  return { first: group * count, count, group };
}

/** The smallest box round the windows of a box of output positions, padding included: { start, size }. */
function boxOfWindows(windowOf, start, size) {
  const last = start.map((s, axis) => s + size[axis] - 1);
  const low = start.map(() => Infinity);
  const high = start.map(() => -Infinity);
  for (const { at } of [...windowOf(start), ...windowOf(last)]) {
    at.forEach((p, axis) => {
      low[axis] = Math.min(low[axis], Math.floor(p));
      high[axis] = Math.max(high[axis], Math.ceil(p));
    });
  }
  return { start: low, size: high.map((h, axis) => h - low[axis] + 1) };
}

/**
 * Where an operation that only moves numbers about takes an output from: { input, index }, with the full index
 * (channel last) in that input; null where the output is a zero that was put in.
 */
function movedFrom(node, index, inputShapes) {
  if (node.operation === "concatenate") return joinedFrom(node.attributes.axis, index, inputShapes);
  const source = moveOf(node, index, inputShapes[0]);
  return isInside(source, inputShapes[0]) ? { input: 0, index: source } : null;
}

/** The same for one input: its index, which lies outside of it where a zero was put in. */
function moveOf(node, index, shape) {
  const a = node.attributes;
  switch (node.operation) {
    case "identity": return index;
    case "reshape": return unravel(ravel(index, node.shape), shape);
    case "permute": return shape.map((_, axis) => index[a.axes.indexOf(axis)]);
    case "reverse": return index.map((i, axis) => (axis === a.axis ? shape[axis] - 1 - i : i));
    case "pad": return index.map((i, axis) => i - a.padding[axis][0]);
    case "crop": return index.map((i, axis) => i + a.cropping[axis][0]);
    case "upsample": return index.map((i, axis) => (axis < a.size.length ? Math.floor(i / a.size[axis]) : i));
  }
  throw new Error(`not an operation that moves numbers: ${node.operation}`);
}

function joinedFrom(axis, index, inputShapes) {
  let before = 0;
  for (const [input, shape] of inputShapes.entries()) {
    if (index[axis] < before + shape[axis]) {
      return { input, index: index.map((i, other) => (other === axis ? i - before : i)) };
    }
    before += shape[axis];
  }
  return undefined;
}

/**
 * The input pixels that a resized output is mixed from, each { at, weight }: four for "bilinear", one for
 * "nearest". Pixel centres lie at half integers, and edges are held.
 */
function resizedFrom(node, position, inputSizes) {
  const axes = position.map((p, axis) => {
    const [i, o] = [inputSizes[axis], node.attributes.size[axis]];
    if (node.attributes.interpolation === "nearest") {
      // In float32, as TensorFlow does it: on the border between two pixels rounding decides.
      const place = Math.fround(Math.fround(p + 0.5) * Math.fround(i / o));
      return [{ at: Math.min(Math.floor(place), i - 1), weight: 1 }];
    }
    const place = Math.min(Math.max(((p + 0.5) * i) / o - 0.5, 0), i - 1);
    const low = Math.floor(place);
    return [{ at: low, weight: 1 - (place - low) }, { at: Math.min(low + 1, i - 1), weight: place - low }];
  });
  return everyIndex(axes.map((axis) => axis.length)).map((choice) => ({
    at: choice.map((i, axis) => axes[axis][i].at),
    weight: choice.reduce((product, i, axis) => product * axes[axis][i].weight, 1),
  }));
}

/** NumPy's broadcasting: the index in an input of `shape` that belongs to an index of the output. */
function broadcastFrom(index, shape) {
  return index.slice(index.length - shape.length).map((i, axis) => (shape[axis] === 1 ? 0 : i));
}
