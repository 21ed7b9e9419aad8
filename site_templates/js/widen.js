// More of an example, in place: a click on its minimap, or Enter on a token, shows four times as much on each side, then the whole example.
// Beyond the window the page itself has the text and the minimap; the annotation service has the activations.

const WIDER = 4;
const bareWidener = element("button", { type: "button", class: "wider", tabindex: "-1" });

/** Return the button that widens an example: its minimap. Nothing where the window is all that is known of the text. */
function widener(shown) {
  const { example, texts } = shown;
  const length = texts.length[example.segment];
  if (length === example.activations.length) return [];
  Object.assign(shown, { from: example.start, to: example.start + example.activations.length, length });
  shown.button = bareWidener.cloneNode();
  shown.button.addEventListener("click", () => widen(shown));
  drawWidener(shown);
  return [shown.button];
}

function isWhole({ from, to, length }) {
  return from === 0 && to === length;
}

function drawWidener(shown) {
  const { example, from, to, length, button } = shown;
  const label = isWhole(shown) ? "Show less of this example" : `Show more of this example of ${count(length)} tokens`;
  const picture = example.minimap.length ? minimapPicture(example.minimap, from, to, length) : isWhole(shown) ? "less" : "more";
  button.setAttribute("aria-label", label);
  button.title = label;
  button.replaceChildren(picture);
}

/** Show the next wider window of an example; after the whole one the first again. */
function widen(shown) {
  const { example, length } = shown;
  const [first, last] = [example.start, example.start + example.activations.length];
  const middle = first + example.target;
  const reach = WIDER * Math.max(middle - shown.from, shown.to - middle);
  const [from, to] = isWhole(shown) ? [first, last] : [Math.max(middle - reach, 0), Math.min(middle + reach, length)];
  // A few tokens more do not need a step of their own.
  const nearly = !isWhole(shown) && to - from > 0.8 * length;
  Object.assign(shown, nearly ? { from: 0, to: length } : { from, to });
  drawWindow(shown);
  if (isWhole(shown) || to - from > last - first) fillWindow(shown);
}

function drawWindow(shown) {
  const { context, from, to, values } = shown;
  const focused = context.contains(document.activeElement);
  hideTooltip();
  context.replaceChildren(...new Run(shown.feature, shown.example, shown.texts, from, to, values ?? null).spans());
  context.classList.toggle("partial", from > 0 || to < shown.length);
  context.querySelector(".target").tabIndex = 0;
  if (focused) context.querySelector(".target").focus({ preventScroll: true });
  drawWidener(shown);
}

/** Ask the service for the activations on the whole example, and colour what is shown with them. */
async function fillWindow(shown) {
  if (shown.values || !location.protocol.startsWith("http")) return;
  const { feature, example } = shown;
  try {
    const reply = await fetch(`/api/activations/${encodeURIComponent(feature.keys[0])}?example=${example.example}`);
    if (!reply.ok) return;
    shown.values = (await reply.json()).activations;
  } catch {
    return; // the text and the minimap stand
  }
  if (shown.context.isConnected) drawWindow(shown);
}
