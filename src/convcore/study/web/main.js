// Starts the page, and keeps what is chosen and the address (#layer=NAME&at=R,C&channel=K) the same.

const routeListeners = [];
let chosen = { layer: null, at: null, channel: null };
let beginning = null; // what an address without a layer shows

/** What is chosen: { layer: name, at: [r, c] or null, channel: k or null }. */
function route() {
  return { ...chosen };
}

/** Chooses: only what `changes` names changes; another layer forgets the old one's position and channel. */
function setRoute(changes) {
  const fresh = "layer" in changes && changes.layer !== chosen.layer;
  const next = { ...chosen, ...(fresh ? { at: null, channel: null } : {}), ...changes };
  if (routeText(next) === routeText(chosen)) return;
  chosen = next;
  writeAddress(fresh);
  tellListeners();
}

/** Calls `listener(route())` after each change, for as long as `owner` is on the page. */
function onRoute(owner, listener) {
  routeListeners.push({ owner, listener, seen: owner.isConnected });
}

function tellListeners() {
  for (const entry of [...routeListeners]) {
    entry.seen ||= entry.owner.isConnected;
    if (entry.owner.isConnected) entry.listener(route());
    else if (entry.seen) routeListeners.splice(routeListeners.indexOf(entry), 1);
  }
}

function routeText({ layer, at, channel }) {
  const parts = [`layer=${encodeURIComponent(layer)}`];
  if (at) parts.push(`at=${at.join(",")}`);
  if (channel !== null) parts.push(`channel=${channel}`);
  return `#${parts.join("&")}`;
}

function routeFrom(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const layer = layerNamed(fields.get("layer"));
  if (!layer) return null;
  const at = fields.get("at")?.split(",").map(Number);
  const channel = fields.has("channel") ? Number(fields.get("channel")) : null;
  return {
    layer: layer.name,
    at: at?.every((i) => Number.isInteger(i) && i >= 0) ? at : null,
    channel: Number.isInteger(channel) && channel >= 0 ? channel : null,
  };
}

function writeAddress(fresh) {
  try {
    history[fresh ? "pushState" : "replaceState"](null, "", routeText(chosen));
  } catch {
    // In a frame without an address of its own, as in a notebook: what is chosen is kept here alone.
  }
}

function readAddress() {
  const next = routeFrom(location.hash) ?? (location.hash ? null : beginning);
  if (!next || routeText(next) === routeText(chosen)) return;
  chosen = next;
  tellListeners();
}

// --- theme ----------------------------------------------------------------------------------------------------

const darkPreferred = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : darkPreferred.matches;
}

function setUpTheme() {
  const button = document.getElementById("theme");
  const label = () => {
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
    announce(isDark() ? "Dark theme" : "Light theme");
  });
  darkPreferred.addEventListener("change", label);
  label();
}

// --- start ----------------------------------------------------------------------------------------------------

/** The layer to begin with: the first that computes something, so that there is something to see. */
function firstLayer() {
  return STUDY.layers.find((layer) => layer.flops > 0) ?? STUDY.layers[0];
}

function showChosenLayer() {
  const panel = document.getElementById("panel");
  const layer = layerNamed(chosen.layer);
  if (panel.dataset.layer === layer.name) return;
  panel.dataset.layer = layer.name;
  panel.replaceChildren(...layerPanel(layer));
}

function fill(id, children) {
  document.getElementById(id).replaceChildren(...children);
}

function showModel() {
  const { model } = STUDY;
  document.getElementById("model-name").textContent = model.name;
  document.getElementById("model-facts").textContent = [
    `${model.file} (${model.source})`, `${STUDY.layers.length} layers`, `${whole(model.parameters)} parameters`,
    `${scaled(model.flops)} FLOPs`, `${milliseconds(model.ms)} for one example`,
  ].join(" · ");
}

/** What went in and what came out. */
function aboutView() {
  const { input, answer } = STUDY;
  const picture = input.picture && element("img", { class: "input", src: pictureAddress(input.picture), alt: `The input: ${input.name}` });
  return [
    element("div", { class: "about" },
      picture && element("figure", {}, picture),
      element("div", {},
        element("h2", {}, "What went in"),
        facts([["Input", input.name], ["Shape", shapeText(input.shape)], ["Made by", input.preprocess || null]])),
      element("div", {}, element("h2", {}, "What came out"), answer.map(answerView))),
  ];
}

function answerView({ output, shape, top }) {
  const most = Math.max(...top.map(({ value }) => Math.abs(numberOf(value))));
  if (top.length === 0) return element("p", {}, layerLink(layerNamed(output)), ` made ${shapeText(shape)} values.`);
  return element("table", { class: "answer" },
    element("caption", {}, layerLink(layerNamed(output)), `, ${shapeText(shape)}`),
    element("tbody", {}, top.map(({ class: index, name, value }) => {
      const cell = element("td", {}, text32(numberOf(value)));
      cell.style.setProperty("--share", `${(100 * Math.max(0, numberOf(value)) / (most || 1)).toFixed(1)}%`);
      return element("tr", {}, element("th", { scope: "row" }, name || `class ${index}`), cell);
    })));
}

function partsOfPage() {
  const parts = [["network", "Network"], ["panel", "Layer"], ["layers", "All layers"], ["roofline", "Roofline"], ["curves", "Activation functions"],
    STUDY.input.hu && ["ct", "Hounsfield units"]];
  return parts.filter(Boolean).map(([id, label]) => element("a", { href: `#${id}` }, label));
}

function colophon() {
  const { machine, model } = STUDY;
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`).join(", ");
  return [element("p", { class: "note" }, `Made on ${machine.date} with ${versions}. Times are medians of ${model.repeats ?? "several"} runs on `
    + `${machine.device === "cuda" ? "a GPU beside " : ""}${machine.cpu}`
    + `${machine.isa ? `, ${machine.isa}, ${machine.threads} ${machine.threads === 1 ? "thread" : "threads"}` : ""}.`)];
}

/** Links within the page move the focus and leave the address to the layer. */
function moveWithin(event) {
  const link = event.target.closest("a[href^='#']");
  const target = link && document.getElementById(link.getAttribute("href").slice(1));
  if (!target) return;
  event.preventDefault();
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}

function start() {
  document.addEventListener("click", moveWithin);
  addEventListener("hashchange", readAddress);
  addEventListener("popstate", readAddress);
  setUpTheme();
  beginning = { layer: firstLayer().name, at: null, channel: null };
  chosen = routeFrom(location.hash) ?? beginning;
  onRoute(document.getElementById("panel"), showChosenLayer);
  showModel();
  showChosenLayer();
  fill("parts", partsOfPage());
  fill("about", aboutView());
  fill("network", networkView());
  fill("layers", layersView());
  fill("roofline", rooflineView());
  fill("curves", curvesView());
  if (STUDY.input.hu) fill("ct", ctView());
  fill("colophon", colophon());
}

/** Values and derivatives of an activation function at `points`, as the curves draw them. */
function curveAt(name, parameters, points) {
  const curve = functionOf(name, parameters);
  return { values: points.map(curve.value), derivatives: points.map(curve.derivative) };
}

// What tests look at; `visited` is filled by the animation.
window.convcore = { study: STUDY, visited: [], route, setRoute, text9, text32, curveAt, layOut, stepFrom };
start();
