// The spreadsheet view: point at an output value, and see every number that it is made of.

const AXIS_NAMES = [[], ["position"], ["row", "column"], ["depth", "row", "column"]];

function axisName(rank, axis) {
  return AXIS_NAMES[rank]?.[axis] ?? `axis ${axis}`;
}

/** The view of a layer's operations, or null where there is nothing to compute. */
function spreadsheetView(layer) {
  const calculations = calculationsOf(layer);
  if (!calculations.length) return null;
  const kept = calculations.filter(({ main }) => main.exact?.blocks.length);
  if (!kept.length) {
    return element("p", { class: "note" }, "No exact numbers of this layer are in this report: ",
      element("code", {}, `--layer ${layer.name}`), " keeps them.");
  }
  return new Spreadsheet(layer, kept).root;
}

/**
 * What a layer computes, operation by operation: { main, then, between }, where `then` is the activation that follows
 * and `between` the nodes that only turn axes on the way to it, the last first.
 */
function calculationsOf(layer) {
  const calculations = [];
  for (const node of nodesOf(layer)) {
    const between = turnsBefore(node);
    const source = (between.at(-1) ?? node).inputs[0];
    const before = node.operation === "activation"
      && calculations.find(({ main, then }) => main.name === source && !then && main.operation !== "activation");
    if (before) Object.assign(before, { then: node, between });
    else if (node.operation in EXPLAIN) calculations.push({ main: node, then: null, between: [] });
  }
  return calculations;
}

const TURNS = new Set(["permute", "identity"]);

/** The nodes that only turn axes between a node and what it is computed from, going back. */
function turnsBefore(node) {
  const turns = [];
  for (let before = STUDY.nodes[node.inputs[0]]; before && TURNS.has(before.operation);) {
    turns.push(before);
    before = STUDY.nodes[before.inputs[0]];
  }
  return turns;
}

/** The engine's own value of the activation behind an output of the main operation, where it was kept. */
function activatedValue({ then, between }, position, channel) {
  const turned = [...between].reverse().reduce(
    (index, { operation, attributes }) => (operation === "permute" ? attributes.axes.map((axis) => index[axis]) : index),
    [...position, channel]);
  return engineValue(then, turned.slice(0, -1), turned.at(-1));
}

/** The value that comes out in the end: of the activation where there is one. */
function finalValue(calculation, position, channel) {
  return calculation.then
    ? activatedValue(calculation, position, channel) : engineValue(calculation.main, position, channel);
}

/** The kept channel with the largest kept output: the first one is often nothing but zeros. */
function strongestChannel(node) {
  const { channels, blocks } = node.exact;
  const peaks = channels.map(() => -Infinity);
  for (const { output } of blocks) {
    array(output).forEach((value, i) => {
      const slot = i % channels.length;
      if (value > peaks[slot]) peaks[slot] = value;
    });
  }
  return channels[peaks.indexOf(largestOf(peaks, (peak) => peak))];
}

/** The channel to begin with: the one that the layer's map shows, which is of the activation, else the strongest. */
function firstChannel({ main, then }) {
  const shown = then?.exact?.blocks.length ? strongestChannel(then) : null;
  return main.exact.channels.includes(shown) ? shown : strongestChannel(main);
}

// --- positions in words -------------------------------------------------------------------------------------------

function calculationName({ main, then }) {
  return [main, then].filter(Boolean).map(operationName).join(", then ");
}

function minus(index) {
  return String(index).replace("-", "\u2212");
}

/** [3, 4] -> "row 3, column 4". */
function positionText(position) {
  return position.map((p, axis) => `${axisName(position.length, axis)} ${minus(p)}`).join(", ");
}

function placeText({ position, channel }) {
  return [positionText(position), `channel ${channel}`].filter(Boolean).join(", ");
}

/** "rows 0 to 3, columns 4 to 9". */
function boxText({ start, size }) {
  return start.map((s, axis) => {
    const name = axisName(start.length, axis);
    return size[axis] === 1 ? `${name} ${minus(s)}` : `${name}s ${minus(s)} to ${minus(s + size[axis] - 1)}`;
  }).join(", ");
}

// --- the view -----------------------------------------------------------------------------------------------------

class Spreadsheet {
  constructor(layer, calculations) {
    this.layer = layer;
    this.calculations = calculations;
    this.flip = false;
    this.numbers = false;
    this.order = "largest";
    this.pages = {};
    this.choices = element("div", { class: "controls" });
    this.animation = animationControls({
      stops: () => this.stops(),
      current: () => this.stops().findIndex((stop) => this.isChosen(stop)),
      show: (stop, how) => this.choose(stop, how),
      name: (stop) => (stop.position.length ? [...stop.position] : [stop.channel]),
    });
    this.inputMap = element("div", {});
    this.outputMap = element("div", {});
    this.detail = element("div", { class: "sheet-detail" });
    this.note = element("p", { class: "note" });
    this.root = element("div", { class: "spreadsheet" },
      this.choices, this.note, this.animation.controls,
      element("div", { class: "sheet-maps" }, this.inputMap, this.outputMap), this.detail);
    const { at, channel } = this.asked();
    const holding = this.calculations.findIndex(({ main }) => at && blockWith(main, at));
    const computing = this.calculations.findIndex(({ main }) => !TURNS.has(main.operation));
    this.start(holding < 0 ? computing : holding, at, channel);
    this.sayWhatIsMissing(at, channel);
    onRoute(this.root, () => this.followRoute());
  }

  /** Begins with an operation, at the position asked for where that was kept. */
  start(index, at = null, channel = null) {
    this.calculation = this.calculations[Math.max(index, 0)];
    const { main } = this.calculation;
    const { channels, blocks } = main.exact;
    this.block = (at && blockWith(main, at)) || blocks[0];
    this.chosen = {
      position: at && blockWith(main, at) ? at : [...this.block.start],
      channel: channels.includes(channel) ? channel : firstChannel(this.calculation),
    };
    this.flip &&= CONVOLUTIONS.has(main.operation);
    this.preview = null;
    this.inputChannel = null;
    this.group = null;
    this.scatterFrom = null;
    this.pages = {};
    this.drawChoices();
    this.draw();
  }

  asked() {
    const { layer, at, channel } = route();
    return layer === this.layer.name ? { at, channel } : { at: null, channel: null };
  }

  sayWhatIsMissing(at, channel) {
    const { main } = this.calculation;
    const missed = [];
    if (at?.length && !blockWith(main, at)) missed.push(`${positionText(at)} (--at ${at.join(",")} keeps it)`);
    if (channel !== null && !main.exact.channels.includes(channel)) {
      missed.push(`channel ${channel} (--channels ${channel} keeps it)`);
    }
    this.note.textContent = missed.length ? `Not kept exactly in this report: ${missed.join("; ")}.` : "";
    this.note.hidden = !missed.length;
  }

  // What is chosen

  /** The output value that is looked at: the one pointed at, else the one chosen. */
  get place() {
    return this.preview ?? this.chosen;
  }

  get flat() {
    return this.block.start.length === 0;
  }

  /** The stops of the animation: every kept position, or every kept channel of an output that has no positions. */
  stops() {
    const { main } = this.calculation;
    if (this.flat) return main.exact.channels.map((channel) => ({ position: [], channel }));
    const { channel } = this.chosen;
    const seen = new Set();
    return main.exact.blocks
      .flatMap(positionsIn)
      .filter((position) => !seen.has(String(position)) && seen.add(String(position)))
      .map((position) => ({ position, channel }));
  }

  isChosen({ position, channel }) {
    return channel === this.chosen.channel && samePosition(position, this.chosen.position);
  }

  /** Chooses a place; `how` is "play" (said to nobody), "step" or "point". */
  choose(place, how) {
    this.preview = null;
    if (!samePosition(place.position, this.chosen.position)) this.scatterFrom = null;
    if (place.channel !== this.chosen.channel) this.inputChannel = this.keptInputChannel(place.channel);
    this.chosen = place;
    if (!this.blockHolds(place.position)) this.block = blockWith(this.calculation.main, place.position);
    this.draw();
    this.noteRoute(how === "play" ? 1000 : 250);
    if (how !== "play") announce(this.sentence());
  }

  /** The input channel shown stays, where the other output channel reads it too. */
  keptInputChannel(channel) {
    const { main } = this.calculation;
    if (!CONVOLUTIONS.has(main.operation)) return null;
    return inputChannelsOf(main, channel).includes(this.inputChannel) ? this.inputChannel : null;
  }

  blockHolds(position) {
    return isInside(position.map((p, axis) => p - this.block.start[axis]), this.block.size);
  }

  /** Looks at a place for as long as it is pointed at. */
  look(place) {
    if (this.animation.playing()) return;
    if (String(this.place.position) === String((place ?? this.chosen).position)
      && this.place.channel === (place ?? this.chosen).channel) return;
    this.preview = place;
    this.scatterFrom = null;
    this.draw();
  }

  /** Puts the choice into the address, when it has come to rest: browsers refuse many changes in a row. */
  noteRoute(delay) {
    clearTimeout(this.routeTimer);
    this.routeTimer = setTimeout(() => {
      if (!this.root.isConnected) return;
      const { position, channel } = this.chosen;
      this.writing = true;
      setRoute({ at: position.length ? position : null, channel });
      this.writing = false;
    }, delay);
  }

  followRoute() {
    if (this.writing) return;
    const { at, channel } = this.asked();
    if ((at && !samePosition(at, this.chosen.position)) || (channel !== null && channel !== this.chosen.channel)) {
      this.animation.pause();
      this.start(this.calculations.indexOf(this.calculation), at, channel);
      this.sayWhatIsMissing(at, channel);
    }
  }

  explanation() {
    const { main } = this.calculation;
    const { position, channel } = this.place;
    return explain(main, position, channel, { inputChannel: this.inputChannel, flip: this.flip });
  }

  /** What comes out in the end: { value, engine }, each undefined where it is not known. */
  result(found) {
    const { then } = this.calculation;
    const { position, channel } = this.place;
    return {
      value: then && found.value !== undefined ? applyActivation(then, found.value).value : found.value,
      engine: finalValue(this.calculation, position, channel),
    };
  }

  sentence() {
    const found = this.explanation();
    const { value, engine } = this.result(found);
    if (value === undefined) return `${placeText(this.place)}: ${found.reason}`;
    const beside = engine === undefined ? "" : `; the engine's own value ${text32(engine)}`;
    return `${placeText(this.place)}: ${text9(value)}${beside}`;
  }

  // Drawing

  draw() {
    const found = this.explanation();
    this.drawOutputMap(found);
    this.drawInputMap(found);
    replaceKeepingPlace(this.detail, detailOf(this, found));
  }

  drawChoices() {
    const { main } = this.calculation;
    const { channels, blocks } = main.exact;
    const choices = [];
    if (this.calculations.length > 1) {
      const now = this.calculations.indexOf(this.calculation);
      choices.push(chooser("Operation", this.calculations.map(calculationName), now, (index) => {
        this.animation.pause();
        this.start(index, this.chosen.position, this.chosen.channel);
      }));
    }
    if (!this.flat) {
      choices.push(this.channelChooser = chooser("Output channel", channels, channels.indexOf(this.chosen.channel),
        (index) => this.choose({ ...this.chosen, channel: channels[index] }, "step")));
    }
    if (blocks.length > 1) {
      choices.push(this.blockChooser = chooser("Part", blocks.map(boxText), blocks.indexOf(this.block), (index) => {
        this.block = blocks[index];
        this.choose({ ...this.chosen, position: [...this.block.start] }, "step");
      }));
    }
    if (CONVOLUTIONS.has(main.operation)) {
      const flipped = () => announce(this.sentence());
      choices.push(this.switchFor("flip", "Turn the kernel around (true convolution)", flipped));
    }
    choices.push(this.switchFor("numbers", "Numbers in the maps"));
    this.choices.replaceChildren(...choices);
  }

  /** A check box for one of the view's properties. */
  switchFor(property, label, then) {
    return checkbox(label, this[property], (on) => {
      this[property] = on;
      this.draw();
      then?.();
    });
  }

  drawOutputMap(found) {
    const { main } = this.calculation;
    const shown = visiblePart(this.block, this.place.position);
    const { channel } = this.place;
    const page = this.flat ? pageOfChannels(main.exact.channels, channel)[0] : channel;
    const key = JSON.stringify([main.name, page, shown, this.numbers]);
    if (key !== this.outputKey) {
      this.outputKey = key;
      this.outputMap.replaceChildren(outputMapOf(this, shown));
    }
    this.outputGrid = this.outputMap.querySelector("[role=grid]");
    markCells(this.outputGrid, "spread", this.scattered(found));
    bringIntoBox(markChosen(this.outputGrid, this.place));
    syncChooser(this.channelChooser, main.exact.channels.indexOf(this.chosen.channel));
    syncChooser(this.blockChooser, main.exact.blocks.indexOf(this.block));
  }

  /** The input of a transposed convolution whose scatter is shown: the one chosen, else the one that adds most. */
  scatterSource(found) {
    const sources = found.cells.filter((cell) => cell.kind === "real");
    return sources.find((cell) => samePosition(cell.at, this.scatterFrom ?? []))
      ?? largestOf(sources, (cell) => Math.abs(cell.product));
  }

  /** Keys of the outputs that this input adds to. */
  scattered(found) {
    const { main } = this.calculation;
    if (main.operation !== "conv_transpose" || found.kind === "missing") return [];
    const from = this.scatterSource(found);
    const outputs = from ? scatterWindow(convolutionGeometry(main), from.at, main.shape.slice(0, -1)) : [];
    return outputs.map((cell) => cell.at.join(","));
  }

  drawInputMap(found) {
    const map = inputMapOf(this, found);
    this.inputMap.hidden = !map;
    replaceKeepingPlace(this.inputMap, [map]);
    bringIntoBox(this.inputMap.querySelector(".read"));
  }

  /** What a key does in the output map: the place that it leads to, or null. */
  placeAfter(key, control) {
    const { position, channel } = this.chosen;
    const { channels } = this.calculation.main.exact;
    if (this.flat) {
      const to = {
        ArrowLeft: -1, ArrowRight: 1, ArrowUp: -MAP_SIDE, ArrowDown: MAP_SIDE, Home: -Infinity, End: Infinity,
      }[key];
      return to === undefined ? null : { position, channel: entryAfter(channels, channel, to) };
    }
    const { start, size } = this.block;
    const last = start.length - 1;
    const moved = [...position];
    const move = (axis, by) => {
      moved[axis] = Math.min(Math.max(moved[axis] + by, start[axis]), start[axis] + size[axis] - 1);
      return { position: moved, channel };
    };
    switch (key) {
      case "ArrowLeft": return move(last, -1);
      case "ArrowRight": return move(last, 1);
      case "ArrowUp": return last > 0 ? move(last - 1, -1) : null;
      case "ArrowDown": return last > 0 ? move(last - 1, 1) : null;
      case "Home": return control ? { position: [...start], channel } : move(last, -Infinity);
      case "End":
        return control ? { position: start.map((s, axis) => s + size[axis] - 1), channel } : move(last, Infinity);
      case "PageUp": return last > 1 ? move(0, -1) : { position, channel: entryAfter(channels, channel, -1) };
      case "PageDown": return last > 1 ? move(0, 1) : { position, channel: entryAfter(channels, channel, 1) };
    }
    return null;
  }
}

/** The entry of a list that stands `by` places after `entry`, or the nearest end. */
function entryAfter(list, entry, by) {
  return list[Math.min(Math.max(list.indexOf(entry) + by, 0), list.length - 1)];
}

/** Replaces what is in `container`, and keeps the focus and how far its boxes are scrolled. */
function replaceKeepingPlace(container, children) {
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const scrolled = [...container.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
  container.replaceChildren(...children.filter(Boolean));
  container.querySelectorAll(".scroll").forEach((box, i) => {
    if (scrolled[i]) [box.scrollLeft, box.scrollTop] = scrolled[i];
  });
  if (focused) container.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}
