"""`har-keras serve`: serve models and classify videos over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from har_keras import cli
from har_keras.serve.options import ServeOptions as ServeOptions
from har_keras.web.sockets import require_packages

_PACKAGES = (
    "fastapi", "httptools", "orjson", "prometheus_client", "python_multipart",
    "starlette", "uvicorn",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and serves until Ctrl-C."""

    def verb() -> None:
        options = cli.parse(ServeOptions, argv, verb="serve").validated()
        require_extra()
        from har_keras.serve.server import serve

        serve(options)

    return cli.run_verb(verb)


def require_extra() -> None:
    """Raises `EnvironmentFault` if a package of the extra is missing."""
    require_packages("serve", *_PACKAGES)


if __name__ == "__main__":
    sys.exit(main())
