"""Serves the page on this machine until a signal ends it."""

from __future__ import annotations

import contextlib
import socket
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from har_keras.errors import HarError
from har_keras.files import remove
from har_keras.label.session import Session
from har_keras.label.web import make_app
from har_keras.web.sockets import bound_socket, server_options, url_of

_HOST = "127.0.0.1"
_CLOSE_SECONDS = 3


class PageServer(uvicorn.Server):
    """uvicorn, which says its address once it listens.

    Args:
        session: Session. What is shown.
        server_socket: socket. Bound, not listening yet.
        opens: bool. Whether the page is opened in the browser.
    """

    def __init__(
        self, session: Session, server_socket: socket.socket, opens: bool
    ) -> None:
        config = uvicorn.Config(
            make_app(session),
            **server_options(_CLOSE_SECONDS),
        )
        super().__init__(config)
        self.server_socket = server_socket
        self._opens = opens

    @property
    def url(self) -> str:
        """The address, with the real port."""
        return f"{url_of(self.server_socket)}/"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(
            f"Open {self.url} in a browser; stop with Ctrl-C. Labels are saved "
            "at every change.",
            flush=True,
        )
        if self._opens:
            threading.Thread(
                target=webbrowser.open, args=[self.url], daemon=True
            ).start()


@contextlib.contextmanager
def running(
    session: Session, port: int, *, opens: bool = False
) -> Iterator[PageServer]:
    """Opens the port while the context is open.

    Args:
        session: Session. What is shown.
        port: int. The port; 0 chooses a free one.
        opens: bool. Whether the page is opened in the browser. Defaults to
            `False`.

    Yields:
        A `PageServer`, to be run.

    Raises:
        UsageError: If the port is taken.
    """
    try:
        with bound_socket(_HOST, port) as server_socket:
            yield PageServer(session, server_socket, opens)
    finally:
        session.close()


def serve_page(session: Session, port: int, *, opens: bool = False) -> None:
    """Serves the page until Ctrl-C; a training that it started goes on."""
    for leftover in _uploads(session.uploads):
        remove(leftover)
    with running(session, port, opens=opens) as server:
        server.run(sockets=[server.server_socket])
        with contextlib.suppress(HarError):
            if session.training.status().state == "running":
                print(
                    "The training goes on. To see how it stands, start the "
                    "page again."
                )


def _uploads(folder: Path) -> list[Path]:
    """Returns what a server that was killed had not kept yet."""
    return [*folder.glob("*")] if folder.is_dir() else []
