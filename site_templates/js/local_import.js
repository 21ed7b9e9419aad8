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

function isLabel(label) {
  return Array.isArray(label?.tags ?? []) && (label?.tags ?? []).every((tag) => typeof tag === "string") && [null, ...CONFIDENCES].includes(label?.confidence ?? null);
}

const ENTRY_FIELDS = {
  text: (value) => typeof value === "string",
  starred: (value) => typeof value === "boolean",
  skipped: (value) => typeof value === "boolean",
  textBy: (value) => value === null || typeof value === "string",
  textAt: (value) => value === null || typeof value === "string",
  examplesSeen: (value) => value === null || (Array.isArray(value) && value.every((digest) => /^[0-9a-f]{8}$/.test(digest))),
  labels: (value) => typeof value === "object" && Object.values(value ?? {}).every(isLabel),
};

/** Return why an entry cannot be taken in, "" if it can. */
function entryFault(key, entry) {
  if (!/^(.*\/)?(layer_\d+|model)_.+_(positive|negative)$/s.test(key)) return "not the name of a feature";
  if (typeof entry !== "object" || entry === null) return "expected an object";
  const wrong = Object.entries(ENTRY_FIELDS).find(([name, isRight]) => entry[name] !== undefined && !isRight(entry[name]));
  return wrong ? `"${wrong[0]}" has the wrong type` : "";
}

/** Return [what a note gets from an entry, what a report calls that]: what it lacks, and with `replace` what differs. */
function taken(note, entry, replace) {
  const { text, textBy, textAt, examplesSeen, starred, skipped, labels } = entryFrom(entry);
  const people = Object.keys(labels).filter((name) => !sameLabel(note.labels[name], labels[name]));
  const lacks = (text && !note.text) || (starred && !note.starred) || (skipped && !note.skipped) || people.some((name) => !note.labels[name]);
  const differs = (text && note.text && text !== note.text) || people.some((name) => note.labels[name]);
  const news = people.filter((name) => replace || !note.labels[name]);
  const fields = {
    ...(text && text !== note.text && (replace || !note.text) && { text, textBy, textAt, examplesSeen }),
    ...(starred && !note.starred && { starred }), ...(skipped && !note.skipped && { skipped }),
    ...(news.length && { labels: labelsFrom({ ...note.labels, ...Object.fromEntries(news.map((name) => [name, labels[name]])) }) }),
  };
  if (replace && differs) return [fields, ["replaced"]];
  return [fields, [...(lacks ? ["added"] : []), ...(differs ? ["kept"] : [])]];
}

class LocalImports {
  constructor(notebook) {
    Object.assign(this, { notebook, done: new Map() });
  }

  /** Return a report like the service's. */
  take({ content, replace, dryRun }) {
    const report = { import: null, added: [], replaced: [], kept: [], same: 0, refused: [] };
    const before = new Map();
    const entries = notesIn(content);
    const times = new Map(mostFrequent(entries.map(([key]) => key)));
    for (const [key, entry] of entries) {
      const reason = times.get(key) > 1 ? "stands there in both spellings" : entryFault(key, entry);
      if (reason) {
        report.refused.push({ where: key, reason });
        continue;
      }
      const note = this.notebook.notes.get(key) ?? newNote(key);
      const [fields, kinds] = taken(note, entry, replace);
      for (const kind of kinds) report[kind].push(key);
      if (kinds.length === 0) report.same += 1;
      else if (!dryRun && Object.keys(fields).length) before.set(key, this.change(key, fields));
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
