"""`python -m har_keras.cache`: what frames and features take on disk."""

from __future__ import annotations

import math
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from har_keras import cli
from har_keras.errors import UsageError
from har_keras.files import remove, remove_leftovers
from har_keras.progress import plural
from har_keras.ranges import Metavar
from har_keras.terminal import printable

_DAY = 24 * 3600.0
# Only what this package wrote is shown and removed.
_FRAMES = re.compile(r"\d+px(-square)?-[\d.]+fps(-[\d.]+images)?-\w+-v\d+")
_SHARD = re.compile(r"([0-9a-f]{32})\.(bin|npz)")
_FEATURES = re.compile(r"[0-9a-f]{64}\S*\.npy")


@dataclass(frozen=True)
class CacheOptions:
    """Shows what the frame store takes on disk, and removes from it.

    It has the decoded frames of videos in each size, and the features of
    backbones. What is removed is computed again when it is needed. Remove
    nothing while something trains on it.
    """

    store_dir: Annotated[Path | None, Metavar("PATH")] = None
    """The frame store. Default: the one in the user's cache folder."""
    unused_days: Annotated[float | None, Metavar("DAYS")] = None
    """Remove what was not read for so many days."""
    clear: bool = False
    """Remove everything."""


@dataclass(frozen=True)
class CacheItem:
    """Files that belong together: a shard of frames, or features of a video.

    Args:
        folder: Path. Where they are: one for each size, or each backbone.
        files: tuple of Path. The files.
        num_bytes: int. Their size on disk.
        last_used: float. When they were last read or written, in seconds since
            1970, as far as the disk keeps it.
    """

    folder: Path
    files: tuple[Path, ...]
    num_bytes: int
    last_used: float


def cache(
    store_dir: Path | str | None = None,
    *,
    unused_days: float | None = None,
    clear: bool = False,
) -> list[CacheItem]:
    """Lists what a frame store holds, after removing some of it.

    Args:
        store_dir: Path, str or None. Its folder. Defaults to that in the user's
            cache folder.
        unused_days: float or None. Remove what was not read for so many days,
            and what killed programs left over. Defaults to `None`: nothing.
        clear: bool. Whether to remove everything. Defaults to `False`.

    Returns:
        list of `CacheItem`, by folder: what is there now.

    Raises:
        UsageError: If `unused_days` is not more than 0, or given with `clear`.
    """
    if clear and unused_days is not None:
        raise UsageError("Give either --clear or --unused-days.")
    if unused_days is not None and not unused_days > 0:
        raise UsageError(
            f"--unused-days must be more than 0. Received: {unused_days:g}. "
            "--clear removes everything."
        )
    folder = _store_dir(store_dir)
    if clear:
        _prune(folder, newest=math.inf)
    elif unused_days is not None:
        _prune(folder, newest=time.time() - _DAY * unused_days)
    return list(_all_items(folder))


def _store_dir(given: Path | str | None) -> Path:
    from har_keras.store.store import default_store_dir

    if given is None:
        return default_store_dir()
    if not Path(given).is_dir():
        raise UsageError(f"--store-dir '{given}' is not a folder.")
    return Path(given)


def _all_items(store_dir: Path) -> Iterator[CacheItem]:
    for folder in _inside(store_dir):
        if _FRAMES.fullmatch(folder.name):
            yield from _items(folder, _SHARD)
    for folder in _inside(store_dir / "features"):
        yield from _items(folder, _FEATURES)


def _prune(store_dir: Path, *, newest: float) -> None:
    """Removes what was last used before a time, and leftovers of a day."""
    items = list(_all_items(store_dir))
    for item in items:
        if item.last_used <= newest:
            for file in item.files:
                remove(file)
    for folder in sorted({item.folder for item in items}):
        remove_leftovers(folder, older_than_seconds=_DAY)
        _remove_empty(folder)
    _remove_empty(store_dir / "features")


def _inside(folder: Path) -> list[Path]:
    """Returns the folders in a folder, but for links to others."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(
        x for x in folder.iterdir() if x.is_dir() and not x.is_symlink()
    )


def _items(folder: Path, pattern: re.Pattern[str]) -> Iterator[CacheItem]:
    together: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        mark = pattern.fullmatch(file.name)
        if mark and file.is_file() and not file.is_symlink():
            key = mark[1] if mark.groups() else file.name
            together.setdefault(key, []).append(file)
    for files in together.values():
        stats = [file.stat() for file in files]
        yield CacheItem(
            folder,
            tuple(files),
            sum(x.st_size for x in stats),
            max(max(x.st_atime, x.st_mtime) for x in stats),
        )


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _table(store_dir: Path, items: Sequence[CacheItem]) -> str:
    free = shutil.disk_usage(_existing(store_dir)).free
    lines = [f"Frame store {store_dir}; {_size(free)} free on its disk.", ""]
    folders = sorted({item.folder for item in items})
    for folder in folders:
        own = [item for item in items if item.folder == folder]
        kind = "features" if folder.parent.name == "features" else "frames"
        used = time.localtime(max(item.last_used for item in own))
        lines.append(
            f"{_size(sum(x.num_bytes for x in own)):>10}  last used "
            f"{time.strftime('%Y-%m-%d', used)}  {kind:8}  {folder.name}"
        )
    if not items:
        lines.append("It is empty.")
        return "\n".join(map(printable, lines))
    total = sum(item.num_bytes for item in items)
    lines += [
        f"{_size(total):>10}  in all, in {plural(len(folders), 'folder')}",
        "",
        "To remove what was not used for a month:",
        "    python -m har_keras.cache --unused-days 30",
    ]
    return "\n".join(map(printable, lines))


def _existing(path: Path) -> Path:
    return next(x for x in (path, *path.absolute().parents) if x.exists())


def _size(num_bytes: float) -> str:
    """Returns a size for people.

    Example:

    >>> _size(512), _size(3 * 2**20), _size(1.5 * 2**30)
    ('0.0 MiB', '3.0 MiB', '1.5 GiB')
    """
    if num_bytes < 2**30:
        return f"{num_bytes / 2**20:.1f} MiB"
    return f"{num_bytes / 2**30:.1f} GiB"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags, and shows or removes."""

    def verb() -> None:
        options = cli.parse(CacheOptions, argv, verb="cache")
        folder = _store_dir(options.store_dir)
        before = cache(folder) if folder.is_dir() else []
        if not options.clear and options.unused_days is None:
            print(_table(folder, before))
            return
        left = cache(
            folder, unused_days=options.unused_days, clear=options.clear
        )
        removed = sum(x.num_bytes for x in before)
        removed -= sum(x.num_bytes for x in left)
        print(f"Removed {_size(removed)} from {printable(folder)}.")

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
