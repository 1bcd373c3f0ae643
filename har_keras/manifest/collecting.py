"""Collects the videos that lists and tables name, and checks them together."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from har_keras.errors import DataError
from har_keras.manifest.entries import (
    FolderListing,
    FoundVideo,
    listed_file,
    missing,
)
from har_keras.manifest.formats.cells import whole_number
from har_keras.manifest.formats.tables import (
    ListedVideo,
    Table,
    column_notes,
    listed_videos,
)
from har_keras.manifest.layouts import NoClassFolders
from har_keras.manifest.split_names import splits_of
from har_keras.manifest.texts import read_text, shown
from har_keras.manifest.video_files import VideoFiles
from har_keras.progress import plural
from har_keras.terminal import shell_word

Times = tuple[float | None, float | None]
_WHOLE: Times = (None, None)

# Files of class names, in order of precedence.
_NAMES_FILES = (
    "classes.txt", "class_names.txt", "labels.txt", "label_map*.txt",
    "classInd.txt", "category.txt", "categories.txt",
)  # fmt: skip
# Files of a list that decide from which folder its paths start.
_TRIED = 20


class Collected:
    """Videos and labelled parts of videos, each once.

    Args:
        root: Path. The folder of the videos, resolved.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._videos: dict[str, dict[Times, FoundVideo]] = {}

    def add(self, place: str, video: FoundVideo) -> None:
        """Adds a video or a part of one.

        Args:
            place: str. Where it is listed, for messages.
            video: FoundVideo. Its `reason` is found here.

        Raises:
            DataError: If it is listed already.
        """
        others = self._videos.setdefault(video.file, {})
        require_new_part(place, video, others)
        others[video.start, video.end] = dataclasses.replace(
            video, reason=missing(self.root, video.file)
        )

    def listing(self, notes: Iterable[str]) -> FolderListing:
        """Returns all of them, sorted by file and by time.

        What the name of a split stands for is judged beside all others.
        """
        videos = [
            video
            for file in sorted(self._videos)
            for video in sorted(
                self._videos[file].values(), key=lambda x: x.start or 0
            )
        ]
        splits = splits_of({video.split for video in videos})
        return FolderListing(
            tuple(
                dataclasses.replace(video, split=splits[video.split])
                for video in videos
            ),
            tuple(notes),
        )


def require_new_part(
    place: str, video: FoundVideo, others: Mapping[Times, FoundVideo]
) -> None:
    """Raises if an entry labels what another of the same file does.

    Args:
        place: str. Where it stands, for the message.
        video: FoundVideo. The entry.
        others: Mapping. Those before it, by their times.

    Raises:
        DataError: Says which line to leave out.
    """
    times = (video.start, video.end)
    # No other one can be in its way, and a video may have thousands.
    near = [others[x] for x in (times, _WHOLE) if x in others]
    if times == _WHOLE:
        near += itertools.islice(others.values(), 1)
    for other in near:
        require_other_part(place, video, other)


def require_other_part(
    place: str, video: FoundVideo, other: FoundVideo
) -> None:
    """Raises if two entries label the same part, or a part and the whole.

    Args:
        place: str. Where the second stands, for the message.
        video: FoundVideo. The second.
        other: FoundVideo. The first, of the same file.

    Raises:
        DataError: Says which line to leave out.
    """
    times = (video.start, video.end), (other.start, other.end)
    same = times[0] == times[1]
    if not same and (None, None) not in times:
        return
    if video.class_name != other.class_name and same:
        raise DataError(
            f"{place}: '{video.file}' is listed a second time, as "
            f"'{video.class_name}' after '{other.class_name}': a video, or a "
            "part of one, has one class. Leave one of the lines out."
        )
    if not same:
        raise DataError(
            f"{place}: '{video.file}' is listed as a whole and in parts. Give "
            "all its lines a start and an end, or leave all but one out."
        )
    raise DataError(
        f"{place}: '{video.file}' is listed a second time. Leave one of the "
        "lines out."
    )


def videos_from_table(
    files: VideoFiles,
    tables: Sequence[tuple[Table, str]],
    *,
    strict: bool = False,
) -> FolderListing:
    """Returns the videos that tables list.

    Args:
        files: VideoFiles. The files of the folder.
        tables: Sequence of pairs of Table and the name of its split, ""
            where a column or nothing says it.
        strict: bool. Whether paths start from the root only, as in a
            `manifest.csv`. Defaults to `False`.

    Raises:
        DataError: If a line is wrong, or a file is outside; names it.
    """
    collected, notes = Collected(files.root), []
    listed = [listed_videos(table) for table, _ in tables]
    _require_labels([table for table, _ in tables], listed)
    names = ClassNames(
        [files.root, *(table.path.parent for table, _ in tables)],
        (row.class_name for rows in listed for row in rows),
    )
    known = splits_of(
        {split for _, split in tables}
        | {row.split.lower() for rows in listed for row in rows}
    )
    for (table, named), rows in zip(tables, listed, strict=True):
        split = known[named]
        splits = _splits(table, rows, split, known)
        base = "" if strict else _base(files.root, table.path, split, rows)
        for row in rows:
            collected.add(
                row.place,
                FoundVideo(
                    file_of(
                        files, row.path, row.place, base, named, strict=strict
                    ),
                    names.name(row.class_name, row.place),
                    split=splits[row.split],
                    group=row.group,
                    others=row.others,
                    start=row.start,
                    end=row.end,
                    is_group_chosen=bool(row.group),
                ),
            )
        file = table.path.relative_to(files.root).as_posix()
        notes += [f"Listed in {file}.", *table.notes, *column_notes(table)]
        notes += [f"Paths in {file} start from {base}/."] if base else []
    return collected.listing([*notes, *names.notes()])


def _require_labels(
    tables: Sequence[Table], listed: Sequence[Sequence[ListedVideo]]
) -> None:
    """Raises if no line of any table has a class yet."""
    number = sum(len(table.rows) for table in tables)
    if number and not any(listed):
        raise NoClassFolders(
            f"'{tables[0].path}' lists no video with a class yet: "
            f"{plural(number, 'line')} without one or left out. Label them: "
            f"har-keras label {shell_word(tables[0].path.parent)}"
        )


def _splits(
    table: Table,
    rows: Sequence[ListedVideo],
    default: str,
    splits: Mapping[str, str],
) -> dict[str, str]:
    """Returns the split for each text in the column of splits."""
    for row in rows:
        if row.split and not splits[row.split.lower()]:
            raise DataError(
                f"{row.place}: the split must be train, val or test. "
                f"Received: {shown(row.split)!r}."
            )
    some = [row for row in rows if row.split]
    empty = [row for row in rows if not row.split]
    if some and empty:
        raise DataError(
            f"{empty[0].place}: the split is empty, but other lines have one. "
            "Fill in all (train, val or test) or none."
        )
    found = {row.split: splits[row.split.lower()] for row in some}
    strange = [x for x in found.values() if default and x != default]
    if strange:
        raise DataError(
            f"'{table.path}' is the list of the split {default} by its name, "
            f"but its column '{table.role('split')}' says {strange[0]}. "
            "Correct the one or the other."
        )
    return {"": default} | found


def bases(folder: str, split: str) -> list[str]:
    """Returns the folders that the paths of a list may start from.

    Args:
        folder: str. That of the list, relative to the root; "" is the root.
        split: str. That of the list, or "".

    Returns:
        Paths relative to the root, the likeliest first. ".." is for paths that
        begin with the name of the root.
    """
    inner = ["", "videos", f"videos_{split}", split, "data", "clips"]
    if not split:
        inner = ["", "videos", "data", "clips"]
    found = [str(PurePosixPath(folder, x)) for x in inner] + inner
    plain = ["" if x == "." else x for x in found]
    return list(dict.fromkeys([*plain, ".."]))


def likeliest_base(
    root: Path, folder: str, split: str, paths: Sequence[str]
) -> str:
    """Returns the folder from which most of a list's paths lead to a file."""

    def hits(base: str) -> int:
        found = [listed_file(root, path, base) for path in paths[:_TRIED]]
        return sum(x is not None and os.path.exists(root / x) for x in found)

    tried = bases(folder, split)
    return max(tried, key=hits) if any(map(hits, tried)) else folder


def _base(
    root: Path, file: Path, split: str, rows: Sequence[ListedVideo]
) -> str:
    folder = file.parent.relative_to(root).as_posix()
    paths = [row.path for row in rows]
    return likeliest_base(root, "" if folder == "." else folder, split, paths)


def file_of(
    files: VideoFiles,
    path: str,
    place: str,
    base: str,
    split: str,
    *,
    strict: bool = False,
) -> str:
    """Returns the file that a list names, relative to the root.

    A path of another machine is that of the video whose path ends alike.

    Args:
        files: VideoFiles. The files of the folder.
        path: str. As the list has it.
        place: str. Where it stands, for messages.
        base: str. The folder that paths start from.
        split: str. The name of its split, which may be that of a folder.
        strict: bool. Whether it has to be there under this path. Defaults to
            `False`.

    Raises:
        DataError: If it lies outside of the folder.
    """
    file = listed_file(files.root, path, base)
    meant = Path(files.root, base, path) if file is None else files.root / file
    if not strict and not os.path.exists(meant):
        file = files.named(path, place, [split]) or file
    if file is None:
        raise DataError(
            f"{place}: '{shown(path)}' lies outside of '{files.root}'. Put the "
            "list into the folder that holds all its videos, and write paths "
            "from there."
        )
    return file


class ClassNames:
    """The names of numeric labels, from a file beside the lists.

    Args:
        folders: Sequence of Path. Those that may have the file, the first
            before the others.
        labels: Iterable of str. All labels of the lists.
    """

    def __init__(self, folders: Sequence[Path], labels: Iterable[str]) -> None:
        files = (
            path
            for folder in folders
            for name in _NAMES_FILES
            for path in sorted(folder.glob(name))
        )
        self.file = next(files, None)
        self._by_number = _by_number(self.file) if self.file else {}
        self._names, labels = {*self._by_number.values()}, set(labels)
        self._has_numbers = any(map(str.isdecimal, labels - self._names))
        self._is_used = self._has_numbers or bool(labels & self._names)

    def name(self, label: str, place: str) -> str:
        """Returns the name of a label, which is itself if it is no number.

        Raises:
            DataError: If the file has no such class.
        """
        if self.file is None or not self._is_used or label in self._names:
            return label
        whole = whole_number(label)
        number = label if whole is None else f"{whole}"
        if number not in self._by_number:
            numbers = sorted(map(int, self._by_number))
            known = f"{len(numbers)} classes"
            known += f", {numbers[0]} to {numbers[-1]}" if numbers else ""
            raise DataError(
                f"{place}: there is no class '{shown(label)}' in "
                f"'{self.file.name}', which has {known}."
            )
        return self._by_number[number]

    def notes(self) -> list[str]:
        """Returns a note on where the names come from."""
        if self.file and self._is_used:
            return [f"Classes are named in {self.file.name}."]
        if self._has_numbers:
            return [
                "No classes.txt beside the lists: labels are the names of "
                "classes."
            ]
        return []


def _by_number(file: Path) -> dict[str, str]:
    """Returns class names by number: as in "2 walk", else counted from 0."""
    content = read_text(file).content
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d{1,18})[\s,]+(\S.*)", line) for line in lines]
    if lines and all(numbered):
        return {str(int(x[1])): x[2] for x in numbered if x}
    return {str(number): name for number, name in enumerate(lines)}


def with_splits_of_folders(listing: FolderListing) -> FolderListing:
    """Takes splits from the folders of the files, where a list has none.

    Args:
        listing: FolderListing. Of a list or a table.

    Returns:
        The same, if any video has a split or any lies in no folder of one.
    """
    folders = [PurePosixPath(x.file).parts[:-1] for x in listing.videos]
    splits = splits_of({name for parts in folders for name in parts})
    found = [
        next(filter(None, (splits[name] for name in parts)), "")
        for parts in folders
    ]
    has_splits = any(video.split for video in listing.videos)
    if has_splits or not found or not all(found):
        return listing
    videos = [
        dataclasses.replace(video, split=split)
        for video, split in zip(listing.videos, found, strict=True)
    ]
    notes = (*listing.notes, "Splits are the folders that the videos lie in.")
    return FolderListing(tuple(videos), notes)
