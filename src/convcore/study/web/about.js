// The head of the page: which model, what went in, what came out; and its foot: where it was measured.

function showModel() {
  const { model } = STUDY;
  document.getElementById("model-name").textContent = model.name;
  document.getElementById("model-facts").textContent = [
    `${model.file} (${model.source})`,
    `${STUDY.layers.length} layers`,
    `${whole(model.parameters)} parameters`,
    `${scaled(model.flops)} FLOPs`,
    `${milliseconds(model.ms)} for one example`,
  ].join(" · ");
}

/** What went in and what came out. */
function aboutView() {
  const { input, answer, kept } = STUDY;
  const picture =
    input.picture &&
    element("img", { class: "input", src: pictureAddress(input.picture), alt: `The input: ${input.name}` });
  return [
    element(
      "div",
      { class: "about" },
      picture && element("figure", {}, picture),
      element(
        "div",
        {},
        element("h2", {}, "What went in"),
        facts([
          ["Input", input.name],
          ["Shape", shapeText(input.shape)],
          ["Made by", input.preprocess || null],
        ]),
        element("p", { class: "note" }, keptText(kept)),
      ),
      element("div", {}, element("h2", {}, "What came out"), answer.map(answerView)),
    ),
  ];
}

/** How much of a layer is here exactly, and what of that was asked for. */
function keptText({ positions, channels, asked }) {
  const layers = asked.layers.length ? asked.layers.join(", ") : "each layer";
  const which = asked.channels.length
    ? `channels ${rangesText(asked.channels)}`
    : `${channels} ${channels === 1 ? "channel" : "channels"}`;
  const at = asked.at.map((place) => `(${place.join(", ")})`).join(", ");
  const where = `${positions} ${positions === 1 ? "position" : "positions"}${at && `, those around ${at}`}`;
  return `Of ${layers} ${where} and ${which} are kept exactly; a small layer is kept whole.`;
}

function answerView({ output, shape, top }) {
  const most = Math.max(...top.map(({ value }) => Math.abs(numberOf(value))));
  const layer = layerNamed(output);
  const name = layer ? layerLink(layer) : output;
  if (top.length === 0) return mapAnswer(layer, name, shape);
  return element(
    "table",
    { class: "answer" },
    element("caption", {}, name, `, ${shapeText(shape)}`),
    element(
      "tbody",
      {},
      top.map(({ class: index, name: label, value }) => {
        const cell = element("td", {}, text32(numberOf(value)));
        const share = top.length > 1 ? Math.max(0, numberOf(value)) / (most || 1) : 0;
        cell.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
        const named = label || (top.length > 1 ? `class ${index}` : "value");
        return element("tr", {}, element("th", { scope: "row" }, named), cell);
      }),
    ),
  );
}

/** An answer that is a picture itself, such as a mask. */
function mapAnswer(layer, name, shape) {
  const maps = layer && nodesOf(layer).at(-1)?.maps;
  return element(
    "div",
    {},
    element("p", {}, name, ` made ${shapeText(shape)} values.`),
    maps?.sprite &&
      maps.count <= 4 &&
      element("img", {
        class: "input",
        src: pictureAddress(maps.sprite),
        alt: `What ${layer.name} made, rounded to 256 greys`,
      }),
  );
}

function partsOfPage() {
  const parts = [
    ["network", "Network"],
    ["panel", "Layer"],
    ["layers", "All layers"],
    ["roofline", "Roofline"],
    ["curves", "Activation functions"],
    STUDY.input.hu && ["ct", "Hounsfield units"],
  ];
  return parts.filter(Boolean).map(([id, label]) => element("a", { href: `#${id}` }, label));
}

function colophon() {
  const { machine, model } = STUDY;
  const versions = Object.entries(machine.versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
  return [
    element(
      "p",
      { class: "note" },
      `Made on ${machine.date} with ${versions}. Times are medians of ${model.repeats ?? "several"} runs on ` +
        `${machine.device === "cuda" ? `${machine.gpu ?? "a GPU"} beside ` : ""}${machine.cpu}` +
        `${machine.isa ? `, ${machine.isa}, ${machine.threads} ${machine.threads === 1 ? "thread" : "threads"}` : ""}` +
        `${model.clock ? `, by ${model.clock}; the whole network's is that of one graph of all steps` : ""}.`,
    ),
  ];
}
