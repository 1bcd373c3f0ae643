"""Reads annotation lists in the formats of mmaction2, PySlowFast, UCF101, TSM.

A line is a path and a label, separated by a space, a tab or a comma. The names
of numeric labels are read from a file beside the lists.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from har_keras.errors import DataError
from har_keras.manifest.collecting import (
    ClassNames,
    Collected,
    likeliest_base,
    videos_from_table,
)
from har_keras.manifest.entries import FolderListing, FoundVideo, listed_file
from har_keras.manifest.formats.tables import ROLES, read_table
from har_keras.manifest.split_names import split_of
from har_keras.manifest.texts import read_text
from har_keras.manifest.video_files import VideoFiles
from har_keras.video.extensions import EXTENSIONS

# A header of these, a path and a label, may stand over any list.
_PLAIN_COLUMNS = 2
_SUFFIXES = (".txt", ".csv", ".tsv")
_ENDINGS = "|".join(sorted(ending[1:] for ending in EXTENSIONS))
# A path may contain spaces and commas; it ends at a video suffix.
_LINE = re.compile(
    rf"""(?P<quote>["']?)(?P<path>.+\.(?:{_ENDINGS}))(?P=quote)"""
    r"(?:(?:\s*[,;]\s*|\s+)(?P<label>\S.*))?",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"\d+(?:[\s,;]+\d+)+")
_FRAMES_LINE = re.compile(
    r"""(?P<quote>["']?)(?P<path>\S.*?)(?P=quote)[\s,;]+(?P<number>\d+)"""
    r"[\s,;]+(?P<label>\d+(?:[\s,;]+\d+)*)"
)
# Names that are those of lists whatever is in them.
_PLAIN = re.compile(r"(?:train|val|test)\.(?:txt|csv)")
_WORD = re.compile(
    r"(train|training|val|valid|validation|test|testing)(?:list|set|split)?"
)


@dataclass(frozen=True)
class _Line:
    """One line of a list; `label` is "" where it has none."""

    place: str
    path: str
    label: str
    split: str
    is_frames: bool = False


@dataclass(frozen=True)
class _List:
    """A file that lists the videos of a split."""

    path: Path
    split: str


def find_lists(files: VideoFiles, without: Collection[str] = ()) -> list[Path]:
    """Returns the lists of videos in a folder.

    Args:
        files: VideoFiles. The files of the folder.
        without: Collection of str. Files that are something else.
    """
    return [x.path for x in _chosen(files, without)[0]]


def videos_from_lists(
    files: VideoFiles, without: Collection[str] = ()
) -> FolderListing:
    """Returns the videos that the lists of a folder name.

    Lists are named after splits: `train.txt`, `ucf101_val_split_1_videos.txt`,
    `trainlist01.txt`. Paths are relative to the folder of the lists, or to a
    folder in it: `videos`, `videos_train` for train.txt, or `train`. All
    videos must lie in the root. A list whose first line names columns is read
    as a table.

    Args:
        files: VideoFiles. The files of the folder.
        without: Collection of str. Files that are something else.

    Returns:
        A `FolderListing`, sorted by file. A missing video is included with a
        `reason`.

    Raises:
        DataError: If a line is not a path and a label, a video is listed
            twice or lies outside, or a numeric label has no name; names file
            and line.
    """
    lists, notes = _chosen(files, without)
    headers = [len(_header(x.path)) for x in lists]
    if max(headers, default=0) > _PLAIN_COLUMNS:
        if not all(headers):
            bare = lists[headers.index(0)].path.name
            raise DataError(
                f"'{bare}' does not name its columns in the first line, but "
                "another list does. Write both alike."
            )
        read = [(read_table(x.path), x.split) for x in lists]
        found = videos_from_table(files, read)
        return FolderListing(found.videos, (*found.notes, *notes))
    return _from_lines(files, lists, notes)


def _from_lines(
    files: VideoFiles, lists: Sequence[_List], notes: list[str]
) -> FolderListing:
    texts = [(x, read_text(x.path)) for x in lists]
    lines = [y for x, text in texts for y in _lines(x, text.content)]
    names = ClassNames(
        [files.root, lists[0].path.parent], [x.label for x in lines if x.label]
    )
    _refuse_two_kinds_of_names(lines, names)
    folder = lists[0].path.parent.relative_to(files.root).as_posix()
    folder = "" if folder == "." else folder
    collected = Collected(files.root)
    listed = ", ".join(x.path.name for x in lists)
    read = [text.note for _, text in texts if text.note]
    notes = [f"Listed in {listed}.", *read, *notes]
    for split in dict.fromkeys(x.split for x in lists):
        mine = [line for line in lines if line.split == split]
        paths = [line.path for line in mine]
        base = likeliest_base(files.root, folder, split, paths)
        if base:
            notes.append(f"Paths of the {split} list start from {base}/.")
        for line in mine:
            file = _file(files, base, line)
            # The test lists of UCF101 have no label: the folder is the class.
            label = line.label or PurePosixPath(_plain(line.path)).parent.name
            name = names.name(label, line.place) if line.label else label
            collected.add(line.place, FoundVideo(file, name, split=split))
    return collected.listing([*notes, *names.notes()])


def _chosen(
    files: VideoFiles, without: Collection[str]
) -> tuple[list[_List], list[str]]:
    """Returns one list a split, of one folder, and notes on the others."""
    by_folder: dict[str, list[_List]] = defaultdict(list)
    for name in files.texts:
        path = files.root / name
        split = "" if name in without else split_in_name(path)
        depth = len(PurePosixPath(name).parts)
        if split and depth <= 2 and (_is_plain(name) or _lists_videos(path)):
            parent = PurePosixPath(name).parent.as_posix()
            by_folder[parent].append(_List(path, split))
    # A list of test videos alone may be one's notes; those of the root first.
    for folder in sorted(by_folder, key=lambda x: (x != ".", x)):
        return _one_each(by_folder[folder])
    return [], []


def _is_plain(name: str) -> bool:
    return bool(_PLAIN.fullmatch(name.lower()))


def split_in_name(path: Path) -> str:
    """Returns the split that the name of a list has in it, or ""."""
    if path.suffix.lower() not in _SUFFIXES:
        return ""
    words = re.findall(r"[a-z]+", path.stem.lower())
    found = [match[1] for match in map(_WORD.fullmatch, words) if match]
    return split_of(found[0]) if len(found) == 1 else ""


def _one_each(lists: Sequence[_List]) -> tuple[list[_List], list[str]]:
    """Chooses of lists for one split the first of a series, or refuses."""
    by_split: dict[str, list[_List]] = defaultdict(list)
    for one in lists:
        by_split[one.split].append(one)
    chosen, notes = [], []
    for split in ("train", "val", "test"):
        mine = sorted(by_split[split], key=lambda x: _series(x.path.stem))
        mine, without = _of_videos(mine), len(mine)
        if len(mine) < without:
            notes.append(f"Lists of raw frames of the split {split} left out.")
        series = {_series(x.path.stem)[0] for x in mine}
        if len(mine) > 1 and len(series) > 1:
            raise DataError(
                f"Both '{mine[0].path.name}' and '{mine[1].path.name}' list "
                f"videos of the split {split}. Leave one of them in the folder."
            )
        chosen += mine[:1]
        if len(mine) > 1:
            notes.append(
                f"{mine[0].path.name} is the first of {len(mine)} lists of the "
                f"split {split}; for another, leave only that in the folder."
            )
    numbered = {_series(x.path.stem)[1]: x.path.name for x in chosen}
    if len({*numbered} - {0}) > 1:
        first, second = [numbered[n] for n in sorted({*numbered} - {0})][:2]
        raise DataError(
            f"'{first}' and '{second}' are of two divisions into splits, so a "
            "video may be in both. Leave the lists of one number in the folder."
        )
    return chosen, notes


def _of_videos(lists: list[_List]) -> list[_List]:
    """Leaves out lists of frames where there is a list of videos."""
    videos = [x for x in lists if "rawframes" not in x.path.stem.lower()]
    return videos or lists


def _series(stem: str) -> tuple[str, int]:
    """Returns a name without its number, and the number.

    Example:

    >>> _series("trainlist02"), _series("hmdb51_train_split_3_videos")
    (('trainlist', 2), ('hmdb51_train_split__videos', 3))
    """
    found = re.fullmatch(r"(.*?(?:list|split)[-_ ]?)(\d{1,2})(\D*)", stem)
    return (found[1] + found[3], int(found[2])) if found else (stem, 0)


def _first_line(path: Path) -> str:
    content = read_text(path).content.splitlines()
    lines = (line.strip() for line in content)
    return next((x for x in lines if x and not x.startswith("#")), "")


def _lists_videos(path: Path) -> bool:
    """Returns whether a file with a split in its name is a list."""
    first = _first_line(path)
    found = _LINE.fullmatch(first) or _FRAMES_LINE.fullmatch(first)
    return bool(found or _header(path))


def _header(path: Path) -> list[str]:
    """Returns the columns that the first line of a list names, if it does."""
    first = _first_line(path)
    if _LINE.fullmatch(first) or _FRAMES_LINE.fullmatch(first):
        return []
    names = [x.strip("\"' ").lower() for x in re.split(r"[,;\t|]", first)]
    return names if _is_header(names) else []


def _is_header(names: Sequence[str]) -> bool:
    return bool({*names} & {*ROLES["file"]})


def _lines(of: _List, content: str) -> Iterator[_Line]:
    """Yields the lines of a list that are neither empty nor comments."""
    for number, raw in enumerate(content.splitlines(), 1):
        line = raw.strip()
        place = f"'{of.path}', line {number}"
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        frames = _FRAMES_LINE.fullmatch(line)
        if found and "\0" not in line:
            label = (found["label"] or "").strip("\"' ")
            if _NUMBERS.fullmatch(label):
                raise DataError(_two_numbers(place, line))
            yield _Line(place, found["path"].strip(), label, of.split)
        elif frames and frames["label"].isdecimal() and "\0" not in line:
            yield _Line(place, frames["path"], frames["label"], of.split, True)
        elif frames:
            raise DataError(_two_numbers(place, line))
        elif number > 1 or not _is_header(re.split(r"[\s,;]+", line.lower())):
            named = "" if number > 1 else ", or names of columns: file, class"
            raise DataError(
                f"{place}: expected the path of a video and a label, as in "
                f"walk/one.mp4 2{named}. Received: {line[:80]!r}."
            )


def _two_numbers(place: str, line: str) -> str:
    return (
        f"{place}: two numbers after a video are a number of frames and a "
        "label, or several labels. A line is the path of a video and one "
        "label, as in walk/one.mp4 2; for a folder of images its path, their "
        f"number and one label. Received: {line[:80]!r}."
    )


def _plain(path: str) -> str:
    return path.replace("\\", "/")


def _file(files: VideoFiles, base: str, line: _Line) -> str:
    """Returns the path of a line's video, relative to the root."""
    file = listed_file(files.root, line.path, base)
    is_there = file is not None and (files.root / file).exists()
    if not is_there and not Path(line.path).is_absolute():
        # A list of folders of frames serves for the videos of those names.
        file = files.named(line.path, line.place, [line.split]) or file
    if file is None:
        raise DataError(
            f"{line.place}: '{line.path}' lies outside of '{files.root}'. Put "
            "the lists into the folder that holds all the videos, and write "
            "paths from there."
        )
    return file


def _refuse_two_kinds_of_names(
    lines: Sequence[_Line], names: ClassNames
) -> None:
    """Raises if some labels are numbers and others are folder names."""
    bare = [line for line in lines if not line.label]
    if bare and not PurePosixPath(_plain(bare[0].path)).parent.name:
        raise DataError(
            f"{bare[0].place}: there is no label after '{bare[0].path}'."
        )
    numbers = [line for line in lines if line.label.isdecimal()]
    if bare and numbers and names.file is None:
        raise DataError(
            f"{bare[0].place}: there is no label, but {numbers[0].place} has "
            f"'{numbers[0].label}'. Put the names of the classes beside the "
            "lists as classes.txt, one a line from 0, or as classInd.txt with "
            "a number before each."
        )
