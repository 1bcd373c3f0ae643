"""Videos found in a folder or in a list file, before they are hashed."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from har_keras.errors import UsageError
from har_keras.manifest.texts import windows_bytes
from har_keras.video.images import images_in

MISSING = "the file is missing"
"""Why a listed video can't be used that is not there."""


@dataclass(frozen=True)
class FoundVideo:
    """A video file as found in a folder or a list.

    Fields are `""` where nothing is known. `reason` says why a file can't be
    used; `others` are the further columns of a `manifest.csv`. `start` and
    `end`, in seconds, are those of a labelled part; both None is the whole
    video. Where the user chose the group, as in a column of a table, it stays
    as it is; what annotations imply, such as the video that a clip was cut
    from, may be joined with others.
    """

    file: str
    class_name: str
    split: str = ""
    group: str = ""
    reason: str = ""
    others: tuple[tuple[str, str], ...] = ()
    start: float | None = None
    end: float | None = None
    is_group_chosen: bool = False


@dataclass(frozen=True)
class FolderListing:
    """The videos of a folder, and notes about its other content.

    Args:
        videos: tuple of FoundVideo. The videos.
        notes: tuple of str. Sentences on what else there is.
        is_list: bool. Whether a list or annotations name them, rather than the
            folders they are in. Defaults to `False`.
    """

    videos: tuple[FoundVideo, ...]
    notes: tuple[str, ...]
    is_list: bool = False


def inside(root: Path, file: str) -> str | None:
    """Returns a file's path relative to the root, or None if it is outside.

    Args:
        root: Path. A folder, resolved.
        file: str. A path as the user wrote it, relative to the root or
            absolute.

    Returns:
        The path relative to the root, with `/`, or None.

    Example:

    >>> inside(Path("/data"), "walk/../gym/1.mp4")
    'gym/1.mp4'
    >>> inside(Path("/data"), "../other/1.mp4") is None
    True
    """
    # As text: lists of 100,000 files make a `Path` of each take a minute.
    path = os.path.normpath(os.path.join(root, file))
    folder = os.path.join(root, "")
    if not os.path.normcase(path).startswith(os.path.normcase(folder)):
        return None
    return path[len(folder) :].replace(os.sep, "/")


def spellings(path: str) -> Iterator[str]:
    r"""Yields the ways in which a disk may spell a path that was written.

    Windows writes `\` for `/`; a Mac decomposes letters with marks; an old
    zip file leaves names in the bytes of Windows' encoding.

    Args:
        path: str. A path from a list.

    Yields:
        The path itself first.

    Example:

    >>> list(spellings(r"gym\1.mp4"))
    ['gym\\1.mp4', 'gym/1.mp4']
    """
    seen = set()
    for text in (path, path.replace("\\", "/")):
        for spelled in (
            text,
            unicodedata.normalize("NFC", text),
            unicodedata.normalize("NFD", text),
            windows_bytes(text),
        ):
            if spelled not in seen and "\0" not in spelled:
                seen.add(spelled)
                yield spelled


def listed_file(root: Path, path: str, base: str = "") -> str | None:
    """Returns the file that a list names, relative to the root.

    Args:
        root: Path. The folder, resolved.
        path: str. As the list has it, with `/` or with Windows' backslashes.
        base: str. The folder that it is relative to. Defaults to the root.

    Returns:
        The path of a file that may be missing, or None if it is outside.
    """
    for spelled in spellings(path):
        file = inside(root, os.path.join(base, spelled))
        if file is not None and os.path.exists(os.path.join(root, file)):
            return file
    # With `/`: what is missing is named as this system would.
    plain = path.replace("\\", "/")
    return inside(root, os.path.join(base, plain)) if path else None


def refusal(root: Path, file: str) -> str:
    """Returns why a file must not be opened, or ""."""
    path = Path(root, file)
    if not os.path.lexists(path):
        return ""
    paths = [path, *(images_in(path) if os.path.isdir(path) else ())]
    try:
        if all(x.resolve().is_relative_to(root) for x in paths):
            return ""
    except (OSError, RuntimeError):  # the latter before Python 3.13
        return "refused: it is a link that leads to itself"
    return (
        "refused: it is a link that leads out of the folder; put the file "
        "itself there"
    )


def missing(root: Path, file: str) -> str:
    """Returns why a listed file can't be used (link, missing), or ""."""
    refused, path = refusal(root, file), os.path.join(root, file)
    # Unlike those of `Path`, these allow names that no disk can have.
    if refused or os.path.isfile(path):
        return refused
    if not os.path.isdir(path):
        return MISSING
    return "" if images_in(Path(root, file)) else "there is no image in it"


def require_folder(root: Path) -> Path:
    """Returns the resolved path of a folder that must exist.

    Raises:
        UsageError: If there is none of that name.
    """
    if not Path(root).exists():
        raise UsageError(
            f"There is no folder '{root}'. Give a folder of videos, sorted "
            "as <class>/<video>."
        )
    if not Path(root).is_dir():
        raise UsageError(
            f"'{root}' is a file. Give the folder that the videos are in, "
            "sorted as <class>/<video> or with a list of them beside."
        )
    return Path(root).resolve()
