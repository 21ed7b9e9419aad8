// Takes notes from a file: first says what that would change, then does it, and takes it back if wished.

const KINDS = [
  ["added", "new notes, or what notes lacked"],
  ["kept", "differ from what is here, which stays"],
  ["replaced", "replaced by the file's"],
];
const REFUSED_SHOWN = 20;

function keysBlock(title, keys) {
  return element("details", {}, element("summary", {}, title), element("ul", {}, ...keys.map((key) => element("li", {}, ...visible(key)))));
}

/** Return what a report says, as nodes. */
function reportView({ same, refused, ...report }) {
  const parts = KINDS.filter(([kind]) => report[kind].length).map(([kind, meaning]) => keysBlock(`${count(report[kind].length)}: ${meaning}`, report[kind]));
  if (same) parts.push(element("p", {}, `${count(same)}: the same as here`));
  if (refused.length) parts.push(element("p", {}, `${count(refused.length)}: refused`), element("ul", { class: "refused" },
    ...refused.slice(0, REFUSED_SHOWN).map(({ where, reason }) => element("li", {}, ...visible(`${where}: ${reason}`)))));
  return parts.length ? parts : [quiet("There are no notes in this file.")];
}

/** The dialog's steps: a file is chosen, looked at, imported, and perhaps the import undone. */
class ImportDialog {
  constructor(notebook) {
    this.keeper = notebook.keeper;
    const input = element("input", { type: "file", accept: this.keeper.importsFrom, "aria-label": "File of notes", onchange: () => this.attempt(() => this.look(input.files[0])) });
    this.report = element("div", { class: "report", role: "status" });
    this.choices = element("p", { class: "choices" });
    openDialog("Import notes", quiet(`From ${this.keeper.importsFrom.replaceAll(",", " or ")}, as exported here or elsewhere. Nothing is changed before you have seen what would be.`), input, this.report, this.choices);
  }

  async attempt(step) {
    this.choices.replaceChildren();
    try {
      await step();
    } catch (error) {
      this.report.replaceChildren(element("p", { class: "caution" }, ...visible(error.message)));
    }
  }

  button(text, step) {
    return element("button", { type: "button", onclick: () => this.attempt(step) }, text);
  }

  async look(file) {
    this.request = { name: file.name, content: await file.text() };
    const report = await this.keeper.importNotes({ ...this.request, replace: false, dryRun: true });
    this.report.replaceChildren(...reportView(report));
    if (report.added.length) this.choices.append(this.button("Import what is new", () => this.take(false)));
    if (report.kept.length) this.choices.append(this.button(`Import all, and replace ${count(report.kept.length)}`, () => this.take(true)));
  }

  async take(replace) {
    const report = await this.keeper.importNotes({ ...this.request, replace, dryRun: false });
    this.report.replaceChildren(element("p", {}, "Imported."), ...reportView(report));
    if (report.import !== null) this.choices.append(this.button("Undo", () => this.undo(report.import)));
  }

  async undo(id) {
    const { undone, kept } = await this.keeper.undoImport(id);
    this.report.replaceChildren(element("p", {}, `${count(undone.length)} as they were before.`),
      ...(kept.length ? [keysBlock(`${count(kept.length)}: changed since, so they stay`, kept)] : []));
  }
}

function installImport(notebook) {
  byId("import").addEventListener("click", () => new ImportDialog(notebook));
}
