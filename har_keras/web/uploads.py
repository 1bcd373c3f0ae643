"""Uploaded videos: bounded, on disk under a name of ours, and removed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from har_keras.errors import UsageError
from har_keras.files import temporary_folder
from har_keras.web.refusal import Refusal

_LOCK = "lock"
# Where files can't be locked, a folder of another server is left alone so long.
_OLD_SECONDS = 24 * 3600.0
_FIELD = "video"
_MAX_HEADERS = 8
_MAX_BOUNDARY = 70  # as RFC 2046 says


class UploadFolder:
    """A folder for uploads, which is this server's as long as it runs.

    What servers that were killed left behind is removed when the next one
    starts: the lock on its folder ends with a process, however it ends.

    Args:
        kind: str. The kind of server, such as "serve".
        parent: Path or None. Where to make it. Defaults to the folder of
            temporary files.

    Raises:
        UsageError: If it can't be made.
    """

    def __init__(self, kind: str, parent: Path | None = None) -> None:
        prefix = f"har_keras-{kind}-"
        parent = parent or temporary_folder()
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(parent, prefix)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError as error:
            raise UsageError(
                f"--upload-dir '{parent}' can't be used: {error.strerror}."
            ) from error
        self._lock = (self.path / _LOCK).open("wb")
        _lock(self._lock)

    def new_file(self) -> Path:
        """Returns a name that is not taken."""
        return self.path / uuid.uuid4().hex

    def close(self) -> None:
        """Removes it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Removes the folders of servers that no longer run."""
    for folder in parent.glob(f"{prefix}*"):
        if re.fullmatch(rf"{prefix}\w+", folder.name) and not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    try:
        age = time.time() - folder.stat().st_mtime
        with (folder / _LOCK).open("rb+") as file:
            locked = _lock(file)
    except FileNotFoundError:
        return age < 60  # another server is just making it
    except OSError:  # of someone else
        return True
    if locked is None:
        return age < _OLD_SECONDS
    return not locked


def _lock(file: BinaryIO) -> bool | None:
    """Locks a file; returns False if another has it, None if none can."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Upload:
    """An uploaded video.

    Args:
        path: Path. The file.
        name: str. What the client calls it; only for messages.
    """

    path: Path
    name: str


@contextlib.asynccontextmanager
async def received(
    content_type: str, body: AsyncIterator[bytes], path: Path
) -> AsyncIterator[Upload]:
    """Receives a form with a video, and removes it at the end of the context.

    Args:
        content_type: str. The header of the request.
        body: AsyncIterator of bytes. Its body, bounded by the caller.
        path: Path. Where to write the video.

    Yields:
        An `Upload`.

    Raises:
        Refusal: If it is no form with one video in the field `video`.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    is_form = kind.lower() == b"multipart/form-data"
    if not is_form or not 0 < len(boundary or b"") <= _MAX_BOUNDARY:
        raise Refusal(
            415,
            "A video must be sent as multipart/form-data, in the field "
            f"'{_FIELD}', as by: curl -F {_FIELD}=@video.mp4.",
        )
    try:
        with path.open("xb") as file:
            form = _Form(file)
            parser = MultipartParser(
                boundary, form.callbacks(), max_header_count=_MAX_HEADERS
            )
            with _multipart_errors():
                async for chunk in body:
                    parser.write(chunk)
                parser.finalize()
            form.require_whole()
        yield Upload(path, form.name)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _multipart_errors() -> Iterator[None]:
    try:
        yield
    except MultipartParseError as error:
        raise Refusal(400, "The form is not valid multipart data.") from error
    except OSError as error:
        raise Refusal(
            507,
            f"The video can't be stored: {error.strerror}.",
            reason="storage",
        ) from error


class _Form:
    """Writes the video of a form to a file while the form is parsed."""

    def __init__(self, file: BinaryIO) -> None:
        self.name = ""
        self._file = file
        self._num_parts = 0
        self._ended = False
        self._header = [b"", b""]
        self._disposition = b""

    def callbacks(self) -> Any:
        """Returns what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda *x: self._add(0, *x),
            "on_header_value": lambda *x: self._add(1, *x),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def require_whole(self) -> None:
        """Raises `Refusal` unless there was one video, to its end."""
        if not self._num_parts:
            raise Refusal(400, f"The form has no field '{_FIELD}'.")
        if not self._ended:
            raise Refusal(400, "The form ends too early.")
        if not self._file.tell():
            raise Refusal(400, "The video is empty.")

    def _begin(self) -> None:
        self._num_parts += 1
        self._disposition = b""
        self._header = [b"", b""]

    def _add(self, place: int, data: bytes, start: int, end: int) -> None:
        self._header[place] += data[start:end]

    def _header_end(self) -> None:
        field, value = self._header
        if field.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if self._num_parts > 1 or field != _FIELD:
            raise Refusal(
                400,
                f"The form must have one field, '{_FIELD}', with one video. "
                f"Received: '{field[:60]}'. Options go into the address.",
            )
        name = options.get(b"filename", b"").decode("utf-8", "replace")
        self.name = os.path.basename(name.replace("\\", "/"))[:200] or "video"

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._file.write(data[start:end])

    def _end(self) -> None:
        self._ended = True
