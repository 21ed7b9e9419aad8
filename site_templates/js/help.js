// What the keys do.

const KEYS = [
  ["← →", "previous and next layer, or feature on a feature's page"],
  ["o", "overview"],
  ["l", "layer view"],
  ["q", "queue: one after the other"],
  ["/", "search all features"],
  ["Tab", "to the next list, note or button"],
  ["← → ↑ ↓", "in a list of examples: from token to token, from example to example"],
  ["Enter", "on a token: more of its example, then the whole, then less"],
  ["Shift Enter", "on a token: to the link of its example"],
  ["Esc", "close what is open"],
  ["?", "this help"],
];

function openHelp() {
  byId("help").showModal();
}

function fillHelp() {
  const rows = KEYS.flatMap(([key, meaning]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, meaning)]);
  byId("help").append(
    element("h2", { id: "help-title" }, "Keys"), element("dl", {}, ...rows),
    element("form", { method: "dialog" }, element("button", { autofocus: true }, "Close")));
}
