// Who reads: a name that this browser remembers. It is sent with what the person writes; nobody checks it.

const ANONYMOUS = "anonymous"; // whose tags they are, where no name is given
const LONGEST_NAME = 80; // characters
const LONGEST_TAG = 64;

/** Return a name or tag as the service takes it: without control characters, without blanks at the ends, not too long. */
function nameFrom(text, longest = LONGEST_NAME) {
  const plain = text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
  return [...plain].slice(0, longest).join("").trim();
}

const person = {
  name: nameFrom(String(recall("loradash:person") ?? "")), // "": none given

  rename(name) {
    this.name = nameFrom(name);
    keep("loradash:person", this.name || null);
  },

  /** Whose tags and confidence are written here. */
  get labeller() {
    return this.name || ANONYMOUS;
  },
};
