"""Many clients at a few notes of a real service: each adds its lines to texts that others change meanwhile.

A line that was acknowledged must stand in the file in the end, and whoever comes too late must hear 412. The control
is the same clients saving as the original's page did: read, change, write back whatever came between.
"""

from __future__ import annotations

import http.client
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.annotation_server.service import Reply, Service, entry_path, exchange, running

CLIENTS, EDITS, KEYS = 16, 500, 50
CONTROL_EDITS = 50

AddLine = Callable[[http.client.HTTPConnection, str, str], list[int]]  # the statuses of the replies to its writes


@dataclass(frozen=True)
class Tally:
    """What came of all clients' edits."""

    acknowledged: int
    statuses: Counter[int]  # of every write
    lost: int  # acknowledged, and not in the file
    unasked: int  # in the file, and never acknowledged, or more than once


def add_line(connection: http.client.HTTPConnection, key: str, line: str) -> list[int]:
    """Add a line to a note as the page does, beginning anew after each conflict."""
    current = exchange(connection, "GET", entry_path(key))
    statuses: list[int] = []
    while not statuses or statuses[-1] == 412:
        body = {"text": _text(current) + line + "\n"}
        current = exchange(connection, "PATCH", entry_path(key), body, {"If-Match": current.headers["etag"]})
        statuses.append(current.status)
    return statuses


def add_line_over_others(connection: http.client.HTTPConnection, key: str, line: str) -> list[int]:
    """Add a line as the original's page does: what was saved since it read the note is gone."""
    text = _text(exchange(connection, "GET", entry_path(key))) + line + "\n"
    body = {"featureKey": key, "text": text, "starred": False}
    return [exchange(connection, "POST", "/api/interpretations", body).status]


def _text(reply: Reply) -> str:
    return reply.json["interpretation"]["text"]


def edit_at_once(service: Service, clients: int, edits: int, keys: int, add: AddLine = add_line) -> Tally:
    """Let the clients make their edits, each on a note drawn at random, with a star now and then."""

    def edit_many(client: int) -> tuple[list[str], Counter[int]]:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
        chance = random.Random(client)
        acknowledged: list[str] = []
        statuses: Counter[int] = Counter()
        for edit in range(edits):
            key, line = f"layer_{chance.randrange(keys)}_up_proj_positive", f"client {client} edit {edit}"
            found = add(connection, key, line)
            statuses.update(found)
            if found[-1] == 200:
                acknowledged.append(line)
            if edit % 5 == 0:
                statuses[exchange(connection, "PATCH", entry_path(key), {"starred": True}).status] += 1
        connection.close()
        return acknowledged, statuses

    with ThreadPoolExecutor(clients) as pool:
        found = [*pool.map(edit_many, range(clients))]
    acknowledged = Counter(line for lines, _ in found for line in lines)
    in_file = Counter(line for entry in service.entries().values() for line in entry["text"].splitlines())
    return Tally(
        acknowledged.total(),
        sum((statuses for _, statuses in found), Counter()),
        (acknowledged - in_file).total(),
        (in_file - acknowledged).total(),
    )


def figures(edits: int, add: AddLine = add_line) -> dict[str, Any]:
    """Return what came of all clients' edits, on a service of its own."""
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as service:
        tally = edit_at_once(service, CLIENTS, edits, KEYS, add)
    return {
        "clients": CLIENTS,
        "keys": KEYS,
        "acknowledged": tally.acknowledged,
        "statuses": {str(status): number for status, number in sorted(tally.statuses.items())},
        "lost": tally.lost,
        "unasked": tally.unasked,
    }


def measure() -> dict[str, Any]:
    """Return the figures and those of the control."""
    control = figures(CONTROL_EDITS, add_line_over_others)
    return {**figures(EDITS), "control": {"save": "over what they have not seen", **control}}
