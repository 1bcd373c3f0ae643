"""The way in: who may ask, how much, and how many at a time."""

from __future__ import annotations

import time

from har_keras.serve.state import ServerState
from har_keras.web.checks import (
    FORM_BYTES,
    Body,
    allowed_hosts,
    require_same_site,
    require_small,
)
from har_keras.web.refusal import (
    App,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    refuse,
)

VIDEOS = "/v1/videos"
_PROBES = ("/healthz", "/readyz")
_PAGES = ("/docs", "/openapi.json")
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
        body = Body(receive)

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
        require_same_site(headers, self._hosts)
        if path not in _PAGES:
            self._require_key(headers)
        require_small(headers, body_limit(self.state, path))
        with self.state.admitted():
            await self.app(scope, receive, send)

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

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path_format", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics = self.state.metrics
        metrics.requests.labels(route, method, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)


def body_limit(state: ServerState, path: str) -> int:
    """Returns the largest body of a request, in bytes."""
    if path == VIDEOS:
        return state.options.max_video_bytes + FORM_BYTES
    return state.options.max_request_bytes
