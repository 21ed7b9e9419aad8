// A panel whose feature cannot be told: one colour for both polarities, strengths without a sign as shares of the
// strongest example's, and no link, minimap or number that leads to it.

/** A run whose colours are shades of |activation|; what goes against the ranked token is underlined. */
class BlindRun extends Run {
  constructor(feature, example, strongest) {
    super(feature, example, feature.adapter.texts, example.start, example.start + example.activations.length, null);
    this.strongest = strongest;
  }

  get full() {
    return (this.strongest * 100) / display.intensity;
  }

  isAgainst(activation) {
    return activation * this.example.activation < 0;
  }

  colour(activation, full) {
    const level = shade(activation, full).slice(1);
    return level && `u${level}${this.isAgainst(activation) ? " against" : ""}`;
  }

  facts(place) {
    const activation = this.activation(place);
    return [["strength", shareOf(activation, this.strongest) + (this.isAgainst(activation) ? ", against the framed token" : "")]];
  }
}

function blindItem(feature, example, strongest) {
  const strength = element("span", { class: "strength" }, shareOf(example.activation, strongest));
  const times = example.occurrences > 1 ? [element("span", { class: "times", title: "tokens with exactly this context" }, `×${count(example.occurrences)}`)] : [];
  return element("li", {}, element("div", { class: "measure" }, strength, ...times),
    element("p", { class: "context" }, ...new BlindRun(feature, example, strongest).spans()));
}

/** Return the examples of one side of a feature, which has some, as a list that does not tell whose they are. */
function blindList(feature, side) {
  const examples = feature.examples[side].all();
  const strongest = Math.abs(examples[0].activation); // what is stronger around them is the other polarity's, or filtered
  const list = element("ol", { "aria-label": "Examples, strongest first" }, ...examples.map((example) => blindItem(feature, example, strongest)));
  list.querySelector(".target").tabIndex = 0;
  return list;
}
