// Maps of values to point at and to watch the window walk over: a square a value, coloured by sign and size.

/** Most rows and columns of a map that are drawn at once. */
const MAP_SIDE = 28;

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

/** Of an output without positions: the page of channels that holds this one. */
function pageOfChannels(channels, channel) {
  const size = MAP_SIDE * MAP_SIDE;
  const first = Math.floor(channels.indexOf(channel) / size) * size;
  return channels.slice(first, first + size);
}

/** A list in pieces of equal length; the last may be shorter. */
function inPieces(list, length) {
  return Array.from({ length: Math.ceil(list.length / length) }, (_, i) => list.slice(i * length, (i + 1) * length));
}

/** Every position of a part, as rows of columns. */
function inRows({ start, size }) {
  return inPieces(positionsIn({ start, size }), size.at(-1));
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
function mapGrid(rows, { numbers, ...attributes }) {
  const id = `sheet-map-${mapsDrawn++}`;
  const most = largestSize(rows.flat().map((cell) => cell.value));
  const shape = { class: `sheet-map ${numbers ? "numbered" : ""}`, style: `--columns: ${rows[0].length}` };
  const grid = element("div", { ...attributes, ...shape },
    rows.map((row, r) => element("div", { role: attributes.role === "grid" ? "row" : null, class: "sheet-row" },
      row.map((cell, c) => {
        const { class: tint, style } = heat(cell.value, most);
        return element("div", {
          id: `${id}-${r}-${c}`, role: attributes.role === "grid" ? "gridcell" : null,
          class: `sheet-cell ${cell.kind ?? ""} ${cell.marked ? "read" : ""} ${tint}`, style,
          title: cell.label, "aria-label": attributes.role === "grid" ? cell.label : null,
          dataset: { place: cell.key },
        }, numbers && cell.value !== undefined && short(cell.value, 3));
      }))));
  return element("div", { class: "scroll" }, grid);
}

/** Scrolls the box that a cell lies in, and never the page, until the cell is seen. */
function bringIntoBox(cell) {
  const box = cell?.closest(".scroll");
  if (!box) return;
  const [inner, outer] = [cell.getBoundingClientRect(), box.getBoundingClientRect()];
  if (inner.left < outer.left) box.scrollLeft -= outer.left - inner.left + inner.width;
  if (inner.right > outer.right) box.scrollLeft += inner.right - outer.right + inner.width;
}

function keyOf({ position, channel }) {
  return position.length ? position.join(",") : `c${channel}`;
}

function outputMapOf(sheet, part) {
  const { main } = sheet.calculation;
  const { channels } = main.exact;
  const { channel } = sheet.place;
  const places = sheet.flat
    ? inPieces(pageOfChannels(channels, channel).map((c) => ({ position: [], channel: c })), MAP_SIDE)
    : inRows(part).map((row) => row.map((position) => ({ position, channel })));
  const byKey = new Map(places.flat().map((place) => [keyOf(place), place]));
  const cells = places.map((row) => row.map((place) => {
    const value = finalValue(sheet.calculation, place.position, place.channel)
      ?? engineValue(main, place.position, place.channel);
    return { value, key: keyOf(place), label: `${placeText(place)}: ${text32(value)}` };
  }));
  const placeUnder = (event) => byKey.get(event.target.closest(".sheet-cell")?.dataset.place);
  const hint = `sheet-hint-${mapsDrawn}`;
  const grid = mapGrid(cells, {
    numbers: sheet.numbers, role: "grid", tabindex: 0,
    "aria-label": "Output values; the arrow keys move", "aria-describedby": hint,
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
  const kept = `${channels.length} of ${main.shape.at(-1)} channels kept`;
  const pageKeys = `Page Up and Page Down change the ${sheet.block.start.length > 2 ? "depth" : "channel"}.`;
  return element("figure", { class: "sheet-figure output" },
    element("figcaption", {}, element("b", {}, "Output"), sheet.flat ? "" : ` channel ${channel}`,
      element("span", {}, sheet.flat ? kept : boxText(part))),
    grid,
    element("p", { class: "note", id: hint },
      "Point at a value to look; click, tap or use the arrow keys to stay. ", sheet.flat ? "" : pageKeys));
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
  return cell;
}

/** Operations that read one value of their input at an output's own position. */
const POINT_BY_POINT = new Set(["batch_norm", "affine", "prelu", "activation", "softmax", "dense", "identity",
  "add", "subtract", "multiply", "average", "maximum", "minimum"]);
const MOVES = new Set(["pad", "crop", "upsample", "reverse"]);

/** The window that an output reads of its first input, as cells; null where it has no place in a map. */
function windowCells(node, position) {
  const [shape] = inputShapesOf(node);
  const sizes = shape.slice(0, -1);
  if (node.operation.startsWith("global")) return poolWindow(node, position);
  if (!position.length) return null;
  if (CONVOLUTIONS.has(node.operation)) return convolutionWindow(node, position);
  if (POOLS.has(node.operation)) return poolWindow(node, position);
  if (node.operation === "resize") return resizedFrom(node, position, sizes).map((cell) => ({ ...cell, kind: "real" }));
  if (shape.length !== node.shape.length) return null;
  if (POINT_BY_POINT.has(node.operation)) return [cellAt(broadcastFrom(position, sizes), sizes)];
  if (MOVES.has(node.operation)) return [cellAt(moveOf(node, [...position, 0], shape).slice(0, -1), sizes)];
  return null;
}

function cellAt(at, sizes) {
  return { at, kind: isInside(at, sizes) ? "real" : "padding" };
}

/** The neighbourhood of the window in the input, with ghosts where it reaches beyond. */
function inputMapOf(sheet, found) {
  const { main } = sheet.calculation;
  const { position, channel } = sheet.place;
  const box = sheet.block.inputs[0];
  const cells = windowCells(main, position);
  if (!cells || !box || !box.start.length) return null;
  const part = nearWindow(main.operation.startsWith("global") ? box : windowsOf(sheet), cells);
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
    element("figcaption", {}, element("b", {}, main.inputs.length > 1 ? "First input" : "Input"),
      ` channel ${inputChannel}`, element("span", {}, boxText(part))),
    mapGrid(rows, { numbers: sheet.numbers, role: "img", "aria-label": `${summary}.` }),
    element("p", { class: "note reach" }, reachText(main, position)));
}

/** The box round the windows of all outputs that are drawn. */
function windowsOf(sheet) {
  const { main } = sheet.calculation;
  const outputs = visiblePart(sheet.block, sheet.place.position);
  return boxOfWindows((at) => windowCells(main, at), outputs.start, outputs.size);
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

/** How the window's place follows from the output's, in numbers. */
function reachText(node, position) {
  const name = (axis) => axisName(position.length, axis);
  const { strides, dilation = strides?.map(() => 1), padding } = node.attributes;
  if (node.operation === "conv_transpose") {
    const places = position.map((_, axis) => (
      `i\u202f·\u202f${strides[axis]} + t\u202f·\u202f${dilation[axis]} − ${padding[axis][0]} (${name(axis)})`));
    return `Input i adds tap t to output ${places.join(", ")}.`;
  }
  if (!strides || !padding) return "";
  const starts = position.map((p, axis) => {
    const low = padding[axis][0];
    return `${name(axis)} ${p}\u202f·\u202f${strides[axis]} − ${low} = ${minus(p * strides[axis] - low)}`;
  });
  const apart = dilation.some((d) => d > 1) ? ` Its taps lie ${dilation.join(" × ")} apart.` : "";
  return `The window begins at position · stride − padding: ${starts.join(", ")}.${apart}`;
}
