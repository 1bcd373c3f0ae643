"""Files that appear whole or not at all, and files that are safe to open."""

import contextlib
import errno
import io
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from har_keras.errors import EnvironmentFault

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}-")
_SPECIAL = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class SpecialFileError(OSError):
    """A path that is no regular file, so that opening it could wait forever.

    Its `strerror` is, for example, "it is a named pipe, not a file".
    """


def require_regular(path: Path | str) -> None:
    """Raises `SpecialFileError` if a path is there and no regular file."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # for the one who opens it
    _require_regular(mode, path)


def open_regular(path: Path | str) -> io.BufferedReader:
    """Opens a file for reading, if it is a regular one; never waits.

    Opening a named pipe waits for someone to write to it, and a device may
    act on being opened.

    Args:
        path: Path or str. The file.

    Returns:
        The file, opened for reading bytes.

    Raises:
        SpecialFileError: If it is something else.
        OSError: If it can't be opened.
    """
    require_regular(path)
    flags = os.O_RDONLY
    for name in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    number = os.open(path, flags)
    try:
        _require_regular(os.fstat(number).st_mode, path)  # replaced meanwhile?
        return open(number, "rb")
    except BaseException:
        os.close(number)
        raise


def _require_regular(mode: int, path: Path | str) -> None:
    for is_kind, kind in _SPECIAL:
        if is_kind(mode):
            raise SpecialFileError(
                errno.EINVAL, f"it is {kind}, not a file", os.fspath(path)
            )


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`, renamed to it on success.

    A reader, or a run that was killed, sees the old file or the new one and
    never half of either. What was written is on the disk before the rename.

    Args:
        path: Path. The final name, of a file or of a folder. Its parent is
            made if it is missing.

    Yields:
        The temporary `Path` to write to. It keeps the suffix of `path`, for
        writers that choose a format by it.

    Raises:
        EnvironmentFault: If the disk is full.
    """
    with passing_file(path) as temporary:
        yield temporary
        publish(temporary, path)


@contextlib.contextmanager
def passing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`, and removes it at the end.

    For what `publish` then gives a name that only its content tells.

    Args:
        path: Path. As for `whole_file`.

    Yields:
        The temporary `Path`.

    Raises:
        EnvironmentFault: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        with full_disk_named(path):
            yield temporary
    finally:
        remove(temporary)


def publish(temporary: Path, path: Path) -> None:
    """Gives what was written under a temporary name its own, for good."""
    if temporary.is_file():
        sync(temporary)
    elif path.is_dir():
        shutil.rmtree(path)
    os.replace(temporary, path)
    sync(path.parent)  # the new name, too


def remove_leftovers(folder: Path, *, older_than_seconds: float = 0) -> None:
    """Removes what a killed process had half written into a folder.

    Args:
        folder: Path. The folder; only names that `whole_file` gives are
            removed.
        older_than_seconds: float. Age of what others may still write.
    """
    newest = time.time() - older_than_seconds
    for path in folder.glob(".????????-*"):
        with contextlib.suppress(OSError):
            if _TEMPORARY.match(path.name) and path.stat().st_mtime <= newest:
                remove(path)


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turns "no space left" into a sentence that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise EnvironmentFault(
            f"The disk is full: '{path}' could not be written. Free some "
            "space, or choose another disk with --run-dir or --store-dir."
        ) from error


def sync(path: Path) -> None:
    """Waits until the content of a file or folder is on the disk."""
    # Windows syncs what can be written, and no folder.
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        number = os.open(path, flags)
    except PermissionError:
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
