"""The socket of a server."""

from __future__ import annotations

import socket

from har_keras.errors import UsageError


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
