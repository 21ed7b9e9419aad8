"""Real processes: many clients at once, kill -9 in the middle of writing, two servers, orderly and refused starts."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.annotation_server.service import Service, entry_path, exchange, refused, running, stop

KEYS = [f"layer_{number}_up_proj_positive" for number in range(10)]
CLIENTS, EDITS = 8, 40
KILLS = 10


def add_line(connection: http.client.HTTPConnection, key: str, line: str) -> int:
    """Adds a line to a note as the page would, beginning anew after each conflict; the number of conflicts."""
    current = exchange(connection, "GET", entry_path(key))
    conflicts = 0
    while True:
        text = current.json["interpretation"]["text"] + line + "\n"
        current = exchange(connection, "PATCH", entry_path(key), {"text": text}, {"If-Match": current.headers["etag"]})
        if current.status == 200:
            return conflicts
        assert current.status == 412
        conflicts += 1


def edit_many(service: Service, client: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    chance = random.Random(client)
    conflicts = 0
    for edit in range(EDITS):
        key = chance.choice(KEYS)
        conflicts += add_line(connection, key, f"client {client} edit {edit}")
        if edit % 5 == 0:
            assert exchange(connection, "PATCH", entry_path(key), {"starred": True}).status == 200
    connection.close()
    return conflicts


def test_no_acknowledged_edit_is_lost_among_many_clients(service: Service) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        conflicts = sum(pool.map(lambda client: edit_many(service, client), range(CLIENTS)))
    lines = [line for entry in service.entries().values() for line in entry["text"].splitlines()]
    assert sorted(lines) == sorted(f"client {client} edit {edit}" for client in range(CLIENTS) for edit in range(EDITS))
    assert conflicts > 0  # else the clients never met


def write_until_killed(service: Service, key: str, start: int, acknowledged: Callable[[int], None]) -> None:
    """Saves the numbers from `start` on as the note's text until the connection breaks."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        for number in range(start, start + 100_000):
            body = {"featureKey": key, "text": str(number), "starred": False}
            assert exchange(connection, "POST", "/api/interpretations", body).status == 200
            acknowledged(number)
    except (http.client.HTTPException, OSError):
        connection.close()


def kill_while_writing(folder: Path, last: dict[str, int], after: int) -> None:
    """Runs a service, lets four clients write, kills it once it acknowledged `after` edits; `last` follows these."""
    counted = threading.Semaphore(0)

    def acknowledged(key: str, number: int) -> None:
        last[key] = number
        counted.release()

    with running(folder) as service:
        arguments = [(service, key, last[key] + 1, lambda number, key=key: acknowledged(key, number)) for key in last]
        threads = [threading.Thread(target=write_until_killed, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        for _ in range(after):
            assert counted.acquire(timeout=30)
        service.process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()


def test_a_killed_server_leaves_every_acknowledged_edit(tmp_path: Path) -> None:
    last = dict.fromkeys(KEYS[:4], 0)
    chance = random.Random(7)
    for _ in range(KILLS):
        kill_while_writing(tmp_path, last, chance.randint(1, 60))
        entries = json.loads((tmp_path / "interpretations.json").read_bytes())["interpretations"]
        saved = {key: int(entries[key]["text"]) if key in entries else 0 for key in last}
        # One more than acknowledged: saved, but killed before the reply.
        assert all(last[key] <= saved[key] <= last[key] + 1 for key in last), (last, saved)
        last = saved


def test_a_second_server_on_the_same_file_is_refused_and_the_first_goes_on(service: Service) -> None:
    assert "another annotation server is running on this file" in refused(service.folder)
    assert service.patch({"starred": True}).status == 200


def test_an_unparsable_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    notes = tmp_path / "interpretations.json"
    notes.write_bytes(b'{"interpretations": {\n  "a": {"text": "important"},,\n}}')
    before = notes.read_bytes(), notes.stat().st_mtime_ns
    assert "interpretations.json: line 2, column 30" in refused(tmp_path)
    assert (notes.read_bytes(), notes.stat().st_mtime_ns) == before


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = refused(tmp_path, "--port", port)
    assert f"cannot listen on 127.0.0.1 port {port}" in message


def test_an_orderly_end_finishes_what_waits_and_has_no_errors(service: Service) -> None:
    def save(number: int) -> int:
        try:
            key = f"layer_{number}_up_proj_positive"
            return number if service.patch({"starred": True}, key).status == 200 else -1
        except OSError:
            return -1

    with ThreadPoolExecutor(8) as pool:
        saving = pool.map(save, range(200))
        saved = {next(saving)}
        errors = stop(service).err
        saved |= set(saving) - {-1}
    assert errors == ""
    assert {int(key.split("_")[1]) for key in service.entries()} >= saved
    with running(service.folder) as again:
        assert again.request("GET", "/api/health").json["entries"] >= len(saved)


def test_fifty_saves_that_wait_when_it_is_told_to_stop_are_saved_or_not_acknowledged(service: Service) -> None:
    clients = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(50)]
    for number, client in enumerate(clients):
        head = f"PATCH {entry_path(f'layer_{number}_up_proj_positive')} HTTP/1.1\r\nHost: localhost\r\n"
        client.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: 17\r\n\r\n".encode() + b'{"starred": true}'
        )
    service.process.terminate()
    acknowledged = {number for number, client in enumerate(clients) if acknowledges(client)}
    assert service.process.wait(timeout=60) == -signal.SIGTERM
    entries = service.entries() if service.notes.exists() else {}
    assert {int(key.split("_")[1]) for key in entries} >= acknowledged


def acknowledges(client: socket.socket) -> bool:
    with client:
        try:
            return client.recv(12) == b"HTTP/1.1 200"
        except ConnectionError:
            return False
