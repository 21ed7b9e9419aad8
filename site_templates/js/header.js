// What stands above the views: adapters, views, layers, the run's metadata, warnings, the choice of columns, the theme.

function quiet(text) {
  return element("p", { class: "quiet" }, text);
}

function fillTitle(title) {
  byId("title").replaceChildren(...visible(title));
}

/** Unfold what stands above the views where there is room: a phone's first screen is for the examples. */
function unfold() {
  for (const id of ["about", "legend"]) byId(id).open = matchMedia("(min-width: 781px)").matches;
}

/** Offer the adapters, where there are several. */
function fillAdapters(adapters, choose) {
  const select = byId("adapter");
  select.append(...adapters.map(({ label }, place) => element("option", { value: String(place) }, ...visible(label))));
  select.addEventListener("change", () => choose(adapters[Number(select.value)]));
}

/** Say what an adapter's results were made from, and what to know before trusting them; offer its layers. */
function fillAdapter(adapter) {
  const { metadata, warnings, layers } = adapter;
  byId("metadata").replaceChildren(...metadata.map(([label, text]) =>
    element("div", {}, element("dt", {}, ...visible(label)), element("dd", {}, ...visible(text)))));
  byId("warnings").replaceChildren(...warnings.map((text) => element("p", { class: "caution" }, ...visible(text))));
  byId("layer").replaceChildren(...layers.map((index, place) => element("option", { value: String(place) }, layerName(index))));
  byId("to-overview").href = addressOf(adapter, { view: "overview" });
  byId("to-layers").href = layers.length ? layerAddress(adapter, layers[0]) : "#";
  byId("to-queue").href = addressOf(adapter, { view: "queue" });
}

function fillColumns(names, chosen, changed) {
  const box = (name) => {
    const input = element("input", { type: "checkbox", checked: chosen.has(name), onchange: () => {
      if (input.checked) chosen.add(name);
      else chosen.delete(name);
      changed();
      byId("columns").querySelectorAll("input")[names.indexOf(name)].focus();
    } });
    return element("label", {}, input, element("span", {}, ...visible(name)));
  };
  byId("columns").replaceChildren(element("legend", {}, "Projections"), ...names.map(box));
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

/** Let the reader give a name, which is sent with what is written. */
function installPerson(notebook) {
  const field = byId("person");
  field.value = person.name;
  field.addEventListener("change", () => {
    person.rename(field.value);
    field.value = person.name;
    notebook.redraw();
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
