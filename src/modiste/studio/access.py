"""Who may use the studio: this machine's user, from a page of the studio itself.

A token in the printed address is exchanged once for a cookie. Requests for a foreign host name are refused (DNS
rebinding), and so are posts from a page of another origin. No answer may be read or framed by another origin.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass
class Access:
    """The secrets of a studio and the address that it listens at."""

    host: str
    port: int
    announce: Callable[[str], None]
    """Prints a new address to the terminal."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    used: set[str] = field(default_factory=set)
    """Tokens that were exchanged for the cookie."""
    session: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """The name of the cookie: browsers share cookies between ports."""
        return f"modiste-studio-{self.port}"

    @property
    def address(self) -> str:
        """The address to open, with the token."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/?token={self.token}"

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this machine, and not a domain that somebody points to it.

        An address in numbers is nobody's domain; it counts only where the studio listens beyond this machine.
        """
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if name in LOOPBACK or self.host in LOOPBACK:
            return name in LOOPBACK
        return name in (self.host.lower(), socket.gethostname().lower()) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def guarded(app: ASGIApp, access: Access) -> ASGIApp:
    """The application behind these checks, with the headers that keep other origins out."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = check(Request(scope), access)
        await (answer or app)(scope, receive, send_with_headers)

    return guard


def check(request: Request, access: Access) -> Response | None:
    """What a request is refused with, or sent to; None where it may go on."""
    host = request.headers.get("host", "")
    if not access.knows_host(host):
        return _refusal(f"{host!r} is not this studio's host; open the address that the terminal shows", 421)
    if request.method not in ("GET", "HEAD"):
        origin = request.headers.get("origin")
        if origin is None or origin != f"http://{host}":
            return _refusal("this request comes from another page than the studio's", 403)
    if secrets.compare_digest(request.cookies.get(access.cookie, "").encode(), access.session.encode()):
        return RedirectResponse("/", 303) if "token" in request.query_params else None
    token = request.query_params.get("token", "")
    if request.url.path == "/" and secrets.compare_digest(token.encode(), access.token.encode()):
        access.used.add(access.token)
        access.token = secrets.token_urlsafe(24)
        response = RedirectResponse("/", 303)
        response.set_cookie(access.cookie, access.session, httponly=True, samesite="strict", path="/")
        return response
    if token in access.used:
        access.announce(access.address)
        return _refusal("this address was opened before; the terminal shows a new one", 403)
    return _refusal("open the address that the terminal shows: it lets this browser in", 403)


def _refusal(sentence: str, status: int) -> Response:
    return PlainTextResponse(sentence + "\n", status)
