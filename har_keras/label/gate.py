"""Who may use the page: this machine, and no other site's pages."""

from __future__ import annotations

from har_keras.web.checks import LOOPBACK, hostname, origin_host
from har_keras.web.refusal import (
    App,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    refuse,
)

# Nothing from elsewhere, and no script or style that is not a file of ours.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "
    "data: blob:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# A report has its own style and pictures in it, and runs nothing.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
)
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"permissions-policy": b"camera=(self), microphone=(self)",
}


class Gate:
    """ASGI middleware that lets a request pass, or refuses it.

    Args:
        app: App. What answers.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] != "http":  # there are no websockets
            return
        refusal = refused(scope["method"], dict(scope["headers"]))
        policy = _REPORT_POLICY if scope["path"] == "/report" else _POLICY

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    *_HEADERS.items(),
                    (b"content-security-policy", policy.encode()),
                ]
            await send(message)

        if refusal:
            await refuse(Refusal(403, refusal), guarded)
            return
        await self.app(scope, receive, guarded)


def refused(method: str, headers: dict[bytes, bytes]) -> str:
    """Returns why a request is refused, or "".

    Args:
        method: str. Of HTTP.
        headers: dict. With names in lower case.

    Example:

    >>> refused("GET", {b"host": b"localhost:8"})
    ''
    >>> refused("GET", {b"host": b"evil.example:8"})
    'This page is for this machine only.'
    """
    host = headers.get(b"host", b"").decode("latin-1")
    if hostname(host) not in LOOPBACK:
        return "This page is for this machine only."
    origin = headers.get(b"origin", b"").decode("latin-1")
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
    if (origin and origin_host(origin) != host.lower()) or (
        site == "cross-site"
    ):
        return "Pages of other sites may not use this one."
    # Another site can't set this header without asking first.
    if method not in ("GET", "HEAD") and b"x-har-keras" not in headers:
        return "A change must come from the page."
    return ""
