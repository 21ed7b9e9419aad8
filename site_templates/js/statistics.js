// The numbers beside a feature's examples; more of them and its histogram when asked for.

let distributionsOpen = false; // one choice for all features, kept while one goes from layer to layer

// As in the tables' `quantiles` and `density`.
const QUANTILES = ["0.1 %", "1 %", "5 %", "25 %", "50 %", "75 %", "95 %", "99 %", "99.9 %"];
const MULTIPLES = [1, 2, 3, 5];

const quantile = (name) => ({ quantiles }) => quantiles && quantiles[QUANTILES.indexOf(name)];
const density = (multiple) => (statistics) => statistics.density && statistics.density[MULTIPLES.indexOf(multiple)];
const listed = (names, values) => names.map((name, place) => `${name}: ${values[place]}`).join(", ");
const allQuantiles = ({ quantiles }) => `lowest activation that a share of the tokens does not exceed (${listed(QUANTILES, quantiles)})`;
const allDensities = (statistics) =>
  `share of tokens with |activation| above a multiple of std (${listed(MULTIPLES.map((m) => `${m} std`), statistics.density)})`;

// Name, meaning (or what tells it), value and how it is written.
const STATISTICS = [
  ["min", "lowest activation", ({ min }) => min, short],
  ["max", "highest activation", ({ max }) => max, short],
  ["mean", "mean activation", ({ mean }) => mean, short],
  ["std", "standard deviation over the tokens counted", ({ std }) => std, short],
  ["count", "tokens counted: all that the feature sees, or those that lists may hold", (statistics) => statistics.count, count],
  ["RMS effect", "root mean square over the tokens counted of the norm of what the feature adds to the module's output; comparable across features", ({ rms_effect: effect }) => effect, short],
];
const MORE_STATISTICS = [
  ["1 % quantile", allQuantiles, quantile("1 %"), short],
  ["median", allQuantiles, quantile("50 %"), short],
  ["99 % quantile", allQuantiles, quantile("99 %"), short],
  ["skewness", "third standardised moment; above 0: the longer tail is on the positive side", ({ skewness }) => skewness, short],
  ["kurtosis", "excess kurtosis; 0 for a normal distribution, above 0: heavier tails", ({ kurtosis }) => kurtosis, short],
  ["beyond 3 std", allDensities, density(3), percent],
  ["token explains", "share of the variance that the token alone explains, without its context (omega squared)", ({ token_omega_squared: share }) => share, percent],
  ["position explains", "share of the variance that the position in the example alone explains (omega squared)", ({ position_omega_squared: share }) => share, percent],
  ["effect scale", "times |activation|: the norm of what the feature adds to the module's output", ({ effect_scale: scale }) => scale, short],
];

function statisticsList(entries, statistics) {
  const known = entries.map(([name, meaning, read, write]) => [name, meaning, read(statistics), write]).filter(([, , value]) => value !== null);
  const items = known.map(([name, meaning, value, write]) =>
    element("div", { title: `${typeof meaning === "string" ? meaning : meaning(statistics)}: ${value}` },
      element("dt", {}, name), element("dd", {}, write(value))));
  return items.length ? [element("dl", {}, ...items)] : [];
}

function distributionDetails(statistics) {
  const { histogram } = statistics;
  const content = [...statisticsList(MORE_STATISTICS, statistics), ...(histogram ? [histogramPicture(histogram, statistics.quantiles)] : [])];
  if (content.length === 0) return [];
  const toggled = (event) => {
    if (event.target.open !== distributionsOpen) setDistributions(event.target.open);
  };
  const summary = element("summary", {}, "Distribution ", ...(histogram ? [element("small", {}, "log counts")] : []));
  return [element("details", { class: "distribution", open: distributionsOpen, ontoggle: toggled }, summary, ...content)];
}

function setDistributions(open) {
  distributionsOpen = open;
  for (const details of document.querySelectorAll("details.distribution")) details.open = open;
}

function cautions({ non_finite: nonFinite, tied }) {
  const texts = [];
  if (nonFinite > 0) texts.push(`${count(nonFinite)} activations are NaN or infinite; they are not ranked and not counted.`);
  if (tied) texts.push("Nearly as strong as a neighbouring component: only their span means something.");
  return texts.map((text) => element("p", { class: "caution" }, text));
}

function filteredStatistics(filtered) {
  if (filtered === null) return [];
  return [element("p", { class: "aside" }, "of the tokens that lists and samples may hold:"), ...statisticsList(STATISTICS, filtered)];
}

/** Return all there is to say of a feature's activations. */
function fullStatistics({ statistics, filtered }) {
  const { histogram } = statistics;
  return element("div", { class: "statistics full" },
    ...statisticsList([...STATISTICS, ...MORE_STATISTICS], statistics),
    ...filteredStatistics(filtered),
    ...cautions(statistics),
    ...(histogram ? [histogramPicture(histogram, statistics.quantiles)] : []),
  );
}

/** Return the main numbers, the rest when it is asked for. */
function statisticsBlock({ statistics, filtered }) {
  return element("div", { class: "statistics" },
    ...statisticsList(STATISTICS, statistics),
    ...filteredStatistics(filtered),
    ...cautions(statistics),
    ...distributionDetails(statistics),
  );
}
