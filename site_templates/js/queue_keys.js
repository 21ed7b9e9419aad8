// What the keys do in the queue: outside a field alone, within one together with Alt.

// Key -> what a QueueView does.
const QUEUE_ACTIONS = { n: "next", k: "skip", b: "back", z: "undo", r: "reveal" };
const TAG_KEYS = [["d", "dense"], ["p", "polysemantic"], ["s", "single token"], ["o", "positional"], ["u", "unclear"]];
const OWN_TAG_KEYS = "67890"; // for the tags that the reader made up, in the alphabet's order

/** Return [key, tag] of the tags that a key puts on or off. */
function tagKeys(notebook) {
  const own = ownTags(notebook).slice(0, OWN_TAG_KEYS.length);
  return [...TAG_KEYS, ...own.map((tag, place) => [OWN_TAG_KEYS[place], tag])];
}

/** Return the tags that the reader made up. */
function ownTags(notebook) {
  const all = [...notebook.notes.values()].flatMap((note) => ownLabel(note)?.tags ?? []);
  return [...new Set(all)].filter((tag) => !TAG_KEYS.some(([, each]) => each === tag)).sort();
}

function command(queue, key) {
  if (Object.hasOwn(QUEUE_ACTIONS, key)) return () => queue.act(key);
  if (/^[1-5]$/.test(key)) return () => queue.rate(Number(key));
  const found = tagKeys(queue.notebook).find(([each]) => each === key);
  return found && (() => queue.tag(found[1]));
}

/** Return what a key does in the queue, undefined if nothing. */
function queueKey(queue, event) {
  const { target, key, code, altKey, ctrlKey, metaKey, isComposing } = event;
  const field = target.closest?.("textarea, input, select");
  if (key === "Enter" && (ctrlKey || metaKey) && !altKey) return () => queue.next();
  if (ctrlKey || metaKey || isComposing) return undefined;
  if (altKey) return command(queue, code.replace(/^(Key|Digit)/, "").toLowerCase()); // the letter itself may be another with Alt
  if (field) return key === "Escape" && field.closest(".writing") ? () => queue.leave() : undefined;
  if (key === "Enter") return target.closest?.("a, button, summary, .token") ? undefined : () => queue.next();
  return key === "ArrowLeft" ? () => queue.back() : command(queue, key);
}

/** Return the keys of the queue in one line. */
function queueHints(notebook) {
  const hints = [["Ctrl Enter", "done, next"], ["Esc", "out of the text, then (in it with Alt):"], ...tagKeys(notebook), ["1–5", "confidence"],
    ["k", "skip"], ["b", "back"], ["z", "undo"], ["n", "next"], ["?", "all keys"]];
  return element("p", { class: "hints" }, ...hints.flatMap(([key, text]) => [element("span", {}, element("kbd", {}, key), ` ${text}`), " "]));
}
