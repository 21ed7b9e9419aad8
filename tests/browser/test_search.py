"""The search finds what a plain search through the same texts, notes and names finds, and shows it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from msgspec.structs import replace
from playwright.sync_api import Page, expect

from loradash_assets.site.page import Example, Feature
from tests.browser import pages
from tests.browser.conftest import Open
from tests.browser.pages import NOTES, features_of, name_of, rich_page, rows, save, windows

FEATURES = features_of(rich_page())
TALL = {"width": 1500, "height": 1600}
SCOPES = ("everywhere", "tokens", "text", "notes")
EDGE = next(windows(FEATURES[3]))  # its last token and what follows, which the window does not have
ACROSS = "".join(rows()[EDGE.example].tokens[EDGE.position - EDGE.target + len(EDGE.tokens) - 1 :][:3])
PHRASE = "".join(rows()[0].tokens[4:9])
QUERIES = {
    "a word": "the",
    "several tokens with spaces": PHRASE,
    "several tokens that come twice": " New ",
    "across the edge of a window": ACROSS,
    "capitals": "CAT",
    "capitals that change their length": "i̇i̇",
    "a final sigma": "ας",
    "matches that overlap": "00",
    "characters of several tokens": "漢字",
    "joined characters": "👩‍👩‍👧",
    "an accent": "NAÏVE",
    "a regular expression": "(a.*b)",
    "a regular expression that would match all": ".*",
    "a replacement": "$1",
    "a backslash": "\\d",
    "a tag": "<b>",
    "a single space": " ",
    "a layer and projection": "L7 up",
    "a component": "c1",
    "a note": "cities",
    "a note with a capital that changes its length": "stanbul",
    "nothing": "this is nowhere",
}


def first_tokens(example: int, wanted: str) -> set[int]:
    """Return the positions of the tokens in which a match begins, in a row read from its first letter to its last."""
    lower = [token.lower() for token in rows()[example].tokens]
    owner = [position for position, token in enumerate(lower) for _ in token]
    text = "".join(lower)
    return {owner[place] for place in range(len(text)) if text.startswith(wanted, place)}


def in_text(example: Example, wanted: str) -> bool:
    first = example.position - example.target
    return any(first <= place < first + len(example.tokens) for place in first_tokens(example.example, wanted))


def places(feature: Feature, query: str) -> set[str]:
    """Return where a query is found in a feature: tokens, text, notes, name."""
    wanted = query.lower()
    listed = list(windows(feature))
    notes = [NOTES[key].text for key in feature.keys.values() if key in NOTES]
    found = {
        "tokens": any(wanted in each.tokens[each.target].lower() for each in listed),
        "text": any(in_text(each, wanted) for each in listed),
        "notes": any(wanted in text.lower() for text in notes),
        "name": wanted in name_of(feature).lower(),
    }
    return {place for place, there in found.items() if there}


def search(page: Page, query: str, scope: str) -> None:
    page.select_option("#filter-where", scope)
    page.fill("#search", query)
    page.wait_for_function("(query) => document.body.dataset.results === query", arg=query)


def opened(visit: Open, file: Path) -> Page:
    page = visit(f"{file.as_uri()}#view=overview&sort=feature&order=asc", viewport=TALL).ready()
    page.locator(".tops .top").first.wait_for()  # the search is ready
    return page


def shown(page: Page) -> list[str]:
    return page.locator(".rows .feature").all_text_contents()


@pytest.mark.parametrize("name", QUERIES)
def test_every_scope_finds_what_a_plain_search_finds(visit: Open, rich: Path, name: str) -> None:
    query = QUERIES[name]
    page = opened(visit, rich)
    for scope in SCOPES:
        search(page, query, scope)
        found = [
            name_of(each)
            for each in FEATURES
            if (places(each, query) if scope == "everywhere" else scope in places(each, query))
        ]
        assert shown(page) == found, scope
        assert page.locator(".tally").inner_text() == f"{len(found)} of {len(FEATURES)} features"


@pytest.mark.parametrize("name", QUERIES)
def test_what_is_shown_of_a_feature_has_the_match_marked(visit: Open, rich: Path, name: str) -> None:
    query = QUERIES[name]
    page = opened(visit, rich)
    search(page, query, "everywhere")
    by_name = {name_of(each): each for each in FEATURES}
    for row in page.locator(".rows .row").all():
        feature = by_name[row.locator(".feature").text_content() or ""]
        if places(feature, query) != {"name"}:
            marked = row.locator("mark").all_text_contents()
            assert [text.lower() for text in marked] == [query.lower()], name_of(feature)


def test_the_queries_find_something_in_every_place_and_in_some_features_only() -> None:
    found = {name: [places(feature, query) for feature in FEATURES] for name, query in QUERIES.items()}
    assert {place for each in found.values() for some in each for place in some} == {"tokens", "text", "notes", "name"}
    assert not any(found["nothing"])
    for name in QUERIES:
        assert name in ("nothing", "a single space", "a word") or 0 < sum(map(bool, found[name])) < len(FEATURES), name


def test_a_line_feed_in_a_link_is_found_where_the_text_has_one(visit: Open, rich: Path) -> None:
    for query in (" sat\n0", "\n", "end\n", "\0"):
        address = f"#view=overview&sort=feature&order=asc&where=text&q={quote(query)}"
        page = visit(f"{rich.as_uri()}{address}", viewport=TALL).ready()
        page.locator(".tally:not(:has-text('Reading'))").wait_for()
        assert shown(page) == [name_of(each) for each in FEATURES if "text" in places(each, query)], repr(query)


def test_a_page_without_whole_examples_is_searched_window_by_window(visit: Open, tmp_path: Path) -> None:
    page = opened(visit, save(replace(rich_page(), texts={}), {}, tmp_path / "windows.html"))
    for query in ("the", " New ", PHRASE, ACROSS):
        search(page, query, "text")
        wanted = query.lower()
        found = [name_of(each) for each in FEATURES if any(wanted in "".join(w.tokens).lower() for w in windows(each))]
        assert shown(page) == found, query


def test_an_empty_query_shows_all_and_a_search_ends_with_it(visit: Open, rich: Path) -> None:
    page = opened(visit, rich)
    search(page, "nowhere to be found", "everywhere")
    assert shown(page) == []
    search(page, "", "everywhere")
    assert shown(page) == [name_of(each) for each in FEATURES]
    expect(page.locator(".rows mark")).to_have_count(0)


def test_each_adapter_is_searched_by_itself(visit: Open, rich: Path) -> None:
    page = opened(visit, rich)
    search(page, "q_proj", "everywhere")
    assert shown(page) == ["L3 q_proj", "L7 q_proj"]
    page.select_option("#adapter", label=rich_page().adapters[1].label)
    expect(page.locator(".tally")).to_have_text("0 of 1 features")
    page.fill("#search", "up_")
    expect(page.locator(".rows .feature")).to_have_text(["L7 up_proj"])
    page.locator(".rows .feature a").click()
    expect(page.locator("#adapter option:checked")).to_have_text(rich_page().adapters[1].label)
    expect(page.locator(".panel").first).to_have_attribute("data-key", f"{pages.OTHER}/layer_7_up_proj_positive")


def test_texts_in_several_parts_are_all_searched(visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loradash_assets.site.segments.TOKENS_IN_PART", 40)
    page = opened(visit, save(rich_page(), NOTES, tmp_path / "parts.html"))
    assert page.locator("script[id^=part-texts]").count() == 3
    for query in (PHRASE, " New ", "漢字", ACROSS):
        search(page, query, "text")
        assert shown(page) == [name_of(each) for each in FEATURES if "text" in places(each, query)], query
