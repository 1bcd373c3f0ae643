"""Reads annotation lists in the formats of mmaction2, PySlowFast, UCF101, TSM.

A line is a path and a label, separated by a space, a tab or a comma. The names
of numeric labels are read from a file beside the lists.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from har_keras.errors import DataError
from har_keras.manifest.collecting import (
    ClassNames,
    Collected,
    file_of,
    likeliest_base,
    videos_from_table,
)
from har_keras.manifest.entries import FolderListing, FoundVideo
from har_keras.manifest.formats.document import Document
from har_keras.manifest.formats.tables import ROLES, header_of
from har_keras.manifest.split_names import splits_of
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
# Of a path and a label. The pattern takes its time for what it does not match.
_LONGEST = 2**13
# Names that are those of lists whatever is in them.
_PLAIN = re.compile(r"(?:train|val|test)\.(?:txt|csv)")


@dataclass(frozen=True)
class _Line:
    """One line of a list; `label` is "" where it has none."""

    place: str
    path: str
    label: str
    split: str


@dataclass(frozen=True)
class _List:
    """A file that lists the videos of a split."""

    document: Document
    split: str

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.document.path


@dataclass(frozen=True)
class Lists:
    """The lists of a folder that are read, one a split.

    Args:
        chosen: Sequence of _List.
        notes: Sequence of str. On lists that are not read.
    """

    chosen: tuple[_List, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names of the files."""
        return [x.path.name for x in self.chosen]


def find_lists(
    files: VideoFiles,
    opened: Mapping[str, Document],
    without: Collection[str] = (),
) -> Lists:
    """Finds the lists of videos in a folder, named after splits.

    Args:
        files: VideoFiles. The files of the folder.
        opened: Mapping from a file to its `Document`, of those that were read
            already.
        without: Collection of str. Files that are something else.

    Raises:
        DataError: If several lists are of one split.
    """
    by_folder: dict[str, list[Document]] = defaultdict(list)
    for name in files.texts:
        path = PurePosixPath(name)
        if name in without or len(path.parts) > 2 or not is_named_so(path):
            continue
        document = opened.get(name) or Document(files.root, name)
        if _is_plain(name) or _lists_videos(document):
            by_folder[path.parent.as_posix()].append(document)
    # A list of test videos alone may be one's notes; those of the root first.
    for folder in sorted(by_folder, key=lambda x: (x != ".", x)):
        mine = by_folder[folder]
        splits = splits_of({x.split_in_name for x in mine})
        return _one_each([_List(x, splits[x.split_in_name]) for x in mine])
    return Lists((), ())


def videos_from_lists(files: VideoFiles, lists: Lists) -> FolderListing:
    """Returns the videos that the lists of a folder name.

    Lists are named after splits: `train.txt`, `ucf101_val_split_1_videos.txt`,
    `trainlist01.txt`. Paths are relative to the folder of the lists, or to a
    folder in it: `videos`, `videos_train` for train.txt, or `train`. All
    videos must lie in the root. A list whose first line names columns is read
    as a table.

    Args:
        files: VideoFiles. The files of the folder.
        lists: Lists. At least one.

    Returns:
        A `FolderListing`, sorted by file. A missing video is included with a
        `reason`.

    Raises:
        DataError: If a line is not a path and a label, a video is listed
            twice or lies outside, or a numeric label has no name; names file
            and line.
    """
    headers = [_header(x.document) for x in lists.chosen]
    if not any(len(names) > _PLAIN_COLUMNS for names in headers):
        if not any(_is_table(x.document) for x in lists.chosen):
            return _from_lines(files, lists)
    if not all(headers):
        bare = lists.names[headers.index([])]
        raise DataError(
            f"'{bare}' does not name its columns in the first line, but "
            "another list does. Write both alike."
        )
    read = [(x.document.table, x.split) for x in lists.chosen]
    found = videos_from_table(files, read)
    return FolderListing(found.videos, (*found.notes, *lists.notes))


def _from_lines(files: VideoFiles, lists: Lists) -> FolderListing:
    lines = [line for x in lists.chosen for line in _lines(x)]
    folder = lists.chosen[0].path.parent
    names = ClassNames(
        [files.root, folder], [x.label for x in lines if x.label]
    )
    _refuse_two_kinds_of_names(lines, names)
    start = folder.relative_to(files.root).as_posix()
    collected = Collected(files.root)
    texts = [x.document.text for x in lists.chosen]
    read = [text.note for text in texts if text.note]
    notes = [f"Listed in {', '.join(lists.names)}.", *read, *lists.notes]
    for split in dict.fromkeys(x.split for x in lists.chosen):
        mine = [line for line in lines if line.split == split]
        paths = [line.path for line in mine]
        base = likeliest_base(
            files.root, "" if start == "." else start, split, paths
        )
        if base:
            notes.append(f"Paths of the {split} list start from {base}/.")
        for line in mine:
            file = file_of(files, line.path, line.place, base, line.split)
            # The test lists of UCF101 have no label: the folder is the class.
            label = line.label or PurePosixPath(_plain(line.path)).parent.name
            name = names.name(label, line.place) if line.label else label
            collected.add(line.place, FoundVideo(file, name, split=split))
    return collected.listing([*notes, *names.notes()])


def _is_plain(name: str) -> bool:
    return bool(_PLAIN.fullmatch(name.lower()))


def is_named_so(path: PurePath) -> bool:
    """Returns whether a file is named as a list: a text, after one split."""
    document = Document(Path(), path.name)
    return document.suffix in _SUFFIXES and bool(document.split_in_name)


def _one_each(lists: Sequence[_List]) -> Lists:
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
    return Lists(tuple(chosen), tuple(notes))


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


def _first_lines(document: Document) -> list[str]:
    """Returns the first two lines that are neither empty nor comments."""
    lines = (line.strip() for line in document.head.splitlines())
    said = (line for line in lines if line and not line.startswith("#"))
    return list(itertools.islice(said, 2))


def _lists_videos(document: Document) -> bool:
    """Returns whether a file with a split in its name is a list."""
    first = "".join(_first_lines(document)[:1])
    return bool(_match(first) or _header(document))


def _header(document: Document) -> list[str]:
    """Returns the columns that the first line of a list names, if it does."""
    first = "".join(_first_lines(document)[:1])
    if _match(first):
        return []
    names = list(header_of(first))
    return names if _is_header(names) else []


def _is_table(document: Document) -> bool:
    """Returns whether lines below a header are not a path and a label."""
    names, lines = _header(document), _first_lines(document)
    if not names or names[0] not in ROLES["file"]:
        return bool(names)
    found = _LINE.fullmatch(lines[1]) if len(lines) > 1 else None
    return bool({*names} & {*ROLES["class"]}) and not (found and found["label"])


def _is_header(names: Sequence[str]) -> bool:
    return bool({*names} & {*ROLES["file"]})


def _lines(of: _List) -> Iterator[_Line]:
    """Yields the lines of a list that are neither empty nor comments."""
    is_first = True
    for number, raw in enumerate(of.document.text.content.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        place = f"'{of.path}', line {number}"
        found = _line(line, place, of.split)
        if found:
            yield found
        elif not is_first or not _is_header(_words(line)):
            named = ", or names of columns: file, class" if is_first else ""
            raise DataError(
                f"{place}: expected the path of a video and a label, as in "
                f"walk/one.mp4 2{named}. Received: {line[:80]!r}."
            )
        is_first = False


def _words(line: str) -> list[str]:
    return [x.strip("\"'") for x in re.split(r"[\s,;]+", line.lower())]


def _line(line: str, place: str, split: str) -> _Line | None:
    """Returns a line of a path and a label; None if it is none."""
    found = _match(line)
    if "\0" in line or not found:
        return None
    if found.re is _LINE:
        label = (found["label"] or "").strip("\"' ")
        if _NUMBERS.fullmatch(label):
            raise DataError(_two_numbers(place, line))
        return _Line(place, found["path"].strip(), label, split)
    if not found["label"].isdecimal():
        raise DataError(_two_numbers(place, line))
    return _Line(place, found["path"], found["label"], split)


def _match(line: str) -> re.Match[str] | None:
    """Returns a line's path and label, as one of the two patterns finds it."""
    if len(line) > _LONGEST:
        return None
    return _LINE.fullmatch(line) or _FRAMES_LINE.fullmatch(line)


def _two_numbers(place: str, line: str) -> str:
    return (
        f"{place}: two numbers after a video are a number of frames and a "
        "label, or several labels. A line is the path of a video and one "
        "label, as in walk/one.mp4 2; for a folder of images its path, their "
        f"number and one label. Received: {line[:80]!r}."
    )


def _plain(path: str) -> str:
    return path.replace("\\", "/")


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
