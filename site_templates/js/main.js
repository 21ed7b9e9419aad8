// Puts the page together. Only the layer in view is in the document.

class Dashboard {
  constructor(data, notebook) {
    Object.assign(this, { data, notebook, adapter: null, place: 0, components: new Map() });
  }

  /** Show another adapter: its header, its layers, its projections. */
  use(adapter) {
    if (adapter === this.adapter) return;
    this.adapter = adapter;
    this.names = projectionNames(this.data, adapter);
    this.chosen = chosenColumns(this.names);
    fillAdapter(adapter);
    fillColumns(this.names, this.chosen, () => this.draw());
    byId("layer").replaceChildren(
      ...adapter.layers.map(({ index }, place) => element("option", { value: String(place) }, layerName(index))));
  }

  draw() {
    if (this.adapter.layers.length === 0) {
      byId("view").replaceChildren(element("p", { class: "quiet" }, "There are no layers in this data."));
      return;
    }
    const layer = readLayer(this.data, this.adapter.layers[this.place]);
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
    byId("next").disabled = this.place === this.adapter.layers.length - 1;
  }

  /** Go to the layer at `place` in the list, and say so in the address. */
  go(place) {
    if (place < 0 || place >= this.adapter.layers.length || place === this.place) return;
    this.visit(this.adapter, this.adapter.layers[place].index);
  }

  visit(adapter, layer) {
    const place = new URLSearchParams({ ...(adapter.name === null ? {} : { adapter: adapter.name }), layer });
    location.hash = String(place);
  }

  /** Show the adapter and the layer that the address names, the first ones if it names none. */
  follow() {
    const address = new URLSearchParams(location.hash.slice(1));
    const { adapters } = this.data;
    this.use(adapters.find(({ name }) => name === address.get("adapter")) ?? adapters[0]);
    const wanted = Number(address.get("layer") ?? NaN);
    this.place = Math.max(this.adapter.layers.findIndex(({ index }) => index === wanted), 0);
    byId("adapter").value = String(adapters.indexOf(this.adapter));
    this.draw();
  }

  install() {
    const select = byId("layer");
    select.addEventListener("change", () => this.go(Number(select.value)));
    fillAdapters(this.data.adapters, (adapter) => this.visit(adapter, this.adapter.layers[this.place]?.index ?? 0));
    byId("previous").addEventListener("click", () => this.go(this.place - 1));
    byId("next").addEventListener("click", () => this.go(this.place + 1));
    addEventListener("hashchange", () => this.follow());
    addEventListener("keydown", (event) => this.key(event));
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
  fillTitle(data.title);
  fillLegend();
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
