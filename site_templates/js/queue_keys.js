// What the keys do in the queue: outside a field alone, within one together with Alt.

// Key -> what a QueueView does.
const QUEUE_ACTIONS = { n: "next", k: "skip", b: "back", z: "undo", r: "reveal" };
const STANDARD_TAG_KEYS = "dpsou";
const OWN_TAG_KEYS = "67890"; // for the tags that the reader made up, in the order of their first use

/** Return [key, tag] of the tags that a key puts on or off. */
function tagKeys() {
  const keys = [...STANDARD_TAG_KEYS, ...OWN_TAG_KEYS];
  return [...STANDARD_TAGS, ...ownTags.names].slice(0, keys.length).map((tag, place) => [keys[place], tag]);
}

function command(queue, key) {
  if (Object.hasOwn(QUEUE_ACTIONS, key)) return () => queue.act(key);
  if (/^[1-5]$/.test(key)) return () => queue.rate(Number(key));
  const found = tagKeys().find(([each]) => each === key);
  return found && (() => queue.tag(found[1]));
}

/** Return what a key means together with Alt. On macOS that writes other characters, which stay what they are but for the tags'. */
function withAlt({ key, code }) {
  if (/^[a-z0-9]$/i.test(key)) return key.toLowerCase();
  const letter = code.replace(/^Key/, "").toLowerCase();
  return STANDARD_TAG_KEYS.includes(letter) ? letter : "";
}

/** Return what a key does in the queue, undefined if nothing. */
function queueKey(queue, event) {
  const { target, key, altKey, ctrlKey, metaKey, isComposing } = event;
  const field = target.closest?.("textarea, input, select");
  if (isComposing || (field && !byId("view").contains(field))) return undefined;
  if (key === "Enter" && (ctrlKey || metaKey) && !altKey) return () => queue.next();
  if (ctrlKey || metaKey) return undefined;
  if (altKey) return command(queue, withAlt(event));
  if (field) return key === "Escape" && field.closest(".writing") ? () => queue.leave() : undefined;
  if (key === "Enter") return target.closest?.("a, button, summary, .token") ? undefined : () => queue.next();
  return key === "ArrowLeft" ? () => queue.back() : command(queue, key);
}

/** Return what a key does while the next panel is not there yet: what would write does nothing. */
function waitingKey({ key, ctrlKey, metaKey }) {
  const writes = !ctrlKey && !metaKey && (key.length === 1 || key === "Enter");
  return writes ? () => {} : undefined;
}

/** Return the keys of the queue in one line. */
function queueHints() {
  const hints = [["Ctrl Enter", "done, next"], ["Esc", "out of the text, then (in it with Alt):"], ...tagKeys(), ["1–5", "confidence"],
    ["k", "skip"], ["b", "back"], ["z", "undo"], ["n", "next"], ["?", "all keys"]];
  return element("p", { class: "hints" }, ...hints.flatMap(([key, text]) => [element("span", {}, element("kbd", {}, key), " ", ...visible(text)), " "]));
}
