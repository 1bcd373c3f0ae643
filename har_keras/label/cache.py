"""What the page makes for itself: pictures, small copies, what is known."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from har_keras.files import passing_file, remove, remove_left, whole_file

MOST_BYTES = 4 * 2**30
"""Size of the cache, beyond which what was not used for longest goes."""


class PageCache:
    """Files by the content that they were made from, each made once.

    Args:
        folder: Path. Where they are; made when it is needed.
        most_bytes: int. The size that it is kept to.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._making: dict[Path, threading.Lock] = {}
        self._since_pruned = 0

    def get(self, name: str, suffix: str, make: Callable[[Path], None]) -> Path:
        """Returns a file, which is made if it is not there.

        Who asks for the same one meanwhile waits for it.

        Args:
            name: str. What it is of.
            suffix: str. As `.jpg`.
            make: Callable. Writes it to the path that it is given.
        """
        path = self.folder / name[:2] / f"{name}{suffix}"
        with self._lock:
            mine = self._making.setdefault(path, threading.Lock())
        try:
            with mine:
                if not _touched(path):
                    with passing_file(path) as temporary:
                        make(temporary)
                        # It can be made again: no wait for the disk.
                        os.replace(temporary, path)
                    self._note(path)
        finally:
            with self._lock:
                self._making.pop(path, None)
        return path

    def _note(self, path: Path) -> None:
        with self._lock:
            self._since_pruned += path.stat().st_size
            if self._since_pruned < self.most_bytes / 16:
                return
            self._since_pruned = 0
        self.prune()

    def prune(self) -> None:
        """Removes what was not used for longest, down to the size."""
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.most_bytes:
                return
            with contextlib.suppress(OSError):
                remove(path)
            total -= size


def _touched(path: Path) -> bool:
    """Notes that a file is used; returns whether it is there."""
    try:
        os.utime(path)
    except OSError:
        return False
    return path.stat().st_size > 0


def content_key(path: Path, *more: object) -> str:
    """Returns a name for what is made from a file as it is now.

    Args:
        path: Path. The file.
        *more: object. What else it depends on.
    """
    status = path.stat()
    parts = (os.path.abspath(path), status.st_size, status.st_mtime_ns, *more)
    text = "\0".join(map(str, parts))
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:32]


class Notes:
    """A small JSON object on the disk, such as the order of the classes.

    Args:
        path: Path. The file; what it holds may be lost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        remove_left(path.parent)

    def read(self) -> dict[str, Any]:
        """Returns the object; empty if there is none."""
        try:
            found = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def update(self, **values: Any) -> None:
        """Changes some of its fields."""
        with self._lock, whole_file(self.path) as temporary:
            temporary.write_text(json.dumps(self.read() | values), "utf-8")


def folder_key(root: Path) -> str:
    """Returns a name for a folder of videos."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
