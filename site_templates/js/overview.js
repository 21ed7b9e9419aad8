// All features at once: the map, a table that sorts and filters, a search.

function shortName(adapter, feature) {
  const [layer, component] = [adapter.layerOf(feature), adapter.componentOf(feature)];
  return `${layer < 0 ? "model" : `L${layer}`} ${adapter.projectionOf(feature)}${component === null ? "" : ` c${component}`}`;
}

// The table's numbers: column of the data, heading, meaning, how it is written.
const TABLE_NUMBERS = [
  ["rms_effect", "effect", "effect size: root mean square of the norm of what the feature adds to its module's output", short],
  ["beyond", "density", "share of tokens with |activation| above 3 std", percent],
  ["kurtosis", "kurtosis", "excess kurtosis", short],
  ["token_omega_squared", "token", "share of the variance that the token alone explains", percent],
  ["position_omega_squared", "position", "share of the variance that the position alone explains", percent],
  ["std", "std", "standard deviation", short],
  ["min", "min", "lowest activation", short],
  ["max", "max", "highest activation", short],
];
const NOTE_FILTERS = {
  "": "with or without notes",
  noted: "with a note",
  open: "without a note",
  starred: "starred",
};

/** Return all features by a column of the table, what is not known last; kept until another order is asked for. */
function orderedFeatures(adapter, sort, order) {
  const name = `${sort} ${order}`;
  if (adapter.ordered?.name === name) return adapter.ordered.features;
  const values = adapter.columns[sort];
  const features = Array.from({ length: adapter.size }, (_, feature) => feature);
  const sign = order === "asc" ? 1 : -1;
  if (values && sort !== "feature") {
    const rank = values.map((value) => (Number.isNaN(value) ? Infinity : sign * value));
    features.sort((one, other) => (rank[one] === rank[other] ? one - other : rank[one] - rank[other]));
  } else if (sign < 0 && sort === "feature") features.reverse();
  adapter.ordered = { name, features };
  return features;
}

class Overview {
  constructor(page) {
    this.page = page;
    this.indices = new Map();
    page.notebook.listeners.push(() => this.noted());
    for (const [event, begins] of [["beforeprint", true], ["afterprint", false]]) addEventListener(event, () => this.page.view === this && this.table?.print(begins));
  }

  get shows() {
    return [];
  }

  beside() {
    return null;
  }

  index(adapter) {
    if (!this.indices.has(adapter)) this.indices.set(adapter, new SearchIndex(adapter));
    return this.indices.get(adapter);
  }

  async draw(address) {
    const { adapter } = this.page;
    this.adapter = adapter;
    this.ready = null; // the index, once it is made
    this.result = null;
    return { title: "Overview", content: () => this.content(address) };
  }

  content(address) {
    const among = (name, allowed, usual) => (allowed.includes(address.get(name)) ? address.get(name) : usual);
    this.choices = {
      colour: among("colour", Object.keys(MAP_COLOURS), "effect"),
      sort: among("sort", ["feature", ...TABLE_NUMBERS.map(([name]) => name)], "rms_effect"), order: among("order", ["asc"], "desc"),
      q: address.get("q") ?? "", where: among("where", Object.keys(PLACES), "everywhere"),
      layer: among("layer", this.adapter.layers.map(String), ""), projection: among("projection", this.adapter.projections, ""),
      notes: among("notes", Object.keys(NOTE_FILTERS), ""),
    };
    this.mapPlace = element("div", { class: "map-place" });
    this.tally = element("p", { class: "tally", role: "status" });
    this.table = new FeatureTable(this.columns(), (name) => this.sortBy(name));
    this.drawMap();
    return [
      element("section", { class: "card", "aria-label": "Map" }, element("h2", {}, "Map ", this.colourChoice()), this.mapPlace),
      element("section", { class: "card", "aria-label": "Features" }, element("h2", {}, "Features"), this.filters(), this.tally, this.table.element),
    ];
  }

  /** Called when the view is in the document. */
  shown() {
    this.update();
    const adapter = this.adapter;
    this.index(adapter).made.get().then((index) => {
      if (this.page.view !== this || this.adapter !== adapter) return;
      this.ready = index;
      this.update();
    }).catch((error) => { this.tally.textContent = `The search cannot work: ${error.message}`; });
  }

  colourChoice() {
    const select = element("select", { id: "colour", "aria-label": "Colour the map by", onchange: () => {
      this.choose({ colour: select.value });
      this.drawMap();
    } }, ...Object.entries(MAP_COLOURS).map(([value, { label }]) => element("option", { value, selected: value === this.choices.colour }, label)));
    return select;
  }

  drawMap() {
    this.mapPlace.replaceChildren(featureMap(this.adapter, this.choices.colour, this.page.notebook));
  }

  filters() {
    const { choices, adapter } = this;
    const picker = (name, label, options) => {
      const select = element("select", { "aria-label": label, id: `filter-${name}`, onchange: () => { this.choose({ [name]: select.value }); this.update(); } },
        ...options.map(([value, text]) => element("option", { value, selected: choices[name] === value }, ...visible(text))));
      return select;
    };
    this.input = element("input", { type: "search", id: "search", "aria-label": "Search features", placeholder: "Search top tokens, text, notes  ( / )", value: choices.q, spellcheck: "false", autocomplete: "off",
      oninput: () => { this.choose({ q: this.input.value }); this.update(); } });
    return element("div", { class: "filters", role: "search" }, this.input,
      picker("where", "Search in", [["everywhere", "everywhere"], ["tokens", "in top tokens"], ["text", "in the text around"], ["notes", "in notes"]]),
      picker("layer", "Layer", [["", "all layers"], ...adapter.layers.map((layer) => [String(layer), layerName(layer)])]),
      picker("projection", "Projection", [["", "all projections"], ...adapter.projections.map((name) => [name, name])]),
      picker("notes", "Notes", Object.entries(NOTE_FILTERS)));
  }

  /** Take choices over, and say them in the address: those that differ from what one gets without. */
  choose(choices) {
    Object.assign(this.choices, choices);
    const usual = { colour: "effect", sort: "rms_effect", order: "desc", where: "everywhere" };
    const said = Object.entries(this.choices).map(([name, value]) => [name, value === usual[name] ? null : value]);
    amendAddress({ view: "overview", ...Object.fromEntries(said) });
  }

  sortBy(name) {
    const { sort, order } = this.choices;
    this.choose({ sort: name, order: sort === name && order === "desc" ? "asc" : "desc" });
    this.update();
  }

  /** Fill the table with what passes the filters and the search, in order. */
  update() {
    const { adapter, choices } = this;
    const searching = choices.q !== "";
    this.result = searching && this.ready ? this.ready.find(choices.q, PLACES[choices.where], this.page.notebook.notes) : null;
    const rows = searching && !this.ready ? [] : orderedFeatures(adapter, choices.sort, choices.order).filter((feature) => this.passes(feature));
    this.table.element.scrollTop = 0;
    this.table.fill(rows, choices.sort, choices.order);
    this.tally.textContent = searching && !this.ready ? "Reading the texts…" : `${count(rows.length)} of ${count(adapter.size)} features`;
    if (!searching || this.ready) document.body.dataset.results = choices.q;
  }

  passes(feature) {
    const { adapter, choices, result } = this;
    if (result && !result.found[feature]) return false;
    if (choices.layer && adapter.layerOf(feature) !== Number(choices.layer)) return false;
    if (choices.projection && adapter.projectionOf(feature) !== choices.projection) return false;
    return this.passesNotes(feature);
  }

  passesNotes(feature) {
    const { notes } = this.choices;
    if (!notes) return true;
    const found = this.adapter.keys[feature].map((key) => this.page.notebook.notes.get(key)).filter(Boolean);
    if (notes === "starred") return found.some(({ starred }) => starred);
    return found.some(({ text }) => text.trim()) === (notes === "noted");
  }

  columns() {
    const { adapter } = this;
    const number = ([name, label, title, write]) => ({ name, label, title, sorts: true, kind: "number",
      cell: (feature) => [Number.isNaN(adapter.columns[name][feature]) ? "" : write(adapter.columns[name][feature])] });
    const tops = (side, label) => ({ name: `top-${side}`, label, title: `most frequent ${POLARITIES[side]} top tokens`, kind: "tops",
      cell: (feature) => (this.ready ? topTokens(this.ready.frequent(2 * feature + side).slice(0, 4)) : []) });
    return [
      { name: "feature", label: "feature", title: "layer, projection, component", sorts: true, kind: "feature",
        cell: (feature) => [element("a", { href: numberAddress(adapter, feature) }, ...visible(shortName(adapter, feature)))] },
      ...TABLE_NUMBERS.map(number), tops(0, "top tokens +"), tops(1, "top tokens −"),
      { name: "note", label: "match or note", title: "where the search found it, or what was written", kind: "note-cell", cell: (feature) => this.noteOrMatch(feature) },
    ];
  }

  noteOrMatch(feature) {
    const { result } = this;
    const notes = this.adapter.keys[feature].map((key) => this.page.notebook.notes.get(key)).filter((note) => note?.text.trim() || note?.starred);
    const written = notes.map(({ text, starred }) => `${starred ? "★ " : ""}${text}`).join(" · ");
    if (!result) return visible(written);
    if (result.found[feature] & (FOUND.tokens | FOUND.text)) return this.ready.snippet(feature, result);
    return withMatch([written], result.wanted);
  }

  /** Notes have changed: show them. */
  noted() {
    if (this.page.view !== this || !this.table) return;
    this.table.drawn = null;
    this.table.draw();
  }

  /** Go to the search from anywhere. */
  focusSearch() {
    if (this.page.view === this) { this.input.focus(); return; }
    this.page.visit(addressOf(this.page.adapter, { view: "overview" })).then(() => this.input.focus());
  }
}

/** Return the most frequent top tokens of a list as elements, how often in a title. */
function topTokens(frequent) {
  return frequent.map(([text, times]) => element("span", { class: "top", title: `${count(times)} times` }, ...visible(text.trim() === "" ? text : text.trim())));
}
