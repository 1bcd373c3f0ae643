"""A file that may hold annotations, opened once, and checks of its fields."""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from xml.etree import ElementTree

from har_keras.errors import DataError
from har_keras.manifest.formats.tables import (
    Table,
    header_of,
    json_records,
    table_of,
)
from har_keras.manifest.split_names import split_name, split_of
from har_keras.manifest.texts import MAX_BYTES, Text, read_text, shown

Kind = TypeVar("Kind")

_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a number"}
_HEAD_CHARACTERS = 65536


@dataclass(frozen=True)
class Document:
    """A text, table, JSON or XML file below the folder of videos.

    Args:
        root: Path. The folder, resolved.
        file: str. The path from there, with `/`.
    """

    root: Path
    file: str

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.root / self.file

    @property
    def name(self) -> str:
        """The name of the file, in lower case."""
        return self.path.name.lower()

    @property
    def suffix(self) -> str:
        """The ending of the name, in lower case."""
        return self.path.suffix.lower()

    @property
    def depth(self) -> int:
        """How many folders below the root it lies in."""
        return len(PurePosixPath(self.file).parts) - 1

    @property
    def split_in_name(self) -> str:
        """The word of its name that names a split, or ""."""
        words = re.findall(r"[a-z]+", PurePosixPath(self.name).stem)
        found = {split_of(word): word for word in reversed(words)}
        named = [word for split, word in found.items() if split]
        return named[0] if len(named) == 1 else ""

    @property
    def split_name(self) -> str:
        """The name of a split that its name has in it, else its folder's."""
        words = re.findall(r"[a-z]+", PurePosixPath(self.name).stem)
        if any(map(split_of, words)) or not self.depth:
            return self.split_in_name
        return split_name(self.path.parent.name)

    @functools.cached_property
    def text(self) -> Text:
        """Its content."""
        return read_text(self.path)

    @functools.cached_property
    def head(self) -> str:
        """The start of its content; "" if it can't be read."""
        try:
            if self.path.stat().st_size > MAX_BYTES:
                return ""
            return self.text.content[:_HEAD_CHARACTERS]
        except (DataError, OSError):
            return ""

    @functools.cached_property
    def json(self) -> Any:
        """The value that a JSON file holds; None if it holds none."""
        if self.suffix not in (".json", ".jsonl") or not self.head:
            return None
        if self.suffix == ".jsonl":
            return json_records(self.text.content)
        try:
            return json.loads(self.text.content)
        except (ValueError, RecursionError):
            return None

    @functools.cached_property
    def xml(self) -> ElementTree.Element | None:
        """The root of an XML file; None if it is none, or defines entities."""
        if self.suffix not in (".xml", ".eaf") or not self.head:
            return None
        if "<!DOCTYPE" in self.text.content or "<!ENTITY" in self.text.content:
            return None
        # Bytes would be decoded by what the file says of itself.
        content = re.sub(r"^\s*<\?xml.*?\?>", "", self.text.content)
        try:
            return ElementTree.fromstring(content)
        except ElementTree.ParseError:
            return None

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """The names of its columns, in lower case, if it is a table."""
        if self.suffix in (".csv", ".tsv"):
            return frozenset(header_of(self.head))
        records = self.json
        if not isinstance(records, list) or not records:
            return frozenset()
        if not all(isinstance(record, dict) for record in records):
            return frozenset()
        return frozenset(str(name).lower() for x in records for name in x)

    @functools.cached_property
    def table(self) -> Table:
        """Its content as a table."""
        return table_of(self.text, self.path)


def field(record: Any, name: str, kind: type[Kind], place: str) -> Kind:
    """Returns a field of a JSON object.

    Args:
        record: Any. What should be an object.
        name: str. The field.
        kind: type. What it must hold: dict, list, str or int.
        place: str. File and record, for the message.

    Raises:
        DataError: If there is no such field, or it holds something else.

    Example:

    >>> field({"label": "walk"}, "label", str, "a.json")
    'walk'
    """
    value = record.get(name) if isinstance(record, dict) else None
    if isinstance(value, kind):
        return value
    raise DataError(
        f"{place}: expected {_KINDS.get(kind, kind.__name__)} named "
        f"'{shown(name, 40)}'. Received: {short(record)}."
    )


def objects(values: Any, place: str) -> list[dict[str, Any]]:
    """Returns a list of JSON objects, or raises `DataError`."""
    if isinstance(values, list) and all(isinstance(x, dict) for x in values):
        return values
    raise DataError(
        f"{place}: expected a list of objects. Received: {short(values)}."
    )


def short(value: Any) -> str:
    """Returns the start of a value as JSON, for a message."""
    return shown(json.dumps(value, default=str, ensure_ascii=False), 100)
