"""Reads annotation lists in the formats of mmaction2, PySlowFast and UCF101.

A line is a path and a label, separated by a space, a tab or a comma. The names
of numeric labels are read from a file beside the lists.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from har_keras.errors import DataError
from har_keras.manifest.entries import (
    EXTENSIONS,
    FolderListing,
    FoundVideo,
    inside,
    missing,
)

LIST_NAMES = tuple(
    (f"{split}{ending}", split)
    for split in ("train", "val", "test")
    for ending in (".txt", ".csv")
)
"""File names of lists, and the split of each."""

# Files of class names, in order of precedence.
_NAMES_FILES = (
    "classes.txt", "class_names.txt", "labels.txt", "label_map*.txt",
    "classInd.txt",
)  # fmt: skip
_ENDINGS = "|".join(sorted(ending[1:] for ending in EXTENSIONS))
# A path may contain spaces and commas; it ends at a video suffix.
_LINE = re.compile(
    rf"""(?P<quote>["']?)(?P<path>.+\.(?:{_ENDINGS}))(?P=quote)"""
    r"(?:(?:\s*[,;]\s*|\s+)(?P<label>\S.*))?",
    re.IGNORECASE,
)
_FRAMES_LINE = re.compile(r".*\S[\s,]+\d+[\s,]+\d+")
_HEADERS = ("path", "file", "filename", "video", "video_path")


@dataclass(frozen=True)
class _Line:
    """One line of a list; `label` is "" where it has none."""

    place: str
    path: str
    label: str
    split: str


def has_lists(root: Path) -> bool:
    """Returns whether a folder has a list of training videos."""
    return any(
        (root / name).is_file()
        for name, split in LIST_NAMES
        if split == "train"
    )


def videos_from_lists(root: Path) -> FolderListing:
    """Returns the videos that the lists of a folder name.

    Paths are relative to the folder of the lists, or to a folder in it:
    `videos`, `videos_train` for train.txt, or `train`. Absolute paths are
    allowed, but all videos must lie in the folder of the lists.

    Args:
        root: Path. The folder, resolved, with a train.txt or train.csv.

    Returns:
        A `FolderListing`, sorted by file. A missing video is included with a
        `reason`.

    Raises:
        DataError: If a line is not a path and a label, a video is listed
            twice or lies outside, or a numeric label has no name; names file
            and line.
    """
    files = [
        (root / name, split)
        for name, split in LIST_NAMES
        if (root / name).is_file()
    ]
    lines = [line for file, split in files for line in _lines(file, split)]
    names_file = _names_file(root)
    names = _class_names(names_file) if names_file else {}
    _refuse_two_kinds_of_names(lines, names)
    bases = {
        split: _base(root, split, [x for x in lines if x.split == split])
        for _, split in files
    }
    videos: dict[str, FoundVideo] = {}
    for line in lines:
        file = _file(root, bases[line.split], line)
        if file in videos:
            raise DataError(
                f"{line.place}: '{file}' is listed a second time. Leave one "
                "of the lines out."
            )
        videos[file] = FoundVideo(
            file,
            _class_name(line, names, names_file),
            split=line.split,
            reason=missing(root, file),
        )
    listed = tuple(videos[file] for file in sorted(videos))
    return FolderListing(
        listed, _notes(root, [f for f, _ in files], names_file, bases)
    )


def _lines(file: Path, split: str) -> Iterator[_Line]:
    """Yields the lines of a list that are neither empty nor comments."""
    text = file.read_text("utf-8-sig", errors="surrogateescape")
    for number, raw in enumerate(text.splitlines(), 1):
        content = raw.strip()
        place = f"'{file}', line {number}"
        if not content or content.startswith("#"):
            continue
        found = _LINE.fullmatch(content)
        if found and "\0" not in content:
            label = (found["label"] or "").strip("\"' ")
            yield _Line(place, found["path"].strip(), label, split)
        elif number > 1 or re.split(r"[\s,;]", content)[0].lower() not in (
            _HEADERS
        ):
            raise DataError(_complaint(place, content))


def _complaint(place: str, content: str) -> str:
    if _FRAMES_LINE.fullmatch(content[-200:]):
        return (
            f"{place}: a path, a number of frames and a label is a list of "
            "folders of frames. har_keras reads videos: take the list with a "
            f"path and a label in each line. Received: {content[:80]!r}."
        )
    return (
        f"{place}: expected the path of a video and a label, as in "
        f"walk/one.mp4 2. Received: {content[:80]!r}."
    )


def _base(root: Path, split: str, lines: list[_Line]) -> str:
    """Returns the folder that the paths of a list are relative to."""
    for folder in ("", "videos", f"videos_{split}", split):
        for line in lines[:1]:
            file = inside(root, str(root / folder / line.path))
            if file and (root / file).is_file():
                return folder
    return ""


def _file(root: Path, base: str, line: _Line) -> str:
    """Returns the path of a line's video, relative to the root."""
    file = inside(root, str(root / base / line.path))
    if file is None:
        raise DataError(
            f"{line.place}: '{line.path}' lies outside of '{root}'. Put the "
            "lists into the folder that holds all the videos, and write paths "
            "from there."
        )
    return file


def _names_file(root: Path) -> Path | None:
    found = [path for name in _NAMES_FILES for path in sorted(root.glob(name))]
    return found[0] if found else None


def _class_names(file: Path) -> dict[str, str]:
    """Returns class names by number: as in "2 walk", else counted from 0."""
    text = file.read_text("utf-8-sig", errors="surrogateescape")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+)[\s,]+(\S.*)", line) for line in lines]
    if lines and all(numbered):
        return {str(int(x[1])): x[2] for x in numbered if x}
    return {str(number): name for number, name in enumerate(lines)}


def _class_name(line: _Line, names: dict[str, str], file: Path | None) -> str:
    """Returns the class name of a line."""
    if not line.label:
        # The test lists of UCF101 have no label: the folder is the class.
        return PurePosixPath(line.path).parent.name
    if file is None or line.label in names.values():
        return line.label
    number = str(int(line.label)) if line.label.isdecimal() else line.label
    if number not in names:
        numbers = sorted(map(int, names))
        known = f"{len(names)} classes"
        known += f", {numbers[0]} to {numbers[-1]}" if numbers else ""
        raise DataError(
            f"{line.place}: there is no class '{line.label}' in "
            f"'{file.name}', which has {known}."
        )
    return names[number]


def _refuse_two_kinds_of_names(
    lines: list[_Line], names: dict[str, str]
) -> None:
    """Raises if some labels are numbers and others are folder names."""
    bare = [line for line in lines if not line.label]
    if bare and not PurePosixPath(bare[0].path).parent.name:
        raise DataError(
            f"{bare[0].place}: there is no label after '{bare[0].path}'."
        )
    numbers = [line for line in lines if line.label.isdecimal()]
    if bare and numbers and not names:
        raise DataError(
            f"{bare[0].place}: there is no label, but {numbers[0].place} has "
            f"'{numbers[0].label}'. Put the names of the classes beside the "
            "lists as classes.txt, one a line from 0, or as classInd.txt with "
            "a number before each."
        )


def _notes(
    root: Path, files: list[Path], names: Path | None, bases: dict[str, str]
) -> tuple[str, ...]:
    notes = [f"Listed in {', '.join(file.name for file in files)}."]
    for split, folder in bases.items():
        if folder:
            notes.append(f"Paths of the {split} list start from {folder}/.")
    if names:
        notes.append(f"Classes are named in {names.name}.")
    else:
        notes.append(
            "No classes.txt beside the lists: labels are the names of classes."
        )
    return tuple(notes)
