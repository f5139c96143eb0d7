// This machine's roofline: what its peaks allow for each FLOP per byte, and where each step of the network lies.

function rooflineView() {
  const { peaks } = STUDY.machine;
  const steps = STUDY.steps
    .filter((step) => step.flops > 0 && step.bytes > 0 && step.ms > 0)
    .map((step) => ({ ...step, intensity: step.flops / step.bytes }))
    .sort((a, b) => a.intensity - b.intensity);
  const heading = element("h2", { id: "roofline-title" }, "Roofline of this machine");
  if (!peaks) return [heading, element("p", {}, "The peaks of this device were not measured.")];
  if (steps.length === 0) return [heading, element("p", {}, "No step of the network does arithmetic.")];
  const detail = element("p", { class: "detail" }, "\u00a0");
  const box = element("div", { class: "chart-box" });
  drawToWidth(box, (width) => rooflineChart(width, peaks, steps, detail));
  return [heading, element("p", {}, rooflineText(peaks)), box, rooflineLegend(), detail, rooflineNote(steps)];
}

function rooflineText(peaks) {
  return (
    "A step that does few operations for each byte it moves is held back by the memory (the slope), one " +
    `that does many by arithmetic (the flat part). Measured here: ${short(peaks.gflops, 3)} GFLOP/s, ` +
    `${short(peaks.read_gbytes, 3)} GB/s read, ${short(peaks.write_gbytes, 3)} GB/s written. Each dot is ` +
    "one step of the network; its area grows with its time."
  );
}

function rooflineLegend() {
  const line = (kind, text) => element("li", {}, element("span", { class: `roof-line ${kind}` }), text);
  return element(
    "ul",
    { class: "legend", "aria-label": "Lines" },
    line("read", "all bytes read"),
    line("write", "all bytes written; a step lies under a slope between the two"),
  );
}

function rooflineNote(steps) {
  const silent = STUDY.steps.length - steps.length;
  return element(
    "p",
    { class: "note" },
    steps.some((step) => step.algorithm_flops < step.flops) &&
      "FLOPs are those of the definition: an algorithm that needs fewer (Winograd) can lie above the flat part. ",
    "Peaks are of memory: what stays in a cache can lie above the slope. ",
    silent > 0 &&
      `Without arithmetic, and so without a place here: ${silent} of ${STUDY.steps.length} steps.`,
  );
}

function rooflineChart(width, peaks, steps, detail) {
  const drawn = rooflineAxes(width, peaks, steps);
  const longest = Math.max(...steps.map((step) => step.ms));
  const dots = steps.map((step) => rooflineDot(step, drawn, longest));
  // The dots are what one can choose; all else is hidden from a screen reader.
  drawn.svg.setAttribute("role", "listbox");
  drawn.svg.append(...dots);

  const last = dots.length - 1;
  rovingFocus(drawn.svg, dots, (from, key) => {
    const [next, before] = [from + 1, from - 1];
    return { ArrowRight: next, ArrowDown: next, ArrowLeft: before, ArrowUp: before, Home: 0, End: last }[key];
  });
  const stepOf = (target) => steps[dots.indexOf(target.closest(".dot"))];
  const say = ({ target }) => {
    if (stepOf(target)) detail.textContent = stepText(stepOf(target));
  };
  drawn.svg.addEventListener("focusin", say);
  drawn.svg.addEventListener("pointerover", say);
  onChoose(drawn.svg, (target) => {
    if (stepOf(target)) showLayer(STUDY.layers[stepOf(target).layers[0]]);
  });

  const mark = () => {
    const { index } = layerNamed(route().layer);
    dots.forEach((dot, i) => dot.setAttribute("aria-selected", steps[i].layers.includes(index)));
  };
  onLayer(drawn.svg, mark);
  mark();
  return drawn.svg;
}

function rooflineAxes(width, peaks, steps) {
  const slopes = { read: peaks.read_gbytes, write: peaks.write_gbytes };
  const ridges = Object.values(slopes).map((slope) => peaks.gflops / slope);
  const intensities = steps.map((step) => step.intensity);
  const speeds = steps.map(speedOf);
  const low = Math.min(...ridges.map((ridge) => ridge / 4), ...intensities.map((i) => i / 2));
  const high = Math.max(...ridges.map((ridge) => ridge * 4), ...intensities.map((i) => i * 2));
  const drawn = chart({
    width,
    height: clamp(width * 0.5, 300, 460),
    label: `Roofline: ${steps.length} steps of the network beside the peaks of this machine`,
    x: { low, high, log: true, label: "FLOP per byte" },
    y: {
      low: Math.min(...speeds, peaks.gflops / 10) / 2,
      high: Math.max(...speeds, peaks.gflops) * 2,
      log: true,
      label: "GFLOP/s",
    },
  });
  drawn.marks.setAttribute("aria-hidden", "true");
  for (const [kind, slope] of Object.entries(slopes)) {
    const corners = [low, peaks.gflops / slope, high];
    const roof = corners.map((i) => [drawn.x(i), drawn.y(Math.min(peaks.gflops, i * slope))]);
    drawn.marks.append(svg("path", { class: `roof ${kind}`, d: pathThrough(roof) }));
  }
  return drawn;
}

function rooflineDot(step, drawn, longest) {
  const attributes = {
    class: "dot",
    role: "option",
    "aria-label": stepText(step),
    dataset: { kind: kindOf(STUDY.layers[step.layers[0]]) },
    cx: drawn.x(step.intensity),
    cy: drawn.y(speedOf(step)),
    r: 4 + 10 * Math.sqrt(step.ms / longest),
  };
  return svg("circle", attributes, svg("title", {}, stepText(step)));
}

/** GFLOP/s of the operation's definition. */
function speedOf(step) {
  return step.flops / step.ms / 1e6;
}

function stepText(step) {
  const names = step.layers.map((i) => STUDY.layers[i].name).join(" + ");
  return (
    `${names}: ${milliseconds(step.ms)}, ${short(speedOf(step), 3)} GFLOP/s, ` +
    `${short(step.intensity, 3)} FLOP per byte, ${percent(step.fraction, 2)} of the roofline, ${step.algorithm}`
  );
}
