// A panel's note: star, text, how saving goes; who wrote it and what people say; both versions when two wrote at once.

/** Return a function that has content in `place` while it is `wanted`, made by `make`, and shows it a note. */
function contentOf(place, make) {
  let show = null;
  return (wanted, note) => {
    place.hidden = !wanted;
    if (!wanted) place.replaceChildren();
    else if (!show) {
      const [content, shows] = make();
      place.replaceChildren(content);
      show = shows;
    }
    if (wanted) show(note);
    else show = null;
  };
}

/** Return what tells that a note's examples have changed; nothing where they have not or that is not known. */
function staleness(notebook, note, present) {
  const found = stillSeen(note, present);
  if (!found?.stale) return [];
  const fits = element("button", { type: "button", onclick: () => notebook.edit(note.key, { examplesSeen: present }) }, "Still fits");
  return [element("p", { class: "stale" }, `The examples have changed since this was written (${found.here} of ${found.all} are still here). `,
    present.length ? fits : "")];
}

/**
 * Return the star and the text field of a note; `label` says what it is about, `examples` returns the digests of its examples.
 * The row of tags is there where the reader wants it, or `always`; `blind`, what others say only after one's own label.
 */
function noteView(notebook, key, label, examples, { always = false, blind = false } = {}) {
  let known;
  const open = () => always || rowsOpen;
  const seen = () => (known ??= examples());
  const star = element("button", { type: "button", class: "star", "aria-label": `Star: ${label}`, "aria-pressed": "false",
    title: "Mark as important", onclick: () => notebook.edit(key, { starred: !notebook.note(key).starred }) }, "★");
  const area = element("textarea", { rows: "1", placeholder: "What does it react to?", "aria-label": `Note: ${label}`,
    spellcheck: "false", onfocus: () => notebook.keeper?.focused(notebook.note(key)),
    oninput: () => notebook.edit(key, { text: area.value, examplesSeen: seen() }) });
  const more = element("button", { type: "button", class: "more", hidden: always, "aria-label": `Tags and history: ${label}`, title: "Tags, confidence, history",
    onclick: () => setRows(notebook, !rowsOpen) }, "⋯");
  const state = element("span", { class: "state", role: "status" });
  const [own, said, conflict] = ["own", "said", "conflict"].map((name) => element("div", { class: name, hidden: true }));
  const [showOwn, showConflict] = [contentOf(own, () => labelRow(notebook, key, label)), contentOf(conflict, () => conflictView(notebook, key, label, seen))];
  let saying = "";
  notebook.watch(key, (note) => {
    if (area.value !== note.text) area.value = note.text;
    press(star, note.starred);
    state.className = `state ${note.state}`;
    state.textContent = NOTE_STATES[note.state] + (note.detail ? `: ${note.detail}` : "");
    more.setAttribute("aria-expanded", String(open()));
    showOwn(open(), note);
    showConflict(note.theirs, note);
    const { labels, textBy, textAt, examplesSeen } = note;
    const says = JSON.stringify([Boolean(note.text), labels, textBy, textAt, examplesSeen, open(), person.name]);
    if (says !== saying) said.replaceChildren(...staleness(notebook, note, note.examplesSeen ? seen() : []), ...peopleSay(note, { open: open(), blind }));
    said.hidden = !said.hasChildNodes();
    saying = says;
  });
  return element("div", { class: "note" }, star, area, more, state, own, said, conflict);
}
