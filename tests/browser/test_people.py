"""Several people at the notes of one service: names, tags, confidence, conflicts, earlier texts, what others save."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from annotation_server.document import parse_document
from loradash_assets.schema import Polarity
from loradash_assets.site.build import render_dashboard
from loradash_assets.site.page import Adapter, Example, Feature, Layer, Note, Projection, Statistics
from loradash_assets.site.page import Page as Site
from loradash_assets.site.seen import digests
from tests.browser.axe import violations
from tests.browser.conftest import Open, Visit, drawn
from tests.browser.test_notes import KEY, Server, area, clean, panel, serving, state, until
from tests.browser.test_offline import exported
from tests.site import samples
from tests.site.hostile import HOSTILE
from tests.site.test_seen import VECTORS

OTHER = "layer_0_gate_proj_negative"


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    with serving(tmp_path) as server:
        yield server


def sample_page() -> Site:
    return samples.page([samples.layer_tables(layer, samples.texts(2)) for layer in range(2)])


def seen() -> list[str]:
    """Return the digests of the examples in the panel of KEY."""
    return next(
        list(digests(each.positive)) for each in sample_page().adapters[0].features() if KEY in each.keys.values()
    )


def named(visit: Open, address: str | Path, name: str, **options: Any) -> Visit:
    """Open the page as somebody, with the rows of tags open."""
    opened = visit(address, **options)
    page = opened.ready()
    page.locator("#person").fill(name)
    page.locator("#person").press("Enter")
    page.locator(".more").first.click()
    return opened


def typing(page: Page) -> Locator:
    """Return the text field of KEY, in focus; the page knows what is stored."""
    with page.expect_response(lambda reply: KEY in reply.url):
        area(page).focus()
    return area(page)


def write(server: Server, text: str, key: str = KEY, **changes: object) -> None:
    """Replace a note's text as another client of the service."""
    reply = server.service.patch({"text": text, **changes}, key, if_match=server.service.etag(key))
    assert reply.status == 200


def button(page: Page, name: str) -> Locator:
    return panel(page).get_by_role("button", name=name, exact=True)


def pressed(page: Page) -> list[str]:
    return panel(page).locator(".own [aria-pressed=true]").all_text_contents()


def without_times(entry: Mapping[str, Any]) -> dict[str, Any]:
    labels = {name: (each.get("tags"), each["confidence"]) for name, each in entry.get("labels", {}).items()}
    return {name: value for name, value in entry.items() if name not in ("lastModified", "textAt")} | {"labels": labels}


def test_name_text_tags_and_confidence_arrive_and_a_reload_shows_them(visit: Open, server: Server) -> None:
    opened = named(visit, server.address, "  Ada ")
    page = opened.page
    expect(page.locator("#person")).to_have_value("Ada")
    area(page).fill("ends of sentences")
    button(page, "dense").click()
    button(page, "4").click()
    panel(page).get_by_label("Another tag").fill(" my own ")
    panel(page).get_by_label("Another tag").press("Enter")
    until(lambda: server.stored().get("labels", {}).get("Ada", {}).get("tags") == ["dense", "my own"])
    until(lambda: "textBy" in server.stored())
    assert without_times(server.stored()) == {
        "text": "ends of sentences",
        "starred": False,
        "textBy": "Ada",
        "examplesSeen": seen(),
        "labels": {"Ada": (["dense", "my own"], 4)},
    }
    expect(state(page)).to_have_text("saved")
    page.reload()
    opened.ready()
    expect(page.locator("#person")).to_have_value("Ada")
    assert pressed(page) == ["dense", "my own", "4"]
    expect(panel(page).locator(".writer b")).to_have_text("Ada")
    assert clean(opened)


def test_tags_go_one_by_one_and_none_fits_is_something_else_than_no_label(visit: Open, server: Server) -> None:
    page = named(visit, server.address, "Ada").page
    for name, label in (
        ("unclear", (["unclear"], None)),
        ("3", (["unclear"], 3)),
        ("unclear", (None, 3)),
        ("none fits", ([], 3)),
        ("none fits", (None, 3)),
        ("3", None),
        ("none fits", ([], None)),
        ("positional", (["positional"], None)),
        ("none fits", ([], None)),
        ("none fits", None),
    ):
        button(page, name).click()
        until(lambda label=label: without_times(server.stored())["labels"].get("Ada") == label)
        given, sure = label or (None, None)
        shown = {*(["none fits"] if given == [] else given or [])} | ({str(sure)} if sure else set())
        assert set(pressed(page)) == shown
    assert "labels" not in server.stored()


@pytest.mark.parametrize("tags", [{}, {"tags": None}])
def test_who_said_only_how_sure_has_not_said_that_none_fits(visit: Open, server: Server, tags: dict[str, Any]) -> None:
    write(server, "one")
    content = json.loads(server.service.notes.read_bytes())
    content["interpretations"][KEY]["labels"] = {
        "Ada": {**tags, "confidence": 4, "colour": "red"},
        "Ben": {**tags, "confidence": 2},
        "Cleo": {"tags": [], "confidence": 3},
    }
    server.service.notes.write_text(json.dumps(content), "utf-8")
    page = named(visit, server.address, "Ada").page
    expect(panel(page).locator(".labels li")).to_have_text(["Ben sure: 2 of 5 ", "Cleo none fits sure: 3 of 5 "])
    assert pressed(page) == ["4"]
    button(page, "5").click()
    until(lambda: server.stored()["labels"]["Ada"]["confidence"] == 5)
    stored = server.stored()["labels"]["Ada"]
    assert {name: value for name, value in stored.items() if name != "at"} == {"confidence": 5, "colour": "red"}
    page.reload()
    drawn(page)
    assert pressed(page) == ["5"]


def test_who_gives_no_name_is_anonymous_and_a_text_has_no_writer(visit: Open, server: Server) -> None:
    page = visit(server.address).ready()
    expect(panel(page).locator(".own")).to_be_hidden()
    page.locator(".more").first.click()
    area(page).fill("by nobody")
    button(page, "dense").click()
    until(lambda: server.stored().get("text") == "by nobody" and "labels" in server.stored())
    assert server.stored()["labels"].keys() == {"anonymous"}
    assert "textBy" not in server.stored()
    page.locator("#person").fill("Ada")
    page.locator("#person").press("Enter")
    assert pressed(page) == []
    expect(panel(page).locator(".labels li")).to_contain_text("anonymous dense")


@pytest.mark.parametrize("way", ["another address", "closed"])
def test_a_tab_that_closes_after_the_last_key_loses_no_text_tag_or_confidence(
    visit: Open, server: Server, way: str
) -> None:
    page = named(visit, server.address, "Ada").page
    typing(page).fill("last words")
    button(page, "dense").click()
    button(page, "5").click()
    page.wait_for_timeout(100)
    assert server.stored() == {}
    if way == "closed":
        page.close(run_before_unload=True)
    else:
        page.goto("about:blank")
    until(lambda: server.stored().get("text") == "last words" and "labels" in server.stored())
    assert without_times(server.stored())["labels"] == {"Ada": (["dense"], 5)}
    assert server.stored()["textBy"] == "Ada"


def test_while_the_service_is_down_nothing_of_a_note_is_lost(visit: Open, server: Server) -> None:
    page = named(visit, server.address, "Ada").page
    typing(page)
    server.kill()
    area(page).fill("while it was down")
    button(page, "unclear").click()
    panel(page).locator(".star").click()
    expect(state(page)).to_have_text("not saved (retrying)")
    server.restart()
    expect(state(page)).to_have_text("saved")
    entry = server.stored()
    assert (entry["text"], entry["starred"], entry["textBy"]) == ("while it was down", True, "Ada")
    assert without_times(entry)["labels"] == {"Ada": (["unclear"], None)}


def crash(browser: Browser) -> None:
    """Kill the processes that run pages: none of them has time for anything."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    for process in processes:
        if process["type"] == "renderer":
            os.kill(process["id"], signal.SIGKILL)


def test_a_draft_outlives_another_tab_at_the_same_note_and_a_crash(
    visit: Open, browser: Browser, server: Server
) -> None:
    opened = visit(server.address)
    first = opened.ready()
    second = opened.context.new_page()
    for page in (first, second):
        page.goto(server.address)
        drawn(page)
        typing(page)
    server.kill()
    area(first).fill("typed in the first")
    expect(state(first)).to_have_text("not saved (retrying)")
    panel(second).locator(".star").click(click_count=2)
    area(second).blur()
    area(second).focus()
    crash(browser)
    server.restart()
    third = opened.context.new_page()
    third.goto(server.address)
    expect(area(third)).to_have_value("typed in the first")
    until(lambda: server.stored().get("text") == "typed in the first")


def test_what_others_save_appears_by_itself_and_not_over_what_one_types(visit: Open, server: Server) -> None:
    opened = named(visit, server.address, "Ada")
    page = opened.page
    typing(page).press_sequentially("Ada")
    expect(state(page)).to_have_text("saved")
    write(server, "Ben's", OTHER, by="Ben")
    server.service.patch({"by": "Ben", "tags": ["dense"], "confidence": 2, "starred": True}, KEY)
    other = page.locator(f"[data-key={OTHER}]")
    expect(other.locator("textarea")).to_have_value("Ben's")
    expect(other.locator(".writer b")).to_have_text("Ben")
    expect(panel(page).locator(".labels li")).to_contain_text("Ben dense sure: 2 of 5")
    expect(panel(page).locator(".star")).to_have_attribute("aria-pressed", "true")
    write(server, "Ada, says Ben", by="Ben")
    expect(area(page)).to_have_value("Ada, says Ben")
    area(page).press_sequentially("!")  # at once: the page knows what it replaces
    page.goto("about:blank")
    until(lambda: server.stored()["text"] == "Ada, says Ben!")
    assert clean(opened)


def test_another_run_of_the_service_on_an_edited_file_is_taken_in(visit: Open, server: Server) -> None:
    page = visit(server.address).ready()
    write(server, "will be gone", OTHER)
    expect(page.locator(f"[data-key={OTHER}] textarea")).to_have_value("will be gone")
    server.kill()
    entry = {"text": "from the file", "starred": True, "lastModified": "2026-01-20T10:30:00Z"}
    server.service.notes.write_text(json.dumps({"interpretations": {KEY: entry}}), "utf-8")
    server.restart()
    expect(area(page)).to_have_value("from the file")
    expect(page.locator(f"[data-key={OTHER}] textarea")).to_have_value("")


def in_conflict(visit: Open, server: Server, **options: Any) -> Visit:
    """Open the page as Ada, who wrote "one / mine / end" where Ben wrote "one / theirs / end"."""
    opened = named(visit, server.address, "Ada", **options)
    typing(opened.page)
    held: list[Route] | None = []  # the page must not hear of Ben's text before Ada's is sent
    opened.page.route("**/api/changes*", lambda route: route.continue_() if held is None else held.append(route))
    write(server, "one\ntheirs\nend", by="Ben")
    area(opened.page).fill("one\nmine\nend")
    expect(state(opened.page)).to_have_text("conflict")
    waiting, held = held, None
    for route in waiting:
        route.continue_()
    return opened


def test_two_texts_are_merged_by_hand_and_the_rest_never_conflicts(visit: Open, server: Server) -> None:
    page = in_conflict(visit, server).page
    conflict = panel(page).locator(".conflict")
    expect(conflict.locator("h4 b")).to_have_text(["Ada", "Ben"])
    merged = conflict.get_by_label("Merged")
    expect(merged).to_have_value("one\ntheirs\nmine\nend")
    button(page, "dense").click()
    panel(page).locator(".star").click()
    until(lambda: without_times(server.stored())["labels"] == {"Ada": (["dense"], None)} and server.stored()["starred"])
    assert server.stored()["text"] == "one\ntheirs\nend"
    expect(state(page)).to_have_text("conflict")
    merged.fill("both")
    write(server, "the third", by="Cleo")
    expect(conflict.locator("pre")).to_have_text(["one\nmine\nend", "the third"])
    expect(merged).to_have_value("both")
    page.reload()
    drawn(page)
    expect(conflict.locator("pre")).to_have_text(["one\nmine\nend", "the third"])
    expect(merged).to_have_value("both")
    button(page, "Save merged").click()
    until(lambda: server.stored()["text"] == "both")
    expect(conflict).to_be_hidden()
    expect(area(page)).to_have_value("both")
    assert server.stored()["textBy"] == "Ada"


def test_an_earlier_text_is_had_back(visit: Open, server: Server) -> None:
    texts = ("first\nwith a line", "second", "third")
    for text, by in zip(texts, ("Ben", "Cleo", "Ben"), strict=True):
        write(server, text, by=by)
    opened = named(visit, server.address, "Ada")
    page = opened.page
    panel(page).get_by_role("button", name="Earlier texts").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("pre")).to_have_text(["second", "first\nwith a line"])
    expect(dialog.locator("li p").first).to_contain_text("written by Cleo")
    expect(dialog.locator("li p").first).to_contain_text("by Ben")
    dialog.get_by_role("button", name="Restore").nth(1).click()
    expect(dialog).to_have_count(0)
    until(lambda: server.stored()["text"] == texts[0])
    assert server.stored()["textBy"] == "Ada"
    history = server.service.request("GET", f"/api/history/{KEY}").json["history"]
    assert [each["text"] for each in history] == ["third", "second", texts[0]]
    assert clean(opened)


def test_a_note_whose_examples_have_changed_says_so_until_it_still_fits(visit: Open, server: Server) -> None:
    present = seen()
    assert len(present) == 4
    gone = ["00000000", "00000001", "00000002"]
    write(server, "before", examplesSeen=gone[:2] + present[:2])
    write(server, "on examples that nobody noted", OTHER)
    page = visit(server.address).ready()
    expect(area(page)).to_have_value("before")
    expect(page.locator(".stale")).to_have_count(0)
    server.service.patch({"examplesSeen": gone + present[:1]}, KEY)
    expect(page.locator(".stale")).to_have_count(1)
    expect(panel(page).locator(".stale")).to_contain_text("(1 of 4 are still here)")
    button(page, "Still fits").click()
    until(lambda: server.stored()["examplesSeen"] == present)
    expect(panel(page).locator(".stale")).to_have_count(0)
    assert server.stored()["text"] == "before"


def test_digests_are_those_of_the_shared_vectors(visit: Open, tmp_path: Path) -> None:
    vectors = VECTORS["digests"]
    examples = tuple(
        Example(1.0, row, 0, None, tuple(each["tokens"]), (1.0,) * len(each["tokens"]), each["target"], 1)
        for row, each in enumerate(vectors)
    )
    keys: dict[Polarity, str] = {"positive": KEY, "negative": OTHER}
    feature = Feature(0, "gate_proj", None, keys, Statistics(-1.0, 2.0, count=1), examples, ())
    site = Site("vectors", (Adapter(None, "a", {}, (Layer(0, (Projection("gate_proj", (feature,)),)),)),))
    path = tmp_path / "vectors.html"
    path.write_text(render_dashboard(site, {}), "utf-8")
    page = visit(path).ready()
    area(page).fill("written")
    assert exported(page)[KEY]["examplesSeen"] == list(dict.fromkeys(each["digest"] for each in vectors))


def test_from_disk_labels_and_names_are_kept_and_exported(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "dashboard.html"
    path.write_text(render_dashboard(sample_page(), {OTHER: Note("built in")}), "utf-8")
    opened = named(visit, path, "Ada")
    page = opened.page
    area(page).fill("mine")
    button(page, "dense").click()
    button(page, "2").click()
    page.reload()
    opened.ready()
    assert pressed(page) == ["dense", "2"]
    notes = exported(page)
    assert without_times(notes[KEY]) == {
        "text": "mine",
        "starred": False,
        "textBy": "Ada",
        "examplesSeen": seen(),
        "labels": {"Ada": (["dense"], 2)},
    }
    read = parse_document(json.dumps({"interpretations": notes}).encode(), "exported")
    assert (read.entries[KEY].text_by, read.entries[KEY].labels["Ada"].tags) == ("Ada", ("dense",))
    assert read.entries[OTHER].text == "built in"


def test_from_disk_a_confidence_alone_is_kept_and_exported_without_tags(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "dashboard.html"
    path.write_text(render_dashboard(sample_page(), {}), "utf-8")
    opened = named(visit, path, "Ada")
    page = opened.page
    button(page, "2").click()
    dialog = choose(page, tmp_path, {OTHER: {"labels": {"Ben": {"tags": None, "confidence": 4}}}})
    dialog.get_by_role("button", name="Import what is new").click()
    dialog.get_by_role("button", name="Close").click()
    page.reload()
    opened.ready()
    assert pressed(page) == ["2"]
    notes = exported(page)
    assert without_times(notes[KEY])["labels"] == {"Ada": (None, 2)}
    assert notes[OTHER]["labels"] == {"Ben": {"confidence": 4}}
    assert '"tags"' not in json.dumps(notes)
    button(page, "2").click()
    assert KEY not in exported(page)


def test_from_disk_two_tabs_keep_each_others_notes(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "dashboard.html"
    path.write_text(render_dashboard(sample_page(), {}), "utf-8")
    opened = visit(path)
    first, second = opened.ready(), opened.context.new_page()
    second.goto(path.as_uri())
    drawn(second)
    area(first).fill("from the first")
    expect(area(second)).to_have_value("from the first")
    panel(second).locator(".star").click()
    expect(panel(first).locator(".star")).to_have_attribute("aria-pressed", "true")
    first.reload()
    expect(area(first)).to_have_value("from the first")


def choose(page: Page, folder: Path, content: object) -> Locator:
    """Choose a file in the import dialog; return the dialog."""
    file = folder / "notes.json"
    file.write_text(json.dumps(content), "utf-8")
    page.get_by_role("button", name="Import").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("File of notes").set_input_files(file)
    return dialog


IMPORTED: dict[str, Any] = {
    KEY: {
        "text": "from the file",
        "labels": {"Ben": {"tags": ["dense"], "confidence": None, "at": "2026-01-20T10:30:00Z"}},
    },
    "L0_gate_proj_negative": {"text": "new", "starred": True, "textBy": "Ben"},
    "no feature": {"text": "lost?"},
}


def test_from_disk_a_file_is_taken_in_after_a_look_and_taken_back(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "dashboard.html"
    path.write_text(render_dashboard(sample_page(), {}), "utf-8")
    page = named(visit, path, "Ada").page
    other = page.locator(f"[data-key={OTHER}]")
    area(page).fill("mine")
    dialog = choose(page, tmp_path, {"interpretations": IMPORTED})
    expect(dialog.locator("summary")).to_have_text(
        ["2: new notes, or what notes lacked", "1: differ from what is here, which stays"]
    )
    expect(dialog.locator(".refused")).to_have_text("no feature: not the name of a feature")
    expect(other.locator("textarea")).to_have_value("")
    dialog.get_by_role("button", name="Import what is new").click()
    expect(other.locator("textarea")).to_have_value("new")
    expect(other.locator(".writer b")).to_have_text("Ben")
    expect(area(page)).to_have_value("mine")
    expect(panel(page).locator(".labels li")).to_contain_text("Ben dense")
    dialog.get_by_role("button", name="Undo").click()
    expect(other.locator("textarea")).to_have_value("")
    expect(panel(page).locator(".labels")).to_have_count(0)
    dialog.get_by_role("button", name="Close").click()
    dialog = choose(page, tmp_path, IMPORTED)
    dialog.get_by_role("button", name="Import all, and replace 1").click()
    expect(area(page)).to_have_value("from the file")
    dialog.get_by_role("button", name="Undo").click()
    expect(area(page)).to_have_value("mine")


def test_the_service_takes_a_file_in_after_a_look_and_takes_it_back(
    visit: Open, server: Server, tmp_path: Path
) -> None:
    opened = named(visit, server.address, "Ada")
    page = opened.page
    area(page).fill("mine")
    expect(state(page)).to_have_text("saved")
    dialog = choose(page, tmp_path, {"interpretations": IMPORTED})
    expect(dialog.locator("summary")).to_have_text(
        ["2: new notes, or what notes lacked", "1: differ from what is here, which stays"]
    )
    expect(dialog.locator(".refused li")).to_have_count(1)
    assert server.service.entries().keys() == {KEY}
    dialog.get_by_role("button", name="Import all, and replace 1").click()
    expect(area(page)).to_have_value("from the file")
    expect(page.locator(f"[data-key={OTHER}] textarea")).to_have_value("new")
    assert server.stored()["text"] == "from the file"
    dialog.get_by_role("button", name="Undo").click()
    expect(area(page)).to_have_value("mine")
    expect(page.locator(f"[data-key={OTHER}] textarea")).to_have_value("")
    assert server.stored()["text"] == "mine"
    assert clean(opened)


@pytest.mark.parametrize("content", [[], "text", {"interpretations": 3}, None])
def test_from_disk_what_is_no_file_of_notes_is_refused(visit: Open, tmp_path: Path, content: object) -> None:
    path = tmp_path / "dashboard.html"
    path.write_text(render_dashboard(sample_page(), {}), "utf-8")
    dialog = choose(visit(path).ready(), tmp_path, content)
    expect(dialog.locator(".caution")).to_contain_text("not a file of notes")


def test_hostile_names_tags_and_texts_are_shown_as_they_are(visit: Open, server: Server) -> None:
    labels = {name: {"tags": [name], "confidence": 3, "at": name} for name in HOSTILE}
    entry = {"text": "one", "starred": False, "textBy": HOSTILE[0], "textAt": HOSTILE[0], "labels": labels}
    server.kill()
    server.service.notes.write_text(json.dumps({"interpretations": {KEY: entry}}), "utf-8")
    lines = [
        {
            "featureKey": KEY,
            "text": text,
            "textBy": text,
            "lastModified": text,
            "replacedAt": text,
            "replacedBy": "file",
            "by": text,
        }
        for text in HOSTILE[:100]
    ]
    history = server.folder / "interpretations.json.history.jsonl"
    history.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    server.restart()
    opened = visit(server.address)
    page = opened.ready()
    items = panel(page).locator(".labels li")
    expect(items).to_have_count(len(HOSTILE))
    assert items.locator("b").all_text_contents() == list(HOSTILE)
    assert items.locator(".tag").all_text_contents() == list(HOSTILE)
    assert panel(page).locator(".writer b").all_text_contents() == [HOSTILE[0]]
    page.locator(".more").first.click()
    panel(page).get_by_role("button", name="Earlier texts").click()
    texts = page.get_by_role("dialog").locator("pre")
    expect(texts).to_have_count(100)
    assert texts.all_text_contents() == list(reversed(HOSTILE[:100]))
    page.get_by_role("button", name="Close").click()
    page.locator("#person").fill(HOSTILE[3])
    page.locator("#person").press("Enter")
    panel(page).get_by_label("Another tag").fill(HOSTILE[3])
    panel(page).get_by_label("Another tag").press("Enter")
    expect(panel(page).locator(".own .tags [aria-pressed=true]").last).to_have_text(HOSTILE[3])
    opened.settled()
    assert not page.evaluate("window.attacked")
    assert clean(opened)


@pytest.mark.parametrize("width", [320, 1280])
def test_no_rule_of_accessibility_is_broken(visit: Open, server: Server, width: int) -> None:
    size = {"width": width, "height": 900}
    write(server, "before", OTHER, examplesSeen=["00000000"])
    page = in_conflict(visit, server, bypass_csp=True, viewport=size).page
    button(page, "dense").click()
    button(page, "4").click()
    server.service.patch({"by": "Ben", "tags": ["unclear"], "confidence": 2}, KEY)
    expect(panel(page).locator(".labels li")).to_have_count(1)
    expect(page.locator(".stale")).to_have_count(1)
    found = violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    panel(page).get_by_role("button", name="Earlier texts").click()
    page.get_by_text("No text of this note was replaced yet.").wait_for()
    found += violations(page)
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Import").click()
    found += violations(page)
    assert not found, "\n".join(found)
