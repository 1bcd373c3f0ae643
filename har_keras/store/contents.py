"""What a frame store holds on disk: shards of frames, and features."""

import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from har_keras.files import remove, remove_leftovers

DAY_SECONDS = 24 * 3600.0
# Only what this package wrote is shown and removed.
_FRAMES = re.compile(r"\d+px(-square)?-[\d.]+fps(-[\d.]+images)?-\w+-v\d+")
_SHARD = re.compile(r"([0-9a-f]{32})\.(bin|npz)")
_FEATURES = re.compile(r"[0-9a-f]{64}\S*\.npy")


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

    @property
    def has_features(self) -> bool:
        """Whether they are features, not frames."""
        return self.folder.parent.name == "features"

    def remove(self) -> None:
        """Removes the files; what another program holds open may stay."""
        # The index first: without it the frames are no shard.
        for file in sorted(self.files, key=lambda x: x.suffix == ".bin"):
            remove(file)


def stored_items(store_dir: Path) -> Iterator[CacheItem]:
    """Yields what a frame store holds, by folder.

    Args:
        store_dir: Path. Its folder; it need not exist.
    """
    for folder in _inside(store_dir):
        if _FRAMES.fullmatch(folder.name):
            yield from _items(folder, _SHARD)
    for folder in _inside(store_dir / "features"):
        yield from _items(folder, _FEATURES)


def remove_items(
    store_dir: Path, items: Sequence[CacheItem], folders: Collection[Path]
) -> None:
    """Removes items, leftovers of a day, and folders that are empty then.

    Args:
        store_dir: Path. The frame store.
        items: Sequence of CacheItem. What to remove.
        folders: Collection of Path. Where to look for leftovers.
    """
    for item in items:
        item.remove()
    for folder in sorted(folders):
        remove_leftovers(folder, older_than_seconds=DAY_SECONDS)
        _remove_empty(folder)
    _remove_empty(store_dir / "features")


def size_text(num_bytes: float) -> str:
    """Returns a size for people.

    Example:

    >>> size_text(512), size_text(3 * 2**20), size_text(1.5 * 2**30)
    ('0.0 MiB', '3.0 MiB', '1.5 GiB')
    """
    if num_bytes < 2**30:
        return f"{num_bytes / 2**20:.1f} MiB"
    return f"{num_bytes / 2**30:.1f} GiB"


def date_text(seconds: float) -> str:
    """Returns the day of a time in seconds since 1970."""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


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
        try:
            stats = [file.stat() for file in files]
        except FileNotFoundError:  # another process removes, too
            continue
        yield CacheItem(
            folder,
            tuple(files),
            sum(x.st_size for x in stats),
            max(map(_last_used, files, stats)),
        )


def _last_used(file: Path, known: os.stat_result) -> float:
    # Every index is read by whoever opens a store, to see what is in it.
    is_index = file.suffix == ".npz"
    return known.st_mtime if is_index else max(known.st_atime, known.st_mtime)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
