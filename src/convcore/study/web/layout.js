// Places of a network's layers: ranks from the inputs down, few crossings, long connections in lanes of their own.

const BOX = { width: 208, height: 42, gapX: 22, gapY: 26, lane: 12 };

/**
 * Lays out nodes 0..n-1 with `inputs[i]`, the nodes that i reads, all before i. Returns { boxes: [{ x, y, rank }],
 * edges: [{ from, to, points }], ranks: [[node, ...], ...] from left to right, width, height }.
 */
function layOut(inputs) {
  const rank = ranksOf(inputs);
  const places = inputs.map((_, i) => ({ node: i, rank: rank[i], width: BOX.width, above: [], below: [] }));
  const edges = threadEdges(inputs, places);
  const rows = rowsOf(places);
  orderRows(rows);
  placeRows(rows);
  return measure(places.slice(0, inputs.length), edges, rows);
}

/** The longest way from an input; what only feeds a later layer moves down to just above it. */
function ranksOf(inputs) {
  const rank = inputs.map(() => 0);
  inputs.forEach((from, i) => {
    for (const j of from) rank[i] = Math.max(rank[i], rank[j] + 1);
  });
  const roof = inputs.map(() => Infinity);
  for (let i = inputs.length - 1; i >= 0; i--) {
    if (inputs[i].length === 0 && roof[i] < Infinity) rank[i] = roof[i] - 1;
    for (const j of inputs[i]) roof[j] = Math.min(roof[j], rank[i]);
  }
  return rank;
}

/** Gives an edge that passes ranks a place in each of them, so that it runs between boxes and not behind them. */
function threadEdges(inputs, places) {
  const edges = [];
  inputs.forEach((from, to) => {
    for (const start of from) {
      const chain = [places[start]];
      for (let r = places[start].rank + 1; r < places[to].rank; r++) {
        const lane = { node: null, rank: r, width: BOX.lane, above: [], below: [] };
        places.push(lane);
        chain.push(lane);
      }
      chain.push(places[to]);
      for (let k = 1; k < chain.length; k++) {
        chain[k - 1].below.push(chain[k]);
        chain[k].above.push(chain[k - 1]);
      }
      edges.push({ from: start, to, chain });
    }
  });
  return edges;
}

function rowsOf(places) {
  const rows = [];
  for (const place of places) (rows[place.rank] ??= []).push(place);
  for (const row of rows)
    row.forEach((place, i) => {
      place.order = i;
    });
  return rows;
}

/** Sorts each row by the mean place of its neighbours, down and up a few times. */
function orderRows(rows) {
  const sweep = (row, side) => {
    for (const place of row) place.wish = place[side].length ? mean(place[side], "order") : place.order;
    row.sort((a, b) => a.wish - b.wish || a.order - b.order);
    row.forEach((place, i) => {
      place.order = i;
    });
  };
  for (let round = 0; round < 4; round++) {
    for (const row of rows) sweep(row, "above");
    for (const row of [...rows].reverse()) sweep(row, "below");
  }
}

/** Pulls each place toward its neighbours, and apart where they would overlap. */
function placeRows(rows) {
  for (const row of rows) {
    let x = -widthOf(row) / 2;
    for (const place of row) {
      place.x = x + place.width / 2;
      x += place.width + BOX.gapX;
    }
  }
  for (let round = 0; round < 6; round++) {
    for (const row of rows) settle(row, "above");
    for (const row of [...rows].reverse()) settle(row, "below");
  }
  for (const row of rows) settle(row, "above");
}

function settle(row, side) {
  const wish = row.map((place) => (place[side].length ? mean(place[side], "x") : place.x));
  // Packed from the left and from the right, and between the two: as near to the wish as the order allows.
  const left = [],
    right = [];
  row.forEach((place, i) => {
    left[i] = i === 0 ? wish[i] : Math.max(wish[i], left[i - 1] + apart(row[i - 1], place));
  });
  for (let i = row.length - 1; i >= 0; i--) {
    right[i] = i === row.length - 1 ? wish[i] : Math.min(wish[i], right[i + 1] - apart(row[i], row[i + 1]));
  }
  row.forEach((place, i) => {
    place.x = (left[i] + right[i]) / 2;
  });
}

function apart(a, b) {
  return (a.width + b.width) / 2 + BOX.gapX;
}

function widthOf(row) {
  return row.reduce((sum, place) => sum + place.width, 0) + BOX.gapX * (row.length - 1);
}

function mean(places, key) {
  return places.reduce((sum, place) => sum + place[key], 0) / places.length;
}

function measure(places, edges, rows) {
  const all = rows.flat();
  const margin = 12;
  const shift = margin - Math.min(...all.map((p) => p.x - p.width / 2));
  const top = (rank) => margin + rank * (BOX.height + BOX.gapY);
  const boxes = places.map((p) => ({ x: p.x + shift - BOX.width / 2, y: top(p.rank), rank: p.rank }));
  return {
    boxes,
    edges: edges.map(({ from, to, chain }) => ({
      from,
      to,
      points: chain.map((p) => [p.x + shift, top(p.rank)]),
    })),
    ranks: rows.map((row) => row.filter((p) => p.node !== null).map((p) => p.node)),
    width: Math.max(...all.map((p) => p.x + p.width / 2)) + shift + margin,
    height: top(rows.length - 1) + BOX.height + margin,
  };
}
