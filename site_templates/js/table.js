// A table of any number of features: only the rows in sight are in the document.

const ROW_HEIGHT = 34; // px, as in css/overview.css
const ROWS_AROUND = 8;
const ROWS_PRINTED = 1000;

class FeatureTable {
  /** `columns`: [{name, label, title, cell(feature) -> nodes, sorts}]; `sort` is called with the name of a column. */
  constructor(columns, sort) {
    this.columns = columns;
    this.rows = [];
    this.body = element("div", { class: "rows", role: "rowgroup" });
    this.head = element("div", { class: "row heads", role: "row", "aria-rowindex": "1" }, ...columns.map((column) => this.heading(column, sort)));
    this.table = element("div", { class: "table", role: "table", "aria-label": "Features" },
      element("div", { role: "rowgroup", class: "table-head" }, this.head), this.body);
    this.element = element("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Table of features", onscroll: () => this.draw() }, this.table);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.element);
  }

  heading({ name, label, title, sorts, kind = "" }, sort) {
    const content = sorts ? element("button", { type: "button", title, onclick: () => sort(name) }, label) : label;
    return element("div", { role: "columnheader", class: kind, title, "data-column": name }, content);
  }

  /** Show these features, in this order; say which column they are ordered by. */
  fill(rows, sorted, order) {
    this.rows = rows;
    this.table.setAttribute("aria-rowcount", String(rows.length + 1));
    this.body.style.height = `${rows.length * ROW_HEIGHT}px`;
    for (const heading of this.head.children) {
      if (heading.dataset.column === sorted) heading.setAttribute("aria-sort", order === "asc" ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    }
    this.drawn = null;
    this.draw();
  }

  /** Have the first rows in the document, in sight or not, or again those in sight: paper does not scroll. */
  print(begins) {
    this.printing = begins;
    this.draw();
  }

  /** Return the first and the last row to have in the document. */
  range() {
    if (this.printing) return [0, Math.min(ROWS_PRINTED, this.rows.length)];
    const { scrollTop, clientHeight } = this.element;
    return [
      Math.max(Math.floor(scrollTop / ROW_HEIGHT) - ROWS_AROUND, 0),
      Math.min(Math.ceil((scrollTop + clientHeight) / ROW_HEIGHT) + ROWS_AROUND, this.rows.length),
    ];
  }

  draw() {
    const [first, last] = this.range();
    if (this.drawn === `${first} ${last}`) return;
    this.drawn = `${first} ${last}`;
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest(".row").ariaRowIndex : null;
    this.body.replaceChildren(...Array.from({ length: Math.max(last - first, 0) }, (_, place) => this.row(first + place)));
    if (focused) this.body.querySelector(`[aria-rowindex="${focused}"] a`)?.focus({ preventScroll: true });
  }

  row(place) {
    const feature = this.rows[place];
    const cells = this.columns.map(({ cell, kind = "" }) => element("div", { role: "cell", class: kind }, ...cell(feature)));
    const row = element("div", { class: "row", role: "row", "aria-rowindex": String(place + 2) }, ...cells);
    row.style.top = `${place * ROW_HEIGHT}px`;
    return row;
  }
}
