// What all the other scripts stand on: the record and its arrays, elements, numbers as text.

const STUDY = readStudy();

function readStudy() {
  const study = JSON.parse(document.getElementById("study").textContent);
  for (const [name, node] of Object.entries(study.nodes)) node.name = name;
  study.layers.forEach((layer, index) => {
    layer.index = index;
  });
  return study;
}

/** The nodes of a layer, in the order of execution; the last carries the layer's output. */
function nodesOf(layer) {
  return layer.nodes.map((name) => STUDY.nodes[name]);
}

function layerNamed(name) {
  return STUDY.layers.find((layer) => layer.name === name) ?? null;
}

// --- arrays ---------------------------------------------------------------------------------------------------

// Little-endian like the file, as is every machine that runs a browser.
const ARRAY_TYPES = { float32: Float32Array, int16: Int16Array, uint8: Uint8Array };
const decoded = new Map();

/** The numbers of a blob, row after row. Decoded when first asked for, so that the page opens fast. */
function array(blob) {
  if (!decoded.has(blob.blob)) {
    decoded.set(blob.blob, new ARRAY_TYPES[blob.dtype](bytesOf(blobText(blob)).buffer));
  }
  return decoded.get(blob.blob);
}

/** The address of a blob that is a PNG. */
function pictureAddress(blob) {
  return `data:image/png;base64,${blobText(blob)}`;
}

function blobText(blob) {
  return document.getElementById(`blob-${blob.blob}`).textContent.trim();
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const characters = atob(base64);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** A histogram of the JSON part, with its edges as numbers. */
function histogramOf({ edges, counts }) {
  return { edges: edges.map(numberOf), counts };
}

/** A number of the JSON part, which writes NaN as null and the infinities as words. */
function numberOf(value) {
  if (value === null) return NaN;
  if (value === "inf") return Infinity;
  if (value === "-inf") return -Infinity;
  return value;
}

/** `x`, but no less than `low` and no more than `high`. */
function clamp(x, low, high) {
  return Math.min(high, Math.max(low, x));
}

// --- elements -------------------------------------------------------------------------------------------------

/** A new HTML element. Attributes named on... are listeners; `dataset` is an object. */
function element(tag, attributes, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svg(tag, attributes, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

/** Has a screen reader say `text` when it has finished what it is saying. */
function announce(text) {
  const live = document.getElementById("live");
  // The same words twice are no change, and would not be said.
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}

/**
 * Makes one stop of the Tab key of many elements, in which the arrow keys move: `move(index, key)` says which index
 * a key leads to, or null where it leads nowhere. Returns `reach(index)`, which makes that one the stop.
 */
function rovingFocus(container, items, move) {
  let current = 0;
  const reach = (index) => {
    items[current]?.setAttribute("tabindex", "-1");
    current = index;
    items[current]?.setAttribute("tabindex", "0");
  };
  items.forEach((item) => item.setAttribute("tabindex", "-1"));
  reach(0);
  container.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const from = items.indexOf(event.target.closest("[tabindex]"));
    const next = from < 0 ? null : move(from, event.key);
    if (next === null || next === undefined || !items[next]) return;
    event.preventDefault();
    reach(next);
    items[next].focus();
  });
  container.addEventListener("focusin", (event) => {
    const index = items.indexOf(event.target);
    if (index >= 0) reach(index);
  });
  return reach;
}

/** Calls `act(element)` when what is in `container` is clicked, or chosen with Enter or the space bar. */
function onChoose(container, act) {
  container.addEventListener("click", (event) => act(event.target));
  container.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act(event.target);
  });
}

/** A check box with its label; `changed(on)` hears of every change. */
function checkbox(label, on, changed) {
  const input = element("input", { type: "checkbox", checked: on, onchange: () => changed(input.checked) });
  return element("label", { class: "choice" }, input, ` ${label}`);
}

let choosersMade = 0;

/** A choice among `names`, at first the one at `index`; `choose(index)` hears of every change. */
function chooser(label, names, index, choose) {
  const id = `choice-${choosersMade++}`;
  const select = element(
    "select",
    { id, onchange: () => choose(select.selectedIndex) },
    names.map((name, i) => element("option", { selected: i === index }, String(name))),
  );
  return element("span", { class: "choice" }, element("label", { for: id }, label), select);
}

function syncChooser(choice, index) {
  if (choice?.isConnected) choice.querySelector("select").selectedIndex = index;
}

// --- numbers as text ------------------------------------------------------------------------------------------

/** A float64 to 9 significant digits. */
function text9(value) {
  return Number.isFinite(value) ? plain(Number(value.toPrecision(9))) : notFinite(value);
}

/** The shortest decimal that reads back as the same float32. */
function text32(value) {
  if (!Number.isFinite(value)) return notFinite(value);
  const single = Math.fround(value);
  for (let digits = 1; digits < 9; digits++) {
    const shorter = Number(single.toPrecision(digits));
    if (Math.fround(shorter) === single) return plain(shorter);
  }
  return plain(Number(single.toPrecision(9)));
}

/** To `digits` significant digits, for labels. */
function short(value, digits = 4) {
  return Number.isFinite(value) ? plain(Number(value.toPrecision(digits))) : notFinite(value);
}

function plain(value) {
  // A typographic minus, as wide as a plus and not broken from its digits.
  return (Object.is(value, -0) ? "-0" : String(value)).replace(/-/g, "\u2212");
}

function notFinite(value) {
  return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "\u2212∞";
}

const PREFIXES = ["", "k", "M", "G", "T", "P"];

/** 1234567 -> "1.23 M"; with a unit, "1.23 MB". */
function scaled(value, unit = "") {
  if (value === null || value === undefined) return "–";
  let step = 0;
  while (Math.abs(value) >= 999.5 && step < PREFIXES.length - 1) {
    value /= 1000;
    step++;
  }
  const suffix = PREFIXES[step] + unit;
  return `${short(value, 3)}${suffix ? `\u202f${suffix}` : ""}`;
}

/** Every digit, in groups of three: 138 357 544. */
function whole(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 1 ? `${short(ms * 1000, 3)}\u202fµs` : `${short(ms, 3)}\u202fms`;
}

function percent(fraction, digits = 3) {
  if (fraction === null || fraction === undefined) return "–";
  return `${short(100 * fraction, digits)}\u202f%`;
}

/** [224, 224, 64] -> "224 × 224 × 64". */
function shapeText(shape) {
  return shape.length ? shape.join("\u202f×\u202f") : "1";
}
