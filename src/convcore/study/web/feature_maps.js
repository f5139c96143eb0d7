// Feature maps of a node as pictures, one of them large; a row of values as bars.

function mapsView(node) {
  const { maps } = node;
  const large = largeMap(node);
  const tiles = Array.from({ length: maps.count }, (_, i) => mapTile(maps, i, channelOf(maps, i)));
  const list = element(
    "div",
    {
      class: "maps",
      role: "listbox",
      "aria-label": `Feature maps of ${node.name}, one for each channel`,
      "aria-orientation": "horizontal",
    },
    tiles,
  );
  // One copy of the picture for all tiles.
  list.style.setProperty("--sprite", `url(${pictureAddress(maps.sprite)})`);
  const showMap = (i) => {
    tiles.forEach((tile, j) => tile.setAttribute("aria-selected", i === j));
    large.show(i);
  };
  const reach = rovingFocus(list, tiles, (from, key) => {
    const perRow = tilesPerRow(tiles);
    return {
      ArrowRight: from + 1,
      ArrowLeft: from - 1,
      ArrowDown: from + perRow,
      ArrowUp: from - perRow,
      Home: 0,
      End: tiles.length - 1,
    }[key];
  });
  list.addEventListener("focusin", (event) => showMap(tiles.indexOf(event.target)));
  list.addEventListener("click", (event) => {
    const i = tiles.indexOf(event.target.closest(".map"));
    if (i >= 0) tiles[i].focus();
  });
  const first = Math.max(0, indexOfChannel(maps, route().channel ?? node.exact?.channels[0] ?? 0));
  reach(first);
  showMap(first);
  // The spreadsheet below moves too: the maps follow it.
  onRoute(list, ({ channel }) => {
    const i = channel === null ? -1 : indexOfChannel(maps, channel);
    if (i >= 0) {
      reach(i);
      showMap(i);
    } else large.draw();
  });
  const channels = node.shape.at(-1);
  return element(
    "section",
    { "aria-labelledby": "maps-title" },
    element("h3", { id: "maps-title" }, "Feature maps"),
    element(
      "p",
      { class: "note" },
      maps.count < channels
        ? `${maps.count} of ${whole(channels)} channels. `
        : `${whole(channels)} ${channels === 1 ? "channel" : "channels"}. `,
      element("strong", {}, "Rounded: "),
      "256 greys",
      scaleNote(maps.scale),
      maps.depth === null ? null : `; of the volume, the slice at depth ${maps.depth}`,
      `. Black is ${short(numberOf(maps.low))}, white is ${short(numberOf(maps.high))}, the same for all channels.`,
    ),
    element("div", { class: "maps-split" }, list, large.element),
  );
}

function scaleNote(scale) {
  return scale > 1 ? `, and one pixel stands for ${short(scale)} × ${short(scale)} values` : "";
}

/** Maps may be of chosen channels; where none are named they are the first. */
function channelOf(maps, i) {
  return maps.channels ? maps.channels[i] : i;
}

function indexOfChannel(maps, channel) {
  return maps.channels ? maps.channels.indexOf(channel) : channel < maps.count ? channel : 0;
}

function mapTile(maps, i, channel) {
  const [height, width] = maps.tile;
  const zoom = 56 / Math.max(height, width);
  const rows = Math.ceil(maps.count / maps.columns);
  const tile = element("div", {
    class: "map",
    role: "option",
    "aria-label": `Channel ${channel}`,
    title: `Channel ${channel}`,
  });
  Object.assign(tile.style, {
    width: `${width * zoom}px`,
    height: `${height * zoom}px`,
    backgroundSize: `${maps.columns * width * zoom}px ${rows * height * zoom}px`,
    backgroundPosition: `${-(i % maps.columns) * width * zoom}px ${-Math.floor(i / maps.columns) * height * zoom}px`,
  });
  return tile;
}

function tilesPerRow(tiles) {
  const top = tiles[0].offsetTop;
  const wrapped = tiles.findIndex((tile) => tile.offsetTop > top);
  return wrapped < 0 ? tiles.length : wrapped;
}

/** One map enlarged, with the part that is kept exactly; a click in it goes to that value. */
function largeMap(node) {
  const { maps } = node;
  const exact = node.exact ?? { whole: false, channels: [], blocks: [] };
  const [height, width] = maps.tile;
  const zoom = Math.max(1, Math.floor(280 / Math.max(height, width)));
  const canvas = element("canvas", { width: width * zoom, height: height * zoom, role: "img" });
  const caption = element("figcaption", { class: "note" });
  const picture = new Image();
  let shown = 0;
  const draw = () => {
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(
      picture,
      (shown % maps.columns) * width,
      Math.floor(shown / maps.columns) * height,
      width,
      height,
      0,
      0,
      canvas.width,
      canvas.height,
    );
    if (exact.channels.includes(channelOf(maps, shown)))
      outlineBlocks(context, exact.blocks, zoom / maps.scale);
    const { at } = route();
    if (at?.length === 2) outline(context, at, [1, 1], zoom / maps.scale, []);
  };
  const show = (i) => {
    shown = i;
    const channel = channelOf(maps, i);
    const kept = exact.channels.includes(channel);
    canvas.setAttribute("aria-label", `Channel ${channel} of ${node.name}, enlarged`);
    canvas.classList.toggle("kept", kept);
    caption.textContent =
      `Channel ${channel}. ` +
      (kept
        ? exact.whole
          ? "Kept exactly as a whole: click a value."
          : "The outlined parts are kept exactly: click a value in them."
        : exact.channels.length
          ? `Not kept exactly; channels ${rangesText(exact.channels)} are.`
          : "Not kept exactly.");
    if (picture.complete) draw();
  };
  picture.addEventListener("load", draw);
  picture.src = pictureAddress(maps.sprite);
  canvas.addEventListener("click", (event) => {
    const at = [event.offsetY / canvas.clientHeight, event.offsetX / canvas.clientWidth].map((part, axis) =>
      Math.min(node.shape[axis] - 1, Math.floor(part * [height, width][axis] * maps.scale)),
    );
    const channel = channelOf(maps, shown);
    if (exact.channels.includes(channel) && exact.blocks.some((block) => contains(block, at)))
      setRoute({ at, channel });
  });
  return { element: element("figure", { class: "large-map" }, canvas, caption), show, draw };
}

function contains({ start, size }, at) {
  return (
    start.length === at.length &&
    start.every((first, axis) => at[axis] >= first && at[axis] < first + size[axis])
  );
}

function outlineBlocks(context, blocks, zoom) {
  for (const { start, size } of blocks) if (start.length === 2) outline(context, start, size, zoom, [4, 4]);
}

/** A frame that is seen on black and on white: dark below, and bright, in `dashes`, above. */
function outline(context, start, size, zoom, dashes) {
  const [top, left, height, width] = [...start, ...size].map((v) => v * zoom);
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
  const label = `${whole(values.length)} values, from ${short(numberOf(node.range.low))} to ${short(numberOf(node.range.high))}`;
  const box = element("div", { class: "chart-box" });
  drawToWidth(box, (width) => {
    const low = Math.min(0, numberOf(node.range.low) || 0),
      high = Math.max(low + 1e-9, 0, numberOf(node.range.high) || 0);
    const drawn = chart({
      width,
      height: 180,
      label,
      x: { low: -0.5, high: values.length - 0.5, label: "index" },
      y: { low, high: high + (high - low) * 0.05, label: "value" },
    });
    const zero = drawn.y(0),
      thick = Math.max(0.5, (drawn.frame.right - drawn.frame.left) / values.length - 1);
    values.forEach((value, i) => {
      if (!Number.isFinite(value) || value === 0) return;
      const y = drawn.y(value);
      drawn.marks.append(
        svg(
          "rect",
          {
            class: value < 0 ? "bar negative" : "bar",
            x: drawn.x(i) - thick / 2,
            y: Math.min(y, zero),
            width: thick,
            height: Math.abs(y - zero),
          },
          svg("title", {}, `${i}: ${text32(value)}`),
        ),
      );
    });
    return drawn.svg;
  });
  return element(
    "section",
    { "aria-labelledby": "bars-title" },
    element("h3", { id: "bars-title" }, "Values"),
    element("p", { class: "note" }, label + "."),
    box,
  );
}
