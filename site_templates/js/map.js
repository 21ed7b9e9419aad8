// The whole adapter in one picture: layers by projections, in eight steps of one colour.

const STEPS = 8;

// What the map can show: its name, what it means, a feature's value, and the steps' bounds if they are not quantiles.
const MAP_COLOURS = {
  effect: { label: "effect size", meaning: "root mean square of the norm of what the feature adds to its module's output", value: ({ columns }, feature) => columns.rms_effect[feature], write: short },
  density: { label: "density", meaning: "share of tokens with |activation| above 3 std", value: ({ columns }, feature) => columns.beyond[feature], write: percent },
  kurtosis: { label: "kurtosis", meaning: "excess kurtosis of the activations", value: ({ columns }, feature) => columns.kurtosis[feature], write: short },
  token: { label: "token explains", meaning: "share of the variance that the token alone explains", value: ({ columns }, feature) => columns.token_omega_squared[feature], write: percent },
  notes: { label: "interpreted", meaning: "share of the panels that have a note", write: percent, bounds: Array.from({ length: STEPS + 1 }, (_, step) => step / STEPS),
    value: ({ keys }, feature, notebook) => keys[feature].filter((key) => notebook.notes.get(key)?.text.trim()).length / 2 },
};

/** Return the value of each cell, by layer's place and projection: the features' mean for notes, else their maximum. */
function mapCells(adapter, colour, notebook) {
  const cells = adapter.layers.map(() => new Array(adapter.projections.length).fill(null));
  const { layer, projection } = adapter.columns;
  for (let feature = 0; feature < adapter.size; feature += 1) {
    const value = MAP_COLOURS[colour].value(adapter, feature, notebook);
    const cell = (cells[layer[feature]][projection[feature]] ??= { most: NaN, sum: 0, features: 0 });
    if (!(value <= cell.most)) cell.most = Number.isNaN(value) ? cell.most : value;
    cell.sum += value;
    cell.features += 1;
  }
  return cells.map((row) => row.map((cell) => cell && (colour === "notes" ? cell.sum / cell.features : cell.most)));
}

function stepBounds(colour, values) {
  if (MAP_COLOURS[colour].bounds) return MAP_COLOURS[colour].bounds;
  return Array.from({ length: STEPS + 1 }, (_, step) => quantileOf(values, step / STEPS));
}

/** Return the step of a value, 1 to STEPS, 0 for one that is not known. */
function stepOf(value, bounds) {
  if (value === null || Number.isNaN(value)) return 0;
  let step = STEPS;
  while (step > 1 && value < bounds[step - 1]) step -= 1;
  return step;
}

/** Return the map; a cell leads to its layer, or to its feature where the module has one. */
function featureMap(adapter, colour, notebook) {
  const cells = mapCells(adapter, colour, notebook);
  const bounds = stepBounds(colour, Float64Array.from(cells.flat().filter((value) => value !== null)));
  const { write, label } = MAP_COLOURS[colour];
  const cell = (name, projection) => (place) => {
    const value = cells[place][projection];
    if (value === null) return element("td", {});
    const text = `${layerName(adapter.layers[place])}, ${name}: ${label} ${Number.isNaN(value) ? "not known" : write(value)}`;
    return element("td", {}, element("a", { href: layerAddress(adapter, adapter.layers[place]), class: `m${stepOf(value, bounds)}`, "aria-label": text, title: text, tabindex: "-1" }));
  };
  const places = adapter.layers.map((_, place) => place);
  const heads = places.map((place) => element("th", { scope: "col" }, element("span", {}, adapter.layers[place] < 0 ? "–" : String(adapter.layers[place]))));
  const rows = adapter.projections.map((name, projection) =>
    element("tr", {}, element("th", { scope: "row" }, ...visible(name)), ...places.map(cell(name, projection))));
  const table = element("table", { class: "map" }, element("caption", { class: "unseen" }, `Layers by projections, coloured by ${label}`),
    element("thead", {}, element("tr", {}, element("td", {}, "layer"), ...heads)), element("tbody", {}, ...rows));
  installMapKeys(table);
  return element("div", {}, element("div", { class: "scroll" }, table), mapLegend(bounds, write, MAP_COLOURS[colour].meaning));
}

function mapLegend(bounds, write, meaning) {
  const known = bounds.every((bound) => !Number.isNaN(bound));
  const steps = Array.from({ length: STEPS }, (_, step) =>
    element("li", {}, element("span", { class: `m${step + 1}` }), known ? write(bounds[step]) : ""));
  return element("div", { class: "map-legend" }, element("ol", { "aria-label": "Lower bounds of the colours" }, ...steps),
    element("p", {}, meaning, known && bounds[STEPS] !== 1 ? `; up to ${write(bounds[STEPS])}` : "", ". A module of several components shows its highest."));
}

/** Return the link that lies nearest to `cell` in a direction, those straight ahead before others; a map may have gaps. */
function nearestCell(table, cell, down, right) {
  const [row, column] = [cell.parentElement.rowIndex, cell.cellIndex];
  const far = (link) => {
    const { parentElement: { parentElement: { rowIndex }, cellIndex } } = link;
    const ahead = (rowIndex - row) * down + (cellIndex - column) * right;
    const aside = Math.abs((rowIndex - row) * right) + Math.abs((cellIndex - column) * down);
    return ahead > 0 ? ahead + 1000 * aside : Infinity;
  };
  const links = [...table.querySelectorAll("a")].map((link) => [far(link), link]).filter(([distance]) => distance < Infinity);
  return links.sort(([one], [other]) => one - other)[0]?.[1];
}

/** One cell is a tab stop; arrow keys go from cell to cell. */
function installMapKeys(table) {
  const first = table.querySelector("a");
  if (first) first.tabIndex = 0;
  table.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td");
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!cell || !(down || right)) return;
    event.preventDefault();
    nearestCell(table, cell, down, right)?.focus();
  });
  table.addEventListener("focusin", (event) => {
    for (const stop of table.querySelectorAll("a[tabindex='0']")) stop.tabIndex = -1;
    event.target.tabIndex = 0;
  });
}
