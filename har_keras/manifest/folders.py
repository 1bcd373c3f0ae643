"""Finds the videos of a folder and their classes.

A folder is described by a `manifest.csv`, by annotations of another program or
data set, by lists, or by the folders that its videos are sorted into.
"""

import dataclasses
import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from har_keras.damaged import LONGEST_NAME
from har_keras.errors import DataError
from har_keras.manifest.collecting import (
    videos_from_table,
    with_splits_of_folders,
)
from har_keras.manifest.entries import (
    MISSING,
    FolderListing,
    FoundVideo,
    refusal,
)
from har_keras.manifest.formats.catalog import FORMATS, Format
from har_keras.manifest.formats.document import Document
from har_keras.manifest.formats.lists import (
    Lists,
    find_lists,
    is_named_so,
    videos_from_lists,
)
from har_keras.manifest.layouts import (
    NoClassFolders,
    inner_folders,
    videos_in_folders,
)
from har_keras.manifest.split_names import splits_of
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import (
    TABLE_SUFFIXES,
    VideoFiles,
    suffix_of,
)
from har_keras.progress import plural
from har_keras.video.extensions import EXTENSIONS

_FILE_NAME = "manifest.csv"
# Annotations lie in the folder, or in a folder of their own. A folder of more
# has a text beside each video.
_DEEPEST = 2
_MOST_TEXTS = 500
# Names of files that hold labels, whatever program wrote them.
_LABEL_FILES = frozenset(
    {"manifest", "metadata", "annotations", "annotation", "labels"}
)
_LABEL_SUFFIXES = TABLE_SUFFIXES | {".csv", ".tsv", ".json", ".jsonl", ".xml"}


def find_videos(root: Path, known: Collection[str] = ()) -> FolderListing:
    """Finds the videos of a folder by the first description that there is.

    Args:
        root: Path. The folder, resolved.
        known: Collection of str. Names of a model's classes, where videos for
            it are looked for: a folder of one of them is of that class.

    Returns:
        A `FolderListing`, sorted by name. A video that lies outside the
        folder, or is listed but missing, is included with a `reason`.

    Raises:
        DataError: If a list has a wrong line, which is named, or the folders
            may be read in two ways.
    """
    files = VideoFiles(root)
    listed, texts = _listed(files)
    if listed is None:
        found = _in_folders(files, known, texts.strange)
    else:
        found = with_splits_of_folders(listed)
        _require_files(root, found.videos)
        found = _with_note_on_others(files, found)
    notes = (*found.notes, *_note_on_images(root, found.videos))
    videos = _with_one_spelling(found.videos)
    return FolderListing(videos, notes, is_list=listed is not None)


def _with_note_on_others(
    files: VideoFiles, found: FolderListing
) -> FolderListing:
    """Adds a note on the videos of the folder that no list names."""
    others = sorted({*files.videos} - {video.file for video in found.videos})
    if not others:
        return found
    note = (
        f"{plural(len(others), 'video')} in the folder not listed and left "
        f"out, such as '{others[0]}'."
    )
    return FolderListing(found.videos, (*found.notes, note))


def _note_on_images(root: Path, videos: Sequence[FoundVideo]) -> list[str]:
    """Returns a note where videos are folders of images, without a rate."""
    # A suffix of a video is that of a file: most folders need no look.
    folders = [
        video.file
        for video in videos
        if suffix_of(video.file) not in EXTENSIONS
        and os.path.isdir(root / video.file)
    ]
    if not folders:
        return []
    return [
        f"{plural(len(folders), 'video')} of folders of images, such as "
        f"'{folders[0]}'. Their rate is that of --images-fps."
    ]


def find_every_video(root: Path, class_name: str) -> FolderListing:
    """Finds all videos below a folder, whatever its layout.

    Args:
        root: Path. The folder, resolved.
        class_name: str. The class given to all of them.

    Returns:
        A `FolderListing`. A video outside the folder is included with a
        `reason`. Folders of splits are splits, if all videos are in one and
        some are for training. Where there is no video, folders of images are.
    """
    files = VideoFiles(root)
    found = files.videos or [x for x in files.image_folders if x != "."]
    tops = [PurePosixPath(file).parts[0] for file in found]
    splits = splits_of(tops)
    if "train" not in splits.values() or not all(splits.values()):
        splits = {}
    videos = [
        FoundVideo(
            file, class_name, splits.get(top, ""), reason=refusal(root, file)
        )
        for file, top in zip(found, tops, strict=True)
    ]
    notes = (*files.notes(), *_note_on_images(root, videos))
    return FolderListing(tuple(videos), notes)


@dataclass(frozen=True)
class _Texts:
    """What the texts of a folder are.

    Args:
        claimed: dict from `Format` to its documents.
        named: dict. Documents of no format that are named as lists, by file.
        strange: list of str. Notes on files of labels that are not read.
    """

    claimed: dict[Format, list[Document]]
    named: dict[str, Document]
    strange: list[str]


def _listed(files: VideoFiles) -> tuple[FolderListing | None, _Texts]:
    """Returns the videos that some file describes, if any does; and texts."""
    if (files.root / _FILE_NAME).is_file():
        table = Document(files.root, _FILE_NAME).table
        found = videos_from_table(files, [(table, "")], strict=True)
        return found, _Texts({}, {}, [])
    texts = _texts(files)
    of_formats = {d.file for some in texts.claimed.values() for d in some}
    lists = find_lists(files, texts.named, of_formats)
    _require_one_kind(texts.claimed, lists)
    for kind, documents in texts.claimed.items():
        found = kind.read(documents, files)
        note = f"The annotations are of {kind.name}."
        return FolderListing(found.videos, (note, *found.notes)), texts
    return videos_from_lists(files, lists) if lists.chosen else None, texts


def _in_folders(
    files: VideoFiles, known: Collection[str], strange: Sequence[str]
) -> FolderListing:
    """Returns the videos as they are sorted into folders."""
    if not files.videos and not files.image_folders and files.archives:
        raise DataError(
            f"There is no video in '{files.root}', but an archive, "
            f"'{files.archives[0]}'. Unpack it first."
        )
    if not files.videos and not files.image_folders and files.links:
        raise DataError(
            f"There is no video in '{files.root}'. {files.links[0]}"
        )
    try:
        found = videos_in_folders(files, known)
    except NoClassFolders as error:
        raise type(error)(" ".join([*strange[:1], str(error)])) from error
    return FolderListing(found.videos, (*found.notes, *files.notes(), *strange))


def _texts(files: VideoFiles) -> _Texts:
    """Reads the texts that may hold annotations, each once.

    Kinetics comes as CSV and as JSON with the same content: one is enough.
    """
    claimed: dict[Format, list[Document]] = defaultdict(list)
    named: dict[str, Document] = {}
    strange = []
    for document in _documents(files):
        for kind in FORMATS:
            if kind.claims(document):
                claimed[kind].append(document)
                break
        else:
            if is_named_so(document.path):
                named[document.file] = document
            elif _is_label_file(document):
                strange.append(_not_understood(document))
    by_name = {kind.name: kind for kind in claimed}
    if {"Kinetics (CSV)", "Kinetics (JSON)"} <= {*by_name}:
        del claimed[by_name["Kinetics (JSON)"]]
    return _Texts(dict(claimed), named, strange)


def _documents(files: VideoFiles) -> Iterator[Document]:
    """Yields the files that may hold annotations."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for file in files.texts:
        by_folder[PurePosixPath(file).parent.as_posix()].append(file)
    for folder, members in by_folder.items():
        is_near = folder == "." or len(PurePosixPath(folder).parts) <= _DEEPEST
        few = len(members) <= _MOST_TEXTS
        for file in members:
            if file.lower().endswith(".eaf") or (is_near and few):
                yield Document(files.root, file)


def _is_label_file(document: Document) -> bool:
    is_named = document.path.stem.lower() in _LABEL_FILES
    return is_named and document.suffix in _LABEL_SUFFIXES


def _not_understood(document: Document) -> str:
    """Returns a sentence on a file that should hold labels."""
    if document.suffix in TABLE_SUFFIXES:
        return (
            f"'{document.file}' is not read: save it as CSV, with a column "
            "file and a column class."
        )
    names = ", ".join(sorted(document.columns - {""}))
    found = f"columns {names[:120]}" if names else "no format that is known"
    return (
        f"'{document.file}' is not read: it has {found}. A table of videos "
        "needs a column file and a column class."
    )


def _require_one_kind(
    claimed: dict[Format, list[Document]], lists: Lists
) -> None:
    """Raises if two files describe the videos in different formats."""
    found = [(d[0].file, kind.name) for kind, d in claimed.items()]
    found += [(name, "a list") for name in lists.names[:1]]
    if len(found) > 1:
        (first, kind), (second, other) = found[:2]
        raise DataError(
            f"Both '{first}' ({kind}) and '{second}' ({other}) describe the "
            "videos. Leave one of them in the folder."
        )


def _require_files(root: Path, videos: Sequence[FoundVideo]) -> None:
    """Raises if no listed file is there: the paths start from elsewhere."""
    if videos and all(video.reason == MISSING for video in videos):
        raise DataError(
            f"None of the listed videos ({len(videos)}) is in '{root}', such "
            f"as '{shown(videos[0].file)}'. Paths start from that "
            "folder: put the list beside the videos, or correct them."
        )


def _with_one_spelling(videos: Sequence[FoundVideo]) -> tuple[FoundVideo, ...]:
    """Composes letters in the names of classes, as a Mac decomposes them.

    Raises:
        DataError: If a name is not Unicode, or two differ by case alone.
    """
    for video in videos:
        _require_unicode(video)
    found = tuple(
        dataclasses.replace(
            video,
            class_name=unicodedata.normalize("NFC", video.class_name.strip()),
        )
        for video in videos
    )
    seen: dict[str, FoundVideo] = {}
    for video in found:
        other = seen.setdefault(video.class_name.casefold(), video)
        if other.class_name != video.class_name:
            raise DataError(
                f"The classes '{other.class_name}' ('{other.file}') and "
                f"'{video.class_name}' ('{video.file}') differ by upper and "
                "lower case alone. Give them one name, or two that differ."
            )
    return found


def _require_unicode(video: FoundVideo) -> None:
    """Raises if a name is a text, or has the bytes of an old encoding."""
    if len(video.class_name) > LONGEST_NAME:
        raise DataError(
            f"The class of '{video.file}' has a name of "
            f"{len(video.class_name)} characters; {LONGEST_NAME} are the "
            "most. Shorten it."
        )
    try:
        video.class_name.encode("utf-8")
    except UnicodeEncodeError as error:
        try:
            data = os.fsencode(video.class_name)
        except UnicodeEncodeError:  # half a character, from JSON
            data = video.class_name.encode("ascii", "replace")
        shown = data.decode("utf-8", "backslashreplace")
        meant = data.decode("cp1252", "replace")
        raise DataError(
            f"The class '{shown}' has a name that is not UTF-8, as zip files "
            f"from Windows leave them. Rename the folder, as '{meant}'."
        ) from error


def require_videos(root: Path, videos: Sequence[FoundVideo]) -> None:
    """Raises `DataError` if there is no video."""
    if not videos:
        raise DataError(
            f"There is no video in '{root}'. Put videos in a folder per class, "
            "as in data/walk/one.mp4 and data/gym/two.mp4."
        )


def require_classes(
    root: Path, videos: Sequence[FoundVideo], *, fewest: int = 2
) -> None:
    """Raises `DataError` if there are fewer classes than are needed.

    Args:
        root: Path. The folder.
        videos: Sequence of FoundVideo. All of it.
        fewest: int. 1 if a class of what has no label joins them. Defaults
            to 2.
    """
    require_videos(root, videos)
    names = sorted({video.class_name for video in videos})
    if len(names) < fewest:
        folder, inner = inner_folders(videos)
        advice = "Put the videos of each class in a folder of its own."
        if len(inner) > 1:
            listed = ", ".join(inner[:4]) + (", ..." if inner[4:] else "")
            advice = (
                f"If the folders in it ({listed}) are the classes, give "
                f"'{root / folder}' instead."
            )
        raise DataError(
            f"Every video in '{root}' ({len(videos)}) is of one class, "
            f"'{names[0]}'; a classifier needs at least two. {advice}"
        )


def require_training(root: Path, videos: Sequence[FoundVideo]) -> None:
    """Raises `DataError` if a class, or all, have none in the split train."""
    splits = sorted({video.split for video in videos if video.split})
    if splits and "train" not in splits:
        raise DataError(
            f"The videos in '{root}' are of the split {' and '.join(splits)}, "
            "and none is for training. Put those for training beside them, in "
            "a folder train or with train as their split."
        )
    trained = {video.class_name for video in videos if video.split == "train"}
    for name in sorted({video.class_name for video in videos} - trained):
        if splits:
            raise DataError(
                f"Class '{name}' has no training video: all of its videos are "
                "in other splits. Add some to train."
            )
