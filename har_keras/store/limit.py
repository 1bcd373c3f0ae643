"""How much a frame store may take on disk, and what is removed beyond that."""

import logging
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from har_keras.errors import UsageError
from har_keras.store.contents import (
    DAY_SECONDS,
    CacheItem,
    date_text,
    remove_items,
    size_text,
    stored_items,
)
from har_keras.store.store import default_store_dir
from har_keras.store.use import held, is_held, locked
from har_keras.terminal import printable

logger = logging.getLogger(__name__)

LIMIT_VARIABLE = "HAR_KERAS_STORE_LIMIT"
_SHARE_OF_DISK = 0.1
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?)b?|b)", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """What a frame store may take on disk.

    Args:
        num_bytes: float or None. None is without limit.
        origin: str. Where it comes from, for people.
    """

    num_bytes: float | None
    origin: str = ""

    @property
    def text(self) -> str:
        """For people, such as "at most 20.0 GiB (a tenth of its disk)"."""
        if self.num_bytes is None:
            return "any amount of its disk"
        return f"at most {size_text(self.num_bytes)} ({self.origin})"


def limit_of(store_dir: Path) -> Limit:
    """Returns the limit of a frame store.

    That of `HAR_KERAS_STORE_LIMIT`, if it is set. Else a tenth of its disk for
    the one in the user's cache folder, and none for a folder that was chosen.

    Args:
        store_dir: Path. Its folder; it need not exist.

    Raises:
        UsageError: If the variable is no size.
    """
    given = os.environ.get(LIMIT_VARIABLE, "").strip()
    if given:
        return Limit(parse_size(given), LIMIT_VARIABLE)
    if store_dir != default_store_dir():
        return Limit(None)
    folder = next(x for x in (store_dir, *store_dir.parents) if x.exists())
    total = shutil.disk_usage(folder).total
    return Limit(_SHARE_OF_DISK * total, "a tenth of its disk")


def parse_size(text: str, name: str = LIMIT_VARIABLE) -> float | None:
    """Returns a size in bytes; None for "off".

    Args:
        text: str. The size.
        name: str. Where it was given, for the error.

    Raises:
        UsageError: If it is no size.

    Example:

    >>> parse_size("20 GB"), parse_size("1.5GiB"), parse_size("off")
    (20000000000.0, 1610612736.0, None)
    """
    if text.lower() == "off":
        return None
    mark = _SIZE.fullmatch(text)
    if mark is None or not float(mark[1]):
        raise UsageError(
            f"{name} must be a size above 0, such as 20GB or 500MB, or off. "
            f"Received: {text}."
        )
    base = 1024 if mark[3] else 1000
    power = " kmgt".index(mark[2].lower()) if mark[2] else 0
    return float(mark[1]) * base**power


def keep_within_limit(store_dir: Path) -> None:
    """Says what a store takes, and removes what is beyond its limit.

    What was not used for the longest time goes first. What a running process
    uses stays, and so does what was used within a day. It is decoded again
    when it is needed, to the same bits.

    Args:
        store_dir: Path. Its folder.
    """
    limit = limit_of(store_dir)
    total = sum(item.num_bytes for item in stored_items(store_dir))
    place = printable(_in_home(store_dir))
    if limit.num_bytes is None or total <= limit.num_bytes:
        logger.info(
            "The frame store '%s' has %s; it may take %s.",
            place, size_text(total), limit.text,
        )  # fmt: skip
        return
    removed = shrink(store_dir, limit.num_bytes)
    left = total - sum(item.num_bytes for item in removed)
    if removed:
        logger.info(
            "Removed %s from the frame store '%s', last used by %s: it may "
            "take %s. What is needed again is decoded again.",
            size_text(total - left), place,
            date_text(max(item.last_used for item in removed)), limit.text,
        )  # fmt: skip
    if left > limit.num_bytes:
        logger.warning(
            "The frame store '%s' has %s, where it may take %s: all of it is "
            "in use, or was within a day.",
            place, size_text(left), limit.text,
        )  # fmt: skip


def _in_home(folder: Path) -> str:
    """Returns a path for people; one in the home folder begins with ~."""
    home = Path.home()
    if not folder.is_relative_to(home):
        return str(folder)
    return str("~" / folder.relative_to(home))


def shrink(
    store_dir: Path,
    num_bytes: float,
    *,
    recent_seconds: float = DAY_SECONDS,
    asked: bool = False,
) -> list[CacheItem]:
    """Removes what was not used for the longest time, down to a size.

    Args:
        store_dir: Path. The frame store.
        num_bytes: float. Its size afterwards, if so much can be removed.
        recent_seconds: float. What was used since is kept. Defaults to a day.
        asked: bool. Whether a person asked for it: this process's own use does
            not count then, and a disk without locks is no hindrance. Defaults
            to `False`.

    Returns:
        list of CacheItem. What was removed.
    """
    removed: list[CacheItem] = []
    with locked(store_dir) as is_locked:
        if not (is_locked or asked):
            return removed
        used = held(store_dir, by_others=asked)
        items = sorted(stored_items(store_dir), key=lambda x: x.last_used)
        excess = sum(item.num_bytes for item in items) - num_bytes
        newest = time.time() - recent_seconds
        for item in items:
            if excess <= 0 or item.last_used > newest:
                break
            if not is_held(item, used):
                removed.append(item)
                excess -= item.num_bytes
        remove_items(store_dir, removed, {item.folder for item in items})
    return [x for x in removed if not any(map(Path.exists, x.files))]
