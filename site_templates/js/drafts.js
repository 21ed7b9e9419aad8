// What was written and is not acknowledged, kept by this browser: each page under names of its own, so that one page never
// forgets another's.

class Drafts {
  constructor(prefix) {
    this.prefix = prefix;
    this.own = `${prefix}${Math.random().toString(36).slice(2)}:`;
  }

  /**
   * Make the drafts of pages before this one its own and return them, [key, draft]. Of two for one note the second stays for
   * the next page, which sees whether they differ.
   */
  takeOver() {
    const found = new Map();
    for (const [rest, draft] of recallAll(this.prefix)) {
      const key = rest.slice(rest.indexOf(":") + 1);
      if (found.has(key)) continue;
      found.set(key, draft);
      if (this.keep(key, draft)) keep(this.prefix + rest, null);
    }
    return [...found];
  }

  keep(key, draft) {
    return keep(this.own + key, draft);
  }
}
