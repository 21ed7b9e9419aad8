"""Runs the service: takes the port and the notes file, says where it is, serves until it is told to stop."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn

from annotation_server.activations import Activations
from annotation_server.app import create_app
from annotation_server.security import is_loopback
from annotation_server.store import Store, StoreError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_FILE = Path("interpretations.json")
DEFAULT_DASHBOARD = Path("output/lora_activations_dashboard.html")
_SECONDS_TO_FINISH = 5  # for requests under way when told to stop; saves that wait are finished in any case


class CannotServe(Exception):
    """The service cannot start; the message is for the person who started it."""


def serve(
    interpretations_file: Path, dashboard: Path, host: str, port: int, activations: Activations | None = None
) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what waits. Port 0 takes a free one. Raises `CannotServe`.

    `activations`: as in `create_app`.
    """
    listener = _listen(host, port)
    try:
        store = Store(interpretations_file)
    except StoreError as error:
        listener.close()
        raise CannotServe(str(error)) from None
    store.announce(_url(listener))
    print(f"Notes go to {interpretations_file}; open {_url(listener)} (Ctrl+C stops)", flush=True)
    try:
        uvicorn.Server(_config(store, dashboard, activations)).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn raises it again after its own shutdown
    finally:
        store.close()


def _config(store: Store, dashboard: Path, activations: Activations | None) -> uvicorn.Config:
    # h11 and asyncio by name: the same behaviour whatever else is installed. No proxy is trusted to name the client.
    return uvicorn.Config(
        create_app(store, dashboard, activations),
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )


def _listen(host: str, port: int) -> socket.socket:
    if not is_loopback(host):
        raise CannotServe(
            f"--host {host}: not loopback, which needs a token, and that is not offered yet; use {DEFAULT_HOST}"
        )
    address = DEFAULT_HOST if host.lower() == "localhost" else host
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
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
