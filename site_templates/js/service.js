// Keeps notes through the annotation service: as typed, never over a text that this page has not seen, never lost.

const SAVE_DELAY = 500; // ms after the last key
const LONGEST_WAIT = 15_000; // ms between two tries
const LONGEST_TEXT = 16 * 1024; // bytes in UTF-8: a browser sends at most 64 KiB in all when a page closes
const ENTRIES = "/api/interpretations";

class Refusal extends Error {}

function entryAddress(key) {
  return `${ENTRIES}/${encodeURIComponent(key)}`;
}

class ServiceKeeper {
  constructor(notebook, title) {
    this.notebook = notebook;
    this.prefix = `loradash:draft:${title}:`;
    for (const [key, draft] of recallAll(this.prefix)) restore(notebook.note(key), draft);
    addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden && this.flush());
    addEventListener("online", () => this.waiting().forEach((note) => this.save(note)));
  }

  /** Return the notes that are to be stored. */
  waiting() {
    return [...this.notebook.notes.values()].filter((note) => isChanged(note) && note.state !== "conflict");
  }

  /** Take in every stored entry, and go on with drafts that were never acknowledged. Undefined: ask again. */
  async start(entries) {
    while (entries === undefined) {
      await new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT / 10));
      entries = await askService();
    }
    const stored = new Map(entries);
    for (const key of new Set([...stored.keys(), ...this.notebook.notes.keys()])) {
      const note = this.notebook.note(key);
      const { text = "", starred = false } = stored.get(key) ?? {};
      if (!note.busy) adopt(note, { text, starred });
      if (isChanged(note)) this.edited(note);
      this.notebook.changed(note);
    }
  }

  /** Look at what is stored before the person types, so that the first save can say what it replaces. */
  async focused(note) {
    if (note.busy || note.state === "conflict") return;
    note.busy = true;
    try {
      await this.fetchEntry(note);
    } catch {
      // The first save asks again, and tells.
    }
    note.busy = false;
    this.edited(note);
    this.notebook.changed(note);
  }

  edited(note) {
    this.keepDraft(note);
    if (note.state === "conflict") return;
    note.failures = 0;
    if (isChanged(note) || note.busy) {
      note.state = "waiting";
      this.schedule(note, SAVE_DELAY);
    } else if (note.state !== "idle") note.state = "saved";
  }

  /** Keep what is not acknowledged, beside what it replaces; forget it once it is stored. */
  keepDraft(note) {
    keep(this.prefix + note.key, isChanged(note) ? draftOf(note) : null);
  }

  schedule(note, delay) {
    clearTimeout(note.timer);
    note.timer = setTimeout(() => this.save(note), delay);
  }

  async save(note) {
    if (note.busy || note.state === "conflict") return;
    note.busy = true;
    try {
      this.notebook.setState(note, note.failures ? "retrying" : "saving");
      await this.saveOnce(note);
      note.failures = 0;
      if (note.state !== "conflict") note.state = isChanged(note) ? "waiting" : "saved";
    } catch (error) {
      this.failed(note, error);
    }
    note.busy = false;
    this.keepDraft(note);
    this.notebook.changed(note);
    if (note.state === "waiting") this.schedule(note, SAVE_DELAY);
  }

  async saveOnce(note) {
    if (!note.etag) await this.fetchEntry(note);
    if (note.state === "conflict" || !isChanged(note)) return;
    const changes = this.changes(note);
    const reply = await this.send(note, changes);
    if (reply.status === 412) {
      await this.fetchEntry(note);
      return;
    }
    note.base = { ...note.base, ...changes };
    await this.take(note, reply);
  }

  failed(note, error) {
    if (error instanceof Refusal) {
      Object.assign(note, { state: "refused", detail: error.message });
      return;
    }
    note.failures = (note.failures ?? 0) + 1;
    Object.assign(note, { state: "retrying", detail: "" });
    this.schedule(note, Math.min(SAVE_DELAY * 2 ** note.failures, LONGEST_WAIT));
  }

  changes({ text, starred, base }) {
    return { ...(text !== base.text && { text }), ...(starred !== base.starred && { starred }) };
  }

  async fetchEntry(note) {
    await this.take(note, await this.checked(await fetch(entryAddress(note.key), { cache: "no-store" })));
  }

  /** Take in the entry and the ETag of a reply. */
  async take(note, reply) {
    const { text = "", starred = false } = (await reply.json()).interpretation;
    note.etag = reply.headers.get("ETag");
    adopt(note, { text, starred });
  }

  /** Send what changed, in a request that outlives the page. */
  async send(note, changes) {
    if (new TextEncoder().encode(note.text).length > LONGEST_TEXT) throw new Refusal("longer than 16 KiB");
    if ("text" in changes) note.sent.push(note.text);
    this.keepDraft(note);
    const headers = { "Content-Type": "application/json", "If-Match": note.etag };
    const body = JSON.stringify(changes);
    const reply = await fetch(entryAddress(note.key), { method: "PATCH", headers, body, keepalive: true });
    return reply.status === 412 ? reply : this.checked(reply);
  }

  /** Return a good reply; throw a Refusal for one that trying again will not change, an Error for the rest. */
  async checked(reply) {
    if (reply.ok) return reply;
    if (reply.status >= 500 || reply.status === 408 || reply.status === 429) throw new Error(`status ${reply.status}`);
    throw new Refusal(await replyMessage(reply));
  }

  /** The page may close: send what waits, now. What cannot be sent stays a draft, and the next page saves it. */
  flush() {
    for (const note of this.waiting()) {
      if (note.busy && note.etag) this.send(note, this.changes(note)).catch(() => {});
      else this.save(note);
    }
  }
}

async function replyMessage(reply) {
  try {
    const { error } = await reply.json();
    return error.message ?? String(error);
  } catch {
    return `the service answered ${reply.status}`;
  }
}

/** Return the service's entries, null if this origin has no annotation service, undefined if it does not answer now. */
async function askService() {
  try {
    const reply = await fetch(ENTRIES, { cache: "no-store" });
    if (reply.status >= 500 && reply.status !== 501) return undefined;
    const { interpretations } = reply.ok ? await reply.json() : {};
    return interpretations ? Object.entries(interpretations) : null;
  } catch (error) {
    return error instanceof SyntaxError ? null : undefined;
  }
}

/** Put a keeper behind the notebook: the service if this page came from one, this browser otherwise. */
async function chooseKeeper(notebook, title) {
  const entries = location.protocol.startsWith("http") ? await askService() : null;
  if (entries === null) {
    notebook.keeper = new LocalKeeper(notebook);
    return;
  }
  notebook.keeper = new ServiceKeeper(notebook, title);
  notebook.keeper.start(entries);
}
