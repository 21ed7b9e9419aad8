// Takes a file of notes into those that this browser keeps; by the same rules as the service.

const SHORT_KEY = /^L(?=\d+_)/;

/** Return [key, entry] of an interpretations.json. Throws Error for what is none. */
function notesIn(content) {
  let found;
  try {
    found = JSON.parse(content);
  } catch {
    throw new Error("this is not JSON; from disk, the page takes an interpretations.json");
  }
  const entries = found?.interpretations ?? found;
  if (typeof entries !== "object" || entries === null || Array.isArray(entries)) throw new Error("this is not a file of notes");
  return Object.entries(entries).map(([key, entry]) => [key.replace(SHORT_KEY, "layer_"), entry]);
}

/** Return why an entry cannot be taken in, "" if it can. */
function entryFault(key, entry) {
  const isLabel = (label) => Array.isArray(label?.tags) && label.tags.every((tag) => typeof tag === "string") && (label.confidence == null || CONFIDENCES.includes(label.confidence));
  if (!/^(.*\/)?(layer_\d+|model)_.+_(positive|negative)$/s.test(key)) return "no feature's name";
  if (typeof entry !== "object" || entry === null) return "not a note";
  if (typeof (entry.text ?? "") !== "string") return "its text is none";
  if (typeof (entry.labels ?? {}) !== "object" || !Object.values(entry.labels ?? {}).every(isLabel)) return "its labels are none";
  return "";
}

/** Return [what a note gets from an entry, how that is called]: what it lacks, and with `replace` what differs. */
function taken(note, entry, replace) {
  const { text, textBy, textAt, examplesSeen, starred, skipped, labels } = entryFrom(entry);
  const people = Object.keys(labels).filter((name) => !sameLabel(note.labels[name], labels[name]));
  const differs = (text && note.text && text !== note.text) || people.some((name) => note.labels[name]);
  const news = people.filter((name) => replace || !note.labels[name]);
  const fields = {
    ...(text && text !== note.text && (replace || !note.text) && { text, textBy, textAt, examplesSeen }),
    ...(starred && !note.starred && { starred }), ...(skipped && !note.skipped && { skipped }),
    ...(news.length && { labels: labelsFrom({ ...note.labels, ...Object.fromEntries(news.map((name) => [name, labels[name]])) }) }),
  };
  return [fields, differs ? (replace ? "replaced" : "kept") : Object.keys(fields).length ? "added" : "same"];
}

class LocalImports {
  constructor(notebook) {
    Object.assign(this, { notebook, done: new Map() });
  }

  /** Return a report like the service's. */
  take({ content, replace, dryRun }) {
    const report = { import: null, added: [], replaced: [], kept: [], same: 0, refused: [] };
    const before = new Map();
    for (const [key, entry] of notesIn(content)) {
      const reason = entryFault(key, entry);
      if (reason) {
        report.refused.push({ where: key, reason });
        continue;
      }
      const note = this.notebook.notes.get(key) ?? newNote(key);
      const [fields, kind] = taken(note, entry, replace);
      if (kind === "same") report.same += 1;
      else report[kind].push(key);
      if (!dryRun && Object.keys(fields).length) before.set(key, this.change(key, fields));
    }
    if (before.size) {
      report.import = String(this.done.size + 1);
      this.done.set(report.import, before);
    }
    return report;
  }

  change(key, fields) {
    const note = this.notebook.note(key);
    const old = Object.fromEntries(Object.keys(fields).map((name) => [name, note[name]]));
    this.apply(note, fields);
    return { old, made: fields };
  }

  apply(note, fields) {
    Object.assign(note, fields);
    this.notebook.keeper.edited(note);
    this.notebook.changed(note);
  }

  /** Put back what an import changed, where nobody has changed it since. */
  undo(id) {
    const report = { undone: [], kept: [] };
    for (const [key, { old, made }] of this.done.get(id)) {
      const note = this.notebook.note(key);
      const untouched = Object.entries(made).every(([name, value]) => sameList(note[name], value));
      if (untouched) this.apply(note, old);
      report[untouched ? "undone" : "kept"].push(key);
    }
    return report;
  }
}
