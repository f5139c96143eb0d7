// One layer: facts, feature maps, histogram, exact values, and its arithmetic one value at a time.

function layerPanel(layer) {
  const { previous, next } = neighbours(layer);
  const { chooser, maps, below } = nodeChooser(nodesOf(layer));
  const arithmetic = spreadsheetView(layer);
  return [
    element("div", { class: "panel-head" },
      element("h2", { id: "panel-title" }, layer.name, " ",
        element("span", { class: "badge", dataset: { kind: kindOf(layer) } }, layer.class)),
      element("div", { class: "buttons" }, stepButton("← Previous", previous), stepButton("Next →", next))),
    element("p", {}, layer.summary),
    layerFacts(layer),
    chooser,
    maps,
    arithmetic && element("section", { class: "arithmetic", "aria-labelledby": "arithmetic-title" },
      element("h3", { id: "arithmetic-title" }, "One value at a time"), arithmetic),
    below,
  ].filter(Boolean);
}

function neighbours(layer) {
  return { previous: STUDY.layers[layer.index - 1], next: STUDY.layers[layer.index + 1] };
}

function stepButton(text, layer) {
  return element("button", {
    type: "button", disabled: !layer, title: layer?.name,
    onclick: () => {
      setRoute({ layer: layer.name });
      // The panel is a new one: the same button in it goes on.
      const buttons = [...document.querySelectorAll("#panel .panel-head button")];
      const same = buttons.find((button) => button.textContent === text);
      (same?.disabled ? buttons.find((button) => !button.disabled) : same)?.focus();
      announce(`${layer.name}. ${layer.summary}`);
    },
  }, text);
}

// --- facts ----------------------------------------------------------------------------------------------------

function facts(pairs) {
  return element("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function layerFacts(layer) {
  const companions = [...new Set(layer.steps.flatMap((i) => STUDY.steps[i].layers))].filter((i) => i !== layer.index);
  const readers = STUDY.layers.filter((other) => other.inputs.includes(layer.index));
  return facts([
    ["Output", shapeText(layer.shape)],
    ["Parameters", whole(layer.parameters)],
    ["FLOPs", scaled(layer.flops)],
    ["Bytes moved", scaled(layer.bytes, "B")],
    ["Time", layer.ms ? milliseconds(layer.ms) : null],
    ["Speed", layer.gflops ? `${short(layer.gflops, 3)}\u202fGFLOP/s` : null],
    ["Of the roofline", layer.fraction ? percent(layer.fraction, 2) : null],
    ["FLOPs per byte", layer.intensity ? short(layer.intensity, 3) : null],
    ["Algorithm", layer.algorithm],
    ["In one step with", companions.length ? links(companions.map((i) => STUDY.layers[i])) : null],
    ["Reads", layer.inputs.length ? links(layer.inputs.map((i) => STUDY.layers[i])) : null],
    ["Read by", readers.length ? links(readers) : null],
  ]);
}

const MOST_LINKS = 6;

function links(layers) {
  const shown = layers.slice(0, MOST_LINKS).flatMap((layer, i) => [i ? ", " : null, layerLink(layer)]);
  return layers.length > MOST_LINKS ? [...shown, ` and ${layers.length - MOST_LINKS} more`] : shown;
}

// --- the operations of a layer --------------------------------------------------------------------------------

/**
 * A layer that is several operations shows one of them at a time, at first the last: the layer's output. Returns the
 * buttons to choose with (null for a single one), the maps and what is below them.
 */
function nodeChooser(nodes) {
  const maps = element("div"), below = element("div");
  const buttons = nodes.length < 2 ? [] : nodes.map((node, i) => element("button", {
    type: "button", onclick: () => { show(node); announce(`Showing what ${operationName(node)} made`); },
  }, `${i + 1}. ${operationName(node)}`));
  const show = (node) => {
    maps.replaceChildren(...[attributeFacts(node), mapsOrBars(node)].filter(Boolean));
    below.replaceChildren(...[isActivation(node) && ownCurve(node), valuesView(node), exactView(node)].filter(Boolean));
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", nodes[i] === node));
  };
  show(nodes.at(-1));
  const chooser = buttons.length > 0 && element("div", {
    class: "buttons controls", role: "group", "aria-label": "Operations of this layer, in order" }, buttons);
  return { chooser, maps, below };
}

function mapsOrBars(node) {
  if (!node.maps) return null;
  return node.maps.sprite ? mapsView(node) : barsView(node);
}

function operationName(node) {
  const kind = node.attributes.kind;
  return (kind ? `${kind}` : node.operation).replaceAll("_", " ");
}

function attributeFacts(node) {
  const shown = Object.entries(node.attributes).filter(([name, value]) =>
    value !== null && name !== "shape" && name !== "kind" && JSON.stringify(value) !== "{}");
  if (shown.length === 0) return null;
  return facts(shown.map(([name, value]) => [name.replaceAll("_", " "), attributeText(value)]));
}

function attributeText(value) {
  if (Array.isArray(value)) {
    return value.map((v) => (Array.isArray(v) ? `(${v.join(", ")})` : v)).join(Array.isArray(value[0]) ? " " : "\u202f×\u202f");
  }
  if (value && typeof value === "object") {
    return Object.entries(value).map(([k, v]) => `${k.replaceAll("_", " ")} ${short(numberOf(v))}`).join(", ");
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? short(value) : String(value);
}

// --- feature maps ---------------------------------------------------------------------------------------------

function mapsView(node) {
  const { maps } = node;
  const large = largeMap(node);
  const tiles = Array.from({ length: maps.count }, (_, i) => mapTile(maps, i, channelOf(maps, i)));
  const list = element("div", {
    class: "maps", role: "listbox", "aria-label": `Feature maps of ${node.name}, one for each channel`,
    "aria-orientation": "horizontal",
  }, tiles);
  // One copy of the picture for all tiles.
  list.style.setProperty("--sprite", `url(${pictureAddress(maps.sprite)})`);
  const choose_ = (i) => {
    tiles.forEach((tile, j) => tile.setAttribute("aria-selected", i === j));
    large.show(i);
  };
  const reach = rovingFocus(list, tiles, (from, key) => {
    const perRow = tilesPerRow(tiles);
    return { ArrowRight: from + 1, ArrowLeft: from - 1, ArrowDown: from + perRow, ArrowUp: from - perRow,
      Home: 0, End: tiles.length - 1 }[key];
  });
  list.addEventListener("focusin", (event) => choose_(tiles.indexOf(event.target)));
  list.addEventListener("click", (event) => {
    const i = tiles.indexOf(event.target.closest(".map"));
    if (i >= 0) tiles[i].focus();
  });
  const first = Math.max(0, indexOfChannel(maps, route().channel ?? node.exact?.channels[0] ?? 0));
  reach(first);
  choose_(first);
  const channels = node.shape.at(-1);
  return element("section", { "aria-labelledby": "maps-title" },
    element("h3", { id: "maps-title" }, "Feature maps"),
    element("p", { class: "note" },
      maps.count < channels ? `${maps.count} of ${whole(channels)} channels. ` : `${whole(channels)} ${channels === 1 ? "channel" : "channels"}. `,
      element("strong", {}, "Rounded: "), "256 greys",
      scaleNote(maps.scale),
      maps.depth === null ? null : `; of the volume, the slice at depth ${maps.depth}`,
      `. Black is ${short(numberOf(maps.low))}, white is ${short(numberOf(maps.high))}, the same for all channels.`),
    element("div", { class: "maps-split" }, list, large.element));
}

function scaleNote(scale) {
  return scale > 1 ? `, and one pixel stands for ${short(scale)} × ${short(scale)} values` : "";
}

/** Maps may be of chosen channels; where none are named they are the first. */
function channelOf(maps, i) {
  return maps.channels ? maps.channels[i] : i;
}

function indexOfChannel(maps, channel) {
  return maps.channels ? maps.channels.indexOf(channel) : channel < maps.count ? channel : 0;
}

function mapTile(maps, i, channel) {
  const [height, width] = maps.tile;
  const zoom = 56 / Math.max(height, width);
  const rows = Math.ceil(maps.count / maps.columns);
  const tile = element("div", { class: "map", role: "option", "aria-label": `Channel ${channel}`, title: `Channel ${channel}` });
  Object.assign(tile.style, {
    width: `${width * zoom}px`, height: `${height * zoom}px`,
    backgroundSize: `${maps.columns * width * zoom}px ${rows * height * zoom}px`,
    backgroundPosition: `${-(i % maps.columns) * width * zoom}px ${-Math.floor(i / maps.columns) * height * zoom}px`,
  });
  return tile;
}

function tilesPerRow(tiles) {
  const top = tiles[0].offsetTop;
  const wrapped = tiles.findIndex((tile) => tile.offsetTop > top);
  return wrapped < 0 ? tiles.length : wrapped;
}

/** One map enlarged, with the part that is kept exactly; a click in it goes to that value. */
function largeMap(node) {
  const { maps } = node;
  const exact = node.exact ?? { whole: false, channels: [], blocks: [] };
  const [height, width] = maps.tile;
  const zoom = Math.max(1, Math.floor(280 / Math.max(height, width)));
  const canvas = element("canvas", { width: width * zoom, height: height * zoom, role: "img" });
  const caption = element("figcaption", { class: "note" });
  const picture = new Image();
  let shown = 0;
  const draw = () => {
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, (shown % maps.columns) * width, Math.floor(shown / maps.columns) * height, width, height,
      0, 0, canvas.width, canvas.height);
    if (exact.channels.includes(channelOf(maps, shown))) outlineBlocks(context, exact.blocks, zoom / maps.scale);
  };
  const show = (i) => {
    shown = i;
    const channel = channelOf(maps, i);
    const kept = exact.channels.includes(channel);
    canvas.setAttribute("aria-label", `Channel ${channel} of ${node.name}, enlarged`);
    canvas.classList.toggle("kept", kept);
    caption.textContent = `Channel ${channel}. ` + (kept
      ? exact.whole ? "Kept exactly as a whole: click a value." : "The outlined parts are kept exactly: click a value in them."
      : exact.channels.length ? `Not kept exactly; channels ${rangesText(exact.channels)} are.` : "Not kept exactly.");
    if (picture.complete) draw();
  };
  picture.addEventListener("load", draw);
  picture.src = pictureAddress(maps.sprite);
  canvas.addEventListener("click", (event) => {
    const at = [event.offsetY / canvas.clientHeight, event.offsetX / canvas.clientWidth]
      .map((part, axis) => Math.min(node.shape[axis] - 1, Math.floor(part * [height, width][axis] * maps.scale)));
    const channel = channelOf(maps, shown);
    if (exact.channels.includes(channel) && exact.blocks.some((block) => contains(block, at))) setRoute({ at, channel });
  });
  return { element: element("figure", { class: "large-map" }, canvas, caption), show };
}

function contains({ start, size }, at) {
  return start.length === at.length && start.every((first, axis) => at[axis] >= first && at[axis] < first + size[axis]);
}

function outlineBlocks(context, blocks, zoom) {
  context.lineWidth = 2;
  for (const { start, size } of blocks) {
    if (start.length !== 2) continue;
    const [top, left, height, width] = [...start, ...size].map((v) => v * zoom);
    // Seen on black and on white.
    context.strokeStyle = "#000";
    context.strokeRect(left + 1, top + 1, width - 2, height - 2);
    context.strokeStyle = "#ffb000";
    context.setLineDash([4, 4]);
    context.strokeRect(left + 1, top + 1, width - 2, height - 2);
    context.setLineDash([]);
  }
}

/** [0, 1, 2, 5] -> "0–2, 5". */
function rangesText(numbers) {
  const ranges = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
}

/** A row of values without a picture, as bars. */
function barsView(node) {
  const values = array(node.maps.values);
  const label = `${whole(values.length)} values, from ${short(numberOf(node.range.low))} to ${short(numberOf(node.range.high))}`;
  const box = element("div", { class: "chart-box" });
  drawToWidth(box, (width) => {
    const low = Math.min(0, numberOf(node.range.low) || 0), high = Math.max(low + 1e-9, 0, numberOf(node.range.high) || 0);
    const drawn = chart({ width, height: 180, label, x: { low: -0.5, high: values.length - 0.5, label: "index" },
      y: { low, high: high + (high - low) * 0.05, label: "value" } });
    const zero = drawn.y(0), thick = Math.max(0.5, (drawn.frame.right - drawn.frame.left) / values.length - 1);
    values.forEach((value, i) => {
      if (!Number.isFinite(value) || value === 0) return;
      const y = drawn.y(value);
      drawn.marks.append(svg("rect", { class: value < 0 ? "bar negative" : "bar", x: drawn.x(i) - thick / 2,
        y: Math.min(y, zero), width: thick, height: Math.abs(y - zero) }, svg("title", {}, `${i}: ${text32(value)}`)));
    });
    return drawn.svg;
  });
  return element("section", { "aria-labelledby": "bars-title" },
    element("h3", { id: "bars-title" }, "Values"), element("p", { class: "note" }, label + "."), box);
}

// --- histogram ------------------------------------------------------------------------------------------------

function valuesView(node) {
  const { range, histogram } = node;
  let log = true;
  const label = `Histogram of ${whole(range.count)} values of ${node.name}, from `
    + `${short(numberOf(range.low))} to ${short(numberOf(range.high))}`;
  const box = drawToWidth(element("div", { class: "chart-box" }), (width) => histogramChart(numbers(histogram), { width, log, label }).svg);
  return element("section", { "aria-labelledby": "values-title" },
    element("h3", { id: "values-title" }, "What came out"),
    facts([
      ["Least", short(numberOf(range.low))], ["Largest", short(numberOf(range.high))], ["Mean", short(numberOf(range.mean))],
      ["Standard deviation", short(numberOf(range.deviation))], ["Zeros", percent(range.zeros)],
      ["NaN", range.nan ? whole(range.nan) : null],
    ]),
    box,
    checkbox("Count on a logarithmic scale", log, (on) => { log = on; box.redraw(); }));
}

function numbers({ edges, counts }) {
  return { edges: edges.map(numberOf), counts };
}

function checkbox(label, on, changed) {
  const input = element("input", { type: "checkbox", onchange: () => changed(input.checked) });
  input.checked = on;
  return element("label", { class: "check" }, input, ` ${label}`);
}

// --- exact values ---------------------------------------------------------------------------------------------

/** The kept float32 values as a table, one channel and block at a time. */
function exactView(node) {
  const { exact } = node;
  if (!exact || exact.blocks.length === 0) return null;
  const spatial = exact.blocks[0].size.length;
  const table = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Exact values" });
  const channel = select("Channel", exact.channels, exact.channels.map(String), () => show());
  const block = select("Part", exact.blocks, exact.blocks.map(blockText), () => show());
  const show = () => table.replaceChildren(exactTable(node, block.value(), spatial ? channel.value() : null));
  const details = element("details", { class: "exact", ontoggle: () => { if (details.open) show(); } },
    element("summary", {}, "Exact values"),
    element("p", { class: "note" },
      exact.whole ? "The whole output is here as exact float32 values, in the shortest decimals that read back the same."
        : "A part of the output is here as exact float32 values, in the shortest decimals that read back the same."),
    element("div", { class: "controls" }, spatial > 0 && channel.element, exact.blocks.length > 1 && block.element),
    table);
  return details;
}

function select(label, values, texts, changed) {
  const input = element("select", { onchange: changed }, texts.map((text, i) => element("option", { value: i }, text)));
  return { element: element("label", {}, `${label} `, input), value: () => values[Number(input.value)] };
}

function blockText({ start, size }) {
  if (start.length === 0) return "all";
  return start.map((first, axis) => `${["row", "column", "depth"][axis] ?? "axis"} ${first}–${first + size[axis] - 1}`).join(", ");
}

/** Rows and columns are the last two spatial axes; what is before them becomes more rows. */
function exactTable(node, block, channel) {
  const values = array(block.output);
  const { channels } = node.exact;
  if (channel === null) {
    return element("table", { class: "numbers" }, element("tbody", {}, channels.map((c, k) =>
      element("tr", {}, element("th", { scope: "row" }, c), element("td", {}, text32(values[k]))))));
  }
  const k = channels.indexOf(channel);
  const width = block.size.at(-1), left = block.start.at(-1);
  const rows = positionsOf(block.start.slice(0, -1), block.size.slice(0, -1));
  return element("table", { class: "numbers" },
    element("thead", {}, element("tr", {}, element("td"),
      Array.from({ length: width }, (_, x) => element("th", { scope: "col" }, left + x)))),
    element("tbody", {}, rows.map((before, r) => element("tr", {},
      element("th", { scope: "row" }, before.join(", ")),
      Array.from({ length: width }, (_, x) => element("td", {}, text32(values[(r * width + x) * channels.length + k])))))));
}

/** Every position of a box, in order: start [2, 0], size [2, 2] -> [2, 0], [2, 1], [3, 0], [3, 1]. */
function positionsOf(start, size) {
  return start.reduce((positions, first, axis) => positions.flatMap((position) =>
    Array.from({ length: size[axis] }, (_, i) => [...position, first + i])), [[]]);
}
