// A layer: its projections side by side, positive above negative.

const ORIGINAL_PROJECTIONS = ["gate_proj", "up_proj", "down_proj"];

class LayerView {
  constructor(page) {
    this.page = page;
  }

  /** Return the parts of the page above it that this view shows. */
  get shows() {
    return ["layer-choice", "legend", "columns"];
  }

  /** Take another adapter's projections: gate, up and down among themselves as in the original. */
  use(adapter) {
    if (adapter === this.adapter) return;
    this.adapter = adapter;
    const known = ORIGINAL_PROJECTIONS.filter((name) => adapter.projections.includes(name));
    let next = 0;
    this.names = adapter.projections.map((name) => (known.includes(name) ? known[next++] : name));
  }

  /** Return the projections to show: those of the address, those chosen last, the MLP's three, or the first three. */
  chosen(address) {
    const among = (names) => (names ?? []).filter((name) => this.names.includes(name));
    const choices = [among(address.getAll("show")), among(recall("loradash:columns")), among(ORIGINAL_PROJECTIONS), this.names.slice(0, 3)];
    return new Set(choices.find((names) => names.length) ?? []);
  }

  async draw(address) {
    const { adapter } = this.page;
    this.use(adapter);
    if (adapter.layers.length === 0) {
      fillColumns([], new Set());
      return { content: () => [quiet("There are no layers in this data.")] };
    }
    this.place = Math.max(adapter.layers.indexOf(numberIn(address, "layer")), 0);
    const layer = await adapter.layer(this.place);
    return { title: layerName(layer.index), content: () => this.content(layer, address) };
  }

  content(layer, address) {
    const chosen = this.chosen(address);
    fillColumns(this.names, chosen, () => this.choose(chosen, layer));
    const shown = this.names.filter((name) => chosen.has(name)).map((name) => layer.features.filter(({ projection }) => projection === name));
    const choices = shown.filter((components) => components.length).map((components) => [this.featureAmong(components, address), components]);
    const columns = choices.map(([feature, components]) => column(this.page.notebook, feature, components,
      ({ component }) => this.amend({ [`component.${feature.projection}`]: component }, layer)));
    byId("cosines").replaceChildren(...cosineTable(layer.cosines, choices.map(([feature]) => feature)));
    this.ready(this.place + 1);
    return columns.length ? columns : [quiet("None of the chosen projections is adapted in this layer. Choose others above.")];
  }

  /** Return the feature to show of a module: that of the component in the address, or the first. */
  featureAmong(components, address) {
    const wanted = numberIn(address, `component.${components[0].projection}`);
    return components.find(({ component }) => component === wanted) ?? components[0];
  }

  choose(chosen, layer) {
    keep("loradash:columns", [...chosen]);
    const address = readAddress();
    address.delete("show");
    for (const name of chosen) address.append("show", name);
    replaceAddress(address);
    this.page.show(() => this.content(layer, address));
  }

  /** Change the address and what is shown in place; what was in focus stays so. */
  amend(parts, layer) {
    amendAddress(parts);
    const label = document.activeElement.ariaLabel;
    this.page.show(() => this.content(layer, readAddress()));
    if (label) byId("view").querySelector(`[aria-label="${CSS.escape(label)}"]`)?.focus({ preventScroll: true });
  }

  /** Open the next layer's data before it is asked for. */
  ready(place) {
    const open = () => { if (this.page.view === this && place < this.adapter.layers.length) this.adapter.layer(place).catch(() => {}); };
    setTimeout(open, 50);
  }

  /** Return the address of the layer that lies `steps` away, null if there is none. */
  beside(steps) {
    const place = this.place + steps;
    const { adapter } = this.page;
    return place in adapter.layers ? this.addressAt(place) : null;
  }

  /** Return the address of the layer at `place`, with the choices that hold for every layer. */
  addressAt(place) {
    const address = readAddress();
    const kept = [...address].filter(([name]) => name === "show" || name.startsWith("component."));
    return addressOf(this.page.adapter, { layer: this.page.adapter.layers[place] }, kept);
  }
}
