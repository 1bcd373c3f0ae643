"""`har-keras cache`: what frames and features take on disk."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from har_keras import cli
from har_keras.compiled import clear_compiled, compiled_bytes
from har_keras.errors import UsageError
from har_keras.progress import plural
from har_keras.ranges import Metavar
from har_keras.store.contents import (
    DAY_SECONDS,
    CacheItem,
    date_text,
    size_text,
    stored_items,
)
from har_keras.terminal import printable


@dataclass(frozen=True)
class CacheOptions:
    """Shows what the frame store takes on disk, and removes from it.

    It has the decoded frames of videos in each size, and the features of
    backbones. What is removed is computed again when it is needed; what a
    running process uses is left. Without
    --store-dir, --clear also removes what XLA compiled.

    The store in the user's cache folder may take a tenth of its disk; beyond
    that, what was not used for the longest time is removed after decoding. The
    environment variable HAR_KERAS_STORE_LIMIT sets another limit, as in 20GB,
    or off; it holds for a folder of --store-dir, too.
    """

    store_dir: Annotated[Path | None, Metavar("PATH")] = None
    """The frame store. Default: the one in the user's cache folder."""
    unused_days: Annotated[float | None, Metavar("DAYS")] = None
    """Remove what was not read for so many days."""
    limit: Annotated[str, Metavar("SIZE")] = ""
    """Remove what was not used for the longest time, down to a size such as
    20GB."""
    clear: bool = False
    """Remove everything."""


def cache(
    store_dir: Path | str | None = None,
    *,
    unused_days: float | None = None,
    limit: str = "",
    clear: bool = False,
) -> list[CacheItem]:
    """Lists what a frame store holds, after removing some of it.

    What another process uses is left.

    Args:
        store_dir: Path, str or None. Its folder. Defaults to that in the user's
            cache folder.
        unused_days: float or None. Remove what was not read for so many days,
            and what killed programs left over. Defaults to `None`: nothing.
        limit: str. Remove what was not used for the longest time, down to a
            size such as "20GB". Defaults to `""`: nothing.
        clear: bool. Whether to remove everything; without `store_dir` also
            what XLA compiled. Defaults to `False`.

    Returns:
        list of `CacheItem`, by folder: what is there now.

    Raises:
        UsageError: If `unused_days` is not more than 0, `limit` is no size, or
            two of these are given.
    """
    if (unused_days is not None) + bool(limit) + clear > 1:
        raise UsageError("Give only one of --unused-days, --limit and --clear.")
    if unused_days is not None and not unused_days > 0:
        raise UsageError(
            f"--unused-days must be more than 0. Received: {unused_days:g}. "
            "--clear removes everything."
        )
    folder = _store_dir(store_dir)
    if clear and store_dir is None:
        clear_compiled()
    if clear or limit or unused_days is not None:
        from har_keras.store.limit import parse_size, shrink

        left = parse_size(limit, "--limit") if limit else 0.0
        days = -math.inf if unused_days is None else unused_days
        if folder.is_dir() and left is not None:  # which is "off"
            shrink(folder, left, recent_seconds=DAY_SECONDS * days, asked=True)
    return list(stored_items(folder))


def _store_dir(given: Path | str | None) -> Path:
    from har_keras.store.store import default_store_dir

    if given is None:
        return default_store_dir()
    if not Path(given).is_dir():
        raise UsageError(f"--store-dir '{given}' is not a folder.")
    return Path(given)


def _table(store_dir: Path, items: Sequence[CacheItem]) -> str:
    from har_keras.store.limit import limit_of

    free = shutil.disk_usage(_existing(store_dir)).free
    lines = [
        f"Frame store {store_dir}",
        f"It may take {limit_of(store_dir).text}; {size_text(free)} free on "
        "its disk.",
        f"What XLA compiled takes {size_text(compiled_bytes())}.",
        "",
    ]
    folders = sorted({item.folder for item in items})
    for folder in folders:
        own = [item for item in items if item.folder == folder]
        kind = "features" if own[0].has_features else "frames"
        used = date_text(max(item.last_used for item in own))
        lines.append(
            f"{size_text(sum(x.num_bytes for x in own)):>10}  last used "
            f"{used}  {kind:8}  {folder.name}"
        )
    if not items:
        lines.append("It is empty.")
        return "\n".join(map(printable, lines))
    total = sum(item.num_bytes for item in items)
    lines += [
        f"{size_text(total):>10}  in all, in {plural(len(folders), 'folder')}",
        "",
        "To remove what was not used for a month:",
        "    har-keras cache --unused-days 30",
    ]
    return "\n".join(map(printable, lines))


def _existing(path: Path) -> Path:
    return next(x for x in (path, *path.absolute().parents) if x.exists())


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags, and shows or removes."""

    def verb() -> None:
        options = cli.parse(CacheOptions, argv, verb="cache")
        folder = _store_dir(options.store_dir)
        before = cache(folder) if folder.is_dir() else []
        given = options.clear or options.limit
        if not given and options.unused_days is None:
            print(_table(folder, before))
            return
        left = cache(
            options.store_dir,
            unused_days=options.unused_days,
            limit=options.limit,
            clear=options.clear,
        )
        removed = sum(x.num_bytes for x in before)
        removed -= sum(x.num_bytes for x in left)
        print(f"Removed {size_text(removed)} from {printable(folder)}.")
        if options.clear and left:
            rest = sum(x.num_bytes for x in left)
            print(f"A running process uses the other {size_text(rest)}.")

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
