"""One client's connection: how long and how large a request's head may be, and how many connections there may be.

uvicorn alone waits for ever for a head that never ends, keeps all of it, answers what is not HTTP with text of its own,
and reads on while a request is under way.
"""

from __future__ import annotations

import asyncio
import resource
import time
from http import HTTPStatus
from typing import cast

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from annotation_server.errors import ApiError, error_response
from annotation_server.security import HEADERS

HEAD_SECONDS = 10.0  # from the connection's start, or the last reply, to the end of a request's head
HEAD_BYTES = 64 * 1024  # of a head, and of what stands between the pieces of a body
MOST_CONNECTIONS = 512
ACCEPTED_AT_ONCE = 64


class TooSoon(Exception):
    """A request that comes before the reply to the one before."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with these limits. Over MOST_CONNECTIONS the one that has asked nothing for longest goes.

    A request sent before the reply to the last one is not read, and the connection ends with that reply: no browser
    sends one, and whoever sends thousands must not have them kept.
    """

    _deadline: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    _unused = 0  # bytes since the last ones that came to something: to a whole head or to a piece of a body
    _in_head = True
    _deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._expect_request()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client, or we, hung up."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request has arrived."""
        if self._deaf:
            return
        self._unused += len(data)
        super().data_received(data)
        if self._unused > HEAD_BYTES:
            self.send_400_response(f"over {HEAD_BYTES} bytes that are no body")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._has_request:
            self._deaf, self.cycle.keep_alive = True, False
            raise TooSoon
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head; or after a body, where nothing may be added to a head that was judged."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._in_head, self._unused = False, 0
        super().on_headers_complete()
        self._stop_waiting()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._unused = max(0, self._unused - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._unused = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A reply is out; what follows on this connection, if anything, is another request."""
        super().on_response_complete()
        self._expect_request()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the one shape of errors."""
        if not self._deaf:
            self._refuse(ApiError(400, "bad_request", msg))

    @property
    def _has_request(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _expect_request(self) -> None:
        self._stop_waiting()
        self._idle_since = time.monotonic()  # the loop's time stands still while it accepts many
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self._unused:
            message = f"the request's head took over {HEAD_SECONDS:g} seconds"
            self._refuse(ApiError(408, "request_timeout", message))
        self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        self._deaf = True
        if not (self._has_request and self.cycle.response_started):  # else it would end up inside that reply
            self.transport.write(_written(error_response(error)))
        self.transport.close()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, Connection) and each is not self]
        if len(others) < _most_connections():
            return
        idle = [each for each in others if not each._has_request]
        min(idle, key=lambda each: each._idle_since, default=self).transport.abort()


def _written(reply: Response) -> bytes:
    start = f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}".encode()
    headers = [*reply.raw_headers, *((name.encode(), value.encode()) for name, value in HEADERS.items())]
    lines = [start, *(name + b": " + value for name, value in [*headers, (b"connection", b"close")])]
    return b"\r\n".join([*lines, b"", bytes(reply.body)])


def _most_connections() -> int:
    """Half of the files that this process may have open at once, if that is less: the notes need some too."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)
