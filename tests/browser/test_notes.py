"""Notes through the real annotation service: what is typed arrives in the file, whatever happens to the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from loradash_assets.site.build import render_dashboard
from loradash_assets.site.page import Note
from tests.annotation_server.service import Service, start
from tests.browser.conftest import Open, Visit, drawn
from tests.site import samples

KEY = "layer_0_gate_proj_positive"
DEADLINE = 60  # s


class Server:
    """The service on one folder and port; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service: Service = start(folder)
        self.address = f"http://127.0.0.1:{self.service.port}/"

    def kill(self) -> None:
        self.service.process.kill()
        self.service.process.communicate()

    def restart(self) -> None:
        self.service = start(self.folder, "--port", str(self.service.port))

    def stored(self) -> dict[str, Any]:
        """Return the entry in the file."""
        return self.service.entries().get(KEY, {}) if self.service.notes.exists() else {}


@cache
def dashboard_html() -> str:
    page = samples.page([samples.layer_tables(layer, samples.texts(2)) for layer in range(2)])
    return render_dashboard(page, {KEY: Note("as it was at build time")})


@contextmanager
def serving(folder: Path) -> Generator[Server]:
    (folder / "page.html").write_text(dashboard_html(), "utf-8")
    server = Server(folder)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    with serving(tmp_path) as server:
        yield server


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def panel(page: Page) -> Locator:
    return page.locator(f"[data-key={KEY}]")


def area(page: Page) -> Locator:
    return panel(page).locator("textarea")


def state(page: Page) -> Locator:
    return panel(page).locator(".note > .state")


def clean(visit: Visit) -> bool:
    return (visit.problems, visit.violations()) == ([], [])


def test_what_is_typed_arrives_in_the_file_and_a_reload_shows_it(visit: Open, server: Server) -> None:
    opened = visit(server.address)
    page = opened.ready()
    expect(area(page)).to_have_value("")
    area(page).press_sequentially("numbers after = and 漢字\n<b>")
    expect(state(page)).to_have_text("saved")
    assert server.stored()["text"] == "numbers after = and 漢字\n<b>"
    panel(page).locator(".star").click()
    until(lambda: server.stored()["starred"] is True)
    assert server.stored()["text"] == "numbers after = and 漢字\n<b>"
    page.reload()
    opened.ready()
    expect(area(page)).to_have_value("numbers after = and 漢字\n<b>")
    expect(panel(page).locator(".star")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#export")).to_be_hidden()
    assert clean(opened)


def test_a_killed_service_loses_nothing(visit: Open, server: Server) -> None:
    page = visit(server.address).ready()
    area(page).fill("before")
    expect(state(page)).to_have_text("saved")
    server.kill()
    area(page).fill("while it was down")
    expect(state(page)).to_have_text("not saved (retrying)")
    expect(page.locator("#saving")).to_have_text("1 note: not saved (retrying)")
    server.restart()
    expect(state(page)).to_have_text("saved")
    assert server.stored()["text"] == "while it was down"


def test_a_draft_survives_a_reload_and_is_saved(visit: Open, server: Server) -> None:
    opened = visit(server.address)
    page = opened.ready()
    area(page).focus()
    server.kill()
    area(page).fill("typed while it was down")
    expect(state(page)).to_have_text("not saved (retrying)")
    page.goto("about:blank")
    server.restart()
    assert server.stored() == {}
    page.goto(server.address)
    opened.ready()
    expect(area(page)).to_have_value("typed while it was down")
    expect(state(page)).to_have_text("saved")
    assert server.stored()["text"] == "typed while it was down"


def test_leaving_right_after_the_last_key_saves(visit: Open, server: Server) -> None:
    page = visit(server.address).ready()
    with page.expect_response(lambda reply: KEY in reply.url):
        area(page).focus()
    area(page).fill("last words")
    page.goto("about:blank")
    until(lambda: server.stored().get("text") == "last words")


# A page that never hears that its first save was stored.
UNANSWERED = """
const ask = window.fetch;
let saves = 0;
window.fetch = async (address, options = {}) => {
  const reply = await ask(address, options);
  return options.method === "PATCH" && (saves += 1) === 1 ? new Promise(() => {}) : reply;
};
"""


def test_leaving_while_a_save_is_under_way_saves_what_was_typed_since(visit: Open, server: Server) -> None:
    opened = visit("about:blank")
    opened.context.add_init_script(UNANSWERED)
    opened.page.goto(server.address)
    page = opened.ready()
    with page.expect_response(lambda reply: KEY in reply.url):
        area(page).focus()
    area(page).press_sequentially("first")
    until(lambda: server.stored().get("text") == "first")
    area(page).press_sequentially(", and last words")
    page.goto("about:blank")
    until(lambda: server.stored()["text"] == "first, and last words")


@pytest.mark.parametrize(("choice", "kept"), [("Keep mine", "mine"), ("Take the other", "theirs")])
def test_two_people_at_one_note_see_both_texts_and_choose(visit: Open, server: Server, choice: str, kept: str) -> None:
    page = visit(server.address).ready()
    page.route("**/api/changes?since=*", lambda route: route.abort())  # else it may follow before anything is typed
    with page.expect_response(lambda reply: KEY in reply.url):
        area(page).focus()
    server.service.patch({"text": "theirs"}, KEY, if_match=server.service.etag(KEY))
    area(page).fill("mine")
    expect(panel(page).locator(".conflict pre")).to_have_text(["mine", "theirs"])
    expect(state(page)).to_have_text("conflict")
    expect(page.locator("#saving")).to_have_text("1 note: conflict")
    assert server.stored()["text"] == "theirs"
    page.reload()
    drawn(page)
    expect(panel(page).locator(".conflict pre")).to_have_text(["mine", "theirs"])
    page.get_by_role("button", name=choice).click()
    expect(area(page)).to_have_value(kept)
    expect(panel(page).locator(".conflict")).to_be_hidden()
    until(lambda: server.stored()["text"] == kept)
    expect(state(page)).to_have_text("saved")


def test_a_note_that_is_too_long_is_refused_with_the_reason(visit: Open, server: Server) -> None:
    page = visit(server.address).ready()
    area(page).fill("漢" * 6000)
    expect(state(page)).to_have_text("not saved: longer than 16 KiB")
    area(page).fill("short")
    expect(state(page)).to_have_text("saved")


def test_another_server_without_the_api_leaves_notes_in_the_browser(visit: Open, server: Server) -> None:
    opened = visit("about:blank")
    opened.context.route("**/api/**", lambda route: route.fulfill(status=404, body="no such page"))
    opened.page.goto(server.address)
    page = opened.ready()
    area(page).fill("kept here")
    expect(state(page)).to_have_text("kept in this browser")
    expect(page.locator("#export")).to_be_visible()
