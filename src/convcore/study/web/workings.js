// The numbers on the way to one output value, as tables: what explain() found, for each kind of operation.

/** Most cells of a window that are drawn as a grid, and rows of a list that are shown at once. */
const MOST_GRID_CELLS = 225;
const ROWS_A_PAGE = 12;

/** The elements that show what was found for the place that a spreadsheet looks at. */
function detailOf(sheet, found) {
  const { main } = sheet.calculation;
  return [
    headline(sheet, found),
    element("p", { class: "formula" }, (FORMULAS[found.kind] ?? (() => ""))(main, found, sheet)),
    ...(WORKINGS[found.kind]?.(sheet, found) ?? []),
    element("div", { class: "sums" }, LISTS[found.kind]?.(sheet, found), totalsOf(sheet, found)),
  ];
}

/** The place and its result, in sight while the window walks. */
function headline(sheet, found) {
  const { value, engine } = sheet.result(found);
  return element("div", { class: "headline" },
    element("h4", {}, `Output at ${placeText(sheet.place)}`),
    element("p", {}, value === undefined ? null : element("b", {}, `= ${text9(value)}`),
      engine === undefined ? null : element("span", { class: "note" }, ` engine ${text9(engine)}`)));
}

/** What is shown above the sums, and the list beside the total. */
const WORKINGS = { products: productsShown, maximum: windowShown, mean: windowShown, missing: missingShown };
const LISTS = {
  products: channelSums, terms: termsList, softmax: softmaxList, line: weightsList, combination: operandsList,
  mixture: pixelsList,
};

// --- the operation in a line --------------------------------------------------------------------------------------

function times(sizes) {
  return sizes.join(" × ");
}

const FORMULAS = {
  products: (node, found, sheet) => {
    const taps = times(spatialKernel(node));
    const channels = found.sums.length === 1 ? "1 input channel" : `${found.sums.length} input channels`;
    const bias = found.bias === undefined ? "" : " + bias";
    const what = node.operation === "conv_transpose" ? "every input that reaches this output" : "the window";
    const turned = sheet.flip ? ", the kernel turned around" : "";
    const group = groupText(node, sheet.place.channel);
    return `y = Σ x · k${bias}, over ${taps} taps of ${what} and ${channels}${turned}.${group}`;
  },
  terms: (node, { terms, bias }) => `y = Σ x · w${bias === undefined ? "" : " + bias"}, over ${terms.length} inputs.`,
  maximum: (node, found) => `y = the largest of ${found.cells.length} values. Padding counts as −∞: it never wins.`,
  mean: (node, found) => `y = Σ x / ${found.divisor}. ${found.includesPadding
    ? "Padding counts as zeros: the divisor is the whole window."
    : "The divisor is the number of real values: padding is not counted."}`,
  softmax: (node, found) => `y = e^(x − max) / Σ e^(x − max), over the ${found.row.length} values along the ${found.axis}.`,
  line: (node) => (node.operation === "batch_norm"
    ? "y = γ (x − μ) / √(σ² + ε) + β, which is y = a x + b." : "y = a x + b."),
  function: (node, found) => `y = ${found.formula}.`,
  combination: (node, found) => combinationText(found),
  moved: movedText,
  mixture: ({ attributes }, { cells }) => (
    `y = Σ x · weight, over ${cells.length} input pixels (${attributes.interpolation}).`),
};

function combinationText({ operands, sign, divisor }) {
  if (sign.length > 1) return `y = ${sign} of ${operands.length} values.`;
  const sum = operands.map((_, i) => `x${subscript(i + 1)}`).join(` ${sign} `);
  return divisor ? `y = (${sum}) / ${divisor}.` : `y = ${sum}.`;
}

function subscript(number) {
  return String(number).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
}

function groupText(node, channel) {
  const groups = node.attributes.groups ?? 1;
  if (groups === 1) return "";
  const { group, first, count } = channelsRead(inputShapesOf(node)[0].at(-1), node.shape.at(-1), groups, channel);
  const read = count === 1 ? `channel ${first}` : `channels ${first} to ${first + count - 1}`;
  return ` Group ${group} of ${groups} (counted from 0) reads ${read} alone.`;
}

function movedText(node, found) {
  if (!found.source) return "This output is a zero that the operation put in.";
  const { index } = found.source;
  const from = index.length <= 4
    ? placeText({ position: index.slice(0, -1), channel: index.at(-1) }) : `index ${index.join(", ")}`;
  return `y = x: nothing is computed. It comes from ${from} of ${found.name}.`;
}

// --- grids of a window --------------------------------------------------------------------------------------------

/** The cells of a window slice by slice: one slice, but for a volume one for each depth. */
function slicesOf(cells, sizes) {
  return inPieces(cells, (sizes.at(-2) ?? 1) * sizes.at(-1));
}

/**
 * Cells of a slice as a table. `value(cell)` gives its colour, `text(cell)` its number, `words(cell)` what it is where
 * that cannot be seen, `labels(cell)` its index on each axis. `most` is the largest value of all slices.
 */
function gridOf({ name, caption, cells, sizes, value, most, text, words, labels, kind }) {
  const columns = sizes.at(-1);
  const depth = sizes.length > 2 ? `, depth ${axisLabel(labels(cells[0])[0])}` : "";
  const cellOf = (cell) => {
    const { class: tint, style } = heat(value(cell), most);
    const said = words?.(cell);
    return element("td", { class: `${kind?.(cell) ?? ""} ${tint}`, style },
      element("span", { class: "number" }, text(cell)), said && element("span", { class: "unseen" }, ` (${said})`));
  };
  return element("div", { class: "scroll" }, element("table", { class: "grid", dataset: { grid: name } },
    element("caption", {}, caption + depth),
    element("thead", {}, element("tr", {}, element("td", {}),
      cells.slice(0, columns).map((cell) => element("th", { scope: "col" }, axisLabel(labels(cell).at(-1)))))),
    element("tbody", {}, inPieces(cells, columns).map((row) => element("tr", {},
      element("th", { scope: "row" }, sizes.length > 1 ? axisLabel(labels(row[0]).at(-2)) : ""), row.map(cellOf))))));
}

/** All slices, one below the other; `grids(cells)` gives the elements of one. */
function everySlice(cells, sizes, grids) {
  return slicesOf(cells, sizes).map((slice) => element("div", { class: "grids" }, grids(slice)));
}

/** An index; between two inputs of a transposed convolution there is none. */
function axisLabel(index) {
  return Number.isInteger(index) ? minus(index) : "·";
}

const GHOST_WORDS = { padding: "padding", gap: "between inputs" };

function ghostKind(cell) {
  return cell.kind === "real" ? "" : `ghost ${cell.kind}`;
}

function productsShown(sheet, found) {
  const { main } = sheet.calculation;
  const sizes = spatialKernel(main);
  const { cells, inputChannel } = found;
  const transposed = main.operation === "conv_transpose";
  const columns = {
    window: { caption: `Input, channel ${inputChannel}`, value: (c) => c.x, labels: (c) => c.at, kind: ghostKind },
    kernel: {
      caption: sheet.flip !== transposed ? "Kernel, turned around" : "Kernel",
      value: (c) => c.k, labels: (c) => c.kernelTap,
    },
    products: { caption: "Products", value: (c) => c.product, labels: (c) => c.at, kind: ghostKind },
  };
  const gridIn = (name) => {
    const { value } = columns[name];
    const most = largestSize(cells.map(value));
    const words = name === "kernel" ? undefined : (c) => GHOST_WORDS[c.kind];
    const text = (c) => text9(value(c));
    return (slice) => gridOf({ ...columns[name], name, cells: slice, sizes, most, text, words });
  };
  const [windowIn, kernelIn, productsIn] = ["window", "kernel", "products"].map(gridIn);
  return [
    transposed && element("h5", {}, "Gather: what this output is the sum of"),
    ...everySlice(cells, sizes,
      (slice) => [windowIn(slice), signed("×", kernelIn(slice)), signed("=", productsIn(slice))]),
    ghostNote(cells),
    transposed && scatterShown(sheet, found),
  ];
}

/** A grid with a sign before it. */
function signed(sign, grid) {
  return element("div", { class: "operand" }, element("span", { class: "sign", "aria-hidden": "true" }, sign), grid);
}

function ghostNote(cells) {
  const count = (kind) => cells.filter((cell) => cell.kind === kind).length;
  const [padding, gaps] = [count("padding"), count("gap")];
  const notes = [
    padding && `${padding} of ${cells.length} taps lie in the padding and count as 0`,
    gaps && `${gaps} lie between two inputs, where the stride leaves nothing`,
  ].filter(Boolean);
  return notes.length > 0 && element("p", { class: "note" }, `${notes.join("; ")}.`);
}

/** The other way to see a transposed convolution: one input, and all outputs that it adds to. */
function scatterShown(sheet, found) {
  const { main } = sheet.calculation;
  const { position, channel } = sheet.place;
  const sources = found.cells.filter((cell) => cell.kind === "real");
  const from = sheet.scatterSource(found);
  if (!from) return element("p", { class: "note" }, "No input reaches this output: it is the bias alone.");
  const options = { inputChannel: found.inputChannel, flip: sheet.flip };
  const { x, cells } = explainScatter(main, position, channel, from.at, options);
  const choose = chooser("Input", sources.map((cell) => positionText(cell.at)), sources.indexOf(from), (index) => {
    sheet.scatterFrom = sources[index].at;
    sheet.draw();
  });
  choose.querySelector("select").dataset.key = "scatter";
  return element("section", { class: "scatter" },
    element("h5", {}, "Scatter: what one input adds to the output"),
    choose,
    element("p", { class: "note" }, `Its value in channel ${found.inputChannel} is `, element("b", {}, text9(x)),
      "; times the kernel it is added to these outputs. The marked one is the output above; what falls outside is "
      + "cut off."),
    everySlice(cells, spatialKernel(main), (slice) => gridOf({
      name: "scatter", caption: "Added to the outputs", cells: slice, sizes: spatialKernel(main),
      value: (c) => c.product, most: largestSize(cells.map((c) => c.product)), text: (c) => text9(c.product),
      labels: (c) => c.at,
      words: (c) => (c.chosen ? "this output" : c.kind === "padding" ? "cut off" : ""),
      kind: (c) => `${ghostKind(c)} ${c.chosen ? "winner" : ""}`,
    })));
}

function windowShown(sheet, found) {
  const { main } = sheet.calculation;
  const isMax = found.kind === "maximum";
  const ghost = isMax ? "−∞" : found.includesPadding ? "0" : "–";
  const text = (cell) => (cell.kind === "real" ? text9(cell.x) : ghost);
  const words = (cell) => (cell.winner ? "the largest" : cell.kind === "real" ? "" : isMax || found.includesPadding
    ? "padding" : "padding, not counted");
  if (found.cells.length > MOST_GRID_CELLS) {
    return [sortedTable(sheet, {
      name: "window", caption: `Window, channel ${sheet.place.channel}`, rows: found.cells, by: (cell) => cell.x,
      columns: ["Position", "x"], cells: (cell) => [positionText(cell.at), text(cell)], marked: (cell) => cell.winner,
    })];
  }
  const sizes = main.attributes.pool_size ?? inputShapesOf(main)[0].slice(0, -1);
  return everySlice(found.cells, sizes, (slice) => gridOf({
    name: "window", caption: `Input, channel ${sheet.place.channel}`, cells: slice, sizes, value: (c) => c.x,
    most: largestSize(found.cells.map((c) => c.x)), text, words, labels: (c) => c.at,
    kind: (c) => `${ghostKind(c)} ${c.winner ? "winner" : ""}`,
  }));
}

// --- lists --------------------------------------------------------------------------------------------------------

/**
 * A table with a page of rows at a time, those with the largest `by(row)` first or as they are. `cells(row)` are
 * texts, the first of them the row's heading; `press(row)`, where there is one, makes the headings buttons.
 */
function sortedTable(sheet, { name, caption, rows, by, columns, cells, marked, press }) {
  const ordered = sheet.order === "largest" ? largestFirst(rows, by) : rows;
  const pages = Math.max(Math.ceil(ordered.length / ROWS_A_PAGE), 1);
  const page = Math.min(sheet.pages[name] ?? 0, pages - 1);
  const shown = ordered.slice(page * ROWS_A_PAGE, (page + 1) * ROWS_A_PAGE);
  const turn = (to) => {
    sheet.pages[name] = to;
    sheet.draw();
    announce(`${caption}, page ${to + 1} of ${pages}`);
  };
  const heading = (row, text) => (press ? element("button", {
    type: "button", class: "plain", "aria-pressed": String(marked(row)), onclick: () => press(row),
    dataset: { key: `${name} ${text}` },
  }, text) : text);
  return element("div", { class: "list" },
    element("div", { class: "scroll" }, element("table", { class: "numbers list-table", dataset: { list: name } },
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, columns.map((column) => element("th", { scope: "col" }, column)))),
      element("tbody", {}, shown.map((row) => element("tr", { class: marked?.(row) ? "marked" : null },
        cells(row).map((text, i) => (i === 0
          ? element("th", { scope: "row" }, heading(row, text))
          : element("td", {}, element("span", { class: "number" }, text))))))))),
    rows.length > 1 && listControls(sheet, name, { page, pages, turn }));
}

/** NaN and the infinities come first: they are what one looks for. */
function largestFirst(rows, by) {
  const rank = (row) => (Number.isNaN(by(row)) ? Infinity : by(row) ?? -Infinity);
  return [...rows].sort((a, b) => (rank(a) === rank(b) ? 0 : rank(b) - rank(a)));
}

function listControls(sheet, name, { page, pages, turn }) {
  const order = chooser("Order", ["largest first", "as stored"], sheet.order === "largest" ? 0 : 1, (index) => {
    sheet.order = index === 0 ? "largest" : "stored";
    sheet.pages = {};
    sheet.draw();
  });
  order.querySelector("select").dataset.key = `${name} order`;
  const button = (text, words, to) => element("button", {
    type: "button", "aria-label": words, disabled: to < 0 || to >= pages, onclick: () => turn(to),
    dataset: { key: `${name} ${words}` },
  }, text);
  return element("div", { class: "controls" }, order, pages > 1 && [
    button("◂", "Previous page", page - 1), element("span", { class: "note" }, `${page + 1} of ${pages}`),
    button("▸", "Next page", page + 1)]);
}

function channelSums(sheet, found) {
  if (found.sums.length === 1) return null;
  return sortedTable(sheet, {
    name: "channels", caption: "Sum of each input channel", rows: found.sums, by: (entry) => Math.abs(entry.sum),
    columns: ["Channel", "Sum of its products"], cells: (entry) => [`channel ${entry.channel}`, text9(entry.sum)],
    marked: (entry) => entry.channel === found.inputChannel,
    press: (entry) => {
      sheet.inputChannel = entry.channel;
      sheet.draw();
      announce(`Input channel ${entry.channel}: its products sum to ${text9(entry.sum)}`);
    },
  });
}

function groupName({ first, count }) {
  return count === 1 ? `input ${first}` : `inputs ${first} to ${first + count - 1}`;
}

/** The group that was chosen, else the one with the largest sum. */
function chosenGroup(sheet, { groups }) {
  return groups[sheet.group] ?? largestOf(groups, (group) => Math.abs(group.sum));
}

function groupsList(sheet, found) {
  const map = flattenedShape(sheet.calculation.main);
  return sortedTable(sheet, {
    name: "groups", caption: map ? "Sum of each pixel's inputs" : "Sums of groups of inputs",
    rows: found.groups, by: (group) => Math.abs(group.sum), columns: ["Group", "Sum of its products"],
    cells: (group) => [groupName(group), text9(group.sum)], marked: (group) => group === chosenGroup(sheet, found),
    press: (group) => {
      sheet.group = found.groups.indexOf(group);
      sheet.allTerms = false;
      sheet.pages.terms = 0;
      sheet.draw();
      announce(`${groupName(group)}: their products sum to ${text9(group.sum)}`);
    },
  });
}

function termsList(sheet, found) {
  const map = flattenedShape(sheet.calculation.main);
  const inputText = (index) => {
    if (!map) return `input ${index}`;
    const place = unravel(index, map);
    return `${index}: ${placeText({ position: place.slice(0, -1), channel: place.at(-1) })}`;
  };
  const all = sheet.allTerms || found.groups.length === 1;
  const group = chosenGroup(sheet, found);
  return [
    found.groups.length > 1 && groupsList(sheet, found),
    element("div", { class: "list" },
      found.groups.length > 1 && scopeChooser(sheet),
      sortedTable(sheet, {
        name: "terms", caption: all ? "Every product" : `Products of ${groupName(group)}`,
        rows: all ? found.terms : found.terms.slice(group.first, group.first + group.count),
        by: (term) => Math.abs(term.product), columns: ["Input", "x", "w", "x · w"],
        cells: (term) => [inputText(term.index), text9(term.x), text9(term.k), text9(term.product)],
      })),
  ];
}

function scopeChooser(sheet) {
  const choice = chooser("Products", ["of all inputs", "of the chosen group"], sheet.allTerms ? 0 : 1, (index) => {
    sheet.allTerms = index === 0;
    sheet.pages.terms = 0;
    sheet.draw();
  });
  choice.querySelector("select").dataset.key = "scope";
  return choice;
}

function softmaxList(sheet, found) {
  return sortedTable(sheet, {
    name: "softmax", caption: `The row of ${found.row.length} values`, rows: found.row, by: (entry) => entry.share,
    columns: ["Place", "x", "x − max", "e^(x − max)", "share"],
    cells: (entry) => [`${found.axis} ${entry.index}`, ...[entry.x, entry.shifted, entry.exp, entry.share].map(text9)],
    marked: (entry) => entry.index === found.index,
  });
}

function weightsList(sheet, found) {
  return found.parts.length > 0 && namedNumbers("parts", `Weights of ${found.along}`,
    found.parts.map(({ name, value, absent }) => [name, value === undefined ? absent : text9(value)]));
}

function operandsList(sheet, found) {
  return namedNumbers("operands", "Inputs",
    found.operands.map(({ name, x }, i) => [`x${subscript(i + 1)}, ${name}`, text9(x)]));
}

function namedNumbers(name, caption, rows) {
  return element("div", { class: "scroll" }, element("table", { class: "numbers totals", dataset: { list: name } },
    element("caption", {}, caption),
    element("tbody", {}, rows.map(([label, text]) => element("tr", {},
      element("th", { scope: "row" }, label), element("td", {}, element("span", { class: "number" }, text)))))));
}

function pixelsList(sheet, found) {
  return sortedTable(sheet, {
    name: "mixture", caption: "Input pixels", rows: found.cells, by: (cell) => cell.weight,
    columns: ["Position", "x", "weight", "x · weight"],
    cells: (cell) => [positionText(cell.at), text9(cell.x), text9(cell.weight), text9(cell.product)],
  });
}

function missingShown(sheet, found) {
  return [element("p", { class: "note" }, `${found.reason} The engine's own output is below.`)];
}

// --- how it adds up -----------------------------------------------------------------------------------------------

/** Rows of the last table before the result: [name, label, value]. */
const SUMMANDS = {
  products: (found) => [
    ["sum", found.sums.length === 1 ? "Sum of the products" : `Sum of ${found.sums.length} channels`, found.sum],
    found.bias !== undefined && ["bias", "+ bias", found.bias],
  ],
  terms: (found) => [
    ["sum", `Sum of ${found.terms.length} products`, found.sum],
    found.bias !== undefined && ["bias", "+ bias", found.bias],
  ],
  mean: (found) => [["sum", "Sum", found.sum], ["divisor", "Divisor", found.divisor]],
  softmax: (found) => {
    const { x, exp } = found.row[found.index];
    return [
      ["x", "x", x], ["max", "Largest of the row, taken off", found.max], ["exp", "e^(x − max)", exp],
      ["sum", "Sum of the row", found.sum],
    ];
  },
  line: (found) => [
    ["x", "x", found.x], ["a", `a = ${found.aFrom}`, found.a], ["b", `b = ${found.bFrom}`, found.b],
    ["ax", "a x", found.a * found.x],
  ],
  function: (found) => [["x", "x", found.x]],
  combination: (found) => (found.divisor ? [["sum", "Sum", found.sum], ["divisor", "Divisor", found.divisor]] : []),
  moved: (found) => (found.x === undefined ? [] : [["x", "x", found.x]]),
};

function totalsOf(sheet, found) {
  const { main, then } = sheet.calculation;
  const { position, channel } = sheet.place;
  const summands = (SUMMANDS[found.kind]?.(found, sheet) ?? []).filter(Boolean);
  const label = then ? "Before the activation" : "Result";
  const rows = [
    ...summands.map(([name, words, value]) => totalRow(name, words, text9(value))),
    ...resultRows("value", label, found.value, engineValue(main, position, channel), sheet),
  ];
  if (then && found.value !== undefined) {
    const activated = applyActivation(then, found.value);
    rows.push(
      totalRow("formula", `Activation: ${operationName(then)}`, activated.formula),
      ...resultRows("activated", "Result", activated.value, activatedValue(sheet.calculation, position, channel), sheet));
  }
  return element("div", { class: "list" },
    element("div", { class: "scroll" }, element("table", { class: "numbers totals", dataset: { list: "totals" } },
      element("caption", {}, "How it adds up"), element("tbody", {}, rows))),
    element("p", { class: "note" }, roundingText(sheet, found)));
}

/** What the difference is made of, where sums round. */
function roundingText(sheet, found) {
  const { main } = sheet.calculation;
  const engine = engineValue(main, sheet.place.position, sheet.place.channel);
  const by = main.algorithm && found.sizes ? `The engine's algorithm here: ${main.algorithm}. ` : "";
  if (sheet.flip || engine === undefined || !(found.sizes > 4 * Math.abs(found.value))) return by;
  const share = Math.abs(engine - found.value) / unitInLastPlace(found.sizes);
  return `${by}The products cancel: their sizes add up to ${short(found.sizes, 3)}, `
    + `and of that the difference is ${share < 0.01 ? "less than 0.01" : short(share, 2)} ulp.`;
}

function totalRow(name, label, text, emphasis) {
  return element("tr", { class: emphasis ?? null }, element("th", { scope: "row" }, label),
    element("td", { dataset: { name } }, element("span", { class: "number" }, text)));
}

/** A result in float64, the engine's own float32, and how far they are apart. */
function resultRows(name, label, value, engine, sheet) {
  const rows = [];
  if (value !== undefined) rows.push(totalRow(name, label, text9(value), "result"));
  if (engine === undefined) return rows;
  rows.push(totalRow(`${name}-engine`, "The engine's own, float32", text9(engine)));
  if (value === undefined) return rows;
  const { difference, units } = differenceTo(engine, value);
  const words = sheet.flip ? "What the turned kernel changes" : "Difference, engine − float64";
  const row = totalRow(`${name}-difference`, words, text9(difference));
  if (difference !== 0 && Number.isFinite(units)) {
    const ulp = element("abbr", { title: "units of the last place of a float32" }, "ulp");
    row.lastChild.append(`, ${units < 0.01 ? "<\u202f0.01" : short(units, 2)}\u202f`, ulp);
  }
  return [...rows, row];
}
