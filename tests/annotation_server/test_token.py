"""Who has the token is let in, by header or by cookie; nobody else is, and it is kept where nobody else reads it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from annotation_server.token import HOW_TO_MAKE_ONE, VARIABLE, Token
from tests.annotation_server.service import KEY, Reply, Service, entry_path, refused, running, stop

TOKEN = "a-token_of.letters~0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ROUTES: list[tuple[str, str, object]] = [
    ("GET", "/", None),
    ("HEAD", "/", None),
    ("POST", "/", {}),
    ("GET", "/nothing", None),
    ("GET", "/page_data/a.js", None),
    ("GET", "/api/health", None),
    ("GET", "/api/interpretations", None),
    ("POST", "/api/interpretations", {"featureKey": KEY, "text": "x", "starred": True}),
    ("GET", entry_path(KEY), None),
    ("PATCH", entry_path(KEY), {"starred": True}),
    ("POST", "/api/import", {"name": "n.json", "content": f'{{"{KEY}": {{}}}}', "dryRun": False}),
    ("POST", "/api/import/0/undo", {}),
    ("GET", "/api/export", None),
    ("GET", f"/api/activations/{KEY}?example=0", None),
    ("GET", f"/api/interpretations?token={TOKEN}", None),
]
NOT_THE_TOKEN = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Bearer {TOKEN}0"},
    {"Authorization": f"Bearer {TOKEN.upper()}"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer \xe9\xff"},
    {"Cookie": f"loradash={TOKEN}"},
    {"Cookie": f"{Token(TOKEN).set_cookie.partition('=')[0]}={TOKEN}"},
    {"Cookie": Token(f"{TOKEN}0").set_cookie.partition(";")[0]},
]


def token_file(folder: Path, text: str = TOKEN, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that listens on every address and wants the token."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "page.html").write_text("<!DOCTYPE html><title>the page</title>")
    options = ["--host", "0.0.0.0", "--token-file", str(token_file(folder)), "--allow-host", "Notes.example"]
    with running(folder, *options) as service:
        yield service


def asked(service: Service, headers: dict[str, str]) -> list[Reply]:
    return [service.request(*route, headers=headers) for route in ROUTES]


@pytest.mark.parametrize("headers", NOT_THE_TOKEN, ids=str)
def test_without_the_token_every_route_answers_401_and_nothing_is_written(
    closed: Service, headers: dict[str, str]
) -> None:
    replies = asked(closed, headers)
    assert {reply.status for reply in replies} == {401}
    assert {reply.code for reply in replies if reply.body} == {"unauthorized"}
    assert {reply.headers["www-authenticate"] for reply in replies} == {"Bearer"}
    assert not closed.notes.exists()


def cookie_of(reply: Reply) -> dict[str, str]:
    return {"Cookie": reply.headers["set-cookie"].partition(";")[0]}


def test_the_address_with_the_token_gives_a_cookie_and_goes_on_without_it(closed: Service) -> None:
    reply = closed.request("GET", f"/?token={TOKEN}", headers=BROWSER)
    assert (reply.status, reply.headers["location"]) == (303, "/")
    assert reply.headers["set-cookie"].split("; ")[1:] == ["HttpOnly", "SameSite=Strict", "Path=/"]
    assert TOKEN not in str(reply)
    assert closed.request("GET", "/", headers={**BROWSER, **cookie_of(reply)}).body.startswith(
        b"<!DOCTYPE html><title>the"
    )


def test_header_and_cookie_both_let_in_on_every_route(tmp_path: Path) -> None:
    with running(tmp_path, "--token-file", str(token_file(tmp_path))) as service:
        by_header = [reply.status for reply in asked(service, BEARER)]
        cookie = cookie_of(service.request("GET", f"/?token={TOKEN}"))
        assert [reply.status for reply in asked(service, cookie)] == by_header
        assert by_header == [200, 200, 405, 404, 404, 200, 200, 200, 200, 200, 200, 404, 200, 404, 200]
        assert service.entries()[KEY]["starred"]


@pytest.mark.parametrize("address", ["/", "/?token=wrong", "/?token=", f"/?token={TOKEN}0"])
def test_a_browser_without_the_token_is_told_how_to_get_in(closed: Service, address: str) -> None:
    reply = closed.request("GET", address, headers=BROWSER)
    assert reply.status == 401
    assert b'<input name="token" type="password"' in reply.body
    assert reply.headers["content-security-policy"] == "default-src 'none'; form-action 'self'; frame-ancestors 'none'"
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "192.168.0.7:8080", "[2001:db8::1]", "NOTES.example:1"])
def test_with_a_token_addresses_and_the_names_given_are_served(closed: Service, host: str) -> None:
    assert closed.request("GET", "/api/health", headers={"Host": host, **BEARER}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "notes.example.evil.example", "notes.example.", "evil-notes.example", "2130706433", "1.2.3"],
)
def test_a_foreign_name_is_refused_on_every_method_whoever_has_the_token(closed: Service, host: str) -> None:
    replies = [closed.request(*route, headers={"Host": host, **BEARER}) for route in ROUTES]
    replies += [closed.request(method, "/", headers={"Host": host}) for method in ("OPTIONS", "DELETE", "PUT")]
    assert {reply.status for reply in replies} == {421}
    assert not closed.notes.exists()


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://notes.example.evil.example", "http://10.0.0.1"]
)
def test_a_foreign_page_writes_nothing_although_its_browser_has_the_cookie(closed: Service, origin: str) -> None:
    cookie = cookie_of(closed.request("GET", f"/?token={TOKEN}"))
    headers = {"Host": "notes.example", "Origin": origin, **cookie}
    assert closed.request("PATCH", entry_path(KEY), {"starred": True}, headers).status == 403
    assert not closed.notes.exists()


@pytest.mark.parametrize("origin", ["http://notes.example", "https://notes.example"])
def test_its_own_page_writes_through_a_tls_proxy_too(tmp_path: Path, origin: str) -> None:
    options = ["--token-file", str(token_file(tmp_path)), "--allow-host", "notes.example"]
    with running(tmp_path, *options) as service:
        headers = {"Host": "notes.example", "Origin": origin, "Sec-Fetch-Site": "same-origin", **BEARER}
        assert service.request("PATCH", entry_path(KEY), {"starred": True}, headers).status == 200


def test_the_token_in_the_environment_does_as_well_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    with running(tmp_path) as service:
        assert service.request("GET", "/api/health").status == 401
        assert service.request("GET", "/api/health", headers=BEARER).status == 200
        service.request("GET", f"/?token={TOKEN}")
        said = stop(service)
    assert TOKEN not in said.out + said.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])
def test_other_than_loopback_is_refused_without_a_token(tmp_path: Path, host: str) -> None:
    message = refused(tmp_path, "--host", host)
    assert "wants a token: --token-file FILE, or LORADASH_TOKEN" in message
    assert HOW_TO_MAKE_ONE in message


def test_the_way_to_make_a_token_makes_one(tmp_path: Path) -> None:
    _, *arguments = shlex.split(HOW_TO_MAKE_ONE)
    made = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
    with running(tmp_path, "--token-file", str(token_file(tmp_path, made))) as service:
        assert service.request("GET", "/", headers={"Authorization": f"Bearer {made.strip()}"}).status == 200


def test_another_name_is_refused_without_a_token(tmp_path: Path) -> None:
    assert "wants a token" in refused(tmp_path, "--allow-host", "notes.example")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    message = refused(tmp_path, "--token-file", str(token_file(tmp_path, mode=mode)))
    assert f"token: others can read it (mode {mode:04o})" in message


@pytest.mark.parametrize(
    "text", ["", "short-token-012", "words of sixteen letters", "ümläuts0123456789", f"{TOKEN}\nmore"]
)
def test_a_token_too_weak_or_that_no_address_can_carry_is_refused_unsaid(tmp_path: Path, text: str) -> None:
    message = refused(tmp_path, "--token-file", str(token_file(tmp_path, text)))
    assert "a token is 16 to 512 letters" in message
    assert not text or text not in message


def test_a_token_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere: No such file" in refused(tmp_path, "--token-file", str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["notes.example:80", "http://notes.example", "*", ""])
def test_what_is_no_hosts_name_is_refused(tmp_path: Path, name: str) -> None:
    options = ["--token-file", str(token_file(tmp_path)), "--allow-host", name]
    assert "not a host's name" in refused(tmp_path, *options)
