// What is shown, as the address says it after `#`, so that every place has a link:
//   view=overview   the overview, with its search, filters, order and colours
//   view=queue      one panel after the other: `index` in the order of `seed`, or of `sort` and `order`; `only`: where to stop;
//                   with `blind=1`, `seed` and `index` alone
//   layer=3         a layer; `show` names the projections, `component.NAME` the component of one
//   layer=3&projection=up_proj[&component=2]   a feature; with `example` and `position` one of its examples
// `adapter` names another adapter than the first.

/** Return the address of a place: its parts in order, without those that are null or empty, then `more` [name, value]. */
function addressOf(adapter, parts, more = []) {
  const named = Object.entries({ adapter: adapter.name, ...parts }).filter(([, value]) => value !== null && value !== "");
  return `#${new URLSearchParams([...named, ...more])}`;
}

function layerAddress(adapter, layer) {
  return addressOf(adapter, { layer });
}

function featureParts({ layer, projection, component }) {
  return { layer, projection, component };
}

function featureAddress(feature) {
  return addressOf(feature.adapter, featureParts(feature));
}

/** Return the address of feature `number` of an adapter. */
function numberAddress(adapter, number) {
  return addressOf(adapter, { layer: adapter.layerOf(number), projection: adapter.projectionOf(number), component: adapter.componentOf(number) });
}

function exampleAddress(feature, { example, position }) {
  return addressOf(feature.adapter, { ...featureParts(feature), example, position });
}

function readAddress() {
  return new URLSearchParams(location.hash.slice(1));
}

/** Return the whole number that the address gives for `name`, null if it gives none. */
function numberIn(address, name) {
  const text = address.get(name);
  return text !== null && /^-?\d+$/.test(text) ? Number(text) : null;
}

/** Take another address in place: no new step for the back button. */
function replaceAddress(address) {
  history.replaceState(history.state, "", `#${address}`);
}

/** Change parts of the address in place. */
function amendAddress(parts) {
  const address = readAddress();
  for (const [name, value] of Object.entries(parts)) {
    if (value === null || value === "") address.delete(name);
    else address.set(name, String(value));
  }
  replaceAddress(address);
}
