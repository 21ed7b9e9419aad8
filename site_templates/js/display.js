// How activations become colours, as the reader chose: one choice for the whole page, kept in this browser.

const SHADES = 8;
const SCALES = {
  own: "each feature’s own scale",
  shared: "one scale for all features",
  effect: "effect size",
};
const PALETTES = { "red-blue": "red and blue", "orange-purple": "orange and purple" };
const STANDARD_DISPLAY = { scale: "own", threshold: 0, intensity: 100, spaces: false, palette: "red-blue" };

const display = {
  ...STANDARD_DISPLAY,
  watchers: [],

  restore() {
    const last = recall("loradash:display") ?? {};
    for (const [name, usual] of Object.entries(STANDARD_DISPLAY)) if (typeof last[name] === typeof usual) this[name] = last[name];
    if (!Object.hasOwn(SCALES, this.scale)) this.scale = STANDARD_DISPLAY.scale;
    if (!Object.hasOwn(PALETTES, this.palette)) this.palette = STANDARD_DISPLAY.palette;
    document.documentElement.dataset.palette = this.palette;
  },

  set(name, value) {
    this[name] = value;
    keep("loradash:display", Object.fromEntries(Object.keys(STANDARD_DISPLAY).map((each) => [each, this[each]])));
    document.documentElement.dataset.palette = this.palette;
    for (const watcher of this.watchers) watcher(name);
  },
};

/** Return the value that a share of the values do not exceed; NaN stands for what is not known. */
function quantileOf(values, share) {
  const known = values.filter((value) => !Number.isNaN(value)).sort();
  return known.length ? known[Math.min(Math.floor(share * known.length), known.length - 1)] : NaN;
}

/** Return the scales that an adapter's features share: what 95 % of the features' own scales do not exceed. */
function sharedScales(adapter) {
  if (!adapter.shared) {
    const { scale, effect_scale: effect } = adapter.columns;
    adapter.shared = { activation: quantileOf(scale, 0.95), effect: quantileOf(scale.map((value, feature) => value * effect[feature]), 0.95) };
  }
  return adapter.shared;
}

/**
 * Return the |activation| that gets a feature's full colour. Its own scale is what 0.1 % of its tokens exceed on one
 * side; on effect sizes, or shared by all features, it is where most features' own scales end.
 */
function fullColour({ adapter, number }) {
  const own = adapter.columns.scale[number];
  const full = {
    own: () => own,
    shared: () => sharedScales(adapter).activation,
    effect: () => sharedScales(adapter).effect / adapter.columns.effect_scale[number],
  }[display.scale]();
  return ((Number.isFinite(full) ? full : own) * 100) / display.intensity;
}

/** Return the class of an activation's shade, "" for one below the threshold or too small to see. */
function shade(value, full) {
  const share = full > 0 ? Math.min(Math.abs(value) / full, 1) : 0;
  const level = share * 100 < display.threshold ? 0 : Math.round(share * SHADES);
  return level === 0 ? "" : `${value > 0 ? "p" : "n"}${level}`;
}
