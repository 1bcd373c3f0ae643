"""API keys: read from a file or the environment, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from har_keras.errors import UsageError
from har_keras.files import open_regular
from har_keras.serve.options import KEYS_VARIABLE

_SHORTEST = 16
_MAX_BYTES = 2**20


class Keys:
    """The keys that clients may send; none lets everyone in.

    Only hashes are kept, so that no message can show a key.

    Args:
        keys: Sequence of str. The keys.

    Example:

    >>> keys = Keys(["0123456789abcdef"])
    >>> keys.allows("0123456789abcdef"), keys.allows("0123456789abcdee")
    (True, False)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = [_hash(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def allows(self, key: str) -> bool:
        """Whether a key is one of them; every key is looked at."""
        sent = _hash(key)
        found = [hmac.compare_digest(sent, known) for known in self._hashes]
        return any(found)

    @classmethod
    def read(cls, file: Path | None) -> Keys:
        """Reads the keys of a file and of the environment.

        Raises:
            UsageError: If the file can't be read, has no key, or a key is
                short.
        """
        keys = os.environ.get(KEYS_VARIABLE, "").split()
        if file is not None:
            keys += _of_file(file)
        for key in keys:
            if len(key) < _SHORTEST:
                raise UsageError(
                    f"An API key must have at least {_SHORTEST} characters. "
                    f"Received one of {len(key)}. Make one with: python -c "
                    '"import secrets; print(secrets.token_urlsafe())"'
                )
        return cls(keys)


def _of_file(file: Path) -> list[str]:
    try:
        with open_regular(file) as opened:
            text = opened.read(_MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--api-key-file '{file}' can't be read: "
            f"{getattr(error, 'strerror', None) or 'it is no text'}."
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(
            f"--api-key-file '{file}' has no key. Expected one per line."
        )
    return keys


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
