// All notes of the page. A keeper (the service, or this browser) stores them; views watch them.

class Notebook {
  constructor(entries) {
    this.notes = new Map(entries.map(([key, entry]) => [key, newNote(key, entry)]));
    this.watchers = new Map();
    this.keeper = null;
    this.listeners = []; // called with the notebook when any note has changed
  }

  note(key) {
    if (!this.notes.has(key)) this.notes.set(key, newNote(key));
    return this.notes.get(key);
  }

  /** Call `watcher` with the note now and whenever it changes, until `unwatchAll`. */
  watch(key, watcher) {
    this.watchers.set(key, watcher);
    watcher(this.note(key));
  }

  unwatchAll() {
    this.watchers.clear();
  }

  changed(...notes) {
    for (const note of notes) this.watchers.get(note.key)?.(note);
    for (const listener of this.listeners) listener(this);
  }

  /** Show every note that is in view again. */
  redraw() {
    this.changed(...Array.from(this.watchers.keys(), (key) => this.note(key)));
  }

  setState(note, state, detail = "") {
    Object.assign(note, { state, detail });
    this.changed(note);
  }

  /** Change a note: some of text, examplesSeen, starred, skipped, and of the person's own label tags and confidence. */
  edit(key, changes) {
    const note = this.note(key);
    amend(note, changes);
    this.keeper.edited(note);
    this.changed(note);
  }

  /** End a conflict with a text; `examplesSeen` are those that are in sight now. */
  choose(key, text, examplesSeen) {
    const note = this.note(key);
    settle(note, text, examplesSeen);
    this.keeper.edited(note);
    this.changed(note);
  }

  /** Keep what the person makes of two texts in conflict, until it is chosen. */
  merge(key, text) {
    const note = this.note(key);
    note.merged = text;
    this.keeper.edited(note);
    this.changed(note);
  }

  /** Return how many notes are in each state. */
  tally() {
    const tally = {};
    for (const { state } of this.notes.values()) tally[state] = (tally[state] ?? 0) + 1;
    return tally;
  }
}
