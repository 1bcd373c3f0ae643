"""Serves the page of a model in the browser."""

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from har_keras.hub_run import pinned
from har_keras.inference.limits import Limits
from har_keras.inference.load import kind_of, load
from har_keras.web.sockets import (
    bound_socket,
    require_page_packages,
    server_options,
    url_of,
)

_MAX_CONNECTIONS = 64
_CLOSE_SECONDS = 2


@contextlib.contextmanager
def app(
    run: str,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: float = 200.0,
    max_seconds: float = 600.0,
    max_waiting: int = 4,
    allowed_hosts: str = "",
) -> Iterator[str]:
    """Serves the page of a model while the context is open.

    Args:
        run: str. A run, an exported model, or the address of one on a hub or
            a server.
        host: str. Address to listen on. Defaults to `"127.0.0.1"`.
        port: int. Port of the page; 0 chooses a free one. Defaults to `7860`.
        max_megabytes: float. Maximum size of an uploaded file. Defaults to
            `200`.
        max_seconds: float. Maximum length of a video. Defaults to `600`.
        max_waiting: int. Videos that may wait for the one that is being
            classified. Defaults to `4`.
        allowed_hosts: str. Names under which browsers reach the page,
            separated by commas. Defaults to those of this machine with a
            loopback `host`, else any.

    Yields:
        str. The address of the page.

    Raises:
        UsageError: If the port is taken.
        DataError: If the run doesn't exist or has no model.
        EnvironmentFault: If a package of the extra is not installed.
    """
    require_page_packages()
    from har_keras.app.routes import make_app
    from har_keras.app.state import AppState
    from har_keras.web import checks

    limits = Limits(max_megabytes, max_seconds)
    hosts = checks.allowed_hosts(allowed_hosts, host not in checks.LOOPBACK)
    with bound_socket(host, port) as bound:
        classifier = load(pinned(run))
        config = classifier.config
        store = dataclasses.replace(config.store, timeout_seconds=max_seconds)
        classifier.config = dataclasses.replace(config, store=store)
        is_run = kind_of(run) in ("run", "hub")
        attention = is_run and config.model.model == "vit"
        name = run if "://" in run else Path(run).resolve().name
        state = AppState(classifier, name, limits, attention, max_waiting)
        try:
            state.warm_up()
            with _running(make_app(state, hosts), bound):
                try:
                    yield url_of(bound)
                finally:
                    state.stopped.set()
        finally:
            state.close()


@contextlib.contextmanager
def _running(page: object, bound: socket.socket) -> Iterator[None]:
    """Runs a server in a thread while the context is open."""
    import uvicorn

    config = uvicorn.Config(
        page,
        limit_concurrency=_MAX_CONNECTIONS,
        **server_options(_CLOSE_SECONDS),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()
