// One panel after the other, to write what it reacts to: in an order that can be shared, blind if wished, by keys alone.

const QUEUE_SEED = 1; // where the address names none, so that everybody begins with the same panels
const QUEUE_AHEAD = 2; // panels whose data are opened before they are asked for
const QUEUE_COLUMNS = { feature: "feature", ...Object.fromEntries(TABLE_NUMBERS.map(([name, label]) => [name, label])) };

const QUEUE_ORDERS = [["", "shuffled"], ...Object.entries(QUEUE_COLUMNS).flatMap(([name, label]) => [[`${name} desc`, `${label} ↓`], [`${name} asc`, `${label} ↑`]])];

function queuePicker(name, label, options, chosen, choose) {
  const select = element("select", { id: `queue-${name}`, onchange: () => choose(select.value) },
    ...options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  return element("label", {}, `${label} `, select);
}

function panelTitle(feature, side) {
  return [element("a", { href: featureAddress(feature) }, ...visible(featureName(feature))), element("span", {}, POLARITIES[side])];
}

class QueueView {
  constructor(page) {
    Object.assign(this, { page, panel: null, going: null, trail: [], done: new Undoable(page.notebook) });
    page.notebook.listeners.push(() => this.noted());
    addEventListener("keydown", (event) => this.key(event));
  }

  /** The notebook, so that what is edited through it can be taken back. */
  get notebook() {
    return this.done.notebook;
  }

  get shows() {
    return [];
  }

  beside() {
    return null;
  }

  /** Say whether an address asks for panels that do not tell which they are. */
  isBlind(address) {
    return address.get("view") === "queue" && address.get("blind") === "1";
  }

  async draw(address) {
    this.panel = null;
    this.read(address);
    this.panels = await this.order();
    const wanted = numberIn(address, "index");
    this.at = wanted === null ? this.from(0, 1) : Math.min(Math.max(wanted, 1), this.panels.length) - 1;
    if (this.at < 0) return { title: "Queue", content: () => [this.bar(), quiet("There is no such panel.")] };
    const panel = this.panels[this.at];
    const layer = await panel.adapter.layer(panel.adapter.columns.layer[panel.number]);
    const feature = layer.features.find(({ number }) => number === panel.number);
    return { title: "Queue", content: () => this.content(panel, feature) };
  }

  /** Take over what the address chooses; blind, which panels to stop at is no part of it. */
  read(address) {
    const among = (text, allowed, usual) => (allowed.includes(text) ? text : usual);
    const blind = this.isBlind(address);
    const seed = numberIn(address, "seed");
    this.choices = {
      blind,
      sort: blind ? "" : among(address.get("sort"), Object.keys(QUEUE_COLUMNS), ""),
      order: among(address.get("order"), ["asc"], "desc"),
      seed: seed !== null && seed >= 0 && seed < 2 ** 32 ? seed : QUEUE_SEED,
      only: among(blind ? recall("loradash:queue") : address.get("only"), Object.keys(QUEUE_FILTERS), "all"),
    };
  }

  /** Return the panels in order; blind, those of all adapters: whose a panel is would tell something. */
  order() {
    const { page: { adapter, data }, choices: { blind, sort, order, seed } } = this;
    const name = JSON.stringify([blind || adapter.number, sort, order, seed]);
    if (this.ordered?.name !== name) this.ordered = { name, panels: queueOrder(blind ? data.adapters : [adapter], { sort, order, seed }) };
    return this.ordered.panels;
  }

  /** Return the address of the panel at `place`, of the first one to stop at if it is null. */
  addressAt(place) {
    const index = place === null ? null : place + 1;
    const { blind, sort, order, seed, only } = this.choices;
    if (blind) return `#${new URLSearchParams({ view: "queue", blind: 1, seed, ...(index && { index }) })}`;
    const ordered = sort ? { sort, order: order === "asc" ? order : null } : { seed };
    return addressOf(this.page.adapter, { view: "queue", ...ordered, only: only === "all" ? null : only, index });
  }

  noteAt(place) {
    return this.page.notebook.notes.get(this.panels[place].key);
  }

  /** Return the first place from `place` on, in steps of 1 or -1, at which the queue stops; -1 if there is none. */
  from(place, step) {
    const passes = QUEUE_FILTERS[this.choices.only][1];
    while (place in this.panels && !passes(this.noteAt(place))) place += step;
    return place in this.panels ? place : -1;
  }

  content(panel, feature) {
    Object.assign(this, { panel, feature });
    this.done.place = { address: this.addressAt(this.at) };
    const { blind } = this.choices;
    const label = blind ? "this feature" : `${featureName(feature)}, ${POLARITIES[panel.side]}`;
    this.heading = element("h2", { tabindex: "-1" }, ...(blind ? ["What does it react to?"] : panelTitle(feature, panel.side)));
    this.news = element("p", { class: "news", role: "status" });
    const list = blind ? blindList(feature, panel.side) : examplesList(feature, POLARITIES[panel.side], label);
    return [this.bar(), element("div", { class: "queue-panel" },
      element("section", { class: "card writing", "aria-label": "Note" }, this.heading, ...(blind ? [] : [scaleLegend(feature)]),
        noteView(this.notebook, panel.key, label, () => examplesSeen(feature, panel.side), { always: true, blind }), this.buttons(), this.news, queueHints()),
      element("section", { class: `card panel${blind ? "" : ` ${POLARITIES[panel.side]}`}`, "aria-label": "Examples", "data-key": blind ? null : panel.key }, list))];
  }

  /** Return what stands above the panel: how far one is, the order, which panels to stop at. */
  bar() {
    const { choices: { blind, sort, order, only } } = this;
    this.progress = element("p", { class: "tally", role: "status" });
    this.count();
    const stops = Object.entries(QUEUE_FILTERS).map(([value, [text]]) => [value, text]);
    const shuffle = element("button", { type: "button", id: "queue-shuffle", title: "Another order at random", onclick: () => this.choose({ seed: freshSeed() }) }, "Shuffle");
    const box = element("input", { type: "checkbox", id: "queue-blind", checked: blind, onchange: () => this.choose({ blind: box.checked, sort: "" }) });
    return element("section", { class: "card queue-bar", "aria-label": "Queue" }, this.progress,
      element("div", { class: "controls" },
        queuePicker("order", "order", blind ? QUEUE_ORDERS.slice(0, 1) : QUEUE_ORDERS, sort && `${sort} ${order}`, (chosen) => this.reorder(...chosen.split(" "))),
        ...(sort ? [] : [shuffle]),
        queuePicker("only", "stop at", stops, only, (chosen) => this.choose({ only: chosen })),
        element("label", { title: "Without anything that tells which feature it is" }, box, " blind")));
  }

  reorder(sort, order = "desc") {
    this.choose({ sort, order });
  }

  buttons() {
    const button = (key, text, title) => element("button", { type: "button", title: `${title} (${key})`, "aria-keyshortcuts": key, onclick: () => this.act(key) }, text);
    this.revealer = this.choices.blind ? button("r", "Reveal", "Which feature it is, once the note is written") : null;
    this.offerReveal();
    return element("div", { class: "queue-buttons" }, button("b", "Back", "The feature before"), button("k", "Skip", "Leave it for later"),
      button("z", "Undo", "Take the last change back"), ...(this.revealer ? [this.revealer] : []), button("n", "Next", "The next feature"));
  }

  /** Called when the view is in the document. */
  shown() {
    if (!this.panel) return;
    const address = this.addressAt(this.at);
    if (address !== location.hash) replaceAddress(address.slice(1));
    byId("view").querySelector(".writing textarea").focus({ preventScroll: true });
    setTimeout(() => this.prepare(), 50);
  }

  /** Open the data of the panels that come next before they are asked for. */
  prepare() {
    let place = this.at;
    for (let ahead = 0; ahead < QUEUE_AHEAD && this.page.view === this && place >= 0; ahead += 1) {
      place = this.from(place + 1, 1);
      if (place < 0) return;
      const { adapter, number } = this.panels[place];
      adapter.layer(adapter.columns.layer[number]).catch(() => {}); // who goes there is told
    }
  }

  /** Notes have changed: count again, once for all changes of a moment. */
  noted() {
    if (this.page.view !== this || !this.progress || this.counting) return;
    this.counting = requestAnimationFrame(() => { this.counting = null; this.count(); this.offerReveal(); });
  }

  count() {
    let [done, skipped] = [0, 0];
    for (let place = 0; place < this.panels.length; place += 1) {
      const note = this.noteAt(place);
      if (isDone(note)) done += 1;
      else if (note?.skipped) skipped += 1;
    }
    this.progress.replaceChildren(`${count(done)} of ${count(this.panels.length)} done, ${count(skipped)} skipped`,
      element("small", {}, `${this.at < 0 ? "" : ` · this is number ${count(this.at + 1)}`} · done: a text, or a label of mine`));
  }

  offerReveal() {
    if (this.revealer && this.panel) this.revealer.disabled = !isDone(this.page.notebook.notes.get(this.panel.key));
  }

  /** Leave the text field, so that single keys are the queue's. */
  leave() {
    this.heading.focus();
  }

  say(text) {
    this.news.textContent = text;
  }

  /** Go to where other choices lead: from here on if only what to stop at is another, else to the beginning. */
  choose(choices) {
    Object.assign(this.choices, choices);
    keep("loradash:queue", this.choices.only);
    this.trail = [];
    const onward = "only" in choices && this.panel ? this.from(this.at, 1) : -1;
    this.go(this.addressAt(onward < 0 ? null : onward));
  }

  /** Go to another panel. What is typed until it is there is for none. */
  go(address) {
    const going = this.page.visit(address).then(() => { if (this.going === going) this.going = null; });
    this.going = going;
    setTimeout(() => { if (this.going && this.page.view === this) byId("view").inert = true; }); // not at once: it costs a layout
  }

  act(key) {
    this[QUEUE_ACTIONS[key]]();
  }

  next() {
    const { notebook } = this.page;
    const note = notebook.notes.get(this.panel.key);
    if (isDone(note) && note.skipped) notebook.edit(this.panel.key, { skipped: false });
    this.advance();
  }

  advance() {
    const place = this.from(this.at + 1, 1);
    if (place < 0) {
      this.say("That was the last one.");
      return;
    }
    this.trail.push(this.addressAt(this.at));
    this.go(this.addressAt(place));
  }

  skip() {
    this.notebook.edit(this.panel.key, { skipped: true });
    this.advance();
  }

  /** Go to the panel one came from, else to the one before in the order. */
  back() {
    const here = this.addressAt(this.at);
    while (this.trail.at(-1) === here) this.trail.pop();
    const place = this.from(this.at - 1, -1);
    if (this.trail.length) this.go(this.trail.pop());
    else if (place >= 0) this.go(this.addressAt(place));
    else this.say("This is the first one.");
  }

  reveal() {
    if (!this.revealer || this.revealer.disabled) return;
    this.heading.replaceChildren(...panelTitle(this.feature, this.panel.side));
  }

  undo() {
    const step = this.done.undo();
    if (!step) this.say("There is nothing to undo.");
    else if (step.key !== this.panel.key) this.go(step.place.address);
    else this.say("Taken back.");
  }

  /** Give the panel a tag, or take it away. */
  tag(tag) {
    const { key } = this.panel;
    this.notebook.edit(key, toggledTag(this.notebook.note(key), tag));
  }

  rate(confidence) {
    const { key } = this.panel;
    this.notebook.edit(key, toggledConfidence(this.notebook.note(key), confidence));
  }

  key(event) {
    if (this.page.view !== this || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const action = this.going ? waitingKey(event) : this.panel && queueKey(this, event);
    if (!action) return;
    event.preventDefault();
    action();
  }
}
