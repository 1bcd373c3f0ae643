"""Which entries of a frame store running processes use.

A process that opens a store for some videos writes a list of them beside it,
`in-use/<machine and process>-<number>`, which goes with the store. What is on a
list is not removed. A lock keeps a process from opening what another is about
to remove; where a disk has no locks, nothing is removed.
"""

import contextlib
import itertools
import os
import re
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

from har_keras.files import has_ended, machine_mark
from har_keras.store.contents import DAY_SECONDS, CacheItem
from har_keras.store.shards import read_index
from har_keras.store.store import Store

_FOLDER = "in-use"
_LIST = re.compile(r"([0-9a-f]{6})([0-9a-f]{8})-\d+")
_OF_FEATURES = re.compile(r".+-of-(.+)-v\d+")
# A list of another machine, whose processes aren't seen from here.
_STALE_SECONDS = 30 * DAY_SECONDS
_LOCK_SECONDS = 60
# Of a hash: two that begin alike are only kept together.
_LENGTH = 16

_numbers = itertools.count()


def hold(store: Store, hashes: Iterable[str]) -> None:
    """Keeps what a store has of some videos from being removed.

    It is held until the store is no longer used, or the process ends. What was
    removed since the store was opened is decoded again.

    Args:
        store: Store. In a folder that others may use, too.
        hashes: Iterable of str. Hashes of the videos' contents.
    """
    store_dir = store.folder.parent
    known = sorted({sha256[:_LENGTH] for sha256 in hashes})
    name = f"{machine_mark()}{os.getpid():08x}-{next(_numbers)}"
    file = store_dir / _FOLDER / name
    with locked(store_dir):
        held(store_dir)  # removes what killed processes left
        store.drop_missing()
        _touch(store, known)
        weakref.finalize(store, _release_own, file, os.getpid())
        # Where nothing can be written, nothing is removed from here either.
        with contextlib.suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join([store.spec.key, *known]), "ascii")


def held(store_dir: Path, *, by_others: bool = False) -> set[tuple[str, str]]:
    """Returns what is used: keys of sizes, each with the hash of a video.

    Lists that killed processes left are removed.

    Args:
        store_dir: Path. The frame store.
        by_others: bool. Whether to leave out what this process uses. Defaults
            to `False`.
    """
    found: set[tuple[str, str]] = set()
    for file in sorted((store_dir / _FOLDER).glob("*")):
        mark = _LIST.fullmatch(file.name)
        if mark is None:
            continue
        if _is_left(file, mark):
            _release(file)
        elif not (by_others and _is_own(mark)):
            found |= _listed(file)
    return found


def is_held(item: CacheItem, used: set[tuple[str, str]]) -> bool:
    """Returns whether an item has something of a video that is used.

    Args:
        item: CacheItem. A shard of frames, or features of a video.
        used: set. As `held` returns it.
    """
    if not used:
        return False
    if item.has_features:
        mark = _OF_FEATURES.fullmatch(item.folder.name)
        key = mark[1] if mark else ""
        return any((key, x.name[:_LENGTH]) in used for x in item.files)
    key = item.folder.name
    if key not in {size for size, _ in used}:
        return False
    return any(
        (key, video.sha256[:_LENGTH]) in used
        for index in item.files
        if index.suffix == ".npz"
        for video in read_index(index)
    )


@contextlib.contextmanager
def locked(store_dir: Path) -> Iterator[bool]:
    """Locks a store while something is chosen in it.

    Args:
        store_dir: Path. The frame store.

    Yields:
        bool. Whether it is locked: not where the disk has no locks, or nothing
        can be written.
    """
    import filelock

    file = store_dir / ".lock"
    lock = filelock.FileLock(file, timeout=_LOCK_SECONDS, thread_local=False)
    try:
        store_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (filelock.Timeout, OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        # Whoever waits for it looks again; Windows does it itself.
        with contextlib.suppress(OSError):
            file.unlink()
        lock.release()


def _touch(store: Store, known: Iterable[str]) -> None:
    """Notes the use of shards, also on disks that keep no time of reading."""
    wanted = set(known)
    videos = [store.video(x) for x in store if x[:_LENGTH] in wanted]
    for shard in {video.shard for video in videos if video.shard}:
        with contextlib.suppress(OSError):
            os.utime(shard.with_suffix(".npz"))


def _is_own(mark: re.Match[str]) -> bool:
    return mark[1] == machine_mark() and int(mark[2], 16) == os.getpid()


def _is_left(file: Path, mark: re.Match[str]) -> bool:
    """Whether the process that wrote a list has ended."""
    if mark[1] == machine_mark():
        return has_ended(int(mark[2], 16))
    try:
        return time.time() - file.stat().st_mtime > _STALE_SECONDS
    except OSError:
        return False


def _listed(file: Path) -> set[tuple[str, str]]:
    try:
        key, *hashes = file.read_text("ascii").splitlines()
    except (OSError, ValueError):  # it ended meanwhile
        return set()
    return {(key, sha256) for sha256 in hashes}


def _release_own(file: Path, process: int) -> None:
    if process == os.getpid():  # not its copy, where a process was forked
        _release(file)


def _release(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
        file.parent.rmdir()  # unless there are others
