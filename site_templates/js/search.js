// Finds features by their top tokens, the text around them, their notes and names, as one types.

const FOUND = { tokens: 1, text: 2, notes: 4, name: 8 };
const PLACES = { everywhere: 15, tokens: FOUND.tokens, text: FOUND.text, notes: FOUND.notes };

/** The top tokens and texts of one adapter's examples, made ready for searching once. */
class SearchIndex {
  constructor(adapter) {
    this.adapter = adapter;
    this.made = new Once(() => this.make());
  }

  async make() {
    const { texts } = this.adapter;
    [this.windows] = await Promise.all([this.adapter.windows.get(), texts.haveAll()]);
    this.tokens = ends(texts.length); // each segment's first token, counted over all segments
    this.scans = texts.opened.filter(Boolean).map((part) => joined(part, this.tokens[part.start]));
    this.readTargets();
    return this;
  }

  /** Number the examples' top tokens by their text. */
  readTargets() {
    const { segment, start, target } = this.windows;
    const numbers = new Map();
    this.targets = Uint32Array.from(segment, (each, window) => {
      const text = this.adapter.texts.text(each, start[window] + target[window]);
      if (!numbers.has(text)) numbers.set(text, numbers.size);
      return numbers.get(text);
    });
    this.strings = [...numbers.keys()];
    this.lower = this.strings.map((text) => text.toLowerCase());
  }

  /** Return [text, how often] of a list's top tokens, the most frequent first; `list` is 2 × feature + side. */
  frequent(list) {
    const targets = this.targets.subarray(this.windows.lists[list], this.windows.lists[list + 1]);
    return mostFrequent(targets).map(([target, times]) => [this.strings[target], times]);
  }

  /** Return, for each feature, where it was found (a sum of FOUND), and what `snippet` needs. */
  find(query, where, notes) {
    const wanted = query.toLowerCase();
    const found = new Uint8Array(this.adapter.size);
    const hits = where & FOUND.text ? this.scan(wanted) : null;
    const target = this.lower.map((text) => text.includes(wanted));
    const { lists, segment, start, length } = this.windows;
    for (let feature = 0; feature < found.length; feature += 1) {
      let places = 0;
      for (let window = lists[2 * feature]; window < lists[2 * feature + 2]; window += 1) {
        if (target[this.targets[window]]) places |= FOUND.tokens;
        const first = this.tokens[segment[window]] + start[window];
        if (hits && hits[first + length[window]] > hits[first]) places |= FOUND.text;
      }
      found[feature] = places & where;
    }
    if (where & FOUND.notes) this.findNotes(wanted, notes, found);
    if (where & FOUND.name) this.findNames(wanted, found);
    return { found, hits, wanted };
  }

  /** Return how many matches begin before each token, over all texts: (tokens + 1,). */
  scan(wanted) {
    const hits = new Uint32Array(this.tokens.at(-1) + 1);
    for (const { text, starts, stops, first } of this.scans) {
      let token = 0;
      for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
        while (starts[token + 1] <= at) token += 1;
        if (at < stops[token]) hits[first + token + 1] += 1; // not in what stands between two texts
      }
    }
    for (let token = 1; token < hits.length; token += 1) hits[token] += hits[token - 1];
    return hits;
  }

  findNotes(wanted, notes, found) {
    this.adapter.keys.forEach((keys, feature) => {
      if (keys.some((key) => notes.get(key)?.text.toLowerCase().includes(wanted))) found[feature] |= FOUND.notes;
    });
  }

  findNames(wanted, found) {
    for (let feature = 0; feature < found.length; feature += 1) {
      if (shortName(this.adapter, feature).toLowerCase().includes(wanted)) found[feature] |= FOUND.name;
    }
  }

  /** Return the first match in a feature's examples as nodes, with what stands around it; none if there is none. */
  snippet(feature, { hits, wanted }) {
    const { lists, segment, start, length, target } = this.windows;
    for (let window = lists[2 * feature]; window < lists[2 * feature + 2]; window += 1) {
      const first = this.tokens[segment[window]];
      const matches = (token) => (hits ? hits[first + token + 1] > hits[first + token] : token === start[window] + target[window] && this.lower[this.targets[window]].includes(wanted));
      for (let token = start[window]; token < start[window] + length[window]; token += 1) {
        if (matches(token)) return this.around(segment[window], start[window], token, wanted);
      }
    }
    return [];
  }

  /** Return the match that begins in `token` of a segment, after what the window shows before it. */
  around(segment, start, token, wanted) {
    const from = Math.max(start, token - TOKENS_BEFORE);
    const to = Math.min(token + wanted.length + TOKENS_AFTER, this.adapter.texts.length[segment]);
    const pieces = this.adapter.texts.tokens(segment, from, to).texts;
    return withMatch(pieces, wanted, lowerLength(pieces.slice(0, token - from)));
  }
}

/** Return a part's texts as one in lower case, where each of its tokens starts and stops, and its first token's number. */
function joined({ strings, tokens, start, stop, offsets }, first) {
  const lower = strings.map((text) => text.toLowerCase());
  const starts = new Uint32Array(tokens.length + 1);
  const stops = new Uint32Array(tokens.length);
  const pieces = [];
  let place = 0;
  for (let segment = 0; segment < stop - start; segment += 1) {
    for (let token = offsets[segment]; token < offsets[segment + 1]; token += 1) {
      starts[token] = place;
      pieces.push(lower[tokens[token]]);
      place += lower[tokens[token]].length;
      stops[token] = place;
    }
    pieces.push("\u0000"); // so that no match reaches from one text into the next
    place += 1;
  }
  starts[tokens.length] = place;
  return { text: pieces.join(""), starts, stops, first };
}

const TOKENS_BEFORE = 6;
const TOKENS_AFTER = 12;

function lowerLength(pieces) {
  return pieces.reduce((length, piece) => length + piece.toLowerCase().length, 0);
}

/** Return the place in the joined pieces of place `at` in the pieces in lower case, which may be longer. */
function placeInText(pieces, at) {
  let [place, left] = [0, at];
  for (const piece of pieces) {
    const lower = piece.toLowerCase().length;
    if (left >= lower) [place, left] = [place + piece.length, left - lower];
    else if (lower === piece.length) return place + left;
    else {
      for (const letter of piece) {
        if (left <= 0) return place;
        [place, left] = [place + letter.length, left - letter.toLowerCase().length];
      }
      return place;
    }
  }
  return place;
}

/** Return the text of the pieces as nodes in which the first match of `wanted` (in lower case) from `start` on is marked. */
function withMatch(pieces, wanted, start = 0) {
  const text = pieces.join("");
  const at = pieces.map((piece) => piece.toLowerCase()).join("").indexOf(wanted, start);
  if (at < 0) return visible(text);
  const [from, to] = [placeInText(pieces, at), placeInText(pieces, at + wanted.length)];
  return [...visible(text.slice(0, from)), element("mark", {}, ...visible(text.slice(from, to))), ...visible(text.slice(to))];
}
