// Tokens in colour: red above zero, blue below, eight shades.

const tokenFacts = new WeakMap(); // token element -> what the tooltip says about it

/** Return one token's element; `activation` is null where it is not known. */
function tokenSpan(feature, facts, isTarget) {
  const span = element("span", { class: "token", tabindex: "-1" }, ...visible(facts.text, display.spaces));
  tokenFacts.set(span, { ...facts, feature, isTarget });
  paint(span);
  return span;
}

function paint(span) {
  const { activation, feature, isTarget } = tokenFacts.get(span);
  const colour = activation === null ? "unknown" : shade(activation, fullColour(feature));
  span.className = `token${colour && ` ${colour}`}${isTarget ? " target" : ""}`;
}

/** Give every token on the page its colour again, or its text with or without marks for spaces. */
function repaint(changed) {
  for (const span of document.querySelectorAll("[tabindex].token")) {
    if (changed === "spaces") span.replaceChildren(...visible(tokenFacts.get(span).text, display.spaces));
    else paint(span);
  }
}

/** Return the tokens of `example` from `start` to `stop`, places in its segment; `values` has all activations of it. */
function tokenSpans({ feature, example, texts }, start, stop, values = null) {
  const { segment, target, activations } = example;
  const found = texts.tokens(segment, start, stop);
  return found.texts.map((text, place) => {
    const here = start + place;
    const inside = here - example.start;
    const known = inside >= 0 && inside < activations.length;
    return tokenSpan(feature, {
      text,
      activation: known ? exact(activations, inside) : (values?.[texts.first[segment] + here] ?? null),
      tokenId: found.ids[place] < 0 ? null : found.ids[place],
      position: texts.first[segment] + here,
      example: example.example,
    }, inside === target);
  });
}

/** Return one example: its activation, which leads to it, how often its context occurs, its minimap, its tokens. */
function exampleItem(feature, example, texts) {
  const side = example.activation < 0 ? "below" : "above";
  const value = element("data", { class: `activation ${side}`, value: String(example.activation) }, short(example.activation));
  const link = element("a", { href: exampleAddress(feature, example), title: "Link to this example", tabindex: "-1" }, value);
  const times = example.occurrences > 1
    ? [element("span", { class: "times", title: "tokens with exactly this context" }, `×${count(example.occurrences)}`)]
    : [];
  const context = element("p", { class: "context" });
  const item = element("li", { "data-example": example.example, "data-position": example.position });
  const shown = { feature, example, texts, item, context };
  item.append(element("div", { class: "measure" }, link, ...times, ...widener(shown)), context);
  context.append(...tokenSpans(shown, example.start, example.start + example.activations.length));
  return item;
}
