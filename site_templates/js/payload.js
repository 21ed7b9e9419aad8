// Opens the page's data: base64, gzip, JSON (written by `site/payload.py`).

const POLARITIES = ["positive", "negative"];

/** Return the decoded data, with strings and examples put back in place layer by layer as they are shown. */
async function readPayload() {
  const bytes = Uint8Array.from(atob(byId("payload").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** Return a layer of the data with names and features in full; the examples stay columns until `examplesOf`. */
function readLayer(data, layer) {
  const projections = layer.projections.map(({ name, features }) => ({
    name: data.strings[name],
    features: features.map((feature) => ({ ...feature, layer: layer.index, projection: data.strings[name] })),
  }));
  const cosines = layer.cosines.map(([first, second, cosine]) => [data.strings[first], data.strings[second], cosine]);
  return { index: layer.index, projections, cosines };
}

/** Return the examples of a feature's polarity as objects, most extreme first. */
function examplesOf(data, feature, polarity) {
  return examplesFrom(data, feature.examples[POLARITIES.indexOf(polarity)]);
}

/** Return the examples that stand in columns; the token's own activation is exact, those around it may be rounded. */
function examplesFrom(data, columns) {
  let start = 0;
  return columns.length.map((length, row) => {
    const end = (start += length);
    return {
      activation: columns.activation[row],
      example: columns.example[row],
      position: columns.position[row],
      tokenId: columns.token_id[row],
      target: columns.target[row],
      occurrences: columns.occurrences[row],
      tokens: columns.tokens.slice(end - length, end).map((number) => data.strings[number]),
      activations: columns.activations.slice(end - length, end).with(columns.target[row], columns.activation[row]),
    };
  });
}
