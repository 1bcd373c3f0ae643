"""Who may ask a server, and how much may be sent."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import urlsplit

from har_keras.web.refusal import Message, Receive, Refusal

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""The names of this machine for itself."""

# What surrounds a video in a form.
FORM_BYTES = 2**16
_DISCARDED_BYTES, _DISCARD_SECONDS = 2**24, 1.0


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


def require_same_site(
    headers: Mapping[bytes, bytes], hosts: frozenset[str]
) -> None:
    """Refuses a request by another name, or from a page of another site.

    Args:
        headers: Mapping. Those of the request, in lower case.
        hosts: frozenset of str. Names of the server; none allows any.

    Raises:
        Refusal: If it is one.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    if hosts and hostname(host) not in hosts:
        raise Refusal(
            400,
            f"The server is not known as '{host[:100]}'. Use another name for "
            "it, or start it with --allowed-hosts.",
            reason="host",
        )
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and origin_host(origin) != host.lower():
        raise Refusal(
            403,
            "Pages of other sites may not use this server.",
            reason="origin",
        )


def require_small(headers: Mapping[bytes, bytes], limit: int) -> None:
    """Refuses a request whose header says that it is too large.

    Raises:
        Refusal: If it is, or if its body is compressed.
    """
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Refusal(415, "A request must not have a Content-Encoding.")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Refusal:
    """Returns the refusal of a body that is too large."""
    return Refusal(
        413,
        f"A request may have at most {limit} bytes here. Send fewer clips, "
        "JPEG frames, or a shorter video.",
        reason="too_large",
    )


async def bounded(
    body: AsyncIterator[bytes],
    limit: int,
    refusal: Callable[[int], Refusal] = too_large,
) -> AsyncIterator[bytes]:
    """Yields a body, up to its limit.

    Args:
        body: AsyncIterator of bytes.
        limit: int. Most bytes.
        refusal: Callable from the limit to what is raised beyond it.
    """
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > limit:
            raise refusal(limit)
        yield chunk


class Body:
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


def hostname(host: str) -> str:
    """Returns the name in a Host header, without its port.

    Example:

    >>> hostname("LocalHost:8501"), hostname("[::1]:8501")
    ('localhost', '::1')
    """
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::\d+)?", host)
    return (found[1] or found[2] or "").lower() if found else ""


def origin_host(origin: str) -> str:
    """Returns the host and port in an Origin header; "" if there is none.

    Example:

    >>> origin_host("http://localhost:8501"), origin_host("null")
    ('localhost:8501', '')
    """
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
