"""Resolves command-line inputs: files, folders, globs and live sources."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from har_keras.errors import UsageError
from har_keras.files import refuse_unreadable
from har_keras.video.extensions import EXTENSIONS
from har_keras.video.images import IMAGE_EXTENSIONS, images_in

Kind = Literal["file", "images", "live"]
# Of a path on any system, and of an address that is still one.
_LONGEST = 2**15


@dataclass(frozen=True)
class Source:
    """One input of inference: a file, a folder of images, or a live source.

    Args:
        name: str. For display: the path, or the address without credentials.
        kind: str. "file", "images" (a folder of images) or "live".
        address: str. The path, `camera:0`, or the whole address.
    """

    name: str
    kind: Kind
    address: str

    @property
    def path(self) -> Path:
        """The path of a file or folder."""
        return Path(self.address)

    @property
    def stem(self) -> str:
        """A safe name for output files: no folder, no leading dot.

        Example:

        >>> Source("rtsp://door/a", "live", "rtsp://door/a").stem
        'rtsp-door-a'
        """
        name = self.name if self.kind == "live" else self.path.stem
        kept = [x if x.isalnum() or x in "-_." else " " for x in name]
        return "-".join("".join(kept).split()).lstrip(".-")[:100] or "video"


def own_names(sources: Iterable[Source]) -> list[str]:
    """Returns a unique name for the output files of each source.

    Example:

    >>> own_names([Source(x, "file", x) for x in ("a/1.mp4", "b/1.mp4")])
    ['1', '1-2']
    """
    names: list[str] = []
    for source in sources:
        name, number = source.stem, 1
        while name in names:
            number += 1
            name = f"{source.stem}-{number}"
        names.append(name)
    return names


def find_sources(
    arguments: Iterable[str],
    *,
    lines: Iterable[str] = (),
    allow_network: bool = False,
) -> list[Source]:
    """Returns the sources that command-line arguments name, each once.

    A folder of images without a video is one source; any other folder gives
    all videos below it.

    Args:
        arguments: Iterable of str. Paths, globs, `camera:0`, addresses, or
            `-` for the lines of a list.
        lines: Iterable of str. The list, read for `-`.
        allow_network: bool. Whether addresses may be opened.

    Returns:
        List of `Source`, in the order of the arguments.

    Raises:
        UsageError: If nothing is found for an argument, or an address is
            given and the network is not allowed.
    """
    found: dict[str, Source] = {}
    for argument in arguments:
        given = _listed(lines) if argument == "-" else [argument]
        for text in given:
            for source in _sources(text, allow_network):
                found.setdefault(source.address, source)
    return list(found.values())


def _listed(lines: Iterable[str]) -> list[str]:
    """Returns the lines of a list, without empty ones."""
    listed = [line.rstrip("\r\n") for line in lines]
    return [line for line in listed if line.strip()]


def _sources(text: str, allow_network: bool) -> Iterator[Source]:
    if "\0" in text or len(text) > _LONGEST:
        raise UsageError(
            f"No file can have this name: {text[:80]!r}. Give a path, one per "
            "line in a list."
        )
    path = Path(text)
    if text.startswith("camera:"):
        yield _camera(text)
    elif "://" in text and not path.exists():
        yield _address(text, allow_network)
    elif path.is_dir():
        yield from _folder(path)
    elif path.exists() or not glob.has_magic(text):
        # A missing file is reported with others that can't be decoded.
        yield Source(text, "file", text)
    else:
        yield from _matches(text)


def _camera(text: str) -> Source:
    if not text.removeprefix("camera:").isdecimal():
        raise UsageError(
            "A camera is given by its number, as in camera:0. Received: "
            f"{text}."
        )
    return Source(text, "live", text)


def _address(text: str, allow_network: bool) -> Source:
    scheme = text.partition("://")[0]
    if scheme not in ("http", "https", "rtsp", "rtsps"):
        raise UsageError(
            "An address must start with http, https, rtsp or rtsps. Received: "
            f"{without_password(text)}."
        )
    if not allow_network:
        raise UsageError(
            f"'{without_password(text)}' is on the network. Add "
            "--allow-network to read it."
        )
    return Source(without_password(text), "live", text)


def without_password(address: str) -> str:
    """Returns an address without credentials and query, for logs.

    Example:

    >>> without_password("rtsp://me:secret@10.0.0.2/door?token=1")
    'rtsp://10.0.0.2/door'
    """
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.split('?')[0]}"


def _folder(folder: Path) -> Iterator[Source]:
    files = [
        Path(where) / name
        for where, folders, names in os.walk(folder, onerror=refuse_unreadable)
        # In place, as `os.walk` requires, to skip hidden folders.
        for folders[:] in [sorted(x for x in folders if x[0] != ".")]
        for name in sorted(names)
        if Path(name).suffix.lower() in EXTENSIONS and name[0] != "."
    ]
    if files:
        yield from (Source(str(file), "file", str(file)) for file in files)
    elif images_in(folder):
        yield Source(str(folder), "images", str(folder))
    else:
        raise UsageError(
            f"There is no video and no image in '{folder}'. Videos end in "
            f"{', '.join(sorted(EXTENSIONS)[:4])} and others, images in "
            f"{', '.join(sorted(IMAGE_EXTENSIONS))}."
        )


def _matches(pattern: str) -> Iterator[Source]:
    names = sorted(glob.glob(pattern, recursive=True))
    if not names:
        raise UsageError(f"No file matches '{pattern}'.")
    for name in names:
        if Path(name).is_dir():
            yield from _folder(Path(name))
        else:
            yield Source(name, "file", name)
