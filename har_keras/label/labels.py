"""The labels of a folder: read, changed together with others, written whole.

Every change is made to what the manifest says at that moment, under a lock
that other servers on the folder take, too. So what someone else wrote, by a
page or by hand, is kept; where two change the same row, the later is refused
by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from har_keras.errors import DataError, EnvironmentFault, HarError
from har_keras.files import remove_left, warn_of_no_locks, whole_file
from har_keras.label.rows import (
    Key,
    LabelRow,
    manifest_of,
    manifest_path,
    require_consistent,
    row_of,
    rows_from,
    with_split,
)
from har_keras.manifest.folders import find_videos
from har_keras.manifest.formats.cells import one_label
from har_keras.manifest.formats.document import Document
from har_keras.manifest.formats.tables import table_columns
from har_keras.manifest.layouts import NoClassFolders
from har_keras.manifest.split_names import split_of
from har_keras.manifest.video_files import VideoFiles

_LOCK_SECONDS = 10.0
_LONGEST_NAME = 100
_LONGEST_NOTE = 2000


class Conflict(DataError):
    """A row that someone else changed since the page showed it."""


@dataclass(frozen=True)
class Change:
    """A change of one row.

    Args:
        key: tuple. The file, and the times of a part.
        version: str. Of the row as it was seen; "" where there was none.
        values: Mapping or None. New values by field of `LabelRow`; None
            removes the row.
    """

    key: Key
    version: str
    values: Mapping[str, Any] | None


@dataclass(frozen=True)
class _Content:
    """What the manifest says."""

    rows: dict[Key, LabelRow]
    columns: tuple[str, ...] = ()
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stamp: tuple[int, ...] = ()


class Labels:
    """The labels of a folder of videos.

    Args:
        root: Path. The folder, resolved.
        unsorted: bool. Whether folders and annotations say nothing, where
            there is no manifest yet. Defaults to `False`.

    Attributes:
        fault: str. Why the manifest can't be read as it is now, or "".
        origin: str. Where the labels come from, if from no manifest.
        revision: int. Counts what is changed, by whomever.

    Raises:
        DataError: If what describes the videos can't be read.
    """

    def __init__(self, root: Path, *, unsorted: bool = False) -> None:
        self.root = root
        self.path = manifest_path(root)
        self.fault, self.origin, self.revision = "", "", 0
        self._lock = threading.RLock()
        self._writers = filelock.FileLock(
            root / f".{self.path.name}.lock", _LOCK_SECONDS, thread_local=False
        )
        self._seen: dict[Key, int] = {}  # the revision of the last change
        self._content = _Content({})
        remove_left(root)
        if self.path.is_file():
            self._take(self._read())
        elif not unsorted:
            self._take(self._described())

    @property
    def rows(self) -> tuple[LabelRow, ...]:
        """All rows, in the order of the manifest."""
        with self._lock:
            return tuple(self._content.rows.values())

    def changed_since(self, revision: int) -> tuple[list[LabelRow], list[Key]]:
        """Returns the rows that were changed, and the keys of those removed."""
        with self._lock:
            keys = [k for k, seen in self._seen.items() if seen > revision]
            rows = self._content.rows
            return [rows[k] for k in keys if k in rows], [
                k for k in keys if k not in rows
            ]

    def refresh(self) -> None:
        """Reads the manifest again if someone else wrote it."""
        with self._lock:
            try:
                if self._is_newer():
                    self._take(self._read())
                self.fault = ""
            except HarError as error:
                self.fault = str(error)

    def apply(self, changes: Sequence[Change], by: str) -> None:
        """Changes rows, all or none, and writes the manifest.

        When it returns, the manifest is whole and on the disk.

        Args:
            changes: Sequence of Change.
            by: str. Who makes them.

        Raises:
            Conflict: If a row is not as it was seen; says how it is now.
            DataError: If the labels of a video would contradict each other, or
                the manifest can't be read.
            EnvironmentFault: If it can't be written.
        """
        with self._lock, self._locked():
            if self._is_newer():
                self._take(self._read())
            self.fault = ""
            rows = dict(self._content.rows)
            for change in changes:
                _require_version(change, rows.get(change.key))
            for change in changes:
                self._change(change, rows, by)
            for file in {change.key[0] for change in changes}:
                require_consistent([x for x in rows.values() if x.file == file])
            self._write(rows)

    def _change(
        self, change: Change, rows: dict[Key, LabelRow], by: str
    ) -> None:
        """Makes a change in `rows`."""
        if change.values is None:
            rows.pop(change.key, None)
            return
        base = rows.get(change.key) or LabelRow(*_named(change.key))
        values = {k: _value(k, v) for k, v in change.values.items()}
        new = dataclasses.replace(base, **values)
        if new.class_name != base.class_name:
            if "labelled_by" not in values:
                new = dataclasses.replace(
                    new, labelled_by=by if new.class_name else ""
                )
            require_one_spelling(
                new.class_name, {x.class_name for x in rows.values()}
            )
        new = with_split(new, rows.values())
        if new.key != change.key and new.key in rows:
            raise DataError(f"'{new.name}' has a row already.")
        _put(rows, change.key, new)

    def _write(self, rows: dict[Key, LabelRow]) -> None:
        kept = {k: row for k, row in rows.items() if row.is_needed}
        content = self._content
        text = manifest_of([*kept.values()], content.columns, content.roles)
        try:
            with whole_file(self.path) as temporary:
                temporary.write_text(
                    text, "utf-8", "surrogateescape", newline=""
                )
        except OSError as error:
            raise _not_written(self.path, error) from error
        columns = content.columns
        self._take(
            dataclasses.replace(
                content, rows=kept, stamp=_stamp(self.path), columns=columns
            )
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._writers.acquire()
        except filelock.Timeout:
            raise EnvironmentFault(
                f"Another program holds the lock of '{self.path}'. Try again; "
                "if no other page is open on this folder, remove "
                f"'{self._writers.lock_file}'."
            ) from None
        except PermissionError as error:
            raise _not_written(self.path, error) from error
        except (OSError, NotImplementedError) as error:
            warn_of_no_locks(self.root, error)
            yield
            return
        try:
            yield
        finally:
            self._writers.release()

    def _is_newer(self) -> bool:
        """Returns whether the manifest is not as it was read or written.

        Raises:
            DataError: If it is gone.
        """
        stamp = _stamp(self.path)
        if not stamp and self._content.stamp:
            raise DataError(
                f"'{self.path}' is gone. Put it back, or start the page again "
                "to begin anew."
            )
        return bool(stamp) and stamp != self._content.stamp

    def _read(self) -> _Content:
        stamp = _stamp(self.path)
        table = Document(self.root, self.path.name).table
        rows = rows_from(table, VideoFiles(self.root))
        by_key = {row.key: row for row in rows}
        return _Content(by_key, table.columns, table_columns(table), stamp)

    def _described(self) -> _Content:
        """Returns what annotations or folders say of the videos."""
        try:
            listing = find_videos(self.root)
        except NoClassFolders:
            return _Content({})
        kinds = [x for x in listing.notes if x.startswith(_ANNOTATED)]
        kind = kinds[0].removeprefix(_ANNOTATED).rstrip(".") if kinds else ""
        listed = any(x.startswith("Listed in") for x in listing.notes)
        self.origin = kind or ("a list" if listed else "folders")
        rows = [row_of(video, self.origin) for video in listing.videos]
        return _Content({row.key: row for row in rows})

    def _take(self, content: _Content) -> None:
        """Makes this the content, and notes what is new in it."""
        old, new = self._content.rows, content.rows
        self.revision += 1
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                self._seen[key] = self.revision
        self._content = content


_ANNOTATED = "The annotations are of "


def _stamp(path: Path) -> tuple[int, ...]:
    """Returns what tells one state of a file from another; () if none."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _named(key: Key) -> tuple[str, str, float | None, float | None]:
    return key[0], "", key[1], key[2]


def _put(rows: dict[Key, LabelRow], key: Key, new: LabelRow) -> None:
    """Puts a row in its own place, else after the others of its file."""
    if key in rows and new.key == key:
        rows[key] = new
        return
    items = [(k, v) for k, v in rows.items() if k != key]
    mine = [i for i, (k, _) in enumerate(items) if k[0] == key[0]]
    if key in rows:
        place = [*rows].index(key)
    else:
        place = mine[-1] + 1 if mine else len(items)
    items.insert(place, (new.key, new))
    rows.clear()
    rows.update(items)


def _require_version(change: Change, row: LabelRow | None) -> None:
    found = row.version if row else ""
    # A row that says nothing more than its file may be in no manifest.
    if found == change.version:
        return
    if row is None:
        raise Conflict(
            f"'{LabelRow(*_named(change.key)).name}' was changed by someone "
            "else: that row is gone now. Look at it again."
        )
    said = f"'{row.class_name}'" if row.class_name else "no class"
    said = "left out" if row.left_out else said
    raise Conflict(
        f"'{row.name}' was changed by someone else: it is {said} now. Look at "
        "it again; your change was not made."
    )


def _value(field: str, value: Any) -> Any:
    """Returns a value that the page sent, checked."""
    if field == "class_name":
        return class_name_of(value) if value else ""
    if field in ("group", "labelled_by"):
        return line_of(value)
    if field == "note":
        return line_of(value, _LONGEST_NOTE)
    if field == "split":
        return _split_of(line_of(value))
    if field in ("start", "end", "left_out"):
        return value
    raise DataError(f"A row has no field '{field}'.")


def _split_of(name: str) -> str:
    if name and not split_of(name):
        raise DataError(
            f"A split must be train, val or test. Received: {name!r}."
        )
    return name


def line_of(value: Any, most: int = _LONGEST_NAME) -> str:
    """Returns a text of the page on one line, as it is kept.

    Raises:
        DataError: If it is too long, or can't be written.
    """
    if (
        not isinstance(value, str)
        or len(value) > most
        or any("\ud800" <= x <= "\udfff" for x in value)
    ):
        raise DataError(f"This must be a text of up to {most} characters.")
    return " ".join(unicodedata.normalize("NFC", value).split())


def class_name_of(value: Any) -> str:
    """Returns the name of a class as it is kept.

    Raises:
        DataError: If it can't be one.

    Example:

    >>> class_name_of("  push ups ")
    'push ups'
    """
    name = line_of(value)
    if not name or not all(x.isprintable() or x in _JOINERS for x in name):
        raise DataError(
            "A class needs a name of letters, digits or signs that can be "
            f"seen. Received: {value!r}."
        )
    if one_label(name, "The class") != name:
        raise DataError(f"The name of a class is no list. Received: {name!r}.")
    return name


_JOINERS = "\u200c\u200d\u200e\u200f"


def require_one_spelling(name: str, known: Iterable[str]) -> None:
    """Raises if a class differs from another by upper and lower case alone."""
    for other in known:
        if other != name and other.casefold() == name.casefold():
            raise DataError(
                f"There is a class '{other}' already, which differs from "
                f"'{name}' by upper and lower case alone."
            )


def _not_written(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"'{path}' can't be written: {error.strerror}. Nothing was changed. "
        "Free some space, or allow writing into the folder."
    )
