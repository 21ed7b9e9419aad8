// What is known of a token: on hover, on keyboard focus and on tap (a tap focuses). Arrow keys walk from token to token,
// Enter widens the example.

function tooltipRows({ run, place }) {
  return run.facts(place).flatMap(([label, text]) => [element("dt", {}, label), element("dd", {}, text)]);
}

function showTooltip(span) {
  const tooltip = byId("tooltip");
  const found = tokenPlaces.get(span);
  tooltip.replaceChildren(element("p", {}, ...visible(found.run.texts[found.place])), element("dl", {}, ...tooltipRows(found)));
  tooltip.hidden = false;
  const [token, box] = [span.getClientRects()[0] ?? span.getBoundingClientRect(), tooltip.getBoundingClientRect()];
  const left = Math.min(Math.max(token.left, 8), document.documentElement.clientWidth - box.width - 8);
  const below = token.bottom + 8 + box.height < window.innerHeight;
  tooltip.style.left = `${Math.max(left, 8)}px`;
  tooltip.style.top = `${below ? token.bottom + 8 : Math.max(token.top - box.height - 8, 8)}px`;
  span.setAttribute("aria-describedby", "tooltip");
}

function hideTooltip() {
  byId("tooltip").hidden = true;
  byId("tooltip").replaceChildren();
  document.querySelector("[aria-describedby=tooltip]")?.removeAttribute("aria-describedby");
}

/** Return the token that an arrow key leads to from `span`, or null. */
function neighbour(span, key) {
  if (key === "ArrowLeft") return span.previousElementSibling;
  if (key === "ArrowRight") return span.nextElementSibling;
  const item = span.closest("li");
  if (key === "ArrowUp") return item.previousElementSibling?.querySelector(".target");
  if (key === "ArrowDown") return item.nextElementSibling?.querySelector(".target");
  return null;
}

function walkTokens(event) {
  const span = event.target.closest(".token");
  if (!span || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape") hideTooltip();
  if (event.key === "Enter") span.closest("li").querySelector(event.shiftKey ? ".measure a" : ".wider")?.click();
  if (!event.key.startsWith("Arrow")) return;
  event.preventDefault();
  neighbour(span, event.key)?.focus();
}

/** Listen within `view`. One token of each panel is a tab stop; the focused one becomes it. */
function installTooltip(view) {
  const over = (show) => (event) => {
    const span = event.target.closest?.(".token");
    if (span) show(span);
  };
  view.addEventListener("pointerover", over((span) => { hideTooltip(); showTooltip(span); }));
  view.addEventListener("pointerout", over(hideTooltip));
  view.addEventListener("focusin", over((span) => {
    for (const stop of span.closest("ol").querySelectorAll("[tabindex='0']")) stop.tabIndex = -1;
    span.tabIndex = 0;
    hideTooltip();
    showTooltip(span);
  }));
  view.addEventListener("focusout", over(hideTooltip));
  view.addEventListener("keydown", walkTokens);
  window.addEventListener("scroll", hideTooltip, { passive: true, capture: true });
}
