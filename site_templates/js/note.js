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

/**
 * Return labels by person, in an object that has nothing but them: a person may be called "constructor". What says nothing of
 * tags has undefined there, which as JSON is left out.
 */
function labelsFrom(labels) {
  const made = Object.create(null);
  for (const [name, label] of Object.entries(labels ?? {})) made[name] = { ...label, tags: label?.tags ?? undefined, confidence: label?.confidence ?? null };
  return made;
}

/** Return an entry of interpretations.json with every field that it may lack. */
function entryFrom(entry) {
  const { text = "", starred = false, skipped = false, textBy = null, textAt = null, examplesSeen = null, lastModified = null } = entry ?? {};
  return { text, starred, skipped, textBy, textAt, examplesSeen, lastModified, labels: labelsFrom(entry?.labels) };
}

function newNote(key, entry) {
  const stored = entryFrom(entry);
  return { key, ...stored, base: stored, sent: [], state: "idle", detail: "", theirs: null, merged: null };
}

function sameList(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

function sameLabel(one, other) {
  return one === other || Boolean(one && other && one.confidence === other.confidence && sameList(one.tags, other.tags));
}

/** Return the people whose labels were changed here. */
function relabelled({ labels, base }) {
  if (labels === base.labels) return [];
  return Object.keys({ ...base.labels, ...labels }).filter((name) => !sameLabel(labels[name], base.labels[name]));
}

function isTextChanged({ text, examplesSeen, base }) {
  return text !== base.text || Boolean(examplesSeen && !sameList(examplesSeen, base.examplesSeen));
}

function isRestChanged(note) {
  return note.starred !== note.base.starred || note.skipped !== note.base.skipped || relabelled(note).length > 0;
}

/** Whether anything is not stored. */
function isChanged(note) {
  return isTextChanged(note) || isRestChanged(note);
}

/** Whether there is something to store now: not a text in conflict, until the person has chosen. */
function isWaiting(note) {
  return isRestChanged(note) || (isTextChanged(note) && !note.theirs);
}

/** Change some of text, starred, skipped, examplesSeen, and of the person's own label tags and confidence, as `relabel` does. */
function amend(note, { tags, confidence, ...fields }) {
  if (fields.examplesSeen?.length === 0) delete fields.examplesSeen; // a panel without examples
  const at = new Date().toISOString().replace(/\.\d+/, "");
  const { text, base } = { ...note, ...fields };
  if (text === base.text && text !== note.text) {
    const { textBy, textAt, examplesSeen } = base;
    Object.assign(note, fields, { textBy, textAt, examplesSeen });
  } else if (text !== note.text) Object.assign(note, { textBy: person.name || null, textAt: person.name ? at : null, examplesSeen: null }, fields);
  else Object.assign(note, fields);
  if (tags !== undefined || confidence !== undefined) note.labels = relabel(note.labels, tags, confidence, at);
}

/** Return labels with the person's own changed as the service does: null for tags takes it away, but for a confidence given with it. */
function relabel(labels, tags, confidence, at) {
  const changed = labelsFrom(labels);
  const before = tags === null ? undefined : changed[person.labeller];
  const said = { tags: tags ?? before?.tags, confidence: confidence === undefined ? (before?.confidence ?? null) : confidence };
  if (said.tags || said.confidence) changed[person.labeller] = { ...changed[person.labeller], ...said, at };
  else delete changed[person.labeller];
  return changed;
}

/**
 * Take in what is stored now. What the person has not changed follows it; a text that both changed is a conflict, and
 * until the person chooses, `base` keeps the text that it had, so that a reload finds the same conflict. A text that we
 * sent ourselves is nobody else's, also when its acknowledgement never came. Nothing else conflicts: a star is a star, and
 * labels are each person's own.
 */
function adopt(note, entry) {
  const { text, textBy, textAt, examplesSeen, ...rest } = entryFrom(entry);
  adoptRest(note, rest);
  const mine = note.text !== note.base.text;
  const other = ![note.base.text, note.text, ...note.sent].includes(text);
  if (mine && other) {
    if (note.theirs?.text !== text) note.theirs = { text, textBy, textAt, examplesSeen };
    note.state = "conflict";
    return;
  }
  const follows = mine ? note.text === text && !note.examplesSeen : text !== note.base.text || sameList(note.examplesSeen, note.base.examplesSeen);
  if (follows) note.examplesSeen = examplesSeen;
  if (!mine) note.text = text;
  if (note.text === text) Object.assign(note, { textBy, textAt });
  Object.assign(note.base, { text, textBy, textAt, examplesSeen });
  Object.assign(note, { sent: [], theirs: null, merged: null, state: note.theirs ? "waiting" : note.state });
}

function adoptRest(note, { starred, skipped, labels, lastModified }) {
  const mine = relabelled(note).map((name) => [name, note.labels[name]]);
  if (note.starred === note.base.starred) note.starred = starred;
  if (note.skipped === note.base.skipped) note.skipped = skipped;
  note.base = { ...note.base, starred, skipped, labels };
  note.labels = mine.length ? labelsFrom(labels) : labels;
  for (const [name, label] of mine) {
    if (label) note.labels[name] = label;
    else delete note.labels[name];
  }
  note.lastModified = lastModified;
}

/** Return the request that stores the text, null if it need not be stored. */
function textPatch(note) {
  if (note.theirs || !isTextChanged(note)) return null;
  const { text, textBy, examplesSeen, base } = note;
  return { ...(text !== base.text && { text, ...(textBy && { by: textBy }) }), ...(examplesSeen && { examplesSeen }) };
}

/** Return the requests that store the rest: one for each person whose label was changed here, as a rule one in all. */
function restPatches(note) {
  const { starred, skipped, labels, base } = note;
  const marks = { ...(starred !== base.starred && { starred }), ...(skipped !== base.skipped && { skipped }) };
  const patches = relabelled(note).map((by) => {
    const { tags = null, confidence = null } = labels[by] ?? {};
    return { by, tags, confidence };
  });
  if (Object.keys(marks).length) patches[0] = { ...patches[0], ...marks };
  return patches;
}

/** Take a request as done. */
function markStored(note, { by, tags, confidence, text, ...fields }) {
  note.base = { ...note.base, ...(text !== undefined && { text, examplesSeen: null }), ...fields };
  if (tags === undefined) return;
  note.base.labels = labelsFrom(note.base.labels);
  if (tags || confidence) note.base.labels[by] = { tags: tags ?? undefined, confidence };
  else delete note.base.labels[by];
}

/** Whether an entry says what is known to be stored. */
function isKnown({ base }, entry) {
  const stored = entryFrom(entry);
  const names = Object.keys({ ...base.labels, ...stored.labels });
  return ["text", "textBy", "starred", "skipped"].every((field) => base[field] === stored[field])
    && sameList(base.examplesSeen, stored.examplesSeen)
    && names.every((name) => sameLabel(base.labels[name], stored.labels[name]));
}

/** End a conflict with the text that the person chose. */
function settle(note, text, examplesSeen) {
  note.base = { ...note.base, ...note.theirs };
  const { theirs } = note;
  Object.assign(note, { text: theirs.text, theirs: null, merged: null, sent: [], state: "waiting" });
  Object.assign(note, { textBy: theirs.textBy, textAt: theirs.textAt, examplesSeen: theirs.examplesSeen });
  amend(note, { text, ...(text !== theirs.text && { examplesSeen }) });
}

/** Return what the browser keeps of a note that is not stored, and put it back. */
function draftOf({ text, textBy, textAt, examplesSeen, starred, skipped, labels, lastModified, base, sent, merged }) {
  return { text, textBy, textAt, examplesSeen, starred, skipped, labels, lastModified, base, sent, merged };
}

function restore(note, { base, sent = [], merged = null, ...draft }) {
  Object.assign(note, entryFrom(draft), { base: entryFrom(base), sent, merged });
}
