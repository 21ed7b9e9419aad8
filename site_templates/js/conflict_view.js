// Two texts of one note side by side, and a third one made of both.

/** Return both texts in one: what they share once, between it the other's lines and then those that only `mine` has. */
function mergedText(mine, theirs) {
  const [own, other] = [mine.split("\n"), theirs.split("\n")];
  const most = Math.min(own.length, other.length);
  let start = 0;
  while (start < most && own[start] === other[start]) start += 1;
  let end = 0;
  while (end < most - start && own.at(-1 - end) === other.at(-1 - end)) end += 1;
  const between = other.slice(start, other.length - end);
  const added = own.slice(start, own.length - end).filter((line) => line && !between.includes(line));
  return [...own.slice(0, start), ...between, ...added, ...own.slice(own.length - end)].join("\n");
}

/** Return [the choice between the texts of a note in conflict, the function that makes it show the note as it is now]. */
function conflictView(notebook, key, label, seen) {
  const choose = (text) => notebook.choose(key, text, seen());
  const version = (title, choice, take) => {
    const [by, text] = [element("small"), element("pre", { tabindex: "0" })];
    const show = (who, words) => { by.replaceChildren(...who); text.textContent = words || "(empty)"; };
    const button = element("button", { type: "button", onclick: () => choose(take(notebook.note(key))) }, choice);
    return [element("div", {}, element("h4", {}, title, " ", by), text, button), show];
  };
  const [mine, showMine] = version("Yours", "Keep mine", ({ text }) => text);
  const [other, showOther] = version("The other", "Take the other", ({ theirs }) => theirs.text);
  const merged = element("textarea", { rows: "2", "aria-label": `Merged: ${label}`, spellcheck: "false", oninput: () => notebook.merge(key, merged.value) });
  const view = element("div", { role: "group", "aria-label": `Conflict: ${label}` },
    element("p", {}, "This note was changed elsewhere while you were writing. Which text shall stay?"),
    element("div", { class: "versions" }, mine, other), element("h4", {}, "Both, merged by hand"), merged,
    element("button", { type: "button", onclick: () => choose(merged.value) }, "Save merged"));
  const show = (note) => {
    showMine(writer(note), note.text);
    showOther(writer(note.theirs), note.theirs.text);
    const text = note.merged ?? mergedText(note.text, note.theirs.text);
    if (merged.value !== text) merged.value = text;
  };
  return [view, show];
}
