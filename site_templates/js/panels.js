// One column per projection: its numbers, its positive panel, its negative panel.

const POLARITY_NAMES = { positive: "Positive", negative: "Negative" };

function layerName(index) {
  return index < 0 ? "Outside the layers" : `Layer ${index}`;
}

function featureName({ layer, projection, component }) {
  return `${layerName(layer)}, ${projection}${component === null ? "" : `, component ${component}`}`;
}

function emptyText(feature, polarity) {
  const { min, max } = feature.statistics;
  if (polarity === "negative" && min >= 0) return "No negative activations: this feature is never below zero.";
  if (polarity === "positive" && max <= 0) return "No positive activations: this feature is never above zero.";
  return `No ${polarity} examples were kept.`;
}

const AT_ONCE = 8; // examples of a list that are in sight at first; the others follow when these are painted

/** Return a list of examples, of which one token is a tab stop. */
function itemList(feature, examples, label) {
  const all = examples.all();
  const items = all.map(exampleItem);
  const fill = (from, to) => { for (let place = from; place < to; place += 1) fillItem(items[place], feature, all[place]); };
  fill(0, Math.min(AT_ONCE, all.length));
  if (all.length > AT_ONCE) later.push(() => fill(AT_ONCE, all.length));
  const list = element("ol", { "aria-label": label }, ...items);
  list.querySelector(".target").tabIndex = 0;
  return list;
}

const later = []; // what is to be done once the page is painted

/** Do all that was put off; `now` before the page is painted, where what is put off may be in sight. */
function finish(now) {
  const run = (all) => all.forEach((each) => each());
  if (now) run(later.splice(0));
  else requestAnimationFrame(() => setTimeout(() => run(later.splice(0))));
}

function examplesList(feature, polarity, label) {
  const examples = feature.examples[POLARITIES.indexOf(polarity)];
  if (examples.length === 0) return element("p", { class: "quiet" }, emptyText(feature, polarity));
  return itemList(feature, examples, `${label}: examples, strongest first`);
}

function panel(notebook, feature, polarity) {
  const label = `${featureName(feature)}, ${polarity}`;
  const side = POLARITIES.indexOf(polarity);
  const key = feature.keys[side];
  const listed = feature.filtered ?? feature.statistics;
  const extreme = polarity === "positive" ? listed.max : listed.min;
  const reached = element("small", {}, polarity === "positive" ? `up to ${short(extreme)}` : `down to ${short(extreme)}`);
  const heading = element("h3", {}, POLARITY_NAMES[polarity], feature.examples[side].length ? reached : "");
  return element("section", { class: `panel ${polarity}`, "aria-label": label, "data-key": key },
    heading, noteView(notebook, key, label, () => examplesSeen(feature, side)), examplesList(feature, polarity, label));
}

function componentChooser(components, feature, choose) {
  if (feature.component === null) return [];
  const options = components.map(({ component }, place) =>
    element("option", { value: String(place), selected: component === feature.component }, String(component)));
  const select = element("select", { "aria-label": `Component of ${feature.projection}`, onchange: () => choose(components[Number(select.value)]) }, ...options);
  return [element("label", { class: "component" }, "component ", select)];
}

/** Return the column of a feature; `components` are all of its module, `choose` is called with another one. */
function column(notebook, feature, components, choose) {
  const title = featureName(feature);
  const name = element("a", { href: featureAddress(feature), title: "All about this feature" }, ...visible(feature.projection));
  const heading = element("h2", {}, name, ...componentChooser(components, feature, choose));
  return element("article", { class: "column", "aria-label": title },
    element("div", { class: "head" }, heading, scaleLegend(feature), statisticsBlock(feature)),
    ...POLARITIES.map((polarity) => panel(notebook, feature, polarity)),
    ...samplesPanel(feature, title));
}
