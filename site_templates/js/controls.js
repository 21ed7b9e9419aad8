// The legend: what the colours mean, in numbers, and how the reader wants them.

const LEGEND_SHADES = Array.from({ length: 2 * SHADES + 1 }, (_, step) => (step - SHADES) / SHADES);

/** Return a feature's own legend: which activations have full colour. */
function scaleLegend(feature) {
  const swatches = LEGEND_SHADES.map((share) => element("span", { class: swatchClass(share) }));
  const legend = element("div", { class: "scale-legend", role: "img" },
    element("span", { class: "low" }), element("span", { class: "scale" }, ...swatches), element("span", { class: "high" }));
  legends.set(legend, feature);
  labelLegend(legend);
  return legend;
}

const legends = new WeakMap(); // legend element -> its feature

function labelLegend(legend) {
  const full = fullColour(legends.get(legend));
  legend.querySelector(".low").textContent = short(-full);
  legend.querySelector(".high").textContent = `+${short(full)}`;
  const [high, low] = COLOUR_NAMES[display.palette];
  legend.setAttribute("aria-label", `Colours from ${short(-full)}, full ${low}, over 0 to ${short(full)}, full ${high}`);
  legend.querySelectorAll(".scale > span").forEach((swatch, place) => { swatch.className = swatchClass(LEGEND_SHADES[place]); });
}

function swatchClass(share) {
  return shade(share, 1);
}

function choice(name, label, options) {
  const select = element("select", { id: `display-${name}`, onchange: () => display.set(name, select.value) },
    ...Object.entries(options).map(([value, text]) => element("option", { value, selected: display[name] === value }, text)));
  return element("label", {}, `${label} `, select);
}

function slider(name, label, { min, max, step }) {
  const output = element("output", {}, `${display[name]} %`);
  const input = element("input", { type: "range", id: `display-${name}`, min, max, step, value: display[name], oninput: () => {
    output.textContent = `${input.value} %`;
    display.set(name, Number(input.value));
  } });
  return element("label", {}, `${label} `, input, output);
}

function fillLegend() {
  const spaces = element("input", { type: "checkbox", id: "display-spaces", checked: display.spaces, onchange: () => display.set("spaces", spaces.checked) });
  byId("legend").append(
    element("div", { class: "controls", role: "group", "aria-label": "Colours" },
      choice("scale", "Colour by", SCALES),
      slider("threshold", "from", { min: 0, max: 100, step: 5 }),
      slider("intensity", "intensity", { min: 25, max: 400, step: 25 }),
      element("label", {}, spaces, " mark spaces"),
      choice("palette", "palette", PALETTES)),
    element("p", {}, element("span", { class: "token target" }, "framed"), ": the ranked token. Hover, tap or focus a token for its exact value. ",
      element("button", { type: "button", class: "plain", onclick: openHelp }, "All keys: ?")));
  display.watchers.push((changed) => {
    repaint(changed);
    document.querySelectorAll(".scale-legend").forEach(labelLegend);
  });
}

const COLOUR_NAMES = { "red-blue": ["red", "blue"], "orange-purple": ["orange", "purple"] };
