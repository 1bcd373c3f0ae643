"""Cells of tables: labels, times, and what no spreadsheet may run."""

import contextlib
import json
import math
import os
from typing import TypeGuard

from har_keras.errors import DataError
from har_keras.manifest.texts import shown


def require_path(text: str, place: str) -> None:
    r"""Raises `DataError` if a text can't be the path of a file.

    Args:
        text: str. As the list has it.
        place: str. File and line, for the message.

    Example:

    >>> require_path("\0", "line 2")
    Traceback (most recent call last):
    ...
    har_keras.errors.DataError: line 2: no file can have this name. Received:
    '\x00'.
    """
    with contextlib.suppress(UnicodeEncodeError):
        if b"\0" not in os.fsencode(text):
            return
    raise DataError(
        f"{place}: no file can have this name. Received: {text[:80]!r}."
    )


def label_of(value: object, place: str) -> str:
    """Returns the label that a value of JSON is; that of a list is its only.

    Args:
        value: object. A text or a number; None is no label.
        place: str. File and record, for the message.

    Raises:
        DataError: If it is anything else.

    Example:

    >>> label_of("walk", "a.json"), label_of([3], "a.json")
    ('walk', '3')
    """
    if isinstance(value, str):
        return value.strip()
    if is_number(value):
        return f"{value}"
    if isinstance(value, list) and len(value) == 1:
        return label_of(value[0], place)
    if value is None:
        return ""
    raise DataError(
        f"{place}: a label is one text, for a video, or a part of it, has one "
        f"class. Received: {shown(f'{value}')}."
    )


def is_number(value: object) -> TypeGuard[float]:
    """Returns whether a value of JSON is a finite number.

    Example:

    >>> is_number(3), is_number(True), is_number(float("nan"))
    (True, False, False)
    """
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return is_real and math.isfinite(float(f"{value}"))
    except ValueError:  # of more digits than Python converts
        return False


def whole_number(text: str) -> int | None:
    """Returns a whole number that is not negative; None if it is none.

    Example:

    >>> whole_number("007"), whole_number("-1"), whole_number("9" * 5000)
    (7, None, None)
    """
    is_one = text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS
    return int(text) if is_one else None


_MOST_DIGITS = 19


def one_label(text: str, place: str) -> str:
    """Returns the label in a cell; a list of one is that one.

    Args:
        text: str. The cell.
        place: str. File and line, for the message.

    Raises:
        DataError: If the list is of several, or it is an object.

    Example:

    >>> one_label("walk", "line 1"), one_label('["walk"]', "line 1")
    ('walk', 'walk')
    """
    if not text.startswith(("[", "{")):
        return text
    try:
        labels = json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError):
        return text
    if not isinstance(labels, list) or len(labels) != 1:
        raise DataError(
            f"{place}: a video has one class. Received: {shown(text)}."
        )
    return label_of(labels, place)


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
            f"Received: {shown(text, 40)!r}."
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
