// Where in its whole example a feature fires: up to 64 bars, up for positive, down for negative, the window marked.

const MINIMAP = { width: 64, height: 16 };

function minimapBars(values, sign) {
  const wide = MINIMAP.width / values.length;
  const middle = MINIMAP.height / 2;
  let path = "";
  values.forEach((value, bin) => {
    const tall = (Math.max(sign * value, 0) / 127) * middle;
    if (tall > 0) path += `M${(bin * wide).toFixed(1)} ${middle}v${(-sign * tall).toFixed(1)}h${wide.toFixed(1)}V${middle}z`;
  });
  return path;
}

/** Return a picture of an example's minimap; [start, stop) of `length` tokens are those shown. */
function minimapPicture(values, start, stop, length) {
  const { width, height } = MINIMAP;
  const [from, to] = [(start / length) * width, (stop / length) * width];
  return drawing("svg", { viewBox: `0 0 ${width} ${height}`, class: "minimap", "aria-hidden": "true", preserveAspectRatio: "none" },
    drawing("rect", { x: from, width: Math.max(to - from, 1.5), y: 0, height, class: "shown" }),
    drawing("path", { d: minimapBars(values, 1), class: "above" }),
    drawing("path", { d: minimapBars(values, -1), class: "below" }));
}
