"""What clients that mean ill cost the annotation service, and those who mean well.

    python -m benchmarks.hostile_clients [--rounds 3] [--seconds 12]

One kind of attack at a time, from a process of its own: bodies far over the limit, a Content-Length that lies, chunks
without end, 100 connections that say nothing, 100 that say one byte of a head a second, 100 that ask for a page of 20
MB and leave it unread. In turns with it, the service has an ordinary client alone, which reads and stars a note: how
long each request takes, and the most memory that the service has. The control is the same service without the limit on
bodies, and with uvicorn's own connections, which wait for ever for the end of a head.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from annotation_server import bodies, server
from annotation_server.__main__ import main as serve
from benchmarks.services import process
from benchmarks.timing import write_result
from tests.annotation_server.service import KEY, command, entry_path, exchange

ROUNDS, SECONDS = 3, 12.0  # longer than a head or a body may take
MANY, FEW = 100, 4  # connections that wait, and that send as fast as they can
PAGE_BYTES = 20_000_000
PAUSE = 0.005  # between two requests of the ordinary client
PIECE = b" " * 65_536
HEAD = f"PATCH {entry_path(KEY)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


def _answer(connection: socket.socket) -> str:
    """Return the status of the reply, or that there was none."""
    try:
        line = connection.recv(12)
    except TimeoutError:
        return "none"
    except OSError:
        return "cut off"
    return line.split()[-1].decode() if line else "closed"


def _send_all(connection: socket.socket, pieces: int, wrap: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):  # the service need not read to the end
        for _ in range(pieces):
            connection.sendall(wrap(PIECE))


def oversize(connection: socket.socket) -> None:
    """Send 8 MiB."""
    connection.sendall(HEAD + b"Content-Length: 8388608\r\n\r\n")
    _send_all(connection, 128, lambda piece: piece)


def lying_length(connection: socket.socket) -> None:
    """Promise a body and send its start."""
    connection.sendall(HEAD + b'Content-Length: 60000\r\n\r\n{"starred": ')


def endless_chunks(connection: socket.socket) -> None:
    """Send chunks until hung up on, 1 GiB at most."""
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    _send_all(connection, 16_384, lambda piece: b"%x\r\n%s\r\n" % (len(piece), piece))


def idle(_: socket.socket) -> None:
    """Say nothing."""


def unread_page(connection: socket.socket) -> None:
    """Ask for the page, and leave it unread for a while."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(SECONDS / 2)


def slow_head(connection: socket.socket) -> None:
    """Send a byte of the head a second."""
    connection.settimeout(1.0)
    with suppress(OSError):
        for byte in HEAD:
            connection.sendall(bytes([byte]))
            with suppress(TimeoutError):
                connection.recv(1, socket.MSG_PEEK)
                break
    connection.settimeout(60.0)


ATTACKS: Mapping[str, tuple[Callable[[socket.socket], None], int]] = {
    "oversize": (oversize, FEW),
    "lying_length": (lying_length, MANY),
    "endless_chunks": (endless_chunks, FEW),
    "idle": (idle, MANY),
    "slow_head": (slow_head, MANY),
    "unread_page": (unread_page, MANY),
}


def attack(name: str, port: int, seconds: float) -> None:
    """Attack for so long, every connection anew after its end; print that it has begun, and the answers as JSON."""
    send, connections = ATTACKS[name]
    end, answers = time.monotonic() + seconds, Counter[str]()

    def go_on() -> None:
        while (left := end - time.monotonic()) > 0:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                send(connection)
                connection.settimeout(max(left, 0.1))
                answers[_answer(connection)] += 1

    threads = [threading.Thread(target=go_on) for _ in range(connections)]
    for thread in threads:
        thread.start()
    print("begun", flush=True)
    for thread in threads:
        thread.join()
    print(json.dumps(answers))


def ordinary(port: int, seconds: float, pid: int) -> tuple[list[float], int]:
    """Read and star a note for so long; return the seconds of each request, and the most memory in KiB."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are two writes
    took: list[float] = []
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        starred = len(took) % 4 == 0
        reply = exchange(connection, "PATCH", entry_path(KEY), {"starred": starred}) if len(took) % 2 == 0 else None
        reply = reply or exchange(connection, "GET", entry_path(KEY))
        took.append(time.perf_counter() - began)
        assert reply.status == 200
        most = max(most, resident(pid))
        time.sleep(PAUSE)
    connection.close()
    return took, most


def resident(pid: int) -> int:
    """Return the memory that a process has, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def under(name: str, arguments: Sequence[str], rounds: int, seconds: float, log: Path) -> dict[str, Any]:
    """Return what one attack costs one service, in turns with none."""
    alone: list[float] = []
    attacked: list[float] = []
    answers = Counter[str]()
    with process(arguments, log) as (port, pid):
        ordinary(port, seconds / 4, pid)
        before = most = resident(pid)
        for _ in range(rounds):
            took, _ = ordinary(port, seconds, pid)
            alone += took
            again = [sys.executable, "-m", "benchmarks.hostile_clients", "--attack", name, "--port", str(port)]
            with subprocess.Popen([*again, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True) as attacker:
                assert attacker.stdout is not None
                attacker.stdout.readline()
                took, memory = ordinary(port, seconds, pid)
                said, _ = attacker.communicate()
            attacked += took
            most = max(most, memory)
            answers.update(json.loads(said))
    return {
        "answers": dict(answers.most_common()),
        "memory_growth_mib": round((most - before) / 1024, 1),
        **{f"p50_ms_{kind}": _milliseconds(took, 50) for kind, took in (("alone", alone), ("attacked", attacked))},
        **{f"p99_ms_{kind}": _milliseconds(took, 99) for kind, took in (("alone", alone), ("attacked", attacked))},
        "p99_times": round(_milliseconds(attacked, 99) / _milliseconds(alone, 99), 2),
        "requests": len(attacked),
    }


def _milliseconds(took: Sequence[float], percentile: int) -> float:
    return round(1000 * statistics.quantiles(took, n=100)[percentile - 1], 2)


def without_limits() -> None:
    """Serve as the controls do: bodies of any size, and uvicorn's own connections."""
    bodies.read_body.__defaults__ = (1 << 40,)
    with patch.object(server, "Connection", "h11"):
        serve(sys.argv[1:])


def main() -> None:
    """Measure, print and write `benchmarks/results/hostile_clients.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--attack", choices=ATTACKS)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.attack:
        attack(options.attack, options.port, options.seconds)
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind in ATTACKS:
            folder = Path(name) / kind
            folder.mkdir()
            (folder / "page.html").write_bytes(b" " * PAGE_BYTES)
            guarded = command(folder)
            bare = [guarded[0], "-c", "from benchmarks.hostile_clients import without_limits as w; w()", *guarded[3:]]
            figures[kind] = under(kind, guarded, options.rounds, options.seconds, folder / "log")
            figures[f"{kind} (control)"] = under(kind, bare, 1, options.seconds, folder / "log")
            print(kind, figures[kind], figures[f"{kind} (control)"], sep="\n", flush=True)
    write_result("hostile_clients", {"rounds": options.rounds, "seconds": options.seconds, "attacks": figures})


if __name__ == "__main__":
    main()
