// Puts the page together. Only what is in view is in the document.

const NOBODY = { name: null, metadata: [], warnings: [], layers: [] }; // the adapter, where nothing may tell which it is

/** Return the state of a new step of the history, by which it is known again. */
function newEntry() {
  return { entry: `${Date.now()} ${Math.random()}` };
}

class Dashboard {
  constructor(data, notebook) {
    Object.assign(this, { data, notebook, adapter: null, named: null, view: null, drawing: 0, entry: null, scrolls: new Map() });
    this.views = { layer: new LayerView(this), overview: new Overview(this), feature: new FeatureView(this), queue: new QueueView(this) };
  }

  /** Return the name of the view that an address asks for. */
  viewOf(address) {
    const view = address.get("view");
    if (view === "overview" || view === "queue") return view;
    return address.has("projection") ? "feature" : "layer";
  }

  /** Show what the address names: the first adapter and its first layer if it names none. */
  async follow() {
    const address = readAddress();
    const { adapters } = this.data;
    const adapter = adapters.find(({ name }) => name === address.get("adapter")) ?? adapters[0];
    const named = this.views.queue.isBlind(address) ? NOBODY : adapter;
    if (named !== this.named) fillAdapter(named);
    Object.assign(this, { adapter, named });
    byId("adapter").value = String(adapters.indexOf(adapter));
    byId("adapters").hidden = named === NOBODY || adapters.length < 2;
    const [name, turn] = [this.viewOf(address), ++this.drawing];
    this.view = this.views[name];
    const scroll = this.step(name);
    delete document.body.dataset.ready; // until it is shown
    try {
      const { title, content } = await this.view.draw(address);
      if (turn !== this.drawing) return; // the reader has gone on
      this.begin(name, title);
      this.show(content, scroll);
      this.view.shown?.(address);
    } catch (error) {
      if (turn !== this.drawing) return;
      this.begin(name);
      this.show(() => [element("p", { class: "caution" }, `This cannot be shown: ${error.message}`)]);
      console.error(error);
    }
    document.body.dataset.ready = "yes";
  }

  /** Make room for a view: what it does not show is hidden. */
  begin(name, title) {
    document.title = title ? `${title} · ${this.data.title}` : this.data.title;
    byId("view").className = name;
    for (const part of ["layer-choice", "legend", "columns"]) byId(part).hidden = !this.view.shows.includes(part);
    for (const part of ["columns", "cosines"]) byId(part).replaceChildren();
    for (const [link, here] of [["to-overview", "overview"], ["to-layers", "layer"], ["to-queue", "queue"]]) {
      if (here === name) byId(link).setAttribute("aria-current", "page");
      else byId(link).removeAttribute("aria-current");
    }
    byId("previous").disabled = !this.view.beside(-1);
    byId("next").disabled = !this.view.beside(1);
    byId("layer").value = String(this.view.place ?? 0);
  }

  /** Put what `make` returns in place of what was shown, scrolled to `scroll`. */
  show(make, scroll = scrollY) {
    hideTooltip();
    this.notebook.unwatchAll();
    forget(); // what was put off was for what is no longer shown
    byId("view").replaceChildren(...make());
    byId("view").inert = false; // the queue has it so while one waits
    finish(scroll > 0 || readAddress().has("example"));
    if (scroll > 0 || this.scrolled) scrollTo(0, scroll); // to ask where it is would cost a layout
  }

  /**
   * Say which step of the history is shown, and keep how far the reader had scrolled in the one before. Return where to
   * scroll to: to where the reader left it, else to the top; from layer to layer the place stays.
   */
  step(name) {
    if (this.entry) this.scrolls.set(this.entry, scrollY);
    const stays = name === "layer" && byId("view").className === "layer";
    if (!history.state?.entry) history.replaceState(newEntry(), "");
    this.entry = history.state.entry;
    return this.scrolls.get(this.entry) ?? history.state.scroll ?? (stays ? scrollY : 0);
  }

  /** Go to the layer or feature `steps` away; return whether there is one. */
  go(steps) {
    const address = this.view?.beside(steps);
    if (address) this.visit(address);
    return Boolean(address);
  }

  /** Go to an address, at once: a change of `location.hash` is told only after a turn through the browser. */
  visit(address) {
    if (address !== location.hash) history.pushState(newEntry(), "", address);
    return this.follow();
  }

  install() {
    const select = byId("layer");
    select.addEventListener("change", () => this.visit(this.views.layer.addressAt(Number(select.value))));
    fillAdapters(this.data.adapters, (adapter) => {
      const address = readAddress();
      if (adapter.name === null) address.delete("adapter");
      else address.set("adapter", adapter.name);
      this.visit(`#${address}`);
    });
    byId("previous").addEventListener("click", () => this.go(-1));
    byId("next").addEventListener("click", () => this.go(1));
    history.scrollRestoration = "manual"; // the browser's own comes before there is anything to scroll
    addEventListener("pagehide", () => history.replaceState({ entry: this.entry, scroll: scrollY }, ""));
    addEventListener("hashchange", () => this.follow());
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("scroll", () => { this.scrolled = true; finish(true); });
    addEventListener("beforeprint", () => finish(true));
  }

  key(event) {
    const busy = event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey;
    if (busy || document.querySelector("dialog[open]") || event.target.closest?.("textarea, input, select")) return;
    const actions = {
      ArrowLeft: () => this.go(-1),
      ArrowRight: () => this.go(1),
      o: () => byId("to-overview").click(),
      l: () => byId("to-layers").click(),
      q: () => byId("to-queue").click(),
      "/": () => { this.views.overview.focusSearch(); },
      "?": openHelp,
    };
    if (Object.hasOwn(actions, event.key) && actions[event.key]() !== false) event.preventDefault();
  }
}

function installExport(notebook, entries) {
  const button = byId("export");
  button.hidden = !(notebook.keeper instanceof LocalKeeper);
  button.addEventListener("click", () => download("interpretations.json", exportedNotes(notebook, entries)));
}

async function main() {
  openAhead(["head", "windows-0", "texts-0", ...(readAddress().size ? [] : ["layer-0-0"])]);
  installTheme();
  display.restore();
  const data = await openData();
  fillTitle(data.title);
  unfold();
  fillLegend();
  fillHelp();
  const notebook = new Notebook(data.notes);
  await chooseKeeper(notebook, data.title);
  const dashboard = new Dashboard(data, notebook);
  notebook.listeners.push(showSaving);
  installTooltip(byId("view"));
  dashboard.install();
  showSaving(notebook);
  installExport(notebook, data.notes);
  installPerson(notebook);
  installImport(notebook);
  await dashboard.follow();
}

main().catch((error) => {
  byId("view").replaceChildren(element("p", { class: "caution" }, `This page cannot be shown: ${error.message}`));
});
