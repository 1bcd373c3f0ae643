"""Tells classes and splits from the folders that videos lie in.

A split's name is never a class: where a folder may be either, the layout is
refused with a sentence on how to say which.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing, FoundVideo, refusal
from har_keras.manifest.split_names import require_one_each, split_of, splits_of
from har_keras.manifest.video_files import (
    VideoFiles,
    is_system_folder,
    suffix_of,
)
from har_keras.progress import plural
from har_keras.video.extensions import EXTENSIONS

# Folders that hold a data set, and are no classes of it.
_WRAPPERS = re.compile(
    r"(?:all|my|raw|full)?[-_ ]?(?:videos?|clips?|data|datasets?|media|movies"
    r"|files|raw|mp4s?|avis?|frames|images)|(?:ucf|hmdb|kinetics)[-_ ]?\d+.*",
    re.IGNORECASE,
)
_DESCRIPTIONS = re.compile(
    r"annotations?|labels?|meta(?:data)?|docs?|documentation|readme.*"
    r"|licen[cs]es?|scripts?|.*testlists?",
    re.IGNORECASE,
)


class NoClassFolders(DataError):
    """The videos lie in no folders of classes."""


@dataclass(frozen=True)
class _Place:
    """A video or a folder of images, and the folders that it lies in."""

    file: str
    folders: tuple[str, ...]


def videos_in_folders(
    files: VideoFiles, known: Collection[str] = ()
) -> FolderListing:
    """Lists videos sorted as `<class>/<video>`, with or without splits.

    Splits are folders above the classes or in each class.

    Args:
        files: VideoFiles. The files of the folder.
        known: Collection of str. Names of a model's classes, if there is one.

    Returns:
        A `FolderListing`.

    Raises:
        DataError: If a folder may be a split or a class.
    """
    places, notes = _without_descriptions(_places(files))
    if known and _is_one_class(files.root, places, known):
        videos = [_found(files.root, x, files.root.name) for x in places]
        return FolderListing(tuple(videos), tuple(notes))
    inner, wrapper = _unwrapped(files.root, places, known)
    if wrapper:
        notes.append(f"The classes are the folders in '{wrapper}'.")
    videos, depth = _by_layout(files.root, inner)
    loose = [x.file for x in inner if len(x.folders) < depth]
    if loose and videos:
        notes.append(
            f"{plural(len(loose), 'video')} outside of class folders left out, "
            f"such as '{loose[0]}'."
        )
    if loose and not videos:
        raise NoClassFolders(_no_folders(files.root, loose))
    notes += _empty_folders(files.root, wrapper, videos, depth)
    return FolderListing(tuple(videos), tuple(notes))


def _places(files: VideoFiles) -> list[_Place]:
    """Returns all videos; where there is none, all folders of images."""
    return [
        _Place(file, PurePosixPath(file).parts[:-1])
        for file in files.videos or files.image_folders
        if file != "."
    ]


def _without_descriptions(
    places: Sequence[_Place],
) -> tuple[list[_Place], list[str]]:
    """Leaves out what lies beside the classes and describes them."""
    kept: list[_Place] = []
    left: list[_Place] = []
    for place in places:
        is_left = place.folders and _DESCRIPTIONS.fullmatch(place.folders[0])
        (left if is_left else kept).append(place)
    names = sorted({place.folders[0] for place in left})
    if not kept:
        return list(places), []
    return kept, [
        f"The videos in '{name}' are left out: by its name it describes the "
        "videos, and is no class."
        for name in names
    ]


def _unwrapped(
    root: Path, places: Sequence[_Place], known: Collection[str]
) -> tuple[list[_Place], str]:
    """Goes down to the classes or splits: a zip in a zip has them deeper."""
    inner, wrapper = list(places), ""
    while True:
        tops = {place.folders[:1] for place in inner}
        below = {place.folders[1] for place in inner if len(place.folders) > 1}
        if len(tops) != 1 or () in tops or not below:
            return inner, wrapper
        ((only,),) = tops
        is_meant = split_of(only) or _composed(only) in known
        if is_meant or not _wraps(root, only, below, known):
            return inner, wrapper
        inner = [_Place(x.file, x.folders[1:]) for x in inner]
        wrapper = f"{wrapper}/{only}".lstrip("/")


def _wraps(
    root: Path, name: str, below: Collection[str], known: Collection[str]
) -> bool:
    """Returns whether a folder holds the data set and is no class."""
    return bool(
        _WRAPPERS.fullmatch(name)
        or _plain(name) == _plain(root.name)
        or all(map(split_of, below))
        or {*map(_composed, below)} & {*known}
    )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return re.sub(r"\W|_", "", name.casefold())


def _is_one_class(
    root: Path, places: Sequence[_Place], known: Collection[str]
) -> bool:
    """Returns whether the folder is that of one class of a model."""
    folders = {_composed(x) for place in places for x in place.folders[:2]}
    return _composed(root.name) in known and not folders & {*known}


def _by_layout(
    root: Path, places: Sequence[_Place]
) -> tuple[list[FoundVideo], int]:
    """Returns the videos, and how many folders a video lies in at least."""
    tops = sorted({place.folders[0] for place in places if place.folders})
    splits = splits_of(tops)
    if not any(splits.values()):
        return _by_class(root, places)
    _require_split_folders(root, places, splits)
    deep = [place for place in places if len(place.folders) > 1]
    level = 2 if _is_wrapped(deep) else 1
    videos = [
        _found(root, place, place.folders[level], splits[place.folders[0]])
        for place in deep
        if len(place.folders) > level
    ]
    return videos, level + 1


def _is_wrapped(places: Sequence[_Place]) -> bool:
    """Returns whether each split has one folder around those of classes."""
    names = {place.folders[1] for place in places}
    return all(map(_WRAPPERS.fullmatch, names)) and all(
        len(place.folders) > 2 for place in places
    )


def _by_class(
    root: Path, places: Sequence[_Place]
) -> tuple[list[FoundVideo], int]:
    """Reads `<class>/<video>`, or `<class>/<split>/<video>`."""
    sorted_in = [place for place in places if place.folders]
    below = {place.folders[1] for place in sorted_in if len(place.folders) > 1}
    splits = splits_of(below)
    if not any(splits.values()):
        return [_found(root, x, x.folders[0]) for x in sorted_in], 1
    for place in sorted_in:
        if not splits.get("".join(place.folders[1:2])):
            named = sorted(x for x in splits if splits[x])
            raise DataError(
                f"'{named[0]}' in a class folder is the name of a split, but "
                f"'{place.file}' is in none. Put all videos of the classes "
                "into folders of splits, or none."
            )
    require_one_each(splits)
    return [
        _found(root, x, x.folders[0], splits[x.folders[1]]) for x in sorted_in
    ], 2


def _require_split_folders(
    root: Path, places: Sequence[_Place], splits: dict[str, str]
) -> None:
    """Raises if folders with names of splits don't hold class folders."""
    named = [name for name, split in splits.items() if split]
    others = [name for name, split in splits.items() if not split]
    flat = [
        name
        for name in named
        if not any(x.folders[:1] == (name,) and x.folders[1:] for x in places)
    ]
    if flat and not any(
        suffix_of(place.file) in EXTENSIONS for place in places
    ):
        raise NoClassFolders(_images_only(root, places[0].file))
    if flat:
        raise NoClassFolders(_flat_splits(root, flat, others))
    if others:
        raise DataError(
            f"Beside the folders of splits in '{root}' ({_quoted(named)}) "
            f"there are videos in {_quoted(others)}, in no split. Move them "
            "into a split, or out of the folder."
        )
    require_one_each(splits)


def _flat_splits(root: Path, flat: Sequence[str], others: Sequence[str]) -> str:
    is_one = len(flat) == 1
    beside = f", beside {_quoted(others)}" if others else ""
    return (
        f"The videos in '{root}' lie straight in {_quoted(flat)}{beside}: "
        f"{'the name of a split' if is_one else 'names of splits'}, not of "
        f"{'a class' if is_one else 'classes'}. Sort them as "
        f"{flat[0]}/<class>/<video>; or, if '{flat[0]}' is a class, list them "
        "in a manifest.csv with the columns file and class."
    )


def _quoted(names: Iterable[str]) -> str:
    """Joins names for a sentence.

    Example:

    >>> _quoted(["a", "b", "c"])
    "'a', 'b' and 'c'"
    """
    quoted = [f"'{name}'" for name in names]
    if len(quoted) > 6:
        quoted = [*quoted[:5], f"{len(quoted) - 5} others"]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]][not quoted[1:] :])


def _no_folders(root: Path, loose: Sequence[str]) -> str:
    if (root / loose[0]).is_dir():
        return _images_only(root, loose[0])
    return (
        f"There is no video in a class folder of '{root}': its "
        f"{plural(len(loose), 'video')}, such as '{loose[0]}', lie in no "
        "folder of a class. Sort them as <class>/<video>, or list them in a "
        "manifest.csv with the columns file and class."
    )


def _images_only(root: Path, folder: str) -> str:
    return (
        f"There is no video in '{root}', but images. A folder of images is one "
        "video: sort them as <class>/<video>/<image>. Images straight in "
        f"'{folder}' are those of one video, which lies in no class."
    )


def _found(
    root: Path, place: _Place, class_name: str, split: str = ""
) -> FoundVideo:
    return FoundVideo(
        place.file, class_name, split, reason=refusal(root, place.file)
    )


def _empty_folders(
    root: Path, wrapper: str, videos: Sequence[FoundVideo], depth: int
) -> list[str]:
    """Returns a note on class folders without a video, if there are any."""
    filled = {parent for x in videos for parent in (root / x.file).parents}
    empty = [
        path.relative_to(root).as_posix()
        for path in sorted((root / wrapper).glob("/".join("*" * depth)))
        if path.is_dir() and path not in filled
        if not any(map(_is_no_class, path.relative_to(root).parts))
    ]
    if not empty or not videos:
        return []
    return [f"No video in {_quoted(empty)}; a class has at least one."]


def _is_no_class(name: str) -> bool:
    return is_system_folder(name) or bool(_DESCRIPTIONS.fullmatch(name))


def inner_folders(videos: Sequence[FoundVideo]) -> tuple[str, list[str]]:
    """Returns the folder of a single class, and the folders in it.

    Args:
        videos: Sequence of FoundVideo. All of one class.

    Returns:
        The path of the class folder, and the names of the folders in it; ""
        and an empty list where the videos lie in no folder of that name.
    """
    name = videos[0].class_name
    paths = [PurePosixPath(video.file).parts[:-1] for video in videos]
    if not all(name in parts for parts in paths):
        return "", []
    level = paths[0].index(name)
    folder = "/".join(paths[0][: level + 1])
    return folder, sorted({p[level + 1] for p in paths if len(p) > level + 1})
