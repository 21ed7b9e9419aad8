// A person's own tags and confidence as buttons, and what the others said.

let rowsOpen = recall("loradash:rows") === true; // one choice for all notes

function setRows(notebook, open) {
  rowsOpen = open;
  keep("loradash:rows", open || null);
  notebook.redraw();
}

function pressable(label, title, press) {
  return element("button", { type: "button", "aria-pressed": "false", title, onclick: press }, ...visible(label));
}

function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

/** Return [the row of a person's own tags and confidence, the function that makes it show a note]. */
function labelRow(notebook, key, label) {
  const edit = (change) => notebook.edit(key, change(notebook.note(key)));
  const tags = element("span", { class: "tags" });
  const none = pressable("none fits", "I have looked: none of the tags fits", () => edit(toggledNone));
  none.classList.add("none");
  const input = element("input", { type: "text", size: "8", placeholder: "+ tag", "aria-label": `Another tag: ${label}`, maxlength: String(LONGEST_TAG), autocomplete: "off",
    onkeydown: (event) => { if (event.key === "Enter") addTag(); }, onchange: () => addTag() });
  const sure = CONFIDENCES.map((value) => pressable(String(value), `Confidence ${value}: 1 is a guess, 5 certain`, () => edit((note) => toggledConfidence(note, value))));
  const addTag = () => {
    const tag = nameFrom(input.value, LONGEST_TAG);
    input.value = "";
    if (!tag) return;
    ownTags.remember(tag);
    if (!ownLabel(notebook.note(key))?.tags?.includes(tag)) edit((note) => toggledTag(note, tag));
  };
  const past = notebook.keeper.history ? [element("button", { type: "button", class: "past", "aria-label": `Earlier texts: ${label}`, onclick: () => openHistory(notebook, key, label) }, "earlier texts")] : [];
  let offered = [];
  const show = (note) => {
    const own = ownLabel(note);
    const names = offeredTags(note);
    if (!sameList(names, offered)) tags.replaceChildren(...names.map((name) => pressable(name, "", () => edit((each) => toggledTag(each, name)))));
    offered = names;
    names.forEach((name, place) => press(tags.children[place], Boolean(own?.tags?.includes(name))));
    press(none, own?.tags?.length === 0);
    sure.forEach((button, place) => press(button, own?.confidence === CONFIDENCES[place]));
  };
  const row = element("div", { role: "group", "aria-label": `Your tags: ${label}` }, tags, none, input,
    element("span", { class: "sure", role: "group", "aria-label": `Confidence: ${label}` }, "sure? ", ...sure), ...past);
  return [row, show];
}

/** Return a time for reading; what is none as it is. */
function moment(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return element("span", {}, ...visible(String(text)));
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return element("time", { datetime: text }, `${day} ${two(date.getHours())}:${two(date.getMinutes())}`);
}

/** Return who wrote a text, and when: nodes, none if nobody gave a name. */
function writer({ textBy, textAt }) {
  if (!textBy) return [];
  return [element("b", {}, ...visible(textBy)), ...(textAt ? [" ", moment(textAt)] : [])];
}

function labelItem(name, { tags, confidence, at }) {
  const said = tags?.length === 0 ? ["none fits"] : (tags ?? []).map((tag) => element("span", { class: "tag" }, ...visible(tag)));
  return element("li", {}, element("b", {}, ...visible(name)), " ", ...said.flatMap((each) => [each, " "]),
    confidence ? `sure: ${confidence} of 5 ` : "", at ? moment(at) : "");
}

/**
 * Return who wrote the text, and what people say beside it; the person's own label stands in the row where that is `open`.
 * `blind`, what others say is there only once the person has said something.
 */
function peopleSay(note, { open, blind }) {
  const names = blind && !ownLabel(note) ? [] : Object.keys(note.labels).filter((name) => !(open && name === person.labeller));
  const by = note.text ? writer(note) : [];
  return [
    ...(by.length ? [element("p", { class: "writer" }, "written by ", ...by)] : []),
    ...(names.length ? [element("ul", { class: "labels" }, ...names.map((name) => labelItem(name, note.labels[name])))] : []),
  ];
}
