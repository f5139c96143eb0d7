// Axes that charts share: nice ticks, linear and logarithmic scales, drawing anew when the width changes.

/** Calls `draw(width)` for what `box` shall hold, now and whenever its width changes. */
function drawToWidth(box, draw) {
  let drawn = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (width === 0 || width === drawn) return;
    drawn = width;
    box.replaceChildren(draw(width));
  });
  observer.observe(box);
  box.redraw = () => {
    if (drawn) box.replaceChildren(draw(drawn));
  };
  return box;
}

/** Round numbers from `low` to `high`, about `wanted` of them. */
function linearTicks(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  if (!(rough > 0 && Number.isFinite(rough))) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  // Counted before they are made: far from 0 adding 1 may change nothing.
  const count = Math.min(Math.floor(high / step + 1e-9) - first + 1, 2 * wanted);
  return Array.from({ length: Math.max(count, 0) }, (_, i) => (first + i) * step);
}

/** The powers of ten from `low` to `high`; every second or third of them where there are many. */
function logTicks(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9),
    last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first) / 8));
  const ticks = [];
  for (let p = first; p <= last; p += every) ticks.push(10 ** p);
  return ticks;
}

function scaleOf({ low, high, log }, from, to) {
  const place = log ? Math.log10 : (v) => v;
  const a = place(low),
    b = place(high);
  return (value) => from + ((place(value) - a) / (b - a)) * (to - from);
}

/**
 * An empty chart with axes. `x` and `y` are { low, high, log, label, ticks, format }. Returns the svg element, the
 * scales x(v) and y(v), the frame, and `marks`: the group to draw in, cut off at the frame.
 */
function chart({ width, height, x, y, label }) {
  const frame = { left: 54, top: 10, right: width - 10, bottom: height - 42 };
  const toX = scaleOf(x, frame.left, frame.right),
    toY = scaleOf(y, frame.bottom, frame.top);
  const clip = `clip-${nextChart++}`;
  const marks = svg("g", { "clip-path": `url(#${clip})` });
  const lines = [],
    texts = [];
  const most = Math.max(2, Math.floor((frame.right - frame.left) / 70));
  for (const tick of x.ticks ??
    (x.log ? logTicks(x.low, x.high) : linearTicks(x.low, x.high, Math.min(8, most)))) {
    lines.push(svg("line", { x1: toX(tick), x2: toX(tick), y1: frame.top, y2: frame.bottom }));
    texts.push(
      svg(
        "text",
        { x: toX(tick), y: frame.bottom + 16, "text-anchor": "middle" },
        (x.format ?? short)(roundOff(tick)),
      ),
    );
  }
  for (const tick of y.ticks ?? (y.log ? logTicks(y.low, y.high) : linearTicks(y.low, y.high, 5))) {
    lines.push(svg("line", { x1: frame.left, x2: frame.right, y1: toY(tick), y2: toY(tick) }));
    texts.push(
      svg(
        "text",
        { x: frame.left - 6, y: toY(tick) + 4, "text-anchor": "end" },
        (y.format ?? short)(roundOff(tick)),
      ),
    );
  }
  const root = svg(
    "svg",
    { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    svg(
      "clipPath",
      { id: clip },
      svg("rect", {
        x: frame.left,
        y: frame.top,
        width: frame.right - frame.left,
        height: frame.bottom - frame.top,
      }),
    ),
    svg("g", { class: "grid", "aria-hidden": "true" }, lines),
    svg(
      "g",
      { class: "ticks", "aria-hidden": "true" },
      texts,
      svg(
        "text",
        { x: (frame.left + frame.right) / 2, y: height - 6, "text-anchor": "middle" },
        x.label ?? "",
      ),
      svg(
        "text",
        { transform: `translate(12 ${(frame.top + frame.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
        y.label ?? "",
      ),
    ),
    marks,
  );
  return { svg: root, x: toX, y: toY, frame, marks };
}

let nextChart = 0;

// Without the last digits that multiplying a step brings in: 0.30000000000000004.
function roundOff(tick) {
  return Number(tick.toPrecision(10));
}

/** An SVG path through points [x, y]; a point that is not finite breaks it. */
function pathThrough(points) {
  let down = false;
  return points
    .map(([px, py]) => {
      if (!Number.isFinite(px) || !Number.isFinite(py)) {
        down = false;
        return "";
      }
      const command = down ? "L" : "M";
      down = true;
      return `${command}${px.toFixed(2)} ${py.toFixed(2)}`;
    })
    .join("");
}

/**
 * A histogram { edges, counts } as bars. Counts are drawn as logarithms when `log` says so: zeros after a ReLU
 * outnumber all else by far.
 */
function histogramChart(
  { edges, counts },
  { width, height = 170, log = true, label, xLabel = "value", under = null },
) {
  const most = Math.max(1, ...counts);
  // Of a single large number the edges may be the same float.
  const widened = edges.at(-1) > edges[0] ? 0 : Math.max(0.5, Math.abs(edges[0]) * 1e-3);
  const low = edges[0] - widened,
    high = edges.at(-1) + widened;
  const drawn = chart({
    width,
    height,
    label,
    x: { low, high, label: xLabel },
    y: log
      ? { low: 0.5, high: Math.max(10, most * 1.2), log: true, label: "how many", format: scaled }
      : { low: 0, high: most * 1.05, label: "how many", format: scaled },
  });
  under?.(drawn);
  counts.forEach((count, i) => {
    if (count === 0) return;
    const left = drawn.x(edges[i] - widened),
      right = drawn.x(edges[i + 1] + widened);
    drawn.marks.append(
      svg(
        "rect",
        {
          class: "bar",
          x: left,
          y: drawn.y(count),
          width: Math.max(0.5, right - left - (right - left > 3 ? 1 : 0)),
          height: drawn.frame.bottom - drawn.y(count),
        },
        svg("title", {}, `${short(edges[i])} to ${short(edges[i + 1])}: ${whole(count)}`),
      ),
    );
  });
  return drawn;
}
