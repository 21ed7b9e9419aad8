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
function queueHints() {
  const hints = [["Ctrl Enter", "done, next"], ["Esc", "out of the text, then (in it with Alt):"], ...tagKeys(), ["1–5", "confidence"],
    ["k", "skip"], ["b", "back"], ["z", "undo"], ["n", "next"], ["?", "all keys"]];
  return element("p", { class: "hints" }, ...hints.flatMap(([key, text]) => [element("span", {}, element("kbd", {}, key), " ", ...visible(text)), " "]));
}
