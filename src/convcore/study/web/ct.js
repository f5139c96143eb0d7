// A CT slice: its HU histogram, and a window (level and width) that turns HU into grey.

const WINDOWS = [
  ["Lung", -600, 1500],
  ["Soft tissue", 40, 400],
  ["Bone", 400, 1800],
  ["Brain", 40, 80],
];

/** The grey, 0 to 255, of `hu` in a window, black at its lower end and white at its upper: DICOM's LINEAR_EXACT. */
function greyOf(hu, level, width) {
  return Math.round(255 * clamp((hu - level) / width + 0.5, 0, 1));
}

function ctView() {
  return new Slice(STUDY.input.hu).parts;
}

class Slice {
  constructor(hu) {
    this.hu = hu;
    [this.height, this.width] = hu.values.shape;
    this.values = array(hu.values);
    [this.level, this.extent] = hu.window;
    this.probe = { row: Math.floor(this.height / 2), column: Math.floor(this.width / 2), shown: false };
    this.canvas = this.makeCanvas();
    this.reading = element(
      "p",
      { class: "detail", "aria-live": "polite" },
      "Point at the slice, or move with the arrow keys in it, to read HU.",
    );
    this.histogram = drawToWidth(element("div", { class: "chart-box" }), (width) =>
      huHistogram(hu, width, this.level, this.extent),
    );
    this.sliders = {
      level: slider("Level", this.level, -1024, 3071, (level) => this.window(level, this.extent)),
      extent: slider("Width", this.extent, 1, 4096, (extent) => this.window(this.level, extent)),
    };
    this.parts = this.build();
    this.paint();
  }

  makeCanvas() {
    const { width, height } = this;
    const [rowSpacing, columnSpacing] = this.hu.spacing ?? [1, 1];
    const canvas = element("canvas", { class: "slice", width, height, tabindex: "0", role: "application" });
    // Pixels of a scan need not be square.
    canvas.style.aspectRatio = `${width * columnSpacing} / ${height * rowSpacing}`;
    canvas.addEventListener("pointermove", (event) => this.readUnder(event));
    canvas.addEventListener("keydown", (event) => this.moveProbe(event));
    canvas.addEventListener("blur", () => {
      this.probe.shown = false;
      this.paint();
    });
    return canvas;
  }

  build() {
    const edges = this.hu.edges;
    const [low, high] = [edges[0], edges.at(-1)];
    const windows = [["As given", ...this.hu.window], ...WINDOWS, ["All", (low + high) / 2, high - low]];
    const group = { class: "buttons controls", role: "group", "aria-label": "Windows" };
    const controls = [
      element(
        "div",
        group,
        windows.map((named) => this.windowButton(...named)),
      ),
      this.sliders.level.element,
      this.sliders.extent.element,
      this.histogram,
    ];
    return [
      element("h2", { id: "ct-title" }, "The slice in Hounsfield units"),
      element(
        "p",
        {},
        "Air is −1000 HU, water 0, bone from some hundreds up. A screen has 256 greys, so a window is chosen: " +
          "grey = 255 · ((HU − level) / width + 1/2), cut to 0 and 255 (DICOM calls it LINEAR_EXACT).",
      ),
      element(
        "div",
        { class: "ct" },
        element("div", {}, this.canvas, this.reading),
        element("div", {}, controls),
      ),
    ];
  }

  windowButton(name, level, extent) {
    const choose = () => {
      this.window(level, extent);
      announce(`${name}: level ${level}, width ${extent}`);
    };
    return element("button", { type: "button", onclick: choose }, name);
  }

  window(level, extent) {
    // As the sliders take them: within their ends, whole.
    this.level = this.sliders.level.set(level);
    this.extent = this.sliders.extent.set(extent);
    this.paint();
  }

  paint() {
    const { canvas, level, extent } = this;
    paintSlice(canvas, this.values, level, extent);
    if (this.probe.shown) drawProbe(canvas, this.probe);
    const size = `${this.width} by ${this.height} pixels`;
    canvas.setAttribute("aria-label", `CT slice of ${size}; window: level ${level}, width ${extent}`);
    this.histogram.redraw();
  }

  readUnder(event) {
    const spot = this.canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - spot.top) / spot.height) * this.height);
    const column = Math.floor(((event.clientX - spot.left) / spot.width) * this.width);
    this.read(row, column);
  }

  moveProbe(event) {
    const by = event.shiftKey ? 10 : 1;
    const moves = { ArrowUp: [-by, 0], ArrowDown: [by, 0], ArrowLeft: [0, -by], ArrowRight: [0, by] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.probe.shown = true;
    this.read(this.probe.row + move[0], this.probe.column + move[1]);
    this.paint();
  }

  read(row, column) {
    this.probe.row = clamp(row, 0, this.height - 1);
    this.probe.column = clamp(column, 0, this.width - 1);
    const value = this.values[this.probe.row * this.width + this.probe.column];
    const grey = greyOf(value, this.level, this.extent);
    this.reading.textContent = `Row ${this.probe.row}, column ${this.probe.column}: ${short(value)} HU, grey ${grey}`;
  }
}

function slider(label, start, low, high, changed) {
  const output = element("output", {}, short(start, 5));
  const input = element("input", {
    type: "range",
    min: low,
    max: high,
    step: 1,
    value: start,
    oninput: () => changed(Number(input.value)),
  });
  const say = () => {
    output.textContent = short(Number(input.value), 5);
    input.setAttribute("aria-valuetext", `${input.value} HU`);
  };
  return {
    element: element("label", { class: "slider" }, `${label} `, input, output, " HU"),
    set: (value) => {
      input.value = value;
      say();
      return Number(input.value);
    },
  };
}

function paintSlice(canvas, values, level, width) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) {
    const grey = greyOf(values[i], level, width);
    picture.data[4 * i] = picture.data[4 * i + 1] = picture.data[4 * i + 2] = grey;
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

function drawProbe(canvas, { row, column }) {
  const context = canvas.getContext("2d");
  context.strokeStyle = "#ffb000";
  context.strokeRect(column - 3.5, row - 3.5, 8, 8);
}

function huHistogram(hu, width, level, extent) {
  const label =
    `Histogram of HU from ${short(hu.edges[0])} to ${short(hu.edges.at(-1))}, the window from ` +
    `${short(level - extent / 2)} to ${short(level + extent / 2)} marked`;
  return histogramChart(
    { edges: hu.edges, counts: hu.counts },
    {
      width,
      height: 220,
      label,
      xLabel: "HU",
      under: (drawn) => {
        const from = drawn.x(level - extent / 2),
          to = drawn.x(level + extent / 2);
        drawn.marks.append(
          svg("rect", {
            class: "window",
            x: from,
            width: Math.max(1, to - from),
            y: drawn.frame.top,
            height: drawn.frame.bottom - drawn.frame.top,
          }),
          svg("path", {
            class: "ramp",
            d: pathThrough([
              [drawn.frame.left, drawn.frame.bottom],
              [from, drawn.frame.bottom],
              [to, drawn.frame.top],
              [drawn.frame.right, drawn.frame.top],
            ]),
          }),
        );
      },
    },
  ).svg;
}
