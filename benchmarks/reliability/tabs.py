"""Notes typed in real tabs of a real Chromium, and what of them is nowhere in the end: characters lost.

- closed: a tab that is closed 100 ms after the last key. What is not in the file then, without any page opened again,
  is lost. The control is a page that does not hear that it is closed.
- down: the service is killed and started again 30 s later, while somebody goes on typing; in half of the times the tab
  is closed meanwhile and opened again afterwards. The control is a browser that keeps no drafts.
- two: two tabs type into one note. What is neither in the file, nor shown as one of two versions, nor, after a choice,
  in the history, is lost. The control is a page that saves over what it has not seen.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page

from annotation_server.history import history_path
from tests.browser.conftest import launched
from tests.browser.test_notes import KEY, Server, panel, serving

TIMES, CONTROL_TIMES = 20, 5
DOWN, CONTROL_DOWN = 30.0, 3.0  # seconds
SOON, LONG = 10.0, 60.0  # seconds in which what was sent arrives, and what is tried again
PATIENCE = 120_000  # ms
DEAF = """
const listen = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (kind, ...rest) {
  if (kind !== "pagehide" && kind !== "visibilitychange") listen.call(this, kind, ...rest);
};
"""
FORGETFUL = "Storage.prototype.setItem = () => { throw new Error('full'); };"
RECKLESS = """
const ask = window.fetch;
window.fetch = async (address, options = {}) => {
  if (address.includes("?since=")) throw new Error("not asked");
  if (!options.headers?.["If-Match"]) return ask(address, options);
  const now = await ask(address, { cache: "no-store" });
  return ask(address, { ...options, headers: { ...options.headers, "If-Match": now.headers.get("ETag") } });
};
"""
IS_SETTLED = """([key, states]) =>
  states.includes(document.querySelector(`[data-key=${key}] .note > .state`).textContent)"""
SETTLED = ("saved", "conflict")
Scene = Callable[[BrowserContext, Server, random.Random], int]  # returns the characters lost


def closed(context: BrowserContext, server: Server, chance: random.Random) -> int:
    """Close a tab 100 ms after the last key."""
    page, text = _opened(context, server), _words(chance, "abcdefghij")
    area(page).press_sequentially(text[:-3], delay=chance.uniform(0, 40))
    page.wait_for_timeout(chance.uniform(0, 700))  # half a second after a key it is saved
    area(page).press_sequentially(text[-3:])
    page.wait_for_timeout(100)
    page.close(run_before_unload=True)
    return _missing(text, lambda: [server.stored().get("text", "")])


def down(seconds: float) -> Scene:
    """Have the service down for some time while somebody types, or types and closes the tab."""

    def scene(context: BrowserContext, server: Server, chance: random.Random) -> int:
        page, text = _opened(context, server), _words(chance, "abcdefghij") * 3
        third = len(text) // 3
        area(page).press_sequentially(text[:third])
        page.wait_for_timeout(chance.uniform(0, 1000))
        server.kill()
        back = time.monotonic() + seconds
        area(page).press_sequentially(text[third : 2 * third])
        leaves = chance.random() < 0.5
        if leaves:
            page.wait_for_timeout(chance.uniform(0, 1000))
            page.close()
        else:
            page.wait_for_timeout(seconds * 500)
            area(page).press_sequentially(text[2 * third :])
        time.sleep(max(0.0, back - time.monotonic()))
        server.restart()
        if leaves:
            page = _opened(context, server)
            area(page).press("End")
            area(page).press_sequentially(text[2 * third :])
        return _missing(text, lambda: [server.stored().get("text", "")], LONG)

    return scene


def two(context: BrowserContext, server: Server, chance: random.Random) -> int:
    """Type into one note in two tabs, by turns of some keys, and choose where there are two versions in the end."""
    pages = [_opened(context, server) for _ in range(2)]
    texts = [_words(chance, letters) for letters in ("abcdefghij", "klmnopqrst")]
    left = [list(text) for text in texts]
    while any(left):
        number = chance.choice([number for number in range(2) if left[number]])
        keys, left[number] = left[number][:4], left[number][4:]
        area(pages[number]).press_sequentially("".join(keys))
        pages[number].wait_for_timeout(chance.choice([0, 100, 700]))
    for page in pages:
        page.wait_for_function(IS_SETTLED, arg=[KEY, SETTLED])
    shown = [text for page in pages for text in panel(page).locator(".conflict pre").all_inner_texts()]
    lost = sum(_missing(text, lambda: [server.stored()["text"], *shown]) for text in texts)
    _keep_mine(pages)
    return max(lost, sum(_missing(text, lambda: [server.stored()["text"], *_history(server)]) for text in texts))


def _opened(context: BrowserContext, server: Server) -> Page:
    """Return a new tab whose page knows how the note is stored."""
    page = context.new_page()
    page.goto(server.address)
    page.wait_for_selector("body[data-ready]")
    with page.expect_response(lambda reply: KEY in reply.url):
        area(page).focus()
    return page


def area(page: Page) -> Locator:
    """Return the note's field, not that of a merged text."""
    return panel(page).locator(".note > textarea")


def _words(chance: random.Random, letters: str) -> str:
    return "".join(chance.choices(letters, k=chance.randint(20, 40)))


def _keep_mine(pages: Sequence[Page]) -> None:
    """Choose the tab's own text wherever there are two, until nobody is asked any more."""
    buttons = [panel(page).get_by_role("button", name="Keep mine") for page in pages]
    while any(asked := [button.is_visible() for button in buttons]):
        number = asked.index(True)
        buttons[number].click()
        pages[number].wait_for_function(IS_SETTLED, arg=[KEY, SETTLED])


def _history(server: Server) -> list[str]:
    history = history_path(server.service.notes)
    return [json.loads(line)["text"] for line in history.read_bytes().splitlines()] if history.exists() else []


def _missing(text: str, versions: Callable[[], Iterable[str]], patience: float = SOON) -> int:
    """Return how many characters of `text` are in none of the versions, waiting a while for them to be."""
    end = time.monotonic() + patience
    while (kept := max((_kept(text, version) for version in versions()), default=0)) < len(text):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return len(text) - kept


def _kept(text: str, version: str) -> int:
    """Return how many of the first characters of `text` stand in `version` in their order, others between them."""
    kept = 0
    for character in version:
        kept += kept < len(text) and character == text[kept]
    return kept


def play(browser: Browser, scene: Scene, times: int, script: str = "") -> dict[str, int]:
    """Play a scene so many times, each with a service and a profile of its own, `script` run in each page first."""
    lost: list[int] = []
    for seed in range(times):
        with tempfile.TemporaryDirectory() as name, serving(Path(name)) as server:
            context = browser.new_context()
            context.set_default_timeout(PATIENCE)
            context.add_init_script(script)
            lost.append(scene(context, server, random.Random(seed)))
            context.close()
    return {"times": times, "times_with_a_loss": sum(map(bool, lost)), "characters_lost": sum(lost)}


def measure() -> dict[str, Any]:
    """Return the figures of each scene and those of its control."""
    scenes = {
        "closed_after_100_ms": (closed, closed, "a page that does not hear that it is closed", DEAF),
        "service_down": (down(DOWN), down(CONTROL_DOWN), "a browser that keeps no drafts", FORGETFUL),
        "two_tabs": (two, two, "a page that saves over what it has not seen", RECKLESS),
    }
    with launched() as browser:
        return {
            name: {
                **play(browser, scene, TIMES),
                "control": {"is": what, **play(browser, control, CONTROL_TIMES, script)},
            }
            for name, (scene, control, what, script) in scenes.items()
        }
