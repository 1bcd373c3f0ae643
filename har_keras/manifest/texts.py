"""Reads the text files that people keep beside videos, in any encoding."""

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from har_keras.errors import DataError

MAX_BYTES = 2**28
"""Largest text file that is read."""

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Text:
    """The content of a text file; `note` says how it was read, if not UTF-8."""

    content: str
    note: str = ""


def read_text(path: Path) -> Text:
    """Reads a text file in UTF-8, UTF-16, UTF-32 or Windows-1252.

    Spreadsheets save UTF-16 as "Unicode text" and Windows-1252 as "CSV".

    Args:
        path: Path. The file.

    Returns:
        A `Text`, without a byte order mark.

    Raises:
        DataError: If the file is too large, or can't be read or decoded.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait forever
            raise DataError(f"'{path}' is no file that can be read.")
        if status.st_size > MAX_BYTES:
            raise DataError(
                f"'{path}' is larger than {MAX_BYTES >> 20} MiB, so it is not "
                "read as a list of videos. Split it, or move it away."
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error}.") from error
    return decoded(data, path)


def decoded(data: bytes, path: Path) -> Text:
    r"""Decodes the content of a text file; `path` is for messages.

    Example:

    >>> decoded("Übung".encode("utf-16"), Path("list.txt")).content
    'Übung'
    >>> decoded(b"\xdcbung", Path("list.txt")).content
    'Übung'
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], encoding, path)
    if encoding := _without_mark(data):
        return _strict(data, encoding, path)
    try:
        return Text(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _by_line(data, path)


def _strict(data: bytes, encoding: str, path: Path) -> Text:
    try:
        content = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' begins as {encoding.upper()} but is damaged: {error}. "
            "Save it as UTF-8."
        ) from error
    note = "" if encoding == "utf-8" else f"{path.name} is in {encoding[:6]}."
    return Text(content, note.replace("utf", "UTF"))


def _without_mark(data: bytes) -> str:
    """Returns UTF-16 where every second byte is zero, as in Latin script."""
    head = data[:200]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        half, other = head[first::2], head[1 - first :: 2]
        if len(half) > 1 and half.count(0) > 0.8 * len(half) and any(other):
            return encoding if 0 not in other else ""
    return ""


def _by_line(data: bytes, path: Path) -> Text:
    """Decodes line by line: names of several disks may stand in one list."""
    lines, first = [], 0
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            first = first or number
            lines.append(_windows(line))
    shown = lines[first - 1].strip()[:60]
    note = (
        f"{path.name} is not UTF-8 from line {first} on, and read as "
        f"Windows-1252: '{shown}'."
    )
    return Text("\n".join(lines), note)


def _windows(line: bytes) -> str:
    """Decodes Windows-1252, which leaves five bytes undefined."""
    try:
        return line.decode("cp1252")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def shown(text: str, most: int = 80) -> str:
    r"""Returns a text as one line that is not too long, for a message.

    Example:

    >>> shown("a\nb"), shown("x" * 99, 9)
    ('a b', 'xxxxxx...')
    """
    line = " ".join(text[: most + 1].split())
    return line if len(text) <= most else f"{line[: most - 3]}..."


def windows_bytes(text: str) -> str:
    r"""Returns a file name as it is on disk if its bytes are Windows-1252.

    Example:

    >>> windows_bytes("é.mp4")
    '\udce9.mp4'
    """
    for encoding in ("cp1252", "latin-1"):
        try:
            return os.fsdecode(text.encode(encoding))
        except UnicodeEncodeError:
            continue
    return text
