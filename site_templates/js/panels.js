// One column per projection: its numbers, its positive panel, its negative panel.

const POLARITY_NAMES = { positive: "Positive", negative: "Negative" };

function emptyText(feature, polarity) {
  const { min, max } = feature.statistics;
  if (polarity === "negative" && min >= 0) return "No negative activations: this feature is never below zero.";
  if (polarity === "positive" && max <= 0) return "No positive activations: this feature is never above zero.";
  return `No ${polarity} examples were kept.`;
}

function examplesList(data, feature, polarity, label) {
  const examples = examplesOf(data, feature, polarity);
  if (examples.length === 0) return element("p", { class: "quiet" }, emptyText(feature, polarity));
  const list = element("ol", { "aria-label": `${label}: examples, strongest first` });
  list.append(...examples.map((example) => exampleItem(feature, example)));
  list.querySelector(".target").tabIndex = 0;
  return list;
}

function panel(data, notebook, feature, polarity, title) {
  const label = `${title}, ${polarity}`;
  const key = feature.keys[POLARITIES.indexOf(polarity)];
  const listed = feature.filtered ?? feature.statistics;
  const extreme = polarity === "positive" ? listed.max : listed.min;
  const reached = element("small", {}, polarity === "positive" ? `up to ${short(extreme)}` : `down to ${short(extreme)}`);
  const heading = element("h3", {}, POLARITY_NAMES[polarity], feature.examples[POLARITIES.indexOf(polarity)].length.length ? reached : "");
  return element("section", { class: `panel ${polarity}`, "aria-label": label, "data-key": key },
    heading, noteView(notebook, key, label), examplesList(data, feature, polarity, label));
}

function componentChooser(projection, feature, choose) {
  if (feature.component === null) return [];
  const options = projection.features.map(({ component }, place) =>
    element("option", { value: String(place), selected: component === feature.component }, String(component)));
  const select = element("select", { "aria-label": `Component of ${projection.name}`, onchange: () => choose(Number(select.value)) }, ...options);
  return [element("label", { class: "component" }, "component ", select)];
}

/** Return the column of `projection` showing its feature number `place`. */
function column(data, notebook, projection, place, choose) {
  const feature = projection.features[Math.min(place, projection.features.length - 1)];
  const title = `${layerName(feature.layer)}, ${projection.name}${feature.component === null ? "" : `, component ${feature.component}`}`;
  const heading = element("h2", {}, element("span", {}, ...visible(projection.name)), ...componentChooser(projection, feature, choose));
  return element("article", { class: "column", "aria-label": title },
    element("div", { class: "head" }, heading, statisticsBlock(feature)),
    panel(data, notebook, feature, "positive", title),
    panel(data, notebook, feature, "negative", title),
    ...samplesPanel(data, feature, title));
}
