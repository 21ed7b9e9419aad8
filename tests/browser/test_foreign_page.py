"""A real page on another origin reads no note and writes none, and nor does one whose name was made to point here."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.annotation_server.service import ROOT, Service, running
from tests.browser.conftest import Open, launched

ATTACK = Path(__file__).with_name("foreign_page.html")
SECRET, TOKEN = "a-secret-that-must-not-leave", "a-token-of-the-tests-0123"
NOTES = {"interpretations": {"layer_0_up_proj_positive": {"text": SECRET, "starred": False}}}
Read = dict[str, str]


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """A Chromium for which evil.example is this machine, as after DNS rebinding."""
    with launched("--host-resolver-rules=MAP evil.example 127.0.0.1") as chromium:
        yield chromium


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
        """Say nothing."""


@contextmanager
def foreign_server() -> Generator[int]:
    """The port of another server on this machine, which has the foreign page."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=ATTACK.parent)) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def foreign() -> Generator[int]:
    with foreign_server() as port:
        yield port


def fill(folder: Path) -> Path:
    (folder / "interpretations.json").write_text(json.dumps(NOTES))
    (folder / "page.html").write_text(f"<!DOCTYPE html><title>{SECRET}</title>")
    (folder / "page_data").mkdir()
    (folder / "page_data" / "a.js").write_text(f'window.leak = "{SECRET}";')
    return folder


@contextmanager
def unguarded(folder: Path, port: int = 0) -> Generator[Service]:
    """The same service without its guard."""
    arguments = [sys.executable, "-m", "tests.annotation_server.unguarded", str(folder), str(port)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r":(\d+)/", process.stdout.readline())
    assert found is not None
    try:
        yield Service(process, int(found[1]), folder)
    finally:
        process.kill()
        process.communicate()


def attack(page: Page, target: str) -> Read:
    """What the foreign page could read of the secret, by the way it read it; returns when all has arrived."""
    found: Read = page.evaluate("(target) => attack(target)", target)
    page.wait_for_load_state("networkidle")
    return {way: what for way, what in found.items() if SECRET in what}


def page_of_evil_example(visit: Open) -> tuple[Page, int]:
    """The foreign page, and its port, which is free now: what listens there next is of its origin for the browser."""
    with foreign_server() as port:
        return visit(f"http://evil.example:{port}/{ATTACK.name}").page, port


@pytest.mark.parametrize("origin", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("target", ["127.0.0.1", "localhost"])
def test_a_page_of_another_port_reads_and_writes_nothing(
    visit: Open, foreign: int, tmp_path: Path, origin: str, target: str
) -> None:
    with running(fill(tmp_path)) as service:
        page = visit(f"http://{origin}:{foreign}/{ATTACK.name}").page
        assert attack(page, f"http://{target}:{service.port}") == {}
        assert json.loads(service.notes.read_bytes()) == NOTES


@contextmanager
def with_token(folder: Path) -> Generator[Service]:
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with running(fill(folder), "--token-file", str(token)) as service:
        yield service


def test_a_person_who_has_the_token_enters_it_and_is_in(visit: Open, tmp_path: Path) -> None:
    with with_token(tmp_path) as service:
        address = f"http://127.0.0.1:{service.port}/"
        page = visit(address).page
        page.get_by_label("Token").fill("not-the-token-but-long")
        page.get_by_role("button").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        page.wait_for_url(address)
        assert page.title() == SECRET


def test_nor_in_a_browser_that_has_the_tokens_cookie(visit: Open, foreign: int, tmp_path: Path) -> None:
    with with_token(tmp_path) as service:
        address = f"http://127.0.0.1:{service.port}"
        page = visit(f"{address}/?token={TOKEN}").page
        assert (page.url, page.title()) == (f"{address}/", SECRET)
        page.goto(f"http://127.0.0.1:{foreign}/{ATTACK.name}")  # another port is the same site: it sends the cookie
        assert attack(page, address) == {}
        assert json.loads(service.notes.read_bytes()) == NOTES


def test_nor_does_a_page_whose_name_was_made_to_point_here(visit: Open, tmp_path: Path) -> None:
    page, port = page_of_evil_example(visit)
    with running(fill(tmp_path), "--port", str(port)) as service:
        assert attack(page, "") == {}
        assert json.loads(service.notes.read_bytes()) == NOTES


def test_without_the_guard_a_page_of_another_port_reads(visit: Open, foreign: int, tmp_path: Path) -> None:
    with unguarded(fill(tmp_path)) as service:
        page = visit(f"http://127.0.0.1:{foreign}/{ATTACK.name}").page
        assert {"script /page_data/a.js", "worker"} <= attack(page, f"http://127.0.0.1:{service.port}").keys()


def test_without_the_guard_a_name_made_to_point_here_reads_and_writes(visit: Open, tmp_path: Path) -> None:
    page, port = page_of_evil_example(visit)
    with unguarded(fill(tmp_path), port) as service:
        assert {"fetch cors /api/interpretations", "worker", "window"} <= attack(page, "").keys()
        assert service.entries()["layer_0_up_proj_positive"]["text"] == "evil"
