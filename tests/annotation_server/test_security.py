"""Nobody but this machine's own programs and the service's own page reads or writes notes."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest

from loradash_assets.site.build import render_dashboard
from tests.annotation_server.service import KEY, Reply, Service, entry_path
from tests.site import samples

READ = ("GET", "/api/interpretations")
EVIL_HOSTS = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "evil.example/localhost",
    "192.168.0.1",
    "0.0.0.0",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::1",
    "::1",
    "2130706433",
    "127.1",
    "localhost:80:80",
    "localhost:",
    "localhost, evil.example",
    "",
]
OWN_HOSTS = ["localhost", "LOCALHOST:1", "127.0.0.1:65000", "127.8.9.1", "[::1]", "[::1]:8080"]
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:1"},
    {"Origin": "https://localhost:8080"},
    {"Origin": "http://localhost:8080.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8080"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    {"Sec-Fetch-Site": ""},
]
WRITES: list[tuple[str, str, object]] = [
    ("POST", "/api/interpretations", {"featureKey": KEY, "text": "evil", "starred": True}),
    ("PATCH", entry_path(KEY), {"starred": True}),
]


def nothing_written(service: Service) -> bool:
    return service.request(*READ).json == {"interpretations": {}}


@pytest.mark.parametrize("host", EVIL_HOSTS)
def test_a_foreign_host_reads_and_writes_nothing(shared_service: Service, host: str) -> None:
    reads = [READ, ("GET", "/"), ("OPTIONS", "/"), ("HEAD", "/"), ("GET", entry_path(KEY))]
    replies = [shared_service.request(*read, headers={"Host": host}) for read in reads]
    replies += [shared_service.request(*write, headers={"Host": host}) for write in WRITES]
    assert {reply.status for reply in replies} == {421}
    assert nothing_written(shared_service)


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_loopback_names_and_addresses_are_served_whatever_the_port(shared_service: Service, host: str) -> None:
    assert shared_service.request(*READ, headers={"Host": host}).status == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=json.dumps)
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[0])
def test_a_foreign_page_writes_nothing(
    shared_service: Service, write: tuple[str, str, object], headers: dict[str, str]
) -> None:
    reply = shared_service.request(*write, headers={"Host": "localhost:8080", **headers})
    assert (reply.status, reply.code) == (403, "foreign_origin")
    assert nothing_written(shared_service)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:8080"},
        {"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {},
    ],
    ids=json.dumps,
)
def test_its_own_page_and_programs_write(service: Service, headers: dict[str, str]) -> None:
    for write in WRITES:
        assert service.request(*write, headers={"Host": "localhost:8080", **headers}).status == 200


def replies_of_every_kind(service: Service) -> list[Reply]:
    return [
        service.request(*READ),
        service.request("GET", entry_path(KEY)),
        service.request("GET", "/nothing"),
        service.request("OPTIONS", "/api/interpretations", headers={"Origin": "http://evil.example"}),
        service.request("GET", "/", headers={"Host": "evil.example"}),
        service.request("POST", "/api/interpretations", b"{"),
        service.request("GET", "/"),
    ]


def test_every_reply_carries_the_security_headers_and_none_opens_up(shared_service: Service) -> None:
    replies = replies_of_every_kind(shared_service)
    for reply in replies:
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert "server" not in reply.headers
    assert {reply.headers["content-security-policy"] for reply in replies} == {
        "default-src 'none'; frame-ancestors 'none'"
    }


def test_a_page_without_a_policy_may_do_all_but_be_framed(service: Service) -> None:
    (service.folder / "page.html").write_text("<!DOCTYPE html><script>alert(1)</script>")
    assert service.request("GET", "/").headers["content-security-policy"] == "frame-ancestors 'none'"


def test_a_pages_own_policy_is_sent_as_a_header_too(service: Service) -> None:
    policy = "default-src 'none'; script-src 'strict-dynamic' 'sha256-+/=' 'wasm-unsafe-eval'; trusted-types loradash"
    (service.folder / "page.html").write_text(
        f"<!DOCTYPE html><meta http-equiv=Content-Security-Policy content='{policy.replace(chr(39), '&#39;')}'>"
    )
    for method in ("GET", "HEAD"):
        headers = service.request(method, "/").headers
        assert headers["content-security-policy"] == f"frame-ancestors 'none'; {policy}"


def test_a_policy_that_would_be_another_header_is_not_sent(service: Service) -> None:
    (service.folder / "page.html").write_text(
        '<meta http-equiv="content-security-policy" content="img-src *&#13;&#10;Set-Cookie: a=b">'
    )
    reply = service.request("GET", "/")
    assert reply.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "set-cookie" not in reply.headers


def test_what_loradash_draws_has_no_unsafe_inline_in_either_place(service: Service) -> None:
    html = render_dashboard(samples.page([samples.layer_tables(0, samples.texts(2))]), {})
    (service.folder / "page.html").write_text(html)
    sent = service.request("GET", "/").headers["content-security-policy"]
    (written,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert sent == f"frame-ancestors 'none'; {unescape(written)}"
    assert "default-src 'none'" in sent
    assert "unsafe-inline" not in sent
