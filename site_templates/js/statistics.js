// The numbers beside a feature's examples, and its histogram when asked for.

let histogramsOpen = false; // one choice for all features, kept while one goes from layer to layer

const STATISTICS = [
  ["min", "lowest activation", short],
  ["max", "highest activation", short],
  ["mean", "mean activation", short],
  ["std", "standard deviation over all tokens", short],
  ["count", "tokens counted, over every example", count],
  ["effect_scale", "times |activation|: the norm of what the feature adds to the module's output", short],
];

function statisticsList(statistics) {
  return STATISTICS.filter(([field]) => statistics[field] !== null).map(([field, meaning, write]) =>
    element("div", { title: `${meaning}: ${statistics[field]}` },
      element("dt", {}, field === "effect_scale" ? "effect scale" : field), element("dd", {}, write(statistics[field]))),
  );
}

function histogramDetails(histogram) {
  const toggled = (event) => {
    if (event.target.open !== histogramsOpen) setHistograms(event.target.open);
  };
  const summary = element("summary", {}, "Histogram ", element("small", {}, "log counts"));
  return element("details", { class: "distribution", open: histogramsOpen, ontoggle: toggled }, summary, histogramPicture(histogram));
}

function setHistograms(open) {
  histogramsOpen = open;
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
  const rows = statisticsList({ ...filtered, effect_scale: null });
  return [element("p", { class: "aside" }, "of the tokens that lists and samples may hold:"), element("dl", {}, ...rows)];
}

function statisticsBlock({ statistics, filtered }) {
  return element("div", { class: "statistics" },
    element("dl", {}, ...statisticsList(statistics)),
    ...filteredStatistics(filtered),
    ...cautions(statistics),
    ...(statistics.histogram ? [histogramDetails(statistics.histogram)] : []),
  );
}
