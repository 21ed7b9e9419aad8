"""kill -9 of a real service while four clients write, then a start on what it left.

Every file must parse, hold what was acknowledged, and serve again. Half of the kills come at random times, half before
a random one of the system calls of which a commit consists. The control is the same service writing over the file
itself, as the original did, killed at random times.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.annotation_server.service import Service, exchange, running

KILLS, CONTROL_KILLS = 500, 200
KEYS = tuple(f"layer_{number}_up_proj_positive" for number in range(4))
OTHERS, OTHER_TEXT = 800, "x" * 200  # notes that make the file as large as people's are
MOST_EDITS, LONGEST_WAIT = 20, 0.03  # acknowledged before the moment, and seconds after the last of them
CALLS = 200  # among which the last one is drawn: some twenty commits
SERVICE, IN_PLACE, DYING = "annotation_server", "benchmarks.reliability.in_place", "benchmarks.reliability.dying"


@dataclass
class Killed:
    """What was found after the kills."""

    kills: int = 0
    broken: int = 0  # files that do not parse
    lost: int = 0  # acknowledged texts that a whole file does not have
    before_calls: Counter[str] = field(default_factory=Counter[str])  # of the kills that came before a system call


def write_until_killed(service: Service, key: str, start: int, acknowledged: Callable[[int], None]) -> None:
    """Save the numbers from `start` on as the note's text until the connection breaks."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        for number in range(start, start + 100_000):
            body = {"featureKey": key, "text": str(number), "starred": False}
            assert exchange(connection, "POST", "/api/interpretations", body).status == 200
            acknowledged(number)
    except (http.client.HTTPException, OSError):
        connection.close()


def kill_at_a_time(folder: Path, last: dict[str, int], chance: random.Random, module: str = SERVICE) -> None:
    """Run a service and kill it some time after some edits; `last` follows what it acknowledged."""
    after, wait = chance.randint(1, MOST_EDITS), chance.uniform(0, LONGEST_WAIT)
    with running(folder, module=module) as service, writing(service, last) as counted:
        for _ in range(after):
            assert counted.acquire(timeout=60)
        time.sleep(wait)
        service.process.send_signal(signal.SIGKILL)


def kill_before_a_call(folder: Path, last: dict[str, int], chance: random.Random) -> str:
    """Run a service that dies before a system call; return that call's name; `last` follows what it acknowledged."""
    with running(folder, "--before-call", str(chance.randrange(CALLS)), module=DYING) as service:
        with writing(service, last):
            assert service.process.wait(timeout=120) == -signal.SIGKILL
        assert service.process.stderr is not None
        return service.process.stderr.read().strip()


@contextmanager
def writing(service: Service, last: dict[str, int]) -> Generator[threading.Semaphore]:
    """Inside, a client writes at each key of `last`, until the service dies; each acknowledgement is counted."""
    counted = threading.Semaphore(0)

    def acknowledged(key: str, number: int) -> None:
        last[key] = number
        counted.release()

    arguments = [(service, key, last[key] + 1, lambda number, key=key: acknowledged(key, number)) for key in last]
    threads = [threading.Thread(target=write_until_killed, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    yield counted
    for thread in threads:
        thread.join()


def kill_often(folder: Path, kills: int, module: str = SERVICE) -> Killed:
    """Kill a service so many times, each started on what the one before left; a broken file is put right first."""
    notes, whole = folder / "interpretations.json", folder / "whole.json"
    others = {f"layer_{number}_o_proj_positive": {"text": OTHER_TEXT, "starred": False} for number in range(OTHERS)}
    notes.write_text(json.dumps({"interpretations": others}))
    chance, found, saved = random.Random(7), Killed(), dict.fromkeys(KEYS, 0)
    for number in range(kills):
        shutil.copyfile(notes, whole)
        last = dict(saved)
        if module == SERVICE and number % 2:
            found.before_calls[kill_before_a_call(folder, last, chance)] += 1
        else:
            kill_at_a_time(folder, last, chance, module)
        found.kills += 1
        try:
            texts = _texts(notes)
        except ValueError:
            found.broken += 1
            shutil.copyfile(whole, notes)
            continue
        # One more than acknowledged: saved, but killed before the reply.
        found.lost += sum(not last[key] <= texts[key] <= last[key] + 1 for key in KEYS)
        saved = texts
    return found


def _texts(notes: Path) -> dict[str, int]:
    entries = json.loads(notes.read_bytes())["interpretations"]
    return {key: int(entries.get(key, {"text": "0"})["text"]) for key in KEYS}


def figures(kills: int, module: str = SERVICE) -> dict[str, Any]:
    """Return what was found after so many kills of a service."""
    with tempfile.TemporaryDirectory() as name:
        found = kill_often(Path(name), kills, module)
    return {"kills": found.kills, "broken": found.broken, "lost": found.lost, "before_calls": dict(found.before_calls)}


def measure() -> dict[str, Any]:
    """Return the figures and those of the control."""
    control = figures(CONTROL_KILLS, IN_PLACE)
    return {**figures(KILLS), "control": {"writes": "over the file itself", **control}}
