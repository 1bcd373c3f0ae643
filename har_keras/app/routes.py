"""The routes of the page, and what stands before them."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from har_keras.app import example
from har_keras.app.answers import model_as_json
from har_keras.app.jobs import Event, VideoJob, classify_live, progress
from har_keras.app.state import AppState, frames_of
from har_keras.errors import DataError
from har_keras.progress import plural
from har_keras.web.checks import (
    FORM_BYTES,
    Body,
    bounded,
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
from har_keras.web.uploads import received

logger = logging.getLogger("har_keras")

VIDEOS, LIVE = "/api/videos", "/api/live"
_UPLOAD_SECONDS = 600.0
_CLIP_SECONDS = 10.0
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data: blob:; media-src blob:; connect-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STATIC = {
    "/": ("video.html", "text/html"),
    "/live": ("live.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/common.js": ("common.js", "text/javascript"),
    "/timeline.js": ("timeline.js", "text/javascript"),
    "/video.js": ("video.js", "text/javascript"),
    "/live.js": ("live.js", "text/javascript"),
}


def make_app(state: AppState, hosts: frozenset[str]) -> "Gate":
    """Returns the ASGI application of the page.

    Args:
        state: AppState. What the requests share.
        hosts: frozenset of str. Names of the server; none allows any.
    """
    routes = [
        *(Route(path, _static(*found)) for path, found in _STATIC.items()),
        Route("/api/model", _Model(state).get),
        Route("/example.mp4", _Example(state).get),
        Route(VIDEOS, _Videos(state), methods=["POST"]),
        Route(LIVE, _Live(state).post, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={Refusal: _refused})
    return Gate(app, state, hosts)


async def _refused(_: Request, refusal: Any) -> Response:
    content = {"error": refusal.sentence}
    return JSONResponse(content, refusal.status, refusal.headers())


class Gate:
    """ASGI middleware that lets a request pass, or refuses it.

    Args:
        app: App. What answers.
        state: AppState. What the requests share.
        hosts: frozenset of str. Names of the server; none allows any.
    """

    def __init__(self, app: App, state: AppState, hosts: frozenset[str]):
        self.app = app
        self.state = state
        self.hosts = hosts

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] != "http":  # there are no websockets
            return
        body, begun = Body(receive), False

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if message["status"] >= 400:
                    await body.discard()
                message["headers"] = [*message["headers"], *_ENCODED_HEADERS]
            await send(message)

        try:
            headers = dict(scope["headers"])
            require_same_site(headers, self.hosts)
            require_small(headers, _limit(self.state, scope["path"]))
            await self.app(scope, body.receive, sent)
        except Refusal as refusal:
            await refuse(refusal, sent)
        except ClientDisconnect:
            pass
        except Exception:  # whoever asked is told, and others are served
            logger.exception("The page failed.")
            if not begun:
                sentence = "The program failed; its terminal has the reason."
                await refuse(Refusal(500, sentence), sent)


_ENCODED_HEADERS = [
    (name.lower().encode(), value.encode()) for name, value in _HEADERS.items()
]


def _limit(state: AppState, path: str) -> int:
    """Returns the most bytes of a body."""
    if path == VIDEOS:
        return state.limits.max_bytes + FORM_BYTES
    return state.max_clip_bytes if path == LIVE else 0


def _static(name: str, kind: str) -> Any:
    content = (files("har_keras.app") / "static" / name).read_bytes()

    async def get(_: Request) -> Response:
        return Response(content, media_type=kind)

    return get


class _Model:
    """What the page shows of the model."""

    def __init__(self, state: AppState) -> None:
        self.content = {
            **model_as_json(state.classifier, state.name),
            "limits": str(state.limits),
            "max_bytes": state.limits.max_bytes,
            "attention": state.attention,
        }

    async def get(self, _: Request) -> Response:
        return JSONResponse(self.content)


class _Example:
    """The drawn video, drawn when it is asked for."""

    def __init__(self, state: AppState) -> None:
        self.state = state
        self.lock = asyncio.Lock()

    async def get(self, _: Request) -> Response:
        async with self.lock:
            if not self.state.example:
                loop = asyncio.get_running_loop()
                self.state.example = await loop.run_in_executor(
                    None, example.draw_example
                )
        return Response(self.state.example, media_type="video/mp4")


class _Videos:
    """Receives a video and tells, line by line, how far its answer is."""

    def __init__(self, state: AppState) -> None:
        self.state = state

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request, state = Request(scope, receive), self.state
        kind = request.headers.get("content-type", "")
        body = bounded(
            request.stream(), state.limits.max_bytes + FORM_BYTES, self._large
        )
        file = state.uploads.new_file()
        with state.video():
            async with contextlib.AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(_UPLOAD_SECONDS):
                        upload = await stack.enter_async_context(
                            received(kind, body, file)
                        )
                except TimeoutError as error:
                    raise Refusal(
                        408, "The upload took too long. Try again."
                    ) from error
                wanted = request.query_params.get("attention") == "true"
                wanted &= state.attention
                answer = _Answer(state, upload.path, upload.name, wanted)
                await answer(scope, receive, send)

    def _large(self, _: int) -> Refusal:
        return Refusal(
            413,
            f"A video may have {self.state.limits}. Received: a larger one.",
            reason="too_large",
        )


class _Answer:
    """Runs a job in the thread of videos, and sends its events as lines."""

    def __init__(
        self, state: AppState, path: Any, name: str, attention: bool
    ) -> None:
        self.state = state
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.job = VideoJob(path, name, state.limits, attention, self._report)

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        ahead = self.state.num_videos - 1
        if ahead:
            self._report(progress(f"Waiting for {plural(ahead, 'video')}"))
        done = self.loop.run_in_executor(self.state.video_pool, self._run)
        lines = StreamingResponse(
            self._lines(), media_type="application/x-ndjson"
        )
        try:
            await lines(scope, receive, send)
        finally:
            self.job.cancelled.set()
            # The file is removed next: nothing may read it any more.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(done)

    def _run(self) -> None:
        try:
            self.job.run(self.state.classifier)
        except Exception:  # in a thread, where nobody else would see it
            logger.exception("The page failed.")
            sentence = "The program failed; its terminal has the reason."
            self._report({"event": "error", "sentence": sentence})
        finally:
            self._report(None)

    def _report(self, event: Event | None) -> None:
        """Hands an event over, from any thread."""
        if self.state.stopped.is_set():
            self.job.cancelled.set()
        self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    async def _lines(self) -> AsyncIterator[bytes]:
        while (event := await self.events.get()) is not None:
            yield json.dumps(event, allow_nan=False).encode() + b"\n"


class _Live:
    """Classifies the newest clip of a camera; there is no queue."""

    def __init__(self, state: AppState) -> None:
        self.state = state

    async def post(self, request: Request) -> Response:
        state = self.state
        labels = state.camera(request.query_params.get("session", ""))
        with state.clip():
            try:
                async with asyncio.timeout(_CLIP_SECONDS):
                    limit = state.max_clip_bytes
                    chunks = [x async for x in bounded(request.stream(), limit)]
                    loop = asyncio.get_running_loop()
                    found = await loop.run_in_executor(
                        state.live_pool, _live, labels, b"".join(chunks)
                    )
            except TimeoutError as error:
                raise Refusal(504, "The clip took too long.") from error
            except DataError as error:
                raise Refusal(400, str(error)) from error
        return JSONResponse(found)


def _live(labels: Any, body: bytes) -> Event:
    return classify_live(labels, frames_of(body))
