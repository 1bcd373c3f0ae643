"""Videos found in a folder or in a list file, before they are hashed."""

import os
from dataclasses import dataclass
from pathlib import Path

from har_keras.errors import UsageError

EXTENSIONS = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv "
    ".ts .vob .webm .wmv".split()
)
"""Suffixes of video files."""


@dataclass(frozen=True)
class FoundVideo:
    """A video file as found in a folder or a list.

    Fields are `""` where nothing is known. `reason` says why a file can't be
    used; `others` are the further columns of a `manifest.csv`. `start` and
    `end`, in seconds, are those of a labelled part; both None is the whole
    video.
    """

    file: str
    class_name: str
    split: str = ""
    group: str = ""
    reason: str = ""
    others: tuple[tuple[str, str], ...] = ()
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class FolderListing:
    """The videos of a folder, and notes about its other content."""

    videos: tuple[FoundVideo, ...]
    notes: tuple[str, ...]


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
    path = os.path.normpath(os.path.join(root, file))
    if not Path(path).is_relative_to(root) or path == str(root):
        return None
    return Path(path).relative_to(root).as_posix()


def refusal(root: Path, file: str) -> str:
    """Returns why a file must not be opened, or ""."""
    if not Path(root, file).resolve().is_relative_to(root):
        return "refused: it is a link that leads out of the folder"
    return ""


def missing(root: Path, file: str) -> str:
    """Returns why a listed file can't be used (link, missing), or ""."""
    refused = refusal(root, file)
    if refused or Path(root, file).is_file():
        return refused
    return "the file is missing"


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
            "sorted as <class>/<video>."
        )
    return Path(root).resolve()
