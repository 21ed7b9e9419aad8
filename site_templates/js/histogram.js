// A feature's histogram: counts on a log scale, red above zero, blue below, zero and quantiles marked.

const HISTOGRAM = { width: 320, height: 96, base: 80 };

/** Return [start, end, count, class] per bar; a bin across zero is cut there. */
function histogramBars({ edges, total, across }) {
  const equal = edges.length === 2; // then they are the first and the last
  const edge = (bin) => (equal ? edges[0] + ((edges[1] - edges[0]) * bin) / total.length : edges[bin]);
  return total.flatMap((all, bin) => {
    const [start, end] = [edge(bin), edge(bin + 1)];
    if (start < 0 && end > 0 && across.length) return [[start, 0, across[0][0], "below"], [0, end, across[0][1], "above"]];
    return [[start, end, all, end <= 0 ? "below" : "above"]];
  });
}

function histogramText(x, anchor, text) {
  return drawing("text", { x, y: HISTOGRAM.height - 4, "text-anchor": anchor, class: "axis" }, text);
}

const TICKS = ["1 %", "25 %", "50 %", "75 %", "99 %"];

/** Return a tick below the bars for some quantiles; `quantiles` as in the tables, null where they are not known. */
function quantileTicks(quantiles, place) {
  const { base } = HISTOGRAM;
  return (quantiles ? TICKS : []).map((name) => {
    const value = quantiles[QUANTILES.indexOf(name)];
    const tall = name === "50 %" ? 6 : 4;
    return drawing("line", { x1: place(value), x2: place(value), y1: base, y2: base + tall, class: "tick" },
      drawing("title", {}, `${name} of the tokens: up to ${short(value)}`));
  });
}

function histogramPicture(histogram, quantiles) {
  const { width, height, base } = HISTOGRAM;
  const [low, high] = [histogram.edges[0], histogram.edges.at(-1)];
  const place = (value) => (high > low ? ((value - low) / (high - low)) * width : width / 2);
  const tallest = Math.log1p(Math.max(1, ...histogram.total));
  const bars = histogramBars(histogram).filter(([, , size]) => size > 0).map(([start, end, size, side]) => {
    const tall = Math.max((Math.log1p(size) / tallest) * (base - 6), 1);
    const wide = Math.max(place(end) - place(start) - 0.5, 0.8);
    const title = drawing("title", {}, `${short(start)} to ${short(end)}: ${count(size)} tokens`);
    return drawing("rect", { x: place(start), y: base - tall, width: wide, height: tall, class: side }, title);
  });
  const zero = low <= 0 && high >= 0
    ? [
        drawing("line", { x1: place(0), x2: place(0), y1: 0, y2: base, class: "zero" }),
        ...(place(0) > 50 && place(0) < width - 50 ? [histogramText(place(0), "middle", "0")] : []),
      ]
    : [];
  return drawing(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "histogram", role: "img", "aria-label": "Histogram, counts on a log scale" },
    drawing("line", { x1: 0, x2: width, y1: base, y2: base, class: "floor" }), ...bars, ...zero, ...quantileTicks(quantiles, place),
    histogramText(0, "start", short(low)), histogramText(width, "end", short(high)),
  );
}
