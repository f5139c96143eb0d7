// Feature maps of a node as pictures, one of them large; a row of values as bars.

function mapsView(node) {
  const { maps } = node;
  const large = new LargeMap(node);
  const tiles = Array.from({ length: maps.count }, (_, channel) => mapTile(maps, channel));
  const list = element(
    "div",
    { class: "maps", role: "listbox", "aria-label": `Feature maps of ${node.name}, one for each channel` },
    tiles,
  );
  // One copy of the picture for all tiles.
  list.style.setProperty("--sprite", `url(${pictureAddress(maps.sprite)})`);

  const reach = rovingFocus(list, tiles, (from, key) => {
    const row = tilesPerRow(tiles);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row };
    const ends = { Home: 0, End: tiles.length - 1 };
    return ends[key] ?? (key in steps ? from + steps[key] : null);
  });
  const showMap = (channel) => {
    reach(channel);
    tiles.forEach((tile, i) => tile.setAttribute("aria-selected", i === channel));
    large.show(channel);
  };
  list.addEventListener("focusin", (event) => showMap(tiles.indexOf(event.target)));
  list.addEventListener("click", (event) => event.target.closest(".map")?.focus());
  // The spreadsheet moves too: the maps follow it.
  onRoute(list, ({ channel }) => showMap(tiles[channel] ? channel : large.channel));
  const first = route().channel ?? (node.exact?.blocks.length ? strongestChannel(node) : 0);
  showMap(tiles[first] ? first : 0);

  return element(
    "section",
    { "aria-labelledby": "maps-title" },
    element("h3", { id: "maps-title" }, "Feature maps"),
    mapsNote(maps),
    element("div", { class: "maps-split" }, list, large.figure),
  );
}

function mapsNote({ count, scale, depth, low, high }) {
  return element(
    "p",
    { class: "note" },
    `${whole(count)} ${count === 1 ? "channel" : "channels"}. `,
    element("strong", {}, "Rounded: "),
    "256 greys",
    scale > 1 && `, and one pixel stands for ${scale} values a side`,
    depth !== null && `; of the volume, the slice at depth ${depth}`,
    `. Black is ${short(numberOf(low))}, white is ${short(numberOf(high))}, the same for all channels.`,
  );
}

/** How many screen pixels a map's pixel is wide and high, for a map of `side`; strips are not too thin to see. */
function zoomOf([height, width], side, least) {
  const zoom = side / Math.max(height, width);
  return { across: Math.max(zoom, least / width), down: Math.max(zoom, least / height) };
}

function mapTile({ tile, count, columns }, channel) {
  const [height, width] = tile;
  const zoom = zoomOf(tile, 56, 14);
  const size = (across, down) => `${across * width * zoom.across}px ${down * height * zoom.down}px`;
  const name = `Channel ${channel}`;
  const made = element("div", { class: "map", role: "option", "aria-label": name, title: name });
  Object.assign(made.style, {
    width: `${width * zoom.across}px`,
    height: `${height * zoom.down}px`,
    backgroundSize: size(columns, Math.ceil(count / columns)),
    backgroundPosition: size(-(channel % columns), -Math.floor(channel / columns)),
  });
  return made;
}

function tilesPerRow(tiles) {
  const top = tiles[0].offsetTop;
  const wrapped = tiles.findIndex((tile) => tile.offsetTop > top);
  return wrapped < 0 ? tiles.length : wrapped;
}

/** One map enlarged, with the part that is kept exactly; a click in it goes to that value. */
class LargeMap {
  constructor(node) {
    this.node = node;
    this.exact = node.exact ?? { whole: false, channels: [], blocks: [] };
    this.channel = 0;
    const [height, width] = node.maps.tile;
    this.zoom = zoomOf(node.maps.tile, 280, 40);
    const size = { width: Math.round(width * this.zoom.across), height: Math.round(height * this.zoom.down) };
    this.canvas = element("canvas", { ...size, role: "img", onclick: (event) => this.choose(event) });
    this.caption = element("figcaption", { class: "note" });
    this.figure = element("figure", { class: "large-map" }, this.canvas, this.caption);
    this.picture = new Image();
    this.picture.addEventListener("load", () => this.draw());
    this.picture.src = pictureAddress(node.maps.sprite);
  }

  show(channel) {
    this.channel = channel;
    const kept = this.exact.channels.includes(channel);
    this.canvas.setAttribute("aria-label", `Channel ${channel} of ${this.node.name}, enlarged`);
    this.canvas.classList.toggle("kept", kept);
    this.caption.textContent = `Channel ${channel}. ${this.keptText(kept)}`;
    if (this.picture.complete) this.draw();
  }

  keptText(kept) {
    const { whole: all, channels } = this.exact;
    if (!channels.length) return "Not kept exactly.";
    if (!kept) return `Not kept exactly; channels ${rangesText(channels)} are.`;
    if (this.isVolume()) return all ? "Kept exactly." : "Parts of the volume are kept exactly.";
    if (all) return "Kept exactly as a whole: click a value.";
    return "The outlined parts are kept exactly: click a value in them.";
  }

  /** Of a volume one slice is drawn, and positions in it have three numbers. */
  isVolume() {
    return this.node.shape.length > 3;
  }

  draw() {
    const { tile, columns, scale } = this.node.maps;
    const [height, width] = tile;
    const context = this.canvas.getContext("2d");
    const [left, top] = [(this.channel % columns) * width, Math.floor(this.channel / columns) * height];
    context.imageSmoothingEnabled = false;
    const { canvas, picture } = this;
    context.drawImage(picture, left, top, width, height, 0, 0, canvas.width, canvas.height);
    if (this.isVolume()) return;
    const zoom = [height === 1 ? this.zoom.down : this.zoom.down / scale, this.zoom.across / scale];
    const blocks = this.exact.channels.includes(this.channel) ? this.exact.blocks : [];
    for (const { start, size } of blocks) outline(context, inPlane(start, 0), inPlane(size, 1), zoom, [4, 4]);
    const { at } = route();
    if (at?.length === this.node.shape.length - 1) outline(context, inPlane(at, 0), [1, 1], zoom, []);
  }

  /** Goes to the value under the pointer, where it is kept. */
  choose(event) {
    const { maps, shape } = this.node;
    const parts = [event.offsetY / this.canvas.clientHeight, event.offsetX / this.canvas.clientWidth];
    const place = parts.map((part, axis) => Math.floor(part * maps.tile[axis] * maps.scale));
    // A strip has columns alone.
    const at = place.slice(3 - shape.length).map((i, axis) => Math.min(i, shape[axis] - 1));
    const kept = this.exact.channels.includes(this.channel) && blockWith(this.node, at);
    if (kept) setRoute({ at, channel: this.channel });
  }
}

/** Row and column of what has columns alone, as a strip. */
function inPlane(numbers, row) {
  return numbers.length === 1 ? [row, ...numbers] : numbers;
}

/** A frame that is seen on black and on white: dark below, and bright, in `dashes`, above. */
function outline(context, start, size, zoom, dashes) {
  const [top, left, height, width] = [...start, ...size].map((v, i) => v * zoom[i % 2]);
  context.lineWidth = 2;
  for (const [colour, dash] of [
    ["#000", []],
    ["#ffb000", dashes],
  ]) {
    context.strokeStyle = colour;
    context.setLineDash(dash);
    // A position smaller than a pixel is still to be seen.
    context.strokeRect(left + 1, top + 1, Math.max(3, width - 2), Math.max(3, height - 2));
  }
  context.setLineDash([]);
}

/** [0, 1, 2, 5] -> "0–2, 5". */
function rangesText(numbers) {
  const ranges = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
}

/** A row of values without a picture, as bars. */
function barsView(node) {
  const values = array(node.maps.values);
  const { low, high } = node.range;
  const label = `${whole(values.length)} values, from ${short(numberOf(low))} to ${short(numberOf(high))}`;
  const box = drawToWidth(element("div", { class: "chart-box" }), (width) => barChart(values, width, label));
  return element(
    "section",
    { "aria-labelledby": "bars-title" },
    element("h3", { id: "bars-title" }, "Values"),
    element("p", { class: "note" }, `${label}.`),
    box,
  );
}

function barChart(values, width, label) {
  const finite = values.filter(Number.isFinite);
  const low = finite.reduce((a, b) => Math.min(a, b), 0);
  const high = finite.reduce((a, b) => Math.max(a, b), low < 0 ? 0 : 1e-9);
  const drawn = chart({
    width,
    height: 180,
    label,
    x: { low: -0.5, high: values.length - 0.5, label: "index" },
    y: { low, high: high + (high - low) * 0.05, label: "value" },
  });
  const zero = drawn.y(0);
  const thick = Math.max(0.5, (drawn.frame.right - drawn.frame.left) / values.length - 1);
  values.forEach((value, i) => {
    if (!Number.isFinite(value) || value === 0) return;
    const y = drawn.y(value);
    const bar = { x: drawn.x(i) - thick / 2, y: Math.min(y, zero), width: thick, height: Math.abs(y - zero) };
    const title = svg("title", {}, `${i}: ${text32(value)}`);
    drawn.marks.append(svg("rect", { class: value < 0 ? "bar negative" : "bar", ...bar }, title));
  });
  return drawn.svg;
}
