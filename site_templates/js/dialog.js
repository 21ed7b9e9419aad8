// A window over the page, made when it is opened and gone when it is closed.

/** Open a dialog with a heading and content, and return it. */
function openDialog(title, ...content) {
  const heading = element("h2", { id: "dialog-title" }, title);
  const close = element("form", { method: "dialog" }, element("button", {}, "Close"));
  const dialog = element("dialog", { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() }, heading, ...content, close);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
