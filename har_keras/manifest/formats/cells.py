"""Cells of tables: labels, times, and what no spreadsheet may run."""

import json
import math
import os

from har_keras.errors import DataError


def is_path(text: str) -> bool:
    r"""Returns whether a text can be the path of a file.

    Example:

    >>> is_path("a.mp4"), is_path("\0")
    (True, False)
    """
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def one_label(text: str, place: str) -> str:
    """Returns the label in a cell; a list of one is that one.

    Args:
        text: str. The cell.
        place: str. File and line, for the message.

    Raises:
        DataError: If the list is of several.

    Example:

    >>> one_label("walk", "line 1"), one_label('["walk"]', "line 1")
    ('walk', 'walk')
    """
    if not text.startswith("["):
        return text
    try:
        labels = json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError):
        return text
    if not isinstance(labels, list) or len(labels) != 1:
        raise DataError(
            f"{place}: a video has one class. Received: {text[:80]}."
        )
    return str(labels[0])


def seconds_between(
    start: object, end: object, place: str
) -> tuple[float | None, float | None]:
    """Returns the times of a part in seconds; both None is a whole video.

    Args:
        start: str, number or None. Seconds, or hours:minutes:seconds; "" is
            None.
        end: As `start`.
        place: str. Where they stand, for messages.

    Raises:
        DataError: If they are no times, or not in order.

    Example:

    >>> seconds_between("1.5", "00:01:02", "line 1")
    (1.5, 62.0)
    """
    first, last = _seconds(start, place), _seconds(end, place)
    # One may be missing: the part begins, or ends, with the video.
    if not 0 <= (first or 0.0) < (math.inf if last is None else last):
        raise DataError(
            f"{place}: the start of a part must be before its end, and not "
            f"negative. Received: start {first or 0:g}, end "
            f"{'of the video' if last is None else f'{last:g}'}."
        )
    return first, last


def _seconds(value: object, place: str) -> float | None:
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    try:
        hours = [float(part) for part in text.split(":")]
    except ValueError:
        hours = []
    if not 1 <= len(hours) <= 3 or not all(map(math.isfinite, hours)):
        raise DataError(
            f"{place}: a time must be in seconds, as 12.5, or as 00:00:12.5. "
            f"Received: {text[:40]!r}."
        )
    return sum(x * 60**i for i, x in enumerate(reversed(hours)))


# Spreadsheets run a cell with one of these prefixes as a formula. Such cells,
# with or without leading quotes, get one more quote, which `unguarded` removes.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(cell: str) -> str:
    """Returns a table cell that no spreadsheet runs as a formula.

    Example:

    >>> guarded("=cmd|' /C calc'!A0"), guarded("walk")
    ("'=cmd|' /C calc'!A0", 'walk')
    """
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA) else cell


def unguarded(cell: str) -> str:
    """Returns the cell that was given to `guarded`."""
    is_guarded = cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA)
    return cell[1:] if is_guarded else cell
