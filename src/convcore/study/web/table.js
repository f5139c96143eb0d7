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
  { title: "Time", value: (layer) => layer.ms ?? -1, text: (layer) => timeCell(layer) },
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
  const slowest = Math.max(...STUDY.layers.map((layer) => layer.ms ?? 0)) || 1;
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
  const { model } = STUDY;
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
        element(
          "tfoot",
          {},
          element(
            "tr",
            {},
            element("td"),
            element("th", { scope: "row", class: "left" }, "Whole network"),
            element("td"),
            element("td"),
            element("td", {}, whole(model.parameters)),
            element("td", {}, scaled(model.flops)),
            element("td", {}, scaled(model.bytes, "B")),
            element("td", {}, milliseconds(model.ms)),
            element("td", {}, model.ms ? short(model.flops / model.ms / 1e6, 3) : "–"),
            element("td", {}, model.least_ms ? percent(model.least_ms / model.ms, 2) : "–"),
            element("td"),
          ),
        ),
      ),
    ),
  ];
}

function layerRow(layer, slowest) {
  const share = leadsStep(layer) ? (layer.ms ?? 0) / slowest : 0;
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

/** The first layer of a step shows its time; the others say whose it is. */
function leadsStep(layer) {
  return layer.step === null || STUDY.steps[layer.step].layers[0] === layer.index;
}

function timeCell(layer) {
  if (leadsStep(layer)) return milliseconds(layer.ms);
  return element("span", { class: "quiet" }, `with ${STUDY.layers[STUDY.steps[layer.step].layers[0]].name}`);
}
