"""docs/annotation-api.md names every route, with its methods, and every error's code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from annotation_server.app import create_app
from annotation_server.store import Store
from tests.annotation_server.service import ROOT

DOCS = (ROOT / "docs" / "annotation-api.md").read_text(encoding="utf-8")


def test_every_route_and_method_is_in_the_table_and_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "interpretations.json")
    app: Any = create_app(store, tmp_path / "page.html")
    store.close()
    routes = {
        (method, re.sub(r":\w+", "", route.path)) for route in app._app.routes for method in route.methods - {"HEAD"}
    }
    table = re.findall(r"^\| `(GET|POST|PATCH) (/[^`?]*)(?:\?[^`]*)?` \|", DOCS, re.MULTILINE)
    documented = {(method, path.replace("/{NAME}_data/{file}", "/{directory}/{name}")) for method, path in table}
    assert routes == documented


def test_every_code_is_among_the_errors() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "annotation_server").glob("*.py")]
    raised = {tuple(found) for source in sources for found in re.findall(r"ApiError\(\s*(\d+), \"(\w+)\"", source)}
    assert len(raised) > 10
    rows = re.findall(r"^\| ([\d, ]+) \| ([`\w, ]+) \|", DOCS.split("## Errors")[1], re.MULTILINE)
    documented = {
        (status, code)
        for statuses, codes in rows
        for status in statuses.split(", ")
        for code in re.findall(r"\w+", codes)
    }
    assert raised <= documented
