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
  const { hu } = STUDY.input;
  const [height, width] = hu.values.shape;
  const values = array(hu.values);
  let [level, extent] = hu.window;
  const canvas = element("canvas", { class: "slice", width, height, tabindex: "0", role: "application" });
  // Pixels of a scan need not be square.
  const [rowSpacing, columnSpacing] = hu.spacing ?? [1, 1];
  canvas.style.aspectRatio = `${width * columnSpacing} / ${height * rowSpacing}`;
  const reading = element(
    "p",
    { class: "detail", "aria-live": "polite" },
    "Point at the slice, or move with the arrow keys in it, to read HU.",
  );
  const box = drawToWidth(element("div", { class: "chart-box" }), (chartWidth) =>
    huHistogram(hu, chartWidth, level, extent),
  );
  const probe = { row: Math.floor(height / 2), column: Math.floor(width / 2), shown: false };

  const paint = () => {
    paintSlice(canvas, values, level, extent);
    if (probe.shown) drawProbe(canvas, probe);
    canvas.setAttribute(
      "aria-label",
      `CT slice of ${width} by ${height} pixels; window: level ${level}, width ${extent}`,
    );
    box.redraw?.();
  };
  const levelSlider = slider("Level", level, -1024, 3071, (next) => {
    level = next;
    paint();
  });
  const widthSlider = slider("Width", extent, 1, 4096, (next) => {
    extent = next;
    paint();
  });
  const set = (nextLevel, nextWidth) => {
    levelSlider.set(nextLevel);
    widthSlider.set(nextWidth);
    level = levelSlider.value();
    extent = widthSlider.value();
    paint();
  };
  const read = (row, column) => {
    probe.row = clamp(row, 0, height - 1);
    probe.column = clamp(column, 0, width - 1);
    const value = values[probe.row * width + probe.column];
    reading.textContent = `Row ${probe.row}, column ${probe.column}: ${short(value)} HU, grey ${greyOf(value, level, extent)}`;
  };
  canvas.addEventListener("pointermove", (event) => {
    const spot = canvas.getBoundingClientRect();
    read(
      Math.floor(((event.clientY - spot.top) / spot.height) * height),
      Math.floor(((event.clientX - spot.left) / spot.width) * width),
    );
  });
  canvas.addEventListener("keydown", (event) => {
    const by = event.shiftKey ? 10 : 1;
    const move = { ArrowUp: [-by, 0], ArrowDown: [by, 0], ArrowLeft: [0, -by], ArrowRight: [0, by] }[
      event.key
    ];
    if (!move) return;
    event.preventDefault();
    probe.shown = true;
    read(probe.row + move[0], probe.column + move[1]);
    paint();
  });
  canvas.addEventListener("blur", () => {
    probe.shown = false;
    paint();
  });
  paint();
  const all = [Math.min(...hu.edges), Math.max(...hu.edges)];
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
      element("div", {}, canvas, reading),
      element(
        "div",
        {},
        element(
          "div",
          { class: "buttons controls", role: "group", "aria-label": "Windows" },
          [["As given", ...hu.window], ...WINDOWS, ["All", (all[0] + all[1]) / 2, all[1] - all[0]]].map(
            ([name, l, w]) =>
              element(
                "button",
                {
                  type: "button",
                  onclick: () => {
                    set(l, w);
                    announce(`${name}: level ${l}, width ${w}`);
                  },
                },
                name,
              ),
          ),
        ),
        levelSlider.element,
        widthSlider.element,
        box,
      ),
    ),
  ];
}

function slider(label, start, low, high, changed) {
  const output = element("output", {}, short(start, 5));
  const input = element("input", {
    type: "range",
    min: low,
    max: high,
    step: 1,
    value: start,
    oninput: () => {
      say();
      changed(Number(input.value));
    },
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
    },
    value: () => Number(input.value),
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
