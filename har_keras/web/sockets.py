"""The socket of a server, and how uvicorn serves on it."""

from __future__ import annotations

import importlib
import logging
import socket
from typing import Any

from har_keras.errors import EnvironmentFault, UsageError


def bound_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that has a port and does not listen yet.

    Args:
        host: str. Address to listen on.
        port: int. 0 chooses a free one.

    Raises:
        UsageError: If the port is taken, or the address is not this machine's.
    """
    try:
        (family, kind, protocol, _, place), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
        except BaseException:
            found.close()
            raise
    except OSError as error:
        raise UsageError(
            f"The server can't listen on {host}, port {port}: the port is "
            "taken, or the address is not this machine's. Choose others with "
            "--port and --host."
        ) from error
    return found


def url_of(bound: socket.socket) -> str:
    """Returns the address of a server, with its real port."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def server_options(close_seconds: int) -> dict[str, Any]:
    """Returns the options of uvicorn that all servers share.

    Args:
        close_seconds: int. How long requests may take when it ends.
    """
    # Anyone could fill the log with warnings of what is no HTTP.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "ws": "none",
        "lifespan": "off",
        "timeout_graceful_shutdown": close_seconds,
    }


def require_packages(extra: str, *packages: str) -> None:
    """Raises `EnvironmentFault` if a package of an extra is missing."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise EnvironmentFault(
                f"This command requires the package {error.name or package}. "
                f'Install it: pip install "har_keras[{extra}]".'
            ) from error


def require_page_packages() -> None:
    """Raises `EnvironmentFault` if a package of the extra app is missing."""
    require_packages("app", "starlette", "uvicorn", "python_multipart")
