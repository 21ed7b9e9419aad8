// Keeps notes in this browser: for a page opened from disk, or served by something that is not our service.

class LocalKeeper {
  constructor(notebook) {
    this.notebook = notebook;
    this.prefix = `loradash:notes:${location.pathname}:`;
    for (const [key, kept] of recallAll(this.prefix)) {
      const note = notebook.note(key);
      const builtIn = note.base;
      restore(note, kept);
      adopt(note, builtIn);
      if (note.state !== "conflict") note.state = isChanged(note) ? "kept" : "idle";
      note.lastModified = kept.lastModified;
    }
  }

  focused() {}

  edited(note) {
    note.lastModified = new Date().toISOString();
    const worked = keep(this.prefix + note.key, { ...draftOf(note), lastModified: note.lastModified });
    if (note.state === "conflict") return;
    if (worked) Object.assign(note, { state: "kept", detail: "" });
    else Object.assign(note, { state: "refused", detail: "this browser keeps nothing for this page; export your notes" });
  }
}

/** Return the content of an interpretations.json: the notes built into the page, with what was changed here. */
function exportedNotes(notebook, entries) {
  const merged = new Map(entries);
  for (const note of notebook.notes.values()) {
    if (!isChanged(note)) continue;
    merged.set(note.key, { text: note.text, starred: note.starred, lastModified: note.lastModified });
  }
  return JSON.stringify({ interpretations: Object.fromEntries(merged) }, null, 2) + "\n";
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
