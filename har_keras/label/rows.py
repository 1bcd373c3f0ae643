"""The rows of a `manifest.csv` in progress: with and without a class."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from har_keras.errors import DataError
from har_keras.manifest.collecting import (
    ClassNames,
    Times,
    file_of,
    require_new_part,
)
from har_keras.manifest.entries import FoundVideo
from har_keras.manifest.formats.cells import (
    one_label,
    require_path,
    seconds_between,
)
from har_keras.manifest.formats.tables import (
    LABEL_COLUMNS,
    Row,
    Table,
    is_left_out,
    table_columns,
)
from har_keras.manifest.formats.writing import table_text
from har_keras.manifest.parts import require_parts, sample_name
from har_keras.manifest.rows import seconds_cell
from har_keras.manifest.video_files import VideoFiles

Key = tuple[str, float | None, float | None]
"""What a label is of: the file, and the times of a part."""

_ROLES = ("file", "class", "split", "group", "start", "end")
SECONDS_DIGITS = 3


@dataclass(frozen=True)
class LabelRow:
    """A video or a part of one, and what is known of it.

    Args:
        file: str. Path under the folder, with `/`.
        class_name: str. Its label, or "".
        start: float or None. Where a part begins, in seconds.
        end: float or None. Where a part ends, in seconds.
        split: str. As the manifest has it, or "".
        group: str. Or "".
        labelled_by: str. Who named the class, or "".
        note: str. Or "".
        left_out: bool. Whether it is not to be used.
        others: tuple of pairs. Further columns of the manifest.
    """

    file: str
    class_name: str = ""
    start: float | None = None
    end: float | None = None
    split: str = ""
    group: str = ""
    labelled_by: str = ""
    note: str = ""
    left_out: bool = False
    others: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> Key:
        """What the row is of."""
        return self.file, self.start, self.end

    @property
    def version(self) -> str:
        """A hash of the row; another as soon as anything in it is changed."""
        text = "\0".join(map(repr, dataclasses.astuple(self)))
        return hashlib.sha256(
            text.encode("utf-8", "surrogateescape")
        ).hexdigest()[:12]

    @property
    def name(self) -> str:
        """For people: the file, and of a part its time."""
        return sample_name(self)

    @property
    def is_needed(self) -> bool:
        """Whether it says anything that the file alone does not."""
        words = (self.class_name, self.split, self.group, self.note)
        timed = self.start is not None or self.end is not None
        own = any(cell for _, cell in self.others)
        return any(words) or timed or self.left_out or own

    def found(self) -> FoundVideo:
        """Returns it as the manifest's reader has it."""
        return FoundVideo(
            self.file, self.class_name, self.split, self.group,
            others=self.others, start=self.start, end=self.end,
        )  # fmt: skip


def row_of(video: FoundVideo, labelled_by: str) -> LabelRow:
    """Returns the row of a video that folders or annotations describe."""
    others = dict(video.others)
    return LabelRow(
        video.file, video.class_name, video.start, video.end, video.split,
        video.group if video.is_group_chosen else "", labelled_by,
        others.pop("note", ""), others=tuple(others.items()),
    )  # fmt: skip


def rows_from(table: Table, files: VideoFiles) -> list[LabelRow]:
    """Returns the rows of a `manifest.csv`, also those that wait for a class.

    Args:
        table: Table. The manifest.
        files: VideoFiles. The files of the folder.

    Raises:
        DataError: If a line is wrong, which is named.
    """
    columns = table_columns(table)
    rows = [_row(row, columns, files) for row in table.rows]
    names = ClassNames([files.root], (row.class_name for row in rows))
    named = [
        dataclasses.replace(x, class_name=names.name(x.class_name, line.place))
        if x.class_name
        else x
        for x, line in zip(rows, table.rows, strict=True)
    ]
    by_file: dict[str, dict[Times, FoundVideo]] = {}
    for line, row in zip(table.rows, named, strict=True):
        mine = by_file.setdefault(row.file, {})
        require_new_part(line.place, row.found(), mine)
        mine[row.start, row.end] = row.found()
    require_parts([row.found() for row in named])
    return named


def _row(line: Row, columns: Mapping[str, str], files: VideoFiles) -> LabelRow:
    cells = {
        role: line.cells.get(name, "") if name else ""
        for role, name in columns.items()
    }
    if not cells["file"].strip():
        raise DataError(f"{line.place}: file is empty.")
    require_path(cells["file"], line.place)
    file = file_of(files, cells["file"], line.place, "", "", strict=True)
    start, end = seconds_between(cells["start"], cells["end"], line.place)
    used = {*columns.values(), *LABEL_COLUMNS}
    return LabelRow(
        file, one_label(cells["class"].strip(), line.place), start, end,
        cells["split"].strip(), cells["group"],
        line.cells.get("labelled_by", ""), line.cells.get("note", ""),
        is_left_out(line),
        tuple((k, v) for k, v in line.cells.items() if k not in used),
    )  # fmt: skip


def require_consistent(rows: Sequence[LabelRow]) -> None:
    """Raises `DataError` unless the rows of one file go together."""
    found = [row.found() for row in rows]
    others: dict[Times, FoundVideo] = {}
    for video in found:
        require_new_part(f"'{video.file}'", video, others)
        others[video.start, video.end] = video
    require_parts(found)


def with_split(row: LabelRow, rows: Iterable[LabelRow]) -> LabelRow:
    """Gives a label the split of its video, of its group, else train.

    Only where the manifest has splits: there every label needs one.

    Args:
        row: LabelRow. The new label.
        rows: Iterable of LabelRow. All that the manifest has.
    """
    if row.split or not row.class_name or row.left_out:
        return row
    known = [x for x in rows if x.split and x.class_name and not x.left_out]
    if not known:
        return row
    mine = [x.split for x in known if x.file == row.file]
    mine += [x.split for x in known if row.group and x.group == row.group]
    return dataclasses.replace(row, split=(mine or ["train"])[0])


def columns_for(known: Sequence[str], rows: Iterable[LabelRow]) -> list[str]:
    """Returns the columns of a manifest: those it had, then what is missing."""
    columns = [x for x in known if x] or [*_ROLES[:4]]
    listed = list(rows)
    needed = [*_ROLES, "labelled_by", "note"]
    if any(row.left_out for row in listed):
        needed.append("left_out")
    others = dict.fromkeys(name for row in listed for name, _ in row.others)
    return list(dict.fromkeys([*columns, *needed, *others]))


def manifest_of(
    rows: Sequence[LabelRow], known: Sequence[str], roles: Mapping[str, str]
) -> str:
    """Returns the text of a `manifest.csv`.

    Args:
        rows: Sequence of LabelRow. In order.
        known: Sequence of str. The columns that it had, in order.
        roles: Mapping. Their names by role, "" where there was none.
    """
    own = {roles.get(role) or role: role for role in _ROLES}
    columns = columns_for(known, rows)
    columns = [x for x in columns if x not in _ROLES or x in own]
    return table_text(columns, _cells(rows, own))


def _cells(
    rows: Iterable[LabelRow], own: Mapping[str, str]
) -> Iterator[Mapping[str, str]]:
    for row in rows:
        cells = {
            "file": row.file,
            "class": row.class_name,
            "split": row.split,
            "group": row.group,
            "start": seconds_cell(row.start),
            "end": seconds_cell(row.end),
        }
        yield {
            **dict(row.others),
            **{column: cells[role] for column, role in own.items()},
            "labelled_by": row.labelled_by,
            "note": row.note,
            "left_out": "yes" if row.left_out else "",
        }


def seconds_of(value: object) -> float | None:
    """Returns a time that the page sent, to a millisecond.

    Raises:
        DataError: If it is no time.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Also an integer that is too large for a float.
        if 0 <= value <= sys.float_info.max:
            return round(float(value), SECONDS_DIGITS)
    shown = repr(value)[:40]
    raise DataError(f"A time is in seconds, 0 or more. Received: {shown}.")


def manifest_path(root: Path) -> Path:
    """Returns the path of a folder's manifest."""
    return root / "manifest.csv"
