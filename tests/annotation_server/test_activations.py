"""Recorded activations by HTTP: from whatever the service was given, and nothing where it was given nothing."""

from __future__ import annotations

import http.client
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from annotation_server.activations import Activations, ActivationsUnavailable
from annotation_server.keys import FeatureKey
from tests.annotation_server import in_process
from tests.annotation_server.service import KEY, Reply, Service, exchange

Ask = Callable[..., Reply]
VALUES = [0.1, -0.0, 1e-45, 3.4028235e38, -2.5]


def path(key: str, query: str = "?example=0") -> str:
    return f"/api/activations/{quote(key, safe='')}{query}"


@contextmanager
def serving(folder: Path, activations: Activations) -> Generator[Ask]:
    """The service with what it is given; yields how to GET from it."""
    with in_process.serving(folder, activations) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            yield lambda target, method="GET": exchange(connection, method, target)
        finally:
            connection.close()


def refusal(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.code


def test_what_was_recorded_is_the_answer(tmp_path: Path) -> None:
    asked: list[tuple[FeatureKey, int]] = []

    def given(key: FeatureKey, example: int) -> Sequence[float] | None:
        asked.append((key, example))
        return VALUES if example < 3 else None

    key = "step-200 é?#%/layer_3_experts.3.gate_proj_s2_negative"
    with serving(tmp_path, given) as ask:
        reply = ask(path(key, "?example=2"))
        assert (reply.status, reply.json) == (200, {"featureKey": key, "example": 2, "activations": VALUES})
        assert reply.body.endswith(b'"activations":[0.1,-0.0,1e-45,3.4028235e38,-2.5]}')
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["cache-control"] == "no-store"
        assert ask(f"/api/activations/step/{KEY}?example=0").json["featureKey"] == f"step/{KEY}"
        assert refusal(ask(path(key, "?example=3"))) == (404, "no_such_activations")
        assert ask(path(KEY), "HEAD").status == 200
    step = FeatureKey("step-200 é?#%", 3, "experts.3.gate_proj", ("s", 2), "negative")
    assert asked[:3] == [(step, 2), (FeatureKey("step", 10, "gate_proj", None, "positive"), 0), (step, 3)]


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    with serving(tmp_path, lambda *_: [math.nan, 1.0, math.inf, -math.inf]) as ask:
        assert ask(path(KEY)).json["activations"] == [None, 1.0, None, None]


def test_no_tokens_are_no_activations_but_an_answer(tmp_path: Path) -> None:
    with serving(tmp_path, lambda *_: []) as ask:
        assert ask(path(KEY)).json["activations"] == []


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "?",
            "?example",
            "?example=",
            "?example=-1",
            "?example=00",
            "?example=1.0",
            "?example=1e3",
            "?example=+1",
        ),
        *("?example=%201", "?example=1%0a", "?example=1%00", "?example=%d9%a1", "?example=0x1", "?example=1000000000"),
        *(f"?example={'9' * 5000}", "?example=1&example=1", "?Example=1", "?example[]=1", "?example=NaN"),
    ],
)
def test_a_row_that_is_no_number_is_refused(tmp_path: Path, query: str) -> None:
    with serving(tmp_path, lambda *_: pytest.fail("asked")) as ask:
        assert refusal(ask(path(KEY, query))) == (422, "invalid_example")


@pytest.mark.parametrize(
    "key", ["layer_1", "L1_up_proj_positive", "__proto__", "../layer_1_up_proj_positive", "/", "x/"]
)
def test_a_key_outside_the_grammar_is_refused(tmp_path: Path, key: str) -> None:
    with serving(tmp_path, lambda *_: pytest.fail("asked")) as ask:
        assert refusal(ask(path(key))) == (422, "invalid_key")


def raising(error: Exception) -> Callable[[FeatureKey, int], None]:
    def raises(_: FeatureKey, __: int) -> None:
        raise error

    return raises


def test_what_cannot_be_read_is_a_503_that_says_why(tmp_path: Path) -> None:
    with serving(tmp_path, raising(ActivationsUnavailable("chunk-00003 is damaged"))) as ask:
        reply = ask(path(KEY))
        assert refusal(reply) == (503, "file_unavailable")
        assert "chunk-00003 is damaged" in reply.json["error"]["message"]
        assert ask("/api/health").status == 200


def test_a_service_by_itself_says_who_has_them(shared_service: Service) -> None:
    reply = shared_service.request("GET", path(KEY))
    assert (reply.status, reply.code) == (404, "no_such_activations")
    assert "loradash annotate" in reply.json["error"]["message"]
    assert shared_service.request("GET", path("layer_1")).code == "invalid_key"
    assert shared_service.request("GET", path(KEY, "")).code == "invalid_example"
    assert shared_service.request("PATCH", path(KEY), {}).code == "method_not_allowed"
    assert shared_service.request("GET", path(KEY), headers={"Host": "evil.example"}).status == 421
