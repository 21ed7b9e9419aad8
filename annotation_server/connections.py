"""One client's connection: how long it may take over a request's head, and how many connections there may be.

uvicorn alone waits for ever for a head that never ends, and answers what is not HTTP with text of its own.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from typing import cast

from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from annotation_server.errors import ApiError, error_response
from annotation_server.security import HEADERS

HEAD_SECONDS = 10.0  # from the connection's start, or the last reply, to the end of a request's head
MOST_CONNECTIONS = 512
ACCEPTED_AT_ONCE = 64


class Connection(H11Protocol):
    """uvicorn's protocol with these limits. Over MOST_CONNECTIONS the one that has asked nothing for longest goes."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._expect_request()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client, or we, hung up."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """More of a request has arrived."""
        super().handle_events()
        if self._has_request:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """A reply is out; what follows on this connection, if anything, is another request."""
        super().on_response_complete()
        if not self._has_request:
            self._expect_request()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the one shape of errors."""
        self._refuse(ApiError(400, "bad_request", msg))

    @property
    def _has_request(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _expect_request(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self.conn.trailing_data[0]:
            message = f"the request's head took over {HEAD_SECONDS:g} seconds"
            self._refuse(ApiError(408, "request_timeout", message))
        self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        if not (self._has_request and self.cycle.response_started):  # else it would end up inside that reply
            self.transport.write(_written(error_response(error)))
        self.transport.close()

    @property
    def _since(self) -> float:
        """When this connection will have waited for too long; what has waited for longest has the least."""
        return self.loop.time() if self._deadline is None else self._deadline.when()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, Connection) and each is not self]
        if len(others) < _most_connections():
            return
        idle = [each for each in others if not each._has_request]
        min(idle, key=lambda each: each._since, default=self).transport.abort()


def _written(reply: Response) -> bytes:
    start = f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}".encode()
    headers = [*reply.raw_headers, *((name.encode(), value.encode()) for name, value in HEADERS.items())]
    lines = [start, *(name + b": " + value for name, value in [*headers, (b"connection", b"close")])]
    return b"\r\n".join([*lines, b"", bytes(reply.body)])


def _most_connections() -> int:
    """Half of the files that this process may have open at once, if that is less: the notes need some too."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)
