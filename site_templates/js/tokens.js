// Tokens in colour: red above zero, blue below, eight shades up to the feature's own largest |activation|.

const SHADES = 8;
const tokenFacts = new WeakMap(); // token element -> what the tooltip says about it

/** Return the class of an activation's shade, "" for one too small to see. */
function shade(value, scale) {
  const level = scale > 0 ? Math.round(Math.min(Math.abs(value) / scale, 1) * SHADES) : 0;
  if (level === 0) return "";
  return `${value > 0 ? "p" : "n"}${level}`;
}

/** Return the largest |activation| of the tokens that lists may hold: an excluded first token can dwarf them all. */
function scaleOf({ filtered, statistics: full }) {
  const statistics = filtered ?? full;
  return Math.max(Math.abs(statistics.min), Math.abs(statistics.max));
}

function tokenSpan(feature, example, place) {
  const activation = example.activations[place];
  const isTarget = place === example.target;
  const classes = ["token", shade(activation, scaleOf(feature)), isTarget ? "target" : ""];
  const span = element("span", { class: classes.join(" ").trim(), tabindex: "-1" }, ...visible(example.tokens[place]));
  tokenFacts.set(span, {
    text: example.tokens[place],
    activation,
    scale: scaleOf(feature),
    effectScale: feature.statistics.effect_scale,
    tokenId: isTarget ? example.tokenId : null,
    position: example.position - example.target + place,
    example: example.example,
  });
  return span;
}

/** Return one example: its activation, how often its context occurs, and its tokens. */
function exampleItem(feature, example) {
  const side = example.activation < 0 ? "below" : "above";
  const value = element("data", { class: `activation ${side}`, value: String(example.activation) }, short(example.activation));
  const times = example.occurrences > 1
    ? [element("span", { class: "times", title: "tokens with exactly this context" }, `×${count(example.occurrences)}`)]
    : [];
  const tokens = example.tokens.map((_, place) => tokenSpan(feature, example, place));
  return element("li", {}, element("div", { class: "measure" }, value, ...times), element("p", { class: "context" }, ...tokens));
}
