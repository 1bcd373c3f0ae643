"""The routes: TensorFlow Serving's REST API, videos, health, metrics, docs."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from har_keras._version import __version__
from har_keras.inference.limits import Limits
from har_keras.serve import rest
from har_keras.serve.batcher import Closed
from har_keras.serve.gate import Gate, body_limit
from har_keras.serve.metrics import CONTENT_TYPE
from har_keras.serve.openapi import (
    DESCRIPTION,
    METADATA,
    PREDICT,
    PROBE,
    STATUS,
    VIDEO,
    docs_page,
    without_validation_errors,
)
from har_keras.serve.repository import Servable
from har_keras.serve.state import ServerState
from har_keras.serve.videos import VideoJob, classify
from har_keras.terminal import printable
from har_keras.web.checks import bounded
from har_keras.web.refusal import Refusal, timed_out
from har_keras.web.uploads import received

Name = Annotated[str, Path(description="Name of the model, such as har.")]
Version = Annotated[
    int, Path(ge=0, le=2**63 - 1, description="Number of the version.")
]
Label = Annotated[str, Path(description="A label, see --labels.")]
_MODEL = "/v1/models/{name}"
_VERSION = _MODEL + "/versions/{version:int}"
_LABEL = _MODEL + "/labels/{label}"


def make_app(state: ServerState) -> Gate:
    """Returns the ASGI application of a server.

    Args:
        state: ServerState. The server.
    """
    app = FastAPI(
        title="har_keras",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_errors(app, state)
    _add_predict(app, state)  # first: "har:predict" is no name of a model
    _add_models(app, state)
    _add_videos(app, state)
    _add_health(app, state)
    _add_docs(app, state)
    return Gate(app, state)


def _add_errors(app: FastAPI, state: ServerState) -> None:
    """Makes every error the JSON that TensorFlow Serving has: one sentence."""

    def sent(
        status: int, sentence: str, headers: dict[str, str] | None = None
    ) -> Response:
        return JSONResponse({"error": printable(sentence)}, status, headers)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        state.metrics.refused.labels(error.reason).inc()
        return sent(error.status, error.sentence, error.headers())

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = " ".join(str(x) for x in first["loc"])
        return sent(400, f"Malformed request: {where}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        sentence = f"Malformed request: {request.method} {request.url.path}"
        headers = dict(error.headers) if error.headers else None
        return sent(error.status_code, sentence[:300], headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return sent(400, "The request ends too early.")

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:
        return sent(500, "The server failed; its log has the reason.")


def _add_models(app: FastAPI, state: ServerState) -> None:
    repository = state.repository

    @app.get(_MODEL, **STATUS)
    async def model_status(name: Name) -> Response:
        """Status of the versions of a model."""
        return _json(rest.status_of(repository.status(name)))

    @app.get(_VERSION, **STATUS)
    async def version_status(name: Name, version: Version) -> Response:
        """Status of a version."""
        return _json(_status(state, repository.get(name, version)))

    @app.get(_LABEL, **STATUS)
    async def label_status(name: Name, label: Label) -> Response:
        """Status of the version that has a label."""
        return _json(_status(state, repository.get(name, label=label)))

    @app.get(_MODEL + "/metadata", **METADATA)
    async def model_metadata(name: Name) -> Response:
        """Signatures of the latest version."""
        return _json(_metadata(repository.get(name)))

    @app.get(_VERSION + "/metadata", **METADATA)
    async def version_metadata(name: Name, version: Version) -> Response:
        """Signatures of a version."""
        return _json(_metadata(repository.get(name, version)))

    @app.get(_LABEL + "/metadata", **METADATA)
    async def label_metadata(name: Name, label: Label) -> Response:
        """Signatures of the version that has a label."""
        return _json(_metadata(repository.get(name, label=label)))


def _status(state: ServerState, found: Servable) -> dict[str, Any]:
    known = state.repository.status(found.name)
    return rest.status_of([x for x in known if x[0] == found.version])


def _metadata(found: Servable) -> dict[str, Any]:
    return rest.metadata_of(
        found.name, found.version, len(found.class_names), found.info
    )


def _add_predict(app: FastAPI, state: ServerState) -> None:
    repository = state.repository

    @app.post(_MODEL + ":predict", **PREDICT)
    async def predict(name: Name, request: Request) -> Response:
        """Classifies clips with the latest version."""
        return await _predicted(state, repository.get(name), request)

    @app.post(_VERSION + ":predict", **PREDICT)
    async def predict_version(
        name: Name, version: Version, request: Request
    ) -> Response:
        """Classifies clips with a version."""
        return await _predicted(state, repository.get(name, version), request)

    @app.post(_LABEL + ":predict", **PREDICT)
    async def predict_label(
        name: Name, label: Label, request: Request
    ) -> Response:
        """Classifies clips with the version that has a label."""
        found = repository.get(name, label=label)
        return await _predicted(state, found, request)


async def _predicted(
    state: ServerState, servable: Servable, request: Request
) -> Response:
    """Decodes clips, has them run in a batch, and answers."""
    seconds = state.options.timeout_seconds
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            with servable.used():
                with state.preparing():
                    body = await _body(state, request)
                    call, clips = await loop.run_in_executor(
                        state.pool, _decoded, state, servable, body
                    )
                    future = servable.batcher.submit(clips)
                rows = await asyncio.wrap_future(future)
    except TimeoutError as error:
        raise timed_out(seconds) from error
    except Closed as error:  # only while the server ends
        raise Refusal(503, "The server is shutting down.") from error
    found = rest.predict_response(
        call, rows, servable.class_names, servable.info
    )
    return Response(found, media_type="application/json")


def _decoded(
    state: ServerState, servable: Servable, body: bytes
) -> tuple[rest.PredictCall, Any]:
    call = rest.read_predict(body, state.options.max_instances)
    state.require_room(servable, len(call.items))
    return call, call.clips(servable.info.clip)


async def _body(state: ServerState, request: Request) -> bytes:
    """Reads a body, up to its limit."""
    limit = body_limit(state, request.url.path)
    chunks = [chunk async for chunk in bounded(request.stream(), limit)]
    return b"".join(chunks)


def _add_videos(app: FastAPI, state: ServerState) -> None:
    @app.post("/v1/videos", **VIDEO)
    async def videos(
        request: Request,
        model: Annotated[
            str | None,
            Query(description="Name of the model. Default: the first one."),
        ] = None,
        version: Annotated[
            int | None,
            Query(ge=0, le=2**63 - 1, description="Default: the latest."),
        ] = None,
        timeline: Annotated[
            bool | None,
            Query(
                description="Whether to localize actions in time. Default: "
                "in long videos."
            ),
        ] = None,
    ) -> Response:
        """Classifies a video."""
        name = state.repository.names[0] if model is None else model
        servable = state.repository.get(name, version)
        with state.video(), servable.used():
            return await _video(state, servable, request, timeline)


async def _video(
    state: ServerState,
    servable: Servable,
    request: Request,
    timeline: bool | None,
) -> Response:
    """Receives a video, has it classified in a thread, and answers."""
    options, outcome = state.options, "refused"
    seconds = options.video_timeout_seconds
    job = VideoJob(
        Limits(options.max_megabytes, options.max_seconds),
        timeline,
        options.timeline_seconds,
        time.monotonic() + seconds,
        seconds,
    )
    kind = request.headers.get("content-type", "")
    body = bounded(request.stream(), body_limit(state, request.url.path))
    file = state.uploads.new_file()
    loop = asyncio.get_running_loop()
    try:
        async with (
            asyncio.timeout(seconds),
            received(kind, body, file) as upload,
        ):
            found = await loop.run_in_executor(
                state.video_pool, classify, servable, job, file, upload.name
            )
        outcome = "classified"
    except TimeoutError as error:
        raise timed_out(seconds) from error
    finally:
        job.cancelled.set()
        state.metrics.videos.labels(outcome).inc()
    return _json(found)


def _add_health(app: FastAPI, state: ServerState) -> None:
    @app.get("/healthz", **PROBE)
    async def healthz() -> Response:
        """Whether the server is alive; if not, restart it."""
        good = state.is_healthy()
        return _json(
            {"status": "ok" if good else "broken"}, 200 if good else 503
        )

    @app.get("/readyz", **PROBE)
    async def readyz() -> Response:
        """Whether the server takes requests."""
        ready = state.is_ready()
        text = "draining" if state.draining else "loading"
        return _json(
            {"status": "ready" if ready else text}, 200 if ready else 503
        )

    @app.get("/metrics", response_class=Response, include_in_schema=False)
    async def metrics() -> Response:
        """Prometheus metrics."""
        state.show()
        return Response(
            state.metrics.text(), headers={"Content-Type": CONTENT_TYPE}
        )


def _add_docs(app: FastAPI, state: ServerState) -> None:
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = without_validation_errors(
                describe(), with_keys=bool(state.keys)
            )
        return app.openapi_schema

    app.openapi = openapi

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """The page for people."""
        names = state.repository.names
        return HTMLResponse(docs_page(app.openapi(), names, request.base_url))


def _json(answer: Any, status: int = 200) -> Response:
    return Response(rest.as_json(answer), status, media_type="application/json")
