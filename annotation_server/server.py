"""Runs the service: takes the port and the notes file, says where it is, serves until it is told to stop."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from annotation_server.activations import Activations
from annotation_server.app import create_app
from annotation_server.connections import ACCEPTED_AT_ONCE, Connection
from annotation_server.security import Access, is_loopback
from annotation_server.store import Store, StoreError
from annotation_server.token import HOW_TO_MAKE_ONE, VARIABLE, TokenError, read_token

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_FILE = Path("interpretations.json")
DEFAULT_DASHBOARD = Path("output/lora_activations_dashboard.html")
_NAME = re.compile(r"[0-9A-Za-z.-]+")
_SECONDS_TO_FINISH = 5  # for requests under way when told to stop; saves that wait are finished in any case


class CannotServe(Exception):
    """The service cannot start; the message is for the person who started it."""


@dataclass(frozen=True)
class Door:
    """Where the service is found, and who is let in."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT  # 0 takes a free one
    token_file: Path | None = None  # None: the token is in the environment, or there is none
    allowed_hosts: Sequence[str] = ()  # names under which the service is asked, beside loopback's and `host`


def serve(interpretations_file: Path, dashboard: Path, door: Door, activations: Activations | None = None) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what waits. Raises `CannotServe`.

    `activations`: as in `create_app`.
    """
    access = _access(door)
    listener = _listen(door.host, door.port)
    try:
        store = Store(interpretations_file)
    except StoreError as error:
        listener.close()
        raise CannotServe(str(error)) from None
    store.announce(_url(listener))
    way_in = _url(listener) + ("" if access.token is None else " and give the token")
    print(f"Notes go to {interpretations_file}; open {way_in} (Ctrl+C stops)", flush=True)
    try:
        uvicorn.Server(_config(create_app(store, dashboard, access, activations))).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn raises it again after its own shutdown
    finally:
        store.close()


def _config(app: ASGIApp) -> uvicorn.Config:
    # By name: the same behaviour whatever else is installed. No proxy is trusted to name the client.
    return uvicorn.Config(
        app,
        http=Connection,
        backlog=ACCEPTED_AT_ONCE,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_level="error",  # not a line for each request that is no HTTP
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )


def _access(door: Door) -> Access:
    try:
        token = read_token(door.token_file)
    except TokenError as error:
        raise CannotServe(str(error)) from None
    if token is None and not (is_loopback(door.host) and not door.allowed_hosts):
        raise CannotServe(
            f"for others than this machine the service wants a token: --token-file FILE, or {VARIABLE} in the "
            f"environment; make one: {HOW_TO_MAKE_ONE}"
        )
    for name in door.allowed_hosts:
        if not _NAME.fullmatch(name):
            raise CannotServe(f"--allow-host {name!a}: not a host's name, without port")
    return Access(token, frozenset(name.lower() for name in (door.host, *door.allowed_hosts)))


def _listen(host: str, port: int) -> socket.socket:
    address = DEFAULT_HOST if host.lower() == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # The protocol by name: asyncio turns Nagle's algorithm off for TCP alone, and with it a reply takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)  # before the address is printed: whoever reads it may connect at once
    except (OSError, OverflowError) as error:
        listener.close()
        raise CannotServe(f"cannot listen on {host} port {port}: {error}; another --port may be free") from None
    return listener


def _url(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
