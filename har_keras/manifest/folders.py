"""Finds the videos of a folder and their classes, in four layouts.

The layouts are a `manifest.csv`, list files, `<split>/<class>/<video>` and
`<class>/<video>`.
"""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from har_keras.errors import DataError
from har_keras.manifest.entries import (
    EXTENSIONS,
    FolderListing,
    FoundVideo,
    inside,
    missing,
    refusal,
)
from har_keras.manifest.lists import has_lists, videos_from_lists
from har_keras.manifest.parts import sample_name
from har_keras.progress import plural

_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_FILE_NAME = "manifest.csv"
_OWN_COLUMNS = (
    "file", "class", "split", "group", "start", "end", "sha256", "kept_frames",
    "first_kept_frame", "reason", "root",
)  # fmt: skip


def find_videos(root: Path) -> FolderListing:
    """Finds the videos of a folder by the first layout that matches.

    Args:
        root: Path. The folder, resolved.

    Returns:
        A `FolderListing`, sorted by name. A video that lies outside the
        folder, or is listed but missing, is included with a `reason`.

    Raises:
        DataError: If a `manifest.csv` or a list has a wrong line; names it.
    """
    if (root / _FILE_NAME).is_file():
        return _from_csv(root, root / _FILE_NAME)
    if has_lists(root):
        return videos_from_lists(root)
    files, notes = _list_files(root)
    if _has_split_folders(root):
        videos = [
            FoundVideo(
                file,
                class_name=PurePosixPath(file).parts[1],
                split=_SPLIT_FOLDERS[PurePosixPath(file).parts[0].lower()],
                reason=refusal(root, file),
            )
            for file in files
            if len(PurePosixPath(file).parts) > 2
        ]
        depth = 2
    else:
        videos = [
            FoundVideo(
                file,
                class_name=PurePosixPath(file).parts[0],
                reason=refusal(root, file),
            )
            for file in files
            if len(PurePosixPath(file).parts) > 1
        ]
        depth = 1
    loose = [f for f in files if len(PurePosixPath(f).parts) <= depth]
    if loose:
        notes.append(
            f"{plural(len(loose), 'video')} outside of class folders left out, "
            f"such as '{loose[0]}'."
        )
    notes += _empty_folders(root, videos, depth)
    return FolderListing(tuple(videos), tuple(notes))


def find_every_video(root: Path, class_name: str) -> FolderListing:
    """Finds all videos below a folder, whatever its layout.

    Args:
        root: Path. The folder, resolved.
        class_name: str. The class given to all of them.

    Returns:
        A `FolderListing`. A video outside the folder is included with a
        `reason`.
    """
    files, notes = _list_files(root)
    videos = [
        FoundVideo(file, class_name, reason=refusal(root, file))
        for file in files
    ]
    return FolderListing(tuple(videos), tuple(notes))


def _empty_folders(
    root: Path, videos: list[FoundVideo], depth: int
) -> list[str]:
    """Returns a note on class folders without a video, if there are any."""
    filled = {PurePosixPath(video.file).parts[:depth] for video in videos}
    empty = [
        path.relative_to(root).as_posix()
        for path in sorted(root.glob("/".join("*" * depth)))
        if path.is_dir()
        and not any(p.startswith(".") for p in path.relative_to(root).parts)
        and path.relative_to(root).parts not in filled
    ]
    if not empty or not videos:
        return []
    names = ", ".join(f"'{name}'" for name in empty)
    return [f"No video in {names}; a class has at least one."]


def _has_split_folders(root: Path) -> bool:
    """Returns whether `root` has split folders with class folders inside."""
    names = [
        item.name
        for item in root.iterdir()
        if item.is_dir() and not item.name.startswith(".")
    ]
    splits = [_SPLIT_FOLDERS.get(name.lower()) for name in names]
    return (
        "train" in splits
        and all(splits)
        and any(
            item.is_dir()
            for name, split in zip(names, splits, strict=True)
            if split == "train"
            for item in (root / name).iterdir()
        )
    )


def _list_files(root: Path) -> tuple[list[str], list[str]]:
    """Returns the sorted video files, and notes on ignored files."""
    files, ignored, links = [], Counter[str](), []
    for folder, names, members in os.walk(root):
        # Hidden files, such as "._one.mp4", hold metadata of other programs.
        names[:] = sorted(name for name in names if not name.startswith("."))
        links += [
            os.path.join(folder, name)
            for name in names
            if os.path.islink(os.path.join(folder, name))
        ]
        for name in members:
            suffix = Path(name).suffix.lower()
            if suffix in EXTENSIONS and not name.startswith("."):
                path = Path(folder, name).relative_to(root)
                files.append(path.as_posix())
            elif not name.startswith("."):
                ignored[suffix or "no ending"] += 1
    notes = [
        f"The folder '{os.path.relpath(link, root)}' is a link and is not "
        "followed. Put the folder itself there, or list its videos in a "
        f"{_FILE_NAME} beside them."
        for link in links
    ]
    if ignored:
        kinds = ", ".join(f"{n} {kind}" for kind, n in ignored.most_common(5))
        notes.append(
            f"{ignored.total()} files are left out, for their names are not "
            f"those of videos: {kinds}."
        )
    return sorted(files), notes


def _from_csv(root: Path, path: Path) -> FolderListing:
    videos: dict[str, FoundVideo] = {}
    rows = list(_rows(path))
    for line, row in rows:
        video = _video(root, path, line, row)
        name = sample_name(video)
        if name in videos:
            raise DataError(
                f"'{path}', line {line}: '{name}' is listed a second "
                "time. Leave one of the lines out."
            )
        videos[name] = video
    some = [video for video in videos.values() if video.split]
    if some and len(some) < len(videos):
        lines = [n for n, row in rows if not (row.get("split") or "").strip()]
        raise DataError(
            f"'{path}', line {lines[0]}: the split is empty, but other lines "
            "have one. Fill in all (train, val or test) or none."
        )
    listed = sorted(videos.values(), key=lambda v: (v.file, v.start or 0.0))
    return FolderListing(tuple(listed), (f"Listed in {path.name}.",))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV file with line numbers; finds the delimiter."""
    text = path.read_text("utf-8-sig", errors="surrogateescape")
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    absent = [name for name in ("file", "class") if name not in columns]
    if absent:
        raise DataError(
            f"'{path}' has no column '{absent[0]}'. Its first line must name "
            "the columns file and class, and may name split, group, start and "
            "end. "
            f"Received: {header.strip()[:80]!r}."
        )
    for row in reader:
        yield (
            reader.line_num,
            {name: cell or "" for name, cell in row.items() if name},
        )


def _video(
    root: Path, path: Path, line: int, row: dict[str, str]
) -> FoundVideo:
    """Returns the video of one row."""
    file, class_name = row["file"], row["class"].strip()
    if not file or not class_name:
        raise DataError(f"'{path}', line {line}: file or class is empty.")
    split = row.get("split", "").strip().lower()
    if split and split not in _SPLIT_FOLDERS:
        raise DataError(
            f"'{path}', line {line}: the split must be train, val or test. "
            f"Received: {split!r}."
        )
    listed = inside(root, file)
    if listed is None:
        raise DataError(
            f"'{path}', line {line}: '{file}' lies outside of '{root}'. Move "
            f"{_FILE_NAME} to a folder that holds all its videos."
        )
    return FoundVideo(
        listed,
        class_name,
        split=_SPLIT_FOLDERS.get(split, ""),
        group=row.get("group", ""),
        reason=missing(root, listed),
        others=tuple((k, v) for k, v in row.items() if k not in _OWN_COLUMNS),
        start=_seconds(path, line, row, "start"),
        end=_seconds(path, line, row, "end"),
    )


def _seconds(
    path: Path, line: int, row: dict[str, str], column: str
) -> float | None:
    """Returns a time of one row, None where the cell is empty."""
    cell = row.get(column, "").strip()
    try:
        seconds = float(cell) if cell else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0 <= seconds < math.inf:
        raise DataError(
            f"'{path}', line {line}: {column} must be seconds from the "
            "beginning of the video, 0 or more, as in 75.5. Received: "
            f"{cell!r}."
        )
    return seconds
