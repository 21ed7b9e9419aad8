// In which order the queue comes to the panels, and at which of them it stops.

/** Return a function that gives numbers from 0 up to 1, the same ones for the same seed (mulberry32, public domain). */
function seededNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Put items into the order that a seed gives, in place (Fisher and Yates, from the last to the second); return them. */
function shuffle(items, seed) {
  const random = seededNumbers(seed);
  for (let place = items.length - 1; place > 0; place -= 1) {
    const other = Math.floor(random() * (place + 1));
    [items[place], items[other]] = [items[other], items[place]];
  }
  return items;
}

function freshSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

/** Return the panels of these features: {adapter, number of the feature, side, key}, positive before negative. */
function panelsOf(adapter, features) {
  return features.flatMap((number) => adapter.keys[number].map((key, side) => ({ adapter, number, side, key })));
}

/**
 * Return the panels of the adapters that have examples, in order: by a column of the overview, or, if `sort` is empty,
 * as the seed says. The seed's order holds for all panels, so that one without examples moves no other.
 */
async function queueOrder(adapters, { sort, order, seed }) {
  const windows = new Map(await Promise.all(adapters.map(async (adapter) => [adapter, await adapter.windows.get()])));
  const panels = adapters.flatMap((adapter) => panelsOf(adapter, sort ? orderedFeatures(adapter, sort, order) : [...adapter.keys.keys()]));
  if (!sort) shuffle(panels, seed);
  return panels.filter(({ adapter, number, side }) => windows.get(adapter).counts[2 * number + side] > 0);
}

/** Say whether two people's labels differ in their tags; one that says nothing of tags differs from none. */
function isDisputed(note) {
  const given = Object.values(note?.labels ?? {}).filter(({ tags }) => tags);
  return new Set(given.map(({ tags }) => JSON.stringify([...tags].sort()))).size > 1;
}

/** Say whether one is done with a panel: it has a text, or a label of the reader's own. */
function isDone(note) {
  return Boolean(note && (note.text.trim() || ownLabel(note)));
}

// Which panels the queue stops at: their name, and whether a note (undefined: there is none) passes.
const QUEUE_FILTERS = {
  all: ["all", () => true],
  open: ["without a text", (note) => !note?.text.trim()],
  mine: ["not labelled by me", (note) => !(note && ownLabel(note))],
  starred: ["starred", (note) => Boolean(note?.starred)],
  disputed: ["where people disagree", isDisputed],
};
