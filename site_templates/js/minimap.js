// Where in its whole example a feature fires: up to 64 bars, up for positive, down for negative, the window marked.

const MINIMAP_TALL = 127; // units of a bar of the feature's largest |activation|

function minimapBars(values, sign) {
  let path = "";
  values.forEach((value, bin) => {
    if (sign * value > 0) path += `M${bin} ${MINIMAP_TALL}v${-value}h1V${MINIMAP_TALL}z`;
  });
  return path;
}

// Cloned for each example: hundreds of them are made at once.
const bareMinimap = drawing("svg", { class: "minimap", "aria-hidden": "true", preserveAspectRatio: "none" },
  drawing("rect", { y: 0, height: 2 * MINIMAP_TALL, class: "shown" }), drawing("path", { class: "above" }), drawing("path", { class: "below" }));

/** Return a picture of an example's minimap; [start, stop) of `length` tokens are those shown. */
function minimapPicture(values, start, stop, length) {
  const bins = values.length;
  const [from, to] = [(start / length) * bins, (stop / length) * bins];
  const picture = bareMinimap.cloneNode(true);
  const [shown, above, below] = picture.children;
  picture.setAttribute("viewBox", `0 0 ${bins} ${2 * MINIMAP_TALL}`);
  shown.setAttribute("x", from);
  shown.setAttribute("width", Math.max(to - from, bins / 40));
  above.setAttribute("d", minimapBars(values, 1));
  below.setAttribute("d", minimapBars(values, -1));
  return picture;
}
