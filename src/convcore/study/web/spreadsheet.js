// The spreadsheet view: point at an output value, and see every number that it is made of.

/** Most rows and columns of a map that are drawn at once. */
const MAP_SIDE = 28;

const AXIS_NAMES = [[], ["position"], ["row", "column"], ["depth", "row", "column"]];

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

/** What a layer computes, operation by operation, each with the activation that follows it. */
function calculationsOf(layer) {
  const calculations = [];
  for (const node of nodesOf(layer)) {
    const before = calculations.at(-1);
    const follows = node.operation === "activation" && before && !before.then
      && before.main.operation !== "activation" && node.inputs[0] === before.main.name;
    if (follows) before.then = node;
    else if (node.operation in EXPLAIN) calculations.push({ main: node, then: null });
  }
  return calculations;
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
  return position.map((p, axis) => `${AXIS_NAMES[position.length][axis]} ${minus(p)}`).join(", ");
}

function placeText({ position, channel }) {
  return [positionText(position), `channel ${channel}`].filter(Boolean).join(", ");
}

/** "rows 0 to 3, columns 4 to 9". */
function boxText({ start, size }) {
  return start.map((s, axis) => {
    const name = AXIS_NAMES[start.length][axis];
    return size[axis] === 1 ? `${name} ${minus(s)}` : `${name}s ${minus(s)} to ${minus(s + size[axis] - 1)}`;
  }).join(", ");
}

// --- the view -----------------------------------------------------------------------------------------------------

class Spreadsheet {
  constructor(layer, calculations) {
    this.layer = layer;
    this.calculations = calculations;
    this.flip = false;
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
    this.start(this.calculations.findIndex(({ main }) => at && blockWith(main, at)), at, channel);
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
      channel: channels.includes(channel) ? channel : channels[0],
    };
    this.preview = null;
    this.inputChannel = null;
    this.group = null;
    this.scatterFrom = null;
    this.pages = {};
    this.sayWhatIsMissing(at, channel);
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
      .flatMap(({ start, size }) => everyIndex(size).map((local) => local.map((p, axis) => p + start[axis])))
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
    }
  }

  explanation() {
    const { main } = this.calculation;
    const { position, channel } = this.place;
    return explain(main, position, channel, { inputChannel: this.inputChannel, flip: this.flip });
  }

  sentence() {
    const { main, then } = this.calculation;
    const found = this.explanation();
    if (found.value === undefined) return `${placeText(this.place)}: ${found.reason}`;
    const value = then ? applyActivation(then, found.value).value : found.value;
    const engine = engineValue(then ?? main, this.place.position, this.place.channel);
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
      choices.push(chooser("Operation", this.calculations.map(calculationName), this.calculations.indexOf(this.calculation),
        (index) => { this.animation.pause(); this.start(index, this.chosen.position, this.chosen.channel); }));
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
    if (CONVOLUTIONS.has(main.operation)) choices.push(this.flipSwitch());
    this.choices.replaceChildren(...choices);
    this.choices.hidden = !choices.length;
  }

  flipSwitch() {
    const box = element("input", { type: "checkbox", class: "flip", checked: this.flip, onchange: () => {
      this.flip = box.checked;
      this.draw();
      announce(this.sentence());
    } });
    return element("label", { class: "choice" }, box, " Turn the kernel around (true convolution)");
  }

  drawOutputMap(found) {
    const { main, then } = this.calculation;
    const shown = visiblePart(this.block, this.place.position);
    const key = JSON.stringify([main.name, this.flat ? pageOfChannels(main.exact.channels, this.place.channel)[0] : this.place.channel, shown]);
    if (key !== this.outputKey) {
      this.outputKey = key;
      const from = then && engineValue(then, this.place.position, this.place.channel) !== undefined ? then : main;
      this.outputMap.replaceChildren(outputMapOf(this, from, shown));
    }
    this.outputGrid = this.outputMap.querySelector("[role=grid]");
    markCells(this.outputGrid, "spread", this.scattered(found));
    markChosen(this.outputGrid, this.place);
    syncChooser(this.channelChooser, main.exact.channels.indexOf(this.chosen.channel));
    syncChooser(this.blockChooser, main.exact.blocks.indexOf(this.block));
  }

  /** The input of a transposed convolution whose scatter is shown: the one chosen, else the one that adds most. */
  scatterSource(found) {
    const sources = found.cells.filter((cell) => cell.kind === "real");
    return sources.find((cell) => samePosition(cell.at, this.scatterFrom ?? []))
      ?? sources.reduce((best, cell) => (!best || Math.abs(cell.product) > Math.abs(best.product) ? cell : best), null);
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
    this.inputMap.replaceChildren(...(map ? [map] : []));
  }

  /** What a key does in the output map: the place that it leads to, or null. */
  placeAfter(key, control) {
    const { position, channel } = this.chosen;
    const { channels } = this.calculation.main.exact;
    if (this.flat) {
      const to = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -MAP_SIDE, ArrowDown: MAP_SIDE, Home: -Infinity, End: Infinity }[key];
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

let choosersMade = 0;

function chooser(label, names, index, choose) {
  const id = `sheet-choice-${choosersMade++}`;
  const select = element("select", { id, onchange: () => choose(select.selectedIndex) },
    names.map((name, i) => element("option", { selected: i === index }, String(name))));
  return element("span", { class: "choice" }, element("label", { for: id }, label), select);
}

function syncChooser(choice, index) {
  if (choice?.isConnected) choice.querySelector("select").selectedIndex = index;
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

// --- maps ---------------------------------------------------------------------------------------------------------

/** The page of a block, at most MAP_SIDE rows and columns, that holds a position; of a volume, one slice. */
function visiblePart({ start, size }, position) {
  const part = { start: [...start], size: [...size] };
  position.forEach((p, axis) => {
    const side = axis < position.length - 2 ? 1 : MAP_SIDE;
    part.start[axis] = start[axis] + Math.floor((p - start[axis]) / side) * side;
    part.size[axis] = Math.min(side, start[axis] + size[axis] - part.start[axis]);
  });
  return part;
}

/** Of an output without positions: the page of channels that holds this one, and a list in rows of MAP_SIDE. */
function pageOfChannels(channels, channel) {
  const size = MAP_SIDE * MAP_SIDE;
  const first = Math.floor(channels.indexOf(channel) / size) * size;
  return channels.slice(first, first + size);
}

function listInRows(list) {
  return Array.from({ length: Math.ceil(list.length / MAP_SIDE) }, (_, row) => list.slice(row * MAP_SIDE, (row + 1) * MAP_SIDE));
}

/** Every position of a part, as rows of columns. */
function inRows({ start, size }) {
  const columns = size.at(-1);
  const all = everyIndex(size).map((local) => local.map((p, axis) => p + start[axis]));
  return Array.from({ length: all.length / columns }, (_, row) => all.slice(row * columns, (row + 1) * columns));
}

/** The colour of a value among values up to `most` in size: a wash of one of two colours, by its sign. */
function heat(value, most) {
  if (!Number.isFinite(value) || most === 0) return { class: "", style: null };
  const share = Math.min(Math.abs(value) / most, 1);
  return { class: value < 0 ? "below" : "above", style: `--share: ${(100 * share).toFixed(1)}%` };
}

function largestSize(values) {
  return values.reduce((most, v) => (Number.isFinite(v) ? Math.max(most, Math.abs(v)) : most), 0);
}

let mapsDrawn = 0;

/** Cells in rows that the eye can take in; each has value, kind, label and place. */
function mapGrid(rows, attributes) {
  const id = `sheet-map-${mapsDrawn++}`;
  const most = largestSize(rows.flat().map((cell) => cell.value));
  return element("div", { ...attributes, class: "sheet-map", style: `--columns: ${rows[0].length}` },
    rows.map((row, r) => element("div", { role: attributes.role === "grid" ? "row" : null, class: "sheet-row" },
      row.map((cell, c) => {
        const { class: tint, style } = heat(cell.value, most);
        return element("div", {
          id: `${id}-${r}-${c}`, role: attributes.role === "grid" ? "gridcell" : null,
          class: `sheet-cell ${cell.kind ?? ""} ${cell.marked ? "read" : ""} ${tint}`, style,
          title: cell.label, "aria-label": attributes.role === "grid" ? cell.label : null,
          dataset: { place: cell.key },
        });
      }))));
}

function keyOf({ position, channel }) {
  return position.length ? position.join(",") : `c${channel}`;
}

function outputMapOf(sheet, node, part) {
  const { channels } = sheet.calculation.main.exact;
  const { channel } = sheet.place;
  const places = sheet.flat
    ? listInRows(pageOfChannels(channels, channel)).map((row) => row.map((c) => ({ position: [], channel: c })))
    : inRows(part).map((row) => row.map((position) => ({ position, channel })));
  const byKey = new Map(places.flat().map((place) => [keyOf(place), place]));
  const cells = places.map((row) => row.map((place) => {
    const value = engineValue(node, place.position, place.channel);
    return { value, key: keyOf(place), label: `${placeText(place)}: ${text32(value)}` };
  }));
  const placeUnder = (event) => byKey.get(event.target.closest(".sheet-cell")?.dataset.place);
  const hint = `sheet-hint-${mapsDrawn}`;
  const grid = mapGrid(cells, {
    role: "grid", tabindex: 0, "aria-label": "Output values; the arrow keys move", "aria-describedby": hint,
    onkeydown: (event) => {
      if (event.altKey || event.metaKey) return;
      const next = sheet.placeAfter(event.key, event.ctrlKey);
      if (!next) return;
      event.preventDefault();
      sheet.animation.pause();
      sheet.choose(next, "step");
      sheet.outputGrid.focus({ preventScroll: true });
    },
    onpointerover: (event) => {
      if (event.pointerType === "mouse" && placeUnder(event)) sheet.look(placeUnder(event));
    },
    onpointerleave: () => sheet.look(null),
    onclick: (event) => {
      const place = placeUnder(event);
      if (!place) return;
      sheet.animation.pause();
      sheet.choose(place, "point");
    },
  });
  const where = sheet.flat ? `${channels.length} of ${sheet.calculation.main.shape.at(-1)} channels kept` : boxText(part);
  return element("figure", { class: "sheet-figure output" },
    element("figcaption", {}, element("b", {}, "Output"), sheet.flat ? "" : ` channel ${channel}`, element("span", {}, where)),
    grid,
    element("p", { class: "note", id: hint }, "Point at a value to look; click, tap or use the arrow keys to stay.",
      sheet.flat ? "" : sheet.block.start.length > 2 ? " Page Up and Page Down change the depth." : " Page Up and Page Down change the channel."));
}

function markCells(grid, mark, keys) {
  grid.querySelectorAll(`.${mark}`).forEach((cell) => cell.classList.remove(mark));
  for (const key of keys) grid.querySelector(`[data-place="${key}"]`)?.classList.add(mark);
}

function markChosen(grid, place) {
  grid.querySelector(".chosen")?.classList.remove("chosen");
  grid.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
  const cell = grid.querySelector(`[data-place="${keyOf(place)}"]`);
  cell.classList.add("chosen");
  cell.setAttribute("aria-selected", "true");
  grid.setAttribute("aria-activedescendant", cell.id);
}

/** The window that an output reads of its first input, as cells; null for operations without positions. */
function windowCells(node, position) {
  if (!position.length && !node.operation.startsWith("global")) return null;
  if (CONVOLUTIONS.has(node.operation)) return convolutionWindow(node, position);
  if (POOLS.has(node.operation)) return poolWindow(node, position);
  const [shape] = inputShapesOf(node);
  if (node.operation === "resize") return resizedFrom(node, position, shape.slice(0, -1)).map((cell) => ({ ...cell, kind: "real" }));
  if (shape.length !== node.shape.length || node.operation === "concatenate") return null;
  if (["batch_norm", "affine", "prelu", "activation", "softmax", "add", "subtract", "multiply", "average", "maximum",
    "minimum", "dense"].includes(node.operation)) {
    const at = broadcastFrom([...position, 0], shape).slice(0, -1);
    return [{ at, kind: "real" }];
  }
  const source = movedFrom(node, [...position, 0], [shape]);
  return source && ["pad", "crop", "upsample", "reverse", "identity"].includes(node.operation)
    ? [{ at: source.index.slice(0, -1), kind: "real" }] : null;
}

/** The neighbourhood of the window in the input, with ghosts where it reaches beyond. */
function inputMapOf(sheet, found) {
  const { main } = sheet.calculation;
  const { position, channel } = sheet.place;
  const box = sheet.block.inputs[0];
  const cells = windowCells(main, position);
  if (!cells || !box || !box.start.length) return null;
  const global = main.operation.startsWith("global");
  const outputs = visiblePart(sheet.block, position);
  const windows = boxOfWindows((at) => windowCells(main, at) ?? [], outputs.start, outputs.size);
  const part = nearWindow(global || !windows ? box : windows, cells);
  const inputChannel = found.inputChannel ?? Math.min(channel, inputShapesOf(main)[0].at(-1) - 1);
  const read = boxReader(box);
  const sizes = inputShapesOf(main)[0].slice(0, -1);
  const marked = new Set(cells.filter((cell) => cell.kind !== "gap").map((cell) => String(cell.at)));
  const rows = inRows(part).map((row) => row.map((at) => {
    const inside = isInside(at, sizes);
    const value = inside ? read(at, inputChannel) : undefined;
    const words = !inside ? "padding" : value === undefined ? "not kept" : text32(value);
    return {
      value, kind: inside ? (value === undefined ? "unknown" : "") : "ghost", marked: marked.has(String(at)),
      key: at.join(","), label: `${positionText(at)}: ${words}`,
    };
  }));
  const ghosts = cells.filter((cell) => cell.kind === "padding").length;
  const summary = `The window reads ${cells.length - ghosts} of ${cells.length} values inside the input`;
  return element("figure", { class: "sheet-figure input" },
    element("figcaption", {}, element("b", {}, "Input"), ` channel ${inputChannel}`, element("span", {}, boxText(part))),
    mapGrid(rows, { role: "img", "aria-label": `${summary}.` }));
}

/** A part of a box, at most MAP_SIDE + 8 rows and columns, with the window in it; of a volume, one slice. */
function nearWindow(box, cells) {
  const middle = cells[Math.floor(cells.length / 2)].at;
  const part = { start: [...box.start], size: [...box.size] };
  middle.forEach((m, axis) => {
    const side = axis < middle.length - 2 ? 1 : MAP_SIDE + 8;
    if (part.size[axis] <= side) return;
    const most = box.start[axis] + box.size[axis] - side;
    part.start[axis] = Math.min(Math.max(Math.round(m) - Math.floor(side / 2), box.start[axis]), most);
    part.size[axis] = side;
  });
  return part;
}
