"""The rows of a manifest's CSV file."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from har_keras.manifest.formats.cells import guarded, unguarded
from har_keras.manifest.split_names import SPLITS

_COLUMNS = (
    "file", "class", "split", "group", "sha256", "kept_frames", "reason",
    "root",
)  # fmt: skip
# Only where a label has a time. The last tells the others from columns of a
# user's, which earlier versions kept as they were.
_TIME_COLUMNS = ("start", "end", "first_kept_frame")


def columns_of(videos: Sequence[Any]) -> list[str]:
    """Returns the columns of a table of videos.

    Args:
        videos: Sequence of Video.
    """
    others = dict.fromkeys(name for v in videos for name, _ in v.others)
    times = _TIME_COLUMNS if _timed(videos) else ()
    return [*_COLUMNS, *times, *others]


def rows_of(videos: Sequence[Any], root: Path) -> Iterator[dict[str, str]]:
    """Yields the cells of each video by column.

    Args:
        videos: Sequence of Video.
        root: Path. Their folder.
    """
    timed = _timed(videos)
    for video in videos:
        row = {
            "file": video.file,
            "class": video.class_name,
            "split": video.split,
            "group": video.group,
            "sha256": video.sha256,
            "kept_frames": str(video.kept_frames),
            "reason": video.reason,
            "root": str(root),
        }
        if timed:
            row["start"] = seconds_cell(video.start)
            row["end"] = seconds_cell(video.end)
            row["first_kept_frame"] = str(video.first_frame)
        pairs = (*row.items(), *video.others)
        yield {name: guarded(cell) for name, cell in pairs}


def fields_of(row: dict[str, str]) -> dict[str, Any]:
    """Returns the fields of a `Video` from its cells.

    Args:
        row: dict from column to cell, as `rows_of` gives it.

    Raises:
        LookupError, TypeError or ValueError: If it is not such a row.
    """
    cells = {name: unguarded(cell) for name, cell in row.items()}
    take: Callable[[str], str] = cells.pop
    times: dict[str, Any] = {}
    if "first_kept_frame" in cells:
        times["first_frame"] = int(take("first_kept_frame"))
        for name in ("start", "end"):
            cell = take(name)
            times[name] = float(cell) if cell else None
    root_and_others = {k: v for k, v in cells.items() if k not in _COLUMNS}
    found = {
        "file": take("file"),
        "class_name": take("class"),
        "split": take("split"),
        "group": take("group"),
        "sha256": take("sha256"),
        "kept_frames": int(take("kept_frames")),
        "reason": take("reason"),
        "others": tuple(root_and_others.items()),
        **times,
    }
    if found["split"] not in SPLITS:
        raise ValueError(f"'{found['split'][:40]}' is no split")
    for name in ("kept_frames", "first_frame", "start", "end"):
        number = found.get(name)
        if number is not None and not 0 <= number < math.inf:
            raise ValueError(f"{number} is no {name}")
    return found


def _timed(videos: Sequence[Any]) -> bool:
    return any(video.is_part for video in videos)


def seconds_cell(seconds: float | None) -> str:
    """Returns a time for a table, from which the same number is read.

    Example:

    >>> seconds_cell(12.5), seconds_cell(None), seconds_cell(1 / 24)
    ('12.5', '', '0.041666666666666664')
    """
    return "" if seconds is None else repr(seconds)
