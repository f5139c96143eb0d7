// One layer: facts, maps, histogram, exact values, and its arithmetic one value at a time.

function layerPanel(layer) {
  const arithmetic = spreadsheetView(layer);
  return element("div", { class: "layer" },
    element("h2", { id: "panel-title" }, layer.name),
    element("p", {}, layer.summary),
    arithmetic && element("section", { "aria-labelledby": "arithmetic-title" },
      element("h3", { id: "arithmetic-title" }, "One value at a time"), arithmetic));
}
