"""The routes of the page: JSON, pictures, videos by range, and recordings."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import math
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from har_keras.errors import DataError, HarError
from har_keras.files import remove
from har_keras.label.gate import Gate
from har_keras.label.labels import (
    Change,
    Conflict,
    class_name_of,
    line_of,
)
from har_keras.label.media import PIECE_SECONDS, media_type
from har_keras.label.recording import MOST_BYTES, keep_recording
from har_keras.label.session import Session, video_number
from har_keras.manifest.formats.writing import FORMAT_NAMES, annotations_of
from har_keras.run import Run
from har_keras.terminal import printable

logger = logging.getLogger("har_keras")

PAGE = Path(__file__).parent / "page"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_AT_A_TIME = 4
_MOST_JSON_BYTES = 32 * 2**20
_YEAR = "private, max-age=31536000, immutable"

Handler = Callable[[Request], Awaitable[Response]]


def make_app(session: Session) -> Gate:
    """Returns the ASGI application of a session."""
    page = _Page(session)
    routes = [
        Route("/", page.index),
        Route("/page/{name}", page.asset),
        Route("/api/state", page.state),
        Route("/api/changes", page.changes),
        Route("/api/labels", page.label, methods=["POST"]),
        Route("/api/classes", page.classes, methods=["POST"]),
        Route("/api/help", page.help, methods=["GET", "POST"]),
        Route("/api/train", page.train, methods=["POST"]),
        Route("/api/record", page.record, methods=["POST"]),
        Route("/api/header/{video}", page.header),
        Route("/api/export/{name}", page.export),
        Route("/pictures/{video}", page.pictures),
        Route("/video/{video}", page.video),
        Route("/piece/{video}/{number:int}", page.piece),
        Route("/report", page.report),
    ]
    errors = {HarError: _refused, ClientDisconnect: _gone, Exception: _broken}
    return Gate(Starlette(routes=routes, exception_handlers=errors))


async def _refused(_: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, Conflict) else 422
    return JSONResponse({"error": printable(error)}, status)


async def _gone(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "The request ends too early."}, 400)


async def _broken(_: Request, error: Exception) -> Response:
    logger.error("The page failed", exc_info=error)
    return JSONResponse(
        {"error": "The page failed; the terminal says why."}, 500
    )


class _Page:
    """The handlers of a session. What takes time runs in a thread.

    Args:
        session: Session. What is shown.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        # Of their own: labels never wait for pictures.
        self._pictures = ThreadPoolExecutor(_AT_A_TIME, "pictures")
        self._pieces = ThreadPoolExecutor(_AT_A_TIME, "pieces")

    async def index(self, _: Request) -> Response:
        return _asset("index.html", "text/html")

    async def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        kind = _TYPES.get(Path(name).suffix)
        if kind is None or Path(name).name != name:
            return JSONResponse({"error": "There is no such file."}, 404)
        return _asset(name, kind)

    async def state(self, _: Request) -> Response:
        return _json(await _threaded(self.session.state))

    async def changes(self, request: Request) -> Response:
        since, number = (
            _number(request.query_params.get(name, "0"))
            for name in ("since", "number")
        )
        found = self.session.changes
        return _json(await _threaded(found, int(since), int(number)))

    async def label(self, request: Request) -> Response:
        sent = await _sent(request)
        by = line_of(sent.get("by", ""))
        since, number = sent.get("since"), sent.get("number")
        if not isinstance(since, int) or not isinstance(number, int):
            raise DataError("A change says what the page has seen.")
        session = self.session
        await _threaded(session.change, sent.get("changes"), by)
        return _json(await _threaded(session.changes, since, number))

    async def classes(self, request: Request) -> Response:
        sent = await _sent(request)
        if isinstance(sent.get("order"), list):
            await _threaded(self.session.order_classes, sent["order"])
        else:
            await _threaded(self.session.add_class, sent.get("name"))
        return _json({"classes": self.session.classes()})

    async def help(self, request: Request) -> Response:
        if request.method == "POST":
            sent = await _sent(request)
            await _threaded(self.session.set_help, sent.get("on") is True)
            return _json({})
        return _json(await _threaded(self.session.suggestions))

    async def train(self, request: Request) -> Response:
        sent = await _sent(request)
        training = self.session.training
        if sent.get("stop") is True:
            await _threaded(training.stop)
        else:
            resume = sent.get("resume") is True
            await _threaded(functools.partial(training.start, resume=resume))
        return _json((await _threaded(training.status)).as_json())

    async def record(self, request: Request) -> Response:
        name = class_name_of(request.query_params.get("class", ""))
        group = line_of(request.query_params.get("group", ""))
        upload = self.session.uploads / uuid.uuid4().hex
        upload.parent.mkdir(parents=True, exist_ok=True)
        try:
            await _received(request, upload)
            return _json(await _threaded(self._kept, upload, name, group))
        finally:
            remove(upload)

    def _kept(self, upload: Path, name: str, group: str) -> dict[str, Any]:
        session = self.session
        file = keep_recording(upload, session.root, name)
        values = {"class_name": name, "group": group}
        change = Change((file, None, None), "", values)
        session.labels.apply([change], session.by)
        session.add_class(name)
        return {"v": video_number(file), "name": printable(file)}

    async def header(self, request: Request) -> Response:
        file = self.session.file(request.path_params["video"])
        found = await _pooled(self._pictures, self.session.media.header, file)
        return _json({**vars(found), "piece": PIECE_SECONDS})

    async def pictures(self, request: Request) -> Response:
        file = self.session.file(request.path_params["video"])
        start, end = (
            _number(request.query_params[name])
            if request.query_params.get(name)
            else None
            for name in ("s", "e")
        )
        path = await _pooled(
            self._pictures, self.session.media.pictures, file, start, end
        )
        return FileResponse(
            path, media_type="image/jpeg", headers={"Cache-Control": _YEAR}
        )

    async def video(self, request: Request) -> Response:
        file = self.session.file(request.path_params["video"])
        path = await _threaded(self.session.media.path, file)
        return FileResponse(
            path,
            media_type=media_type(path),
            headers={"Cache-Control": "private, no-cache"},
        )

    async def piece(self, request: Request) -> Response:
        file = self.session.file(request.path_params["video"])
        number = request.path_params["number"]
        path = await _pooled(
            self._pieces, self.session.media.piece, file, number
        )
        return FileResponse(
            path,
            media_type="video/mp4",
            headers={"Cache-Control": "private, no-cache"},
        )

    async def export(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FORMAT_NAMES:
            raise DataError(f"Formats are {', '.join(FORMAT_NAMES)}.")
        return await _threaded(self._exported, name)

    def _exported(self, name: Any) -> Response:
        session = self.session
        session.labels.refresh()
        videos = [
            row.found()
            for row in session.labels.rows
            if row.class_name and not row.left_out
        ]
        files = annotations_of(videos, session.root, name)
        (first, text), *rest = files.items()
        if not rest:
            data = text.encode("utf-8", "surrogateescape")
            return _download(data, first)
        return _download(_zip(files), f"{name}.zip")

    async def report(self, _: Request) -> Response:
        run = Run(self.session.training.status().run or "none")
        if not run.report_file.is_file():
            return JSONResponse({"error": "There is no report yet."}, 404)
        return FileResponse(run.report_file, media_type="text/html")


def _asset(name: str, kind: str) -> Response:
    path = PAGE / name
    if not path.is_file():
        return JSONResponse({"error": "There is no such file."}, 404)
    return Response(
        path.read_bytes(),
        media_type=kind,
        headers={"Cache-Control": "no-cache"},
    )


async def _threaded(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


async def _pooled(
    pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any
) -> Any:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(pool, function, *arguments)


async def _sent(request: Request) -> dict[str, Any]:
    """Returns the JSON object that the page sent."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_JSON_BYTES:
            raise DataError("A request is too large.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError("A JSON object was expected.")
    return found


async def _received(request: Request, file: Path) -> None:
    """Writes a recording to a file as it comes, up to its limit."""
    size = 0
    with file.open("wb") as out:
        async for chunk in request.stream():
            size += len(chunk)
            if size > MOST_BYTES:
                raise DataError(
                    f"A recording may have up to {MOST_BYTES // 10**6} MB. "
                    "Record a shorter one."
                )
            await _threaded(out.write, chunk)


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise DataError(f"A number was expected. Received: {text[:40]!r}.")
    return found


def _json(value: Any) -> Response:
    # Escaped, so that names with halves of characters can be sent, too.
    text = json.dumps(value, separators=(",", ":"))
    return Response(
        text,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _download(data: bytes, name: str) -> Response:
    disposition = f'attachment; filename="{Path(name).name}"'
    disposition = disposition.encode("ascii", "replace").decode("ascii")
    return Response(
        data,
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": disposition,
            "Cache-Control": "no-store",
        },
    )


def _zip(files: dict[str, str]) -> bytes:
    out = BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, text in files.items():
            plain = name.encode("utf-8", "replace").decode("utf-8")
            archive.writestr(plain, text.encode("utf-8", "surrogateescape"))
    return out.getvalue()
