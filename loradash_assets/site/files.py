"""A dashboard on the disk: its HTML file, and beside it the directory of its data files where it has any."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from urllib.parse import quote

from markupsafe import escape

from loradash_assets.site.build import FILE_NAME, split_dashboard
from loradash_assets.site.page import Note, Page
from loradash_assets.store import copy_atomically, write_atomically


def data_directory(dashboard: Path) -> Path:
    """Return where the data files of a dashboard lie."""
    return dashboard.with_name(f"{dashboard.stem}_data")


def _data_files(dashboard: Path) -> list[Path]:
    return [file for file in data_directory(dashboard).glob("*.js") if FILE_NAME.fullmatch(file.name)]


def save_dashboard(page: Page, notes: Mapping[str, Note], file: Path, largest: int) -> dict[str, int]:
    """Write a page to `file`, in one file up to `largest` bytes of data; return its bytes and those beside it.

    Everything appears by rename, the page last; data files of a page that stood there before are removed.
    """
    made = split_dashboard(page, notes, quote(data_directory(file).name), largest)
    for name, text in made.files.items():
        write_atomically(data_directory(file) / name, text.encode())
    html = made.html.encode()
    write_atomically(file, html)
    remove_data(file, keep=made.files.keys())
    return {"bytes": len(html), "bytes_beside": sum(map(len, made.files.values()))}


def copy_dashboard(source: Path, file: Path) -> None:
    """Copy a dashboard with its data files to another place and name."""
    names = {each.name for each in _data_files(source)}
    for name in names:
        copy_atomically(data_directory(source) / name, data_directory(file) / name)
    before, after = (f'data-file="{escape(quote(data_directory(each).name))}/' for each in (source, file))
    write_atomically(file, source.read_text("utf-8").replace(before, after).encode())
    remove_data(file, keep=names)


def remove_data(dashboard: Path, keep: Container[str]) -> None:
    """Remove data files of a dashboard that are not named in `keep`, and their directory once it is empty.

    What else lies in that directory stays: it may be a person's, who has no dashboard there.
    """
    directory = data_directory(dashboard)
    for file in _data_files(dashboard):
        if file.name not in keep:
            file.unlink()
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
