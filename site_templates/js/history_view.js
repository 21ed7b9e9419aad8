// The texts of a note that were replaced, each to be had back.

const REPLACED = { request: "replaced", file: "replaced by an edit of the file", import: "replaced by an import" };

function replacedItem({ text, textBy, lastModified, replacedAt, replacedBy, by }, restore) {
  const written = textBy || lastModified ? ["written ", ...(textBy ? ["by ", element("b", {}, ...visible(textBy)), " "] : []), ...(lastModified ? [moment(lastModified)] : []), ", "] : [];
  const taken = [REPLACED[replacedBy], " ", moment(replacedAt), ...(by ? [" by ", element("b", {}, ...visible(by))] : [])];
  return element("li", {}, element("p", {}, ...written, ...taken), element("pre", { tabindex: "0" }, text || "(empty)"),
    element("button", { type: "button", onclick: () => restore(text) }, "Restore"));
}

/** Show the texts of a note that were replaced. */
async function openHistory(notebook, key, label) {
  const list = element("div", { "aria-live": "polite" }, quiet("Asking the service…"));
  const dialog = openDialog("Earlier texts", element("p", { class: "quiet" }, ...visible(label)), list);
  const restore = (text) => {
    notebook.edit(key, { text });
    dialog.close();
  };
  try {
    const found = await notebook.keeper.history(key);
    list.replaceChildren(found.length ? element("ol", { class: "replaced" }, ...found.map((each) => replacedItem(each, restore)))
      : quiet("No text of this note was replaced yet."));
  } catch (error) {
    list.replaceChildren(element("p", { class: "caution" }, `They cannot be shown: ${error.message}`));
  }
}
