// The network as a graph: click a layer, or walk with the arrow keys.

const KINDS = {
  convolution: ["conv", "depthwise_conv", "conv_transpose"],
  dense: ["dense"],
  pooling: ["max_pool", "average_pool", "global_max_pool", "global_average_pool"],
  activation: ["activation", "prelu", "softmax"],
  norm: ["batch_norm", "affine"],
  merge: ["add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate"],
  shape: ["input", "reshape", "permute", "reverse", "pad", "crop", "upsample", "resize", "identity"],
};
const KIND_LABELS = {
  convolution: "convolution",
  dense: "dense",
  pooling: "pooling",
  activation: "activation",
  norm: "normalisation, scaling",
  merge: "joining",
  shape: "input, shape",
};

/** What a layer mainly does: the first of its operations that is more than a change of shape. */
function kindOf(layer) {
  const kinds = nodesOf(layer).map(
    (node) => Object.keys(KINDS).find((kind) => KINDS[kind].includes(node.operation)) ?? "shape",
  );
  return kinds.find((kind) => kind !== "shape") ?? "shape";
}

function networkView() {
  const inputs = STUDY.layers.map((layer) => layer.inputs);
  const layout = layOut(inputs);
  const outputs = outputsOf(STUDY.layers);
  const slowest = slowestTime();
  const boxes = STUDY.layers.map((layer, i) => layerBox(layer, layout.boxes[i], slowest));
  const graph = svg(
    "svg",
    {
      class: "graph",
      role: "listbox",
      "aria-label":
        "Layers of the network as a graph: the arrow keys follow its connections, Enter shows a layer",
      "aria-orientation": "vertical",
    },
    svg("g", { class: "edges", "aria-hidden": "true" }, layout.edges.map(edgePath)),
    boxes,
  );
  const view = element("div", { class: "graph-window" }, graph);
  const reach = rovingFocus(graph, boxes, (from, key) => stepFrom(from, key, layout, inputs, outputs));
  onChoose(graph, (target) => {
    const box = target.closest(".box");
    if (box) showLayer(STUDY.layers[Number(box.dataset.layer)]);
  });
  graph.addEventListener("focusin", (event) => {
    bringIntoView(view, event.target.closest(".box"));
  });

  const showChosen = () => {
    const index = layerNamed(route().layer).index;
    boxes.forEach((box, i) => box.setAttribute("aria-selected", i === index));
    markNeighbours(graph, layout.edges, index);
    reach(index);
    bringIntoView(view, boxes[index]);
  };
  onLayer(graph, showChosen);
  requestAnimationFrame(showChosen);
  return [
    element("h2", { id: "network-title" }, "The network"),
    element("div", { class: "controls" }, findLayer(), zoomControls(graph, view, layout)),
    view,
    legend(),
  ];
}

function outputsOf(layers) {
  const outputs = layers.map(() => []);
  for (const layer of layers) for (const from of layer.inputs) outputs[from].push(layer.index);
  return outputs;
}

/** Where a key leads: down and up along connections, left and right in a rank, by pages and to the ends. */
function stepFrom(index, key, { boxes, ranks }, inputs, outputs) {
  const nearest = (candidates, better) =>
    candidates.length === 0
      ? null
      : candidates.reduce((best, i) =>
          better(boxes[i].rank, boxes[best].rank) ||
          (boxes[i].rank === boxes[best].rank && gap(i) < gap(best))
            ? i
            : best,
        );
  const gap = (i) => Math.abs(boxes[i].x - boxes[index].x);
  const row = ranks[boxes[index].rank];
  switch (key) {
    // The nearest rank first, so that no rank is passed over for good.
    case "ArrowDown":
      return nearest(outputs[index], (a, b) => a < b);
    case "ArrowUp":
      return nearest(inputs[index], (a, b) => a > b);
    case "ArrowLeft":
      return row[row.indexOf(index) - 1];
    case "ArrowRight":
      return row[row.indexOf(index) + 1];
    case "PageDown":
      return Math.min(index + 10, boxes.length - 1);
    case "PageUp":
      return Math.max(index - 10, 0);
    case "Home":
      return 0;
    case "End":
      return boxes.length - 1;
    default:
      return null;
  }
}

function layerBox(layer, { x, y }, slowest) {
  const name = cut(layer.name, 25);
  const share = slowest > 0 ? (ownTime(layer) ?? 0) / slowest : 0;
  return svg(
    "g",
    {
      class: "box",
      role: "option",
      "aria-selected": "false",
      "aria-label": `${layer.name} ${layer.class} ${shapeText(layer.shape)}: ${layer.summary}`,
      transform: `translate(${x} ${y})`,
      dataset: { layer: layer.index, kind: kindOf(layer) },
    },
    layer.name !== name && svg("title", {}, layer.name),
    svg("rect", { class: "plate", width: BOX.width, height: BOX.height, rx: 6 }),
    svg("rect", { class: "stripe", x: 0, y: 0, width: 6, height: BOX.height, rx: 3 }),
    svg("text", { class: "name", x: 14, y: 17 }, name),
    " ", // between two words for who reads the text of the box
    svg("text", { class: "shape", x: 14, y: 33 }, layerBoxText(layer)),
    share > 0 &&
      svg("rect", { class: "time", x: 6, y: BOX.height - 3, width: share * (BOX.width - 8), height: 3 }),
  );
}

/** The class as far as there is room beside the shape. */
function layerBoxText(layer) {
  const shape = shapeText(layer.shape);
  return `${cut(layer.class, Math.max(4, 28 - shape.replaceAll("\u202f", "").length))} ${shape}`;
}

// The ends of names tell more than their middles: block5_conv3.
function cut(text, length) {
  if (text.length <= length) return text;
  const tail = Math.floor(length / 2);
  return `${text.slice(0, length - tail - 1)}…${text.slice(-tail)}`;
}

function edgePath({ from, to, points }) {
  const height = BOX.height;
  let path = "";
  points.forEach(([x, y], i) => {
    if (i === 0) {
      path = `M${x} ${y + height}`;
      return;
    }
    const [px, py] = points[i - 1];
    const start = py + height,
      middle = (start + y) / 2;
    path += px === x ? `L${x} ${y}` : `C${px} ${middle} ${x} ${middle} ${x} ${y}`;
    if (i < points.length - 1) path += `L${x} ${y + height}`;
  });
  return svg("path", { d: path, dataset: { from, to } });
}

function markNeighbours(graph, edges, index) {
  graph.querySelectorAll(".edges path").forEach((path, i) => {
    path.classList.toggle("near", edges[i].from === index || edges[i].to === index);
  });
}

/** Scrolls the graph's own window, and leaves the page where it is. */
function bringIntoView(view, box) {
  if (!box) return;
  const outer = view.getBoundingClientRect(),
    inner = box.getBoundingClientRect();
  const margin = Math.min(70, outer.height / 4);
  if (inner.top < outer.top + margin || inner.bottom > outer.bottom - margin) {
    view.scrollTop += inner.top + inner.height / 2 - outer.top - outer.height / 2;
  }
  if (inner.left < outer.left || inner.right > outer.right) {
    view.scrollLeft += inner.left + inner.width / 2 - outer.left - outer.width / 2;
  }
}

function zoomControls(graph, view, { width, height }) {
  let scale = 1;
  const apply = (wanted) => {
    const middle = (view.scrollTop + view.clientHeight / 2) / scale;
    scale = Math.min(2, Math.max(0.1, wanted));
    graph.setAttribute("viewBox", `0 0 ${width} ${height}`);
    graph.setAttribute("width", width * scale);
    graph.setAttribute("height", height * scale);
    view.scrollTop = middle * scale - view.clientHeight / 2;
  };
  const button = (text, label, action) =>
    element("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
  apply(1);
  return element(
    "div",
    { class: "buttons", role: "group", "aria-label": "Size of the graph" },
    button("−", "Smaller", () => apply(scale / 1.25)),
    button("+", "Larger", () => apply(scale * 1.25)),
    button("Fit", "Fit the width", () => apply(Math.min(1.25, (view.clientWidth - 2) / width))),
    wideButton(),
  );
}

/** Gives the graph the whole width of the page, with the layer below it. */
function wideButton() {
  const button = element(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      title: "Use the whole width",
      onclick: () => {
        const wide = document.querySelector(".split").classList.toggle("wide");
        button.setAttribute("aria-pressed", wide);
      },
    },
    "Wide",
  );
  return button;
}

function findLayer() {
  const known = element(
    "datalist",
    { id: "layer-names" },
    STUDY.layers.map((layer) => element("option", { value: layer.name })),
  );
  const input = element("input", {
    type: "search",
    list: "layer-names",
    placeholder: "Find a layer",
    "aria-label": "Find a layer by its name",
    autocomplete: "off",
    onchange: () => {
      const wanted = input.value.trim().toLowerCase();
      if (!wanted) return;
      const layer =
        layerNamed(input.value) ?? STUDY.layers.find((l) => l.name.toLowerCase().includes(wanted));
      if (layer) showLayer(layer);
      else announce(`No layer is named like ${input.value}`);
    },
  });
  return element("div", { class: "find" }, input, known);
}

function legend() {
  const present = new Set(STUDY.layers.map(kindOf));
  return element(
    "ul",
    { class: "legend", "aria-label": "Colours" },
    Object.keys(KIND_LABELS)
      .filter((kind) => present.has(kind))
      .map((kind) =>
        element("li", {}, element("span", { class: "swatch", dataset: { kind } }), KIND_LABELS[kind]),
      ),
    element("li", {}, element("span", { class: "swatch time" }), "time, the slowest layer full"),
  );
}
