"""How long a durable save takes with 16 people writing at once, beside the disk's own durable save of the same file.

    python -m benchmarks.note_saves [--pairs 9]

The real service in a process of its own, over a file of 384 and of 25,000 notes. In turns: single saves of the same
bytes in this process (a new file, fsync, rename, fsync of the directory: nothing else can be called durable), and 16
connections that each save a text, wait for the answer and save the next. What counts is the 99th percentile of the
answers in terms of the median single save; and, of all turns together, in terms of the single saves' own percentile,
for the disk is late now and then in either case. The same 16 then save what is saved already, for which the disk has
nothing to do: so much is HTTP, Python and 16 that wait for one thread. The same percentile of 16 threads that call the
store without HTTP; and their throughput beside a store that syncs for every write and beside SQLite (WAL,
synchronous=FULL).

Checked first: every store holds what was last acknowledged.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from annotation_server import durable
from annotation_server.document import read_interpretations
from annotation_server.store import Edit, Store
from benchmarks.timing import PAIRS, write_result
from tests.annotation_server.service import Service, running

CLIENTS = 16
SIZES = (384, 25_000)
ROUNDS = {384: 60, 25_000: 40}  # saves of each client in one turn
SINGLE = {384: 60, 25_000: 40}  # single saves in one turn
TARGET = 4.0


def main() -> None:
    """Measure, print and write `benchmarks/results/note_saves.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    figures: dict[str, Any] = {"clients": CLIENTS, "target": TARGET, "sizes": {}}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            figures["sizes"][str(size)] = of_size(size, Path(name), options.pairs)
        print(size, json.dumps(figures["sizes"][str(size)]))
    write_result("note_saves", figures)


def of_size(size: int, folder: Path, pairs: int) -> dict[str, Any]:
    """Return the figures for a file of so many notes."""
    notes = folder / "interpretations.json"
    content = {"interpretations": {key(number): entry(number) for number in range(size)}}
    notes.write_text(json.dumps(content, indent=2), encoding="utf-8")
    with running(folder) as service:
        saves = through_http(service, size, pairs)
    return {"bytes": notes.stat().st_size, **saves, "without_http": without_http(notes, size, pairs)}


def key(number: int) -> str:
    """Return the key of a note."""
    return f"layer_{number // 448}_up_proj_c{number % 448}_positive"


def entry(number: int) -> dict[str, Any]:
    """Return a note as people write them."""
    text = f"Reacts to dates and years in legal texts, and to the numbers of clauses; seen {number} times."
    return {"text": text, "starred": number % 7 == 0, "lastModified": "2026-01-20T10:30:00Z"}


def through_http(service: Service, size: int, pairs: int) -> dict[str, Any]:
    """Return the ratio of the answers' 99th percentile to a single save, and how many are saved a second."""
    clients = [Client(service.port, key(number * (size // CLIENTS))) for number in range(CLIENTS)]
    ratios: list[float] = []
    unchanged: list[float] = []
    every: dict[str, list[float]] = {"single": [], "saved": []}
    seconds: dict[str, list[float]] = {"single": [], "p50": [], "p99": [], "rate": []}
    all_at_once(clients, 10)
    for _ in range(pairs):
        alone = single_saves(service.notes, SINGLE[size])
        single = statistics.median(alone)
        started = time.perf_counter()
        waited = all_at_once(clients, ROUNDS[size])
        rate = len(waited) / (time.perf_counter() - started)
        p50, p99 = np.percentile(waited, [50, 99])
        ratios.append(float(p99) / single)
        every["single"] += alone
        every["saved"] += waited
        unchanged.append(float(np.percentile(all_at_once(clients, ROUNDS[size], anew=False), 99)) / single)
        for name, value in zip(seconds, (single, float(p50), float(p99), rate), strict=True):
            seconds[name].append(value)
    saved = service.entries()
    assert all(saved[client.key]["text"] == client.text for client in clients)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "p99_by_single_save": round(statistics.median(ratios), 2),
        "from_to": [round(min(ratios), 2), round(max(ratios), 2)],
        "p99_by_single_p99": round(float(np.percentile(every["saved"], 99) / np.percentile(every["single"], 99)), 2),
        "p99_of_nothing_new_by_single_save": round(statistics.median(unchanged), 2),
        "pairs": pairs,
        "ms": {name: round(middle[name] * 1000, 2) for name in ("single", "p50", "p99")},
        "saves_a_second": round(middle["rate"]),
        "single_saves_a_second": round(1 / middle["single"]),
    }


def single_saves(notes: Path, times: int) -> list[float]:
    """Return the seconds of durable saves of the file's bytes under another name beside it, one after the other."""
    data, copy = notes.read_bytes(), notes.with_name("single.json")
    found: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        with durable.staged(copy, data) as temporary:
            durable.publish(temporary, copy)
        found.append(time.perf_counter() - started)
    return found


class Client:
    """A person's browser, as cheap as can be: it has one core with all others and must not be what is measured."""

    def __init__(self, port: int, of: str) -> None:
        self.key, self.text, self.number = of, "", 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = f"127.0.0.1:{port}"
        self.etag, self.received, self.sent = self._look(), b"", 0.0

    def _look(self) -> str:
        self.socket.sendall(f"GET /api/interpretations/{self.key} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        self.received = b""
        while (reply := self.reply()) is None:
            self.received += self.socket.recv(65536)
        return self.take(reply)

    def save(self, *, anew: bool = True) -> None:
        """Send the next text, or the last one again."""
        self.number += anew
        self.text = f"Reacts to dates and years in legal texts, and to the numbers of clauses; draft {self.number}."
        body = json.dumps({"text": self.text, "by": "Ada"}).encode()
        head = (
            f"PATCH /api/interpretations/{self.key} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
            f"If-Match: {self.etag}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.received, self.sent = b"", time.perf_counter()
        self.socket.sendall(head.encode() + body)

    def reply(self) -> bytes | None:
        """Return the head of the reply once all of it is there."""
        head, blank, body = self.received.partition(b"\r\n\r\n")
        if not blank:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head if len(body) >= length else None

    def take(self, head: bytes) -> str:
        """Return the ETag of a good reply."""
        assert head.startswith(b"HTTP/1.1 200"), self.received
        return head.lower().partition(b"etag: ")[2].split(b"\r\n")[0].decode()


def all_at_once(clients: Sequence[Client], rounds: int, *, anew: bool = True) -> list[float]:
    """Let every client save so many texts, or its last one so often; return the seconds of each answer."""
    waited: list[float] = []
    with selectors.DefaultSelector() as ready:
        left = dict.fromkeys(clients, rounds)
        for client in clients:
            ready.register(client.socket, selectors.EVENT_READ, client)
            client.save(anew=anew)
        while any(left.values()):
            for found, _ in ready.select():
                client: Client = found.data
                client.received += client.socket.recv(65536)
                head = client.reply()
                if head is None:
                    continue
                waited.append(time.perf_counter() - client.sent)
                client.etag = client.take(head)
                left[client] -= 1
                if left[client]:
                    client.save(anew=anew)
    return waited


class Saver(Protocol):
    """What keeps notes."""

    def save(self, of: str, text: str) -> None:
        """Return once the text is durable."""
        ...

    def saved(self, of: str) -> str:
        """Return the text that is on the disk."""
        ...

    def close(self) -> None:
        """Give the file up."""
        ...


class Grouped:
    """The service's own store."""

    kind: type[Store] = Store

    def __init__(self, notes: Path) -> None:
        self.notes, self.store = notes, self.kind(notes)

    def save(self, of: str, text: str) -> None:
        """Return once the text is durable."""
        assert self.store.submit(Edit(of, {"text": text, "by": "Ada"})).result().saved

    def saved(self, of: str) -> str:
        """Return the text that is on the disk."""
        return read_interpretations(self.notes).entries[of].text

    def close(self) -> None:
        """Give the file up."""
        self.store.close()


class _OneByOne(Store):
    def _next_batch(self) -> tuple[list[Any], bool]:
        waiting = self._queue.get()
        return ([], False) if waiting is None else ([waiting], True)


class Alone(Grouped):
    """The same with a commit for every save."""

    kind = _OneByOne


class Sqlite:
    """A table of notes, one transaction for every save, through one connection."""

    def __init__(self, notes: Path) -> None:
        self.lock, self.file = threading.Lock(), notes.with_suffix(".sqlite")
        self.file.unlink(missing_ok=True)
        self.connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute("CREATE TABLE notes (key TEXT PRIMARY KEY, entry TEXT)")
        rows = [(of, json.dumps(each.fields)) for of, each in read_interpretations(notes).entries.items()]
        with self.lock:
            self.connection.execute("BEGIN")
            self.connection.executemany("INSERT INTO notes VALUES (?, ?)", rows)
            self.connection.execute("COMMIT")

    def save(self, of: str, text: str) -> None:
        """Return once the text is durable."""
        changed = json.dumps({**entry(0), "text": text})
        with self.lock:
            self.connection.execute("UPDATE notes SET entry = ? WHERE key = ?", (changed, of))

    def saved(self, of: str) -> str:
        """Return the text that is on the disk."""
        with sqlite3.connect(self.file) as other:
            return json.loads(other.execute("SELECT entry FROM notes WHERE key = ?", (of,)).fetchone()[0])["text"]

    def close(self) -> None:
        """Give the file up."""
        self.connection.close()


def without_http(notes: Path, size: int, pairs: int) -> dict[str, Any]:
    """Return the saves a second of 16 threads, how many times that of the others the store's is, and its percentile."""
    kinds: dict[str, Callable[[Path], Saver]] = {"grouped": Grouped, "one_fsync_each": Alone, "sqlite": Sqlite}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    ratios: list[float] = []
    for _ in range(pairs):
        single = statistics.median(single_saves(notes, SINGLE[size]))
        for name, make in kinds.items():
            rate, waited = by_threads(make(notes), size)
            rates[name].append(rate)
            if name == "grouped":
                ratios.append(float(np.percentile(waited, 99)) / single)
    return {
        "p99_by_single_save": round(statistics.median(ratios), 2),
        "from_to": [round(min(ratios), 2), round(max(ratios), 2)],
        "saves_a_second": {name: round(statistics.median(found)) for name, found in rates.items()},
        "by": {
            name: round(statistics.median(a / b for a, b in zip(rates["grouped"], rates[name], strict=True)), 2)
            for name in kinds
            if name != "grouped"
        },
    }


def by_threads(saver: Saver, size: int) -> tuple[float, list[float]]:
    """Return how many texts a second 16 threads save, and the seconds of each."""
    keys, rounds = [key(number * (size // CLIENTS)) for number in range(CLIENTS)], ROUNDS[size] // 2
    waited: list[float] = []

    def write(of: str) -> None:
        for number in range(rounds):
            started = time.perf_counter()
            saver.save(of, f"draft {number}, and what else there is to say")
            waited.append(time.perf_counter() - started)

    saver.save(keys[0], "to warm up")
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(write, keys))
    rate = CLIENTS * rounds / (time.perf_counter() - started)
    assert all(saver.saved(of) == f"draft {rounds - 1}, and what else there is to say" for of in keys)
    saver.close()
    return rate, waited


if __name__ == "__main__":
    main()
