// This machine's roofline: what its peaks allow for each FLOP per byte, and where each step of the network lies.

function rooflineView() {
  const { peaks } = STUDY.machine;
  const steps = STUDY.steps
    .map((step, index) => ({ ...step, index, intensity: step.flops / step.bytes }))
    .filter((step) => step.flops > 0 && step.bytes > 0 && step.ms > 0);
  const heading = element("h2", { id: "roofline-title" }, "Roofline of this machine");
  if (!peaks) return [heading, element("p", {}, "The peaks of this device were not measured.")];
  if (steps.length === 0) return [heading, element("p", {}, "No step of the network does arithmetic.")];
  const detail = element("p", { class: "detail" }, "\u00a0");
  const box = element("div", { class: "chart-box" });
  drawToWidth(box, (width) => rooflineChart(width, peaks, steps, detail));
  const silent = STUDY.steps.length - steps.length;
  return [
    heading,
    element(
      "p",
      {},
      `A step that does few operations for each byte it moves is held back by the memory (the slope), one ` +
        `that does many by arithmetic (the flat part). Measured here: ${short(peaks.gflops, 3)} GFLOP/s, ` +
        `${short(peaks.read_gbytes, 3)} GB/s read, ${short(peaks.write_gbytes, 3)} GB/s written. Each dot is one step of the ` +
        `network; its area grows with its time.`,
    ),
    box,
    detail,
    element(
      "p",
      { class: "note" },
      steps.some((step) => step.algorithm_flops < step.flops) &&
        "FLOPs are those of the definition. An algorithm that needs fewer (Winograd) can lie above the flat part. ",
      "Peaks are of memory; what stays in a cache can lie above the slope. ",
      silent > 0 &&
        `${silent} ${silent === 1 ? "step does" : "steps do"} no arithmetic and ${silent === 1 ? "has" : "have"} no place here.`,
    ),
  ];
}

function rooflineChart(width, peaks, steps, detail) {
  const slope = Math.max(peaks.read_gbytes, peaks.write_gbytes);
  const ridge = peaks.gflops / slope;
  const x = {
    low: Math.min(ridge / 4, ...steps.map((s) => s.intensity / 2)),
    high: Math.max(ridge * 4, ...steps.map((s) => s.intensity * 2)),
    log: true,
    label: "FLOP per byte",
  };
  const speeds = steps.map((step) => step.flops / step.ms / 1e6);
  const y = {
    low: Math.min(...speeds, peaks.gflops / 10) / 2,
    high: Math.max(...speeds, peaks.gflops) * 2,
    log: true,
    label: "GFLOP/s",
  };
  const drawn = chart({
    width,
    height: Math.min(460, Math.max(300, width * 0.5)),
    x,
    y,
    label: `Roofline: ${steps.length} steps of the network beside the peaks of this machine`,
  });
  const roof = (intensity) => Math.min(peaks.gflops, intensity * slope);
  drawn.marks.append(
    svg("path", {
      class: "roof",
      d: pathThrough([x.low, ridge, x.high].map((v) => [drawn.x(v), drawn.y(roof(v))])),
    }),
  );
  // The dots are what one can choose; the picture round them is one image to a screen reader.
  drawn.svg.setAttribute("role", "listbox");
  const longest = Math.max(...steps.map((step) => step.ms));
  const byIntensity = [...steps].sort((a, b) => a.intensity - b.intensity);
  const dots = byIntensity.map((step) =>
    svg(
      "circle",
      {
        class: "dot",
        role: "option",
        "aria-label": stepText(step),
        dataset: { kind: kindOf(STUDY.layers[step.layers[0]]) },
        cx: drawn.x(step.intensity),
        cy: drawn.y(step.flops / step.ms / 1e6),
        r: 4 + 10 * Math.sqrt(step.ms / longest),
      },
      svg("title", {}, stepText(step)),
    ),
  );
  drawn.svg.append(...dots);
  const say = (event) => {
    const step = byIntensity[dots.indexOf(event.target)];
    if (step) detail.textContent = stepText(step);
  };
  const open = (target) => {
    const step = byIntensity[dots.indexOf(target)];
    if (step) choose({ dataset: { layer: step.layers[0] } });
  };
  rovingFocus(
    drawn.svg,
    dots,
    (from, key) =>
      ({
        ArrowRight: from + 1,
        ArrowDown: from + 1,
        ArrowLeft: from - 1,
        ArrowUp: from - 1,
        Home: 0,
        End: dots.length - 1,
      })[key],
  );
  drawn.svg.addEventListener("focusin", say);
  drawn.svg.addEventListener("pointerover", say);
  drawn.svg.addEventListener("click", (event) => open(event.target));
  drawn.svg.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    open(event.target);
  });
  const mark = () => {
    const chosen = layerNamed(route().layer);
    dots.forEach((dot, i) => dot.setAttribute("aria-selected", byIntensity[i].layers.includes(chosen.index)));
  };
  onLayer(drawn.svg, mark);
  mark();
  return drawn.svg;
}

function stepText(step) {
  const names = step.layers.map((i) => STUDY.layers[i].name).join(" + ");
  return (
    `${names}: ${milliseconds(step.ms)}, ${short(step.flops / step.ms / 1e6, 3)} GFLOP/s, ` +
    `${short(step.intensity, 3)} FLOP per byte, ${percent(step.fraction, 2)} of the roofline, ${step.algorithm}`
  );
}
