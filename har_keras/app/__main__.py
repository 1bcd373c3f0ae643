"""`har-keras app`: classify videos in the browser."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.ranges import (
    NOT_NEGATIVE,
    PORT,
    POSITIVE,
    Metavar,
    require_ranges,
)
from har_keras.web.checks import LOOPBACK

logger = logging.getLogger("har_keras")


@dataclass(frozen=True)
class AppOptions:
    """Serves a web page that classifies videos and what a webcam shows.

    Needs the extra app. The page has no password and is only reachable from
    this machine unless --host says otherwise.
    """

    run: Annotated[str, tyro.conf.Positional, Metavar("RUN")]
    """The model, as for predict: the folder of a run, hf://OWNER/NAME, an
    exported model, or the address of a model on TensorFlow Serving."""
    port: Annotated[int, PORT] = 7860
    """Port of the page; 0 chooses a free one."""
    host: Annotated[str, Metavar("HOST")] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 makes the page reachable from the
    network."""
    max_megabytes: Annotated[float, POSITIVE] = 200.0
    """Maximum size of an uploaded file."""
    max_seconds: Annotated[float, POSITIVE] = 600.0
    """Maximum length of a video; also the time limit for decoding it."""
    max_waiting: Annotated[int, NOT_NEGATIVE] = 4
    """Videos that may wait for the one that is being classified."""
    allowed_hosts: Annotated[str, Metavar("HOST,...")] = ""
    """Names under which browsers reach the page. Default: those of this
    machine with a loopback --host, else any."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and serves the page until Ctrl-C."""

    def verb() -> None:
        options = cli.parse(AppOptions, argv, verb="app")
        require_ranges(options)
        if options.host not in LOOPBACK:
            logger.warning(
                "Anyone who reaches %s can open the page: it has no password.",
                options.host,
            )
        from har_keras.app.server import app

        with app(**dataclasses.asdict(options)) as address:
            print(f"Open {address} in a browser; stop with Ctrl-C.", flush=True)
            threading.Event().wait()

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
