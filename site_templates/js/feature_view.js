// All there is about one feature.

const NEIGHBOUR_KINDS = {
  read: ["Read alike", "cosine of the directions that they read"],
  write: ["Write alike", "cosine of the directions that they write"],
  coactivation: ["Fire together", "correlation of their activations"],
};

const TOPS_SHOWN = 12; // most frequent top tokens of a list

class FeatureView {
  constructor(page) {
    this.page = page;
  }

  get shows() {
    return ["layer-choice", "legend"];
  }

  /** Return the address of the feature that lies `steps` away, null if there is none. */
  beside(steps) {
    const number = this.number + steps;
    return number >= 0 && number < this.adapter.size ? numberAddress(this.adapter, number) : null;
  }

  async draw(address) {
    const { adapter } = this.page;
    this.adapter = adapter;
    this.number = adapter.find(numberIn(address, "layer"), address.get("projection"), numberIn(address, "component"));
    if (this.number < 0) return { content: () => [quiet("This adapter has no such feature. The overview shows those that it has.")] };
    this.place = adapter.columns.layer[this.number];
    const [layer, neighbours] = await Promise.all([adapter.layer(this.place), adapter.neighbours.get()]);
    const feature = layer.features.find(({ number }) => number === this.number);
    return { title: featureName(feature), content: () => this.content(feature, neighbours) };
  }

  content(feature, neighbours) {
    const { notebook } = this.page;
    const title = featureName(feature);
    return [
      element("section", { class: "card about-feature", "aria-label": title },
        element("h2", {}, element("span", {}, element("a", { href: layerAddress(feature.adapter, feature.layer) }, layerName(feature.layer)), " ", ...visible(feature.projection), feature.component === null ? "" : ` component ${feature.component}`)),
        scaleLegend(feature), fullStatistics(feature)),
      element("div", { class: "sides" }, ...POLARITIES.map((polarity, side) => this.side(notebook, feature, polarity, side))),
      ...this.samples(feature, title),
      ...this.alike(feature, neighbours),
    ];
  }

  side(notebook, feature, polarity, side) {
    const drawn = panel(notebook, feature, polarity);
    const { texts } = feature.adapter;
    const tops = feature.examples[side].all().map(({ segment, start, target }) => texts.text(segment, start + target));
    const frequent = mostFrequent(tops).slice(0, TOPS_SHOWN);
    const list = element("ul", { class: "frequent", "aria-label": `Most frequent ${polarity} top tokens` },
      ...frequent.map(([text, times]) => element("li", {}, element("span", { class: "top" }, ...visible(text)), ` ×${times}`)));
    if (frequent.length) drawn.querySelector("ol").before(list);
    return element("div", { class: "card" }, drawn);
  }

  samples(feature, title) {
    if (feature.samples.length === 0) return [];
    const parts = feature.samples.map((sample) => element("div", { class: "range" }, ...sampleList(feature, sample, title, "h3")));
    return [element("section", { class: "card samples", "aria-label": `${title}, across the range` },
      element("h2", {}, "Across the range ", element("small", {}, "tokens drawn at random, from the highest interval down")), element("div", { class: "sides" }, ...parts))];
  }

  alike(feature, { kinds, lists, features, likeness, one }) {
    const columns = kinds.map((kind, place) => {
      const list = kinds.length * feature.number + place;
      const items = Array.from(features.subarray(lists[list], lists[list + 1]), (other, rank) =>
        element("li", {}, element("a", { href: numberAddress(feature.adapter, other) }, ...visible(shortName(feature.adapter, other))), " ",
          element("span", { class: "likeness" }, (likeness[lists[list] + rank] / one).toFixed(3).replace("-", "−"))));
      const [name, meaning] = NEIGHBOUR_KINDS[kind];
      return element("section", { "aria-label": name, class: "neighbours" }, element("h3", {}, name), element("p", { class: "aside" }, meaning),
        items.length ? element("ol", {}, ...items) : quiet("None that can be compared."));
    });
    return [element("div", { class: "card alike" }, element("h2", {}, "Neighbours"), element("div", { class: "thirds" }, ...columns))];
  }

  /** Called when the view is in the document: go to the example that the address names. */
  shown(address) {
    const [example, position] = [numberIn(address, "example"), numberIn(address, "position")];
    if (example === null || position === null) return;
    const found = byId("view").querySelector(`li[data-example="${example}"][data-position="${position}"]`);
    if (!found) return;
    found.setAttribute("aria-current", "true");
    found.scrollIntoView({ block: "center" });
    found.querySelector(".target").focus({ preventScroll: true });
  }
}
