// On which examples a text was written: their digests, the same as in `site/seen.py`.

const SEEN_AROUND = 4; // tokens on each side of the ranked one
const MOST_SEEN = 64;

/** Return the digest of an example, FNV-1a in 8 hex digits: of its ranked token and those around it, and its place there. */
function exampleDigest(texts, target) {
  const from = Math.max(target - SEEN_AROUND, 0);
  const around = texts.slice(from, target + SEEN_AROUND + 1);
  let digest = 0x811c9dc5;
  for (const byte of new TextEncoder().encode([...around, target - from].join("\0"))) digest = Math.imul(digest ^ byte, 0x01000193);
  return (digest >>> 0).toString(16).padStart(8, "0");
}

/** Return the digests of the listed examples of one side of a feature, in their order, each once. */
function examplesSeen(feature, side) {
  const { texts } = feature.adapter;
  const digests = feature.examples[side].all().map(({ segment, start, target, activations }) =>
    exampleDigest(texts.tokens(segment, start, start + activations.length).texts, target));
  return [...new Set(digests)].slice(0, MOST_SEEN);
}

/** Return how many of the examples that a text was written on are still among `present`, null where that is not known. */
function stillSeen({ text, examplesSeen }, present) {
  if (!text || !examplesSeen?.length) return null;
  const [before, now] = [new Set(examplesSeen), new Set(present)];
  const here = [...before].filter((digest) => now.has(digest)).length;
  return { here, all: before.size, stale: 2 * here < before.size };
}
