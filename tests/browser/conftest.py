"""A real Chromium for the tests, and pages whose every request, error and policy violation is written down."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from loradash_assets.site.build import render_dashboard
from tests.browser import pages
from tests.browser.chromium import NoBrowserError, find_chromium
from tests.site import samples

TIMEOUT = 60_000  # ms that a condition may take to come true on a busy machine
# A tile that is painted anew in part has other edges, by a shade or two, than one that is painted whole.
ONE_PICTURE = ("--disable-partial-raster",)
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""


def drawn(page: Page) -> None:
    """Wait until what the address names is drawn, what is out of sight too."""
    page.wait_for_selector("body[data-ready] #view:not([aria-busy])")


def press(page: Page, keys: str) -> None:
    """Press keys as a reader does, who looks at what they have done before anything else."""
    page.keyboard.press(keys)
    drawn(page)


@dataclass
class Visit:
    """One page in a browser of its own profile, with what it did."""

    page: Page
    context: BrowserContext
    requests: list[str] = field(default_factory=list)  # over a network; not file:, data: and blob:
    problems: list[str] = field(default_factory=list)  # errors thrown, and errors and warnings on the console

    def ready(self) -> Page:
        """Wait until the dashboard is drawn."""
        drawn(self.page)
        return self.page

    def settled(self) -> Page:
        """Let handlers of images, media and animations that hostile text may have started run."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 250)))")
        return self.page

    def violations(self) -> list[str]:
        """Return the Content-Security-Policy violations since the page was loaded."""
        return self.page.evaluate("window.violations")


Open = Callable[..., Visit]


@contextmanager
def launched(*arguments: str) -> Generator[Browser]:
    """A headless Chromium, with these arguments on its command line; fails and says how to get one if there is none."""
    try:
        executable = find_chromium()
    except NoBrowserError as problem:
        pytest.fail(str(problem), pytrace=False)
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox refuses to run as root
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=[*arguments, *ONE_PICTURE, *(["--no-sandbox"] if root else [])]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """A Chromium, without which the tests fail.

    One for each module: while Playwright runs, no other test of this process can run an event loop.
    """
    with launched() as chromium:
        yield chromium


@pytest.fixture
def visit(browser: Browser) -> Generator[Open]:
    """Open an address in a fresh profile; options are those of a Playwright context."""
    contexts: list[BrowserContext] = []

    def start(address: str | Path, **options: Any) -> Visit:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(WATCH)
        made = Visit(context.new_page(), context)
        _watch(made)
        made.page.goto(address.as_uri() if isinstance(address, Path) else address)
        return made

    yield start
    for context in contexts:
        context.close()


def _watch(visit: Visit) -> None:
    def requested(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            visit.requests.append(request.url)

    def asked(dialog: Dialog) -> None:
        visit.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.problems.append(message.text)

    visit.page.on("request", requested)
    visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))
    visit.page.on("dialog", asked)
    visit.page.on("console", said)


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dashboard of three layers: 3 and 7 of rank 1, 8 of rank 2 without down_proj."""
    tokens = samples.texts(3)
    tables = [
        samples.layer_tables(3, tokens),
        samples.layer_tables(7, tokens),
        samples.layer_tables(8, tokens, projections=("gate_proj", "up_proj"), rank=2),
    ]
    path = tmp_path_factory.mktemp("site") / "dashboard.html"
    path.write_text(render_dashboard(samples.page(tables, warnings=["2 rows were skipped."]), {}), "utf-8")
    return path


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dashboard that has everything: `pages.rich_page()` with `pages.NOTES`."""
    return pages.save(pages.rich_page(), pages.NOTES, tmp_path_factory.mktemp("rich") / "everything.html")
