"""A reply that is a file's content, a piece of it at a time in memory.

Starlette's own `FileResponse` opens the file only after it has promised it, and answers a range with errors of another
shape than ours.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import BinaryIO

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 64 * 1024


class OpenFileResponse(StreamingResponse):
    """Sends an open file from its start, and closes it whether the client stays or hangs up."""

    def __init__(self, file: BinaryIO, headers: Mapping[str, str], media_type: str) -> None:
        self._file = file
        length = str(os.fstat(file.fileno()).st_size)
        super().__init__(_pieces(file), headers={**headers, "Content-Length": length}, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; HEAD without reading the file."""
        with self._file:
            if scope["method"] == "HEAD":
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await send({"type": "http.response.body"})
            else:
                await super().__call__(scope, receive, send)


def _pieces(file: BinaryIO) -> Generator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece
