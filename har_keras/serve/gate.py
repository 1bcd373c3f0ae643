"""The way in: who may ask, how much, and how many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from har_keras.serve.options import LOOPBACK
from har_keras.serve.rest import Refusal, as_json
from har_keras.serve.state import ServerState

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

VIDEOS = "/v1/videos"
_PROBES = ("/healthz", "/readyz")
_PAGES = ("/docs", "/openapi.json")
# What surrounds a video in a form.
_FORM_BYTES = 2**16
_DISCARDED_BYTES, _DISCARD_SECONDS = 2**24, 1.0
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")


class Gate:
    """ASGI middleware that lets a request pass, or refuses it.

    Args:
        app: App. What answers.
        state: ServerState. The server.
    """

    def __init__(self, app: App, state: ServerState) -> None:
        self.app = app
        self.state = state
        self._hosts = allowed_hosts(
            state.options.allowed_hosts, state.options.is_public
        )

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] != "http":  # there are no websockets
            return
        began, status = time.perf_counter(), 500
        body = _Body(receive)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400:
                    await body.discard()
            await send(message)

        try:
            await self._guarded(scope, body.receive, noted)
        except Refusal as refusal:
            self.state.metrics.refused.labels(refusal.reason).inc()
            await refuse(refusal, noted)
        finally:
            self._measure(scope, status, time.perf_counter() - began)

    async def _guarded(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        path = scope["path"]
        if path in _PROBES:
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])  # the last of equal names
        self._require_host(headers)
        if path not in _PAGES:
            self._require_key(headers)
        self._require_small(path, headers)
        with self.state.admitted():
            await self.app(scope, receive, send)

    def _require_host(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts and _hostname(host) not in self._hosts:
            raise Refusal(
                400,
                f"The server is not known as '{host[:100]}'. Use another name "
                "for it, or start it with --allowed-hosts.",
                reason="host",
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and _origin_host(origin) != host.lower():
            raise Refusal(
                403,
                "Pages of other sites may not use this server.",
                reason="origin",
            )

    def _require_key(self, headers: dict[bytes, bytes]) -> None:
        keys = self.state.keys
        if not keys:
            return
        key = headers.get(b"x-api-key", b"").decode("latin-1")
        kind, _, bearer = (
            headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        )
        if not key and kind.lower() == "bearer":
            key = bearer.strip()
        if not keys.allows(key):
            what = "is not valid" if key else "is missing"
            raise Refusal(
                401,
                f"The API key {what}. Send it as 'Authorization: Bearer KEY' "
                "or 'X-API-Key: KEY'.",
                reason="key",
            )

    def _require_small(self, path: str, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refusal(415, "A request must not have a Content-Encoding.")
        limit = body_limit(self.state, path)
        if length.isdigit() and int(length) > limit:
            raise too_large(limit)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path_format", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics = self.state.metrics
        metrics.requests.labels(route, method, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)


class _Body:
    """The body of a request, which may be refused before it was read.

    Args:
        receive: Receive. Where it comes from.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_read = False

    async def receive(self) -> Message:
        """Returns the next part."""
        message = await self._receive()
        more = message.get("more_body", False)
        self._is_read = message["type"] != "http.request" or not more
        return message

    async def discard(self) -> None:
        """Reads on for a moment.

        A connection that is closed while the client still sends is reset, and
        the client may not see the answer.
        """
        left = _DISCARDED_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while left > 0 and not self._is_read:
                    left -= len((await self.receive()).get("body", b""))


def body_limit(state: ServerState, path: str) -> int:
    """Returns the largest body of a request, in bytes."""
    if path == VIDEOS:
        return state.options.max_video_bytes + _FORM_BYTES
    return state.options.max_request_bytes


def too_large(limit: int) -> Refusal:
    """Returns the refusal of a body that is too large."""
    return Refusal(
        413,
        f"A request may have at most {limit} bytes here. Send fewer clips, "
        "JPEG frames, or a shorter video.",
        reason="too_large",
    )


async def refuse(refusal: Refusal, send: Send) -> None:
    """Sends a refusal."""
    body = as_json({"error": refusal.sentence})
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **refusal.headers(),
    }
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in headers.items()
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


def allowed_hosts(given: str, is_public: bool) -> frozenset[str]:
    """Returns the names of the server; none allows any.

    A page of another site could reach a server on loopback by giving its own
    name that address; the name that it was called by tells.

    Example:

    >>> sorted(allowed_hosts("", is_public=False))
    ['127.0.0.1', '::1', 'localhost']
    >>> sorted(allowed_hosts("videos.example.com", is_public=True))
    ['127.0.0.1', '::1', 'localhost', 'videos.example.com']
    """
    names = {x.strip().lower() for x in given.split(",") if x.strip()}
    if not names and is_public:
        return frozenset()
    return frozenset({*names, *LOOPBACK})


def _hostname(host: str) -> str:
    """Returns the name in a Host header, without its port.

    Example:

    >>> _hostname("LocalHost:8501"), _hostname("[::1]:8501")
    ('localhost', '::1')
    """
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::\d+)?", host)
    return (found[1] or found[2] or "").lower() if found else ""


def _origin_host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
