// One note as this page knows it: what the person sees, what was last known to be stored, and how saving goes.

const NOTE_STATES = {
  idle: "",
  waiting: "saving…",
  saving: "saving…",
  saved: "saved",
  retrying: "not saved (retrying)",
  refused: "not saved",
  conflict: "conflict",
  kept: "kept in this browser",
};

function newNote(key, { text = "", starred = false } = {}) {
  return { key, text, starred, base: { text, starred }, sent: [], state: "idle", detail: "", theirs: null };
}

function isChanged(note) {
  return note.text !== note.base.text || note.starred !== note.base.starred;
}

/**
 * Take in what is stored now. What the person has not changed follows it; a text that both changed is a conflict, and
 * until the person chooses, `base` stays what it was, so that a reload finds the same conflict. A text that we sent
 * ourselves is nobody else's, also when its acknowledgement never came.
 */
function adopt(note, stored) {
  const mine = note.text !== note.base.text;
  const other = ![note.base.text, note.text, ...note.sent].includes(stored.text);
  if (mine && other) {
    Object.assign(note, { theirs: stored, state: "conflict" });
    return;
  }
  if (!mine) note.text = stored.text;
  if (note.starred === note.base.starred) note.starred = stored.starred;
  Object.assign(note, { base: { text: stored.text, starred: stored.starred }, sent: [] });
}

/** End a conflict with the text that the person chose. */
function settle(note, text) {
  Object.assign(note, { base: { ...note.theirs }, text, theirs: null, sent: [], state: "waiting" });
}

/** Return what the browser keeps of a note that is not stored, and put it back. */
function draftOf({ text, starred, base, sent }) {
  return { text, starred, base, sent };
}

function restore(note, { text, starred, base, sent }) {
  Object.assign(note, { text, starred, base, sent });
}
