"""The OpenAPI document has every route and every code, and every reply is as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import Case, GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from annotation_server.app import create_app
from annotation_server.keys import FeatureKey
from annotation_server.openapi import CODES, OPERATIONS, openapi_document
from annotation_server.store import Store
from tests.annotation_server.in_process import serving
from tests.annotation_server.service import KEY, ROOT, Service, entry_path, running

EXAMPLES = 10  # of each operation, valid and invalid each
# All but the document's own, which schemathesis leaves out.
LABELS = sorted(f"{method} {path}" for method, path in OPERATIONS if path != "/api/openapi.json")
NOTHING_TO_SEND = ("GET /api/health", "GET /api/interpretations")
# What a schema cannot say is refused too: a text without its precondition, a note that was changed meanwhile.
EXCLUDED = [positive_data_acceptance]


def fill(folder: Path) -> None:
    """Notes, a page, its data and its texts, so that every route has something to answer with."""
    labels = {
        "Ann": {"tags": ["a tag"], "confidence": None, "at": "2026-01-20T10:30:00Z", "mood": 1},
        "Bo": {"confidence": 3},
        "Cleo": {"tags": None, "confidence": 3},
    }
    entries = {KEY: {"text": "a", "other": [None], "labels": labels}, "not a key": {"starred": True}}
    (folder / "interpretations.json").write_text(json.dumps({"interpretations": entries, "version": 2}))
    (folder / "page.html").write_text("<!DOCTYPE html><title>the page</title>")
    (folder / "page_data").mkdir()
    (folder / "page_data" / "layer-0.js").write_text("1")
    (folder / "rollout_contexts.json").write_text('{"0": "a b"}')
    (folder / "rollout_tokens.json").write_text('{"0": ["a", " b"]}')


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    folder = tmp_path_factory.mktemp("filled")
    fill(folder)
    with running(folder) as service:
        yield service


def schema_at(port: int) -> OpenApiSchema:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/api/openapi.json")


@pytest.fixture(scope="module")
def operations(filled: Service) -> Mapping[str, APIOperation]:
    schema = schema_at(filled.port)
    return {label: schema[path][method] for label in LABELS for method, path in [label.split(" ", 1)]}


def test_every_route_is_in_the_document_and_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "interpretations.json")
    app: Any = create_app(store, tmp_path / "page.html")
    store.close()
    routes = {(method, re.sub(r":\w+", "", each.path)) for each in app._app.routes for method in each.methods}
    documented = {(method.upper(), path) for path, each in openapi_document()["paths"].items() for method in each}
    assert {(method, path) for method, path in routes if method != "HEAD"} == documented


def test_every_code_is_in_the_document() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "annotation_server").glob("*.py")]
    raised = {tuple(found) for source in sources for found in re.findall(r"ApiError\(\s*(\d+), \"(\w+)\"", source)}
    assert raised | {("404", "not_found"), ("405", "method_not_allowed")} == {
        (str(status), code) for status, codes in CODES.items() for code in codes
    }


@pytest.mark.parametrize("label", LABELS)
def test_replies_to_valid_data_are_as_documented(operations: Mapping[str, APIOperation], label: str) -> None:
    replies_conform(operations[label], GenerationMode.POSITIVE)


@pytest.mark.parametrize("label", [each for each in LABELS if each not in NOTHING_TO_SEND])
def test_replies_to_invalid_data_are_as_documented(operations: Mapping[str, APIOperation], label: str) -> None:
    replies_conform(operations[label], GenerationMode.NEGATIVE)


def replies_conform(operation: APIOperation, mode: GenerationMode) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: Case) -> None:
        case.call_and_validate(excluded_checks=EXCLUDED)

    conforms()


GOOD: Sequence[tuple[str, dict[str, Any]]] = [
    ("GET /", {}),
    ("GET /{directory}/{name}", {"path_parameters": {"directory": "page_data", "name": "layer-0.js"}}),
    ("GET /api/health", {}),
    ("GET /api/interpretations", {}),
    ("POST /api/interpretations", {"body": {"featureKey": KEY, "text": "b", "starred": True, "more": 1}}),
    ("GET /api/interpretations/{key}", {"path_parameters": {"key": KEY}}),
    (
        "PATCH /api/interpretations/{key}",
        {"path_parameters": {"key": KEY}, "headers": {"If-Match": "*"}, "body": {"text": "c", "by": "Ann", "tags": []}},
    ),
    (
        "PATCH /api/interpretations/{key}",
        {"path_parameters": {"key": KEY}, "body": {"by": "Ann", "tags": None, "confidence": 3}},
    ),
    ("GET /api/history/{key}", {"path_parameters": {"key": KEY}}),
    ("GET /api/changes", {}),
    ("POST /api/import", {"body": {"name": "n.json", "content": f'{{"{KEY}": {{}}, "odd": 1}}', "dryRun": False}}),
    ("GET /api/export", {}),
    ("GET /api/export", {"query": {"format": "csv"}}),
    ("GET /api/rollout_context/{rollout_idx}", {"path_parameters": {"rollout_idx": "0"}}),
]


@pytest.mark.parametrize(("label", "sent"), GOOD, ids=[label for label, _ in GOOD])
def test_what_is_sent_well_is_answered_well(
    operations: Mapping[str, APIOperation], label: str, sent: dict[str, Any]
) -> None:
    reply = operations[label].Case(**sent).call_and_validate()
    assert reply.status_code == 200


def test_undoing_is_as_documented(operations: Mapping[str, APIOperation]) -> None:
    body: dict[str, Any] = {"name": "n.csv", "content": "key,text\nlayer_1_up_proj_positive,x\n", "dryRun": False}
    imported = operations["POST /api/import"].Case(body=body).call_and_validate().json()
    undo = operations["POST /api/import/{id}/undo"]
    for import_id, status in ((imported["import"], 200), (imported["import"], 409), ("0", 404)):
        reply = undo.Case(path_parameters={"id": import_id}, body={}).call_and_validate()
        assert reply.status_code == status


def test_recorded_values_are_as_documented(tmp_path: Path) -> None:
    def activations(_: FeatureKey, __: int) -> Sequence[float]:
        return [0.5, float("nan"), 1.0]

    with serving(tmp_path, activations) as port:
        operation = schema_at(port)["/api/activations/{key}"]["GET"]
        case = operation.Case(path_parameters={"key": KEY}, query={"example": "3"})
        assert case.call_and_validate().json()["activations"] == [0.5, None, 1.0]


REFUSED: Sequence[tuple[int, str, str, Any, dict[str, str]]] = [
    (400, "PATCH", entry_path(KEY), b"{", {}),
    (403, "PATCH", entry_path(KEY), {"starred": True}, {"Origin": "http://evil.example"}),
    (412, "PATCH", entry_path(KEY), {"text": "z"}, {"If-Match": '"0"'}),
    (413, "PATCH", entry_path(KEY), b" " * 100_000, {}),
    (415, "PATCH", entry_path(KEY), b"{}", {"Content-Type": "text/plain"}),
    (421, "GET", entry_path(KEY), None, {"Host": "evil.example"}),
    (422, "PATCH", entry_path(KEY), {"confidence": 6, "by": "Ann"}, {}),
    (428, "PATCH", entry_path(KEY), {"text": "z"}, {}),
]


@pytest.mark.parametrize(
    ("status", "method", "path", "body", "headers"), REFUSED, ids=[str(each[0]) for each in REFUSED]
)
def test_refusals_have_their_code(
    filled: Service, status: int, method: str, path: str, body: object, headers: dict[str, str]
) -> None:
    reply = filled.request(method, path, body, headers)
    assert (reply.status, reply.json["error"]["code"] in CODES[status]) == (status, True)
