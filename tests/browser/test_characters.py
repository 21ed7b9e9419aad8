"""What is typed into a note and then left, cut off or typed over is nowhere lost; nor would a loss go unseen."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from benchmarks.reliability import tabs

SCENES = {
    "closed": (tabs.closed, tabs.DEAF),
    "down": (tabs.down(1.0), ""),
    "two": (tabs.two, tabs.RECKLESS),
}


@pytest.mark.parametrize("name", SCENES)
def test_no_character_is_lost(browser: Browser, name: str) -> None:
    assert tabs.play(browser, SCENES[name][0], 2)["characters_lost"] == 0


@pytest.mark.parametrize("name", ["closed", "two"])
def test_a_page_that_loses_characters_is_seen_to(browser: Browser, name: str) -> None:
    scene, script = SCENES[name]
    # On a busy machine it may come about that each tab saves before the other types.
    assert any(tabs.play(browser, scene, 1, script)["characters_lost"] for _ in range(3))
