"""How the two pages are worked: what is where, in one place each, as JavaScript for probe.js."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

PROBE = Path(__file__).with_name("probe.js")


@dataclass(frozen=True)
class Way:
    """Expressions, and where it says so statements, that hold for a page."""

    examples: str  # the first layer's example elements
    layer: str  # something that names the layer in view
    next: str  # go to the next layer
    columns: str  # the columns in view
    projection: str  # of `column`, the name
    example: str  # selector of an example in a panel
    all_columns: str = ""  # statements: show every projection
    search: str = ""  # statements: open what searches; none, and nothing is searched
    type: str = ""  # statements: have `query` be what the field holds
    settled: str = "true"  # whether what is out of sight is drawn as well
    answered: str = ""  # whether what is shown is found for `query`

    def script(self, examples: int) -> str:
        """Return the probe for this page, of which the first layer has so many examples."""
        return f"""(() => {{
const way = {{
  examples: {examples},
  example: {json.dumps(self.example)},
  laidOut: () => inPlace({self.examples}),
  layer: () => {self.layer},
  next: () => {self.next},
  columns: () => [...{self.columns}],
  projection: (column) => {self.projection},
  settled: () => {self.settled},
  type: (query) => {{ {self.type} }},
  answered: (query) => {self.answered or "true"},
}};
{PROBE.read_text(encoding="utf-8")}
window.probe = {{ opened, settled, switches, keystrokes, floor, nodes, read }};
}})()"""


# A page of one paragraph: what any page costs here at least.
EMPTY_PAGE = """<!doctype html><html lang="en"><title>.</title>
<body data-ready><p><span class="token">Nothing.</span></p></body></html>"""
EMPTY = Way(
    examples='document.querySelectorAll("p")',
    layer="document.title",
    next='document.title += "."',
    columns="[]",
    projection='""',
    example="p",
)
ORIGINAL = Way(
    examples='document.querySelector(".layer")?.querySelectorAll(".example") ?? []',
    layer='document.querySelector(".layer:not(.hidden)").dataset.layer',
    next='document.querySelector("#next").click()',
    columns='document.querySelectorAll(".layer:not(.hidden) .column")',
    projection="column.dataset.projection",
    example=".example",
)
LORADASH = Way(
    examples='document.querySelectorAll(".column .panel li")',
    settled='document.querySelector("#view").ariaBusy === null',
    layer='document.querySelector(".column").ariaLabel.split(",")[0]',
    next='document.querySelector("#next").click()',
    columns='document.querySelectorAll(".column")',
    projection='column.ariaLabel.split(", ")[1]',
    example="li",
    all_columns='document.querySelectorAll("#columns input:not(:checked)").forEach((each) => each.click())',
    search='location.hash = "view=overview"',
    type='const field = document.querySelector("#search"); field.value = query; '
    'field.dispatchEvent(new InputEvent("input", { bubbles: true }))',
    answered="document.body.dataset.results === query",
)
