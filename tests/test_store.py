"""The store: complete or not at all, one builder at a time, and whatever is damaged is noticed and built again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loradash_assets.store import (
    MANIFEST,
    DamagedError,
    Entry,
    Facts,
    Store,
    StoreInUseError,
    fingerprint,
    intact_file,
    is_sealed,
    write_atomically,
)

REPOSITORY = Path(__file__).parent.parent


def fill(directory: Path) -> Facts:
    (directory / "inside").mkdir(exist_ok=True)
    (directory / "table.bin").write_bytes(bytes(range(256)) * 3)
    (directory / "inside" / "text.txt").write_text("Ünïcode\n", encoding="utf-8")
    (directory / "empty").write_bytes(b"")
    return {"rows": 3, "norms": [0.1, 2.5e-7], "names": {"a": "x"}, "_recorded_at": "2024-01-20", "_files": "/a/b"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def content(entry: Entry) -> dict[str, bytes]:
    files = (file for file in entry.path.rglob("*") if file.is_file())
    return {str(file.relative_to(entry.path)): file.read_bytes() for file in files}


def test_an_entry_is_built_once_and_found_afterwards(store: Store) -> None:
    assert store.find("stage", "f") is None
    built, hit = store.build("stage", "f", fill)
    assert not hit
    again, hit = store.build("stage", "f", lambda _: pytest.fail("built twice"))
    assert hit
    found = store.find("stage", "f")
    assert built == again == found
    assert built.facts["names"] == {"a": "x"}
    assert set(content(built)) == {"table.bin", "inside/text.txt", "empty", MANIFEST}
    assert built.size() == sum(map(len, content(built).values()))
    assert store.find("other", "f") is store.find("stage", "g") is None


def test_a_file_is_handed_out_only_as_it_was_put_there(store: Store) -> None:
    entry, _ = store.build("stage", "f", fill)
    file = intact_file(entry, "inside/text.txt")
    assert file.read_text(encoding="utf-8") == "Ünïcode\n"
    (entry.path / "table.bin").unlink()
    assert intact_file(entry, "inside/text.txt") == file  # whatever became of the others
    with pytest.raises(DamagedError, match=r"table\.bin"):
        intact_file(entry, "table.bin")
    file.write_text("Unicode\n", encoding="utf-8")
    with pytest.raises(DamagedError, match=r"text\.txt"):
        intact_file(entry, "inside/text.txt")


@pytest.mark.parametrize(
    ("old", "new"), [('"rows": 3', '"rows": 4'), ('"_recorded_at": "2024', '"_recorded_at": "2025'), ("{", "")]
)
def test_a_manifest_is_sealed_until_it_is_changed(store: Store, old: str, new: str) -> None:
    entry, _ = store.build("stage", "f", fill)
    (entry.path / "table.bin").unlink()
    assert is_sealed(Entry(entry.path))
    manifest = entry.path / MANIFEST
    changed = manifest.read_text().replace(old, new, 1)
    assert changed != manifest.read_text()
    manifest.write_text(changed)
    assert not is_sealed(Entry(entry.path))
    manifest.unlink()
    assert not is_sealed(Entry(entry.path))


def test_facts_that_json_changes_are_still_intact(store: Store) -> None:
    store.build("stage", "f", lambda _: {"by_number": {10: "a", 9: "b"}, "pair": (1, 2)})
    found = store.find("stage", "f")
    assert found is not None
    assert found.facts == {"by_number": {"10": "a", "9": "b"}, "pair": [1, 2]}


def test_the_digest_is_of_the_content_alone(store: Store) -> None:
    def digest(name: str, text: str, facts: Facts) -> str:
        def build(directory: Path) -> Facts:
            (directory / name).write_text(text, encoding="utf-8")
            return facts

        inputs = fingerprint(len(list(store.root.glob("stage/*"))))  # other inputs every time
        return store.build("stage", inputs, build)[0].digest

    first = digest("a", "text", {"rows": 1, "_at": "monday"})
    assert digest("a", "text", {"_at": "tuesday", "_more": 1, "rows": 1}) == first
    others = [
        digest("b", "text", {"rows": 1}),
        digest("a", "texts", {"rows": 1}),
        digest("a", "text", {"rows": 2}),
        digest("a", "text", {"rows": 1, "at": "monday"}),
    ]
    assert len({first, *others}) == 5


def test_fingerprints_follow_the_parts_not_the_order_of_their_fields() -> None:
    assert fingerprint("a", {"x": 1, "y": [2]}) == fingerprint("a", {"y": [2], "x": 1})
    assert len({fingerprint(*parts) for parts in [("a", "b"), ("ab",), ("b", "a"), (["a", "b"],), ()]}) == 5


def damage(file: Path, chance: random.Random) -> None:
    """Flip one bit of the file, cut it short, or remove it."""
    data = bytearray(file.read_bytes())
    how = chance.random()
    if not data or how < 0.05:
        file.unlink()
    elif how < 0.35:
        os.truncate(file, chance.randrange(len(data)))
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)


def test_damage_anywhere_is_noticed_and_built_again(store: Store) -> None:
    chance = random.Random(0)
    entry = store.build("stage", "f", fill)[0]
    before, manifest = content(entry), dict(entry.manifest)
    noticed = 0
    for _ in range(400):
        damage(entry.path / chance.choice(sorted(before)), chance)
        found = store.find("stage", "f")
        # The one harmless damage: the manifest still says the same, such as 2.5e-7 spelled 2.5E-7.
        assert found is None or (
            found.manifest == manifest and {**content(found), MANIFEST: before[MANIFEST]} == before
        )
        noticed += found is None
        rebuilt, hit = store.build("stage", "f", fill)
        assert hit == (found is not None)
        assert content(rebuilt) == before or hit
        write_atomically(entry.path / MANIFEST, before[MANIFEST])
    assert noticed > 390


def test_a_manifest_of_another_shape_is_no_entry(store: Store) -> None:
    entry = store.build("stage", "f", fill)[0]
    for wrong in ("[]", "null", "{}", '{"files": [], "facts": {}}', '{"files": {}, "facts": 3}', '"x"', "1e999", "["):
        (entry.path / MANIFEST).write_text(wrong, encoding="utf-8")
        assert store.find("stage", "f") is None


def test_a_builder_that_fails_leaves_no_entry(store: Store) -> None:
    def fail(directory: Path) -> Facts:
        (directory / "half").write_text("half", encoding="utf-8")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        store.build("stage", "f", fail)
    assert store.find("stage", "f") is None
    assert "half" not in content(store.build("stage", "f", fill)[0])


WRITER = """
import sys, time
from pathlib import Path
from loradash_assets.store import Store

def build(directory):
    (directory / "chunk-0").write_bytes(b"kept")
    (directory / ".chunk-1.99.tmp").write_bytes(b"half a chu")
    (directory / ".manifest.json.99.tmp").write_bytes(b"{")
    print("midway", flush=True)
    time.sleep(600)

Store(Path(sys.argv[1])).build("stage", "f", build, resumable=sys.argv[2] == "resumable")
"""


@pytest.mark.parametrize("kind", ["resumable", "plain"])
def test_a_killed_builder_leaves_no_entry_and_a_resumable_one_its_files(store: Store, kind: str) -> None:
    command = [sys.executable, "-c", WRITER, str(store.root), kind]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"midway\n"
        process.send_signal(signal.SIGKILL)
    assert store.find("stage", "f") is None
    assert [path.name for path in (store.root / "stage").glob("f*/")] == ["f.partial"]

    found: list[str] = []

    def resume(directory: Path) -> Facts:
        found.extend(sorted(os.listdir(directory)))
        (directory / "chunk-0").write_bytes(b"kept")
        (directory / "chunk-1").write_bytes(b"half a chunk")
        return {}

    resumed, _ = store.build("stage", "f", resume, resumable=kind == "resumable")
    uninterrupted, _ = Store(store.root / "other").build("stage", "f", resume)
    assert found == (["chunk-0"] if kind == "resumable" else [])
    assert content(resumed) == content(uninterrupted)
    assert [path.name for path in (store.root / "stage").glob("f*/")] == ["f"]


ASKER = """
import sys, time
from pathlib import Path
from loradash_assets.store import Store

def build(directory):
    with Path(sys.argv[2]).open("a") as log:
        log.write("built\\n")
    time.sleep(0.3)  # so that all ask while one builds
    (directory / "file").write_text("x")
    return {}

print(Store(Path(sys.argv[1])).build("stage", "f", build)[1])
"""


def test_several_processes_that_ask_for_one_entry_build_it_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", ASKER, str(store.root), str(log)]
    processes = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [process.communicate()[0].strip() for process in processes]
    assert sorted(answers) == ["False", "True", "True", "True"]
    assert log.read_text(encoding="utf-8") == "built\n"


USER = """
import sys
from pathlib import Path
from loradash_assets.store import Store

with Store(Path(sys.argv[1])).in_use():
    print("using", flush=True)
    sys.stdin.read()
"""


def test_nobody_has_a_store_alone_while_others_use_it_and_one_that_is_killed_does_not_count(store: Store) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", USER, str(store.root)]
    users = [subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe) for _ in range(2)]
    for user in users:
        assert user.stdout is not None
        assert user.stdout.readline() == b"using\n"
    for user in users:
        with pytest.raises(StoreInUseError), store.alone():
            pytest.fail("not alone")
        user.kill()
        user.communicate()
    with store.alone():
        pass


def test_a_damaged_entry_never_mixes_with_what_replaces_it(store: Store) -> None:
    entry = store.build("stage", "f", fill, resumable=True)[0]
    (entry.path / "table.bin").write_bytes(b"damaged")
    rebuilt, hit = store.build("stage", "f", lambda _: {"rows": 0}, resumable=True)
    assert (hit, set(content(rebuilt))) == (False, {MANIFEST})


def test_writing_atomically_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    write_atomically(file, b"long content")
    write_atomically(file, b"short")
    assert file.read_bytes() == b"short"
    shutil.rmtree(file.parent)
    (file / "a directory in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="file"):
        write_atomically(file, b"lost")
    assert os.listdir(file.parent) == ["file"]


def test_the_manifest_says_what_is_there(store: Store) -> None:
    entry = store.build("stage", "f", fill)[0]
    manifest: dict[str, Any] = json.loads((entry.path / MANIFEST).read_text(encoding="utf-8"))
    assert set(manifest) == {"digest", "facts", "files", "seal"}
    assert set(manifest["files"]) == {"table.bin", "inside/text.txt", "empty"}
