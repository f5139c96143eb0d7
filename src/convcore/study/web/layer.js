// One layer: facts, feature maps, histogram, exact values, and its arithmetic one value at a time.

function layerPanel(layer) {
  const { previous, next } = neighbours(layer);
  const { chooser, maps, below } = nodeChooser(nodesOf(layer));
  const arithmetic = spreadsheetView(layer);
  return [
    element(
      "div",
      { class: "panel-head" },
      element(
        "h2",
        { id: "panel-title" },
        layer.name,
        " ",
        element("span", { class: "badge", dataset: { kind: kindOf(layer) } }, layer.class),
      ),
      element("div", { class: "buttons" }, stepButton("← Previous", previous), stepButton("Next →", next)),
    ),
    element("p", {}, layer.summary),
    layerFacts(layer),
    chooser,
    maps,
    arithmetic &&
      element(
        "section",
        { class: "arithmetic", "aria-labelledby": "arithmetic-title" },
        element("h3", { id: "arithmetic-title" }, "One value at a time"),
        arithmetic,
      ),
    below,
  ].filter(Boolean);
}

function neighbours(layer) {
  return { previous: STUDY.layers[layer.index - 1], next: STUDY.layers[layer.index + 1] };
}

function stepButton(text, layer) {
  return element(
    "button",
    {
      type: "button",
      disabled: !layer,
      title: layer?.name,
      onclick: () => {
        showLayer(layer);
        // The panel is a new one: the same button in it goes on.
        const buttons = [...document.querySelectorAll("#panel .panel-head button")];
        const same = buttons.find((button) => button.textContent === text);
        (same?.disabled ? buttons.find((button) => !button.disabled) : same)?.focus();
      },
    },
    text,
  );
}

// --- facts ----------------------------------------------------------------------------------------------------

function facts(pairs) {
  return element(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

function layerFacts(layer) {
  const companions = [...new Set(layer.steps.flatMap((i) => STUDY.steps[i].layers))].filter(
    (i) => i !== layer.index,
  );
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
 * A layer that is several operations shows one of them at a time, at first the last: the layer's output. Returns
 * the buttons to choose with (null where there is no choice), the maps, and what is below them.
 */
function nodeChooser(nodes) {
  const maps = element("div");
  const below = element("div");
  const buttons = nodes.map((node, i) => {
    const choose = () => {
      show(node);
      announce(`Showing what ${operationName(node)} made`);
    };
    return element("button", { type: "button", onclick: choose }, `${i + 1}. ${operationName(node)}`);
  });
  const show = (node) => {
    maps.replaceChildren(...[attributeFacts(node), mapsOrBars(node)].filter(Boolean));
    const rest = [isActivation(node) && ownCurve(node), valuesView(node), exactView(node)];
    below.replaceChildren(...rest.filter(Boolean));
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", nodes[i] === node));
  };
  // A layer that the file lists and that computes nothing of its own has no operation.
  if (nodes.length) show(nodes.at(-1));
  const group = {
    class: "buttons controls",
    role: "group",
    "aria-label": "Operations of this layer, in order",
  };
  return { chooser: nodes.length > 1 ? element("div", group, buttons) : null, maps, below };
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
  const shown = Object.entries(node.attributes).filter(
    ([name, value]) =>
      value !== null && name !== "shape" && name !== "kind" && JSON.stringify(value) !== "{}",
  );
  if (shown.length === 0) return null;
  return facts(shown.map(([name, value]) => [name.replaceAll("_", " "), attributeText(name, value)]));
}

// Attributes that are sizes along axes: 3 × 3.
const SIZES = ["strides", "dilation", "pool_size", "size", "output_size"];

function attributeText(name, value) {
  if (Array.isArray(value)) {
    const items = value.map((v) => (Array.isArray(v) ? `(${v.join(", ")})` : v));
    return SIZES.includes(name) ? shapeText(items) : items.join(", ");
  }
  if (value && typeof value === "object") {
    return Object.entries(value)
      .map(([k, v]) => `${k.replaceAll("_", " ")}: ${attributeText(k, v)}`)
      .join(", ");
  }
  if (value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  const number = numberOf(value);
  return typeof number === "number" ? short(number) : number;
}

// --- histogram ------------------------------------------------------------------------------------------------

function valuesView(node) {
  const { range, histogram } = node;
  let log = true;
  const label =
    `Histogram of ${whole(range.count)} values of ${node.name}, from ` +
    `${short(numberOf(range.low))} to ${short(numberOf(range.high))}`;
  const box = drawToWidth(
    element("div", { class: "chart-box" }),
    (width) => histogramChart(histogramOf(histogram), { width, log, label }).svg,
  );
  return element(
    "section",
    { "aria-labelledby": "values-title" },
    element("h3", { id: "values-title" }, "Distribution of the values"),
    facts([
      ["Least", short(numberOf(range.low))],
      ["Largest", short(numberOf(range.high))],
      ["Mean", short(numberOf(range.mean))],
      ["Standard deviation", short(numberOf(range.deviation))],
      ["Zeros", percent(range.zeros)],
      ["NaN", range.nan ? whole(range.nan) : null],
      ["Infinite", range.infinite ? whole(range.infinite) : null],
    ]),
    box,
    checkbox("Count on a logarithmic scale", log, (on) => {
      log = on;
      box.redraw();
    }),
  );
}

// --- exact values ---------------------------------------------------------------------------------------------

/** The kept float32 values as a table, one channel and block at a time. */
function exactView(node) {
  const { exact } = node;
  if (!exact || exact.blocks.length === 0) return null;
  const spatial = exact.blocks[0].size.length;
  const table = element("div", {
    class: "scroll",
    tabindex: "0",
    role: "region",
    "aria-label": "Exact values",
  });
  let [channel, block] = [exact.channels[0], exact.blocks[0]];
  const show = () => table.replaceChildren(exactTable(node, block, spatial ? channel : null));
  const channelChooser = chooser("Channel", exact.channels, 0, (index) => {
    channel = exact.channels[index];
    show();
  });
  const blockChooser = chooser("Part", exact.blocks.map(boxText), 0, (index) => {
    block = exact.blocks[index];
    show();
  });
  const note = "in the shortest decimals that read back the same.";
  const details = element(
    "details",
    { class: "exact", ontoggle: () => details.open && show() },
    element("summary", {}, "Exact values"),
    element(
      "p",
      { class: "note" },
      exact.whole
        ? `The whole output is here as exact float32 values, ${note}`
        : `A part of the output is here as exact float32 values, ${note}`,
    ),
    element(
      "div",
      { class: "controls" },
      spatial > 0 && channelChooser,
      exact.blocks.length > 1 && blockChooser,
    ),
    table,
  );
  return details;
}

/** Rows and columns are the last two spatial axes; what is before them becomes more rows. */
function exactTable(node, block, channel) {
  const values = array(block.output);
  const { channels } = node.exact;
  if (channel === null) {
    return element(
      "table",
      { class: "numbers" },
      element(
        "tbody",
        {},
        channels.map((c, k) =>
          element("tr", {}, element("th", { scope: "row" }, c), element("td", {}, text32(values[k]))),
        ),
      ),
    );
  }
  const k = channels.indexOf(channel);
  const width = block.size.at(-1),
    left = block.start.at(-1);
  const rows = positionsIn({ start: block.start.slice(0, -1), size: block.size.slice(0, -1) });
  return element(
    "table",
    { class: "numbers" },
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        element("td"),
        Array.from({ length: width }, (_, x) => element("th", { scope: "col" }, left + x)),
      ),
    ),
    element(
      "tbody",
      {},
      rows.map((before, r) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, before.join(", ")),
          Array.from({ length: width }, (_, x) =>
            element("td", {}, text32(values[(r * width + x) * channels.length + k])),
          ),
        ),
      ),
    ),
  );
}
