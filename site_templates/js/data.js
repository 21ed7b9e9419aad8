// The page's data, part by part as views ask for it (written by `site/payload.py`, which says what the parts hold).

const POLARITIES = ["positive", "negative"];
const LAYERS_KEPT = 6; // opened layers; others are opened again when they are shown again

/** Return the place after each list's last entry, and 0 before the first: (lists + 1,). */
function ends(counts) {
  const made = new Uint32Array(counts.length + 1);
  for (let place = 0; place < counts.length; place += 1) made[place + 1] = made[place] + counts[place];
  return made;
}

/** A part that is opened once, when it is first asked for; a failure is not kept. */
class Once {
  constructor(open) {
    this.open = open;
  }

  get() {
    this.opened ??= this.open().catch((error) => { this.opened = undefined; throw error; });
    return this.opened;
  }
}

/** The texts: runs of tokens ("segments") of dataset rows, in parts. */
class Texts {
  constructor({ "row": row, "first": first, length, texts: starts }) {
    Object.assign(this, { row, first, length, starts });
    this.parts = starts.map((_, number) => new Once(() => this.openPart(number)));
    this.opened = starts.map(() => null);
  }

  async openPart(number) {
    const { strings, tokens, ids } = await openPart(`texts-${number}`);
    const [start, stop] = [this.starts[number], this.starts[number + 1] ?? this.length.length];
    this.opened[number] = { strings, tokens, ids, start, stop, offsets: ends(this.length.subarray(start, stop)) };
  }

  partOf(segment) {
    let part = this.starts.length - 1;
    while (this.starts[part] > segment) part -= 1;
    return part;
  }

  /** Have the texts of these segments at hand. */
  async have(segments) {
    const needed = new Set(this.starts.length === 1 ? [0] : Array.from(new Set(segments), (segment) => this.partOf(segment)));
    if (this.length.length) await Promise.all(Array.from(needed, (number) => this.parts[number].get()));
  }

  haveAll() {
    return this.length.length ? Promise.all(this.parts.map((part) => part.get())) : Promise.resolve();
  }

  /** Return the texts and ids (-1: not known) of the tokens from `start` to `stop` in a segment that is at hand. */
  tokens(segment, start, stop) {
    const { strings, tokens, ids, start: first, offsets } = this.opened[this.partOf(segment)];
    const numbers = Array.from(tokens.subarray(offsets[segment - first] + start, offsets[segment - first] + stop));
    return { texts: numbers.map((number) => strings[number]), ids: numbers.map((number) => ids[number]) };
  }

  text(segment, place) {
    const { strings, tokens, start, offsets } = this.opened[this.partOf(segment)];
    return strings[tokens[offsets[segment - start] + place]];
  }
}

/** One adapter: its features' main numbers, a value per feature in each of `columns`; its windows, layers, neighbours. */
class Adapter {
  constructor(number, header, columns, texts) {
    Object.assign(this, header, { number, columns, texts });
    this.size = columns.layer.length;
    this.windows = new Once(async () => {
      const windows = await openPart(`windows-${number}`);
      return { ...windows, lists: ends(windows.counts), values: ends(windows.length) };
    });
    this.neighbours = new Once(async () => {
      const found = await openPart(`neighbours-${number}`);
      return { ...found, lists: ends(found.counts) };
    });
    this.opened = new Map();
  }

  /** Return the numbers of the features of the layer at `place`. */
  featuresOf(place) {
    const all = [];
    for (let feature = 0; feature < this.size; feature += 1) if (this.columns.layer[feature] === place) all.push(feature);
    return all;
  }

  layerOf(feature) {
    return this.layers[this.columns.layer[feature]];
  }

  projectionOf(feature) {
    return this.projections[this.columns.projection[feature]];
  }

  componentOf(feature) {
    const component = this.columns.component[feature];
    return component < 0 ? null : component;
  }

  /** Return the number of a feature, -1 if there is none. */
  find(layer, projection, component) {
    const [place, name] = [this.layers.indexOf(layer), this.projections.indexOf(projection)];
    const number = component ?? -1;
    return this.columns.layer.findIndex((each, feature) =>
      each === place && this.columns.projection[feature] === name && this.columns.component[feature] === number);
  }

  /** Return a layer in full, with its features and everything that their examples need at hand. */
  layer(place) {
    const found = this.opened.get(place) ?? new Once(() => this.openLayer(place));
    this.opened.delete(place);
    this.opened.set(place, found); // the latest stand last
    if (this.opened.size > LAYERS_KEPT) this.opened.delete(this.opened.keys().next().value);
    return found.get();
  }

  async openLayer(place) {
    const [part, windows] = await Promise.all([openPart(`layer-${this.number}-${place}`), this.windows.get()]);
    const numbers = this.featuresOf(place);
    const [first, last] = [windows.lists[2 * numbers[0]], windows.lists[2 * numbers.at(-1) + 2]];
    const listed = new Examples(this.texts, windows, columnsOf(part, "listed"), first);
    const drawn = columnsOf(part, "drawn");
    const samples = new Examples(this.texts, { ...drawn, values: ends(drawn.length) }, drawn, 0);
    await this.texts.have([...windows.segment.subarray(first, last), ...drawn.segment]);
    let sample = 0;
    const lists = ends(drawn.counts);
    const features = numbers.map((number, row) => ({
      number,
      adapter: this,
      layer: this.layers[place],
      projection: this.projectionOf(number),
      component: this.componentOf(number),
      keys: this.keys[number],
      statistics: { ...statisticsOf(part, "all", row), histogram: part.histograms[row] },
      filtered: Number.isNaN(part["filtered.min"][row]) ? null : statisticsOf(part, "filtered", row),
      examples: POLARITIES.map((_, side) => new ExampleList(listed, windows.lists[2 * number + side], windows.lists[2 * number + side + 1])),
      samples: part.samples[row].map((each) => ({ ...each, examples: new ExampleList(samples, lists[sample], lists[++sample]) })),
    }));
    return { index: this.layers[place], place, features, cosines: { ...columnsOf(part, "cosines"), directions: part.directions, one: part.one } };
  }
}

const SEVERAL = { quantiles: 9, density: 4 }; // values per feature

/** Return a feature's statistics as an object; null for what is not known. */
function statisticsOf(part, kind, row) {
  const known = (value) => (Number.isNaN(value) ? null : value);
  return Object.fromEntries(Object.entries(columnsOf(part, kind)).map(([name, column]) => {
    if (!(name in SEVERAL)) return [name, known(exact(column, row))];
    const first = row * SEVERAL[name];
    return [name, Number.isNaN(column[first]) ? null : Array.from({ length: SEVERAL[name] }, (_, place) => exact(column, first + place))];
  }));
}

function columnsOf(part, kind) {
  const named = Object.entries(part).filter(([name]) => name.startsWith(`${kind}.`));
  return Object.fromEntries(named.map(([name, column]) => [name.slice(kind.length + 1), column]));
}

/** Examples as columns: their windows, and what is known of each; `first` is the window of the first one. */
class Examples {
  constructor(texts, windows, known, first) {
    Object.assign(this, { texts, windows, known, first });
    this.minimaps = ends(known.bins);
  }

  /** Return the example of a window as an object. */
  get(window) {
    const { texts, windows, known, first } = this;
    const [segment, start, length, target] = ["segment", "start", "length", "target"].map((name) => windows[name][window]);
    const values = windows.values[window] - windows.values[first];
    const row = window - first;
    const activations = known.activations.subarray(values, values + length);
    return {
      segment, start, target, activations,
      activation: exact(activations, target),
      example: texts.row[segment],
      position: texts.first[segment] + start + target,
      occurrences: known.occurrences[row],
      minimap: known.minimap.subarray(this.minimaps[row], this.minimaps[row + 1]),
    };
  }
}

/** Some examples that stand one after the other, made when they are asked for. */
class ExampleList {
  constructor(examples, start, stop) {
    Object.assign(this, { examples, start, length: stop - start });
  }

  all() {
    return Array.from({ length: this.length }, (_, place) => this.examples.get(this.start + place));
  }
}

async function openData() {
  const head = await openPart("head");
  const texts = new Texts(head);
  const adapters = head.adapters.map((header, number) => new Adapter(number, header, columnsOf(head, String(number)), texts));
  return { title: head.title, notes: head.notes, texts, adapters };
}
