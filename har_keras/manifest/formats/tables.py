"""Tables of videos: `manifest.csv`, and those that other programs write.

A column is found by its name. What is not understood is said, not dropped.
"""

import csv
import functools
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from har_keras.errors import DataError
from har_keras.manifest.formats.cells import (
    one_label,
    require_path,
    seconds_between,
    unguarded,
)
from har_keras.manifest.texts import Text
from har_keras.progress import plural

ROLES: dict[str, tuple[str, ...]] = {
    "file": (
        "file", "file_name", "filename", "filepath", "file_path", "path",
        "video", "video_name", "videoname", "video_file", "video_path",
        "videopath", "clip", "clip_name", "clip_path", "name",
    ),
    "class": (
        "class", "label", "tag", "class_name", "label_name", "category",
        "action", "activity",
    ),
    "split": ("split", "subset", "set", "partition"),
    "group": ("group", "group_id"),
    "start": ("start",),
    "end": ("end",),
}  # fmt: skip
"""Names of columns by what they hold; the first is our own."""

# Written by `prepare` and by training, beside what a user's table has.
_OWN = frozenset(
    {"sha256", "kept_frames", "first_kept_frame", "reason", "root"}
)
LABEL_COLUMNS = ("labelled_by", "note", "left_out")
"""Columns that `har-keras label` adds: who named the class, what
else there is to say, and whether a video is not to be used."""

_LEFT_OUT = frozenset({"yes", "true", "1", "x"})

# Names of times that are in no unit that is known, or of the source from which
# a clip was cut: a pair of them may be a label's part, and must be said to be.
_BEGINS = re.compile(
    r"(?:t_|time_?|frame_?)?(?:start|begin|first|onset)(?:_?(?:time|s|secs?|"
    r"seconds|ms|frame|frames|timestamp|at))?"
)
_ENDS = re.compile(
    r"(?:t_|time_?|frame_?)?(?:end|stop|last|offset)(?:_?(?:time|s|secs?|"
    r"seconds|ms|frame|frames|timestamp|at))?"
)
_PEOPLE = re.compile(
    r"(?:subject|person|people|actor|participant|patient|player|camera|session"
    r"|recording|scene|place|site)(?:[-_ ]?(?:id|name|no|nr))?"
)
_INDEX = re.compile(r"|unnamed: ?\d+")


@dataclass(frozen=True)
class Row:
    """A row of a table; `place` names file and line for messages."""

    place: str
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table with named columns.

    Args:
        path: Path. The file.
        columns: Sequence of str. Names in lower case, in order.
        rows: Sequence of Row.
        notes: Sequence of str. How it was read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def role(self, name: str) -> str:
        """Returns the column that holds something, such as "class", or "".

        Raises:
            DataError: If two columns may hold it and neither has our name.
        """
        found = [x for x in ROLES[name] if x in self.columns]
        if len(found) > 1 and found[0] != name:
            raise DataError(
                f"'{self.path}' has two columns that may be the {name}: "
                f"'{found[0]}' and '{found[1]}'. Rename the right one to "
                f"{name}."
            )
        return found[0] if found else ""


def table_of(text: Text, path: Path) -> Table:
    """Returns the table in a text: CSV with any separator, or JSON records.

    Args:
        text: Text. The content of the file.
        path: Path. A `.csv`, `.tsv`, `.txt`, `.json` or `.jsonl` file.

    Returns:
        A `Table`.

    Raises:
        DataError: If a line has more cells than the header, or it is no table.
    """
    notes = (text.note,) if text.note else ()
    if path.suffix.lower() in (".json", ".jsonl"):
        columns, rows = _from_records(text.content, path)
        return Table(path, columns, rows, notes)
    opened = _Opened(text.content)
    try:
        _require_names(opened.names, path)
        rows = tuple(_rows(opened, path))
    except csv.Error as error:
        raise DataError(
            f"'{path}', line {opened.line}: it is not a line of a table: "
            f"{error}."
        ) from error
    if opened.delimiter == ";":
        rows = tuple(Row(x.place, _with_points(x.cells)) for x in rows)
    return Table(path, opened.names, rows, notes)


def header_of(content: str) -> tuple[str, ...]:
    r"""Returns the columns that the first line of a CSV file names.

    Args:
        content: str. The text, or its start.

    Example:

    >>> header_of("File;Class\n1.mp4;walk;and a cell too many")
    ('file', 'class')
    """
    try:
        return _Opened(content).names
    except csv.Error:
        return ()


class _Opened:
    """The text of a CSV file, of which nothing is read before it is asked."""

    def __init__(self, content: str) -> None:
        start = len(content) - len(content.lstrip("\r\n"))
        self._before = content[:start].count("\n")
        content = content[start:]
        if re.match(r"sep=.\r?\n", content):  # as Excel begins it
            content = content.partition("\n")[2]
            self._before += 1
        header = content.split("\n", 1)[0]
        self.delimiter = max(",;\t|", key=header.count)
        lines = io.StringIO(content, newline="")
        self.reader = csv.reader(lines, delimiter=self.delimiter)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that the first line names, in lower case."""
        return tuple(x.strip().lower() for x in next(self.reader, []))

    @property
    def line(self) -> int:
        """The number of the line that was read last, in the file."""
        return self.reader.line_num + self._before


def _require_names(names: Sequence[str], path: Path) -> None:
    """Raises if two columns have one name."""
    for name, number in Counter(names).items():
        if number > 1 and name:
            raise DataError(
                f"'{path}' has {number} columns '{name}'. Rename all but one."
            )


def _rows(opened: _Opened, path: Path) -> Iterator[Row]:
    names = opened.names
    for cells in opened.reader:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"'{path}', line {opened.line}"
        extra = [cell for cell in cells[len(names) :] if cell.strip()]
        if extra:
            raise DataError(
                f"{place}: it has {len(cells)} cells, but the first line names "
                f"{len(names)} columns. Put a name with a separator in it into "
                '"quotes".'
            )
        padded = [*map(unguarded, cells), *[""] * (len(names) - len(cells))]
        yield Row(place, dict(zip(names, padded, strict=False)))


def _with_points(cells: dict[str, str]) -> dict[str, str]:
    """Writes 1,5 as 1.5 in times: separators are semicolons where it is so."""
    times = ("start", "end")
    return {
        name: cell.replace(",", ".") if name in times else cell
        for name, cell in cells.items()
    }


def _from_records(
    content: str, path: Path
) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Reads a JSON list of flat objects, or one object a line."""
    records = json_records(content)
    if records is None:
        raise DataError(
            f"'{path}' is not a list of records in JSON, one a video."
        )
    columns: dict[str, None] = {}
    rows = []
    for number, record in enumerate(records, 1):
        place = f"'{path}', record {number}"
        cells = {
            str(name).strip().lower(): _cell(value)
            for name, value in record.items()
        }
        columns |= dict.fromkeys(cells)
        rows.append(Row(place, cells))
    return tuple(columns), tuple(rows)


def json_records(content: str) -> list[dict[str, Any]] | None:
    """Returns a list of JSON objects, or those of JSON lines; else None."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        try:
            found = [json.loads(x) for x in content.splitlines() if x.strip()]
        except (ValueError, RecursionError):
            return None
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list) or not found:
        return None
    return found if all(isinstance(x, dict) for x in found) else None


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN, as pandas writes what is missing
        return ""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class ListedVideo:
    """One row of a table of videos, with its cells checked but the file."""

    place: str
    path: str
    class_name: str
    split: str
    group: str
    start: float | None
    end: float | None
    others: tuple[tuple[str, str], ...]


def listed_videos(table: Table) -> list[ListedVideo]:
    """Returns the videos that a table lists.

    Args:
        table: Table. With columns of files and classes.

    Raises:
        DataError: If a column is missing or not understood, or a cell is
            wrong; names the line.
    """
    columns = table_columns(table)
    return [
        _listed(row, columns) for row in table.rows if not unused(row, columns)
    ]


def table_columns(table: Table) -> dict[str, str]:
    """Returns the column of each role; "" where there is none.

    Args:
        table: Table. With columns of files and classes.

    Raises:
        DataError: If a column is missing or not understood.
    """
    columns = {role: table.role(role) for role in ROLES}
    _require_columns(table, columns)
    return columns


def is_left_out(row: Row) -> bool:
    """Returns whether a row says that its video is not to be used."""
    return row.cells.get("left_out", "").strip().lower() in _LEFT_OUT


def unused(row: Row, columns: Mapping[str, str]) -> str:
    """Returns why a row is no sample: it waits for a label, or is left out.

    Only in a table of labels in progress: elsewhere an empty class is a slip.

    Args:
        row: Row. Of a table.
        columns: Mapping. Those of the table, by role.
    """
    if is_left_out(row):
        return "left out, as the column left_out says"
    waits = not row.cells.get(columns["class"], "").strip()
    if waits and "labelled_by" in row.cells:
        return "without a class yet left out"
    return ""


def _require_columns(table: Table, columns: Mapping[str, str]) -> None:
    absent = [name for name in ("file", "class") if not columns[name]]
    if absent:
        named = ", ".join(filter(None, table.columns))
        raise DataError(
            f"'{table.path}' has no column '{absent[0]}'. Its first line must "
            "name the columns file and class, and may name split, group, start "
            f"and end. Received: {named[:120]!r}."
        )
    if not columns["start"] and not columns["end"]:
        _refuse_other_times(table)


def _refuse_other_times(table: Table) -> None:
    """Raises if a pair of columns may be the times of parts."""
    names = [x.replace(" ", "_").replace("-", "_") for x in table.columns]
    first = [i for i, x in enumerate(names) if _BEGINS.fullmatch(x)]
    last = [i for i, x in enumerate(names) if _ENDS.fullmatch(x)]
    if first and last:
        begin, end = table.columns[first[0]], table.columns[last[0]]
        raise DataError(
            f"'{table.path}' has columns '{begin}' and '{end}'. If they say "
            "which part of the video has the label, give them in seconds as "
            "start and end; else give them names such as source_start."
        )


def _listed(row: Row, columns: Mapping[str, str]) -> ListedVideo:
    cells = {
        role: row.cells.get(name, "") if name else ""
        for role, name in columns.items()
    }
    path, class_name = (
        cells["file"],
        one_label(cells["class"].strip(), row.place),
    )
    if not path.strip() or not class_name:
        raise DataError(f"{row.place}: file or class is empty.")
    require_path(path, row.place)
    start, end = seconds_between(cells["start"], cells["end"], row.place)
    used = {*columns.values(), *_OWN, "left_out"}
    return ListedVideo(
        row.place,
        path,
        class_name,
        cells["split"].strip(),
        cells["group"],
        start,
        end,
        tuple(
            (name, cell)
            for name, cell in row.cells.items()
            if name not in used and not _INDEX.fullmatch(name)
        ),
    )


def column_notes(table: Table) -> list[str]:
    """Returns notes on the columns that are kept and not used."""
    used = {table.role(role) for role in ROLES} - {""} | _OWN
    used |= {*LABEL_COLUMNS}
    others = [name for name in table.columns if name not in used]
    notes = []
    index = [name for name in others if _INDEX.fullmatch(name)]
    if index and _is_index(table, index[0]):
        notes.append(
            f"The column without a name in {table.path.name} is taken for row "
            "numbers."
        )
    others = [name for name in others if name not in index]
    if others:
        listed = ", ".join(others[:8]) + (" ..." if len(others) > 8 else "")
        notes.append(
            f"Columns of {table.path.name} that are kept and not used: "
            f"{listed}."
        )
    notes += _notes_on_unused(table)
    people = [name for name in others if _PEOPLE.fullmatch(name)]
    if people and not table.role("group"):
        notes.append(
            f"To keep the videos of one {people[0]} in one split, rename the "
            f"column '{people[0]}' to group."
        )
    return notes


def _notes_on_unused(table: Table) -> list[str]:
    columns = {role: table.role(role) for role in ROLES}
    why = Counter(unused(row, columns) for row in table.rows)
    return [
        f"{plural(number, 'line')} of {table.path.name} {reason}."
        for reason, number in sorted(why.items())
        if reason
    ]


def _is_index(table: Table, name: str) -> bool:
    """Returns whether a column without a name has numbers of rows, or nothing.

    Raises:
        DataError: If it holds something else.
    """
    cells = {row.cells.get(name, "").strip() for row in table.rows}
    for cell in cells - {""}:
        if not cell.isdecimal():
            raise DataError(
                f"'{table.path}' has a column without a name. Name it in the "
                f"first line. Received: {cell[:40]!r}."
            )
    return cells != {""}
