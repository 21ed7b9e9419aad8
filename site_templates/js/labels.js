// The tags and the confidence that a person gives a feature, beside the text.

const STANDARD_TAGS = ["dense", "polysemantic", "single token", "positional", "unclear"];
const MOST_TAGS = 32; // in one label
const CONFIDENCES = [1, 2, 3, 4, 5];

const ownTags = {
  names: Array.from(recall("loradash:tags") ?? []).filter((name) => typeof name === "string"), // used here before, beside the standard ones

  remember(name) {
    if (STANDARD_TAGS.includes(name) || this.names.includes(name)) return;
    this.names.push(name);
    keep("loradash:tags", this.names);
  },
};

/** Return the person's own label of a note, undefined if there is none or it says nothing. */
function ownLabel(note) {
  const label = note.labels[person.labeller];
  return label?.tags || label?.confidence ? label : undefined;
}

/** Return the tags to offer for a note. */
function offeredTags(note) {
  return [...new Set([...STANDARD_TAGS, ...ownTags.names, ...(ownLabel(note)?.tags ?? [])])];
}

/** Return the edit that says this of tags (null: nothing) and leaves the confidence. */
function taggedWith(note, tags) {
  return { tags, confidence: ownLabel(note)?.confidence ?? null };
}

/** Return the edit that gives a note a tag, or takes it away; with the last one goes that anything was said of tags. */
function toggledTag(note, tag) {
  const tags = ownLabel(note)?.tags ?? [];
  const left = tags.includes(tag) ? tags.filter((each) => each !== tag) : [...tags, tag].slice(0, MOST_TAGS);
  return taggedWith(note, left.length ? left : null);
}

/** Return the edit that says that no tag fits, or takes that back. */
function toggledNone(note) {
  return taggedWith(note, ownLabel(note)?.tags?.length === 0 ? null : []);
}

/** Return the edit that says how sure the person is, or takes that back. */
function toggledConfidence(note, confidence) {
  return { confidence: ownLabel(note)?.confidence === confidence ? null : confidence };
}
