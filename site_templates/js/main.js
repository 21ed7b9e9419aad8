// Puts the page together. Only the layer in view is in the document.

class Dashboard {
  constructor(data, notebook) {
    Object.assign(this, { data, notebook, place: 0, components: new Map() });
    this.names = projectionNames(data);
    this.chosen = chosenColumns(this.names);
  }

  draw() {
    const layer = readLayer(this.data, this.data.layers[this.place]);
    const byName = new Map(layer.projections.map((projection) => [projection.name, projection]));
    const shown = this.names.filter((name) => this.chosen.has(name) && byName.has(name));
    this.notebook.unwatchAll();
    hideTooltip();
    const columns = shown.map((name) => column(this.data, this.notebook, byName.get(name), this.components.get(name) ?? 0,
      (place) => { this.components.set(name, place); this.draw(); }));
    const nothing = element("p", { class: "quiet" }, "None of the chosen projections is adapted in this layer. Choose others above.");
    byId("view").replaceChildren(...(columns.length ? columns : [nothing]));
    byId("cosines").replaceChildren(...cosineTable(layer.cosines));
    byId("layer").value = String(this.place);
    byId("previous").disabled = this.place === 0;
    byId("next").disabled = this.place === this.data.layers.length - 1;
  }

  /** Go to the layer at `place` in the list, and say so in the address. */
  go(place) {
    if (place < 0 || place >= this.data.layers.length || place === this.place) return;
    location.hash = `layer=${this.data.layers[place].index}`;
  }

  /** Show the layer that the address names, the first one if it names none. */
  follow() {
    const wanted = Number(new URLSearchParams(location.hash.slice(1)).get("layer") ?? NaN);
    const place = this.data.layers.findIndex(({ index }) => index === wanted);
    this.place = Math.max(place, 0);
    this.draw();
  }

  install() {
    const select = byId("layer");
    select.append(...this.data.layers.map(({ index }, place) => element("option", { value: String(place) }, layerName(index))));
    select.addEventListener("change", () => this.go(Number(select.value)));
    byId("previous").addEventListener("click", () => this.go(this.place - 1));
    byId("next").addEventListener("click", () => this.go(this.place + 1));
    addEventListener("hashchange", () => this.follow());
    addEventListener("keydown", (event) => this.key(event));
    fillColumns(this.names, this.chosen, () => this.draw());
  }

  key(event) {
    const busy = event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
    if (busy || event.target.closest?.("textarea, input, select")) return;
    if (event.key === "ArrowLeft") this.go(this.place - 1);
    else if (event.key === "ArrowRight") this.go(this.place + 1);
  }
}

function installExport(notebook, entries) {
  const button = byId("export");
  button.hidden = !(notebook.keeper instanceof LocalKeeper);
  button.addEventListener("click", () => download("interpretations.json", exportedNotes(notebook, entries)));
}

async function main() {
  installTheme();
  const data = await readPayload();
  fillMetadata(data);
  fillLegend();
  if (data.layers.length === 0) {
    byId("view").replaceChildren(element("p", { class: "quiet" }, "There are no layers in this data."));
    return;
  }
  const notebook = new Notebook(data.notes);
  notebook.onchange = showSaving;
  await chooseKeeper(notebook, data.title);
  const dashboard = new Dashboard(data, notebook);
  installTooltip(byId("view"));
  dashboard.install();
  dashboard.follow();
  showSaving(notebook);
  installExport(notebook, data.notes);
  document.body.dataset.ready = "yes";
}

main().catch((error) => {
  byId("view").replaceChildren(element("p", { class: "caution" }, `This page cannot be shown: ${error.message}`));
});
