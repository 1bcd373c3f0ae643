"""The options of the server, and its API keys."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from har_keras.errors import UsageError
from har_keras.files import open_regular
from har_keras.ranges import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    PORT,
    POSITIVE,
    Advanced,
    Metavar,
    require_ranges,
)
from har_keras.web.checks import LOOPBACK

KEYS_VARIABLE = "HAR_KERAS_API_KEYS"
RuntimeName = Literal["auto", "saved_model", "onnx", "openvino"]


@dataclass(frozen=True)
class ServeOptions:
    """Serves models over HTTP: the REST API of TensorFlow Serving, and videos.

    POST /v1/models/har:predict takes clips as TensorFlow Serving does; POST
    /v1/videos takes a whole video and returns its classes and segments. The
    page /docs describes both, with examples.

    Needs the extra serve. New versions that `har_keras.export` writes into a
    run are served without a restart. Ctrl-C or SIGTERM ends the server once
    the requests that it accepted are answered.
    """

    runs: Annotated[
        tuple[str, ...], tyro.conf.Positional, Metavar("[NAME=]RUN ...")
    ]
    """Runs, SavedModels, or .onnx or .xml files. NAME is that of the model in
    addresses: by default har, or of several runs the names of their
    folders."""
    port: Annotated[int, PORT] = 8501
    """Port to listen on; 0 chooses a free one."""
    host: Annotated[str, Metavar("HOST")] = "127.0.0.1"
    """Address to listen on. Another than this machine's own needs API keys."""
    runtime: RuntimeName = "auto"
    """What computes: auto measures ONNX and OpenVINO at the start, as far as
    exported and installed, and takes the faster one, else the SavedModel."""
    api_key_file: Annotated[Path | None, Metavar("FILE")] = None
    """Keys that clients must send, one per line. The environment variable
    HAR_KERAS_API_KEYS, separated by spaces, does the same."""
    allow_no_keys: bool = False
    """Let anyone who reaches --host use the server."""
    allowed_hosts: Annotated[str, Metavar("HOST,...")] = ""
    """Names under which clients reach the server. Default: those of this
    machine with a loopback --host, else any."""
    max_batch: Annotated[int, AT_LEAST_ONE] = 16
    """Maximum clips in a batch; fewer where the measurement at the start shows
    that these are faster."""
    max_delay_ms: Annotated[float, NOT_NEGATIVE] = 2.0
    """Maximum wait for further clips, if requests are on their way."""
    max_queue: Annotated[int, AT_LEAST_ONE] = 128
    """Requests at a time; others get status 429."""
    timeout_seconds: Annotated[float, POSITIVE] = 30.0
    """Time limit of a request, but for videos."""
    max_request_megabytes: Annotated[float, POSITIVE, Advanced] = 8.0
    """Maximum size of a request, but for videos."""
    max_instances: Annotated[int, AT_LEAST_ONE, Advanced] = 256
    """Maximum clips of a request."""
    max_megabytes: Annotated[float, POSITIVE] = 200.0
    """Maximum size of a video."""
    max_seconds: Annotated[float, POSITIVE] = 600.0
    """Maximum length of a video."""
    max_videos: Annotated[int, AT_LEAST_ONE, Advanced] = 8
    """Videos at a time; others get status 429."""
    video_timeout_seconds: Annotated[float, POSITIVE, Advanced] = 300.0
    """Time limit of a video, upload included."""
    timeline_seconds: Annotated[float, NOT_NEGATIVE, Advanced] = 30.0
    """Length from which a video gets a timeline without asking."""
    upload_dir: Annotated[Path | None, Metavar("DIR"), Advanced] = None
    """Folder for videos while they are classified. Default: that of temporary
    files."""
    num_versions: Annotated[int, AT_LEAST_ONE, Advanced] = 1
    """Latest versions of a model to serve."""
    labels: Annotated[str, Metavar("LABEL=N,..."), Advanced] = ""
    """Names of versions, which are then served as well: stable=3, or
    har/stable=3 of several models."""
    poll_seconds: Annotated[float, POSITIVE, Advanced] = 2.0
    """Seconds between looks for new versions."""
    grace_seconds: Annotated[float, POSITIVE, Advanced] = 30.0
    """Time to answer accepted requests after Ctrl-C or SIGTERM."""

    def validated(self) -> ServeOptions:
        """Returns self.

        Raises:
            UsageError: If a value is out of its range.
        """
        require_ranges(self)
        if not self.runs:
            raise UsageError(
                "There is nothing to serve. Give a run, such as runs/first."
            )
        return self

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return self.host not in LOOPBACK

    @property
    def max_request_bytes(self) -> int:
        return round(self.max_request_megabytes * 2**20)

    @property
    def max_video_bytes(self) -> int:
        return round(self.max_megabytes * 1e6)

    def replace(self, **values: Any) -> ServeOptions:
        """Returns a copy with other values."""
        return dataclasses.replace(self, **values)


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
