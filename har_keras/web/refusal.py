"""Responses other than 200, in a sentence."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refusal(Exception):
    """A response other than 200.

    Args:
        status: int. The HTTP status code.
        sentence: str. What came, what was expected.
        reason: str. A word for the metrics.
        retry_seconds: int or None. When another attempt may succeed.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        reason: str = "invalid",
        retry_seconds: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.reason = reason
        self.retry_seconds = retry_seconds

    def headers(self) -> dict[str, str]:
        """Returns the headers of the response."""
        found = {}
        if self.retry_seconds is not None:
            found["Retry-After"] = str(self.retry_seconds)
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if self.status in (408, 413, 503):
            found["Connection"] = "close"
        return found


def timed_out(seconds: float) -> Refusal:
    """Returns the refusal of a request that took too long."""
    return Refusal(
        504,
        f"The request took more than {seconds:g} s. Send fewer clips, or try "
        "again when the server is less busy.",
        reason="timeout",
    )


async def refuse(refusal: Refusal, send: Send) -> None:
    """Sends a refusal."""
    body = json.dumps({"error": refusal.sentence}).encode()
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
