"""`python -m har_keras.app`: ask a model about videos in the browser."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.errors import UsageError

logger = logging.getLogger("har_keras")

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class AppOptions:
    """Opens a page: drop or record a video, see what it shows, and when.

    Needs the extra app. Only this machine can open the page; it has no
    password.
    """

    run: Annotated[str, tyro.conf.Positional]
    """What answers, as for predict: the folder of a run, an exported model, or
    the address of one on TensorFlow Serving."""
    port: int = 7860
    """Port of the page; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens the page to the whole network."""
    max_megabytes: float = 200.0
    """Largest file that is taken."""
    max_seconds: float = 600.0
    """Longest video that is taken; reading one may not take longer, either."""


@contextmanager
def app(
    run: str,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: float = 200.0,
    max_seconds: float = 600.0,
) -> Iterator[str]:
    """Serves a page about a model for as long as the context is open.

    Args:
        run: str. A run, an exported model, or the address of a server.
        host: str. Address to listen on.
        port: int. Its port; 0 takes a free one.
        max_megabytes: float. Largest file that is taken.
        max_seconds: float. Longest video that is taken.

    Yields:
        The page's address.

    Raises:
        UsageError: If the port is taken.
        DataError: If there is no such run.
        EnvironmentFault: If Gradio is not installed.
    """
    from har_keras.app import page as browser
    from har_keras.inference.load import kind_of, load, start_backend_of

    browser.import_gradio()
    start_backend_of(run)
    classifier = load(run)
    config, limits = (
        classifier.config,
        browser.Limits(max_megabytes, max_seconds),
    )
    store = dataclasses.replace(config.store, timeout_seconds=max_seconds)
    classifier.config = dataclasses.replace(config, store=store)
    make = functools.partial(
        browser.make_page,
        classifier,
        run,
        limits=limits,
        attention=kind_of(run) == "run" and config.model.model == "vit",
    )
    with browser.served(make, host, port, limits) as address:
        yield address


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags and serves the page until Ctrl-C."""

    def verb() -> None:
        options = cli.parse(AppOptions, argv, verb="app")
        if min(options.max_megabytes, options.max_seconds) <= 0:
            raise UsageError(
                "--max-megabytes and --max-seconds must be above 0. Received: "
                f"{options.max_megabytes} and {options.max_seconds}."
            )
        if options.host not in LOOPBACK:
            logger.warning(
                "Whoever reaches %s can open the page: it has no password.",
                options.host,
            )
        with app(**dataclasses.asdict(options)) as address:
            print(f"Open {address} in a browser; Ctrl-C ends it.", flush=True)
            threading.Event().wait()

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
