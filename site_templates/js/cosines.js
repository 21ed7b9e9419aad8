// How much the directions of the features in view look alike.

const COSINES_MEANING = "Cosine of the directions in the MLP's hidden space: what gate and up write, what down reads.";

/** Return the name that a feature's direction has in the layer's cosines. */
function directionName({ projection, component }) {
  return component === null ? projection : `${projection}_c${component}`;
}

/** Return the cosines of these directions: first -> second -> cosine. */
function cosinesAmong({ directions, first, second, cosine, one }, names) {
  const wanted = directions.map((name) => names.includes(name));
  const values = new Map(names.map((name) => [name, new Map()]));
  for (let pair = 0; pair < cosine.length; pair += 1) {
    if (wanted[first[pair]] && wanted[second[pair]]) values.get(directions[first[pair]]).set(directions[second[pair]], cosine[pair] / one);
  }
  return values;
}

function cosineRow(name, columns, values) {
  const cells = columns.map((column) => {
    const value = values.get(name).get(column);
    return value === undefined ? element("td", {}) : element("td", { class: shade(value, 1) }, value.toFixed(3).replace("-", "−"));
  });
  return element("tr", {}, element("th", { scope: "row" }, ...visible(name)), ...cells);
}

/** Return nodes for the cosines of a layer among some of its features: none if it has none. */
function cosineTable(cosines, features) {
  const names = features.map(directionName).filter((name) => cosines.directions.includes(name));
  if (names.length === 0) return [];
  const values = cosinesAmong(cosines, names);
  const heads = names.map((column) => element("th", { scope: "col" }, ...visible(column)));
  const table = element("table", {},
    element("caption", {}, COSINES_MEANING),
    element("thead", {}, element("tr", {}, element("td", {}), ...heads)),
    element("tbody", {}, ...names.map((name) => cosineRow(name, names, values))));
  const summary = element("summary", {}, "Cosine similarities");
  return [element("details", { open: true }, summary, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Cosine similarities" }, table))];
}
