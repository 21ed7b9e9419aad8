"""A page in a real Chromium: how long it takes to open, to go on to the next layer and to search, and what it holds."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.pages.ways import Way
from tests.browser.chromium import find_chromium

VIEWPORT = {"width": 1440, "height": 900}
TIMEOUT = 300_000  # ms
QUERIES = ("because", " therefore", "total number", "gate_proj", "minutes")

Seen = dict[tuple[str, str], list[tuple[float, str]]]  # by projection and polarity: activation, text


@dataclass(frozen=True)
class File:
    """A page as a file, how it is worked, and how many examples its first layer has."""

    path: Path
    way: Way
    examples: int


@contextmanager
def chromium() -> Generator[Browser]:
    """A headless Chromium."""
    executable = find_chromium()
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox refuses to run as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: File) -> Generator[Page]:
    """The page from its file, in a profile of its own; `probe.opened` measures how it opens."""
    context = browser.new_context(viewport=VIEWPORT)  # pyright: ignore[reportArgumentType] (a dict of two ints)
    context.set_default_timeout(TIMEOUT)
    context.set_default_navigation_timeout(TIMEOUT)
    context.add_init_script(file.way.script(file.examples))
    page = context.new_page()
    page.goto(file.path.as_uri())
    yield page
    context.close()


def seconds_to_open(browser: Browser, file: File) -> dict[str, float]:
    """Return the seconds from the navigation until the first layer is painted, and until it is usable as well."""
    with opened(browser, file) as page:
        found = page.evaluate("probe.opened")
    return {name: milliseconds / 1000 for name, milliseconds in found.items()}


def seen(browser: Browser, file: File) -> Seen:
    """Return what the second layer's columns show."""
    with opened(browser, file) as page:
        page.evaluate("probe.opened")
        found = page.evaluate("probe.read()")
    return {
        (projection, polarity): [(_number(activation), text) for activation, text in examples]
        for projection, polarities in found.items()
        for polarity, examples in polarities.items()
    }


def use(browser: Browser, file: File, switches: int) -> dict[str, Any]:
    """Return what a page holds, and how long going on takes, with the columns that it opens with and with all."""
    with opened(browser, file) as page:
        page.evaluate("probe.opened")
        figures = _held(page) | {"switch": summary(page.evaluate(f"probe.switches({switches})"))}
    if file.way.all_columns:
        with opened(browser, file) as page:
            page.evaluate("probe.opened")
            page.evaluate(f"() => {{ {file.way.all_columns} }}")
            figures["switch_all_columns"] = summary(page.evaluate(f"probe.switches({switches})"))
            figures["all_columns"] = _held(page)
    return figures


def search(browser: Browser, file: File, queries: Sequence[str] = QUERIES) -> dict[str, Any]:
    """Return how long every keystroke of the queries takes."""
    with opened(browser, file) as page:
        page.evaluate("probe.opened")
        page.evaluate(f"() => {{ {file.way.search} }}")
        return summary(page.evaluate("(queries) => probe.keystrokes(queries)", list(queries)))


def floor(browser: Browser, file: File, times: int) -> float:
    """Return the median milliseconds of nothing, painted."""
    with opened(browser, file) as page:
        page.evaluate("probe.opened")
        return round(float(np.median(page.evaluate(f"probe.floor({times})"))), 1)


def _held(page: Page) -> dict[str, Any]:
    page.evaluate("probe.settled()")
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return {"nodes": page.evaluate("probe.nodes()"), "heap_mib": round(metrics["JSHeapUsedSize"] / 2**20, 1)}


def summary(steps: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return median and 95th percentile of the milliseconds, and the most nodes."""
    columns = {name: [step[name] for step in steps] for name in ("handled", "drawn", "painted")}
    percentiles = {
        name: {"median": round(float(np.median(each)), 1), "p95": round(float(np.quantile(each, 0.95)), 1)}
        for name, each in columns.items()
    }
    return {"times": len(steps), **percentiles, "most_nodes": max(int(step["nodes"]) for step in steps)}


def _number(text: str) -> float:
    return float(text.removeprefix("Activation: ").replace("−", "-").replace(",", ""))
