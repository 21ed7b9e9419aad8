// Keeps notes in this browser: for a page opened from disk, or served by something that is not our service.

class LocalKeeper {
  constructor(notebook) {
    Object.assign(this, { notebook, importsFrom: ".json", imports: new LocalImports(notebook) });
    this.prefix = `loradash:notes:${location.pathname}:`;
    for (const [key, kept] of recallAll(this.prefix)) this.takeIn(notebook.note(key), kept);
    addEventListener("storage", ({ key, newValue }) => { if (key?.startsWith(this.prefix) && newValue) this.follow(key, newValue); });
  }

  /** Put back what was kept, beside what is built into the page now. */
  takeIn(note, kept) {
    const builtIn = { ...note.base, ...note.theirs };
    restore(note, kept);
    adopt(note, builtIn);
    note.state = note.theirs ? "conflict" : isChanged(note) ? "kept" : "idle";
    note.lastModified = kept.lastModified;
  }

  /** Another tab of this page has kept something. */
  follow(name, kept) {
    const note = this.notebook.note(name.slice(this.prefix.length));
    this.takeIn(note, JSON.parse(kept));
    this.notebook.changed(note);
  }

  focused() {}

  importNotes(request) {
    return this.imports.take(request);
  }

  undoImport(id) {
    return this.imports.undo(id);
  }

  edited(note) {
    note.lastModified = new Date().toISOString();
    const worked = keep(this.prefix + note.key, draftOf(note));
    if (note.theirs) return;
    if (worked) Object.assign(note, { state: "kept", detail: "" });
    else Object.assign(note, { state: "refused", detail: "this browser keeps nothing for this page; export your notes" });
  }
}

/** Return a note as an entry of interpretations.json, without the fields that it lacks. */
function exportedEntry({ text, starred, lastModified, skipped, textBy, textAt, examplesSeen, labels }, builtIn) {
  return {
    ...builtIn, text, starred, lastModified,
    ...((skipped || builtIn?.skipped !== undefined) && { skipped }),
    textBy: textBy ?? undefined, textAt: textAt ?? undefined, examplesSeen: examplesSeen ?? undefined,
    labels: Object.keys(labels).length ? labels : undefined,
  };
}

/** Return the content of an interpretations.json: the notes built into the page, with what was changed here. */
function exportedNotes(notebook, entries) {
  const merged = new Map(entries);
  for (const note of notebook.notes.values()) if (isChanged(note)) merged.set(note.key, exportedEntry(note, merged.get(note.key)));
  return JSON.stringify({ interpretations: Object.fromEntries(merged) }, null, 2) + "\n";
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
