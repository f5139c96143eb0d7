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
  const entry = { owner, listener, seen: false };
  routeListeners.push(entry);
  // An owner is put on the page after it is made; from then on its absence means that it is gone.
  queueMicrotask(() => {
    entry.seen = owner.isConnected;
  });
}

/** The same, but only when another layer was chosen. */
function onLayer(owner, listener) {
  let last = chosen.layer;
  onRoute(owner, () => {
    if (chosen.layer === last) return;
    last = chosen.layer;
    listener();
  });
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
  panel.replaceChildren(...layerPanel(layer));
}

function fill(id, children) {
  document.getElementById(id).replaceChildren(...children);
}

/** Shows a layer, and says so. */
function showLayer(layer) {
  setRoute({ layer: layer.name });
  announce(`Showing ${layer.name}. ${layer.summary}`);
}

function goTo(part) {
  part.scrollIntoView();
  part.focus({ preventScroll: true });
}

/** Links within the page move the focus and leave the address to the layer. */
function moveWithin(event) {
  const link = event.target.closest("a[href^='#']");
  const target = link && document.getElementById(link.getAttribute("href").slice(1));
  if (!target) return;
  event.preventDefault();
  goTo(target);
}

function start() {
  document.addEventListener("click", moveWithin);
  addEventListener("hashchange", readAddress);
  addEventListener("popstate", readAddress);
  setUpTheme();
  beginning = { layer: firstLayer().name, at: null, channel: null };
  chosen = routeFrom(location.hash) ?? beginning;
  onLayer(document.getElementById("panel"), showChosenLayer);
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
