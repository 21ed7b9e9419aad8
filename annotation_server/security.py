"""Who may talk to the service: this machine's own programs and the page that the service itself serves.

A page elsewhere must not read or write notes through the user's browser. A Host that is not loopback means that a
foreign name was made to point here (DNS rebinding), so it is refused on every method. Writes must not come from another
origin by what the browser says of itself (Origin, Sec-Fetch-Site); programs that are no browsers send neither.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotation_server.errors import ApiError, error_response

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z.-]+))(?::[0-9]{1,5})?")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})  # none: the user's own doing, such as a bookmark
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without port and brackets, is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """Refuses what is not from here, and puts the security headers on every reply, refusals and errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application around `app`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = _refusal(scope["method"], Headers(scope=scope))
        app = self._app if refusal is None else error_response(refusal)
        await app(scope, receive, send_with_headers)


def _refusal(method: str, headers: Headers) -> ApiError | None:
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not _is_own_host(hosts[0]):
        return ApiError(421, "foreign_host", "this service answers only to localhost and loopback addresses")
    if method not in _READS and not _is_own_page(hosts[0], headers):
        return ApiError(403, "foreign_origin", "only the page that this service serves may change notes")
    return None


def _is_own_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match["six"] or match["name"])


def _is_own_page(host: str, headers: Headers) -> bool:
    own_origin = f"http://{host}".lower()
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    return all(site in _OWN_SITES for site in sites) and all(origin.lower() == own_origin for origin in origins)
