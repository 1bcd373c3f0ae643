"""The files below a folder: videos, folders of images, and lists of them."""

import functools
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from har_keras.errors import DataError
from har_keras.files import refuse_unreadable
from har_keras.manifest.entries import spellings
from har_keras.manifest.texts import shown
from har_keras.progress import plural
from har_keras.video.extensions import EXTENSIONS
from har_keras.video.images import IMAGE_EXTENSIONS

# Folders of operating systems, storage servers and programs, in lower case;
# also what begins with a dot. A bin holds deleted videos, and a server's folder
# holds small copies.
_SYSTEM_FOLDERS = frozenset(
    {
        "__macosx", "$recycle.bin", "recycler", "recycled", "#recycle",
        "@recycle", "@recently-snapshot", "@eadir", "@tmp", "@__thumb",
        "#snapshot", "lost+found", "found.000", "lost.dir", "thumbnails",
        "system volume information", "network trash folder",
        "temporary items", "trash", "__pycache__", "node_modules",
    }
)  # fmt: skip
TABLE_SUFFIXES = frozenset({".parquet", ".xlsx", ".xls", ".ods", ".numbers"})
"""Suffixes of tables that are no text and are not read."""

_LIST_SUFFIXES = frozenset(
    {
        ".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".eaf",
        *TABLE_SUFFIXES,
    }
)  # fmt: skip
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz")


def suffix_of(name: str) -> str:
    """Returns the ending of a path or an address, in lower case.

    Example:

    >>> suffix_of("https://host/a.MP4?token=1.5")
    '.mp4'
    """
    parts = _parts(name)
    return PurePosixPath(parts[-1]).suffix.lower() if parts else ""


def is_system_folder(name: str) -> bool:
    """Returns whether a folder is one that no person put videos into.

    Example:

    >>> is_system_folder("$RECYCLE.BIN"), is_system_folder("walk")
    (True, False)
    """
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


@dataclass
class _Content:
    """What a walk through a folder found."""

    videos: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    archives: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    systems: Counter[str] = field(default_factory=Counter)


class VideoFiles:
    """The files below a folder, found in one walk when first asked for.

    Hidden files and folders of the operating system are left out.

    Args:
        root: Path. The folder, resolved.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @functools.cached_property
    def _content(self) -> _Content:
        found = _Content()
        for folder, names, members in os.walk(
            self.root, onerror=refuse_unreadable
        ):
            here = Path(folder).relative_to(self.root)
            for name in [x for x in names if is_system_folder(x)]:
                number = _number_of_videos(Path(folder, name))
                found.systems[(here / name).as_posix()] += number
            # In place, as `os.walk` requires, to skip them.
            names[:] = sorted(x for x in names if not is_system_folder(x))
            found.links += [
                (here / name).as_posix()
                for name in names
                if os.path.islink(os.path.join(folder, name))
            ]
            for name in members:
                _sort_in(found, here, name)
        return found

    @functools.cached_property
    def videos(self) -> tuple[str, ...]:
        """The video files, relative to the root, sorted."""
        return tuple(sorted(self._content.videos))

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """Files that may be lists of videos: tables, texts, JSON and XML."""
        return tuple(sorted(self._content.texts))

    @functools.cached_property
    def image_folders(self) -> tuple[str, ...]:
        """The folders that hold images, sorted; "." is the root."""
        return tuple(sorted(self._content.images))

    @functools.cached_property
    def archives(self) -> tuple[str, ...]:
        """The archives, which are not opened, sorted."""
        return tuple(sorted(self._content.archives))

    @property
    def links(self) -> list[str]:
        """A note on each folder that is a link."""
        return [
            f"The folder '{link}' is a link and is not followed. Put the "
            "folder itself there, or list its videos in a manifest.csv beside "
            "them."
            for link in self._content.links
        ]

    def notes(self) -> list[str]:
        """Returns notes on links and files that are left out."""
        notes = self.links
        notes += [
            f"{plural(number, 'video')} in '{name}', a folder of the system, "
            f"{'is' if number == 1 else 'are'} left out."
            for name, number in self._content.systems.items()
            if number
        ]
        others = self._content.others
        if others:
            kinds = ", ".join(
                f"{n} {kind}" for kind, n in others.most_common(5)
            )
            notes.append(
                f"{others.total()} files are left out, for their names are not "
                f"those of videos: {kinds}."
            )
        return notes

    def named(self, name: str, place: str, folders: Sequence[str] = ()) -> str:
        """Returns the video that a path of another machine names, or "".

        It is the one whose path ends alike. Without a suffix, a video of that
        name with any suffix is meant.

        Args:
            name: str. A path, an address or a name.
            place: str. Where it stands, for the message.
            folders: Sequence of str. Names of folders that decide between
                several.

        Raises:
            DataError: If several videos are meant.
        """
        parts = _parts(name)
        if not parts:
            return ""
        found = self._of_name(parts[-1])
        found = _ends_like(found, parts)
        if len(found) > 1 and folders:
            wanted = {_key(folder) for folder in folders}
            chosen = [
                f
                for f in found
                if wanted & {_key(x) for x in PurePosixPath(f).parts[:-1]}
            ]
            found = chosen or found
        if len(found) > 1:
            raise DataError(
                f"{place}: '{shown(name)}' may be '{found[0]}' or "
                f"'{found[1]}'. Give one of them another name, or leave one of "
                "them out."
            )
        return found[0] if found else ""

    def _of_name(self, name: str) -> list[str]:
        """Returns the videos of a name, else the folders of images."""
        keys = {_key(x) for x in spellings(name)}
        for table in (self._by_name, self._by_stem, self._by_folder):
            found = sorted({f for key in keys for f in table.get(key, ())})
            exact = [x for x in found if PurePosixPath(x).name.startswith(name)]
            if found:
                return exact or found
        return []

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for file in self.videos:
            found[_key(PurePosixPath(file).name)].append(file)
        return found

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for file in self.videos:
            found[_key(PurePosixPath(file).stem)].append(file)
        return found

    @functools.cached_property
    def _by_folder(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for folder in self.image_folders:
            found[_key(PurePosixPath(folder).name)].append(folder)
        return found


def _sort_in(found: _Content, here: Path, name: str) -> None:
    """Adds a file to those of its kind."""
    # Hidden files, such as "._one.mp4", hold metadata of other programs.
    if name.startswith("."):
        return
    suffix = Path(name).suffix.lower()
    if suffix in EXTENSIONS:
        found.videos.append((here / name).as_posix())
        return
    if suffix in IMAGE_EXTENSIONS:
        found.images[here.as_posix()] += 1
    elif suffix in _LIST_SUFFIXES:
        found.texts.append((here / name).as_posix())
    elif suffix in _ARCHIVES:
        found.archives.append((here / name).as_posix())
    found.others[suffix or "no ending"] += 1


def _number_of_videos(folder: Path) -> int:
    """Returns how many videos lie below a folder that is left out."""
    if folder.name.startswith("."):
        return 0
    return sum(
        Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
        for _, _, members in os.walk(folder)
        for name in members
    )


def _key(name: str) -> str:
    """Returns a name for comparison: one form of letters, one case."""
    return unicodedata.normalize("NFC", name).casefold()


def _parts(name: str) -> list[str]:
    """Returns the parts of a path or an address, as people write them.

    Example:

    >>> _parts("/data/local-files/?d=videos%5Ca.mp4")
    ['data', 'local-files', 'videos', 'a.mp4']
    """
    if "?d=" in name:
        name = unquote(name.replace("?d=", "/"))
    elif "://" in name:
        name = unquote(name.partition("?")[0])
    parts = name.replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def _ends_like(files: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Returns the files that share the longest end with a path."""

    def shared(file: str) -> int:
        number = 1  # the name itself is the same
        mine = PurePosixPath(file).parts
        for own, other in zip(mine[-2::-1], parts[-2::-1], strict=False):
            if _key(own) != _key(other):
                break
            number += 1
        return number

    longest = max(map(shared, files), default=0)
    return [file for file in files if shared(file) == longest]
