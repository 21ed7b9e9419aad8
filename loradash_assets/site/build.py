"""The dashboard: one HTML file that carries its data, its script and its style, and needs no network."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from loradash_assets.site.environment import csp_hash, environment, source
from loradash_assets.site.page import Note, Page
from loradash_assets.site.payload import payload

STYLES = ("css/theme.css", "css/layout.css", "css/panels.css", "css/tokens.css", "css/print.css")
# One module script, in an order in which every file uses only what stands above it when it runs.
SCRIPTS = (
    "js/dom.js",
    "js/payload.js",
    "js/text.js",
    "js/storage.js",
    "js/tokens.js",
    "js/tooltip.js",
    "js/histogram.js",
    "js/statistics.js",
    "js/cosines.js",
    "js/note.js",
    "js/notebook.js",
    "js/service.js",
    "js/local.js",
    "js/note_view.js",
    "js/samples.js",
    "js/panels.js",
    "js/header.js",
    "js/main.js",
)


def render_dashboard(page: Page, notes: Mapping[str, Note]) -> str:
    """Return the dashboard as HTML; the same page and notes give the same text.

    `notes` by key of interpretations.json; those of features that the page does not show are left out.
    """
    script, style = source(SCRIPTS), source(STYLES)
    return (
        environment()
        .get_template("dashboard.html")
        .render(
            title=page.title,
            policy=content_security_policy(script, style),
            style=style,
            script=script,
            payload=Markup(payload(page, notes)),  # noqa: S704 (base64: nothing to escape)
        )
    )


def content_security_policy(script: str, style: str) -> str:
    """Return a policy under which only this script and style run, and only the page's own origin is asked for data.

    Trusted types make the browser refuse a string where HTML is parsed, should the script ever pass one.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {csp_hash(script)}",
            f"style-src {csp_hash(style)}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
