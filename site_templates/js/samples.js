// Tokens drawn at random across a feature's range, made only when someone opens them.

let samplesOpen = false; // one choice for all features, kept while one goes from layer to layer

function sampleHeading(tag, { interval, low, high, count: tokens, examples }) {
  const name = interval === null ? "At random" : `${short(low)} to ${short(high)}`;
  return element(tag, {}, name, " ", element("small", {}, `${count(examples.length)} of ${count(tokens)}`));
}

/** Return a sample's heading, of the level `tag`, and its list. */
function sampleList(feature, sample, label, tag) {
  const heading = sampleHeading(tag, sample);
  return [heading, itemList(feature, sample.examples, `${label}: ${heading.textContent}`)];
}

function setSamples(open) {
  samplesOpen = open;
  for (const details of document.querySelectorAll("details.samples")) details.open = open;
}

/** Return a feature's samples, from the highest interval down; nothing where there are none. */
function samplesPanel(feature, label) {
  if (feature.samples.length === 0) return [];
  const drawn = element("div", {});
  const toggled = (event) => {
    const { open } = event.target;
    if (open && !drawn.hasChildNodes()) {
      drawn.append(...feature.samples.flatMap((sample) => sampleList(feature, sample, label, "h4")));
      finish(true);
    }
    if (open !== samplesOpen) setSamples(open);
  };
  const summary = element("summary", {}, "Across the range ", element("small", {}, "tokens drawn at random"));
  const details = element("details", { class: "samples", open: samplesOpen, ontoggle: toggled }, summary, drawn);
  return [element("section", { class: "range", "aria-label": `${label}, across the range` }, details)];
}
