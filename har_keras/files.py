"""Files that appear whole or not at all, and files that are safe to open."""

import atexit
import contextlib
import errno
import functools
import hashlib
import io
import logging
import math
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from har_keras.errors import EnvironmentFault, HarError
from har_keras.interrupts import is_program

logger = logging.getLogger("har_keras")

# Machine, process and a random number; earlier versions had only the last.
_TEMPORARY = re.compile(r"\.([0-9a-f]{6})([0-9a-f]{8})[0-9a-f]{4}-")
_MARK = re.compile(rf"^{_TEMPORARY.pattern}")
_OWN_FOLDER = re.compile(r"har_keras-[0-9a-f]{14}-")
_EARLIER_TEMPORARY = re.compile(r"\.[0-9a-f]{8}-")
# Disks of a network without a lock service answer so.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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


def read_regular(path: Path | str, *, max_bytes: int = 2**26) -> bytes:
    """Reads a file whole, if it is a regular one of a sensible size.

    Args:
        path: Path or str. The file.
        max_bytes: int. Its largest size. Defaults to 64 MiB.

    Raises:
        SpecialFileError: If it is something else.
        OSError: If it can't be read, or is larger.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        reason = f"it is larger than {max_bytes >> 20} MiB"
        raise OSError(errno.EFBIG, reason, os.fspath(path))
    return content


def stamp(path: Path) -> list[int] | None:
    """Returns the size and time of change of a file, None without one.

    It tells without reading the file whether it was touched.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _require_regular(mode: int, path: Path | str) -> None:
    for is_kind, kind in _SPECIAL:
        if is_kind(mode):
            raise SpecialFileError(
                errno.EINVAL, f"it is {kind}, not a file", os.fspath(path)
            )


def refuse_unreadable(error: OSError) -> None:
    """Refuses a folder that can't be read, which `os.walk` would leave out.

    Args:
        error: OSError. What it calls its `onerror` with.

    Raises:
        EnvironmentFault: If there is no right to read the folder.
    """
    if isinstance(error, PermissionError):
        raise EnvironmentFault(
            f"The folder '{error.filename}' can't be read: {error.strerror}. "
            "Allow it, or move the folder elsewhere."
        ) from error


def final_name(path: Path | str) -> Path:
    """Returns the path that a temporary one stands for, for messages.

    Example:

    >>> final_name("run/.3f09aa00004e21b0c1-2/variables").as_posix()
    'run/2/variables'
    """
    return Path(*(_MARK.sub("", part) for part in Path(path).parts))


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
    remove_left(path.parent)
    _renew_temporary_folder()  # what writes the file may need it
    mark = f"{machine_mark()}{os.getpid():08x}{secrets.token_hex(2)}"
    temporary = path.with_name(f".{mark}-{path.name}")
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


@functools.lru_cache(1024)
def remove_left(folder: Path) -> None:
    """Removes what killed processes of this machine half wrote into a folder.

    It may be anyone's folder: only names that tell such a process count.
    Looked at once, for listing a large folder takes time.
    """
    remove_leftovers(folder, older_than_seconds=math.inf)


def remove_leftovers(folder: Path, *, older_than_seconds: float = 0) -> None:
    """Removes what a killed process had half written into a folder.

    What a process of this machine left is known by its number; that of others
    by its age.

    Args:
        folder: Path. The folder; only names that `whole_file` gives are
            removed.
        older_than_seconds: float. Age of what others may still write.
    """
    newest = time.time() - older_than_seconds
    for path in folder.glob(".????????*-*"):
        with contextlib.suppress(OSError):
            if _is_left(path.name) or (
                _is_temporary(path.name) and path.stat().st_mtime <= newest
            ):
                remove(path)


def _is_temporary(name: str) -> bool:
    return bool(_TEMPORARY.match(name) or _EARLIER_TEMPORARY.match(name))


def _is_left(name: str) -> bool:
    """Whether the process that was writing a temporary file has ended."""
    mark = _TEMPORARY.match(name)
    if mark is None or mark[1] != machine_mark():
        return False
    return has_ended(int(mark[2], 16))


def temporary_prefix() -> str:
    """Returns the beginning of the names of this process's temporary folders.

    At first it removes those that killed processes of this machine left in the
    system's folder of temporary files.

    Example:

    >>> tempfile.mkdtemp(prefix=temporary_prefix())  # doctest: +SKIP
    '/tmp/har_keras-3f09aa00004e21-x1yz'
    """
    _remove_temporary_folders()
    return f"har_keras-{machine_mark()}{os.getpid():08x}-"


@functools.cache
def _remove_temporary_folders() -> None:
    left = re.compile(rf"har_keras-{machine_mark()}([0-9a-f]{{8}})-")
    for path in temporary_folder().glob("har_keras-*"):
        mark = left.match(path.name)
        with contextlib.suppress(OSError):
            if mark and has_ended(int(mark[1], 16)) and not path.is_symlink():
                remove(path)


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Gives the program a folder for temporary files, removed at its end.

    Libraries give theirs names that tell no process: TensorFlow for code that
    it generates, Keras and converters for models. In a folder of ours, what a
    killed process left goes at the next start. That of a program goes last:
    matplotlib removes what it has there when the program ends.
    """
    before = tempfile.tempdir
    try:
        own = tempfile.mkdtemp(
            prefix=temporary_prefix(), dir=temporary_folder()
        )
    except OSError:  # a full disk, which most verbs find out by themselves
        yield
        return
    tempfile.tempdir = own
    if is_program():
        atexit.register(_remove_own, Path(own), os.getpid())
    try:
        yield
    finally:
        tempfile.tempdir = before
        if not is_program():
            remove(Path(own))


def _remove_own(folder: Path, process: int) -> None:
    if os.getpid() == process:  # not a fork of it
        remove(folder)


def remove_own_folders() -> None:
    """Removes the temporary folders of this process, which ends at once."""
    folder = temporary_folder()
    tempfile.tempdir = str(folder)  # another thread makes none again
    for path in folder.glob(f"{temporary_prefix()}*"):
        remove(path)


def temporary_folder() -> Path:
    """Returns the folder for the temporary files of all programs."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if _OWN_FOLDER.match(folder.name) else folder


def _renew_temporary_folder() -> None:
    """Makes it again, if /tmp was cleaned during a long training."""
    own = Path(tempfile.tempdir or "")
    if _OWN_FOLDER.match(own.name):
        with contextlib.suppress(OSError):
            own.mkdir(mode=0o700)


def has_ended(number: int) -> bool:
    """Returns whether a process of this machine, by its number, has ended."""
    import psutil

    return not psutil.pid_exists(number)


@functools.cache
def machine_mark() -> str:
    """Returns a mark of this machine and of what numbers its processes."""
    namespace = ""
    with contextlib.suppress(OSError):  # a container has numbers of its own
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    mark = f"{socket.gethostname()} {namespace}".encode()
    return hashlib.blake2b(mark, digest_size=3).hexdigest()


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turns "no space left" into a sentence that names the place."""
    try:
        yield
    except Exception as error:
        if not is_of_full_disk(error):
            raise
        raise EnvironmentFault(
            f"The disk is full: '{path}' could not be written. Free some "
            "space, or choose another disk with --run-dir or --store-dir."
        ) from error


def is_of_full_disk(error: Exception) -> bool:
    """Returns whether an error of the system or a library is a full disk."""
    if isinstance(error, HarError):  # a sentence already
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    # TensorFlow has errors of its own.
    return any(os.strerror(number) in str(error) for number in _FULL)


def warn_of_no_locks(folder: Path, error: Exception) -> None:
    """Says that a disk has no locks, if that is why there is none.

    Args:
        folder: Path. In which the lock was to be.
        error: Exception. What taking it raised. That there is no right to
            write is said by whoever writes the first file.
    """
    number = getattr(error, "errno", None)
    if not isinstance(error, NotImplementedError) and number not in _NO_LOCKS:
        return
    logger.warning(
        "The disk of '%s' has no file locks. Let only one process write there "
        "at a time.",
        folder,
    )


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
    except OSError as error:
        # Some disks of a network, such as Google Drive, sync no folder.
        if not path.is_dir() or error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(number)


_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
