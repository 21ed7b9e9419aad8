// What stands above the panels: adapters, layers, the run's metadata, warnings, the legend, the choice of columns, the theme.

const ORIGINAL_PROJECTIONS = ["gate_proj", "up_proj", "down_proj"];

function layerName(index) {
  return index < 0 ? "Outside the layers" : `Layer ${index}`;
}

function fillTitle(title) {
  byId("title").replaceChildren(...visible(title));
  document.title = title;
}

/** Offer the adapters, where there are several. */
function fillAdapters(adapters, choose) {
  const select = byId("adapter");
  select.append(...adapters.map(({ label }, place) => element("option", { value: String(place) }, ...visible(label))));
  select.addEventListener("change", () => choose(adapters[Number(select.value)]));
  byId("adapters").hidden = adapters.length < 2;
}

/** Say what an adapter's results were made from, and what to know before trusting them. */
function fillAdapter({ metadata, warnings }) {
  byId("metadata").replaceChildren(...metadata.map(([label, text]) =>
    element("div", {}, element("dt", {}, ...visible(label)), element("dd", {}, ...visible(text)))));
  byId("warnings").replaceChildren(...warnings.map((text) => element("p", { class: "caution" }, ...visible(text))));
}

function fillLegend() {
  const steps = Array.from({ length: 2 * SHADES + 1 }, (_, step) => (step - SHADES) / SHADES);
  const swatches = steps.map((value) => {
    const percent = `${value > 0 ? "+" : ""}${Math.round(100 * value)}`.replace("-", "−");
    return element("li", { class: shade(value, 1), title: `${percent} %` });
  });
  const ticks = ["−100 %", "−50 %", "0", "+50 %", "+100 %"].map((text) => element("span", {}, text));
  byId("legend").append(
    element("div", {}, element("ol", { class: "scale", "aria-label": "Colour scale" }, ...swatches), element("div", { class: "ticks" }, ...ticks)),
    element("p", {}, "Colour: share of the feature’s own largest |activation|; ", element("span", { class: "token target" }, "framed"),
      ": the ranked token. Hover, tap or focus a token for its exact value. ← → change the layer."));
}

/** Return every projection's name, in the order of the layers, gate, up and down among themselves as in the original. */
function projectionNames(data, adapter) {
  const names = [...new Set(adapter.layers.flatMap((layer) => layer.projections.map(({ name }) => data.strings[name])))];
  const known = ORIGINAL_PROJECTIONS.filter((name) => names.includes(name));
  return names.map((name) => (known.includes(name) ? ORIGINAL_PROJECTIONS.filter((each) => known.includes(each))[known.filter((each) => names.indexOf(each) < names.indexOf(name)).length] : name));
}

function fillColumns(names, chosen, changed) {
  const box = (name) => {
    const input = element("input", { type: "checkbox", checked: chosen.has(name), onchange: () => {
      if (input.checked) chosen.add(name);
      else chosen.delete(name);
      keep("loradash:columns", [...chosen]);
      changed();
    } });
    return element("label", {}, input, element("span", {}, ...visible(name)));
  };
  byId("columns").replaceChildren(element("legend", {}, "Projections"), ...names.map(box));
}

/** Return the names to show at first: what was chosen last, else the MLP's three, else the first three. */
function chosenColumns(names) {
  const last = (recall("loradash:columns") ?? []).filter((name) => names.includes(name));
  if (last.length) return new Set(last);
  const mlp = ORIGINAL_PROJECTIONS.filter((name) => names.includes(name));
  return new Set(mlp.length ? mlp : names.slice(0, 3));
}

function installTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const use = (theme) => { if (theme === "light" || theme === "dark") root.dataset.theme = theme; };
  use(recall("loradash:theme"));
  byId("theme").addEventListener("click", () => {
    use((root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark");
    keep("loradash:theme", root.dataset.theme);
  });
}

/** Say in one place how all notes fare, worst news first. */
function showSaving(notebook) {
  const { conflict = 0, refused = 0, retrying = 0, waiting = 0, saving = 0, kept = 0, saved = 0 } = notebook.tally();
  const news = [[conflict, "conflict"], [refused, "refused"], [retrying, "retrying"], [waiting + saving, "saving"], [kept, "kept"], [saved, "saved"]];
  const [number, state] = news.find(([number]) => number > 0) ?? [0, "idle"];
  byId("saving").className = `state ${state}`;
  byId("saving").textContent = number ? `${number} ${number === 1 ? "note" : "notes"}: ${NOTE_STATES[state]}` : "";
}
