// Every layer in one table, that can be sorted.

const COLUMNS = [
  { title: "#", value: (layer) => layer.index, text: (layer) => String(layer.index + 1) },
  { title: "Layer", value: (layer) => layer.name, text: layerLink, left: true },
  { title: "Class", value: (layer) => layer.class, text: (layer) => layer.class, left: true },
  {
    title: "Output",
    value: (layer) => layer.shape.reduce((a, b) => a * b, 1),
    text: (layer) => shapeText(layer.shape),
  },
  { title: "Parameters", value: (layer) => layer.parameters, text: (layer) => whole(layer.parameters) },
  { title: "FLOPs", value: (layer) => layer.flops, text: (layer) => scaled(layer.flops) },
  { title: "Bytes", value: (layer) => layer.bytes, text: (layer) => scaled(layer.bytes, "B") },
  { title: "Time", value: (layer) => ownTime(layer) ?? -1, text: (layer) => timeCell(layer) },
  {
    title: "GFLOP/s",
    value: (layer) => layer.gflops ?? -1,
    text: (layer) => (layer.gflops ? short(layer.gflops, 3) : "–"),
  },
  {
    title: "Of the roofline",
    value: (layer) => layer.fraction ?? -1,
    text: (layer) => percent(layer.fraction, 2),
  },
  {
    title: "Algorithm",
    value: (layer) => layer.algorithm ?? "",
    text: (layer) => layer.algorithm ?? "–",
    left: true,
  },
];

function layersView() {
  let sorted = { column: 0, down: false };
  const slowest = slowestTime() || 1;
  const body = element("tbody");
  const rows = STUDY.layers.map((layer) => layerRow(layer, slowest));
  const headings = COLUMNS.map((column, i) =>
    element(
      "th",
      { scope: "col", class: column.left ? "left" : null },
      element("button", { type: "button", class: "plain", onclick: () => sort(i) }, column.title),
    ),
  );
  const order = () => {
    const { value } = COLUMNS[sorted.column];
    const sign = sorted.down ? -1 : 1;
    const layers = [...STUDY.layers].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a.index - b.index;
    });
    body.replaceChildren(...layers.map((layer) => rows[layer.index]));
    headings.forEach((th, i) => {
      if (i !== sorted.column) th.removeAttribute("aria-sort");
      else th.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    });
  };
  const sort = (column) => {
    // Numbers are asked for because of the largest.
    const first = !(column === 0 || COLUMNS[column].left);
    sorted = { column, down: sorted.column === column ? !sorted.down : first };
    order();
    announce(`Sorted by ${COLUMNS[column].title}, ${sorted.down ? "largest" : "smallest"} first`);
  };
  const showChosen = () =>
    rows.forEach((row, i) => {
      row.classList.toggle("chosen", STUDY.layers[i].name === route().layer);
    });
  order();
  onLayer(body, showChosen);
  showChosen();
  return [
    element("h2", { id: "layers-title" }, "All layers"),
    element(
      "p",
      { class: "note" },
      "Times are measured, each of a whole step: layers that the engine computes in one step, " +
        "such as a convolution with its batch normalisation and activation, share one time, which the first of " +
        "them shows. “Of the roofline” is the least time that this machine's peaks allow, over the time measured; " +
        "above 100\u202f% where data were in a cache.",
    ),
    element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of all layers" },
      element(
        "table",
        { class: "layers" },
        element("thead", {}, element("tr", {}, headings)),
        body,
        footer(),
      ),
    ),
  ];
}

function layerRow(layer, slowest) {
  const share = (ownTime(layer) ?? 0) / slowest;
  return element(
    "tr",
    { dataset: { layer: layer.name } },
    COLUMNS.map((column) => {
      const cell = element(
        column.title === "Layer" ? "th" : "td",
        {
          class: column.left ? "left" : null,
          scope: column.title === "Layer" ? "row" : null,
        },
        column.text(layer),
      );
      if (column.title === "Time" && share) cell.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
      return cell;
    }),
  );
}

function layerLink(layer) {
  return element(
    "a",
    {
      href: `#layer=${encodeURIComponent(layer.name)}`,
      onclick: (event) => {
        event.preventDefault();
        showLayer(layer);
        goTo(document.getElementById("panel"));
      },
    },
    layer.name,
  );
}

function slowestTime() {
  return STUDY.layers.reduce((most, layer) => Math.max(most, ownTime(layer) ?? 0), 0);
}

/** Milliseconds of the steps that a layer is the first of, so that every step is counted once; null of no step. */
function ownTime(layer) {
  const own = layer.steps.map((i) => STUDY.steps[i]).filter((step) => step.layers[0] === layer.index);
  return own.length ? own.reduce((sum, step) => sum + step.ms, 0) : null;
}

/** The layers whose time includes a step of this one. */
function leadersOf(layer) {
  const first = layer.steps.map((i) => STUDY.steps[i].layers[0]).filter((index) => index !== layer.index);
  return [...new Set(first)].map((index) => STUDY.layers[index].name);
}

function timeCell(layer) {
  const leaders = leadersOf(layer);
  const shared = leaders.length > 0 && element("span", { class: "quiet" }, `with ${leaders.join(", ")}`);
  const own = ownTime(layer);
  if (own === null) return shared || milliseconds(null);
  return [milliseconds(own), shared && " and ", shared];
}

/** What is no layer's: steps that only move numbers about between two layers. */
function unledTime() {
  return STUDY.steps.filter((step) => step.layers.length === 0).reduce((sum, step) => sum + step.ms, 0);
}

function footer() {
  const { model } = STUDY;
  const between = unledTime();
  const steps = STUDY.steps.reduce((sum, step) => sum + step.ms, 0);
  // On a GPU the whole network is timed as one, without the gaps between steps.
  const asOne = Math.abs(steps - model.ms) > 1e-9 * steps;
  return element(
    "tfoot",
    {},
    between > 0 && footerRow("Steps of no layer", { time: milliseconds(between) }),
    asOne && footerRow("All steps, one by one", { time: milliseconds(steps) }),
    footerRow("Whole network", {
      parameters: whole(model.parameters),
      flops: scaled(model.flops),
      bytes: scaled(model.bytes, "B"),
      time: milliseconds(model.ms),
      speed: model.ms ? short(model.flops / model.ms / 1e6, 3) : "–",
      share: model.least_ms ? percent(model.least_ms / model.ms, 2) : "–",
    }),
  );
}

function footerRow(name, { parameters, flops, bytes, time, speed, share }) {
  return element(
    "tr",
    {},
    element("td"),
    element("th", { scope: "row", class: "left" }, name),
    [null, null, parameters, flops, bytes, time, speed, share, null].map((text) =>
      element("td", {}, text ?? ""),
    ),
  );
}
