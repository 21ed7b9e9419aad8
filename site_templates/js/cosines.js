// How much the layer's directions in the MLP's hidden space look alike.

const COSINES_MEANING = "Cosine of the directions in the MLP's hidden space: what gate and up write, what down reads.";

function cosineRow(name, columns, values) {
  const cells = columns.map((column) => {
    const value = values.get(name)?.get(column);
    if (value === undefined) return element("td", {});
    return element("td", { class: shade(value, 1), title: String(value) }, value.toFixed(3));
  });
  return element("tr", {}, element("th", { scope: "row" }, ...visible(name)), ...cells);
}

/** Return nodes for the cosines [first, second, cosine] of a layer: none if it has none. */
function cosineTable(cosines) {
  if (cosines.length === 0) return [];
  const values = new Map();
  for (const [first, second, cosine] of cosines) {
    if (!values.has(first)) values.set(first, new Map());
    values.get(first).set(second, cosine);
  }
  const columns = [...new Set(cosines.map(([, second]) => second))];
  const heads = columns.map((column) => element("th", { scope: "col" }, ...visible(column)));
  const table = element("table", {},
    element("caption", {}, COSINES_MEANING),
    element("thead", {}, element("tr", {}, element("td", {}), ...heads)),
    element("tbody", {}, ...[...values.keys()].map((name) => cosineRow(name, columns, values))));
  const summary = element("summary", {}, "Cosine similarities");
  return [element("details", { open: true }, summary, element("div", { class: "scroll" }, table))];
}
