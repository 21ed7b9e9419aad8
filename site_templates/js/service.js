// Keeps notes through the annotation service: as typed, never over a text that this page has not seen, never lost.

const SAVE_DELAY = 500; // ms after the last key
const LONGEST_WAIT = 15_000; // ms between two tries
const ASK_EVERY = 2000; // ms between two questions for what others changed
const LONGEST_TEXT = 16 * 1024; // bytes in UTF-8: a browser sends at most 64 KiB in all when a page closes
const ENTRIES = "/api/interpretations";
const CHANGES = "/api/changes";

class Refusal extends Error {}

function entryAddress(key) {
  return `${ENTRIES}/${encodeURIComponent(key)}`;
}

class ServiceKeeper {
  constructor(notebook, title) {
    Object.assign(this, { notebook, importsFrom: ".json,.csv" });
    this.drafts = new Drafts(`loradash:draft:${title}:`);
    for (const [key, draft] of this.drafts.takeOver()) restore(notebook.note(key), draft);
    addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.flush() : this.follow()));
    addEventListener("online", () => this.waiting().forEach((note) => this.save(note)));
  }

  /** Return the notes that are to be stored. */
  waiting() {
    return [...this.notebook.notes.values()].filter(isWaiting);
  }

  /** Take in every stored entry, and go on with drafts that were never acknowledged. Undefined: ask again. */
  async start(answer) {
    while (answer === undefined) {
      await new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT / 10));
      answer = await askService();
    }
    this.cursor = answer.cursor;
    this.takeIn(answer, 0);
    this.follow();
  }

  /** Ask for what others changed, again and again while the page is in sight. */
  async follow() {
    clearTimeout(this.timer);
    if (document.hidden || this.asking) return;
    this.asking = true;
    const asked = performance.now();
    try {
      const reply = await this.checked(await fetch(`${CHANGES}?since=${this.cursor}`, { cache: "no-store" }));
      const answer = await reply.json();
      this.cursor = answer.cursor;
      this.takeIn(answer, asked);
    } catch {
      // Saving says when the service is down.
    }
    this.asking = false;
    this.timer = setTimeout(() => this.follow(), ASK_EVERY);
  }

  /** Take in entries as they were when somebody `asked`, those of all notes if `complete`. */
  takeIn({ entries, complete }, asked) {
    const stored = new Map(Object.entries(entries));
    const keys = complete ? new Set([...stored.keys(), ...this.notebook.notes.keys()]) : stored.keys();
    const changed = [];
    for (const key of keys) {
      const note = this.notebook.note(key);
      if (isKnown(note, stored.get(key)) && !isChanged(note)) continue;
      // What was saved here since may be newer, and where one writes, the next save needs an ETag.
      if (note.busy || note.etag || note.touched > asked) {
        this.refresh(note);
        continue;
      }
      adopt(note, stored.get(key));
      if (isChanged(note)) this.edited(note);
      changed.push(note);
    }
    if (changed.length) this.notebook.changed(...changed);
  }

  /** Look at what is stored before the person types, so that the first save can say what it replaces. */
  focused(note) {
    this.refresh(note);
  }

  /** Return the texts of a note that were replaced, the newest first. */
  async history(key) {
    const reply = await this.checked(await fetch(`/api/history/${encodeURIComponent(key)}`, { cache: "no-store" }));
    return (await reply.json()).history;
  }

  /** Take in a file of notes; with `dryRun` only say what that would do. */
  async importNotes(request) {
    const report = await this.post("/api/import", { ...request, ...(person.name && { by: person.name }) });
    if (!request.dryRun) this.follow();
    return report;
  }

  async undoImport(id) {
    const report = await this.post(`/api/import/${encodeURIComponent(id)}/undo`, {});
    this.follow();
    return report;
  }

  async post(address, body) {
    const headers = { "Content-Type": "application/json" };
    return (await this.checked(await fetch(address, { method: "POST", headers, body: JSON.stringify(body) }))).json();
  }

  async refresh(note) {
    if (note.busy) {
      note.again = true;
      return;
    }
    note.busy = true;
    try {
      await this.fetchEntry(note);
    } catch {
      // The first save asks again, and tells.
    }
    this.release(note);
    this.edited(note);
    this.notebook.changed(note);
  }

  release(note) {
    Object.assign(note, { busy: false, touched: performance.now() });
    if (!note.again) return;
    note.again = false;
    this.refresh(note);
  }

  edited(note) {
    this.keepDraft(note);
    if (!note.etag) etagOf(note.base.text).then((known) => Object.assign(note, { known }));
    note.failures = 0;
    if (isWaiting(note) || note.busy) this.schedule(note, SAVE_DELAY);
    if (note.theirs) note.state = "conflict";
    else if (isChanged(note) || note.busy) note.state = "waiting";
    else if (note.state !== "idle") note.state = "saved";
  }

  /** Keep what is not acknowledged, beside what it replaces; forget it once it is stored. */
  keepDraft(note) {
    this.drafts.keep(note.key, isChanged(note) ? draftOf(note) : null);
  }

  schedule(note, delay) {
    clearTimeout(note.timer);
    note.timer = setTimeout(() => this.save(note), delay);
  }

  async save(note) {
    if (note.busy || !isWaiting(note)) return;
    note.busy = true;
    try {
      if (!note.theirs) this.notebook.setState(note, note.failures ? "retrying" : "saving");
      await this.saveOnce(note);
      note.failures = 0;
      note.state = note.theirs ? "conflict" : isChanged(note) ? "waiting" : "saved";
    } catch (error) {
      this.failed(note, error);
    }
    this.release(note);
    this.keepDraft(note);
    this.notebook.changed(note);
    if (note.state === "waiting") this.schedule(note, SAVE_DELAY);
  }

  /** Save the text, and the rest even where the text is refused. */
  async saveOnce(note) {
    try {
      await this.saveText(note);
    } finally {
      for (const patch of restPatches(note)) await this.store(note, patch);
    }
  }

  async saveText(note) {
    if (isTextChanged(note) && !note.etag) await this.fetchEntry(note);
    const patch = textPatch(note);
    if (patch) await this.store(note, patch, note.etag);
  }

  async store(note, patch, etag) {
    const reply = await this.send(note, patch, etag);
    if (reply.status === 412) {
      await this.fetchEntry(note);
      return;
    }
    markStored(note, patch);
    await this.take(note, reply);
  }

  failed(note, error) {
    if (error instanceof Refusal) {
      Object.assign(note, { state: "refused", detail: error.message });
      return;
    }
    note.failures = (note.failures ?? 0) + 1;
    if (!note.theirs) Object.assign(note, { state: "retrying", detail: "" });
    this.schedule(note, Math.min(SAVE_DELAY * 2 ** note.failures, LONGEST_WAIT));
  }

  async fetchEntry(note) {
    await this.take(note, await this.checked(await fetch(entryAddress(note.key), { cache: "no-store" })));
  }

  /** Take in the entry and the ETag of a reply. */
  async take(note, reply) {
    const { interpretation } = await reply.json();
    note.etag = reply.headers.get("ETag");
    adopt(note, interpretation);
  }

  /** Send a change, in a request that outlives the page; `etag` is that of the text that it replaces. */
  async send(note, patch, etag) {
    if (new TextEncoder().encode(patch.text).length > LONGEST_TEXT) throw new Refusal("longer than 16 KiB");
    if ("text" in patch) {
      note.sent.push(patch.text);
      etagOf(patch.text).then((coming) => Object.assign(note, { coming }));
    }
    this.keepDraft(note);
    const headers = { "Content-Type": "application/json", ...(etag && { "If-Match": etag }) };
    const reply = await fetch(entryAddress(note.key), { method: "PATCH", headers, body: JSON.stringify(patch), keepalive: true });
    return reply.status === 412 ? reply : this.checked(reply);
  }

  /** Return a good reply; throw a Refusal for one that trying again will not change, an Error for the rest. */
  async checked(reply) {
    if (reply.ok) return reply;
    if (reply.status >= 500 || reply.status === 408 || reply.status === 429) throw new Error(`status ${reply.status}`);
    throw new Refusal(await replyMessage(reply));
  }

  /**
   * The page may close: send what waits, now. What cannot be sent stays a draft, and the next page saves it. Where the
   * service has not yet said what is stored, this replaces the text that the page knows. A save that is under way may be
   * stored before or after: this one replaces what it leaves, too.
   */
  flush() {
    for (const note of this.waiting()) {
      const etag = note.etag ?? note.known;
      const text = etag ? textPatch(note) : null;
      const replaced = note.busy && note.coming ? `${etag}, ${note.coming}` : etag;
      if (text) this.send(note, text, replaced).catch(() => {});
      for (const patch of restPatches(note)) this.send(note, patch).catch(() => {});
    }
  }
}

/** Return the ETag that the service will give a text; null where a browser hashes nothing (plain HTTP to another machine). */
async function etagOf(text) {
  if (!crypto.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return `"${Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("")}"`;
}

async function replyMessage(reply) {
  try {
    const { error } = await reply.json();
    return error.message ?? String(error);
  } catch {
    return `the service answered ${reply.status}`;
  }
}

/** Return all that the service has, null if this origin has no annotation service, undefined if it does not answer now. */
async function askService() {
  try {
    const reply = await fetch(CHANGES, { cache: "no-store" });
    if (reply.status >= 500 && reply.status !== 501) return undefined;
    const answer = reply.ok ? await reply.json() : {};
    return answer.cursor ? answer : null;
  } catch (error) {
    return error instanceof SyntaxError ? null : undefined;
  }
}

/** Put a keeper behind the notebook: the service if this page came from one, this browser otherwise. */
async function chooseKeeper(notebook, title) {
  const answer = location.protocol.startsWith("http") ? await askService() : null;
  if (answer === null) {
    notebook.keeper = new LocalKeeper(notebook);
    return;
  }
  notebook.keeper = new ServiceKeeper(notebook, title);
  notebook.keeper.start(answer);
}
