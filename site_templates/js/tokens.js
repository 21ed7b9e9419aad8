// Tokens in colour: red above zero, blue below, eight shades.

const tokenPlaces = new WeakMap(); // token element -> {run, place}: the tokens that are shown, and which of them it is
const bareToken = element("span", { class: "token", tabindex: "-1" });

/**
 * A run of an example's tokens, from place `from` of its segment to `to`; `values` are the activations on the whole
 * example, null where they are not known beyond its window.
 */
class Run {
  constructor(feature, example, texts, from, to, values) {
    Object.assign(this, { feature, example, from, values, ...texts.tokens(example.segment, from, to) });
    this.first = texts.first[example.segment];
  }

  /** Return the activation at `place`, null where it is not known; `exactly` as the number that was recorded. */
  activation(place, exactly = false) {
    const { start, activations } = this.example;
    const inside = this.from + place - start;
    if (inside >= 0 && inside < activations.length) return exactly ? exact(activations, inside) : activations[inside];
    return this.values?.[this.position(place)] ?? null;
  }

  position(place) {
    return this.first + this.from + place;
  }

  isTarget(place) {
    return this.from + place === this.example.start + this.example.target;
  }

  /** Return the |activation| that has full colour. */
  get full() {
    return fullColour(this.feature);
  }

  colour(activation, full) {
    return shade(activation, full);
  }

  classOf(place, full) {
    const activation = this.activation(place);
    const colour = activation === null ? "unknown" : this.colour(activation, full);
    return `token${colour && ` ${colour}`}${this.isTarget(place) ? " target" : ""}`;
  }

  spans() {
    const { full } = this;
    return this.texts.map((text, place) => {
      const span = bareToken.cloneNode();
      span.append(...visible(text, display.spaces));
      span.className = this.classOf(place, full);
      tokenPlaces.set(span, { run: this, place });
      return span;
    });
  }

  /** Return what is known of the token at `place`: [name, text]. */
  facts(place) {
    const activation = this.activation(place, true);
    const { effect_scale: effectScale } = this.feature.statistics;
    const known = activation === null ? [["activation", "not in this file"]] : [
      ["activation", String(activation)],
      ...(this.full > 0 ? [["of full colour", shareOf(activation, this.full)]] : []),
      ...(effectScale !== null ? [["effect size", short(Math.abs(activation) * effectScale)]] : []),
    ];
    const token = this.ids[place] >= 0 ? [["token id", String(this.ids[place])]] : [];
    return [...known, ["example", String(this.example.example)], ["position", String(this.position(place))], ...token];
  }
}

/** Return |activation| in whole percent of the one that has full colour. */
function shareOf(activation, full) {
  return `${Math.round((100 * Math.abs(activation)) / full)} %`;
}

/** Give every token on the page its colour again, or its text with or without marks for spaces. */
function repaint(changed) {
  for (const span of document.querySelectorAll("#view .token")) {
    const { run, place } = tokenPlaces.get(span);
    if (changed === "spaces") span.replaceChildren(...visible(run.texts[place], display.spaces));
    else span.className = run.classOf(place, run.full);
  }
}

// Cloned for each example.
const bareItem = element("li", {},
  element("div", { class: "measure" }, element("a", { title: "Link to this example", tabindex: "-1" }, element("data", {}))),
  element("p", { class: "context" }));

/** Return the place of one example, still empty. */
function exampleItem(example) {
  const item = bareItem.cloneNode(true);
  Object.assign(item.dataset, { example: example.example, position: example.position });
  return item;
}

/** Put into an example's place its activation, which leads to it, how often its context occurs, its minimap, its tokens. */
function fillItem(item, feature, example) {
  const { texts } = feature.adapter;
  const [measure, context] = item.children;
  const link = measure.firstChild;
  link.href = exampleAddress(feature, example);
  Object.assign(link.firstChild, { className: `activation ${example.activation < 0 ? "below" : "above"}`, value: example.activation });
  link.firstChild.textContent = short(example.activation);
  if (example.occurrences > 1) measure.append(element("span", { class: "times", title: "tokens with exactly this context" }, `×${count(example.occurrences)}`));
  measure.append(...widener({ feature, example, texts, context }));
  context.append(...new Run(feature, example, texts, example.start, example.start + example.activations.length, null).spans());
}
