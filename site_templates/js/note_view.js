// A panel's note: star, text, how saving goes, and both versions when two people wrote at once.

function conflictView(notebook, note, seen) {
  const version = (title, text, choice) => element("div", {},
    element("h4", {}, title), element("pre", {}, text || "(empty)"),
    element("button", { type: "button", onclick: () => notebook.choose(note.key, text, seen()) }, choice));
  return [
    element("p", {}, "This note was changed elsewhere while you were writing. Which text shall stay?"),
    version("Yours", note.text, "Keep mine"), version("The other", note.theirs.text, "Take the other"),
  ];
}

/** Return the star and the text field of a note; `label` says what it is about, `seen` returns the digests of its examples. */
function noteView(notebook, key, label, seen) {
  const star = element("button", { type: "button", class: "star", "aria-label": `Star: ${label}`, "aria-pressed": "false",
    title: "Mark as important", onclick: () => notebook.edit(key, { starred: !notebook.note(key).starred }) }, "★");
  const area = element("textarea", { rows: "1", placeholder: "What does it react to?", "aria-label": `Note: ${label}`,
    spellcheck: "false", onfocus: () => notebook.keeper?.focused(notebook.note(key)),
    oninput: () => notebook.edit(key, { text: area.value, examplesSeen: seen() }) });
  const state = element("span", { class: "state", role: "status" });
  const conflict = element("div", { class: "conflict", hidden: true });
  notebook.watch(key, (note) => {
    if (area.value !== note.text) area.value = note.text;
    star.setAttribute("aria-pressed", String(note.starred));
    state.className = `state ${note.state}`;
    state.textContent = NOTE_STATES[note.state] + (note.detail ? `: ${note.detail}` : "");
    conflict.hidden = note.theirs === null;
    conflict.replaceChildren(...(note.theirs ? conflictView(notebook, note, seen) : []));
  });
  return element("div", { class: "note" }, star, area, state, conflict);
}
