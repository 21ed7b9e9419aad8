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

const ITEM = 58; // pixels that an example is high, about
const HEAD = 400; // pixels above the first one, at least

/** Return how many examples of a list may be in sight as a page opens, where so many others are above them. */
function inSight(above) {
  return Math.max(Math.ceil((innerHeight - HEAD) / ITEM) - above, 0);
}

/** Return a list of examples, of which one token is a tab stop. What is not in sight follows when the rest is painted. */
function itemList(feature, examples, label, above = 0) {
  const all = examples.all();
  const items = all.map(exampleItem);
  const fill = (from, to) => {
    for (let place = from; place < to; place += 1) fillItem(items[place], feature, all[place]);
    if (from === 0 && to > 0) items[0].querySelector(".target").tabIndex = 0;
  };
  const first = Math.min(inSight(above), all.length);
  for (const item of items.slice(0, first)) item.className = "at-once";
  fill(0, first);
  if (first < all.length) later.push(() => fill(first, all.length));
  return element("ol", { "aria-label": label }, ...items);
}

const SOON = 100; // milliseconds after what is in sight was painted: until then the reader may have gone on
const later = []; // what is to be done once the page is painted
let waiting = null; // the timer that does it

/** Do all that was put off; `now` before the page is painted, where what is put off may be in sight. */
function finish(now) {
  if (!now && later.length) {
    byId("view").ariaBusy = "true";
    requestAnimationFrame(() => { clearTimeout(waiting); waiting = setTimeout(finish, SOON, true); });
    return;
  }
  const all = [...later];
  forget();
  all.forEach((each) => each());
}

function forget() {
  clearTimeout(waiting);
  later.length = 0;
  byId("view").ariaBusy = null;
}

function examplesList(feature, polarity, label, above) {
  const examples = feature.examples[POLARITIES.indexOf(polarity)];
  if (examples.length === 0) return element("p", { class: "quiet" }, emptyText(feature, polarity));
  return itemList(feature, examples, `${label}: examples, strongest first`, above);
}

/** Return the panel of a feature's polarity, `above` which there are so many examples. */
function panel(notebook, feature, polarity, above = 0) {
  const label = `${featureName(feature)}, ${polarity}`;
  const side = POLARITIES.indexOf(polarity);
  const key = feature.keys[side];
  const listed = feature.filtered ?? feature.statistics;
  const extreme = polarity === "positive" ? listed.max : listed.min;
  const reached = element("small", {}, polarity === "positive" ? `up to ${short(extreme)}` : `down to ${short(extreme)}`);
  const heading = element("h3", {}, POLARITY_NAMES[polarity], feature.examples[side].length ? reached : "");
  return element("section", { class: `panel ${polarity}`, "aria-label": label, "data-key": key },
    heading, noteView(notebook, key, label, () => examplesSeen(feature, side)), examplesList(feature, polarity, label, above));
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
    ...POLARITIES.map((polarity, side) => panel(notebook, feature, polarity, side && feature.examples[0].length)),
    ...samplesPanel(feature, title));
}
