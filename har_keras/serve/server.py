"""Starts the server, and ends it without losing a request."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from types import FrameType

import uvicorn

from har_keras.errors import UsageError
from har_keras.run import Run
from har_keras.serve.exports import address, find_sources, read_labels
from har_keras.serve.options import KEYS_VARIABLE, Keys, ServeOptions
from har_keras.serve.state import ServerState, make_state
from har_keras.serve.web import make_app
from har_keras.web.sockets import bound_socket, server_options, url_of

logger = logging.getLogger("har_keras")

_BACKLOG = 1024
# After the last answer: who just connected gets status 503, not a reset.
_LINGER_SECONDS = 0.3
_CLOSE_SECONDS = 5


class Server(uvicorn.Server):
    """uvicorn, which at a signal first answers what it accepted.

    The first signal refuses new requests with status 503 and lets those under
    way finish, for `grace_seconds` at most; the second ends it at once.

    Args:
        state: ServerState. What is served.
        server_socket: socket. Bound, not listening yet.
    """

    def __init__(
        self, state: ServerState, server_socket: socket.socket
    ) -> None:
        config = uvicorn.Config(
            make_app(state),
            backlog=_BACKLOG,
            **server_options(_CLOSE_SECONDS),
        )
        super().__init__(config)
        self.state = state
        self.server_socket = server_socket
        self._end = 0.0
        self._idle_since = 0.0

    @property
    def url(self) -> str:
        """The address, with the real port."""
        return url_of(self.server_socket)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for servable in self.state.repository.servables:
            print(
                f"{self.url}{address(servable.name)}  version "
                f"{servable.version}, {servable.export.runtime}"
            )
        print(
            f"Ready. {self.url}/docs describes the API; stop with Ctrl-C.",
            flush=True,
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._captured_signals.append(sig)
        if self.state.draining:
            self.force_exit = self.should_exit = True
        self.state.draining = True
        self._end = time.monotonic() + self.state.options.grace_seconds

    async def on_tick(self, counter: int) -> bool:
        if self.state.draining and self._is_drained():
            self.should_exit = True
        return await super().on_tick(counter)

    def _is_drained(self) -> bool:
        now = time.monotonic()
        if self.state.in_flight:
            self._idle_since = 0.0
            return now > self._end
        self._idle_since = self._idle_since or now
        return now - self._idle_since > _LINGER_SECONDS


def serve(options: ServeOptions) -> None:
    """Serves models over HTTP until a signal ends it.

    Args:
        options: ServeOptions. What to serve, where, and the limits.

    Raises:
        UsageError: If an option is wrong, the port is taken, or other
            machines could reach it without a key.
        DataError: If a model has no export that can be loaded.
        EnvironmentFault: If its runtime is not installed.
    """
    with running(options) as server:
        server.run(sockets=[server.server_socket])


@contextlib.contextmanager
def running(options: ServeOptions) -> Iterator[Server]:
    """Loads the models and opens the port while the context is open.

    Args:
        options: ServeOptions. As for `serve`.

    Yields:
        A `Server`, to be run.
    """
    options.validated()
    keys = Keys.read(options.api_key_file)
    _require_keys(options, keys)
    sources = find_sources(options.runs)
    labels = read_labels(options.labels, sources)
    # Before a model is loaded: a port that is taken is said at once.
    with bound_socket(options.host, options.port) as server_socket:
        state = make_state(options, sources, labels, keys)
        try:
            state.repository.load()
            _hint(state)
            state.repository.watch(options.poll_seconds)
            yield Server(state, server_socket)
        finally:
            state.close()


def _require_keys(options: ServeOptions, keys: Keys) -> None:
    if not options.is_public or keys:
        return
    if not options.allow_no_keys:
        raise UsageError(
            f"--host {options.host} lets other machines use the server, so it "
            f"needs keys: give --api-key-file or {KEYS_VARIABLE}, or say "
            "--allow-no-keys."
        )
    logger.warning(
        "Anyone who reaches %s can use the server: it asks for no key.",
        options.host,
    )


def _hint(state: ServerState) -> None:
    """Says how to start faster, where only a SavedModel is exported."""
    if state.options.runtime != "auto":
        return
    for servable in state.repository.servables:
        if servable.export.runtime == "saved_model":
            versions = servable.export.path.parent
            run = Run(versions.parent)
            logger.info(
                "Only a SavedModel of '%s' is exported. One that starts faster "
                "and takes less memory: har-keras export %s "
                "--formats onnx,openvino",
                servable.name,
                run.path if versions == run.saved_model_dir else "RUN",
            )
            return
