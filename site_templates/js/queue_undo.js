// What was done to notes in one place, to take it back step by step.

/** Return the changes that undo `changes` of a note. */
function replacedBy(note, { tags, confidence, ...fields }) {
  const names = "text" in fields ? [...Object.keys(fields), "examplesSeen"] : Object.keys(fields);
  const before = Object.fromEntries(names.map((name) => [name, note[name]]));
  if (tags === undefined && confidence === undefined) return before;
  const label = ownLabel(note);
  return { ...before, tags: label?.tags ?? null, confidence: label?.confidence ?? null };
}

/** A notebook whose edits can be undone; everything else is the notebook's own. */
class Undoable {
  constructor(notebook) {
    this.steps = []; // {key, before, place}
    this.place = null; // an object for where one is: keys in one text, one after the other, are one step while it stays
    this.notebook = Object.assign(Object.create(notebook), {
      edit: (key, changes) => {
        this.record(key, replacedBy(notebook.note(key), changes));
        notebook.edit(key, changes);
      },
    });
  }

  record(key, before) {
    const last = this.steps.at(-1);
    if (last?.place === this.place && last.key === key && "text" in last.before && "text" in before) return;
    this.steps.push({ key, before, place: this.place });
  }

  /** Take the last step back; return it, undefined if there is none. */
  undo() {
    const step = this.steps.pop();
    if (step) Object.getPrototypeOf(this.notebook).edit(step.key, step.before);
    return step;
  }
}
