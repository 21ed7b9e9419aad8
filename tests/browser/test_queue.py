"""The queue: its order, where it stops, its keys and what they store, its place in the address, nothing lost."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Locator, Page, Route, expect

from loradash_assets.schema import POLARITIES
from loradash_assets.site.files import save_dashboard
from tests.annotation_server.service import Service, running
from tests.browser.conftest import Open, Visit, drawn, press
from tests.browser.pages import NOTES, OTHER, features_of, rich_page, save
from tests.browser.test_keys import tab_through
from tests.browser.test_notes import until

WIDE: dict[str, Any] = {"width": 1400, "height": 900}


def shuffled(items: Sequence[str], seed: int) -> list[str]:
    """Fisher and Yates with mulberry32, as its author wrote it, on whole numbers."""
    made, state = list(items), seed
    for place in range(len(made) - 1, 0, -1):
        state = (state + 0x6D2B79F5) % 2**32
        mixed = (state ^ (state >> 15)) * (state | 1) % 2**32
        mixed ^= (mixed + (mixed ^ (mixed >> 7)) * (mixed | 61)) % 2**32
        other = (mixed ^ (mixed >> 14)) * (place + 1) // 2**32
        made[place], made[other] = made[other], made[place]
    return made


def keys_with_examples(adapter: int = 0) -> set[str]:
    return {
        each.keys[polarity]
        for each in features_of(rich_page(), adapter)
        for polarity in POLARITIES
        if each.examples(polarity)
    }


def all_keys(adapter: int = 0) -> list[str]:
    return [each.keys[polarity] for each in features_of(rich_page(), adapter) for polarity in POLARITIES]


def opened(visit: Open, file: Path | str, address: str = "", **options: Any) -> Visit:
    place = file.as_uri() if isinstance(file, Path) else file
    made = visit(f"{place}#view=queue{address}", **{"viewport": WIDE, **options})
    made.ready()
    return made


def key(page: Page) -> str | None:
    return page.locator(".queue-panel .panel").get_attribute("data-key")


def field(page: Page) -> Locator:
    return page.locator(".writing textarea")


def place(page: Page) -> int:
    """Return the place that the address names, once the panel has been drawn."""
    expect(field(page)).to_be_focused()
    return int(re.findall(r"index=(\d+)$", page.url)[0])


def fragment(page: Page) -> str:
    return page.evaluate("location.hash")


def walked(page: Page) -> list[str | None]:
    """Return the keys of the panels that one comes to by Ctrl+Enter, from the one in view on."""
    found: list[str | None] = []
    while True:
        found.append(key(page))
        before = fragment(page)
        press(page, "Control+Enter")
        if fragment(page) == before:
            expect(page.locator(".news")).to_have_text("That was the last one.")
            return found


# Order


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1])
def test_a_seed_is_an_order_of_all_panels_that_have_examples(visit: Open, rich: Path, seed: int) -> None:
    page = opened(visit, rich, f"&seed={seed}").page
    wanted = [each for each in shuffled(all_keys(), seed) if each in keys_with_examples()]
    assert walked(page) == wanted
    assert len(wanted) == len(all_keys()) - 1  # one list is empty


def test_shuffling_draws_another_order_and_says_it_in_the_address(visit: Open, rich: Path) -> None:
    page = opened(visit, rich).page
    expect(page).to_have_url(re.compile(r"#view=queue&seed=1&index=1$"))
    page.locator("#queue-shuffle").click()
    page.wait_for_function("!location.hash.includes('seed=1&') && location.hash.includes('index')")
    seed = int(re.findall(r"seed=(\d+)", page.url)[0])
    assert key(page) == next(each for each in shuffled(all_keys(), seed) if each in keys_with_examples())


@pytest.mark.parametrize(
    ("column", "order"), [("kurtosis", "desc"), ("kurtosis", "asc"), ("max", "asc"), ("feature", "desc")]
)
def test_any_column_of_the_overview_is_an_order(visit: Open, rich: Path, column: str, order: str) -> None:
    page = opened(visit, rich).page
    page.locator("#queue-order").select_option(f"{column} {order}")
    expect(page.locator("#queue-shuffle")).to_have_count(0)
    expect(field(page)).to_be_focused()
    sign = 1 if order == "asc" else -1
    features = features_of(rich_page())
    values = [
        sign * number if column == "feature" else getattr(each.statistics, column)
        for number, each in enumerate(features)
    ]
    rank = [math.inf if value is None else value if column == "feature" else sign * value for value in values]
    by_rank = sorted(range(len(features)), key=lambda number: (rank[number], number))
    wanted = [features[number].keys[polarity] for number in by_rank for polarity in POLARITIES]
    assert walked(page) == [each for each in wanted if each in keys_with_examples()]


def test_the_queue_is_of_the_adapter_in_the_address_blind_of_all(visit: Open, rich: Path) -> None:
    page = opened(visit, rich).page
    page.locator("#adapter").select_option(label="step 200 &=#%")
    expect(page.locator(".queue-panel .panel")).to_have_attribute("data-key", re.compile(f"^{OTHER}/"))
    assert set(walked(page)) == keys_with_examples(1)
    page.locator("#queue-blind").check()
    expect(page.locator(".tally")).to_contain_text(f" of {len(keys_with_examples()) + len(keys_with_examples(1))} done")


# Where it stops


def entry(text: str = "", starred: bool = False, **labels: list[str] | None) -> dict[str, Any]:
    made = {name: {"tags": tags, "confidence": None, "at": "2026-01-20T10:30:00Z"} for name, tags in labels.items()}
    return {
        "text": text,
        "starred": starred,
        "lastModified": "2026-01-20T10:30:00Z",
        **({"labels": made} if made else {}),
    }


STORED = {
    "layer_3_q_proj_positive": entry("numbers"),
    "layer_3_q_proj_negative": entry("  ", starred=True),
    "layer_7_up_proj_positive": entry("names", starred=True, ada=["dense"], bo=["dense"], cleo=None),
    "layer_7_up_proj_negative": entry(ada=["dense", "unclear"], bo=["unclear", "dense"]),
    "layer_7_down_proj_positive": entry(ada=["dense"], bo=[]),
    "layer_8_up_proj_c1_negative": entry(anonymous=[]),
    "layer_11_down_proj_positive": {**entry(), "skipped": True},
}
STOPS: dict[str, set[str]] = {
    "all": keys_with_examples(),
    "open": keys_with_examples() - {"layer_3_q_proj_positive", "layer_7_up_proj_positive"},
    "mine": keys_with_examples() - {"layer_8_up_proj_c1_negative"},
    "starred": {"layer_3_q_proj_negative", "layer_7_up_proj_positive"},
    "disputed": {"layer_7_down_proj_positive"},
}


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    """The service with the rich page and `STORED`."""
    save(rich_page(), {}, tmp_path / "page.html")
    (tmp_path / "interpretations.json").write_text(json.dumps({"interpretations": STORED}), "utf-8")
    with running(tmp_path) as service:
        yield service


def address(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}/"


@pytest.mark.parametrize("only", STOPS)
def test_it_stops_at_those_asked_for(visit: Open, service: Service, only: str) -> None:
    page = opened(visit, address(service)).page
    expect(page.locator(".tally")).to_contain_text("3 of 37 done, 1 skipped")
    page.locator("#queue-only").select_option(only)
    expect(field(page)).to_be_focused()
    found = walked(page)
    assert (set(found), len(found)) == (STOPS[only], len(STOPS[only]))
    assert ("only" in fragment(page)) == (only != "all")
    assert key(page) == found[-1]


def test_nothing_to_stop_at_is_said(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "&only=disputed").page
    expect(page.locator("#view .quiet")).to_have_text("There is no such panel.")
    press(page, "n")
    page.locator("#queue-only").select_option("all")
    expect(field(page)).to_be_focused()


# Keys


def stored(service: Service) -> dict[str, dict[str, Any]]:
    return service.entries()


def label(service: Service, key: str | None) -> dict[str, Any]:
    """Return the reader's own label of a note, as it is in the file."""
    return stored(service).get(str(key), {}).get("labels", {}).get("anonymous", {})


def test_one_note_takes_its_text_and_one_chord(visit: Open, service: Service) -> None:
    page = opened(visit, address(service)).page
    first = key(page)
    page.keyboard.type("the first")
    press(page, "Control+Enter")
    assert place(page) == 2
    second = key(page)
    page.keyboard.type("the second")
    press(page, "Meta+Enter")
    assert place(page) == 3
    until(
        lambda: (
            [stored(service).get(str(each), {}).get("text") for each in (first, second)] == ["the first", "the second"]
        )
    )
    expect(page.locator(".tally")).to_contain_text("5 of 37 done")


def test_single_keys_label_skip_and_go_once_the_field_is_left(visit: Open, service: Service) -> None:
    page = opened(visit, address(service)).page
    first = key(page)
    page.keyboard.type("dpsoukbzn1?")
    expect(field(page)).to_have_value("dpsoukbzn1?")
    press(page, "Escape")
    expect(field(page)).not_to_be_focused()
    for each in ("d", "p", "s", "o", "u", "p", "3", "4"):
        press(page, each)
    until(lambda: label(service, first).get("confidence") == 4)
    assert label(service, first)["tags"] == [
        "dense",
        "single token",
        "positional",
        "unclear",
    ]
    press(page, "Enter")
    assert place(page) == 2
    second = key(page)
    press(page, "Escape")
    press(page, "k")
    assert place(page) == 3
    until(lambda: stored(service).get(str(second), {}).get("skipped") is True)
    for step in ("b", "ArrowLeft"):
        press(page, "Escape")
        press(page, step)
        expect(field(page)).to_be_focused()
    assert (place(page), key(page)) == (1, first)
    press(page, "Escape")
    press(page, "?")
    expect(page.locator("#help")).to_be_visible()
    press(page, "n")
    assert fragment(page).endswith("index=1")


def test_back_leads_to_the_note_just_written_though_it_is_no_longer_one_to_stop_at(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "&only=open").page
    first = key(page)
    page.keyboard.type("written")
    press(page, "Control+Enter")
    press(page, "Alt+b")
    expect(field(page)).to_have_value("written")
    assert key(page) == first


def test_with_alt_the_same_keys_work_in_the_field(visit: Open, service: Service) -> None:
    page = opened(visit, address(service)).page
    first = key(page)
    page.keyboard.type("text")
    for chord in ("Alt+d", "Alt+u", "Alt+5"):
        press(page, chord)
    expect(field(page)).to_have_value("text")
    expect(field(page)).to_be_focused()
    press(page, "Alt+n")
    assert place(page) == 2
    until(lambda: label(service, first).get("confidence") == 5)
    assert label(service, first)["tags"] == ["dense", "unclear"]


MACOS = """(field, [key, code]) => {
  const event = new KeyboardEvent("keydown", { key, code, altKey: true, bubbles: true, cancelable: true });
  return !field.dispatchEvent(event);
}"""


def test_what_macos_writes_with_alt_is_written_but_for_the_tags(visit: Open, service: Service) -> None:
    page = opened(visit, address(service)).page
    first = key(page)
    taken = [
        field(page).evaluate(MACOS, each) for each in (["∂", "KeyD"], ["[", "Digit5"], ["~", "KeyN"], ["@", "KeyL"])
    ]
    assert taken == [True, False, False, False]
    until(lambda: label(service, first).get("tags") == ["dense"])


def test_one_s_own_tags_have_numbers(visit: Open, service: Service) -> None:
    page = opened(visit, address(service)).page
    for tag in ("zebra", "<b>apple"):
        page.get_by_label("Another tag").fill(tag)
        press(page, "Enter")
    press(page, "Control+Enter")
    assert place(page) == 2
    expect(page.locator(".hints")).to_contain_text("6 zebra 7 <b>apple 1–5")
    second = key(page)
    press(page, "Alt+7")
    until(lambda: label(service, second).get("tags") == ["<b>apple"])
    press(page, "Alt+7")
    press(page, "Alt+6")
    until(lambda: label(service, second).get("tags") == ["zebra"])


def test_confidence_by_key_says_nothing_of_tags_and_taken_back_leaves_no_label(visit: Open, service: Service) -> None:
    page = opened(visit, address(service)).page
    first = key(page)
    for chord, wanted in (
        ("Alt+3", {"confidence": 3}),
        ("Alt+d", {"tags": ["dense"], "confidence": 3}),
        ("Alt+d", {"confidence": 3}),
        ("Alt+3", {}),
        ("Alt+z", {"confidence": 3}),
        ("Alt+z", {"tags": ["dense"], "confidence": 3}),
        ("Alt+z", {"confidence": 3}),
        ("Alt+z", {}),
    ):
        press(page, chord)
        until(
            lambda wanted=wanted: (
                {name: value for name, value in label(service, first).items() if name != "at"} == wanted
            )
        )
        expect(page.locator(".own .none")).to_have_attribute("aria-pressed", "false")


def test_one_is_no_longer_skipped_once_done(visit: Open, service: Service) -> None:
    page = opened(visit, address(service), "&sort=feature&order=asc").page
    page.goto(f"{address(service)}#view=queue&sort=feature&order=asc&index=37")
    drawn(page)
    press(page, "Alt+b")
    assert key(page) == "layer_11_down_proj_positive"
    page.keyboard.type("after all")
    press(page, "Control+Enter")
    until(lambda: stored(service)["layer_11_down_proj_positive"].get("skipped") is False)
    expect(page.locator(".tally")).to_contain_text("4 of 37 done, 0 skipped")


# Undo


def test_undo_goes_back_step_by_step_and_across_panels(visit: Open, service: Service) -> None:
    page = opened(visit, address(service), "&seed=5").page
    keys = [key(page)]
    before = [stored(service).get(str(keys[0]))]
    page.keyboard.type("one")
    for chord in ("Alt+d", "Alt+3", "Control+Enter"):
        press(page, chord)
    assert place(page) == 2
    keys.append(key(page))
    page.locator(".writing .star").click()
    field(page).focus()
    press(page, "Alt+k")
    assert place(page) == 3
    page.keyboard.type("three")
    keys.append(key(page))
    until(lambda: stored(service).get(str(keys[2]), {}).get("text") == "three")

    def field_of(number: int, name: str) -> Any:
        return stored(service).get(str(keys[number]), {}).get(name)

    def confidence() -> Any:
        return label(service, keys[0]).get("confidence", "no label")

    assert (before, confidence()) == ([None], 3)
    undone = [
        (3, lambda: field_of(2, "text") == ""),
        (2, lambda: field_of(1, "skipped") is False),
        (2, lambda: field_of(1, "starred") is False),
        (1, lambda: confidence() is None),
        (1, lambda: confidence() == "no label"),
        (1, lambda: field_of(0, "text") == ""),
    ]
    for where, holds in undone:
        press(page, "Alt+z")
        assert place(page) == where
        until(holds)
    press(page, "Alt+z")
    expect(page.locator(".news")).to_have_text("There is nothing to undo.")


# Its place


def test_reload_back_forward_and_a_link_keep_the_place(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "&seed=9").page
    found = [key(page)]
    for number in (2, 3):
        press(page, "Control+Enter")
        assert place(page) == number
        found.append(key(page))
    page.reload()
    drawn(page)
    assert (place(page), key(page)) == (3, found[2])
    page.go_back()
    expect(page.locator(".queue-panel .panel")).to_have_attribute("data-key", str(found[1]))
    page.go_forward()
    expect(page.locator(".queue-panel .panel")).to_have_attribute("data-key", str(found[2]))
    assert key(opened(visit, rich, "&seed=9&index=2").page) == found[1]


@pytest.mark.parametrize(
    "rest", ["&seed=-1", "&seed=4294967296", "&seed=x", "&index=0", "&index=-5", "&only=nothing", "&sort=constructor"]
)
def test_wrong_choices_fall_back(visit: Open, rich: Path, rest: str) -> None:
    made = opened(visit, rich, rest)
    assert (fragment(made.page), made.problems) == ("#view=queue&seed=1&index=1", [])


def test_a_place_beyond_the_end_is_the_last_one(visit: Open, rich: Path) -> None:
    assert fragment(opened(visit, rich, "&index=99999").page) == "#view=queue&seed=1&index=37"


# Nothing is lost


def notes_at_full_speed(page: Page, count: int) -> dict[str, str]:
    """Write so many notes as fast as the page takes them; return them by key."""
    wanted: dict[str, str] = {}
    for number in range(count):
        wanted[str(key(page))] = f"note number {number}"
        page.keyboard.type(f"note number {number}")
        press(page, "Control+Enter")
    assert len(wanted) == count
    return wanted


def test_twenty_notes_at_full_speed_are_in_the_file_though_the_tab_is_closed(visit: Open, service: Service) -> None:
    page = opened(visit, address(service), "&only=open").page
    wanted = notes_at_full_speed(page, 20)
    page.close()
    until(lambda: {each: stored(service).get(each, {}).get("text", "").strip() for each in wanted} == wanted)


SILENT = """
const fetched = window.fetch;
window.fetch = (address, options) =>
  options.method === undefined && address.includes("/api/interpretations/")
    ? new Promise(() => {})
    : fetched(address, options);
"""


def test_notes_are_in_the_file_though_the_tab_is_closed_before_the_service_said_what_is_there(
    visit: Open, service: Service
) -> None:
    made = visit("about:blank")
    made.context.add_init_script(SILENT)
    made.page.goto(f"{address(service)}#view=queue&only=open")
    page = made.ready()
    wanted = notes_at_full_speed(page, 3)
    page.close()
    until(lambda: {each: stored(service).get(each, {}).get("text", "").strip() for each in wanted} == wanted)


def test_twenty_notes_are_in_the_file_after_a_crash_once_the_page_is_opened_again(
    visit: Open, service: Service
) -> None:
    made = opened(visit, address(service), "&only=open")
    page, wanted = made.page, notes_at_full_speed(made.page, 20)
    with page.expect_event("crash"), suppress(Error):
        page.goto("chrome://crash")
    made.context.new_page().goto(address(service))
    until(lambda: {each: stored(service).get(each, {}).get("text", "").strip() for each in wanted} == wanted)


def test_what_is_typed_until_the_next_panel_is_there_is_for_neither(visit: Open, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    save_dashboard(rich_page(), {}, file, largest=0)  # each layer in a file of its own
    held: list[Route] = []
    made = visit("about:blank")
    made.context.route("**/layer-*.js", lambda route: held.append(route))  # a bound method of a list has no attributes
    made.page.goto(f"{file.as_uri()}#view=queue&seed=1", wait_until="commit")  # what is held holds up `load`
    until(lambda: made.page.evaluate("true") and len(held) > 0)
    held.pop().continue_()
    page = made.ready()
    page.keyboard.type("done")
    page.keyboard.press("Control+Enter")
    page.keyboard.type("too early")
    page.keyboard.press("Control+Enter")
    expect(field(page)).to_have_value("done")
    until(lambda: made.page.evaluate("true") and len(held) > 0)
    for route in held:
        route.continue_()
    expect(field(page)).to_be_focused()
    expect(field(page)).to_have_value("")
    assert place(page) == 2
    page.keyboard.press("Alt+b")
    expect(field(page)).to_have_value("done")


def test_from_disk_the_browser_keeps_what_is_done(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "&only=mine").page
    page.keyboard.type("kept")
    press(page, "Alt+d")
    press(page, "Control+Enter")
    assert place(page) == 2
    page.reload()
    drawn(page)
    expect(field(page)).to_be_focused()
    press(page, "Alt+b")  # stops at those not labelled: there is none before
    expect(page.locator(".news")).to_have_text("This is the first one.")
    page.locator("#queue-only").select_option("all")
    press(page, "Alt+b")
    assert place(page) == 1
    expect(field(page)).to_have_value("kept")


# For everybody


@pytest.mark.parametrize("blind", ["", "&blind=1"])
def test_tab_reaches_every_control(visit: Open, rich: Path, blind: str) -> None:
    page = opened(visit, rich, blind).page
    controls = page.locator(
        "#view :is(a[href], button:not(:disabled), input, select, textarea):not(.wider, .measure a):visible"
    )
    controls.evaluate_all("(all) => all.forEach((each, number) => { each.dataset.number = number; })")
    assert sorted(tab_through(page)) == list(range(controls.count()))


@pytest.mark.parametrize("blind", ["", "&blind=1"])
def test_it_does_not_scroll_sideways(visit: Open, rich: Path, blind: str) -> None:
    page = opened(visit, rich, blind, viewport={"width": 320, "height": 700}).page
    for _ in range(5):
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        press(page, "Control+Enter")


def test_notes_of_the_page_itself_are_shown(visit: Open, rich: Path) -> None:
    page = opened(visit, rich, "&sort=feature&order=asc").page
    assert key(page) == "layer_3_q_proj_positive"
    expect(field(page)).to_have_value(NOTES["layer_3_q_proj_positive"].text)
