"""Who may talk to the service: this machine's own programs, who has the token, and the page that the service serves.

A page elsewhere must not read or write notes through the user's browser. A Host that is not one of the service's means
that a foreign name was made to point here (DNS rebinding), so it is refused on every method. Writes must not come from
another origin by what the browser says of itself (Origin, Sec-Fetch-Site); programs that are no browsers send neither.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotation_server.errors import ApiError, error_response
from annotation_server.sign_in import sign_in
from annotation_server.token import Token

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z.-]+))(?::[0-9]{1,5})?")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})  # none: the user's own doing, such as a bookmark
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without port and brackets, is this machine's loopback."""
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host.lower() == "localhost"


@dataclass(frozen=True)
class Access:
    """To whom the service answers.

    Without a token, under the names and addresses of loopback alone. With one, under any address as well (a foreign
    name cannot be made to point at an address that is spelled out) and under `names`.
    """

    token: Token | None = None
    names: frozenset[str] = frozenset()  # in lower case

    def refusal(self, method: str, headers: Headers) -> ApiError | None:
        """Why a request is not answered, whoever sent it; None if it may be."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own_host(hosts[0]):
            return ApiError(421, "foreign_host", "this service does not answer to that name (see --allow-host)")
        if method not in _READS and not self._is_own_page(hosts[0], headers):
            return ApiError(403, "foreign_origin", "only the page that this service serves may change notes")
        return None

    def _is_own_host(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = (match["six"] or match["name"]).lower()
        return is_loopback(name) or (self.token is not None and (name in self.names or _is_address(name)))

    def _is_own_page(self, host: str, headers: Headers) -> bool:
        # What is reached through TLS has a token; without one nothing of ours is under https.
        schemes = ("http",) if self.token is None else ("http", "https")
        own = {f"{scheme}://{host}".lower() for scheme in schemes}
        sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
        return all(site in _OWN_SITES for site in sites) and all(origin.lower() in own for origin in origins)


class Guard:
    """Refuses who may not talk to the service, and puts the security headers on every reply, refusals included."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application around `app`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._answer(HTTPConnection(scope))(scope, receive, send_with_headers)

    def _answer(self, request: HTTPConnection) -> ASGIApp:
        refusal = self._access.refusal(request.scope["method"], request.headers)
        if refusal is not None:
            return error_response(refusal)
        token = self._access.token
        return self._app if token is None else sign_in(token, request) or self._app


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
