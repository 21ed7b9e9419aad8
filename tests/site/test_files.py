"""A dashboard on the disk leaves alone what is not its own."""

from __future__ import annotations

from pathlib import Path

from loradash_assets.site.build import FILE_NAME
from loradash_assets.site.files import data_directory, save_dashboard
from tests.site import samples


def test_data_files_of_before_go_and_what_a_person_keeps_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    theirs = [data_directory(file) / name for name in ("app.js", "layer-0.js", "layer-0-0-notes.js", "data.txt")]
    data_directory(file).mkdir()
    for each in theirs:
        each.write_text("mine", "utf-8")
    page = samples.page([samples.layer_tables(layer, samples.texts(2)) for layer in (3, 7)])
    save_dashboard(page, {}, file, largest=0)
    ours = set(data_directory(file).iterdir()) - set(theirs)
    assert len(ours) == 5  # two layers, windows, neighbours, texts
    assert all(FILE_NAME.fullmatch(each.name) for each in ours)
    save_dashboard(page, {}, file, largest=10**9)
    assert set(data_directory(file).iterdir()) == set(theirs)
    assert {each.read_text("utf-8") for each in theirs} == {"mine"}


def test_a_directory_that_held_data_files_alone_goes_with_them(tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    page = samples.page([samples.layer_tables(3, samples.texts(2))])
    save_dashboard(page, {}, file, largest=0)
    save_dashboard(page, {}, file, largest=10**9)
    assert not data_directory(file).exists()
