"""The dashboard: one HTML file that carries its data, its script and its style, and needs no network.

Where the data would make that file too large, the page's own data stay in it and the rest lies in a directory beside
it, in scripts that the page loads as it needs them, also from `file://`, where nothing else may be loaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from loradash_assets.site.environment import csp_hash, environment, source
from loradash_assets.site.page import Note, Page
from loradash_assets.site.payload import HEAD, parts

STYLES = (
    "css/theme.css",
    "css/layout.css",
    "css/panels.css",
    "css/notes.css",
    "css/tokens.css",
    "css/overview.css",
    "css/feature.css",
    "css/queue.css",
    "css/print.css",
)
# One script, in an order in which every file uses only what stands above it when it runs.
SCRIPTS = (
    "js/dom.js",
    "js/text.js",
    "js/storage.js",
    "js/parts.js",
    "js/data.js",
    "js/display.js",
    "js/minimap.js",
    "js/tokens.js",
    "js/widen.js",
    "js/tooltip.js",
    "js/histogram.js",
    "js/statistics.js",
    "js/cosines.js",
    "js/person.js",
    "js/seen.js",
    "js/note.js",
    "js/notebook.js",
    "js/labels.js",
    "js/drafts.js",
    "js/service.js",
    "js/local_import.js",
    "js/local.js",
    "js/dialog.js",
    "js/history_view.js",
    "js/label_view.js",
    "js/conflict_view.js",
    "js/note_view.js",
    "js/samples.js",
    "js/panels.js",
    "js/address.js",
    "js/search.js",
    "js/table.js",
    "js/map.js",
    "js/layer_view.js",
    "js/overview.js",
    "js/feature_view.js",
    "js/queue_order.js",
    "js/queue_undo.js",
    "js/queue_keys.js",
    "js/queue_blind.js",
    "js/queue_view.js",
    "js/controls.js",
    "js/help.js",
    "js/header.js",
    "js/import_view.js",
    "js/main.js",
)


FILE_NAME = re.compile(r"[a-z]+-[0-9-]+-[0-9a-f]{16}\.js")  # of a part's file: the part, a digest of its content


@dataclass(frozen=True)
class Dashboard:
    """A page, and the files of the directory beside it that it needs, by name: none for one that carries all."""

    html: str
    files: Mapping[str, str]


def render_dashboard(page: Page, notes: Mapping[str, Note]) -> str:
    """Return the dashboard as one HTML file; the same page and notes give the same text.

    `notes` by key of interpretations.json; those of features that the page does not show are left out.
    """
    return _html(page.title, parts(page, notes), {})


def split_dashboard(page: Page, notes: Mapping[str, Note], directory: str, largest: int) -> Dashboard:
    """Return the dashboard as one file if its data are no longer than `largest` characters, else with files beside it.

    They are for a directory of the name `directory`, relative to the page. A file's name holds a digest of its content,
    so that a page never gets the data of another build.
    """
    made = parts(page, notes)
    if sum(map(len, made.values())) <= largest:
        return Dashboard(_html(page.title, made, {}), {})
    head = {HEAD: made.pop(HEAD)}
    files = {_file_name(name, text): f'loradashPart("{name}", "{text}");\n' for name, text in made.items()}
    addresses = {name: f"{directory}/{file}" for name, file in zip(made, files, strict=True)}
    return Dashboard(_html(page.title, head, addresses), files)


def _file_name(part: str, text: str) -> str:
    return f"{part}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.js"


def _html(title: str, made: Mapping[str, str], addresses: Mapping[str, str]) -> str:
    # In a function, so that nothing of it becomes a name of the window's. It runs before the browser has read the rest.
    script = Markup('(() => {\n"use strict";\n') + source(SCRIPTS) + Markup("})();\n")
    style = source(STYLES)
    return (
        environment()
        .get_template("dashboard.html")
        .render(
            title=title,
            policy=content_security_policy(script, style, loads_files=bool(addresses)),
            style=style,
            script=script,
            parts={name: Markup(text) for name, text in made.items()},  # noqa: S704 (base64: nothing to escape)
            addresses=addresses,
            first=[name for name in made if name in (HEAD, "windows-0", "layer-0-0") or name.startswith("texts-")],
        )
    )


def content_security_policy(script: str, style: str, *, loads_files: bool = False) -> str:
    """Return a policy under which only this script and style run, and only the page's own origin is asked for data.

    Trusted types make the browser refuse a string where HTML is parsed, should the script ever pass one. A page that
    loads files may add scripts: those that its own script adds, by addresses that its one policy for them lets pass.
    """
    scripts, types = ("'strict-dynamic'", "loradash") if loads_files else ("", "'none'")
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {csp_hash(script)} {scripts}".rstrip(),
            f"style-src {csp_hash(style)}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            f"trusted-types {types}",
        )
    )
