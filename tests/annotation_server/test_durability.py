"""Real processes: two servers, orderly and refused starts. `tests/benchmarks/test_reliability.py` kills them."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.annotation_server.service import Service, entry_path, refused, running, stop


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
