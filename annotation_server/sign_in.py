"""Where a service wants a token: who is let in, and how a person with a browser gets in.

The address `/?token=…` gives the browser a cookie and goes on to `/`, so that the token does not stay in the address.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from annotation_server.errors import ApiError, error_response
from annotation_server.token import Token

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>loradash: a token is needed</title></head>
<body><h1>A token is needed</h1>
<p>Whoever started this service has it. If you have just followed a link with the token in it, reload this page.</p>
<form action="/"><label>Token <input name="token" type="password" autocomplete="off" required></label>
<button>Open the dashboard</button></form>
</body></html>
"""
_POLICY = "default-src 'none'; form-action 'self'; frame-ancestors 'none'"
_CHALLENGE = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}


def sign_in(token: Token, request: HTTPConnection) -> Response | None:
    """The reply to who has not shown the token yet or shows it in the address; None for who may come in."""
    of_page = request.scope["method"] == "GET" and request.scope["path"] == "/"
    given = request.query_params.get("token") if of_page else None
    if given is not None and token.is_it(given):
        return RedirectResponse("/", 303, {"Set-Cookie": token.set_cookie, "Cache-Control": "no-store"})
    if given is None and token.shown(request.headers.get("authorization", ""), request.cookies):
        return None
    if of_page and "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_PAGE, 401, {**_CHALLENGE, "Content-Security-Policy": _POLICY})
    message = "this service wants its token: send Authorization: Bearer TOKEN, or open /?token=TOKEN in a browser"
    return error_response(ApiError(401, "unauthorized", message, _CHALLENGE))
